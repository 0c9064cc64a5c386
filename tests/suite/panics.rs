//! A panic in any thread ends the process with its message, because a daemon that lacks a thread would look alive.
//!
//! The daemon never panics on demand. So this program starts itself again, and panics there in a thread of each kind
//! through the input of that thread.

use crate::harness::process::Process;
use crate::harness::trial;
use crate::harness::wait::secs;
use crate::rig;
use kafka_sse_bridge::config::socket::SocketAccess;
use kafka_sse_bridge::config::{Client, LogSettings, Scheme};
use kafka_sse_bridge::http::connections::Connections;
use kafka_sse_bridge::http::exposure::Surface;
use kafka_sse_bridge::http::listener::Listener;
use kafka_sse_bridge::http::router::Handler;
use kafka_sse_bridge::http::server::{Stopping, Transport, serve};
use kafka_sse_bridge::kafka::client::{Connect, Handles};
use kafka_sse_bridge::kafka::error::KafkaError;
use kafka_sse_bridge::kafka::history::{Archive, History, OffsetLookup, OffsetSpec};
use kafka_sse_bridge::kafka::reader::{ReaderHandle, StartOffset, TopicPlan};
use kafka_sse_bridge::kafka::record::{Batch, Feed, Stamp};
use kafka_sse_bridge::stream::Stream;
use kafka_sse_bridge::stream::clock::Clock;
use kafka_sse_bridge::stream::writer::Writer;
use kafka_sse_bridge::writers::Writers;
use kafka_sse_bridge::{cli, daemon, logging};
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The variable that names the thread that panics, in the environment of the second process.
pub const THREAD: &str = "KAFKA_SSE_BRIDGE_SUITE_PANICS";

const MESSAGE: &str = "something that cannot be";

pub fn trials() -> Vec<Trial> {
    ["kafka-reader", "kafka-history", "writer", "http"]
        .map(|thread| trial(format!("a_panic_ends_the_process_in_{thread}"), || ends(thread)))
        .into()
}

fn ends(thread: &str) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .env(THREAD, thread)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let process = Process::spawn(&mut command).expect("this program again");
    let mut stderr = process.take(|child| child.stderr.take()).expect("it is piped");
    let status = process.wait(secs(60)).expect("it ends by itself");
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("UTF-8");
    // SIGABRT, after which systemd restarts it.
    assert_eq!(status.signal(), Some(6), "{status}: {said}");
    assert!(said.contains("ERROR") && said.contains(MESSAGE), "{said}");
}

/// The second program.
pub fn child(thread: &str) -> ! {
    logging::apply(&LogSettings::default()).expect("a log");
    cli::die_of_panics();
    let runtime = daemon::runtime().expect("a runtime");
    let (sender, receiver) = mpsc::channel(1);
    // Kept, so that no thread ends for lack of a user.
    let _tail;
    let writers = Writers::start().expect("threads");
    let mut tasks = JoinSet::new();
    let history = History::with(
        Box::new(|| Box::new(Panics)),
        Client::Auto,
        Arc::default(),
        Arc::default(),
    );
    let wanted = Arc::new(());
    match thread {
        "kafka-reader" => {
            let plan = TopicPlan {
                name: "t".into(),
                start: StartOffset::Earliest,
                feeds: vec![sender.into()],
            };
            _tail = ReaderHandle::spawn_with(Box::new(Panics), vec![plan], Arc::default());
        }
        "kafka-history" => {
            let lookup = OffsetLookup {
                topics: vec![("t".into(), vec![OffsetSpec::Latest])],
                is_started: Arc::default(),
                wanted: Arc::downgrade(&wanted),
                reply: Box::new(|_| {}),
            };
            history.look_up(lookup).expect("it is not busy");
        }
        "writer" => {
            let clock = Clock {
                time_of_day: panicking_clock,
                ..Clock::SYSTEM
            };
            let settings = rig::settings(1, |_| {});
            let stream = Stream::with_clock(settings.clone(), rig::PACE, None, clock);
            writers.spawn(&mut tasks, &settings, Writer::new(stream), receiver);
            let mut batch = Batch::new("t".into());
            let stamp = Stamp {
                partition: 0,
                offset: 0,
                timestamp: None,
            };
            batch.push(stamp, None, Some(b"x"), std::iter::empty());
            for feed in [rig::assigned("t", &[0]), Feed::Records(Arc::new(batch))] {
                sender.blocking_send(feed).expect("it is fed");
            }
        }
        "http" => {
            let handler: Handler = Arc::new(|_| panic!("{MESSAGE}"));
            let listener = Listener::bind("127.0.0.1:0", &SocketAccess::default())
                .expect("a port")
                .remove(0);
            let address = listener.url(Scheme::Http).replace("http://", "");
            let (_switch, stopping) = Stopping::channel();
            let connections = Arc::new(Connections::new(secs(30)));
            runtime.spawn(serve(
                listener,
                Transport::Plain,
                Surface::Public,
                handler,
                connections,
                stopping,
            ));
            let mut client = TcpStream::connect(address).expect("it listens");
            client
                .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                .expect("sent");
            // No answer comes.
            let _ = client.read(&mut [0]);
        }
        other => unreachable!("{other}"),
    }
    // A daemon that lacks a thread.
    loop {
        std::thread::park();
    }
}

struct Panics;

impl Connect for Panics {
    fn connect(&mut self) -> Result<Handles, KafkaError> {
        panic!("{MESSAGE}")
    }

    fn brokers(&self) -> Arc<str> {
        "b:1".into()
    }

    fn refuse(&mut self, _why: &KafkaError) -> bool {
        false
    }
}

/// Told once before there is anything to do.
fn panicking_clock() -> std::time::Duration {
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    assert!(TOLD.fetch_add(1, Ordering::Relaxed) == 0, "{MESSAGE}");
    secs(1)
}
