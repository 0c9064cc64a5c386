//! Reloads of the connection to Kafka, and reloads while Kafka is unreachable: reading continues where it
//! stood, and nothing is lost or doubled.

use crate::common::{config_with, expected, is_record, named, numbered, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually, eventually_async, secs};
use crate::harness::{promise, promise_on, trial};
use crate::reload::{client, is_reset, reload, reloaded, topic, topic_of};
use crate::reload_streams::{Pen, Silent, bare, up_to};
use crate::rig;
use kafka_sse_bridge::kafka::history::Archive;
use kafka_sse_bridge::kafka::record::Feed;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::Step;
use kafka_sse_bridge::stream::writer::Writer;
use libtest_mimic::Trial;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Instant;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        promise(two_reloads_during_a_kafka_freeze_reset_each_stream_once),
        promise(reloads_during_an_outage_apply_and_load_afterwards),
        promise(an_unanswered_request_is_sent_to_another_broker),
        promise(a_reload_replaces_a_frozen_broker),
        promise_on(
            Version::V3_9,
            a_reload_replaces_a_frozen_broker_with_the_kafka_crate,
        ),
    ];
    for (version, from, to) in [
        (
            Version::V4_4,
            "librdkafka",
            "librdkafka\"\nlibrdkafka = { \"fetch.wait.max.ms\" = \"50\" } # \"",
        ),
        (Version::V3_9, "kafka", "librdkafka"),
        (Version::V3_9, "librdkafka", "kafka"),
    ] {
        let what = if to.contains('"') { "options" } else { to };
        trials.push(trial(
            format!("kafka_changes_from_{from}_to_{what}_without_a_loss@{version}"),
            move || kafka_changes(version, from, to),
        ));
    }
    trials
}

async fn is_loading(daemon: &Daemon, paths: &[&str]) -> Result<(), String> {
    let ready = daemon.get("/health/ready").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    ensure(ready.json()["loading"] == serde_json::json!(paths), ready.text())
}

fn two_reloads_during_a_kafka_freeze_reset_each_stream_once() {
    let broker = Broker::start(Version::V4_4);
    let (_, text) = topic_of(&broker, 10, "start = \"earliest\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        // Readiness was not requested before the change.
        let mut stream = client(&daemon, "/events").await;
        broker.freeze();
        for name in ["x", "y"] {
            reloaded(
                &daemon,
                &format!("{text}event = \"{name}\"\n"),
                "stream \"/events\": event",
            );
        }
        is_loading(&daemon, &["/events"]).await.expect("it is named");
        broker.thaw();
        let events = stream.collect_until(|event| event.data == "p0-9", secs(60)).await;
        assert!(is_reset(&events[0]), "{events:?}");
        assert_eq!(events.len(), 11, "one reset, then everything: {events:?}");
        assert!(events[1..].iter().all(|event| event.name == "y"), "{events:?}");
        eventually_async(secs(30), "it has loaded", async || is_loading(&daemon, &[]).await).await;
    });
}

fn reloads_during_an_outage_apply_and_load_afterwards() {
    let broker = Broker::start(Version::V4_4);
    let (topic, text) = topic_of(&broker, 10, "start = \"earliest\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        broker.kill9();
        let more =
            format!("{text}[[stream]]\npath = \"/more\"\ntopics = [\"{topic}\"]\nstart = \"earliest\"\n");
        let changed = more.replacen(
            "[http]",
            "[kafka.librdkafka]\n\"fetch.wait.max.ms\" = \"50\"\n[http]",
            1,
        );
        reloaded(&daemon, &changed, "kafka.librdkafka, stream \"/more\" added");
        let mut more = Stream::open(daemon.url("/more")).await;
        is_loading(&daemon, &["/more"]).await.expect("it is named");
        broker.restart();
        broker.produce(&topic, &numbered(0, 10, 1));
        let (_, all) = up_to(&mut more, 10).await;
        assert_eq!(all, expected(0, 11));
        assert_eq!(stream.next(secs(60)).await.data, "p0-10", "and nothing before it");
    });
}

fn a_reload_replaces_a_frozen_broker() {
    let (broker, topic, text) = topic(10, "start = \"earliest\"");
    let (broker, frozen) = (broker, Broker::start(Version::V4_4));
    frozen.create_topic(&topic, 1, &[]);
    frozen.produce(&topic, &numbered(0, 0, 10));
    let before = text.replace(&broker.bootstrap(), &frozen.bootstrap());
    let daemon = Daemon::start(&before);
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        frozen.freeze();
        // It waits for an answer that the frozen one will not give.
        let mut asking = Stream::open(daemon.url("/events?since=1h")).await;
        reloaded(&daemon, &text, "kafka.brokers");
        broker.produce(&topic, &numbered(0, 10, 1));
        is_another(&mut stream, 11).await;
        // Records of the old one may come before it, or only those of the new one after it.
        let (events, _) = up_to(&mut asking, 10).await;
        let from = events.iter().rposition(|event| event.is("reset")).unwrap_or(0);
        assert_eq!(records(&events[from..]), expected(0, 11));
    });
}

/// A topic of another cluster has another id: the stream is reset, with so many records.
async fn is_another(stream: &mut Stream, count: usize) {
    let last = format!("p0-{}", count - 1);
    let mut events = stream.collect_until(named("reset"), secs(120)).await;
    assert_eq!(events.len(), 1, "nothing before it: {events:?}");
    assert_eq!(events.pop().expect("it").json()["reason"], "recreated");
    let events = stream.collect_until(|event| event.data == last, secs(60)).await;
    assert_eq!(records(&events), expected(0, count), "all of it, once");
}

