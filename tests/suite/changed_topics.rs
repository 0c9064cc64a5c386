//! Topics that are not what they were, on real brokers: shorter than an id says, deleted and recreated,
//! or rid of records before the daemon could read them.

use crate::common::{config, config_with, expected, named, numbered, of_partition, records, until_records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::trial;
use crate::harness::wait::{block_on, secs};
use crate::rig::line;
use crate::trials;
use kafka_sse_bridge::stream::position::{Position, TopicPosition};
use libtest_mimic::Trial;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![added_partitions_are_logged_once];
    for client in ["librdkafka", "kafka"] {
        let version = if client == "kafka" {
            Version::V3_9
        } else {
            Version::V4_4
        };
        trials.push(trial(
            format!("an_id_ahead_of_its_topic_resets_once_kafka_confirms_the_end_with_{client}@{version}"),
            move || ahead_of_topic(version, client),
        ));
        for (size, records) in [("smaller", 6), ("larger", 100)] {
            trials.push(trial(
                format!("a_recreated_{size}_topic_resets_every_client_with_{client}@{version}"),
                move || recreated(&Broker::shared(version), client, records),
            ));
        }
        trials.push(trial(
            format!(
                "a_topic_recreated_twice_within_seconds_leaves_the_last_ones_records_with_{client}@{version}"
            ),
            move || recreated_twice(&Broker::shared(version), client),
        ));
        trials.push(trial(
            format!("retention_ahead_of_the_daemon_is_one_gap_for_every_client_with_{client}@{version}"),
            move || overtaken(&Broker::shared(version), client),
        ));
    }
    trials
}

fn added_partitions_are_logged_once() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("grows");
    broker.create_topic(&topic, 1, &[]);
    let daemon = Daemon::start(&config(&broker, &[&topic], "start = \"earliest\""));
    block_on(daemon.wait_ready(secs(30)));
    for (before, after) in [(1, 3), (3, 4)] {
        broker.add_partitions(&topic, after);
        let line = format!(
            "topic {topic:?} has {after} partitions now, {} more than before",
            after - before
        );
        daemon.wait_log(&line, secs(30));
    }
    let log = daemon.log();
    assert_eq!(log.matches("more than before").count(), 2, "{log}");
}

const PARTITIONS: i32 = 2;

/// The id that names these next offsets of one topic.
fn id(topic: &str, next: &[i64]) -> String {
    let topics = vec![TopicPosition {
        next: next.to_vec(),
        ..TopicPosition::unread(topic)
    }];
    String::from_utf8(Position { as_of: None, topics }.id()).expect("ASCII")
}

