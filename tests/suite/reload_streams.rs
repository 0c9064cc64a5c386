//! Reloads and streams: no stream that still exists is closed, no record is lost or repeated, and a rebuilt stream
//! resets its clients.

use crate::common::{config, expected, named, numbered, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::reload::{client, is_reset, reload, reloaded, says_goodbye, topic, with_http};
use crate::rig;
use crate::trials;
use kafka_sse_bridge::kafka::history::{Archive, Busy, OffsetLookup, ReplayRequest, ReplaySlot};
use kafka_sse_bridge::stream::Stream as Served;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::Step;
use libtest_mimic::Trial;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

pub fn trials() -> Vec<Trial> {
    trials![
        an_added_stream_loads_completely_beside_the_others,
        a_removed_stream_sends_goodbye_and_is_gone,
        a_rebuilt_stream_resets_its_clients_and_starts_over,
        a_tightened_filter_applies_to_live_records_and_the_table,
        a_client_that_filters_by_a_removed_topic_waits_for_its_return,
        a_live_client_misses_nothing_while_its_stream_is_rebuilt,
        a_client_inside_the_snapshot_is_reset_when_its_stream_is_rebuilt,
        a_blocked_client_keeps_its_own_stream_and_no_later_one_in_memory,
    ]
}

/// Writes numbered records until it is stopped, and returns their number.
pub struct Pen {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Pen {
    pub fn start(broker: &Arc<Broker>, topic: &str, first: usize) -> Pen {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, broker, topic) = (Arc::clone(&stop), Arc::clone(broker), topic.to_owned());
        let thread = thread::spawn(move || {
            let mut next = first;
            while !stopped.load(Ordering::Relaxed) {
                broker.produce(&topic, &numbered(0, next, 20));
                next += 20;
            }
            next
        });
        Pen { stop, thread }
    }

    pub fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it wrote")
    }
}

/// The events of a client up to the record with that number, and the records among them.
pub async fn up_to(stream: &mut Stream, number: usize) -> (Vec<Event>, Vec<String>) {
    let last = format!("p0-{number}");
    let events = stream.collect_until(|event| event.data == last, secs(60)).await;
    let data = events
        .iter()
        .filter(|event| event.data.starts_with("p0-"))
        .map(|event| event.data.clone())
        .collect();
    (events, data)
}

fn an_added_stream_loads_completely_beside_the_others() {
    let (broker, topic, text) = topic(500, "start = \"earliest\"");
    let daemon = Daemon::start(&text);
    let second = topic_name("second");
    broker.create_topic(&second, 1, &[]);
    let pen = Pen::start(&broker, &topic, 500);
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream.collect_until(named("caught-up"), secs(30)).await;
        let more = format!(
            "{text}[[stream]]\npath = \"/more\"\ntopics = [\"{topic}\", \"{second}\"]\nstart = \"earliest\"\n\
             [[stream]]\npath = \"/live\"\ntopics = [\"{topic}\"]\n"
        );
        assert_eq!(daemon.get("/more").await.status, 404);
        reloaded(&daemon, &more, "stream \"/more\" added, stream \"/live\" added");
        let mut fresh = Stream::open(daemon.url("/more")).await;
        let mut following = client(&daemon, "/live").await;
        let begins = following.next(secs(30)).await.data;
        let count = pen.finish();
        let (_, whole) = up_to(&mut fresh, count - 1).await;
        assert_eq!(whole, expected(0, count), "loaded whole");
        let (_, rest) = up_to(&mut following, count - 1).await;
        let first = expected(0, count)
            .iter()
            .position(|record| *record == begins)
            .expect("a record");
        assert_eq!(rest, expected(0, count)[first + 1..], "and continues");
        broker.produce(&topic, &numbered(0, count, 1));
        // The one that was there before has had neither a gap nor a double, on its first connection.
        let mut shown = Stream::open(daemon.url("/events")).await;
        let (_, all) = up_to(&mut shown, count).await;
        assert_eq!(all, expected(0, count + 1));
        let (events, rest) = up_to(&mut stream, count).await;
        assert_eq!(rest, expected(0, count + 1)[count + 1 - rest.len()..]);
        assert_eq!(events.len(), rest.len(), "nothing but records: {events:?}");
    });
}

