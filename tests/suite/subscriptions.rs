//! Subscriptions: the events of a reader, step by step, without Kafka or sockets.

use crate::harness::sse::{Event, Item, Parser};
use crate::rig::{PACE, Rec, Rig, assigned, settings, value};
use crate::trials;
use kafka_sse_bridge::config::units::{Size, Span};
use kafka_sse_bridge::config::{Heartbeat, Lag, Start, StreamSettings};
use kafka_sse_bridge::stream::control::Goodbye;
use kafka_sse_bridge::stream::encode::Invalid;
use kafka_sse_bridge::stream::position::Position;
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::Step;
use kafka_sse_bridge::stream::{Stream, live_settings::Pace};
use libtest_mimic::Trial;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// A topic of one partition that the stream does not know yet.
fn unassigned(change: impl FnOnce(&mut StreamSettings)) -> Rig {
    Rig::unassigned(&[1], false, change)
}

/// Writes records without keys in one batch.
fn write(rig: &mut Rig, values: &[&[u8]]) {
    let records: Vec<Rec> = values.iter().map(|&bytes| value(bytes)).collect();
    rig.records(&records);
}

fn a_live_client_gets_no_history() {
    let mut rig = unassigned(|_| {});
    let mut early = rig.client(&[]);
    assert!(
        matches!(early.items(), (first, Step::Wait(_)) if first.len() == 2),
        "retry and a comment at once"
    );
    rig.assign(0, &[0]);
    write(&mut rig, &[b"old"]);
    assert_eq!(
        early.lines(),
        [""; 0],
        "history of a topic that loads is not live"
    );
    rig.load();
    assert_eq!(early.lines(), [r#"caught-up {"reason":"live"}"#]);
    let mut late = rig.client(&[]);
    write(&mut rig, &[b"a", b"b"]);
    assert_eq!(early.lines(), ["message a", "message b"]);
    assert_eq!(
        late.lines(),
        [r#"caught-up {"reason":"live"}"#],
        "it begins when it is first driven"
    );
    write(&mut rig, &[b"c"]);
    assert_eq!(late.lines(), ["message c"]);
}

fn an_earliest_client_gets_the_records_in_memory_then_caught_up() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    write(&mut rig, &[b"a"]);
    write(&mut rig, &[b"b"]);
    let caught_up = r#"caught-up {"reason":"replay"}"#;
    assert_eq!(rig.client(&[]).lines(), ["message a", "message b", caught_up]);
    assert_eq!(
        rig.client_at(Start::Live, &[]).lines(),
        [r#"caught-up {"reason":"live"}"#]
    );
    let mut client = rig.client(&[]);
    assert!(
        client.events().iter().all(|event| event.own_id),
        "every event carries its id"
    );
    write(&mut rig, &[b"c"]);
    assert_eq!(client.lines(), ["message c"], "caught-up comes once");
}

fn caught_up_waits_for_the_load() {
    let mut rig = unassigned(|settings| settings.start = Start::Earliest);
    let mut client = rig.client(&[]);
    client.items();
    rig.assign(0, &[0]);
    write(&mut rig, &[b"a"]);
    assert_eq!(client.lines(), ["message a"], "rows come while the topic loads");
    rig.load();
    assert_eq!(client.lines(), [r#"caught-up {"reason":"replay"}"#]);
}

fn a_resuming_client_continues_or_gets_a_reset_with_a_reason() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    write(&mut rig, &[b"a"]);
    let id = rig.client(&[]).events()[0].id.clone();
    write(&mut rig, &[b"b"]);
    let lines = |rig: &Rig, id: &str| rig.resume(id, &[]).lines();
    let caught_up = r#"caught-up {"reason":"replay"}"#;
    assert_eq!(lines(&rig, &id), ["message b", caught_up]);
    let head = rig.client(&[]).events().last().expect("caught-up").id.clone();
    assert_eq!(lines(&rig, &head), [caught_up]);
    // Unusable ids cause a reset with a reason.
    let restart = ["message a", "message b", caught_up];
    for (id, reason) in [
        ("nonsense!", "unknown-id"),
        ("AQ", "replay"),
        (&other_topic(&id), "other-stream"),
    ] {
        let lines = lines(&rig, id);
        if reason != "replay" {
            assert_eq!(lines[0], format!("reset {{\"reason\":\"{reason}\"}}"));
        }
        assert_eq!(lines[usize::from(reason != "replay")..], restart, "{id}");
    }
    // An id from a replica that is further on: what that has shown is not shown again.
    let mut ahead = Position::parse(head.as_bytes()).unwrap();
    ahead.topics[0].next[0] += 1;
    let mut client = rig.resume(&String::from_utf8(ahead.id()).unwrap(), &[]);
    client.items();
    write(&mut rig, &[b"c", b"d"]);
    let lines: Vec<String> = client
        .lines()
        .into_iter()
        .filter(|lines| lines.starts_with("message"))
        .collect();
    assert_eq!(lines, ["message d"]);
}

/// The same position, of another topic.
fn other_topic(id: &str) -> String {
    let mut position = Position::parse(id.as_bytes()).unwrap();
    position.topics[0].name ^= 1;
    String::from_utf8(position.id()).unwrap()
}

fn a_quiet_client_gets_keepalives_and_heartbeats_on_schedule() {
    let mut rig = unassigned(|settings| {
        settings.heartbeat = Heartbeat::Event;
        settings.heartbeat_interval = Span::seconds(10);
    });
    let mut client = rig.resume("Xcame-with", &[]);
    client.items();
    client.advance(Duration::from_secs(10));
    let beats = client.events();
    assert_eq!(
        (beats.len(), beats[0].name.as_str()),
        (1, "heartbeat"),
        "before Kafka has answered too"
    );
    assert_eq!(beats[0].id, "Xcame-with", "with the id it came with");
    assert!(beats[0].data.starts_with("{\"time\":\"20"));
    rig.assign(0, &[0]);
    rig.load();
    client.items();
    client.advance(Duration::from_secs(60));
    assert_eq!(
        client.events().len(),
        1,
        "beats that were missed are not made up for"
    );

    let mut plain = Rig::ready(|_| {}).client(&[]);
    plain.items();
    plain.advance(Duration::from_secs(14));
    let (items, step) = plain.items();
    assert_eq!(
        (items, step),
        (vec![], Step::Wait(plain.now + Duration::from_secs(1)))
    );
    plain.advance(Duration::from_secs(1));
    assert_eq!(plain.items().0, [Item::Comment(String::new())]);
}

/// Ids of the bridge that Wikimedia runs are understood, so that its clients can move over.
fn kafkasse_ids_are_accepted() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    write(&mut rig, &[b"a", b"b", b"c"]);
    let lines = |id: &str| rig.resume(id, &[]).lines();
    let caught_up = r#"caught-up {"reason":"replay"}"#;
    assert_eq!(
        lines(r#"[{"topic":"t","partition":0,"offset":2}]"#),
        ["message c", caught_up]
    );
    assert_eq!(
        lines(r#"[{"topic":"x","partition":0,"offset":2}]"#)[0],
        r#"reset {"reason":"other-stream"}"#
    );
    // Times cannot be looked up without Kafka.
    for id in [r#"[{"topic":"t","partition":0,"timestamp":5}]"#, "["] {
        assert_eq!(lines(id)[0], r#"reset {"reason":"unknown-id"}"#, "{id}");
    }
    assert_eq!(
        lines(r#"[{"topic":"t","partition":0,"offset":-1}]"#),
        [caught_up],
        "the end"
    );
    assert_eq!(
        lines(r#"[{"topic":"t","partition":0,"offset":-2}]"#).len(),
        4,
        "the beginning"
    );
    // A time in seconds would replay all of it.
    let seconds = r#"[{"topic":"t","partition":0,"timestamp":1795593600}]"#;
    assert_eq!(lines(seconds)[0], r#"reset {"reason":"unknown-id"}"#);
    let partition_unnamed = r#"[{"topic":"t","partition":7,"offset":2}]"#;
    assert_eq!(
        lines(partition_unnamed).len(),
        4,
        "what it omits begins as the stream does"
    );
}

fn a_connection_at_its_lifetime_ends_with_a_goodbye() {
    let pace = Pace {
        max_lifetime: Duration::from_secs(100),
        ..PACE
    };
    let mut rig = Rig::of(Stream::new(settings(1, |_| {}), pace, None), &[1]);
    rig.load();
    let mut client = rig.client(&[]);
    client.items();
    client.advance(Duration::from_secs(89));
    assert!(
        matches!(client.items().1, Step::Wait(_)),
        "not before nine tenths of it"
    );
    client.advance(Duration::from_secs(12));
    assert_eq!(client.lines(), [r#"goodbye {"reason":"lifetime"}"#]);
}

fn a_client_behind_the_log_gets_an_event() {
    let mut rig = Rig::ready(|settings| {
        settings.log_bytes = Size(512 * 1024);
        settings.lag = Some(Lag::Disconnect);
    });
    let mut client = rig.client(&[]);
    client.items();
    let value = vec![b'x'; 100_000];
    for _ in 0..12 {
        write(&mut rig, &[&value]);
    }
    let (items, step) = client.items();
    let last = items.last().cloned();
    assert!(
        matches!(last, Some(Item::Event(event)) if event.data == r#"{"reason":"slow"}"#),
        "{items:?}"
    );
    assert_eq!(step, Step::End);
    assert_eq!(rig.stream.counters().slow.get(), 1);
}

fn a_closing_stream_sends_goodbye_with_the_clients_position() {
    let mut rig = Rig::ready(|settings| settings.start = Start::Earliest);
    write(&mut rig, &[b"a"]);
    let mut client = rig.client(&[]);
    let id = client.events()[0].id.clone();
    let mut opened = rig.client(&[]);
    write(&mut rig, &[b"b"]);
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
    assert_eq!(event.id, id, "its own position, not the head's");
    assert_eq!(
        opened.lines(),
        [r#"goodbye {"reason":"shutdown"}"#],
        "a client that connects while it closes too"
    );
    drop((client, opened));
    assert_eq!(rig.stream.figures().clients, 0);
}

fn a_change_between_step_and_wait_is_never_missed() {
    let mut rig = Rig::ready(|_| {});
    let mut client = rig.client(&[]);
    client.items();
    write(&mut rig, &[b"a"]);
    assert!(!client.is_waiting(), "what came before the wait is seen");
    client.items();
    assert!(client.is_waiting(), "nothing has come since");
    write(&mut rig, &[b"b"]);
    assert_eq!(client.wakes(), 1, "what comes after the wait wakes");
    client.items();
    assert!(client.is_waiting());
    rig.stream.close(Goodbye::Shutdown);
    assert_eq!(client.wakes(), 1, "so does the end");
}

/// Clients that join while records stream in: what `caught-up` says must be where they are.
fn a_client_that_joins_between_records_gets_its_exact_position() {
    let mut rig = Rig::ready(|_| {});
    let stream = Arc::clone(&rig.stream);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            write(&mut rig, &[b"v"]);
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
    write(&mut rig, &[b"a", b"\xff", b"b"]);
    write(&mut rig, &[b"\xfe"]);
    let mut client = rig.client(&[]);
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
    let invalid = rig.stream.counters().invalid();
    assert!(invalid.contains(&(Invalid::ValueNotUtf8, 2)), "{invalid:?}");
}

fn too_many_partitions_for_an_id_refuse_the_stream() {
    let mut rig = unassigned(|_| {});
    rig.writer.take(&assigned("t", &[0; 800]));
    assert_eq!(rig.stream.failure(), None);
    rig.writer.take(&assigned("t", &[0; 2000]));
    let failure = rig.stream.failure().unwrap().to_owned();
    assert!(
        failure.contains("2000 partitions") && failure.contains("split"),
        "{failure}"
    );
}