fn ahead_of_topic(version: Version, client: &str) {
    let broker = Broker::start(version);
    let (topic, other) = (topic_name("ahead"), topic_name("beside"));
    for topic in [&topic, &other] {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    for partition in 0..PARTITIONS {
        broker.produce(&topic, &numbered(partition, 0, 10));
        let beside = numbered(partition + 2, 0, 10).into_iter();
        let beside: Vec<Message> = beside.map(|message| message.partition(partition)).collect();
        broker.produce(&other, &beside);
    }
    let config = config_with(client, &broker, &[&topic, &other], "start = \"earliest\"");
    let daemon = Daemon::start(&config.replacen("[http]", "[http]\nkeepalive = \"1s\"", 1));
    let ahead = format!(r#"reset {{"reason":"ahead-of-topic","topic":"{topic}"}}"#);
    // Ahead in one partition of the first topic; half-way in the second.
    let mut position = Position::parse(id(&topic, &[5, 50]).as_bytes()).unwrap();
    position.topics.push(TopicPosition {
        next: vec![7, 7],
        ..TopicPosition::unread(&other)
    });
    let id = String::from_utf8(position.id()).unwrap();
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let check = |events: &[Event]| {
            assert_eq!(line(&events[0]), ahead);
            let resets = events.iter().filter(|event| event.is("reset"));
            assert_eq!(resets.count(), 1);
            let shown = records(events);
            for partition in 0..PARTITIONS {
                assert_eq!(
                    of_partition(&shown, partition),
                    expected(partition, 10),
                    "from its beginning"
                );
                let beside = of_partition(&shown, partition + 2);
                assert_eq!(beside, expected(partition + 2, 10)[7..], "where it was");
            }
        };
        let mut stream = Stream::to(daemon.url("/events"))
            .last_event_id(&id)
            .send()
            .await
            .expect("it opens");
        let events = stream.collect_until(named("caught-up"), secs(30)).await;
        check(&events);
        // An id of KafkaSSE is held against the ends as well.
        let place = |topic: &str, partition, offset| {
            format!(r#"{{"topic":"{topic}","partition":{partition},"offset":{offset}}}"#)
        };
        let places = [
            place(&topic, 0, 5),
            place(&topic, 1, 50),
            place(&other, 0, 7),
            place(&other, 1, 7),
        ];
        let mut like_kafka_sse = Stream::to(daemon.url("/events"))
            .last_event_id(&format!("[{}]", places.join(",")))
            .send()
            .await
            .expect("it opens");
        check(&like_kafka_sse.collect_until(named("caught-up"), secs(30)).await);
        // The client resumes from the id of the reset and of every later event.
        for cut in [1, 2, events.len() / 2, events.len() - 1] {
            let rest = resumed(&daemon, &events[cut - 1].id).await;
            let mut all = events[..cut].to_vec();
            all.extend(rest);
            check(&all);
        }
        // Only Kafka can say: until it does, the client is kept waiting.
        broker.freeze();
        let waits = Stream::to(daemon.url("/events")).last_event_id(&id).send().await;
        let mut waits = waits.expect("an outage never fails a connection");
        for _ in 0..3 {
            waits.next_comment(secs(20)).await.expect("comments keep it open");
        }
        assert!(matches!(
            waits.try_next(Duration::from_millis(1)).await,
            Err(NoEvent::Timeout)
        ));
        broker.thaw();
        check(&waits.collect_until(named("caught-up"), secs(180)).await);
    });
}

/// The events up to `caught-up` that a client gets which resumes with that id.
async fn resumed(daemon: &Daemon, id: &str) -> Vec<Event> {
    let client = Stream::to(daemon.url("/events")).last_event_id(id).send().await;
    let mut client = client.expect("it opens");
    client.collect_until(named("caught-up"), secs(30)).await
}

/// `count` records are in the new topic before anybody can have noticed that it is another.
fn recreated(broker: &Broker, client: &str, count: usize) {
    let (topic, other) = (topic_name("recreated"), topic_name("beside"));
    for topic in [&topic, &other] {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    let keyed = |prefix: &str, count: usize| -> Vec<Message> {
        let message =
            |number: usize| Message::new(format!("{prefix}{number}"), format!("\"{prefix}{number}\""));
        (0..count).map(message).collect()
    };
    broker.produce(&topic, &keyed("old", 40));
    broker.produce(&other, &keyed("beside", 5));
    let table = format!(
        "[[stream]]\npath = \"/table\"\ntopics = {:?}\nstart = \"snapshot\"\n",
        [&topic, &other]
    );
    let config = config_with(client, broker, &[&topic, &other], "start = \"earliest\"");
    let daemon = Daemon::start(&format!("{config}{table}"));
    let reset = format!(r#"reset {{"reason":"recreated","topic":"{topic}"}}"#);
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut streams = Vec::new();
        for path in ["/events", "/events?topic=", "/table"] {
            let url = match path.strip_suffix('=') {
                Some(path) => format!("{path}={topic}"),
                None => path.to_owned(),
            };
            let mut stream = Stream::open(daemon.url(&url)).await;
            let events = stream.collect_until(named("caught-up"), secs(30)).await;
            let id = events.last().expect("caught-up").id.clone();
            streams.push((stream, id));
        }
        let mut apart = Stream::open(daemon.url(&format!("/events?topic={other}"))).await;
        apart.collect_until(named("caught-up"), secs(30)).await;
        broker.delete_topic(&topic);
        broker.create_topic(&topic, PARTITIONS, &[]);
        broker.produce(&topic, &keyed("new", count));
        let mut new: Vec<String> = (0..count).map(|number| format!("\"new{number}\"")).collect();
        new.sort();
        let sorted = |events: &[Event]| {
            let mut shown = records(events);
            shown.sort();
            shown
        };
        let mut resets = Vec::new();
        for (stream, _) in &mut streams {
            // Where the old offsets exist in the new topic too, its records may come by them before that.
            let mut events = stream.collect_until(named("reset"), secs(90)).await;
            let last = events.pop().expect("a reset");
            assert_eq!(line(&last), reset);
            assert!(records(&events).iter().all(|value| new.contains(value)));
            let mut events = vec![last];
            events.extend(stream.collect_until(until_records(count), secs(90)).await);
            assert_eq!(events.iter().filter(|event| event.is("reset")).count(), 1);
            assert_eq!(sorted(&events), new, "from the new beginning, each once");
            resets.push(events[0].id.clone());
        }
        // The id from before, and the reset's own, both lead to the new records, and no other.
        for (path, index) in [("/events", 0), ("/table", 2)] {
            for id in [&streams[index].1, &resets[index]] {
                let back = Stream::to(daemon.url(path))
                    .last_event_id(id)
                    .send()
                    .await
                    .expect("it opens");
                let mut back = back;
                let events = back.collect_until(named("caught-up"), secs(30)).await;
                assert_eq!(sorted(&events), new, "{path} {:?}", events[0]);
                let is_reset = events.iter().any(|event| event.is("reset"));
                assert_eq!(is_reset, *id == streams[index].1, "{path}: {:?}", events[0]);
            }
        }
        let mut fresh = Stream::open(daemon.url("/table")).await;
        let rows = records(&fresh.collect_until(named("caught-up"), secs(30)).await);
        assert!(
            rows.iter().all(|row| !row.contains("old")),
            "old rows are gone: {rows:?}"
        );
        assert_eq!(rows.len(), 5 + count);
        broker.produce(&other, &keyed("beside", 1));
        let events = apart.collect_until(until_records(1), secs(30)).await;
        assert_eq!(
            events.len(),
            1,
            "a client filtered by another topic gets none of it: {events:?}"
        );
    });
}

/// The second recreation comes while the daemon is still about to notice the first. It tells of one or of both, but after
/// the last `reset` every client has the records of the last topic, each once, and none of the two before.
fn recreated_twice(broker: &Broker, client: &str) {
    let topic = topic_name("recreated-twice");
    let records_of = |name: &str, count: usize| -> Vec<Message> {
        let message = |number: usize| Message::new(format!("{name}{number}"), format!("\"{name}{number}\""));
        (0..count).map(message).collect()
    };
    broker.create_topic(&topic, PARTITIONS, &[]);
    broker.produce(&topic, &records_of("first", 20));
    let table = format!("[[stream]]\npath = \"/table\"\ntopics = [{topic:?}]\nstart = \"snapshot\"\n");
    let config = config_with(client, broker, &[&topic], "start = \"earliest\"");
    let daemon = Daemon::start(&format!("{config}{table}"));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut streams = Vec::new();
        for path in ["/events", "/table"] {
            let mut stream = Stream::open(daemon.url(path)).await;
            let events = stream.collect_until(named("caught-up"), secs(30)).await;
            streams.push((path, stream, events.last().expect("caught-up").id.clone()));
        }
        // More, then fewer than were read: by offsets alone neither recreation is certain.
        for (name, count) in [("second", 60), ("third", 10)] {
            broker.delete_topic(&topic);
            broker.create_topic(&topic, PARTITIONS, &[]);
            broker.produce(&topic, &records_of(name, count));
        }
        let mut third: Vec<String> = (0..10).map(|number| format!("\"third{number}\"")).collect();
        third.sort();
        for (path, stream, id) in &mut streams {
            let (mut since, mut resets) = (Vec::new(), 0);
            let is_whole = |event: &Event| {
                if event.is("reset") {
                    resets += 1;
                    since.clear();
                } else if event.is("") || event.is("message") {
                    since.push(event.data.clone());
                    since.sort();
                }
                resets > 0 && since == third
            };
            let events = stream.collect_until(is_whole, secs(90)).await;
            let last = events
                .iter()
                .rposition(|event| event.is("reset"))
                .expect("a reset");
            assert!((1..=2).contains(&resets), "{path}: {resets} resets");
            assert!(
                records(&events).iter().all(|value| !value.contains("first")),
                "{path}: nothing is sent again"
            );
            // Who was away meanwhile ends with the same.
            for id in [&*id, &events[last].id] {
                let mut back = Stream::to(daemon.url(path))
                    .last_event_id(id)
                    .send()
                    .await
                    .expect("it opens");
                let events = back.collect_until(named("caught-up"), secs(30)).await;
                let mut shown = records(&events);
                shown.sort();
                assert_eq!(shown, third, "{path} {:?}", events[0]);
            }
        }
    });
}

