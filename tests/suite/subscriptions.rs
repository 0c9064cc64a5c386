//! Subscriptions: the events of a reader, step by step, without Kafka or sockets.

use crate::harness::sse::{Event, Item, Parser};
use crate::trials;
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Heartbeat, Lag, Start, StreamSettings};
use kafka_sse_bridge::kafka::record::{Batch, Feed, Stamp};
use kafka_sse_bridge::stream::control::Goodbye;
use kafka_sse_bridge::stream::position::Position;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::{Step, Subscription};
use kafka_sse_bridge::stream::writer::Writer;
use kafka_sse_bridge::stream::{Stream, live_settings::Pace};
use libtest_mimic::Trial;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    trials![
        a_live_client_gets_no_history,
        an_earliest_client_gets_the_records_in_memory_then_caught_up,
        caught_up_waits_for_the_load,
        a_resuming_client_continues_or_gets_a_reset_with_a_reason,
        a_quiet_client_gets_keepalives_and_heartbeats_on_schedule,
        kafkasse_ids_are_accepted,
        a_connection_at_its_lifetime_ends_with_a_goodbye,
        a_client_behind_the_log_gets_an_event,
        a_closing_stream_sends_goodbye_with_the_clients_position,
        a_change_between_step_and_wait_is_never_missed,
        a_client_that_joins_between_records_gets_its_exact_position,
        records_that_cannot_be_shown_are_counted_and_skipped,
        too_many_partitions_for_an_id_refuse_the_stream,
    ]
}

/// A stream without Kafka: the test is its feed.
struct Rig {
    stream: Arc<Stream>,
    writer: Writer,
    offset: i64,
}

impl Rig {
    fn new(change: impl FnOnce(&mut StreamSettings)) -> Self {
        let pace = Pace {
            keepalive: Duration::from_secs(15),
            retry: Duration::from_secs(2),
            max_lifetime: Duration::ZERO,
        };
        Self::paced(change, pace)
    }

    fn paced(change: impl FnOnce(&mut StreamSettings), pace: Pace) -> Self {
        let mut settings = StreamSettings {
            path: "/x".to_owned(),
            topics: vec!["t".to_owned()],
            ..StreamSettings::default()
        };
        change(&mut settings);
        let stream = Stream::new(settings, pace, None);
        Self {
            writer: Writer::new(Arc::clone(&stream)),
            stream,
            offset: 0,
        }
    }

    /// Assigned at 0 and loaded, as a stream over an empty topic is.
    fn ready(change: impl FnOnce(&mut StreamSettings)) -> Self {
        let mut rig = Self::new(change);
        rig.assign();
        rig.load();
        rig
    }

    fn assign(&mut self) {
        self.writer.take(&Feed::Assigned {
            topic: "t".into(),
            id: None,
            next: vec![self.offset],
            low: vec![self.offset],
        });
    }

    fn load(&mut self) {
        self.writer.take(&Feed::Loaded { topic: "t".into() });
    }

    fn records(&mut self, values: &[&[u8]]) {
        let mut batch = Batch::new("t".into());
        for value in values {
            let stamp = Stamp {
                partition: 0,
                offset: self.offset,
                timestamp: None,
            };
            batch.push(stamp, None, Some(value), std::iter::empty());
            self.offset += 1;
        }
        self.writer.take(&Feed::Records(Arc::new(batch)));
    }

    fn client(&self, start: Option<Start>, last_event_id: Option<&str>) -> Client {
        let opening = Opening {
            start,
            last_event_id: last_event_id.map(str::to_owned),
            ..Opening::default()
        };
        Client {
            subscription: self.stream.subscribe(opening),
            parser: Parser::new(),
            now: Instant::now(),
        }
    }
}

/// Drives a subscription as a driver would, at a time of the test's choosing.
struct Client {
    subscription: Subscription,
    parser: Parser,
    now: Instant,
}

impl Client {
    /// Everything there is to send now, and what comes after.
    fn items(&mut self) -> (Vec<Item>, Step) {
        let mut items = Vec::new();
        for _ in 0..10_000 {
            match self.subscription.step(self.now) {
                Step::Send(bytes) => items.extend(self.parser.feed(&bytes)),
                Step::Yield => {}
                other => return (items, other),
            }
        }
        panic!("endless: {items:?}")
    }

