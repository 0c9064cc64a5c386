//! The harness itself, which all other tests rely on.

use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::browser::Browser;
use crate::harness::process::Process;
use crate::harness::produce::{Message, Outcome};
use crate::harness::scratch::Scratch;
use crate::harness::sse::{Event, Item, Parser};
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::wait::{block_on, eventually, secs};
use crate::harness::{on_each_broker, on_each_version};
use crate::trials;
use libtest_mimic::Trial;
use proptest::prelude::*;
use rdkafka::message::Message as _;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        the_sse_parser_reads_the_standards_examples,
        the_sse_parser_names_broken_house_rules,
        the_sse_parser_accepts_any_chunk_boundaries,
        the_stream_client_reads_chunks_and_ends,
        the_guardian_leaves_no_process_behind,
        the_browser_runs_scripts,
    ];
    trials.extend(on_each_broker(produced_records_are_read_back));
    trials.extend(on_each_broker(aborted_records_stay_unread));
    trials.extend(on_each_broker(topics_and_records_are_deleted));
    trials.extend(on_each_version(a_killed_broker_restarts_with_its_data));
    trials
}

fn produced_records_are_read_back(broker: &Broker) {
    println!("Kafka {} started in {:?}", broker.version(), broker.started_in);
    let topic = topic_name("selftest");
    broker.create_topic(&topic, 3, &[]);
    let messages: Vec<_> = (0..100)
        .map(|n| {
            Message::new(format!("key-{n}"), format!("value-{n}"))
                .header("n", n.to_string())
                .timestamp(1_000 + n)
        })
        .collect();
    let written = broker.produce_with(&topic, &messages, &[("compression.type", "gzip")]);

    let found: BTreeMap<_, _> = broker
        .read(&topic, 3)
        .into_iter()
        .map(|record| ((record.partition(), record.offset()), record))
        .collect();
    assert_eq!(found.len(), 100);
    for (message, written) in messages.iter().zip(&written) {
        let record = &found[&(written.partition, written.offset)];
        assert_eq!(record.key(), message.key.as_deref());
        assert_eq!(record.payload(), message.value.as_deref());
        assert_eq!(record.timestamp().to_millis(), message.timestamp);
    }
    let used: std::collections::BTreeSet<_> = written.iter().map(|written| written.partition).collect();
    assert_eq!(used.len(), 3, "keys spread over all partitions");
}

fn aborted_records_stay_unread(broker: &Broker) {
    let topic = topic_name("transactions");
    broker.create_topic(&topic, 1, &[]);
    broker.produce_transaction(&topic, &[Message::value("no")], Outcome::Abort);
    broker.produce_transaction(&topic, &[Message::value("yes")], Outcome::Commit);
    let records = broker.read(&topic, 1);
    let values: Vec<_> = records.iter().map(|record| record.payload()).collect();
    assert_eq!(values, [Some(b"yes".as_slice())]);
    // Two records and two control records.
    assert_eq!(broker.watermarks(&topic, 1), [(0, 4)]);
}

fn topics_and_records_are_deleted(broker: &Broker) {
    let topic = topic_name("deletes");
    broker.create_topic(&topic, 1, &[("cleanup.policy", "delete")]);
    broker.produce(
        &topic,
        &[Message::value("a"), Message::value(""), Message::tombstone("k")],
    );
    broker.delete_records(&topic, 0, 1);
    let records = broker.read(&topic, 1);
    let values: Vec<_> = records.iter().map(|record| record.payload()).collect();
    assert_eq!(values, [Some(b"".as_slice()), None], "empty and null differ");
    assert_eq!(broker.watermarks(&topic, 1), [(1, 3)]);
    broker.add_partitions(&topic, 2);
    broker.delete_topic(&topic);
    assert!(!broker.topics().contains(&topic));
}

