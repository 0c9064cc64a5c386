//! Files that a broker needs before it starts: jars, a formatted data directory, a class archive, its settings.
//!
//! All but the settings are kept in the cache that `scripts/kafka-jars` fills, because a cold start without them
//! takes twice as long.

use super::process::Process;
use super::scratch;
use super::wait::secs;
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// A Kafka version's directory of jars.
#[derive(Clone)]
pub struct KafkaHome {
    version: String,
    jars: PathBuf,
    java: PathBuf,
}

/// One `log4j` set-up for both generations of brokers; the two silenced loggers print every setting, thrice.
const LOG4J: &str = "\
log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{HH:mm:ss.SSS} %p %c{1} %m%n
log4j.logger.org.apache.kafka.common.config.AbstractConfig=WARN
log4j.logger.kafka.server.KafkaConfig=WARN
";

impl KafkaHome {
    /// Fetches the jars if they are not there yet.
    pub fn find(version: &str) -> Result<KafkaHome, String> {
        // One at a time, so that a first run's output is one fetch after the other.
        static FETCHING: Mutex<()> = Mutex::new(());
        let _turn = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);

        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka-jars");
        let output = Command::new(script)
            .arg(version)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("{script}: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "{script} {version}: {} (its stderr is above)",
                output.status
            ));
        }
        let jars = String::from_utf8_lossy(&output.stdout).trim().into();
        Ok(KafkaHome {
            version: version.to_owned(),
            jars,
            java: java()?,
        })
    }

    /// A `java` command that runs `class` with the jars and our logging, its output going to `log`.
    pub fn java(&self, class: &str, options: &[OsString], work: &Path, log: &Path) -> io::Result<Command> {
        let log4j = work.join("log4j.properties");
        fs::write(&log4j, LOG4J)?;
        let out = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(&self.java);
        command
            // Quick to start and small on two cores, without the tuning of a long-lived server.
            .args([
                "-Xmx256m",
                "-Xss512k",
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-Xshare:auto",
            ])
            .arg(format!("-Dlog4j.configuration=file:{}", log4j.display()))
            .args(options)
            .arg("-cp")
            .arg(self.jars.join("*"))
            .arg(class)
            .current_dir(work)
            .stdout(out.try_clone()?)
            .stderr(out);
        Ok(command)
    }

    /// Fills `data` with a formatted log directory for a node of a cluster.
    pub fn format(&self, data: &Path, node: usize, cluster: &str) -> Result<(), String> {
        let context = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| format!("{what}: {error}")
        };
        let template = self.template()?;
        fs::create_dir_all(data).map_err(context("data directory"))?;
        for entry in fs::read_dir(&template).map_err(context("formatted template"))? {
            let entry = entry.map_err(context("formatted template"))?;
            let target = data.join(entry.file_name());
            copy(&entry.path(), &target).map_err(context("copying the template"))?;
        }
        let meta = data.join("meta.properties");
        let text = fs::read_to_string(&meta).map_err(context("meta.properties"))?;
        let text: String = text
            .lines()
            .map(|line| match line.split_once('=') {
                Some(("cluster.id", _)) => format!("cluster.id={cluster}\n"),
                Some(("node.id", _)) => format!("node.id={node}\n"),
                // The nodes of a cluster refuse one that has another's.
                Some(("directory.id", _)) => format!("directory.id={}\n", unique_id()),
                _ => format!("{line}\n"),
            })
            .collect();
        fs::write(&meta, text).map_err(context("meta.properties"))
    }

    /// The directory that Kafka's StorageTool has formatted, made once per version.
    fn template(&self) -> Result<PathBuf, String> {
        static FORMATTING: Mutex<()> = Mutex::new(());
        let _turn = FORMATTING.lock().unwrap_or_else(PoisonError::into_inner);

        let template = self.jars.join("formatted");
        if template.is_dir() {
            return Ok(template);
        }
        let work = scratch::directory("format");
        // Beside the template, not in the temp directory: a rename must not cross file systems.
        let fresh = TempDir::with_prefix_in(".formatted-", &self.jars).map_err(|e| e.to_string())?;
        let data = fresh.path().join("data");
        let file = work.path().join("server.properties");
        fs::write(&file, properties(&data, 9092, 9093, secs(9))).map_err(|e| e.to_string())?;
        let log = work.path().join("format.log");
        let mut command = self
            .java("kafka.tools.StorageTool", &[], work.path(), &log)
            .map_err(|e| e.to_string())?;
        command
            .args(["format", "--cluster-id", &unique_id(), "--config"])
            .arg(&file);
        let tool = Process::spawn(&mut command).map_err(|error| format!("java: {error}"))?;
        let ended = tool.wait(secs(60));
        if !ended.is_some_and(|status| status.success()) {
            return Err(format!("StorageTool {}: {ended:?}\n{}", self.version, tail(&log)));
        }
        match fs::rename(&data, &template) {
            // Another suite may have been quicker, with the same result.
            Err(_) if template.is_dir() => Ok(template),
            Err(error) => Err(format!("{}: {error}", template.display())),
            Ok(()) => Ok(template),
        }
    }

    /// Where this JVM's archive of the broker's classes belongs. The JVM checks that it fits the jars,
    /// and starts without it, slower, if not.
    pub fn class_archive(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        self.java.hash(&mut hasher);
        let changed = fs::metadata(&self.java).and_then(|java| java.modified());
        changed.ok().hash(&mut hasher);
        self.jars.join(format!("classes-{:016x}.jsa", hasher.finish()))
    }
}

fn java() -> Result<PathBuf, String> {
    let named = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    named
        .into_iter()
        .chain(std::env::split_paths(&path).map(|directory| directory.join("java")))
        .find_map(|java| java.canonicalize().ok())
        .ok_or_else(|| "no java in JAVA_HOME or PATH (package: default-jre-headless, 17 or later)".to_owned())
}

/// `server.properties` of a broker that starts quickly and runs its periodic tasks every few seconds.
///
/// `session` is how long the controller takes a killed broker to be alive, and refuses its successor.
pub fn properties(data: &Path, port: u16, controller: u16, session: Duration) -> String {
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
# On, so that a test can show that the daemon creates no topic even where it could.
auto.create.topics.enable=true
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms={session}
broker.heartbeat.interval.ms={heartbeat}
# Retention and compaction within a test's patience; by time only where a topic says so, or records
# with timestamps of long ago would be gone at once.
log.retention.ms=-1
log.initial.task.delay.ms=200
log.retention.check.interval.ms=200
log.segment.delete.delay.ms=100
log.cleaner.backoff.ms=200
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=2
background.threads=2
",
        data = data.display(),
        session = session.as_millis(),
        heartbeat = session.as_millis() / 5,
    )
}

/// 22 characters of Kafka's base64 alphabet, which no other cluster or directory has.
pub fn unique_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:015x}{count:06x}A", std::process::id())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    fs::read_dir(from)?.try_for_each(|entry| {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))
    })
}

/// The end of a log file, for a failure's message.
pub fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
