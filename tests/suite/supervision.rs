//! Notifications to systemd: the watchdog, which Kafka's outages do not stop and a stuck part does, and the status
//! line.

use crate::common::{config, config_with, named, numbered, records};
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::hang::Hung;
use crate::harness::process::Signal;
use crate::harness::stream::Stream;
use crate::harness::systemd::Systemd;
use crate::harness::wait::{block_on, ensure, eventually, secs};
use crate::harness::{promise, trial};
use crate::limits::config_of;
use crate::reload::reload;
use kafka_sse_bridge::daemon::runtime;
use kafka_sse_bridge::kafka::pulse::Pulse;
use kafka_sse_bridge::watchdog::Workers;
use libtest_mimic::Trial;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(a_thread_is_late_only_after_its_own_deadline),
        promise(a_stuck_worker_is_detected),
        trial("a_kafka_thread_that_hangs_misses_the_watchdog@4.4.0", || {
            hung_reader(Version::V4_4, "librdkafka");
        }),
        trial(
            "a_kafka_thread_that_hangs_misses_the_watchdog_with_the_kafka_crate@3.9.2",
            || hung_reader(Version::V3_9, "kafka"),
        ),
        promise(an_http_runtime_that_hangs_misses_the_watchdog),
        trial("a_delivery_thread_that_hangs_misses_the_watchdog@4.4.0", || {
            hung_delivery();
        }),
        promise(hanging_writers_miss_the_watchdog_and_delay_nothing_else),
        trial("a_frozen_broker_does_not_end_the_daemon@4.4.0", || {
            frozen_broker(Version::V4_4, "librdkafka");
        }),
        trial(
            "a_frozen_broker_does_not_end_the_daemon_with_the_kafka_crate@3.9.2",
            || frozen_broker(Version::V3_9, "kafka"),
        ),
        promise(a_missing_broker_does_not_end_the_daemon),
        promise(the_watchdog_check_passes_with_a_base_path_and_limits),
        promise(without_a_watchdog_no_keepalives_are_sent_to_systemd),
        promise(an_unread_notify_socket_blocks_nothing),
        promise(notifications_wait_in_order_until_systemd_reads_them),
        promise(notifications_reach_an_abstract_socket),
        promise(the_systemd_status_reports_clients_lag_and_problems),
        promise(the_systemd_status_reports_a_failed_reload_until_one_succeeds),
    ]
}

fn the_watchdog_check_passes_with_a_base_path_and_limits() {
    let systemd = Systemd::new();
    let daemon = watched(&systemd, &config_of("base_path = \"/live\"\nmax_clients = 1"));
    block_on(async {
        let _only = Stream::open(daemon.url("/live/events")).await;
        let status = daemon.get("/health/live").await.status;
        assert_eq!(status, 404, "it is not there for others");
        lives(&systemd);
    });
}

/// `WatchdogSec=` of the tests below.
const PERIOD: Duration = secs(2);

/// A daemon under a watchdog.
fn watched(systemd: &Systemd, text: &str) -> Daemon {
    let micros = PERIOD.as_micros().to_string();
    systemd
        .hears(Daemon::with(text))
        .env("WATCHDOG_USEC", micros)
        .start()
}

/// The daemon notifies systemd, which would stop it otherwise.
#[track_caller]
fn lives(systemd: &Systemd) {
    let heard = systemd.signs_of_life(3 * PERIOD);
    assert!(heard >= 3, "{heard} signs of life in {:?}", 3 * PERIOD);
}

fn a_thread_is_late_only_after_its_own_deadline() {
    let pulse = Pulse::default();
    assert_eq!(pulse.overdue(), None, "no operation has started");
    pulse.beat(secs(60));
    assert_eq!(pulse.overdue(), None, "its deadline is a minute away");
    pulse.beat(Duration::ZERO);
    eventually(secs(10), "it is late", || pulse.overdue().ok_or("it is not"));
    pulse.beat(secs(60));
    assert_eq!(pulse.overdue(), None, "it is back");
    pulse.beat(Duration::ZERO);
    pulse.rest();
    assert_eq!(pulse.overdue(), None, "it has ended");
}

