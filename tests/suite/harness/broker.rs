//! A real Kafka broker (KRaft, broker and controller in one process) that tests can kill and freeze.

use super::kafka_home::{KafkaHome, properties, tail, unique_id};
use super::process::{Process, Signal};
use super::scratch;
use super::wait::{ensure, millis, secs};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The brokers the project promises to work with: the last that speaks the oldest requests, and the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V3_9,
    V4_4,
}

impl Version {
    pub const ALL: [Version; 2] = [Version::V3_9, Version::V4_4];

    pub fn number(self) -> &'static str {
        match self {
            Version::V3_9 => "3.9.2",
            Version::V4_4 => "4.4.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.number())
    }
}

/// How long a start may take on a machine that is busy with other builds.
const START: Duration = Duration::from_secs(60);

/// A broker's place in its cluster, which may be of one.
pub(super) struct Node {
    /// From 1.
    pub number: usize,
    pub port: u16,
    /// The port of its controller.
    pub controller: u16,
    pub cluster: String,
}

/// Stopped, and its data removed, when dropped.
pub struct Broker {
    version: Version,
    home: KafkaHome,
    port: u16,
    /// `None` between `kill9` and `restart`. Before `directory`: the process ends before its files go.
    process: Mutex<Option<Process>>,
    /// Where the JVM leaves its class archive when it exits, if this start makes one.
    archiving: Option<PathBuf>,
    directory: TempDir,
    /// From the start of java to the first answer.
    pub started_in: Duration,
}

/// A broker that never started is not tried again by every test; its error is shown again.
type Shared = Mutex<Option<Result<Arc<Broker>, String>>>;
static SHARED: [Shared; 2] = [const { Mutex::new(None) }; 2];

