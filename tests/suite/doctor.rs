//! `doctor` tries all that the daemon needs, names what fails with its remedy, and goes on to the rest: its
//! reports, the configuration and this machine. Findings about Kafka are in `doctor_kafka`.

use crate::common::config;
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::{BINARY, Daemon, run_to_end};
use crate::harness::on_each_broker;
use crate::harness::process::Process;
use crate::harness::produce::Message;
use crate::harness::wait::secs;
use crate::trials;
use libtest_mimic::Trial;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        doctor_names_the_process_that_holds_an_address,
        doctor_checks_unix_sockets_without_changing_them,
        doctor_exits_with_78_for_configuration_and_2_for_usage_errors,
        doctor_prints_no_secret,
        doctor_prints_no_secret_that_has_the_wrong_type,
        doctor_warns_of_a_low_descriptor_limit,
        doctor_checks_files_and_creates_none,
    ];
    trials.extend(on_each_broker(doctor_finds_nothing_in_a_working_setup));
    trials
}

/// The output of `doctor`, and its exit status.
pub struct Report {
    pub code: Option<i32>,
    pub text: String,
}

impl Report {
    pub fn of(config: &str) -> Report {
        Report::with(config, &[])
    }

    pub fn with(config: &str, arguments: &[&str]) -> Report {
        let file = tempfile::Builder::new()
            .suffix(".toml")
            .tempfile()
            .expect("a file");
        fs::write(&file, config).expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let all: Vec<&str> = ["doctor", "--config", path]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let output = run_to_end(&all, &[]);
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "",
            "everything is on stdout"
        );
        Report {
            code: output.status.code(),
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    }

    /// The finding that begins so, with its remedy, where it has one.
    #[track_caller]
    fn finding(&self, start: &str) -> String {
        let mut lines = self
            .text
            .split_inclusive('\n')
            .skip_while(|line| !line.starts_with(start));
        let found = lines
            .next()
            .unwrap_or_else(|| panic!("no {start:?} in:\n{}", self.text));
        let remedy = lines.next().filter(|line| line.starts_with("      remedy: "));
        format!("{found}{}", remedy.unwrap_or_default())
    }

    #[track_caller]
    pub fn assert_says(&self, start: &str, parts: &[&str]) {
        let finding = self.finding(start);
        for part in parts {
            assert!(
                finding.contains(part),
                "no {part:?} in {finding:?} of:\n{}",
                self.text
            );
        }
    }

    #[track_caller]
    pub fn assert_end(&self, code: i32, failed: usize) {
        assert_eq!(self.code, Some(code), "{}", self.text);
        let summary = self.text.lines().last().expect("a summary");
        assert!(summary.ends_with(&format!(", {failed} fail")), "{}", self.text);
        assert_eq!(
            self.text
                .lines()
                .filter(|line| line.starts_with("fail  "))
                .count(),
            failed,
            "{}",
            self.text
        );
    }
}

/// A topic of three partitions, the first two with two records each.
pub fn filled(broker: &Broker) -> String {
    let topic = topic_name("doctor");
    broker.create_topic(&topic, 3, &[]);
    let message = |number: i32| Message::new("k", format!("{number}")).partition(number % 2);
    broker.produce(&topic, &(0..4).map(message).collect::<Vec<_>>());
    topic
}