fn a_stuck_worker_is_detected() {
    let runtime = runtime().expect("a runtime");
    let mut workers = Workers::new(runtime.handle().metrics());
    // A busy worker that returns from its tasks. On a busy machine it may wait for a processor between two checks.
    let turns = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&turns);
    let busy = runtime.spawn(async move {
        loop {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let slack = secs(1);
    for _ in 0..30 {
        let before = turns.load(Ordering::Relaxed);
        workers.look(slack / 8);
        assert_eq!(workers.stuck(slack), None);
        // Time that the next look would count if the worker were stuck.
        std::thread::sleep(Duration::from_millis(100));
        // Enough for the runtime to publish its metrics.
        eventually(secs(60), "the busy worker runs", || {
            ensure(turns.load(Ordering::Relaxed) > before + 1000, "it does not")
        });
    }
    let (release, held) = mpsc::channel::<()>();
    runtime.spawn(async move {
        let _ = held.recv();
    });
    eventually(secs(20), "it is seen", || {
        workers.look(slack / 8);
        workers.stuck(slack).ok_or("it is not")
    });
    drop(release);
    eventually(secs(20), "it is back", || {
        workers.look(slack / 8);
        ensure(workers.stuck(slack).is_none(), "it is not")
    });
    busy.abort();
}

/// A daemon that has read a topic's one record, with a client that has it.
fn reading(systemd: &Systemd, version: Version, client: &str) -> (Broker, String, Daemon) {
    let broker = Broker::start(version);
    let topic = topic_name("watched");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &numbered(0, 0, 1));
    let text = config_with(client, &broker, &[&topic], "start = \"earliest\"");
    let daemon = watched(systemd, &text);
    block_on(daemon.wait_ready(secs(30)));
    (broker, topic, daemon)
}

const HANGS: &str = "a thread that reads Kafka hangs";

fn hung_reader(version: Version, client: &str) {
    let systemd = Systemd::new();
    let (broker, topic, daemon) = reading(&systemd, version, client);
    lives(&systemd);
    let hung = Hung::threads(daemon.pid(), "kafka-reader");
    daemon.wait_log(HANGS, secs(30));
    assert_eq!(systemd.signs_of_life(2 * PERIOD), 0);
    assert_eq!(
        block_on(daemon.get("/health/live")).status,
        200,
        "all else still turns"
    );
    drop(hung);
    daemon.wait_log("all parts advance again", secs(30));
    lives(&systemd);
    broker.produce(&topic, &numbered(0, 1, 1));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        let events = stream.collect_until(|event| event.data == "p0-1", secs(30)).await;
        assert_eq!(records(&events), ["p0-0", "p0-1"]);
    });
}

fn an_http_runtime_that_hangs_misses_the_watchdog() {
    let systemd = Systemd::new();
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("watched");
    broker.create_topic(&topic, 1, &[]);
    let daemon = watched(&systemd, &config(&broker, &[&topic], ""));
    lives(&systemd);
    let hung = Hung::threads(daemon.pid(), "http");
    // One may have been on its way.
    systemd.signs_of_life(PERIOD);
    assert_eq!(systemd.signs_of_life(2 * PERIOD), 0);
    drop(hung);
    eventually(secs(30), "it lives again", || {
        ensure(systemd.signs_of_life(PERIOD) > 0, "it does not")
    });
}

fn hung_delivery() {
    let systemd = Systemd::new();
    let (broker, topic, daemon) = reading(&systemd, Version::V4_4, "librdkafka");
    lives(&systemd);
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream.collect_until(named("caught-up"), secs(30)).await;
        let hung = Hung::threads(daemon.pid(), "delivery");
        broker.produce(&topic, &numbered(0, 1, 1));
        daemon.wait_log("watchdog: delivery thread", secs(30));
        assert_eq!(systemd.signs_of_life(2 * PERIOD), 0);
        assert_eq!(
            daemon.get("/health/live").await.status,
            200,
            "all else still turns"
        );
        drop(hung);
        daemon.wait_log("all parts advance again", secs(30));
        lives(&systemd);
        assert_eq!(stream.next(secs(30)).await.data, "p0-1");
    });
}