fn a_killed_broker_restarts_with_its_data(version: Version) {
    let broker = Broker::start(version);
    println!("Kafka {version} started in {:?}", broker.started_in);
    let topic = topic_name("survivor");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &[Message::value("before")]);
    broker.kill9();
    println!("restarted in {:?}", broker.restart());
    broker.freeze();
    broker.thaw();
    broker.produce(&topic, &[Message::value("after")]);
    let records = broker.read(&topic, 1);
    let values: Vec<_> = records.iter().map(|record| record.payload()).collect();
    assert_eq!(values, [Some(b"before".as_slice()), Some(b"after".as_slice())]);
}

fn the_guardian_leaves_no_process_behind() {
    // Not the suite's own guardian: this one's owner is about to be gone.
    let mut scratch = Scratch::new();
    let path = scratch.path().to_owned();
    std::fs::write(path.join("left-over"), "").expect("a file");
    let (orphan, ended) = (sleeper(), sleeper());
    for process in [&ended, &orphan] {
        scratch.guard(process.pid());
    }
    scratch.release(ended.pid());
    drop(scratch);
    let status = orphan.wait(secs(5)).expect("killed");
    assert!(!status.success());
    assert!(ended.try_wait().is_none(), "what was released is left alone");
    assert!(!path.exists());
}

fn sleeper() -> Process {
    Process::spawn(Command::new("sleep").arg("600")).expect("sleep")
}

fn the_browser_runs_scripts() {
    block_on(async {
        let browser = Browser::start().await;
        browser.goto("data:text/html,<title>hello</title>").await;
        let title = browser
            .run("return document.title + ' ' + typeof EventSource")
            .await;
        assert_eq!(title, "hello function");
        browser.close().await;
    });
}

/// The client joins chunks of the server, reports the end of a stream, and misses no id.
fn the_stream_client_reads_chunks_and_ends() {
    block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}/events?a=b", listener.local_addr().expect("an address"));
        let server = tokio::task::spawn_blocking(move || {
            let listener = listener.into_std().expect("a listener");
            listener.set_nonblocking(false).expect("blocking");
            let body = "retry: 10\n: hello\nid: 1\ndata: a\n\nid: 2\ndata: b\n\n";
            for end in ["0\r\n\r\n", ""] {
                let (mut socket, _) = listener.accept().expect("a client");
                let mut head = vec![0; 1024];
                let read = socket.read(&mut head).expect("a request");
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                assert!(
                    head.starts_with("GET /events?a=b HTTP/1.1\r\nHost: 127.0.0.1:"),
                    "{head}"
                );
                assert!(head.contains("\r\nAccept: text/event-stream\r\n"), "{head}");
                socket
                    .write_all(b"HTTP/1.1 200 OK\r\nX-Test: yes\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .expect("head");
                for piece in body.as_bytes().chunks(7) {
                    let piece = String::from_utf8_lossy(piece);
                    write!(socket, "{:x}\r\n{piece}\r\n", piece.len()).expect("a chunk");
                }
                socket.write_all(end.as_bytes()).expect("the end");
            }
        });
        let mut stream = Stream::open(&url).await;
        assert_eq!((stream.status, stream.header("x-test")), (200, Some("yes")));
        assert_eq!(stream.next(secs(5)).await.data, "a");
        assert_eq!(
            (stream.last_event_id(), stream.retry(), stream.comments().len()),
            ("1", Some(10), 1)
        );
        let (rest, end) = stream.collect_to_end(secs(5)).await;
        assert!(matches!(end, NoEvent::Ended), "{end}");
        assert_eq!((rest.len(), stream.last_event_id()), (1, "2"));

        let mut stream = Stream::to(&url)
            .last_event_id("2")
            .send()
            .await
            .expect("a response");
        let events = stream.collect_until(|event| event.data == "b", secs(5)).await;
        assert_eq!(events.len(), 2);
        let end = stream.try_next(secs(5)).await.expect_err("no end of the body");
        assert!(matches!(end, NoEvent::Broken(_)), "{end}");
        server.await.expect("the server");
    });
}

fn parse(text: &str) -> Vec<Item> {
    Parser::new().feed(text.as_bytes())
}

fn events(text: &str) -> Vec<Event> {
    let event = |item| match item {
        Item::Event(event) => Some(event),
        _ => None,
    };
    parse(text).into_iter().filter_map(event).collect()
}

