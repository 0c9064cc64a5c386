//! The responses to clients over a limit.

use super::{config_of, counts, let_in, limits, open, open_for};
use crate::harness::daemon::Daemon;
use crate::harness::http::{Response, get};
use crate::harness::process::Signal;
use crate::harness::promise;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::metrics::figures;
use libtest_mimic::Trial;
use serde_json::json;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(an_event_source_over_a_limit_gets_a_retry_time_and_keeps_its_id),
        promise(other_clients_over_a_limit_get_a_status_and_retry_after),
        promise(filters_over_a_limit_of_their_stream_are_refused),
    ]
}

/// The response to an `EventSource` over a limit, which must be an event stream: `retry`, and the rest of its text.
async fn goodbye(daemon: &Daemon, query: &str, headers: &[(&str, &str)]) -> (u64, String) {
    let mut all = vec![("accept", "text/event-stream")];
    all.extend_from_slice(headers);
    let answer = get(&daemon.url(&format!("/events{query}")), &all).await;
    assert_eq!(answer.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("connection", "close"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let text = answer.text();
    let (retry, rest) = text.split_once('\n').expect("lines");
    let retry = retry.strip_prefix("retry: ").and_then(|retry| retry.parse().ok());
    (retry.unwrap_or_else(|| panic!("{text}")), rest.to_owned())
}

fn an_event_source_over_a_limit_gets_a_retry_time_and_keeps_its_id() {
    const GOODBYE: &str = "event: goodbye\ndata: {\"reason\":\"overloaded\"}\n\n";
    let daemon = Daemon::start(&config_of("max_clients = 1"));
    block_on(async {
        let (_only, is_in) = open(&daemon).await;
        assert!(is_in);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            let (retry, rest) = goodbye(&daemon, "", &[]).await;
            assert!((15_000..=60_000).contains(&retry), "{retry}");
            assert_eq!(rest, GOODBYE);
            pauses.push(retry);
        }
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() > 5, "reconnects are spread: {pauses:?}");

        let kafka_sse = r#"[{"topic":"t","partition":0,"offset":12}]"#;
        for id in ["AeUv_e4AAAAAAwysAgc", kafka_sse] {
            let with_id = format!("id: {id}\n{GOODBYE}");
            let (_, rest) = goodbye(&daemon, "", &[("last-event-id", id)]).await;
            assert_eq!(rest, with_id);
            let query: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
            let (_, rest) = goodbye(&daemon, &format!("?lastEventId={query}"), &[]).await;
            assert_eq!(rest, with_id);
        }
        // An invalid id is not echoed.
        for query in [
            "?lastEventId=x%0Adata:%20forged",
            "?lastEventId=x%0D",
            "?lastEventId=%00",
        ] {
            assert_eq!(goodbye(&daemon, query, &[]).await.1, GOODBYE, "{query}");
        }
        for accept in ["Text/Event-Stream;q=0.5", "text/html, text/event-stream"] {
            let answer = get(&daemon.url("/events"), &[("accept", accept)]).await;
            assert_eq!(answer.status, 200, "{accept}");
        }
    });
}

#[track_caller]
pub(super) fn assert_problem(answer: &Response, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("connection"), Some("close"));
    let pause: Option<u64> = answer.header("retry-after").and_then(|pause| pause.parse().ok());
    assert!(pause.is_some_and(|pause| (15..=60).contains(&pause)), "{pause:?}");
    assert_eq!(answer.json()["error"]["code"], code);
}

fn other_clients_over_a_limit_get_a_status_and_retry_after() {
    let per_ip = "max_clients = 2\nmax_clients_per_ip = 1\ntrusted_proxies = [\"127.0.0.1\"]";
    let daemon = Daemon::start(&config_of(per_ip));
    block_on(async {
        let (_one, _) = open(&daemon).await;
        for accept in ["*/*", "application/json", "text/*", "text/event-streams"] {
            let answer = get(&daemon.url("/events"), &[("accept", accept)]).await;
            assert_problem(&answer, 429, "too_many_clients_per_ip");
        }
        let (_two, _) = open_for(&daemon, "127.0.0.2", &[]).await;
        let answer = get(&daemon.url("/events"), &[("accept", "*/*")]).await;
        assert_problem(&answer, 503, "too_many_clients");
        // Nothing else is limited.
        assert_eq!(daemon.get("/").await.status, 200);
        let refused = limits(&daemon).await["refused"].clone();
        let counted = json!({
            "max_clients": 1, "max_clients_per_ip": 4,
            "max_opens_per_second": 0, "max_opens_per_second_per_ip": 0,
            "max_filter_paths": 0, "max_unindexed_filters": 0,
        });
        assert_eq!(refused, counted);
        let figures = figures(&daemon).await;
        for (limit, count) in counted.as_object().expect("an object") {
            let counted = figures.get("kafka_sse_bridge_clients_refused_total", &[("limit", limit)]);
            assert_eq!(Some(counted), count.as_f64(), "{limit}");
        }
    });
}

