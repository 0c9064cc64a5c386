//! The errors of a configuration name file, line, key and remedy, and `print-config` shows the origin of each value.

use crate::harness::daemon::run_to_end;
use crate::trials;
use kafka_sse_bridge::config::{Document, Flags, load};
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    trials![
        errors_for_mistyped_keys_and_values_name_line_key_and_known_ones,
        errors_for_librdkafka_properties_omit_the_value,
        all_configuration_errors_are_reported_at_once,
        errors_for_environment_values_name_the_variable,
        flags_override_environment_file_and_defaults_in_that_order,
        variables_set_keys_of_auth_and_of_its_tables,
        print_config_output_is_valid_configuration_and_masks_secrets,
        secrets_from_the_environment_are_masked,
        check_exits_with_0_or_78,
    ]
}

pub const GOOD: &str = "[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n";

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .expect("a file");
    fs::write(&file, text).expect("written");
    file
}

/// The configuration, or its errors, with the file's name as FILE.
pub fn read(
    text: &str,
    environment: &[(&str, &str)],
    flags: &Flags,
) -> Result<kafka_sse_bridge::config::Loaded, String> {
    let file = file(text);
    let environment = environment.iter();
    let environment = environment.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let document = Document::File(file.path().to_owned());
    load(&document, &environment.collect(), flags).map_err(|error| {
        let name = file.path().display().to_string();
        error.to_string().replace(&name, "FILE")
    })
}

/// The error of `load` for a text.
pub fn complaint(text: &str, environment: &[(&str, &str)]) -> String {
    match read(text, environment, &Flags::default()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error,
    }
}

/// A secret may come from the environment, and is masked like any other.
fn secrets_from_the_environment_are_masked() {
    let file = file(GOOD);
    let path = file.path().to_str().expect("UTF-8");
    let environment = [
        ("KAFKA_SSE_BRIDGE__KAFKA__LIBRDKAFKA__SASL_PASSWORD", "hush"),
        ("KAFKA_SSE_BRIDGE__KAFKA__LIBRDKAFKA__SSL_KEY_PEM", "hush"),
        (
            "KAFKA_SSE_BRIDGE__KAFKA__LIBRDKAFKA__CLIENT_RACK",
            "-----BEGIN PRIVATE KEY----- hush",
        ),
        ("KAFKA_SSE_BRIDGE__LOG__STDERR", "true"),
    ];
    let output = run_to_end(&["print-config", "--config", path], &environment);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!printed.contains("hush"), "{printed}");
    assert!(
        printed.contains("\"sasl.password\" = \"***\"") && printed.contains("stderr = true"),
        "{printed}"
    );
    assert!(
        printed.contains("# environment KAFKA_SSE_BRIDGE__KAFKA__LIBRDKAFKA__SASL_PASSWORD"),
        "{printed}"
    );
    let too_long = complaint(&format!("[http]\nkeepalive = \"500000years\"\n{GOOD}"), &[]);
    assert!(
        too_long.contains("FILE:2: http.keepalive: is longer than 1day"),
        "{too_long}"
    );
}

#[track_caller]
pub fn complains(text: &str, place: &str, pieces: &[&str]) -> String {
    let said = complaint(text, &[]);
    let line = said.lines().find(|line| line.starts_with(place));
    let line = line.unwrap_or_else(|| panic!("nothing at {place:?} in:\n{said}"));
    for piece in pieces {
        assert!(line.contains(piece), "{piece:?} is not in {line:?}");
    }
    said
}