fn hanging_writers_miss_the_watchdog_and_delay_nothing_else() {
    let systemd = Systemd::new();
    let (broker, topic, daemon) = reading(&systemd, Version::V4_4, "librdkafka");
    lives(&systemd);
    let hung = Hung::threads(daemon.pid(), "stream-writer");
    broker.produce(&topic, &numbered(0, 1, 1));
    daemon.wait_log("no writer thread returns from its task", secs(30));
    assert_eq!(systemd.signs_of_life(2 * PERIOD), 0);
    block_on(async {
        assert_eq!(daemon.get("/health/live").await.status, 200);
        let mut stream = Stream::open(daemon.url("/events")).await;
        let events = stream.collect_until(|event| event.data == "p0-0", secs(30)).await;
        assert_eq!(records(&events), ["p0-0"], "what is in memory");
        drop(hung);
        daemon.wait_log("all parts advance again", secs(30));
        lives(&systemd);
        let events = stream.collect_until(|event| event.data == "p0-1", secs(30)).await;
        assert_eq!(records(&events), ["p0-1"], "what was read meanwhile");
    });
}

fn frozen_broker(version: Version, client: &str) {
    let systemd = Systemd::new();
    let (broker, topic, daemon) = reading(&systemd, version, client);
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream.collect_until(named("caught-up"), secs(30)).await;
        broker.freeze();
        for _ in 0..3 {
            lives(&systemd);
        }
        broker.thaw();
        broker.produce(&topic, &numbered(0, 1, 1));
        assert_eq!(stream.next(secs(60)).await.data, "p0-1");
    });
    assert!(!daemon.log().contains(HANGS), "{}", daemon.log());
    // At a start as well.
    broker.freeze();
    let text = config_with(client, &broker, &[&topic], "start = \"earliest\"");
    let (later, systemd) = (systemd, Systemd::new());
    let daemon = watched(&systemd, &text);
    for _ in 0..2 {
        lives(&systemd);
    }
    assert!(!daemon.log().contains(HANGS), "{}", daemon.log());
    broker.thaw();
    drop(later);
}

fn a_missing_broker_does_not_end_the_daemon() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let systemd = Systemd::new();
    let text = format!(
        "[kafka]\nbrokers = [\"{nobody}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
         [[stream]]\npath = \"/events\"\ntopics = [\"t\"]\n"
    );
    let daemon = watched(&systemd, &text);
    systemd.status("of it", |status| status.contains(&nobody));
    for _ in 0..3 {
        lives(&systemd);
    }
    assert!(!daemon.log().contains(HANGS), "{}", daemon.log());
}

fn without_a_watchdog_no_keepalives_are_sent_to_systemd() {
    let systemd = Systemd::new();
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("watched");
    broker.create_topic(&topic, 1, &[]);
    let text = config(&broker, &[&topic], "");
    let _daemon = systemd.start(&text);
    assert_eq!(systemd.signs_of_life(2 * PERIOD), 0);
    // Messages for another process.
    let other = Systemd::new();
    let _daemon = other
        .hears(Daemon::with(&text))
        .env("WATCHDOG_USEC", "1000000")
        .env("WATCHDOG_PID", "1")
        .start();
    assert_eq!(other.signs_of_life(2 * PERIOD), 0);
}

