//! Query parameters of a stream: which are ignored, which are refused, and with which advice. No Kafka is needed.

use crate::harness::daemon::Daemon;
use crate::harness::http::get;
use crate::harness::process::Signal;
use crate::harness::wait::{block_on, secs};
use crate::limits::config_of;
use crate::trials;
use libtest_mimic::Trial;
use serde_json::json;

pub fn trials() -> Vec<Trial> {
    trials![
        parameters_added_by_libraries_and_proxies_are_ignored_and_not_logged,
        a_name_similar_to_a_parameter_is_refused_with_a_suggestion,
        unknown_parameters_are_refused_unless_listed_in_ignored_parameters,
        a_last_event_id_is_read_in_every_spelling_that_libraries_use,
        a_filter_that_is_not_utf_8_is_refused,
        a_time_in_another_unit_is_refused_with_its_milliseconds,
    ]
}

/// The status of a stream's response, and the message of an error.
async fn opens(daemon: &Daemon, query: &str) -> Result<(), serde_json::Value> {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.head(daemon.url(&format!("/events?{query}"))).send().await;
    if answer.expect("an answer").status() == 200 {
        return Ok(());
    }
    // HEAD has no body.
    let answer = get(&daemon.url(&format!("/events?{query}")), &[]).await;
    assert_eq!(answer.status, 400, "{query}");
    Err(answer.json()["error"].clone())
}

fn parameters_added_by_libraries_and_proxies_are_ignored_and_not_logged() {
    let log = "\n[log]\nlevel = \"trace\"";
    let daemon = Daemon::start(&format!(
        "{}{log}",
        config_of("ignored_parameters = \"ticket, sig\"")
    ));
    block_on(async {
        for name in [
            "access_token",
            "token",
            "_",
            "evs_preamble",
            "evs_buffer_size_limit",
            "padding",
            "cb",
            "t",
            "ts",
            "r",
            "nocache",
            "ticket",
            "sig",
        ] {
            let query = format!("{name}=hush-{name}&start=live&{name}");
            assert_eq!(opens(&daemon, &query).await, Ok(()), "{name}");
        }
        // The rest of the query counts as without them.
        let error = opens(&daemon, "_=1&start=yesterday").await.expect_err("no start");
        assert_eq!(error["code"], json!("bad_start"));
    });
    assert!(daemon.log().contains("TRACE"), "{}", daemon.log());
    assert!(!daemon.log().contains("hush"), "{}", daemon.log());
}

fn a_name_similar_to_a_parameter_is_refused_with_a_suggestion() {
    let daemon = Daemon::start(&config_of(""));
    block_on(async {
        for (name, meant) in [
            ("strat", "start"),
            ("Start", "start"),
            ("sicne", "since"),
            ("kye", "key"),
            ("Key", "key"),
            ("topics", "topic"),
            ("parition", "partition"),
            ("lastEvent", "lastEventId"),
            ("value", "value.PATH"),
            ("values.x", "value.x"),
            ("Value.x.y", "value.x.y"),
            ("vlaue.Name", "value.Name"),
            ("headers.type", "header.type"),
            ("Header.Type", "header.Type"),
            ("headers", "header.NAME"),
        ] {
            let error = opens(&daemon, &format!("{name}=1")).await.expect_err(name);
            assert_eq!(
                (&error["code"], &error["parameter"]),
                (&json!("unknown_parameter"), &json!(name))
            );
            let message = error["message"].as_str().expect("text");
            assert!(
                message.contains(&format!("did you mean \"{meant}\"?")),
                "{message}"
            );
        }
    });
}

fn unknown_parameters_are_refused_unless_listed_in_ignored_parameters() {
    let daemon = Daemon::start(&config_of(""));
    block_on(async {
        let error = opens(&daemon, "utm_source=hush").await.expect_err("not known");
        assert_eq!(error["code"], json!("unknown_parameter"));
        let message = error["message"].as_str().expect("text");
        assert!(
            message.contains("http.ignored_parameters") && !message.contains("did you mean"),
            "{message}"
        );
        assert!(!message.contains("hush"), "{message}");
        daemon.rewrite_config(&config_of("ignored_parameters = [\"utm_source\", \"state\"]"));
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: http.ignored_parameters", secs(20));
        // A name that resembles a parameter is also ignored where it is listed.
        for query in ["utm_source=1", "state=1"] {
            assert_eq!(opens(&daemon, query).await, Ok(()), "{query}");
        }
        assert!(
            opens(&daemon, "utm_medium=1").await.is_err(),
            "only what is named"
        );
    });
}