fn doctor_finds_nothing_in_a_working_setup(broker: &Broker) {
    let topic = filled(broker);
    let text = config(broker, &[&topic], "start = \"snapshot\"");
    let report = Report::of(&text);
    report.assert_end(0, 0);
    let bootstrap = broker.bootstrap();
    report.assert_says("ok    configuration: ", &[".toml: 1 stream\n"]);
    report.assert_says("ok    listen 127.0.0.1:0: can be bound", &[]);
    report.assert_says("ok    log file: none", &[]);
    report.assert_says("ok    assets: the built-in page", &[]);
    report.assert_says(&format!("ok    dns {bootstrap}: 127.0.0.1\n"), &[]);
    report.assert_says(&format!("ok    tcp {bootstrap}: connected"), &[]);
    let fetch = match broker.version() {
        Version::V3_9 => "Fetch 0–17, ListOffsets 0–9: supported by the kafka crate and librdkafka",
        Version::V4_4 => "Fetch 4–18, ListOffsets 1–11: supported by librdkafka",
    };
    report.assert_says(&format!("ok    api versions {bootstrap}: "), &[fetch]);
    report.assert_says(
        "ok    kafka client: librdkafka: isolation = \"read_committed\" needs it",
        &[],
    );
    report.assert_says(
        &format!("ok    topic {topic}: 3 partitions, 4 offsets; ends 0:2 1:2 2:0\n"),
        &[],
    );
    report.assert_says(
        &format!("ok    reading {topic}: records at the ends of 2 of 2 partitions, the latest of 2"),
        &[],
    );
    report.assert_says(
        &format!("ok    times {topic}: the time index answers, with records in 2 of 2 partitions"),
        &[],
    );
    report.assert_says(
        "ok    ids /events: 3 partitions take up to ",
        &[" of 6144 bytes\n"],
    );
    report.assert_says("ok    clock: 2", &[&format!("of topic {topic:?}, is "), " old\n"]);

    // The same for programs.
    let report = Report::with(&text, &["--json"]);
    assert_eq!(report.code, Some(0));
    let json: Value =
        serde_json::from_str(&report.text).unwrap_or_else(|error| panic!("{error}: {}", report.text));
    let checks = json["checks"].as_array().expect("an array");
    let mut counts = [0; 3];
    for check in checks {
        let members: Vec<&String> = check.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["check", "found", "remedy", "status"], "{check}");
        assert!(
            check["check"].is_string() && check["found"].is_string(),
            "{check}"
        );
        let place = ["ok", "warn", "fail"]
            .iter()
            .position(|status| check["status"] == *status);
        counts[place.expect("a status")] += 1;
        assert_eq!(check["remedy"].is_null(), check["status"] == "ok", "{check}");
    }
    assert_eq!(
        json["summary"],
        serde_json::json!({ "ok": counts[0], "warn": counts[1], "fail": counts[2] })
    );
    let named = |name: &str| checks.iter().any(|check| check["check"] == *name);
    for name in [
        "configuration",
        "memory",
        "descriptors",
        "kafka client",
        "clock",
        "ids /events",
    ] {
        assert!(named(name), "{name}");
    }
    assert!(named(&format!("reading {topic}")));
}

fn doctor_names_the_process_that_holds_an_address() {
    let broker = Broker::shared(Version::V4_4);
    let topic = filled(&broker);
    let text = config(&broker, &[&topic], "");
    let daemon = Daemon::start(&text);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = taken.local_addr().expect("its address").to_string();
    let ours = format!("127.0.0.1:{}", daemon.port());
    let everywhere = format!("0.0.0.0:{}", daemon.port());
    let every_family = format!("*:{}", daemon.port());
    let free = format!("127.0.0.1:{}", free_port());
    let listens: Vec<&str> = vec!["--listen", &ours, "--listen", &other, "--listen", &free];
    let report = Report::with(&text, &listens);
    report.assert_end(1, 1);
    let version = env!("CARGO_PKG_VERSION");
    let held =
        |address: &str| format!("ok    listen {address}: held by a running kafka-sse-bridge {version}\n");
    report.assert_says(&held(&ours), &[]);
    // One daemon cannot have these beside the first one.
    for address in [&everywhere, &every_family] {
        Report::with(&text, &["--listen", address]).assert_says(&held(address), &[]);
    }
    report.assert_says(
        &format!("fail  listen {other}: Address already in use"),
        &["remedy: another program serves this address: stop that program, or choose another address with --listen"],
    );
    report.assert_says(&format!("ok    listen {free}: can be bound\n"), &[]);
    report.assert_says(&format!("ok    topic {topic}"), &[]);
    drop(taken);
}