impl Broker {
    /// The broker all tests of the run share; for tests that do it no harm.
    pub fn shared(version: Version) -> Arc<Broker> {
        let mut slot = SHARED[version as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let started = slot.get_or_insert_with(|| Broker::launch(version, true, "").map(Arc::new));
        match started {
            Ok(broker) => Arc::clone(broker),
            Err(error) => panic!("{error}"),
        }
    }

    /// A broker of the test's own, to kill, freeze and restart.
    pub fn start(version: Version) -> Broker {
        Broker::start_with(version, "")
    }

    /// The same, with more lines of `server.properties`, which replace those of the same name; `{port}`
    /// and `{controller}` in them are the ports of the two usual listeners.
    pub fn start_with(version: Version, more: &str) -> Broker {
        Broker::launch(version, false, more).unwrap_or_else(|error| panic!("{error}"))
    }

    fn launch(version: Version, shared: bool, more: &str) -> Result<Broker, String> {
        let home = KafkaHome::find(version.number())?;
        let archive = home.class_archive();
        // Only a shared broker makes the archive: it lives long, sees most requests, and stops in peace.
        let archiving = (shared && !archive.exists())
            .then(|| archive.with_extension(format!("{}.tmp", std::process::id())));
        // Kafka's own timeout where no broker is killed; a tenth of it where a test waits for the successor.
        let session = if shared { secs(9) } else { millis(1500) };
        let mut last = String::new();
        // A port that was free a moment ago may be another's by the time the broker binds it.
        for _ in 0..3 {
            let node = Node {
                number: 1,
                port: free_port(),
                controller: free_port(),
                cluster: unique_id(),
            };
            let mut broker = Broker::prepare(version, &home, &node, session, more)?;
            broker.archiving.clone_from(&archiving);
            match broker.run() {
                Ok(took) => {
                    broker.started_in = took;
                    return Ok(broker);
                }
                Err(error) => last = error,
            }
            if !last.contains("Address already in use") {
                break;
            }
        }
        Err(last)
    }

    /// One of the brokers of a cluster, not yet started.
    pub(super) fn prepare(
        version: Version,
        home: &KafkaHome,
        node: &Node,
        session: Duration,
        more: &str,
    ) -> Result<Broker, String> {
        let directory = scratch::directory(&format!("kafka-{version}"));
        let data = directory.path().join("data");
        home.format(&data, node.number, &node.cluster)?;
        let more = more.replace("{port}", &node.port.to_string());
        let more = more.replace("{controller}", &node.controller.to_string());
        let properties = properties(&data, node.port, node.controller, session) + &more;
        fs::write(directory.path().join("server.properties"), properties)
            .map_err(|error| format!("server.properties: {error}"))?;
        Ok(Broker {
            version,
            home: home.clone(),
            port: node.port,
            process: Mutex::new(None),
            archiving: None,
            directory,
            started_in: Duration::ZERO,
        })
    }

    /// Starts java and waits for the first answer.
    pub(super) fn run(&self) -> Result<Duration, String> {
        let started = Instant::now();
        let log = self.log_file();
        let archive = match &self.archiving {
            Some(archive) => ("-XX:ArchiveClassesAtExit=", archive.clone()),
            None => ("-XX:SharedArchiveFile=", self.home.class_archive()),
        };
        let mut option = OsString::from(archive.0);
        option.push(archive.1);
        let work = self.directory.path();
        let process = self
            .home
            .java("kafka.Kafka", &[option], work, &log)
            .and_then(|mut java| Process::spawn(java.arg("server.properties")))
            .map_err(|error| format!("java: {error}"))?;

        let asking: BaseConsumer = self
            .client()
            .create()
            .map_err(|error| format!("librdkafka: {error}"))?;
        loop {
            let answer = asking
                .fetch_metadata(None, millis(250))
                .map_err(|error| error.to_string())
                .and_then(|all| ensure(!all.brokers().is_empty(), "no broker is alive yet"));
            let ended = process.try_wait();
            match answer {
                // Another process may answer on the port: ours must be alive as well.
                Ok(()) if ended.is_none() => break,
                _ if ended.is_none() && started.elapsed() < START => {}
                answer => {
                    return Err(format!(
                        "Kafka {} did not start: {ended:?}, {answer:?}; its log ends:\n{}",
                        self.version,
                        tail(&log)
                    ));
                }
            }
        }
        *self.process() = Some(process);
        Ok(started.elapsed())
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// `host:port`, for a configuration's `brokers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A client configuration with this broker's address and short reconnect times.
    pub fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", self.bootstrap())
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            .set("allow.auto.create.topics", "false");
        client
    }

    /// SIGKILL, like a power cut: nothing is flushed, and no client is notified.
    pub fn kill9(&self) {
        drop(self.process().take());
    }

    /// SIGTERM, and waits for the end, as an upgrade would.
    pub fn stop(&self) {
        if let Some(process) = self.process().take() {
            process.signal(Signal::TERM);
            process.wait(secs(30));
        }
    }

    /// Starts it again on the same port with the same data, and returns how long that took.
    pub fn restart(&self) -> Duration {
        assert!(self.process().is_none(), "kill9() or stop() comes first");
        self.run().unwrap_or_else(|error| panic!("{error}"))
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process();
        process.as_ref().expect("the broker runs").signal(signal);
    }

    pub fn pid(&self) -> u32 {
        self.process().as_ref().expect("the broker runs").pid()
    }

    /// Where its topics' directories are.
    pub(super) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn log_file(&self) -> PathBuf {
        self.directory.path().join("broker.log")
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let Some(archiving) = self.archiving.take() else {
            return self.kill9();
        };
        // The JVM writes the archive as it exits; a broker that was killed leaves none.
        self.stop();
        let _ = fs::rename(&archiving, self.home.class_archive());
        let _ = fs::remove_file(&archiving);
    }
}

pub(super) fn stop_shared() {
    for slot in &SHARED {
        drop(slot.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// A name no other test of this run, or of one before on the same broker, has used.
pub fn topic_name(hint: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{hint}-{}-{count}", std::process::id())
}

/// An unused port below the kernel's range for outgoing connections: while a broker is
/// down, its clients knock at the port, and one of theirs could be given just that number.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Suites that run at once begin far apart.
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let step = TRIED.fetch_add(1, Ordering::Relaxed);
        let place = start.wrapping_add(step) % u32::from(COUNT);
        let port = FIRST + u16::try_from(place).expect("less than COUNT");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST}");
}
