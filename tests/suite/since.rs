//! Requests by URL alone, on real brokers: `since` and filters.

use crate::common::{config, config_with, expected, named, numbered, of_partition, records, until_records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::harness::{on_broker, on_each_broker, promise};
use crate::rig::{Rec, Rig, line, run};
use kafka_sse_bridge::config::Start;
use kafka_sse_bridge::config::units::Instant;
use kafka_sse_bridge::stream::position::{Position, TopicPosition};
use kafka_sse_bridge::stream::start_position::Opening;
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn trials() -> Vec<Trial> {
    let mut trials = on_each_broker(since_starts_at_a_time_in_every_notation);
    trials.extend(on_each_broker(since_on_a_table_returns_later_changes));
    trials.extend(on_each_broker(a_filter_in_the_url_selects_records));
    trials.push(promise(
        partitions_missing_from_a_kafkasse_id_start_by_since_or_start,
    ));
    trials.push(promise(since_applies_if_the_id_is_unusable));
    trials.push(on_broker(
        Version::V3_9,
        requests_unsupported_by_the_kafka_crate_are_refused_with_a_remedy,
    ));
    trials
}

const PARTITIONS: i32 = 2;

const MINUTE: i64 = 60_000;

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after the epoch");
    i64::try_from(since.as_millis()).expect("milliseconds")
}

/// RFC 3339, as seen from so many hours east.
fn rfc3339(milliseconds: i64, hours: i64) -> String {
    let shifted = u64::try_from(milliseconds + hours * 60 * MINUTE).expect("after the epoch");
    let text = Instant::millis(UNIX_EPOCH + Duration::from_millis(shifted)).to_string();
    let text = text.strip_suffix('Z').expect("UTC");
    match hours {
        0 => format!("{text}Z"),
        hours => format!("{text}{hours:+03}:00"),
    }
}

/// Ten records per partition, ten minutes apart, the last of them `start` + 90 minutes.
fn spread(broker: &Broker, topic: &str, start: i64) {
    for partition in 0..PARTITIONS {
        let messages: Vec<Message> = numbered(partition, 0, 10)
            .into_iter()
            .zip(0..)
            .map(|(message, number)| message.timestamp(start + number * 10 * MINUTE))
            .collect();
        broker.produce(topic, &messages);
    }
}

