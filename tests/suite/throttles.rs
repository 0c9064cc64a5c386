//! Throttled clients: each key at most once per interval, always with its latest value.

use crate::common::{config, named, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::http::get;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::harness::{on_broker, promise};
use crate::rig::{Client, Rec, Rig, apply, line, rec, tombstone};

use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Start, StreamSettings, WhenFull};
use kafka_sse_bridge::stream::live_settings::LiveSettings;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::Step;
use libtest_mimic::Trial;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    vec![
        promise(a_throttled_client_gets_each_key_at_most_once_per_interval_and_ends_with_the_latest),
        promise(a_throttled_client_resumes_from_any_id_without_a_repetition_behind_a_checkpoint),
        promise(a_throttled_client_gets_no_delete_for_a_key_that_has_never_passed_its_filter),
        promise(a_throttled_client_is_not_woken_by_records_that_are_not_due),
        promise(a_throttled_client_gets_the_notices_between_its_records),
        promise(a_throttle_in_the_configuration_is_the_least_and_follows_a_reload),
        promise(a_stream_without_a_table_refuses_throttle_and_every_stream_refuses_sample),
        on_broker(
            Version::V4_4,
            a_throttled_connection_gets_the_latest_values_in_its_own_time,
        ),
    ]
}

const INTERVAL: Duration = Duration::from_secs(1);

fn rig(change: impl FnOnce(&mut StreamSettings)) -> Rig {
    Rig::with(&[2], false, |settings| {
        settings.start = Start::Snapshot;
        settings.key_field = Some("id".to_owned());
        settings.delete_retention = Span::seconds(1_000_000);
        change(settings);
    })
}

fn throttled(rig: &Rig, id: Option<&str>) -> Client {
    rig.open(Opening {
        throttle: Some(INTERVAL),
        last_event_id: id.map(str::to_owned),
        ..Opening::default()
    })
}

/// The events that are due, in short, without checkpoints.
fn shown(client: &mut Client) -> Vec<String> {
    let events = client.events();
    events
        .iter()
        .filter(|event| event.name != "checkpoint")
        .map(line)
        .collect()
}

#[derive(Debug, Clone)]
enum Op {
    Write(Vec<(u8, bool)>),
    /// In tenths of a second.
    Pass(u64),
    Reconnect,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let write = prop::collection::vec((0..6_u8, prop::bool::weighted(0.8)), 1..5).prop_map(Op::Write);
    let op = prop_oneof![5 => write, 5 => (1..15_u64).prop_map(Op::Pass), 1 => Just(Op::Reconnect)];
    prop::collection::vec(op, 0..60)
}

fn a_throttled_client_gets_each_key_at_most_once_per_interval_and_ends_with_the_latest() {
    proptest!(|(ops in ops(), is_small in any::<bool>(), has_filter in any::<bool>())| {
        let mut rig = rig(|settings| {
            if is_small {
                settings.log_bytes = Size(1024);
            }
        });
        let terms: &[(&str, &str)] = if has_filter { &[("value.odd", "1")] } else { &[] };
        let open = |rig: &Rig, id: Option<&str>| rig.open(Opening {
            throttle: Some(INTERVAL),
            last_event_id: id.map(str::to_owned),
            filter: (!terms.is_empty()).then(|| crate::rig::filter(terms, &rig.stream.settings().topics).expect("a filter")),
            ..Opening::default()
        });
        let (mut truth, mut browser) = (BTreeMap::new(), BTreeMap::new());
        let mut client = open(&rig, None);
        let mut last: HashMap<String, Instant> = HashMap::new();
        let mut written = 0;
        for op in ops.iter().chain(&[Op::Pass(11), Op::Pass(11)]) {
            match op {
                Op::Write(batch) => {
                    let mut records = Vec::new();
                    for &(key, is_update) in batch {
                        written += 1;
                        let (name, odd) = (format!("k{key}"), written % 2);
                        let record = if is_update {
                            let value = json!({ "n": written, "odd": odd }).to_string();
                            let shown = value.replace('}', &format!(",\"id\":\"{name}\"}}"));
                            if !has_filter || odd == 1 { truth.insert(name.clone(), shown) } else { truth.remove(&name) };
                            rec(&name, value.as_str())
                        } else {
                            truth.remove(&name);
                            tombstone(&name)
                        };
                        records.push(record.partition(u32::from(key % 2)));
                    }
                    rig.records(&records);
                }
                Op::Pass(tenths) => client.advance(Duration::from_millis(100 * tenths)),
                Op::Reconnect => {
                    let now = client.now;
                    let id = client.last_event_id().to_owned();
                    client = open(&rig, Some(&id));
                    client.now = now;
                    // Another connection has an interval of its own.
                    last.clear();
                }
            }
            let events = client.events();
            apply(&mut browser, &events);
            for event in &events {
                if matches!(event.name.as_str(), "message" | "delete") {
                    let key = event.json()["id"].as_str().expect("a key").to_owned();
                    let before = last.insert(key.clone(), client.now);
                    prop_assert!(
                        before.is_none_or(|before| client.now.duration_since(before) >= INTERVAL),
                        "{} too soon: {:?}", key, events
                    );
                }
            }
        }
        prop_assert_eq!(browser, truth);
    });
}