fn overtaken(broker: &Broker, client: &str) {
    let topic = topic_name("overtaken");
    broker.create_topic(&topic, PARTITIONS, &[]);
    for partition in 0..PARTITIONS {
        broker.produce(&topic, &numbered(partition, 0, 5));
    }
    let daemon = Daemon::start(&config_with(client, broker, &[&topic], "start = \"earliest\""));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut streams = Vec::new();
        for query in ["", "", "?partition=1"] {
            let mut stream = Stream::open(daemon.url(&format!("/events{query}"))).await;
            let events = stream.collect_until(named("caught-up"), secs(30)).await;
            streams.push((stream, events));
        }
        // Records that the broker had sent are still read; the rest is gone when the daemon wakes.
        daemon.signal(Signal::STOP);
        for partition in 0..PARTITIONS {
            broker.produce(&topic, &numbered(partition, 5, 3));
            for first in 0..20 {
                broker.produce(&topic, &numbered(partition, 8 + first * 10, 10));
            }
            broker.delete_records(&topic, partition, 200);
        }
        daemon.signal(Signal::CONT);
        let mut gaps_by_client = Vec::new();
        for (number, (stream, events)) in streams.iter_mut().enumerate() {
            let partitions: Vec<i32> = (0..PARTITIONS)
                .filter(|partition| number < 2 || *partition == 1)
                .collect();
            let mut left = partitions.clone();
            let is_last = |event: &Event| {
                left.retain(|partition| event.data != format!("p{partition}-207"));
                left.is_empty()
            };
            events.extend(stream.collect_until(is_last, secs(90)).await);
            assert!(
                events.iter().all(|event| !event.is("reset")),
                "nothing else happened"
            );
            for &partition in &partitions {
                let of_this = |event: &&Event| {
                    event.data.starts_with(&format!("p{partition}-"))
                        || (event.is("gap") && event.json()["partition"] == partition)
                };
                let mut next = 0;
                let mut gaps = 0;
                for event in events.iter().filter(of_this) {
                    if event.is("gap") {
                        let gap = event.json();
                        assert_eq!(gap["from"], next, "the gap begins behind what was read");
                        assert_eq!((&gap["to"], &gap["reason"]), (&200.into(), &"expired".into()));
                        next = 200;
                        gaps += 1;
                    } else {
                        assert_eq!(event.data, format!("p{partition}-{next}"));
                        next += 1;
                    }
                }
                assert_eq!((gaps, next), (1, 208), "partition {partition}");
            }
            let gaps = events.iter().filter(|event| event.is("gap"));
            gaps_by_client.push(
                gaps.map(line)
                    .filter(|gap| gap.contains("\"partition\":1"))
                    .collect::<Vec<_>>(),
            );
        }
        assert!(
            gaps_by_client.iter().all(|gaps| *gaps == gaps_by_client[0]),
            "all get the same: {gaps_by_client:?}"
        );
        // The client resumes after each gap from the gap's id.
        let events = &streams[0].1;
        for (place, gap) in events.iter().enumerate().filter(|(_, event)| event.is("gap")) {
            let rest = resumed(&daemon, &gap.id).await;
            let wanted: Vec<String> = events[place + 1..].iter().map(line).collect();
            let rest: Vec<String> = rest[..rest.len() - 1].iter().map(line).collect();
            assert_eq!(rest, wanted);
        }
    });
}