fn since_starts_at_a_time_in_every_notation(broker: &Broker) {
    let topic = topic_name("since");
    broker.create_topic(&topic, PARTITIONS, &[]);
    let start = now() - 100 * MINUTE;
    spread(broker, &topic, start);
    let daemon = Daemon::start(&config_with(
        "librdkafka",
        broker,
        &[&topic],
        "start = \"live\"\npreload = 3",
    ));
    let fourth = start + 40 * MINUTE;
    let escaped = rfc3339(fourth, 2).replace('+', "%2B");
    let by_times = |time: i64| {
        let entry =
            |partition| format!(r#"{{"topic":"{topic}","partition":{partition},"timestamp":{time}}}"#);
        format!("[{},{}]", entry(0), entry(1))
    };
    let in_url = by_times(fourth).replace('"', "%22");
    let asked = [
        (format!("since={}", rfc3339(fourth, 0)), 4),
        (format!("since={}", rfc3339(fourth, 0).to_lowercase()), 4),
        (format!("since={escaped}"), 4),
        (format!("since={}", rfc3339(fourth, 2)), 4),
        (format!("since={}", rfc3339(fourth, -7)), 4),
        (format!("since={fourth}"), 4),
        (format!("since={}", fourth - 1), 4),
        (format!("since={}", fourth + 1), 5),
        (format!("since={}", start - MINUTE), 0),
        ("since=0".to_owned(), 0),
        ("since=1000y".to_owned(), 0),
        ("since=65m".to_owned(), 4),
        ("since=1h%205m".to_owned(), 4),
        (format!("since={}", now() + 60 * MINUTE), 10),
        ("since=0s".to_owned(), 10),
        (format!("since={fourth}&start=earliest"), 4),
        (format!("lastEventId={in_url}"), 4),
        (format!("since=0&lastEventId={in_url}"), 4),
    ];
    no_time(&daemon);
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        for (query, first) in &asked {
            let mut stream = Stream::open(daemon.url(&format!("/events?{query}"))).await;
            assert_eq!(stream.status, 200, "{query}");
            let events = stream.collect_until(named("caught-up"), secs(30)).await;
            let last = events.last().expect("caught-up");
            assert_eq!(line(last), r#"caught-up {"reason":"replay"}"#, "{query}");
            assert!(
                events.iter().all(|event| !event.is("reset")),
                "{query}: {:?}",
                events.first()
            );
            for partition in 0..PARTITIONS {
                let shown = of_partition(&records(&events), partition);
                assert_eq!(shown, expected(partition, 10)[*first..], "{query}");
            }
        }
        // One partition by time, the other by offset; what it omits begins as the stream does.
        let mixed = format!(
            r#"[{{"topic":"{topic}","partition":1,"timestamp":{fourth}}},{{"topic":"{topic}","partition":0,"offset":8}}]"#
        );
        let alone = format!(r#"[{{"topic":"{topic}","partition":1,"timestamp":{fourth}}}]"#);
        for (id, first) in [(mixed, 8), (alone, 10)] {
            let stream = Stream::to(daemon.url("/events")).last_event_id(&id).send().await;
            let mut stream = stream.expect("it opens");
            let events = stream.collect_until(named("caught-up"), secs(30)).await;
            let shown = records(&events);
            assert_eq!(of_partition(&shown, 0), expected(0, 10)[first..], "{id}");
            assert_eq!(of_partition(&shown, 1), expected(1, 10)[4..], "{id}");
        }
        // From a time on means on from there: live, and by its ids.
        let mut stream = Stream::open(daemon.url(&format!("/events?since={}", now() + MINUTE))).await;
        stream.collect_until(named("caught-up"), secs(30)).await;
        for partition in 0..PARTITIONS {
            broker.produce(&topic, &numbered(partition, 10, 2));
        }
        let shown = records(&stream.collect_until(until_records(4), secs(30)).await);
        assert_eq!(of_partition(&shown, 0), expected(0, 12)[10..]);
    });
}

fn no_time(daemon: &Daemon) {
    block_on(async {
        for bad in [
            "",
            "yesterday",
            "-5",
            "2026-13-01T00:00:00Z",
            "2026-11-25",
            "99999999999999999999",
            "1h+x",
        ] {
            let answer = daemon.get(&format!("/events?since={bad}")).await;
            assert_eq!(answer.status, 400, "{bad}");
            assert_eq!(answer.json()["error"]["code"], "bad_since", "{bad}");
            assert_eq!(answer.json()["error"]["parameter"], "since");
        }
        let twice = daemon.get("/events?since=1&since=2").await;
        assert_eq!(
            (twice.status, &twice.json()["error"]["code"]),
            (400, &"bad_since".into())
        );
    });
}

/// Two partitions of four records each, `p0-0` and so on, at the times 10, 20, 30 and 40.
fn timed(start: Start) -> Rig {
    let mut rig = Rig::with(&[2], true, |settings| settings.start = start);
    for partition in 0..2 {
        let record = |number: u8| Rec {
            value: Some(format!("p{partition}-{number}").into_bytes()),
            timestamp: Some((i64::from(number) + 1) * 10),
            ..Rec::default()
        };
        let records: Vec<Rec> = (0..4).map(|number| record(number).partition(partition)).collect();
        rig.records(&records);
    }
    rig
}

/// The sorted events of a client with this id and `since`.
fn lines_from(rig: &Rig, id: &str, since: Option<i64>) -> Vec<String> {
    let opening = Opening {
        last_event_id: Some(id.to_owned()),
        since,
        ..Opening::default()
    };
    let mut lines = run(async { rig.open(opening).lines_with_history().await });
    lines.sort();
    lines
}

fn partitions_missing_from_a_kafkasse_id_start_by_since_or_start() {
    const REPLAY: &str = r#"caught-up {"reason":"replay"}"#;
    for start in [Start::Earliest, Start::Live] {
        let rig = timed(start);
        let of_first = |entry: &str| format!(r#"[{{"topic":"t","partition":0,{entry}}}]"#);
        for entry in [r#""offset":3"#, r#""timestamp":35"#] {
            assert_eq!(
                lines_from(&rig, &of_first(entry), Some(25)),
                [REPLAY, "message p0-3", "message p1-2", "message p1-3"],
                "{start} {entry}"
            );
            let by_start: &[&str] = match start {
                Start::Live => &[],
                _ => &["message p1-0", "message p1-1", "message p1-2", "message p1-3"],
            };
            assert_eq!(
                lines_from(&rig, &of_first(entry), None),
                [&[REPLAY, "message p0-3"], by_start].concat(),
                "{start} {entry}"
            );
        }
        // The id has precedence over `since`.
        assert_eq!(
            lines_from(&rig, &of_first(r#""offset":-1"#), Some(35)),
            [REPLAY, "message p1-3"],
            "{start}"
        );
    }
}

fn since_applies_if_the_id_is_unusable() {
    for start in [Start::Earliest, Start::Live] {
        let rig = timed(start);
        for (id, reason) in [
            ("no-id", "unknown-id"),
            ("[", "unknown-id"),
            (r#"[{"topic":"x","partition":0,"offset":1}]"#, "other-stream"),
        ] {
            let reset = format!(r#"reset {{"reason":"{reason}"}}"#);
            assert_eq!(
                lines_from(&rig, id, Some(35)),
                [
                    r#"caught-up {"reason":"replay"}"#,
                    "message p0-3",
                    "message p1-3",
                    reset.as_str()
                ],
                "{start} {id}"
            );
        }
    }
}

fn since_on_a_table_returns_later_changes(broker: &Broker) {
    let topic = topic_name("since-table");
    broker.create_topic(&topic, 1, &[]);
    let start = now() - 60 * MINUTE;
    let at = |message: Message, minutes: i64| message.timestamp(start + minutes * MINUTE);
    broker.produce(
        &topic,
        &[
            at(Message::new("old", "1"), 0),
            at(Message::new("gone", "1"), 1),
            at(Message::new("new", "1"), 2),
            at(Message::new("brief", "1"), 31),
            at(Message::new("new", "2"), 32),
            at(Message::tombstone("gone"), 33),
            at(Message::tombstone("brief"), 34),
        ],
    );
    let daemon = Daemon::start(&config_with(
        "librdkafka",
        broker,
        &[&topic],
        "start = \"snapshot\"",
    ));
    block_on(async {
        let lines = async |query: String| {
            let mut stream = Stream::open(daemon.url(&format!("/events{query}"))).await;
            let events = stream.collect_until(named("caught-up"), secs(30)).await;
            events.iter().map(line).collect::<Vec<_>>()
        };
        let deletes = [r#"delete {"key":"gone"}"#, r#"delete {"key":"brief"}"#];
        let caught_up = r#"caught-up {"reason":"replay"}"#;
        assert_eq!(
            lines(format!("?since={}", start + 30 * MINUTE)).await,
            ["message 2", deletes[0], deletes[1], caught_up]
        );
        assert_eq!(
            lines(format!("?since={}", start + 33 * MINUTE)).await,
            [deletes[0], deletes[1], caught_up]
        );
        assert_eq!(lines("?since=0s".to_owned()).await, [caught_up]);
        assert_eq!(
            lines(String::new()).await,
            ["message 1", "message 2", r#"caught-up {"reason":"snapshot"}"#]
        );
    });
}

/// The numbers in these records, and how often each is there.
fn shown(events: &[Event]) -> Vec<(u64, usize)> {
    let mut numbers: BTreeMap<u64, usize> = BTreeMap::new();
    for event in events.iter().filter(|event| event.is("message")) {
        let data = event.json();
        let value = data.get("value").unwrap_or(&data);
        *numbers.entry(value["n"].as_u64().expect("a number")).or_default() += 1;
    }
    numbers.into_iter().collect::<Vec<_>>()
}

fn a_filter_in_the_url_selects_records(broker: &Broker) {
    let topics = [topic_name("left"), topic_name("right")];
    for topic in &topics {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    let place = |city: &str, number: usize| format!("{{\"address\":{{\"city\":\"{city}\"}},\"n\":{number}}}");
    let write = |first: usize| {
        for topic in &topics {
            for partition in 0..PARTITIONS {
                let message = |number: usize| {
                    let city = if number.is_multiple_of(2) {
                        "São Paulo"
                    } else {
                        "Rome"
                    };
                    Message::new(format!("k{number}"), place(city, number))
                        .partition(partition)
                        .header(
                            "type",
                            if number.is_multiple_of(3) {
                                "created"
                            } else {
                                "changed"
                            },
                        )
                };
                broker.produce(topic, &(first..first + 6).map(message).collect::<Vec<_>>());
            }
        }
    };
    write(0);
    let one = "start = \"earliest\"\nformat = \"envelope\"\ncheckpoint_interval = \"1s\"";
    let more = format!(
        "[[stream]]\npath = \"/fixed\"\ntopics = {topics:?}\nstart = \"earliest\"\n\
         filter = {{ \"header.type\" = [\"created\"] }}\n\
         [[stream]]\npath = \"/closed\"\ntopics = {topics:?}\nclient_filters = false\n"
    );
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&format!("{}{more}", config(broker, &names, one)));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let left = &topics[0];
        for (query, wanted) in [
            ("key=k1&key=k4".to_owned(), vec![(1, 4), (4, 4)]),
            ("key=k1&partition=0".to_owned(), vec![(1, 2)]),
            (format!("key=k1&partition=1&topic={left}"), vec![(1, 1)]),
            ("header.type=created".to_owned(), vec![(0, 4), (3, 4)]),
            (
                "value.address.city=S%C3%A3o+Paulo&header.type=created".to_owned(),
                vec![(0, 4)],
            ),
            (
                "value.n=5&value.n=0&value%2Eaddress.city=Rome".to_owned(),
                vec![(5, 4)],
            ),
            ("value.address.city=Rome&start=live".to_owned(), vec![]),
        ] {
            let mut stream = Stream::open(daemon.url(&format!("/events?{query}"))).await;
            let events = stream.collect_until(named("caught-up"), secs(30)).await;
            assert_eq!(shown(&events), wanted, "{query}");
        }
        let mut fixed = Stream::open(daemon.url("/fixed?key=k3&key=k4")).await;
        assert_eq!(
            shown(&fixed.collect_until(named("caught-up"), secs(30)).await),
            [(3, 4)]
        );
        // Live, for several readers with different filters, and a checkpoint for a reader without records.
        let mut rome = Stream::open(daemon.url("/events?start=live&value.address.city=Rome")).await;
        let mut nobody = Stream::open(daemon.url("/events?start=live&key=nobody")).await;
        rome.collect_until(named("caught-up"), secs(30)).await;
        nobody.collect_until(named("caught-up"), secs(30)).await;
        write(6);
        let live = rome.collect_until(until_records(12), secs(30)).await;
        assert_eq!(shown(&live), [(7, 4), (9, 4), (11, 4)]);
        let mut id = String::new();
        let end = TopicPosition {
            next: vec![12; 2],
            ..TopicPosition::unread("")
        }
        .next;
        while Position::parse(id.as_bytes())
            .map_or(true, |at| at.topics.iter().any(|topic| topic.next != end))
        {
            let event = nobody.next(secs(30)).await;
            assert_eq!(line(&event), "checkpoint {}");
            id = event.id;
        }
        let back = Stream::to(daemon.url("/events")).last_event_id(&id).send().await;
        let events = back
            .expect("it opens")
            .collect_until(named("caught-up"), secs(30))
            .await;
        assert_eq!(events.len(), 1, "nothing is read again");
    });
    refuses_filters(&daemon);
}

fn refuses_filters(daemon: &Daemon) {
    block_on(async {
        for (path, status, code) in [
            ("/closed?key=k1".to_owned(), 403, "filters_forbidden"),
            ("/closed?keys=k1".to_owned(), 400, "unknown_parameter"),
            ("/events?Key=k1".to_owned(), 400, "unknown_parameter"),
            ("/events?value=k1".to_owned(), 400, "unknown_parameter"),
            ("/events?value..a=k1".to_owned(), 400, "bad_filter"),
            ("/events?header.=k1".to_owned(), 400, "bad_filter"),
            ("/events?partition=x".to_owned(), 400, "bad_filter"),
            ("/events?topic=other".to_owned(), 400, "bad_filter"),
            (
                format!(
                    "/events?{}",
                    (0..17).map(|n| format!("key={n}")).collect::<Vec<_>>().join("&")
                ),
                400,
                "bad_filter",
            ),
            (format!("/events?key={}", "x".repeat(2048)), 400, "bad_filter"),
        ] {
            let answer = daemon.get(&path).await;
            assert_eq!(
                (answer.status, &answer.json()["error"]["code"]),
                (status, &code.into()),
                "{path}"
            );
        }
        let closed = Stream::open(daemon.url("/closed?start=earliest")).await;
        assert_eq!(closed.status, 200, "without a filter it is open");
    });
}

fn requests_unsupported_by_the_kafka_crate_are_refused_with_a_remedy(broker: &Broker) {
    let topic = topic_name("crate");
    broker.create_topic(&topic, PARTITIONS, &[]);
    spread(broker, &topic, now() - 100 * MINUTE);
    let daemon = Daemon::start(&config_with("kafka", broker, &[&topic], "start = \"earliest\""));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        for (query, code) in [("since=15m", "bad_since"), ("header.type=x", "bad_filter")] {
            let answer = daemon.get(&format!("/events?{query}")).await;
            assert_eq!(
                (answer.status, &answer.json()["error"]["code"]),
                (400, &code.into())
            );
            let message = answer.json()["error"]["message"].to_string();
            assert!(message.contains(r#"client = \"librdkafka\""#), "{message}");
        }
        // An id is never an HTTP error: an unusable one causes a reset.
        let id = format!(r#"[{{"topic":"{topic}","partition":0,"timestamp":5}}]"#);
        let stream = Stream::to(daemon.url("/events")).last_event_id(&id).send().await;
        let events = stream
            .expect("it opens")
            .collect_until(named("caught-up"), secs(30))
            .await;
        assert_eq!(line(&events[0]), r#"reset {"reason":"unknown-id"}"#);
        assert_eq!(records(&events).len(), 20);
        // Keys, values and partitions it knows.
        let mut stream = Stream::open(daemon.url("/events?partition=1")).await;
        let events = stream.collect_until(named("caught-up"), secs(30)).await;
        assert_eq!(records(&events), expected(1, 10));
    });
}
