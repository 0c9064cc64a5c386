//! A stream that waits for the registry holds up no other stream, not even one of its own topic, and loses nothing.

use crate::common::config;
use crate::harness::apicurio::Apicurio;
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use libtest_mimic::Trial;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Records of one outage: more than the queue of a stream holds where each is handed on alone.
const RECORDS: i64 = 40;

pub fn trials() -> Vec<Trial> {
    vec![on_broker(
        Version::V4_4,
        a_stream_that_waits_for_the_registry_does_not_hold_up_another_of_its_topic,
    )]
}

/// The line from a port to the registry, until it is dropped: then the port refuses connections.
struct Line {
    port: u16,
    is_cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    fn at(port: u16, registry: &str) -> Line {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let target = registry.trim_start_matches("http://");
        let target = target
            .split('/')
            .next()
            .expect("a host")
            .replace("localhost", "127.0.0.1");
        let (is_cut, open) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<TcpStream>>>::default(),
        );
        let (cut, shared) = (Arc::clone(&is_cut), Arc::clone(&open));
        let thread = thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if cut.load(Ordering::SeqCst) {
                    return;
                }
                let server = TcpStream::connect(&target).expect("the registry");
                let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
                shared
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(clone(&client));
                let (mut from, mut to) = (clone(&client), clone(&server));
                thread::spawn(move || pass(&mut from, &mut to));
                let (mut from, mut to) = (server, client);
                thread::spawn(move || pass(&mut from, &mut to));
            }
        });
        Line {
            port,
            is_cut,
            open,
            thread: Some(thread),
        }
    }
}

fn pass(from: &mut TcpStream, to: &mut TcpStream) {
    // Either side may end it.
    let _ = io::copy(from, to);
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

impl Drop for Line {
    fn drop(&mut self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for client in &*self.open.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = client.shutdown(Shutdown::Both);
        }
        // The listener closes once it has seen the flag.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A number behind the id of a schema.
fn framed(id: u32, number: i64) -> Vec<u8> {
    let mut bytes = [&[0], &id.to_be_bytes()[..]].concat();
    let mut zigzag = number * 2;
    while zigzag > 127 {
        bytes.push(u8::try_from(zigzag % 128).expect("seven bits") | 128);
        zigzag /= 128;
    }
    bytes.push(u8::try_from(zigzag).expect("seven bits"));
    bytes
}

/// The data of this many further records.
async fn shown(stream: &mut Stream, count: i64) -> Vec<String> {
    let mut data = Vec::new();
    while i64::try_from(data.len()).expect("few") < count {
        let event = stream.next(secs(60)).await;
        if event.name == "message" {
            data.push(event.data);
        }
    }
    data
}

fn numbers(from: i64) -> Vec<String> {
    (from..from + RECORDS).map(|number| number.to_string()).collect()
}

fn a_stream_that_waits_for_the_registry_does_not_hold_up_another_of_its_topic(broker: &Broker) {
    let registry = Apicurio::shared();
    let (topic, alone) = (topic_name("shared"), topic_name("alone"));
    let subject = |number: i64| format!("{topic}-{number}");
    let register = |number| {
        let schema = format!(r#"{{"type":"long","doc":"{topic} {number}"}}"#);
        registry.register(&subject(number), "AVRO", &schema, &[])
    };
    let ids = [register(1), register(2)];
    assert_ne!(ids[0], ids[1], "another schema is another wait");
    for name in [&topic, &alone] {
        broker.create_topic(name, 1, &[]);
    }
    let port = free_port();
    let path = registry.url().splitn(4, '/').nth(3).unwrap_or_default();
    let avro = config(
        broker,
        &[&topic, &alone],
        "start = \"earliest\"\nvalue_format = \"avro\"",
    );
    let settings = format!(
        "{avro}[[stream]]\npath = \"/bytes\"\ntopics = [\"{topic}\"]\nstart = \"earliest\"\nvalue_format = \"bytes\"\n\
         [kafka.schema_registry]\nurls = [\"http://127.0.0.1:{port}/{path}\"]\n"
    );
    // As after a restart while the registry is down.
    let daemon = Daemon::start(&settings);
    block_on(async {
        let mut bytes = Stream::open(daemon.url("/bytes")).await;
        let mut line = None;
        for (round, id) in (0..).zip(ids) {
            // Down, for a schema that the daemon does not have.
            drop(line.take());
            let first = round * RECORDS;
            for number in first..first + RECORDS {
                broker.produce(&topic, &[Message::value(framed(id, number))]);
            }
            assert_eq!(shown(&mut bytes, RECORDS).await.len(), 40, "round {round}");
            eventually_async(secs(60), "health names the registry", async || {
                let ready = daemon.get("/health/ready").await;
                ensure(ready.text().contains(&format!("127.0.0.1:{port}")), ready.text())
            })
            .await;
            let figures = daemon.get("/streams").await.json();
            let (events, next) = (&figures["streams"][0], &figures["streams"][0]["next"]);
            assert_eq!(
                events["records"],
                round * RECORDS,
                "nothing is passed over: {next}"
            );
            line = Some(Line::at(port, registry.url()));
            let mut events = Stream::open(daemon.url("/events?start=earliest")).await;
            let all: Vec<String> = (0..=round).flat_map(|round| numbers(round * RECORDS)).collect();
            assert_eq!(shown(&mut events, first + RECORDS).await, all, "round {round}");
        }
        // The stream that moved is read on, with its other topic.
        let mut events = Stream::open(daemon.url("/events?start=live")).await;
        broker.produce(&alone, &[Message::value(framed(ids[0], 1000))]);
        assert_eq!(shown(&mut events, 1).await, ["1000"]);
        broker.produce(&topic, &[Message::value(framed(ids[1], 1001))]);
        assert_eq!(shown(&mut events, 1).await, ["1001"]);
        assert_eq!(shown(&mut bytes, 1).await.len(), 1);
    });
    let log = daemon.log();
    let moved: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("another thread reads"))
        .collect();
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert!(
        moved[0].contains("/events") && moved[0].contains("/bytes") && moved[0].contains(&topic),
        "{moved:?}"
    );
}
