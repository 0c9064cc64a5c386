//! The log as others read it: systemd's journal with priorities, programs as JSON lines, people as text; a
//! line cannot be mistaken for another, and no secret is in any.

use crate::common::{config, named, numbered};
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::{BINARY, Daemon};
use crate::harness::process::{Process, Signal};
use crate::harness::scratch;
use crate::harness::stream::Stream;
use crate::harness::systemd::Systemd;
use crate::harness::wait::{block_on, ensure, eventually, millis, secs};
use crate::reload::reload;
use crate::trials;
use kafka_sse_bridge::config::LogFormat;
use kafka_sse_bridge::logging::queue::{MAX_BYTES, Output, Queue};
use kafka_sse_bridge::logging::{LogReader, render};
use libtest_mimic::Trial;
use log::{Level, Record};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Instant, UNIX_EPOCH};

pub fn trials() -> Vec<Trial> {
    trials![
        a_logged_value_cannot_forge_a_log_line,
        only_the_journal_gets_priorities,
        a_failed_start_is_logged_to_the_journal_as_an_error,
        each_connect_and_disconnect_is_one_log_line,
        no_secret_is_logged_at_any_level,
        an_unread_stderr_blocks_nothing,
        lines_dropped_by_a_full_queue_are_counted_in_order,
    ]
}

fn rendered(level: Level, message: &str, format: LogFormat, reader: LogReader) -> String {
    let message = format_args!("{message}");
    let record = Record::builder()
        .level(level)
        .target("a::b")
        .args(message)
        .build();
    render(&record, UNIX_EPOCH, format, reader)
}

fn a_logged_value_cannot_forge_a_log_line() {
    use LogFormat::{Json, Text};
    use LogReader::{Anyone, Journal};
    let two = "first\nINFO x: second\u{1b}[2J\r";
    for (level, format, reader, line) in [
        (
            Level::Warn,
            Text,
            Anyone,
            "1970-01-01T00:00:00.000Z WARN  a::b: first\n    INFO x: second\\u{1b}[2J\\r\n",
        ),
        (
            Level::Error,
            Text,
            Journal,
            "<3>ERROR a::b: first\n<3>    INFO x: second\\u{1b}[2J\\r\n",
        ),
    ] {
        assert_eq!(rendered(level, two, format, reader), line);
    }
    for (level, priority) in [
        (Level::Error, 3),
        (Level::Warn, 4),
        (Level::Info, 6),
        (Level::Debug, 7),
        (Level::Trace, 7),
    ] {
        let line = rendered(level, two, Json, Journal);
        let json = line.strip_prefix(&format!("<{priority}>")).expect("its priority");
        assert_eq!(json.matches('\n').count(), 1, "{json:?}");
        let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(json["message"], two, "nothing is lost");
        assert!(rendered(level, two, Json, Anyone).starts_with('{'));
    }
}

/// The stderr of a command, with or without systemd's sign that it is the journal.
fn started(arguments: &[&str], is_journal: bool) -> (Process, File) {
    let log = tempfile::tempfile().expect("a file");
    let found = log.metadata().expect("it is there");
    let inode = found.ino() + u64::from(!is_journal);
    let mut command = Command::new(BINARY);
    command
        .args(arguments)
        .env("JOURNAL_STREAM", format!("{}:{inode}", found.dev()))
        .stdout(Stdio::null())
        .stderr(OwnedFd::from(log.try_clone().expect("a descriptor")));
    (Process::spawn(&mut command).expect("the binary"), log)
}

fn said(log: &File) -> String {
    // At offsets: the process writes at the position of the file, which the descriptors share.
    let length = log.metadata().expect("it is there").len();
    let mut said = vec![0; usize::try_from(length).expect("it fits")];
    log.read_exact_at(&mut said, 0).expect("a file");
    String::from_utf8(said).expect("UTF-8")
}