fn a_removed_stream_sends_goodbye_and_is_gone() {
    let (broker, topic, text) = topic(1, "start = \"earliest\"");
    let other = topic_name("nothing-yet");
    let two = format!(
        "{text}[[stream]]\npath = \"/gone\"\ntopics = [\"{topic}\", \"{other}\"]\nstart = \"earliest\"\n"
    );
    let daemon = Daemon::start(&two);
    block_on(async {
        let mut stays = client(&daemon, "/events").await;
        let mut goes = client(&daemon, "/gone").await;
        let id = goes.last_event_id().to_owned();
        reloaded(&daemon, &text, "stream \"/gone\" removed");
        let (events, end) = goes.collect_to_end(secs(20)).await;
        says_goodbye(&events, &end, "stream-removed");
        assert_eq!(events[0].id, id, "with the client's place");
        let gone = daemon.get("/gone").await;
        assert_eq!(gone.status, 404, "{}", gone.text());
        daemon.wait_log(
            &format!("topic {other:?}: this thread reads it no more"),
            secs(30),
        );
        let ready = daemon.get("/health/ready").await;
        assert!(!ready.text().contains(&other), "{}", ready.text());
        broker.produce(&topic, &[Message::value("more")]);
        assert_eq!(stays.next(secs(20)).await.data, "more");

        reloaded(&daemon, &two, "stream \"/gone\" added");
        let mut back = Stream::to(daemon.url("/gone"))
            .last_event_id(&id)
            .send()
            .await
            .expect("it opens");
        assert_eq!(
            back.next(secs(20)).await.data,
            "more",
            "its ids still mean something"
        );
    });
}

/// A key and a number of the value.
type Row = (usize, usize);

fn row((key, number): Row) -> Message {
    Message::new(format!("k{key}"), format!("{{\"n\":{number}}}"))
}

fn plain((_, number): &Row) -> String {
    format!("{{\"n\":{number}}}")
}

fn a_rebuilt_stream_resets_its_clients_and_starts_over() {
    let broker = Broker::shared(Version::V4_4);
    let (one, two) = (topic_name("one"), topic_name("two"));
    for topic in [&one, &two] {
        broker.create_topic(topic, 1, &[]);
    }
    let mut rows: Vec<Row> = vec![(0, 0), (1, 1), (2, 2)];
    broker.produce(&one, &rows.iter().copied().map(row).collect::<Vec<_>>());
    broker.produce(&two, &[row((9, 9))]);
    let text = config(&broker, &[&one], "start = \"earliest\"");
    let envelope = |(key, number): &Row| {
        format!("\"key\":\"k{key}\",\"headers\":{{}},\"value\":{{\"n\":{number}}},\"encoding\":\"json\"}}")
    };
    let with_key = |(key, number): &Row| format!("{{\"n\":{number},\"key\":\"k{key}\"}}");
    let all = |rows: &[Row], show: &dyn Fn(&Row) -> String| rows.iter().map(show).collect::<Vec<_>>();
    let daemon = Daemon::start(&text);
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        let topics = text.replace(&format!("[\"{one}\"]"), &format!("[\"{one}\", \"{two}\"]"));
        for (changed, key) in [
            (format!("{text}event = \"row\"\n"), "event"),
            (format!("{text}key_field = \"key\"\n"), "key_field"),
            (format!("{text}filter = {{ key = [\"k1\"] }}\n"), "filter"),
            (format!("{text}format = \"envelope\"\n"), "format"),
            (topics, "topics"),
            (text.replace("earliest", "snapshot"), "start"),
        ] {
            let said = reload(&daemon, &changed);
            assert!(said.contains(&format!("stream \"/events\": {key}")), "{said}");
            let shown = match key {
                "key_field" => all(&rows, &with_key),
                "format" => all(&rows, &envelope),
                "filter" => {
                    let passing: Vec<Row> = rows.iter().filter(|(key, _)| *key == 1).copied().collect();
                    all(&passing, &plain)
                }
                "topics" => {
                    let both: Vec<Row> = rows.iter().copied().chain([(9, 9)]).collect();
                    all(&both, &plain)
                }
                "start" => all(&[(0, 0), (2, 2), *rows.last().expect("rows")], &plain),
                _ => all(&rows, &plain),
            };
            let reset = stream.next(secs(30)).await;
            assert_eq!(
                (reset.name.as_str(), reset.data.as_str()),
                ("reset", "{\"reason\":\"reconfigured\"}")
            );
            assert!(
                reset.own_id,
                "a client cut off here resumes with the next records"
            );
            let mut rebuilt = Vec::new();
            while rebuilt.len() < shown.len() {
                rebuilt.push(stream.next(secs(30)).await);
            }
            let name = if key == "event" { "row" } else { "message" };
            assert!(rebuilt.iter().all(|event| event.name == name), "{rebuilt:?}");
            let mut left = shown.clone();
            for event in &rebuilt {
                // Topics have no order between them.
                let place = left
                    .iter()
                    .position(|wanted| event.data.ends_with(wanted.as_str()));
                let place = place.unwrap_or_else(|| panic!("{key}: {rebuilt:#?}, wanted {shown:#?}"));
                assert!(
                    place == 0 || key == "topics",
                    "{key}: {rebuilt:#?}, wanted {shown:#?}"
                );
                left.remove(place);
            }
            // Who comes now goes on just so, with the new stream's ids: nothing comes twice to the one
            // that stayed, nor a second caught-up.
            let mut fresh = client(&daemon, "/events").await;
            rows.push((1, 100 + rows.len()));
            broker.produce(&one, &[row(*rows.last().expect("rows"))]);
            let (here, there) = (stream.next(secs(20)).await, fresh.next(secs(20)).await);
            assert_eq!((&here.data, &here.name), (&there.data, &there.name), "{key}");
            if key != "start" {
                // Those of a table say when they were made.
                assert_eq!(here.id, there.id, "{key}");
            }
        }
    });
}