fn errors_for_mistyped_keys_and_values_name_line_key_and_known_ones() {
    complains("[kafka\n", "FILE:1: ", &[]);
    complains(
        "[kafak]\n",
        "FILE:1: kafak: ",
        &["unknown key \"kafak\"", "did you mean \"kafka\"?"],
    );
    complains(
        "[http]\nkeepalife = \"1s\"\n",
        "FILE:2: http.keepalife: ",
        &["did you mean \"keepalive\"?", "known: listen"],
    );
    complains(
        "[http]\nkeepalive = 15\n",
        "FILE:2: http.keepalive: ",
        &["a duration in quotes"],
    );
    complains(
        "[http]\nkeepalive = \"soon\"\n",
        "FILE:2: http.keepalive: ",
        &["\"soon\" is not a duration", "\"15s\""],
    );
    complains(
        "[kafka]\nclient = \"librdkafak\"\n",
        "FILE:2: kafka.client: ",
        &["did you mean \"librdkafka\"?"],
    );
    complains(
        &format!("{GOOD}log_bytes = \"big\"\n"),
        "FILE:4: stream[0].log_bytes: ",
        &["not a size", "\"64MiB\""],
    );
    complains(
        &format!("{GOOD}{GOOD}tpoics = []\n"),
        "FILE:7: stream[1].tpoics: ",
        &["did you mean \"topics\"?"],
    );
    complains(
        "[log]\nlevel = \"loud\"\n",
        "FILE:2: log.level: ",
        &["error, warn, info, debug, trace"],
    );
}

fn errors_for_librdkafka_properties_omit_the_value() {
    for (property, parts) in [
        (
            "\"fetch.mesage.max.bytes\" = \"271828\"",
            ["is not a property of librdkafka", "correct its name"],
        ),
        (
            "\"sasl.pasword\" = \"hush271828\"",
            ["is not a property of librdkafka", "remove it"],
        ),
        (
            "\"fetch.wait.max.ms\" = \"271828271828\"",
            ["has a value", "correct it"],
        ),
        (
            "\"fetch.wait.max.ms\" = \"-271828\"",
            ["has a value outside of 0..300000", "correct it"],
        ),
        (
            "\"socket.keepalive.enable\" = \"271828\"",
            ["neither true nor false", "correct it"],
        ),
        (
            "\"security.protocol\" = \"hush271828\"",
            ["a value that librdkafka does not take", "correct it"],
        ),
    ] {
        let name = property.split(" = ").next().expect("a name");
        let message = complains(
            &format!("[kafka.librdkafka]\n\"log.queue\" = \"false\"\n{property}\n"),
            &format!("FILE:3: kafka.librdkafka.{name}: "),
            &parts,
        );
        assert!(
            !message.contains("271828"),
            "the value may be a secret: {message}"
        );
    }
}

fn all_configuration_errors_are_reported_at_once() {
    let said = complaint("[kafka]\nbrokers = [\"x\"]\n[http]\nretry = \"0s\"\n", &[]);
    assert_eq!(said.lines().count(), 3, "{said}");
}

fn errors_for_environment_values_name_the_variable() {
    let said = |name, value| complaint(GOOD, &[(name, value)]);
    let unknown = said("KAFKA_SSE_BRIDGE__HTTP__LISTN", "x");
    assert!(
        unknown.starts_with("environment KAFKA_SSE_BRIDGE__HTTP__LISTN: "),
        "{unknown}"
    );
    assert!(unknown.contains("did you mean \"listen\"?"), "{unknown}");
    let bad = said("KAFKA_SSE_BRIDGE__HTTP__RETRY", "soon");
    assert!(
        bad.contains("environment KAFKA_SSE_BRIDGE__HTTP__RETRY: ") && bad.contains("not a duration"),
        "{bad}"
    );
    let word = said("KAFKA_SSE_BRIDGE__LOG__LEVEL", "loud");
    assert!(
        word.contains("KAFKA_SSE_BRIDGE__LOG__LEVEL: unknown value \"loud\""),
        "{word}"
    );
    let rule = said("KAFKA_SSE_BRIDGE__HTTP__LISTEN", "nowhere");
    assert!(
        rule.starts_with("environment KAFKA_SSE_BRIDGE__HTTP__LISTEN: http.listen: "),
        "{rule}"
    );
    for port in ["http", "99999", "-1", ""] {
        let said = said("PORT", port);
        assert!(
            said.starts_with("environment PORT: ") && said.contains("not a port"),
            "{said}"
        );
    }
}