fn only_the_journal_gets_priorities() {
    let directory = scratch::directory("journal");
    let file = directory.path().join("config.toml");
    let bridge_log = directory.path().join("bridge.log");
    let nobody = free_port();
    let text = format!(
        "[kafka]\nbrokers = [\"127.0.0.1:{nobody}\"]\nclient = \"librdkafka\"\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
         [log]\nlevel = \"debug\"\nstderr = true\nfile = \"{}\"\n\
         [[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n",
        bridge_log.display()
    );
    fs::write(&file, text).expect("written");
    let path = file.to_str().expect("UTF-8");
    for is_journal in [true, false] {
        let (process, log) = started(&["run", "--config", path], is_journal);
        eventually(secs(30), "it says that no broker answers", || {
            let said = said(&log);
            ensure(said.contains("retrying\n"), said)
        });
        process.signal(Signal::TERM);
        assert!(process.wait(secs(20)).is_some_and(|status| status.success()));
        let said = said(&log);
        assert!(!said.is_empty());
        for line in said.lines() {
            if is_journal {
                let (priority, line) = line
                    .strip_prefix('<')
                    .and_then(|line| line.split_once('>'))
                    .unwrap_or_else(|| panic!("no priority: {line}"));
                let level = ["ERROR", "WARN", "INFO", "DEBUG"]
                    .iter()
                    .position(|level| line.starts_with(level));
                let expected = level.map(|level| ["3", "4", "6", "7"][level]);
                assert_eq!(Some(priority), expected, "{line}");
            } else {
                assert!(line.starts_with("20"), "the time: {line}");
            }
        }
        for priority in ["<4>WARN", "<6>INFO", "<7>DEBUG"] {
            assert_eq!(said.contains(priority), is_journal, "{priority}: {said}");
        }
    }
    let file = fs::read_to_string(bridge_log).expect("the file");
    assert!(
        file.lines().count() > 4 && file.lines().all(|line| line.starts_with("20")),
        "{file}"
    );
}

fn a_failed_start_is_logged_to_the_journal_as_an_error() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, "[http]\nkeepalive = \"0s\"\nnonsense = 1\n").expect("written");
    let path = file.path().to_str().expect("UTF-8");
    for (command, is_journal) in [("run", true), ("check", true), ("run", false)] {
        let (process, log) = started(&[command, "--config", path], is_journal);
        let status = process.wait(secs(20)).expect("it ends");
        assert_eq!(status.code(), Some(78));
        let said = said(&log);
        assert!(said.lines().count() >= 1 && said.contains("nonsense"), "{said}");
        let is_error = |line: &str| line.starts_with("<3>");
        assert!(said.lines().all(|line| is_error(line) == is_journal), "{said}");
    }
}

fn each_connect_and_disconnect_is_one_log_line() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("logs");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &numbered(0, 0, 3));
    let text = config(&broker, &[&topic], "start = \"earliest\"");
    let text = format!("{text}[log]\nlevel = \"debug\"\n");
    let daemon = Daemon::start(&text);
    let lines = |what: &str| -> Vec<String> {
        let log = daemon.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("http::event_stream: /events: 127.0.0.1:") && line.contains(what));
        lines.map(str::to_owned).collect()
    };
    block_on(async {
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream.collect_until(named("caught-up"), secs(30)).await;
        drop(stream);
        eventually(secs(20), "it is gone", || {
            ensure(
                lines(" closed, for 127.0.0.1: left after ").len() == 1,
                daemon.log(),
            )
        });
        assert!(
            lines(" closed, for ")[0].ends_with(" s, 3 events"),
            "{}",
            daemon.log()
        );
        assert_eq!(lines(" opened").len(), 1, "{}", daemon.log());
        // They are not logged by default.
        assert!(lines("").iter().all(|line| line.contains(" DEBUG ")));
        assert!(reload(&daemon, &text.replace("\"debug\"", "\"info\"")).contains("log.level"));
        let before = lines("").len();
        drop(Stream::open(daemon.url("/events")).await);
        daemon.get("/health/live").await;
        assert_eq!(lines("").len(), before);
        // The reason that a client receives is logged as well.
        assert!(reload(&daemon, &text).contains("log.level"));
        let mut stream = Stream::open(daemon.url("/events")).await;
        stream.collect_until(named("caught-up"), secs(30)).await;
        daemon.signal(Signal::TERM);
        stream.collect_to_end(secs(20)).await;
        daemon.wait_log(" closed, for 127.0.0.1: shutdown after ", secs(20));
    });
}

/// Secrets that must not appear in a log.
const SECRET: &str = "pa55word-that-nobody-may-see";