fn the_systemd_status_reports_clients_lag_and_problems() {
    let systemd = Systemd::new();
    let broker = Broker::start(Version::V4_4);
    let topic = topic_name("status");
    broker.create_topic(&topic, 1, &[]);
    let text = config(&broker, &[&topic], "start = \"earliest\"");
    let more = format!("{text}[[stream]]\npath = \"/more\"\ntopics = [\"{topic}\"]\n");
    let daemon = systemd.start(&more);
    systemd.status("of no client", |status| {
        status == "0 clients on 2 streams; lag 0 records"
    });
    block_on(async {
        let first = Stream::open(daemon.url("/events")).await;
        systemd.status("of one", |status| {
            status == "1 client on 2 streams; lag 0 records"
        });
        let second = Stream::open(daemon.url("/more")).await;
        systemd.status("of two", |status| {
            status == "2 clients on 2 streams; lag 0 records"
        });
        drop((first, second));
    });
    systemd.status("that they are gone", |status| status.starts_with("0 clients"));
    broker.kill9();
    let trouble = systemd.status("of the problem", |status| status.contains("kafka 127.0.0.1"));
    assert!(trouble.starts_with("0 clients on 2 streams; "), "{trouble}");
}

fn the_systemd_status_reports_a_failed_reload_until_one_succeeds() {
    let systemd = Systemd::new();
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("status");
    broker.create_topic(&topic, 1, &[]);
    let text = config(&broker, &[&topic], "start = \"earliest\"");
    let daemon = systemd.start(&text);
    reload(&daemon, "[[[");
    let why = "reload failed, the running configuration is unchanged: ";
    systemd.status("why", |status| {
        status.starts_with(why) && status.contains("config.toml:1: ")
    });
    block_on(async {
        // It is still part of later messages.
        let _stream = Stream::open(daemon.url("/events")).await;
        systemd.status("why and of the client", |status| {
            status.starts_with(why) && status.contains("; 1 client on 1 stream; ")
        });
    });
    reload(&daemon, &text);
    systemd.status("that all is well", |status| {
        status.ends_with("; reloaded: nothing has changed") && !status.contains(why)
    });
}

/// A configuration that no broker answers.
fn alone() -> String {
    format!(
        "[kafka]\nbrokers = [\"127.0.0.1:{}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
         [[stream]]\npath = \"/events\"\ntopics = [\"t\"]\n",
        free_port()
    )
}

fn an_unread_notify_socket_blocks_nothing() {
    let systemd = Systemd::new();
    systemd.fill();
    let mut daemon = watched(&systemd, &alone());
    daemon.wait_log("systemd does not read NOTIFY_SOCKET", secs(20));
    // Every worker has had something to send by then.
    let reloads = |daemon: &Daemon| daemon.log().matches("reloaded: ").count();
    for done in 0..8 {
        daemon.signal(Signal::HUP);
        eventually(secs(20), "it reloads", || {
            ensure(reloads(&daemon) > done, "it does not")
        });
        assert_eq!(block_on(daemon.get("/health/live")).status, 200);
    }
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit(secs(20)).success());
}

fn notifications_wait_in_order_until_systemd_reads_them() {
    let systemd = Systemd::new();
    systemd.fill();
    let text = alone();
    let daemon = watched(&systemd, &text);
    daemon.wait_log("systemd does not read NOTIFY_SOCKET", secs(20));
    for _ in 0..3 {
        reload(&daemon, &text);
    }
    // Of unread reloads and statuses, the last ones are sent.
    assert_eq!(systemd.next_change(), ["READY=1"]);
    let reloading = systemd.next_change();
    assert_eq!(reloading[0], "RELOADING=1");
    assert!(reloading[1].starts_with("MONOTONIC_USEC="), "{reloading:?}");
    assert_eq!(systemd.next_change(), ["READY=1"]);
    lives(&systemd);
    systemd.fill();
    daemon.signal(Signal::TERM);
    assert_eq!(systemd.next_change(), ["STOPPING=1"]);
}

fn notifications_reach_an_abstract_socket() {
    let name = topic_name("notify");
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    socket.set_read_timeout(Some(secs(20))).expect("a timeout");
    let _daemon = Daemon::with(&alone())
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .start();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).expect("a message");
    assert_eq!(&buffer[..length], b"READY=1\n");
}