fn a_tightened_filter_applies_to_live_records_and_the_table() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("tightened");
    broker.create_topic(&topic, 1, &[]);
    let row = |key: &str, value: &str, public: &str| Message::new(key, value).header("public", public);
    broker.produce(&topic, &[row("a", "hidden-1", "no"), row("b", "shown-1", "yes")]);
    let text = config(&broker, &[&topic], "start = \"snapshot\"");
    let daemon = Daemon::start(&text);
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        let mut filtered = client(&daemon, "/events?key=a&key=c").await;
        let tight = format!("{text}filter = {{ \"header.public\" = [\"yes\"] }}\n");
        reloaded(&daemon, &tight, "stream \"/events\": filter");
        broker.produce(&topic, &[row("c", "hidden-2", "no"), row("c", "shown-2", "yes")]);
        for (stream, expected) in [
            (&mut stream, &["shown-1", "shown-2"][..]),
            (&mut filtered, &["shown-2"]),
        ] {
            let events = stream
                .collect_until(|event| event.data == "shown-2", secs(30))
                .await;
            assert!(is_reset(&events[0]), "{events:?}");
            assert_eq!(records(&events), expected);
        }
    });
}

fn a_client_that_filters_by_a_removed_topic_waits_for_its_return() {
    let broker = Broker::shared(Version::V4_4);
    let (stays, goes) = (topic_name("stays"), topic_name("goes"));
    for topic in [&stays, &goes] {
        broker.create_topic(topic, 1, &[]);
        broker.produce(topic, &[Message::value(topic.as_str())]);
    }
    let both = with_http(
        &config(&broker, &[&stays, &goes], "start = \"earliest\""),
        "keepalive = \"1s\"",
    );
    let one = both.replace(&format!(", \"{goes}\""), "");
    let daemon = Daemon::start(&both);
    block_on(async {
        let mut stream = client(&daemon, &format!("/events?topic={goes}")).await;
        reloaded(&daemon, &one, "stream \"/events\": topics");
        assert!(is_reset(&stream.next(secs(30)).await));
        stream.next_comment(secs(20)).await.expect("it stays open");
        broker.produce(&stays, &[Message::value("not for it")]);
        reloaded(&daemon, &both, "stream \"/events\": topics");
        assert!(is_reset(&stream.next(secs(30)).await));
        assert_eq!(stream.next(secs(30)).await.data, goes);
    });
}

fn a_live_client_misses_nothing_while_its_stream_is_rebuilt() {
    let (broker, topic, text) = topic(100, "");
    let other = topic_name("other");
    broker.create_topic(&other, 1, &[]);
    broker.produce(&other, &[Message::value("history")]);
    let both = text.replace(&format!("[\"{topic}\"]"), &format!("[\"{topic}\", \"{other}\"]"));
    let daemon = Daemon::start(&text);
    block_on(async {
        let mut stream = client(&daemon, "/events").await;
        let pen = Pen::start(&broker, &topic, 100);
        let mut events = Vec::new();
        for number in 0..5 {
            let name = format!("e{number}");
            reloaded(
                &daemon,
                &format!("{text}event = \"{name}\"\n"),
                "stream \"/events\": event",
            );
            events.extend(stream.collect_until(|event| event.name == name, secs(30)).await);
        }
        assert!(reload(&daemon, &both).starts_with("reloaded"));
        events.extend(stream.collect_until(is_reset, secs(30)).await);
        broker.produce(&other, &[Message::value("news")]);
        let mut missing = 2;
        let count = pen.finish();
        let last = format!("p0-{}", count - 1);
        let is_last = |event: &Event| {
            missing -= usize::from(event.data == last || event.data == "news");
            missing == 0
        };
        events.extend(stream.collect_until(is_last, secs(60)).await);
        let resets = events.iter().filter(|event| is_reset(event)).count();
        assert_eq!(resets, 6, "one for each time");
        let (written, others): (Vec<&Event>, Vec<&Event>) = events
            .iter()
            .filter(|event| !is_reset(event))
            .partition(|event| event.data.starts_with("p0-"));
        let data: Vec<&str> = written.iter().map(|event| event.data.as_str()).collect();
        assert_eq!(data, expected(0, count)[100..], "everything, once");
        let others: Vec<&str> = others.iter().map(|event| event.data.as_str()).collect();
        assert_eq!(
            others,
            ["news"],
            "a topic that is new to it begins with what is live"
        );
    });
}