/// The crate waits for its broker for two minutes; the one that reads does not.
fn a_reload_replaces_a_frozen_broker_with_the_kafka_crate() {
    let [frozen, broker] = [(); 2].map(|()| Broker::start(Version::V3_9));
    let topic = topic_name("left");
    for broker in [&frozen, &broker] {
        broker.create_topic(&topic, 1, &[]);
        broker.produce(&topic, &numbered(0, 0, 10));
    }
    let [before, after] =
        [&frozen, &broker].map(|broker| config_with("kafka", broker, &[&topic], "start = \"earliest\""));
    let daemon = Daemon::start(&before);
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        frozen.freeze();
        // It is in the middle of a fetch when the broker freezes, or begins one then.
        assert!(reload(&daemon, &after).starts_with("reloaded: kafka.brokers"));
        broker.produce(&topic, &numbered(0, 10, 1));
        is_another(&mut stream, 11).await;
        // The abandoned broker recovers, without an event.
        frozen.thaw();
        frozen.produce(&topic, &numbered(0, 100, 5));
        broker.produce(&topic, &numbered(0, 11, 1));
        assert_eq!(stream.next(secs(30)).await.data, "p0-11");
    });
}

fn kafka_changes(version: Version, from: &str, to: &str) {
    let broker = Broker::shared(version);
    let topic = topic_name("changes");
    broker.create_topic(&topic, 1, &[]);
    // More than the log holds.
    let pad = "x".repeat(5000);
    broker.produce(&topic, &vec![Message::value(pad.as_str()); 400]);
    let stream = "start = \"earliest\"\nlog_bytes = \"512KiB\"";
    let [before, after] = [from, to].map(|client| config_with(client, &broker, &[&topic], stream));
    let daemon = Daemon::start(&before);
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        let pen = Pen::start(&broker, &topic, 0);
        stream
            .collect_until(|event| event.data == "p0-19", secs(30))
            .await;
        let clients = || daemon.log().matches(": reading with ").count();
        let known = clients();
        assert!(reload(&daemon, &after).starts_with("reloaded: kafka."));
        eventually(secs(30), "another client reads", || {
            ensure(clients() > known, "it does not")
        });
        assert!(reload(&daemon, &before).starts_with("reloaded: kafka."));
        // One is half-way through a replay.
        let opening = Stream::to(daemon.url("/events")).receive_buffer(4096);
        let mut half = opening.send().await.expect("it opens");
        half.next(secs(30)).await;
        let mut events = Vec::new();
        for text in [&after, &before, &after, &after, &before, &after] {
            let said = reload(&daemon, text);
            assert!(said.starts_with("reloaded: "), "{said}");
            // Goes on.
            events.extend(stream.collect_until(is_record, secs(60)).await);
        }
        let count = pen.finish();
        let last = format!("p0-{}", count - 1);
        events.extend(stream.collect_until(|event| event.data == last, secs(60)).await);
        let data = records(&events);
        assert_eq!(
            data,
            expected(0, count)[20..],
            "everything, once, over the one connection"
        );
        assert_eq!(data.len(), events.len(), "and nothing else");
        let (_, shown) = up_to(&mut half, count - 1).await;
        assert_eq!(shown, expected(0, count));
        let mut replayed = Stream::open(daemon.url("/events")).await;
        let (events, shown) = up_to(&mut replayed, count - 1).await;
        assert_eq!(shown, expected(0, count), "replays work");
        assert_eq!(records(&events).len(), 400 + count);
    });
}

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn an_unanswered_request_is_sent_to_another_broker() {
    let (one, other) = (Arc::new(Silent::default()), Arc::new(Silent::default()));
    let stream = bare(&one);
    let mut writer = Writer::new(Arc::clone(&stream));
    writer.take(&rig::assigned("t", &[0]));
    writer.take(&Feed::Loaded { topic: "t".into() });
    let since = || Opening {
        since: Some(1),
        ..Opening::default()
    };
    let now = Instant::now();
    let mut readers = [stream.subscribe(since()), stream.subscribe(since())];
    let bells = [(); 2].map(|()| Arc::new(Bell::default()));
    for (reader, bell) in readers.iter_mut().zip(&bells) {
        assert!(matches!(reader.step(now), Step::Send(_)), "the prelude");
        assert!(matches!(reader.step(now), Step::Wait(_)));
        assert!(reader.wait(&Waker::from(Arc::clone(bell))));
    }
    let asked = one.take();
    assert_eq!(asked.len(), 1, "both wait for one answer");
    stream.set_archive(Arc::clone(&other) as Arc<dyn Archive>);
    for (reader, bell) in readers.iter_mut().zip(&bells) {
        assert!(bell.0.swap(false, Ordering::SeqCst), "another archive wakes it");
        assert!(
            matches!(reader.step(now), Step::Wait(_)),
            "and still waits for the one"
        );
        assert!(reader.wait(&Waker::from(Arc::clone(bell))));
    }
    drop(asked);
    for (reader, bell) in readers.iter_mut().zip(&bells) {
        assert!(bell.0.load(Ordering::SeqCst), "the missing answer wakes it");
        assert!(matches!(reader.step(now), Step::Wait(_)));
    }
    let mut asked = other.take();
    assert_eq!(asked.len(), 1, "both ask the other");
    (asked.remove(0).reply)(Ok(vec![vec![Some(0)]]));
    for reader in &mut readers {
        let Step::Send(bytes) = reader.step(now) else {
            panic!("it has begun")
        };
        assert!(String::from_utf8_lossy(&bytes).contains("caught-up"));
    }
}