fn filters_over_a_limit_of_their_stream_are_refused() {
    let text = config_of("") + "max_filter_paths = 2\nmax_unindexed_filters = 1\n";
    let daemon = Daemon::start(&text);
    let open = async |query: &str| let_in(Stream::open(daemon.url(&format!("/events?{query}"))).await);
    let refused = async |query: &str, code: &str| {
        let answer = get(&daemon.url(&format!("/events?{query}")), &[("accept", "*/*")]).await;
        assert_problem(&answer, 503, code);
        let with_id = [("last-event-id", "AeUv_e4AAAAAAwysAgc")];
        let (_, rest) = goodbye(&daemon, &format!("?{query}"), &with_id).await;
        let overloaded = "id: AeUv_e4AAAAAAwysAgc\nevent: goodbye\ndata: {\"reason\":\"overloaded\"}\n\n";
        assert_eq!(rest, overloaded, "it keeps its id");
    };
    block_on(async {
        let mut kept = Vec::new();
        for query in [
            "value.a=1",
            "value.b=1",
            "value.a=2&value.b=2",
            "key=k",
            "value.a=1",
            "partition=0",
        ] {
            let (stream, is_in) = open(query).await;
            assert!(is_in, "{query}");
            kept.push(stream);
        }
        refused("value.c=1", "too_many_filter_paths").await;
        refused("key=k&header.h=1", "too_many_filter_paths").await;
        refused("partition=1", "too_many_unindexed_filters").await;
        let (stream, is_in) = open("partition=0").await;
        assert!(is_in, "a filter that is in use takes nothing");
        kept.push(stream);
        let answer = daemon.get("/streams").await.json();
        assert_eq!(
            answer["http"]["limits"]["clients"], 7,
            "a refused client is not counted"
        );
        let refused = &answer["http"]["limits"]["refused"];
        assert_eq!(
            (&refused["max_filter_paths"], &refused["max_unindexed_filters"]),
            (&json!(4), &json!(2))
        );
        let filters = &answer["streams"][0]["filters"];
        assert_eq!(
            (&filters["count"], &filters["paths"], &filters["unindexed"]),
            (&json!(5), &json!(2), &json!(1))
        );
        let of_stream = json!({ "max_filter_paths": 4, "max_unindexed_filters": 2 });
        assert_eq!(filters["refused"], of_stream);
        // Each limit has its own line, whatever came before.
        for key in ["max_filter_paths", "max_unindexed_filters"] {
            let line = format!("127.0.0.1: refused from /events, {key} reached");
            daemon.wait_log(&line, secs(10));
        }
        let figures = figures(&daemon).await;
        let limit = [("limit", "max_unindexed_filters"), ("stream", "/events")];
        assert!((figures.get("kafka_sse_bridge_filters_refused_total", &limit) - 2.0).abs() < 0.1);
        let limit = [("limit", "max_filter_paths")];
        assert!((figures.get("kafka_sse_bridge_clients_refused_total", &limit) - 4.0).abs() < 0.1);

        // Slots without clients are free again.
        drop(kept);
        counts(&daemon, 0, 0).await;
        let (_stream, is_in) = open("value.c=1&header.h=1").await;
        assert!(is_in, "others have left");
        // A reload changes the limits and closes no client.
        let more = text.replace("max_filter_paths = 2", "max_filter_paths = 3");
        daemon.rewrite_config(&more);
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: stream \"/events\": max_filter_paths", secs(20));
        let (_stream, is_in) = open("value.d=1").await;
        assert!(is_in, "one more is allowed");
    });
}