fn a_last_event_id_is_read_in_every_spelling_that_libraries_use() {
    let daemon = Daemon::start(&config_of("max_clients = 1"));
    block_on(async {
        let _only = crate::harness::stream::Stream::open(daemon.url("/events")).await;
        // A refusal echoes the id of the request.
        let goodbye = async |query: &str| {
            let accept = [("accept", "text/event-stream")];
            get(&daemon.url(&format!("/events?{query}")), &accept)
                .await
                .text()
        };
        for name in [
            "lastEventId",
            "lastEventID",
            "last-event-id",
            "Last-Event-ID",
            "last_event_id",
            "evs_last_event_id",
            "evs_lasteventid",
            "evsLastEventId",
            "EVS-Last-Event-ID",
        ] {
            let text = goodbye(&format!("{name}=AeUv_e4AAAAAAwysAgc")).await;
            assert!(text.contains("\nid: AeUv_e4AAAAAAwysAgc\n"), "{name}: {text}");
        }
        // Of several the last counts that is not empty.
        let of_two = goodbye("evsLastEventId=x&last_event_id=y&lastEventId=").await;
        assert!(of_two.contains("\nid: y\n"), "{of_two}");
        let accept = ("accept", "text/event-stream");
        for (ids, counts) in [
            (["", "z"], "z"),
            (["z", ""], "z"),
            (["x", "z"], "z"),
            (["", ""], "y"),
        ] {
            let headers = [accept, ("last-event-id", ids[0]), ("last-event-id", ids[1])];
            let text = get(&daemon.url("/events?lastEventId=y"), &headers).await.text();
            assert!(text.contains(&format!("\nid: {counts}\n")), "{ids:?}: {text}");
        }
        let text = goodbye("evs_preamble=AeUv_e4AAAAAAwysAgc").await;
        assert!(text.contains("goodbye") && !text.contains("\nid: "), "{text}");
    });
}

fn a_filter_that_is_not_utf_8_is_refused() {
    let daemon = Daemon::start(&config_of("ignored_parameters = \"ticket\""));
    block_on(async {
        for query in [
            "key=%FF",
            "key=a%C3",
            "header.type=%FF",
            "value.city=Paris%80",
            "value.%FF=1",
            "topic=%FF",
            "key=NL&key=%FF",
            "&&key=%FF",
        ] {
            let error = opens(&daemon, query).await.expect_err(query);
            assert_eq!(error["code"], json!("bad_filter"), "{query}");
            let message = error["message"].as_str().expect("text");
            assert!(
                message.contains("UTF-8") && message.contains("key=base64:"),
                "{message}"
            );
        }
        // The replacement character itself is UTF-8, and ignored parameters are not checked.
        for query in [
            "key=%EF%BF%BD",
            "key=%C3%A4",
            "key=base64:%2Fw==",
            "ticket=%FF",
            "&&token=%FF&&key=x",
        ] {
            assert_eq!(opens(&daemon, query).await, Ok(()), "{query}");
        }
    });
}

fn a_time_in_another_unit_is_refused_with_its_milliseconds() {
    let daemon = Daemon::start(&config_of(""));
    block_on(async {
        for (since, unit, milliseconds) in [
            ("1795593600", "seconds", "1795593600000"),
            ("100000000", "seconds", "100000000000"),
            ("99999999999", "seconds", "99999999999000"),
            ("1795593600000000", "microseconds", "1795593600000"),
            ("1795593600000000001", "nanoseconds", "1795593600000"),
        ] {
            let error = opens(&daemon, &format!("since={since}")).await.expect_err(since);
            assert_eq!(
                (&error["code"], &error["parameter"]),
                (&json!("bad_since"), &json!("since"))
            );
            let message = error["message"].as_str().expect("text");
            let wanted = format!("{since} is a time in {unit}; write it in milliseconds, {milliseconds}");
            assert_eq!(message, wanted);
            assert_eq!(opens(&daemon, &format!("since={milliseconds}")).await, Ok(()));
        }
        for since in [
            "0",
            "1000",
            "99999999",
            "100000000000",
            "1970-06-01T00:00:00Z",
            "50y",
        ] {
            assert_eq!(opens(&daemon, &format!("since={since}")).await, Ok(()), "{since}");
        }
    });
}