fn doctor_checks_unix_sockets_without_changing_them() {
    let broker = Broker::shared(Version::V4_4);
    let topic = filled(&broker);
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| format!("unix:{}", directory.path().join(name).display());
    let held = place("held");
    let listen = format!("listen = [\"127.0.0.1:0\", \"{held}\"]");
    let text = config(&broker, &[&topic], "");
    let _daemon = Daemon::start(&text.replacen("listen = [\"127.0.0.1:0\"]", &listen, 1));
    drop(UnixListener::bind(directory.path().join("left")).expect("a socket"));
    let _silent = UnixListener::bind(directory.path().join("silent")).expect("a socket");
    fs::write(directory.path().join("file"), "precious").expect("written");

    let (fresh, left, silent, file) = (place("fresh"), place("left"), place("silent"), place("file"));
    let nowhere = place("missing/x");
    let listens: Vec<&str> = [&held, &fresh, &left, &silent, &file, &nowhere]
        .into_iter()
        .flat_map(|address| ["--listen", address.as_str()])
        .collect();
    let report = Report::with(&text, &listens);
    report.assert_end(1, 3);
    report.assert_says(
        &format!("ok    listen {held}: held by a running kafka-sse-bridge "),
        &[],
    );
    report.assert_says(&format!("ok    listen {fresh}: can be created"), &[]);
    report.assert_says(&format!("ok    listen {left}: stale socket"), &[]);
    report.assert_says(
        &format!("fail  listen {silent}: another program serves this address"),
        &["remedy: stop that program"],
    );
    report.assert_says(
        &format!("fail  listen {file}: a file exists"),
        &["remedy: remove it"],
    );
    report.assert_says(
        &format!("fail  listen {nowhere}: its directory: No such file"),
        &["RuntimeDirectory"],
    );
    assert!(!directory.path().join("fresh").exists() && directory.path().join("left").exists());
    assert_eq!(
        fs::read(directory.path().join("file")).expect("there"),
        b"precious"
    );
}

