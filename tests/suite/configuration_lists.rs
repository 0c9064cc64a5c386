//! Settings that are lists: read alike wherever they are written.

use crate::configuration::{GOOD, complains, read};
use crate::trials;
use kafka_sse_bridge::config::Flags;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![lists_have_the_same_syntax_in_file_environment_and_flags]
}

fn lists_have_the_same_syntax_in_file_environment_and_flags() {
    const SPACED: &str = " a:1 ,b:2,, c:3,";
    let brokers = read;
    let none = Flags::default();
    let variable = "KAFKA_SSE_BRIDGE__KAFKA__BROKERS";
    let flag = |brokers: &[&str]| Flags {
        brokers: brokers.iter().map(ToString::to_string).collect(),
        ..Flags::default()
    };
    let in_file = |brokers: &str| format!("[kafka]\nbrokers = {brokers}\n{GOOD}");
    for (layer, read) in [
        (
            "file, array",
            brokers(&in_file(r#"[" a:1 ", "b:2", "", "c:3"]"#), &[], &none),
        ),
        (
            "file, one string in an array",
            brokers(&in_file(&format!("[{SPACED:?}]")), &[], &none),
        ),
        (
            "file, string",
            brokers(&in_file(&format!("{SPACED:?}")), &[], &none),
        ),
        ("environment", brokers(GOOD, &[(variable, SPACED)], &none)),
        ("flag", brokers(GOOD, &[], &flag(&[SPACED]))),
        ("flags", brokers(GOOD, &[], &flag(&["a:1", " b:2,", "c:3"]))),
    ] {
        let read = read.unwrap_or_else(|error| panic!("{layer}: {error}"));
        assert_eq!(read.settings.kafka.brokers, ["a:1", "b:2", "c:3"], "{layer}");
    }
    for (place, read) in [
        ("FILE:2: ", brokers(&in_file("[]"), &[], &none)),
        ("FILE:2: ", brokers(&in_file("[\" , \", \"\"]"), &[], &none)),
        ("FILE:2: ", brokers(&in_file("\"\""), &[], &none)),
        (
            "environment KAFKA_SSE_BRIDGE__KAFKA__BROKERS: ",
            brokers(GOOD, &[(variable, " ,")], &none),
        ),
        ("flag --brokers: ", brokers(GOOD, &[], &flag(&[""]))),
    ] {
        let error = read.expect_err("no broker is left");
        assert_eq!(
            error,
            format!("{place}kafka.brokers: is empty; name at least one broker as \"host:port\"")
        );
    }
    other_lists();
}

/// All of them have the same form.
fn other_lists() {
    let text = "[http]\nlisten = \"127.0.0.1:1, [::1]:2,\"\ntrusted_proxies = [\"10.0.0.0/8, unix\"]\n\
         ignored_parameters = \" a, b \"\n[http.cors]\nallow_origins = \"https://a.example,\"\n\
         allow_headers = \"Authorization, X-Y\"\n[[stream]]\npath = \"/x\"\ntopics = \"t, u\"\n\
         filter = { key = [\"a, b\", \"\"] }\n";
    let loaded = read(text, &[], &Flags::default()).expect("a good configuration");
    let (http, stream) = (&loaded.settings.http, &loaded.settings.streams[0]);
    assert_eq!(http.listen, ["127.0.0.1:1", "[::1]:2"]);
    let proxies: Vec<String> = http.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "unix"]);
    assert_eq!(http.ignored_parameters, ["a", "b"]);
    assert_eq!(http.cors.allow_origins, ["https://a.example"]);
    assert_eq!(http.cors.allow_headers, ["Authorization", "X-Y"]);
    assert_eq!(stream.topics, ["t", "u"]);
    assert_eq!(
        stream.filter["key"],
        ["a, b", ""],
        "values of a filter are any text"
    );
    complains(
        "[[stream]]\npath = \"/x\"\ntopics = [\"\", \" , \"]\n",
        "FILE:3: stream[0].topics: ",
        &["is missing"],
    );
    // An error in an array of several lines names the line.
    complains(
        "[http]\ntrusted_proxies = [\n  \"10.0.0.1\",\n  \"nobody\",\n]\n",
        "FILE:4: http.trusted_proxies: ",
        &["is not an address"],
    );
    complains(
        "[http]\nlisten = 3000\n",
        "FILE:2: http.listen: ",
        &["a list of strings"],
    );
    complains(
        "[http]\nlisten = [3000]\n",
        "FILE:2: http.listen: ",
        &["a string"],
    );
    complains(
        "[http]\nignored_parameters = [\"since\"]\n",
        "FILE:2: http.ignored_parameters: ",
        &["\"since\" means something to streams"],
    );
    for name in [
        "lastEventId",
        "Last-Event-ID",
        "last_event_id",
        "evs_last_event_id",
        "evsLastEventId",
    ] {
        complains(
            &format!("[http]\nignored_parameters = [\"{name}\"]\n"),
            "FILE:2: http.ignored_parameters: ",
            &["means something to streams"],
        );
    }
    complains(
        "[http]\nignored_parameters = [\"value.x\"]\n",
        "FILE:2: http.ignored_parameters: ",
        &["means something to streams"],
    );
}