    fn events(&mut self) -> Vec<Event> {
        let event = |item| match item {
            Item::Event(event) => Some(event),
            Item::Violation(what) => panic!("{what}"),
            Item::Comment(_) | Item::Retry(_) => None,
        };
        self.items().0.into_iter().filter_map(event).collect()
    }

    /// Names and data, in short.
    fn told(&mut self) -> Vec<String> {
        self.events()
            .into_iter()
            .map(|event| format!("{} {}", event.name, event.data))
            .collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

fn a_live_client_gets_no_history() {
    let mut rig = Rig::new(|_| {});
    let mut early = rig.client(None, None);
    assert!(
        matches!(early.items(), (first, Step::Wait(_)) if first.len() == 2),
        "retry and a comment at once"
    );
    rig.assign();
    rig.records(&[b"old"]);
    assert_eq!(early.told(), [""; 0], "history of a topic that loads is not live");
    rig.load();
    assert_eq!(early.told(), [r#"caught-up {"reason":"live"}"#]);
    let mut late = rig.client(None, None);
    rig.records(&[b"a", b"b"]);
    assert_eq!(early.told(), ["message a", "message b"]);
    assert_eq!(
        late.told(),
        [r#"caught-up {"reason":"live"}"#],
        "it begins when it is first driven"
    );
    rig.records(&[b"c"]);
    assert_eq!(late.told(), ["message c"]);
}

fn an_earliest_client_gets_the_records_in_memory_then_caught_up() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    rig.records(&[b"a"]);
    rig.records(&[b"b"]);
    let caught_up = r#"caught-up {"reason":"replay"}"#;
    assert_eq!(
        rig.client(None, None).told(),
        ["message a", "message b", caught_up]
    );
    assert_eq!(
        rig.client(Some(Start::Live), None).told(),
        [r#"caught-up {"reason":"live"}"#]
    );
    let mut client = rig.client(None, None);
    assert!(
        client.events().iter().all(|event| event.own_id),
        "every event carries its id"
    );
    rig.records(&[b"c"]);
    assert_eq!(client.told(), ["message c"], "caught-up comes once");
}

fn caught_up_waits_for_the_load() {
    let mut rig = Rig::new(|settings| settings.start = Start::Earliest);
    let mut client = rig.client(None, None);
    client.items();
    rig.assign();
    rig.records(&[b"a"]);
    assert_eq!(client.told(), ["message a"], "rows come while the topic loads");
    rig.load();
    assert_eq!(client.told(), [r#"caught-up {"reason":"replay"}"#]);
}

fn a_resuming_client_continues_or_gets_a_reset_with_a_reason() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    rig.records(&[b"a"]);
    let id = rig.client(None, None).events()[0].id.clone();
    rig.records(&[b"b"]);
    let told = |rig: &Rig, id: &str| rig.client(None, Some(id)).told();
    let caught_up = r#"caught-up {"reason":"replay"}"#;
    assert_eq!(told(&rig, &id), ["message b", caught_up]);
    let head = rig
        .client(None, None)
        .events()
        .last()
        .expect("caught-up")
        .id
        .clone();
    assert_eq!(told(&rig, &head), [caught_up]);
    // Unusable ids cause a reset with a reason.
    let anew = ["message a", "message b", caught_up];
    for (id, reason) in [
        ("nonsense!", "unknown-id"),
        ("AQ", "replay"),
        (&other_topic(&id), "other-stream"),
    ] {
        let told = told(&rig, id);
        if reason != "replay" {
            assert_eq!(told[0], format!("reset {{\"reason\":\"{reason}\"}}"));
        }
        assert_eq!(told[usize::from(reason != "replay")..], anew, "{id}");
    }
    // An id from a replica that is further on: what that has shown is not shown again.
    let mut ahead = Position::parse(head.as_bytes()).unwrap();
    ahead.topics[0].next[0] += 1;
    let mut client = rig.client(None, Some(&String::from_utf8(ahead.id()).unwrap()));
    client.items();
    rig.records(&[b"c", b"d"]);
    let told: Vec<String> = client
        .told()
        .into_iter()
        .filter(|told| told.starts_with("message"))
        .collect();
    assert_eq!(told, ["message d"]);
}

/// The same position, of another topic.
fn other_topic(id: &str) -> String {
    let mut position = Position::parse(id.as_bytes()).unwrap();
    position.topics[0].name ^= 1;
    String::from_utf8(position.id()).unwrap()
}

fn a_quiet_client_gets_keepalives_and_heartbeats_on_schedule() {
    let mut rig = Rig::new(|settings| {
        settings.heartbeat = Heartbeat::Event;
        settings.heartbeat_interval = Span::seconds(10);
    });
    let mut client = rig.client(None, Some("Xcame-with"));
    client.items();
    client.pass(Duration::from_secs(10));
    let beats = client.events();
    assert_eq!(
        (beats.len(), beats[0].name.as_str()),
        (1, "heartbeat"),
        "before Kafka has answered too"
    );
    assert_eq!(beats[0].id, "Xcame-with", "with the id it came with");
    assert!(beats[0].data.starts_with("{\"time\":\"20"));
    rig.assign();
    rig.load();
    client.items();
    client.pass(Duration::from_secs(60));
    assert_eq!(
        client.events().len(),
        1,
        "beats that were missed are not made up for"
    );

    let mut plain = Rig::ready(|_| {}).client(None, None);
    plain.items();
    plain.pass(Duration::from_secs(14));
    let (items, step) = plain.items();
    assert_eq!(
        (items, step),
        (vec![], Step::Wait(plain.now + Duration::from_secs(1)))
    );
    plain.pass(Duration::from_secs(1));
    assert_eq!(plain.items().0, [Item::Comment(String::new())]);
}

/// Ids of the bridge that Wikimedia runs are understood, so that its clients can move over.
fn kafkasse_ids_are_accepted() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    rig.records(&[b"a", b"b", b"c"]);
    let told = |id: &str| rig.client(None, Some(id)).told();
    let caught_up = r#"caught-up {"reason":"replay"}"#;
    assert_eq!(
        told(r#"[{"topic":"t","partition":0,"offset":2}]"#),
        ["message c", caught_up]
    );
    assert_eq!(
        told(r#"[{"topic":"x","partition":0,"offset":2}]"#)[0],
        r#"reset {"reason":"other-stream"}"#
    );
    // Times cannot be looked up without Kafka.
    for id in [r#"[{"topic":"t","partition":0,"timestamp":5}]"#, "["] {
        assert_eq!(told(id)[0], r#"reset {"reason":"unknown-id"}"#, "{id}");
    }
    assert_eq!(
        told(r#"[{"topic":"t","partition":0,"offset":-1}]"#),
        [caught_up],
        "the end"
    );
    assert_eq!(
        told(r#"[{"topic":"t","partition":0,"offset":-2}]"#).len(),
        4,
        "the beginning"
    );
    // A time in seconds would replay all of it.
    let seconds = r#"[{"topic":"t","partition":0,"timestamp":1795593600}]"#;
    assert_eq!(told(seconds)[0], r#"reset {"reason":"unknown-id"}"#);
    let partition_unnamed = r#"[{"topic":"t","partition":7,"offset":2}]"#;
    assert_eq!(
        told(partition_unnamed).len(),
        4,
        "what it omits begins as the stream does"
    );
}

fn a_connection_at_its_lifetime_ends_with_a_goodbye() {
    let pace = Pace {
        keepalive: Duration::from_secs(15),
        retry: Duration::from_secs(2),
        max_lifetime: Duration::from_secs(100),
    };
    let mut rig = Rig::paced(|_| {}, pace);
    rig.assign();
    rig.load();
    let mut client = rig.client(None, None);
    client.items();
    client.pass(Duration::from_secs(89));
    assert!(
        matches!(client.items().1, Step::Wait(_)),
        "not before nine tenths of it"
    );
    client.pass(Duration::from_secs(12));
    assert_eq!(client.told(), [r#"goodbye {"reason":"lifetime"}"#]);
}

fn a_client_behind_the_log_gets_an_event() {
    let mut rig = Rig::ready(|settings| {
        settings.log_bytes = Size(512 * 1024);
        settings.lag = Some(Lag::Disconnect);
    });
    let mut client = rig.client(None, None);
    client.items();
    let value = vec![b'x'; 100_000];
    for _ in 0..12 {
        rig.records(&[&value]);
    }
    let (items, step) = client.items();
    let last = items.last().cloned();
    assert!(
        matches!(last, Some(Item::Event(event)) if event.data == r#"{"reason":"slow"}"#),
        "{items:?}"
    );
    assert_eq!(step, Step::End);
    assert_eq!(rig.stream.figures().slow, 1);
}

fn a_closing_stream_sends_goodbye_with_the_clients_position() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    rig.records(&[b"a"]);
    let mut client = rig.client(None, None);
    let id = client.events()[0].id.clone();
    let mut opened = rig.client(None, None);
    rig.records(&[b"b"]);
    assert_eq!(rig.stream.figures().clients, 2);
    rig.stream.close(Goodbye::Shutdown);
    let (items, step) = client.items();
    assert_eq!(step, Step::End);
    let [Item::Retry(retry), Item::Event(event)] = items.as_slice() else {
        panic!("{items:?}")
    };
    assert!(
        (1500..=2500).contains(retry),
        "2 s, jittered by a quarter: {retry}"
    );
    assert_eq!(
        (event.name.as_str(), event.data.as_str()),
        ("goodbye", r#"{"reason":"shutdown"}"#)
    );
    assert_eq!(event.id, id, "its place, not the head's");
    assert_eq!(
        opened.told(),
        [r#"goodbye {"reason":"shutdown"}"#],
        "who comes while it closes, too"
    );
    drop((client, opened));
    assert_eq!(rig.stream.figures().clients, 0);
}

fn a_change_between_step_and_wait_is_never_missed() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let flag = Arc::new(Flag(false.into()));
    let is_woken = || flag.0.swap(false, Ordering::SeqCst);
    let waker = Waker::from(Arc::clone(&flag));

    let mut rig = Rig::ready(|_| {});
    let mut client = rig.client(None, None);
    client.items();
    rig.records(&[b"a"]);
    assert!(
        !client.subscription.wait(&waker),
        "what came before the wait is seen"
    );
    client.items();
    assert!(client.subscription.wait(&waker), "nothing has come since");
    rig.records(&[b"b"]);
    assert!(is_woken(), "what comes after the wait wakes");
    client.items();
    assert!(client.subscription.wait(&waker));
    rig.stream.close(Goodbye::Shutdown);
    assert!(is_woken(), "so does the end");
}

/// Clients that join while records stream in: what `caught-up` says must be where they are.
fn a_client_that_joins_between_records_gets_its_exact_position() {
    let mut rig = Rig::ready(|_| {});
    let stream = Arc::clone(&rig.stream);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            rig.records(&[b"v"]);
        }
    });
    let next = |event: &Event| Position::parse(event.id.as_bytes()).unwrap().topics[0].next[0];
    for _ in 0..20_000 {
        let mut subscription = stream.subscribe(Opening::default());
        let (mut parser, mut caught_up) = (Parser::new(), None);
        'client: loop {
            let Step::Send(bytes) = subscription.step(Instant::now()) else {
                continue;
            };
            for item in parser.feed(&bytes) {
                match (item, caught_up) {
                    (Item::Event(event), None) if event.name == "caught-up" => caught_up = Some(next(&event)),
                    (Item::Event(event), Some(place)) => {
                        assert_eq!(
                            next(&event) - 1,
                            place,
                            "the record after caught-up is the next one"
                        );
                        break 'client;
                    }
                    _ => {}
                }
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends");
}

fn records_that_cannot_be_shown_are_counted_and_skipped() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    rig.records(&[b"a", b"\xff", b"b"]);
    rig.records(&[b"\xfe"]);
    let mut client = rig.client(None, None);
    let events = client.events();
    assert_eq!(
        events.iter().map(|event| event.data.as_str()).collect::<Vec<_>>()[..2],
        ["a", "b"]
    );
    let next = |event: &Event| Position::parse(event.id.as_bytes()).unwrap().topics[0].next[0];
    assert_eq!(
        events.iter().map(next).collect::<Vec<_>>(),
        [1, 3, 4],
        "ids go past them"
    );
    let invalid = rig.stream.figures().invalid;
    assert!(invalid.contains(&("value-not-utf8", 2)), "{invalid:?}");
}

fn too_many_partitions_for_an_id_refuse_the_stream() {
    let mut rig = Rig::new(|_| {});
    rig.writer.take(&Feed::Assigned {
        topic: "t".into(),
        id: None,
        next: vec![0; 800],
        low: vec![0; 800],
    });
    assert_eq!(rig.stream.failure(), None);
    rig.writer.take(&Feed::Assigned {
        topic: "t".into(),
        id: None,
        next: vec![0; 2000],
        low: vec![0; 2000],
    });
    let failure = rig.stream.failure().unwrap().to_owned();
    assert!(
        failure.contains("2000 partitions") && failure.contains("split"),
        "{failure}"
    );
}