fn flags_override_environment_file_and_defaults_in_that_order() {
    let file = file(&format!(
        "[http]\nlisten = [\"127.0.0.1:1\"]\nretry = \"1s\"\n[log]\nlevel = \"warn\"\n{GOOD}"
    ));
    let name = file.path().display().to_string();
    let loaded = |environment: &[(&str, &str)], flags: &Flags| {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        load(&Document::File(file.path().to_owned()), &environment, flags).expect("a good configuration")
    };
    let none = Flags::default();
    let listens = |loaded: &kafka_sse_bridge::config::Loaded| {
        (loaded.settings.http.listen.clone(), loaded.origin("http.listen"))
    };
    let from_file = loaded(&[], &none);
    assert_eq!(
        listens(&from_file),
        (vec!["127.0.0.1:1".to_owned()], format!("{name}:2"))
    );
    assert_eq!(from_file.origin("http.keepalive"), "default");
    assert_eq!(from_file.origin("stream[0].path"), format!("{name}:7"));
    let port = [("PORT", "81")];
    assert_eq!(
        listens(&loaded(&port, &none)),
        (vec!["*:81".to_owned()], "environment PORT".to_owned())
    );
    let both = [
        ("PORT", "81"),
        ("KAFKA_SSE_BRIDGE__HTTP__LISTEN", "127.0.0.1:2,unix:/x"),
    ];
    assert_eq!(
        listens(&loaded(&both, &none)),
        (
            vec!["127.0.0.1:2".to_owned(), "unix:/x".to_owned()],
            "environment KAFKA_SSE_BRIDGE__HTTP__LISTEN".to_owned()
        )
    );
    let flags = Flags {
        listen: vec!["127.0.0.1:3".to_owned()],
        log_level: Some("trace".to_owned()),
        ..Flags::default()
    };
    let flagged = loaded(&both, &flags);
    assert_eq!(
        listens(&flagged),
        (vec!["127.0.0.1:3".to_owned()], "flag --listen".to_owned())
    );
    assert_eq!(flagged.origin("log.level"), "flag --log-level");
    let more = [
        ("KAFKA_SSE_BRIDGE__HTTP__MAX_CLIENTS", "7"),
        ("KAFKA_SSE_BRIDGE__HTTP__TRUSTED_PROXIES", "10.0.0.0/8, unix"),
        (
            "KAFKA_SSE_BRIDGE__HTTP__CORS__ALLOW_ORIGINS",
            "https://a.example,https://b.example",
        ),
        ("KAFKA_SSE_BRIDGE__HTTP__CORS__ALLOW_CREDENTIALS", "true"),
    ];
    let more = loaded(&more, &none);
    let http = &more.settings.http;
    assert_eq!(http.max_clients, 7);
    let proxies: Vec<String> = http.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "unix"]);
    assert_eq!(
        http.cors.allow_origins,
        ["https://a.example", "https://b.example"]
    );
    assert!(http.cors.allow_credentials);
    assert_eq!(
        more.origin("http.cors.allow_origins"),
        "environment KAFKA_SSE_BRIDGE__HTTP__CORS__ALLOW_ORIGINS"
    );
    assert_eq!(
        flagged.origin("http.retry"),
        format!("{name}:3"),
        "what nothing covers stays the file's"
    );
    let numeric = [("KAFKA_SSE_BRIDGE__UI__TITLE", "007")];
    assert_eq!(
        loaded(&numeric, &none).settings.ui.title,
        "007",
        "a text that looks like a number is text"
    );
}