fn a_throttled_client_resumes_from_any_id_without_a_repetition_behind_a_checkpoint() {
    let mut rig = rig(|_| {});
    let mut client = throttled(&rig, None);
    shown(&mut client);
    rig.records(&[
        rec("a", r#"{"n":1}"#),
        rec("b", r#"{"n":2}"#),
        rec("c", r#"{"n":3}"#),
    ]);
    client.advance(INTERVAL);
    let events = client.events();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["message", "message", "message", "checkpoint"]);
    let mut back = throttled(&rig, Some(client.last_event_id()));
    assert_eq!(shown(&mut back), ["caught-up {\"reason\":\"replay\"}"]);
    let mut from_the_first = throttled(&rig, Some(&events[0].id));
    let rest = shown(&mut from_the_first);
    assert_eq!(rest[..2], [line(&events[1]), line(&events[2])]);
}

fn a_throttled_client_gets_no_delete_for_a_key_that_has_never_passed_its_filter() {
    let mut rig = rig(|_| {});
    let odd = |rig: &Rig| {
        crate::rig::filter(&[("value.odd", "1")], &rig.stream.settings().topics).expect("a filter")
    };
    let mut client = rig.open(Opening {
        throttle: Some(INTERVAL),
        filter: Some(odd(&rig)),
        ..Opening::default()
    });
    shown(&mut client);
    let value = |odd: u8, number: u32| format!("{{\"odd\":{odd},\"n\":{number}}}");
    rig.records(&[
        rec("a", value(1, 1)),
        rec("b", value(0, 2)),
        rec("c", value(0, 3)),
    ]);
    assert_eq!(shown(&mut client), [r#"message {"odd":1,"n":1,"id":"a"}"#]);
    // One ceases to pass, and changes once more; others do not pass, as before.
    rig.records(&[
        rec("a", value(0, 4)),
        rec("b", value(0, 5)),
        rec("a", value(0, 6)),
        rec("d", value(0, 7)),
    ]);
    client.advance(INTERVAL);
    assert_eq!(shown(&mut client), [r#"delete {"id":"a"}"#]);
    rig.records(&[rec("a", value(0, 8)), rec("c", value(1, 9))]);
    client.advance(INTERVAL);
    assert_eq!(shown(&mut client), [r#"message {"odd":1,"n":9,"id":"c"}"#]);
    // One that is deleted and then does not pass has ceased to pass as well.
    rig.records(&[tombstone("c"), rec("c", value(0, 10))]);
    client.advance(INTERVAL);
    assert_eq!(shown(&mut client), [r#"delete {"id":"c"}"#]);
    // A tombstone passes.
    rig.records(&[rec("b", value(0, 11)), tombstone("c"), tombstone("d")]);
    client.advance(INTERVAL);
    assert_eq!(
        shown(&mut client),
        [r#"delete {"id":"c"}"#, r#"delete {"id":"d"}"#]
    );
}

fn a_throttled_client_is_not_woken_by_records_that_are_not_due() {
    let mut rig = rig(|_| {});
    let mut client = throttled(&rig, None);
    shown(&mut client);
    client.wait();
    rig.records(&[rec("a", r#"{"n":1}"#)]);
    assert_eq!(client.wakes(), 1, "the first is due at once");
    assert_eq!(shown(&mut client), [r#"message {"n":1,"id":"a"}"#]);
    rig.records(&[rec("a", r#"{"n":2}"#)]);
    let (items, step) = client.items();
    assert_eq!((items.len(), step), (0, Step::Wait(client.now + INTERVAL)));
    client.wait();
    client.wakes();
    for number in 3..10 {
        rig.records(&[rec("a", format!(r#"{{"n":{number}}}"#))]);
    }
    assert_eq!(client.wakes(), 0);
    rig.stream
        .close(kafka_sse_bridge::stream::control::Goodbye::Shutdown);
    assert_eq!(client.wakes(), 1, "the end of a stream is due at once");
    client.advance(INTERVAL);
    assert_eq!(shown(&mut client), [r#"goodbye {"reason":"shutdown"}"#]);
}

fn a_throttled_client_gets_the_notices_between_its_records() {
    let mut rig = rig(|_| {});
    let mut client = throttled(&rig, None);
    shown(&mut client);
    rig.records(&[rec("a", r#"{"n":1}"#)]);
    shown(&mut client);
    rig.records(&[rec("a", r#"{"n":2}"#)]);
    rig.recreate(0, 2);
    rig.records(&[rec("b", r#"{"n":3}"#)]);
    assert_eq!(shown(&mut client), [""; 0]);
    client.advance(INTERVAL);
    let told = shown(&mut client);
    assert!(
        told.contains(&r#"reset {"reason":"recreated","topic":"t"}"#.to_owned()),
        "{told:?}"
    );
    assert_eq!(
        told.last().map(String::as_str),
        Some(r#"message {"n":3,"id":"b"}"#)
    );
    // A notice from before a client came does not concern it.
    let mut late = throttled(&rig, None);
    shown(&mut late);
    rig.records(&[rec("b", r#"{"n":4}"#), rec("b", r#"{"n":5}"#)]);
    late.advance(INTERVAL);
    assert_eq!(shown(&mut late), [r#"message {"n":5,"id":"b"}"#]);
    // A record without a key has no row.
    let mut rig = self::rig(|_| {});
    let mut client = throttled(&rig, None);
    rig.records(&[rec("a", r#"{"n":1}"#)]);
    shown(&mut client);
    let keyless = Rec {
        key: None,
        ..rec("", r#"{"n":3}"#)
    };
    rig.records(&[rec("a", r#"{"n":2}"#), keyless]);
    client.advance(INTERVAL);
    assert_eq!(
        shown(&mut client),
        [r#"message {"n":2,"id":"a"}"#, r#"message {"n":3,"id":null}"#]
    );
    // A table that is full has no row for what the log has.
    let mut rig = self::rig(|settings| {
        settings.max_keys = 1;
        settings.when_full = WhenFull::RefuseNew;
    });
    let mut client = throttled(&rig, None);
    rig.records(&[rec("a", r#"{"n":1}"#)]);
    shown(&mut client);
    rig.records(&[rec("b", r#"{"n":2}"#)]);
    client.advance(INTERVAL);
    assert_eq!(shown(&mut client), [r#"message {"n":2,"id":"b"}"#]);
}

fn a_throttle_in_the_configuration_is_the_least_and_follows_a_reload() {
    let mut rig = rig(|settings| settings.throttle = Span(3 * INTERVAL));
    let mut clients = [throttled(&rig, None), rig.client(&[])];
    let write = |rig: &mut Rig, number: usize| rig.records(&[rec("a", format!(r#"{{"n":{number}}}"#))]);
    for client in &mut clients {
        shown(client);
    }
    write(&mut rig, 1);
    for client in &mut clients {
        assert_eq!(shown(client), [r#"message {"n":1,"id":"a"}"#]);
    }
    write(&mut rig, 2);
    for client in &mut clients {
        client.advance(2 * INTERVAL);
        assert_eq!(shown(client), [""; 0]);
        client.advance(INTERVAL);
        assert_eq!(shown(client), [r#"message {"n":2,"id":"a"}"#]);
    }
    let settings = LiveSettings {
        throttle: Duration::ZERO,
        ..*rig.stream.live_settings()
    };
    rig.stream.apply(settings);
    write(&mut rig, 3);
    let [one, other] = &mut clients;
    assert_eq!(
        shown(other),
        [r#"message {"n":3,"id":"a"}"#],
        "no longer throttled"
    );
    one.advance(INTERVAL);
    assert_eq!(shown(one), [r#"message {"n":3,"id":"a"}"#], "by its own interval");
}

fn a_stream_without_a_table_refuses_throttle_and_every_stream_refuses_sample() {
    let daemon = Daemon::start(&crate::limits::config_of(""));
    block_on(async {
        for (query, code, why, remedy) in [
            (
                "throttle=1s",
                "bad_throttle",
                "this stream has no table",
                "only streams with start = \"snapshot\" can be throttled",
            ),
            (
                "sample=1s",
                "bad_sample",
                "would lose records without saying which",
                "ask for a stream that keeps a table",
            ),
        ] {
            let answer = get(&daemon.url(&format!("/events?{query}")), &[]).await;
            assert_eq!(answer.status, 400, "{query}");
            let error = &answer.json()["error"];
            assert_eq!(error["code"], json!(code), "{query}");
            let message = error["message"].as_str().expect("a message");
            assert!(message.contains(why) && message.contains(remedy), "{message}");
        }
    });
    let daemon =
        Daemon::start(&crate::limits::config_of("").replace("topics", "start = \"snapshot\"\ntopics"));
    block_on(async {
        for query in ["throttle=soon", "throttle=2h", "throttle=1s&throttle=1s"] {
            let answer = get(&daemon.url(&format!("/events?{query}")), &[]).await;
            assert_eq!(answer.json()["error"]["code"], json!("bad_throttle"), "{query}");
        }
    });
}

fn a_throttled_connection_gets_the_latest_values_in_its_own_time(broker: &Broker) {
    let topic = topic_name("throttled");
    broker.create_topic(&topic, 1, &[]);
    let value = |number: u32| Message::new("a", format!("{{\"n\":{number}}}"));
    broker.produce(&topic, &[value(0)]);
    let daemon = Daemon::start(&config(broker, &[&topic], "start = \"snapshot\""));
    block_on(async {
        let mut all = Stream::open(daemon.url("/events")).await;
        let mut throttled = Stream::open(daemon.url("/events?throttle=1s")).await;
        for client in [&mut all, &mut throttled] {
            let events = client.collect_until(named("caught-up"), secs(60)).await;
            assert_eq!(records(&events), [r#"{"n":0}"#]);
        }
        let begun = Instant::now();
        for number in 1..=20 {
            broker.produce(&topic, &[value(number)]);
        }
        let last = |event: &Event| event.data == r#"{"n":20}"#;
        assert_eq!(records(&all.collect_until(last, secs(60)).await).len(), 20);
        let events = throttled.collect_until(last, secs(60)).await;
        let most = begun.elapsed().as_secs() + 2;
        let numbers = records(&events);
        assert!(numbers.len() as u64 <= most, "{numbers:?} in {most} s");
        broker.produce(&topic, &[value(21), Message::tombstone("a")]);
        let events = throttled.collect_until(named("delete"), secs(60)).await;
        let [.., delete] = &events[..] else {
            panic!("no delete")
        };
        assert_eq!(delete.data, r#"{"key":"a"}"#);
        let id = throttled.last_event_id().to_owned();
        let back = Stream::to(daemon.url("/events?throttle=1s"))
            .last_event_id(&id)
            .send();
        let events = back
            .await
            .expect("a stream")
            .collect_until(named("caught-up"), secs(60))
            .await;
        assert_eq!(records(&events), [""; 0], "nothing again");
    });
}