fn doctor_exits_with_78_for_configuration_and_2_for_usage_errors() {
    let wrong = "[[stream]]\npath = \"x\"\ntopics = []\n";
    let report = Report::of(wrong);
    assert_eq!(report.code, Some(78));
    report.assert_says(
        "fail  configuration: /",
        &[".toml:2: stream[0].path: \"x\" is not a plain path", "remedy: "],
    );
    assert!(
        report.text.contains(".toml:3: stream[0].topics: is missing"),
        "{}",
        report.text
    );
    assert!(report.text.ends_with("0 ok, 0 warn, 2 fail\n"), "{}", report.text);

    let report = Report::with(wrong, &["--json"]);
    assert_eq!(report.code, Some(78));
    let json: Value = serde_json::from_str(&report.text).expect("JSON");
    assert_eq!(
        json["summary"],
        serde_json::json!({ "ok": 0, "warn": 0, "fail": 2 })
    );
    assert_eq!(json["checks"][0]["check"], "configuration");

    let output = run_to_end(&["doctor", "--config", "/nonexistent/x.toml"], &[]);
    assert_eq!(output.status.code(), Some(78));
    let output = run_to_end(&["doctor", "--jason"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--json"));
}

fn doctor_prints_no_secret() {
    let broker = Broker::shared(Version::V4_4);
    let topic = filled(&broker);
    let text = config(&broker, &[&topic], "");
    let misspelt = (
        78,
        "\"sasl.pasword\" = \"hush\"",
        "fail  configuration: ".to_owned(),
        [
            "kafka.librdkafka.\"sasl.pasword\": ",
            "is not a property of librdkafka",
        ],
    );
    // The response only reports that the transport failed; the reason comes from the log callback.
    let refused = (
        1,
        "\"security.protocol\" = \"sasl_plaintext\"\n\"sasl.mechanism\" = \"PLAIN\"\n\
         \"sasl.username\" = \"me\"\n\"sasl.password\" = \"hush\"",
        format!("fail  topic {topic}: "),
        [
            "SASL PLAIN mechanism handshake failed",
            "remedy: correct the properties \"sasl.…\" in [kafka.librdkafka]",
        ],
    );
    for (code, properties, start, parts) in [misspelt, refused] {
        let text = format!("{text}[kafka.librdkafka]\n{properties}\n");
        let report = Report::of(&text);
        assert_eq!(report.code, Some(code), "{}", report.text);
        report.assert_says(&start, &parts);
        assert!(!report.text.contains("hush"), "{}", report.text);
        let report = Report::with(&text, &["--json"]);
        assert_eq!(report.code, Some(code), "{}", report.text);
        assert!(!report.text.contains("hush"), "{}", report.text);
    }
}

/// Without quotes a password of digits is a number, and the file is wrong.
fn doctor_prints_no_secret_that_has_the_wrong_type() {
    let text =
        "[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n[kafka.librdkafka]\n\"sasl.password\" = 271828\n";
    let report = Report::of(text);
    assert_eq!(report.code, Some(78), "{}", report.text);
    report.assert_says(
        "fail  configuration: ",
        &[".toml:5: kafka.librdkafka.sasl.password: is not a text; put the value in quotes"],
    );
    assert!(!report.text.contains("271828"), "{}", report.text);
}

fn doctor_warns_of_a_low_descriptor_limit() {
    let broker = Broker::shared(Version::V4_4);
    let topic = filled(&broker);
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, config(&broker, &[&topic], "")).expect("written");
    let mut command = Command::new("/bin/sh");
    command
        .args([
            "-c",
            "ulimit -n \"$1\"; exec \"$2\" doctor --config \"$3\"",
            "sh",
            "200",
            BINARY,
        ])
        .arg(file.path())
        .stdout(Stdio::piped());
    let process = Process::spawn(&mut command).expect("sh");
    let mut out = process
        .take(|child| child.stdout.take())
        .expect("stdout is piped");
    let mut text = String::new();
    out.read_to_string(&mut text).expect("UTF-8");
    let code = process.wait(secs(30)).expect("it ends").code();
    let report = Report { code, text };
    report.assert_says(
        "warn  descriptors: at most 200 here, enough for 100 clients beside up to 172 for reading 1 broker, and max_clients is 100000: ",
        &["remedy: set max_clients = 100 in [http], or raise the limit: ulimit -Hn"],
    );
    report.assert_end(0, 0);
}

fn doctor_checks_files_and_creates_none() {
    let broker = Broker::shared(Version::V4_4);
    let topic = filled(&broker);
    let directory = tempfile::tempdir().expect("a directory");
    let page = directory.path().join("page");
    fs::create_dir(&page).expect("created");
    fs::write(page.join("index.html"), "<h1>x</h1>").expect("written");
    let log = directory.path().join("bridge.log");
    let text = |log: &std::path::Path| {
        let (log, page) = (log.display(), page.display());
        let more = format!("[log]\nfile = \"{log}\"\n[ui]\nassets = \"{page}\"\n");
        format!("{}{more}", config(&broker, &[&topic], ""))
    };
    let report = Report::of(&text(&log));
    report.assert_end(0, 0);
    report.assert_says(&format!("ok    log file: {} can be written", log.display()), &[]);
    report.assert_says(&format!("ok    assets: {} holds a page", page.display()), &[]);
    assert!(!log.exists(), "it would belong to the user of doctor");

    let nowhere = directory.path().join("missing/bridge.log");
    let report = Report::of(&text(&nowhere));
    report.assert_end(1, 1);
    report.assert_says(
        &format!("fail  log file: {}: No such file", nowhere.display()),
        &["remedy: correct file in [log]"],
    );
    let report = Report::of(&text(directory.path()));
    report.assert_end(1, 1);
    report.assert_says("fail  log file: ", &["Is a directory"]);
}