fn variables_set_keys_of_auth_and_of_its_tables() {
    let variables = [
        ("KAFKA_SSE_BRIDGE__AUTH__WARN_BEFORE", "5m"),
        ("KAFKA_SSE_BRIDGE__AUTH__PROXY__HEADERS__SUB", "X-User"),
        ("KAFKA_SSE_BRIDGE__AUTH__PROXY__HEADERS__GROUPS", "X-Groups"),
        ("KAFKA_SSE_BRIDGE__AUTH__PROXY__LISTS", "groups"),
        ("KAFKA_SSE_BRIDGE__HTTP__TRUSTED_PROXIES", "unix"),
    ];
    let loaded = read(GOOD, &variables, &Flags::default()).expect("a good configuration");
    let auth = &loaded.settings.auth;
    assert_eq!(auth.warn_before.to_string(), "5m");
    let proxy = auth.proxy.as_ref().expect("headers of a proxy");
    let header = |claim: &str| proxy.headers.get(claim).map(String::as_str);
    assert_eq!(
        (header("sub"), header("groups")),
        (Some("X-User"), Some("X-Groups"))
    );
    assert_eq!(proxy.lists, ["groups"]);
    assert_eq!(
        loaded.origin("auth.warn_before"),
        "environment KAFKA_SSE_BRIDGE__AUTH__WARN_BEFORE"
    );
    let unknown = complaint(GOOD, &[("KAFKA_SSE_BRIDGE__AUTH__JWT__ISUER", "x")]);
    assert!(
        unknown.starts_with("environment KAFKA_SSE_BRIDGE__AUTH__JWT__ISUER: "),
        "{unknown}"
    );
    assert!(unknown.contains("did you mean \"issuer\"?"), "{unknown}");
}

fn print_config_output_is_valid_configuration_and_masks_secrets() {
    let text = format!(
        "[kafka.librdkafka]\n\"sasl.password\" = \"hush\"\n\"fetch.max.bytes\" = \"1000000\"\n\
         [log.targets]\n\"kafka_sse_bridge::http\" = \"debug\"\n{GOOD}key_field = \"k\"\n"
    );
    let first = file(&text);
    let path = first.path().to_str().expect("UTF-8");
    let output = run_to_end(&["print-config", "--config", path, "--brokers", "a:1,b:2"], &[]);
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!printed.contains("hush"), "{printed}");
    for (piece, origin) in [
        ("brokers = [\"a:1\", \"b:2\"]", "# flag --brokers"),
        ("\"sasl.password\" = \"***\"", &format!("# {path}:2")),
        ("\"kafka_sse_bridge::http\" = \"debug\"", &format!("# {path}:5")),
        ("key_field = \"k\"", &format!("# {path}:9")),
        ("keepalive = \"15s\"", "# default"),
        ("write_timeout = \"30s\"", "# default"),
        ("max_clients = 100000", "# default"),
        ("trusted_proxies = []", "# default"),
    ] {
        let line = printed.lines().find(|line| line.starts_with(piece));
        assert!(
            line.is_some_and(|line| line.ends_with(origin)),
            "{piece} {origin}: {line:?}\n{printed}"
        );
    }
    let second = file(&printed);
    let loaded = |path: &Path| {
        load(
            &Document::File(path.to_owned()),
            &BTreeMap::new(),
            &Flags::default(),
        )
    };
    let (again, first) = (
        loaded(second.path()).expect("valid"),
        loaded(first.path()).expect("valid"),
    );
    assert_eq!(again.settings.streams, first.settings.streams);
    assert_eq!(again.settings.http, first.settings.http);
}

fn check_exits_with_0_or_78() {
    let (good, bad) = (file(GOOD), file("[[stream]]\npath = \"x\"\n"));
    let check = |path: &Path| run_to_end(&["check", "--config", path.to_str().expect("UTF-8")], &[]);
    let ok = check(good.path());
    assert_eq!(ok.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&ok.stdout).contains("ok, 1 stream"));
    assert_eq!(check(bad.path()).status.code(), Some(78));
    let missing = check(Path::new("/nowhere.toml"));
    assert_eq!(missing.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere.toml: cannot be read"));
    let run = run_to_end(&["run", "--config", bad.path().to_str().expect("UTF-8")], &[]);
    assert_eq!(run.status.code(), Some(78), "systemd does not start it again");
    assert_eq!(run_to_end(&["chek"], &[]).status.code(), Some(2));
    assert_eq!(
        run_to_end(&["run", "--log-level", "loud"], &[]).status.code(),
        Some(2)
    );
}