/// The examples at the end of section 9.2.6.
fn the_sse_parser_reads_the_standards_examples() {
    let message = |data: &str, id: &str, own_id| Event {
        name: "message".to_owned(),
        data: data.to_owned(),
        id: id.to_owned(),
        own_id,
    };
    assert_eq!(
        events("data: YHOO\ndata: +2\ndata: 10\n\n"),
        [message("YHOO\n+2\n10", "", false)]
    );
    assert_eq!(
        events(
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
        ),
        [
            message("first event", "1", true),
            message("second event", "", true),
            message(" third event", "", false)
        ]
    );
    // The last block has no blank line after it and is discarded.
    assert_eq!(
        events("data\n\ndata\ndata\n\ndata:"),
        [message("", "", false), message("\n", "", false)]
    );
    assert_eq!(
        events("data:test\n\ndata: test\n\n"),
        [message("test", "", false), message("test", "", false)]
    );
    // Line ends of all kinds, a byte order mark, an id with NUL, a block without data that moves the id.
    assert_eq!(
        events("\u{feff}data: a\r\n\r\nid: 7\r\rdata: b\rid: \0\n\n"),
        [message("a", "", false), message("b", "7", false)]
    );
    let named = events("event: add\ndata: 73857293\n\ndata: plain\n\n");
    assert_eq!([&named[0].name, &named[1].name], ["add", "message"]);
    assert_eq!(parse("retry: 10\n"), [Item::Retry(10)]);
    eventually(secs(1), "waiting ends at once", || Ok::<_, String>(()));
}

fn the_sse_parser_names_broken_house_rules() {
    for (text, broken) in [
        ("id: 1\ndata: a\n\n\n", "a blank line that ends no block"),
        (": hello\n\n", "a block without data"),
        ("id: 1\n\n", "a block without data"),
        ("retry: +1\n", "retry that is not digits: +1"),
        ("dat: a\n", "unknown field: dat"),
        ("data: a\rid: 1\n\n", "a line ended by CR"),
        ("id: \0\n", "an id with NUL"),
        ("id: 1\nid: 2\ndata: a\n\n", "a field twice in one block"),
        (
            "event: error\n",
            "an event named error, which EventSource has itself",
        ),
        ("\u{feff}: hello\n", "a byte order mark"),
        (&"data: a\n\n".repeat(100), "100 events in a row without an id"),
    ] {
        let broken = Item::Violation(broken.to_owned());
        assert!(parse(text).contains(&broken), "{text:?} gives {:?}", parse(text));
    }
    let good = "retry: 2000\n: hello\nid: a\nevent: delete\ndata: {\ndata: }\n\n: keepalive\n";
    let broken = |item: &Item| matches!(item, Item::Violation(_));
    assert!(!parse(good).iter().any(broken), "{:?}", parse(good));
}

/// Pieces that streams are made of, good and bad, and the bytes that matter at a boundary.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"data: ".to_vec()),
        Just(b"data".to_vec()),
        Just(b"id: ".to_vec()),
        Just(b"event:".to_vec()),
        Just(b"retry: 12".to_vec()),
        Just(b": ".to_vec()),
        Just(b"\xEF\xBB\xBF".to_vec()),
        Just("é🦀".as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..3),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn the_sse_parser_accepts_any_chunk_boundaries() {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(bytes in pieces(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6))| {
        let mut whole = Parser::new();
        let expected = whole.feed(&bytes);

        // Every boundary at once, then some.
        let mut single = Parser::new();
        let items: Vec<_> = bytes.iter().flat_map(|byte| single.feed(&[*byte])).collect();
        prop_assert_eq!(&items, &expected);
        prop_assert_eq!(single.last_event_id(), whole.last_event_id());

        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut some = Parser::new();
        let items: Vec<_> = cuts.windows(2).flat_map(|cut| some.feed(&bytes[cut[0]..cut[1]])).collect();
        prop_assert_eq!(&items, &expected);
    });
}