fn a_client_inside_the_snapshot_is_reset_when_its_stream_is_rebuilt() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("half");
    broker.create_topic(&topic, 1, &[]);
    let pad = "x".repeat(10_000);
    let value = |number: usize| format!("{number} {pad}");
    let rows: Vec<Message> = (0..600)
        .map(|number| Message::new(format!("k{number}"), value(number)))
        .collect();
    broker.produce(&topic, &rows);
    // On its way through a table, and through a replay.
    let text = config(&broker, &[&topic], "start = \"snapshot\"");
    let text = format!(
        "{text}[[stream]]\npath = \"/all\"\ntopics = [\"{topic}\"]\nstart = \"earliest\"\nlog_bytes = \"512KiB\"\n"
    );
    let daemon = Daemon::start(&text);
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        for path in ["/events", "/all"] {
            let opening = Stream::to(daemon.url(path)).receive_buffer(4096);
            let mut stream = opening.send().await.expect("it opens");
            assert_eq!(stream.next(secs(30)).await.data, value(0));
            let named = text.replace(
                &format!("path = \"{path}\""),
                &format!("path = \"{path}\"\nevent = \"row\""),
            );
            reloaded(&daemon, &named, &format!("stream {path:?}: event"));
            let before = stream.collect_until(is_reset, secs(60)).await;
            assert!(before.len() < 600, "{path}: it was on its way");
            for number in 0..600 {
                let event = stream.next(secs(60)).await;
                assert_eq!(
                    (event.name.as_str(), &event.data),
                    ("row", &value(number)),
                    "{path}"
                );
            }
            assert!(
                stream.next(secs(30)).await.is("caught-up"),
                "{path}: it had not before"
            );
            let said = reload(&daemon, &text);
            assert_eq!(said, format!("reloaded: stream {path:?}: event"));
        }
    });
}

/// An archive that holds requests until the test releases them.
#[derive(Debug, Default)]
pub struct Silent(Mutex<Vec<OffsetLookup>>);

impl Silent {
    pub fn take(&self) -> Vec<OffsetLookup> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Archive for Silent {
    fn replay(&self, _request: ReplayRequest) -> Result<ReplaySlot, Busy> {
        Err(Busy)
    }

    fn is_contended(&self) -> bool {
        false
    }

    fn look_up(&self, lookup: OffsetLookup) -> Result<(), Busy> {
        self.0.lock().unwrap().push(lookup);
        Ok(())
    }

    fn lacks_times_and_headers(&self) -> bool {
        false
    }
}

/// A stream without Kafka.
pub fn bare(archive: &Arc<Silent>) -> Arc<Served> {
    let history = rig::history(Arc::clone(archive) as _);
    Served::new(rig::settings(1, |_| {}), rig::PACE, Some(history))
}

fn a_blocked_client_keeps_its_own_stream_and_no_later_one_in_memory() {
    let archive = Arc::new(Silent::default());
    let mut newest = bare(&archive);
    let mut stuck = newest.subscribe(Opening::default());
    assert!(
        matches!(stuck.step(Instant::now()), Step::Send(_)),
        "the prelude, and then it takes nothing"
    );
    let mut served = Vec::new();
    for _ in 0..3 {
        served.push(Arc::downgrade(&newest));
        let next = bare(&archive);
        newest.succeed(&next);
        newest = next;
    }
    let held: Vec<bool> = served.iter().map(|stream| stream.strong_count() > 0).collect();
    assert_eq!(
        held,
        [true, false, false],
        "its own, and none of those in between"
    );
    assert_eq!(stuck.step(Instant::now()), Step::Yield);
    assert_eq!(newest.figures().clients, 1, "it comes to the newest at once");
    assert_eq!(served[0].strong_count(), 0);
}