fn no_secret_is_logged_at_any_level() {
    let nobody = free_port();
    let text = |property: &str, more: &str| {
        format!(
            "[kafka]\nbrokers = [\"127.0.0.1:{nobody}\"]\n[kafka.librdkafka]\n\"sasl.mechanisms\" = \"PLAIN\"\n\
             \"security.protocol\" = \"SASL_PLAINTEXT\"\n\"sasl.username\" = \"bridge\"\n\
             \"{property}\" = \"{SECRET}\"\n\"debug\" = \"all\"\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
             [log]\nlevel = \"trace\"\n[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n{more}"
        )
    };
    let good = text("sasl.password", "");
    let systemd = Systemd::new();
    let daemon = systemd
        .hears(Daemon::with(&good))
        .env(
            "KAFKA_SSE_BRIDGE__KAFKA__LIBRDKAFKA__SSL_KEY_PASSWORD",
            format!("{SECRET}-too"),
        )
        .start();
    daemon.wait_log("retrying", secs(30));
    let status = systemd.status("that no broker answers", |status| status.contains("kafka 127"));
    assert!(!status.contains(SECRET), "{status}");
    for broken in [
        // A mistyped name: the secret is under one that librdkafka does not know.
        text("sasl.pasword", ""),
        text("sasl.password", "event = 1\n"),
        good.replace(&format!("\"{SECRET}\""), &format!("[\"{SECRET}\"]")),
        good.replace(&format!("\"{SECRET}\"\n"), &format!("\"{SECRET}\n")),
        good.replace("\"bridge\"", "\"another\""),
    ] {
        reload(&daemon, &broken);
        // Its queue is short.
        while let Some(message) = systemd.try_next(millis(1)) {
            assert!(!message.concat().contains(SECRET), "{message:?}");
        }
    }
    daemon.wait_log("librdkafka", secs(20));
    block_on(async {
        for path in ["/streams", "/health/ready", "/about"] {
            assert!(!daemon.get(path).await.text().contains(SECRET), "{path}");
        }
    });
    let log = daemon.log();
    let shown: Vec<&str> = log.lines().filter(|line| line.contains(SECRET)).collect();
    assert!(shown.is_empty(), "{shown:#?}");
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "it says all it can"
    );
}

fn an_unread_stderr_blocks_nothing() {
    // Never read.
    let (_reader, mut writer) = std::io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("its flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("it does not block");
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).expect("it blocks");

    let directory = scratch::directory("unread");
    let file = directory.path().join("config.toml");
    let bridge_log = directory.path().join("bridge.log");
    let port = free_port();
    let text = format!(
        "[kafka]\nbrokers = [\"127.0.0.1:{}\"]\n[http]\nlisten = [\"127.0.0.1:{port}\"]\n\
         [log]\nstderr = true\nfile = \"{}\"\n[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n",
        free_port(),
        bridge_log.display()
    );
    fs::write(&file, text).expect("written");
    let mut command = Command::new(BINARY);
    command.arg("run").arg("--config").arg(&file);
    command.stdout(Stdio::null()).stderr(writer);
    let process = Process::spawn(&mut command).expect("the binary");
    let logged = || fs::read_to_string(&bridge_log).unwrap_or_default();
    eventually(secs(30), "it serves", || {
        let answer = block_on(reqwest::get(format!("http://127.0.0.1:{port}/health/live")));
        ensure(answer.is_ok_and(|answer| answer.status() == 200), logged())
    });
    process.signal(Signal::TERM);
    let status = process.wait(secs(20));
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    // The other output gets the last line too.
    assert!(logged().contains("daemon: stopped\n"), "{}", logged());
}

/// An output that writes nothing while the gate is locked.
#[derive(Default)]
struct Gated {
    gate: Mutex<()>,
    written: Mutex<Vec<String>>,
}

impl Output for Gated {
    fn write(&self, text: &str) {
        let _open = self.gate.lock().expect("no panic");
        self.written.lock().expect("no panic").push(text.to_owned());
    }

    fn dropped(&self, count: u64) -> String {
        format!("{count} dropped")
    }
}

fn lines_dropped_by_a_full_queue_are_counted_in_order() {
    let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
    queue.start("queue").expect("a thread");
    let gated = Arc::new(Gated::default());
    let output: Arc<dyn Output> = gated.clone();
    let closed = gated.gate.lock().expect("no panic");
    let line = |number: usize| format!("{number:>1000}");
    let pushed = 2 * MAX_BYTES / 1000;
    for number in 0..pushed {
        queue.push(&output, line(number), false);
    }
    queue.push(&output, "an error".to_owned(), true);
    let started = Instant::now();
    queue.flush(started + millis(50));
    assert!(started.elapsed() >= millis(50), "nothing can be written");
    drop(closed);
    queue.push(&output, "after".to_owned(), true);
    queue.flush(Instant::now() + secs(30));

    let written = gated.written.lock().expect("no panic").clone();
    let lines = written.iter().take_while(|text| text.len() == 1000).count();
    assert!(lines > pushed / 4 && lines < pushed, "{lines} of {pushed}");
    assert!(
        written
            .iter()
            .take(lines)
            .eq(&(0..lines).map(line).collect::<Vec<_>>())
    );
    let rest = [
        "an error".to_owned(),
        format!("{} dropped", pushed - lines),
        "after".to_owned(),
    ];
    assert_eq!(written[lines..], rest);
}
