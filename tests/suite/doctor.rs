//! `doctor` tries all that the daemon needs, names what fails with its remedy, and goes on to the rest.

use crate::common::config;
use crate::harness::acl::{AUTHORIZER, Right};
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::{BINARY, Daemon, run_to_end};
use crate::harness::process::Process;
use crate::harness::produce::{Message, Outcome};
use crate::harness::wait::secs;
use crate::harness::{on_each_broker, on_each_version, trial};
use libtest_mimic::Trial;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("doctor_goes_on_past_a_broker_that_refuses", unreachable_broker),
        trial("doctor_goes_on_past_a_name_that_is_not_known", unknown_name),
        trial("doctor_ends_although_a_broker_never_answers", hung_broker),
        trial(
            "doctor_ends_although_a_broker_stops_to_answer_librdkafka",
            stalling_under_librdkafka,
        ),
        trial(
            "doctor_ends_although_a_broker_stops_to_answer_the_kafka_crate",
            stalling_under_the_kafka_crate,
        ),
        trial(
            "doctor_names_an_advertised_address_that_leads_nowhere",
            advertised,
        ),
        trial("doctor_tells_who_holds_an_address", addresses),
        trial("doctor_looks_at_unix_sockets_and_leaves_them", unix_sockets),
        trial(
            "doctor_exits_78_for_a_wrong_configuration_and_2_for_usage",
            exit_codes,
        ),
        trial("doctor_prints_no_secret", secrets),
        trial("doctor_prints_no_secret_of_the_wrong_type", secret_of_digits),
        trial("doctor_refuses_ids_that_are_too_long", long_ids),
        trial("doctor_warns_of_few_descriptors", few_descriptors),
        trial("doctor_warns_of_records_from_the_future", future),
        trial("doctor_looks_at_files_and_creates_none", files),
        trial("doctor_says_what_the_kafka_crate_lacks", kafka_crate),
        trial("doctor_warns_of_markers_at_the_end", markers),
    ];
    trials.extend(on_each_broker(
        "doctor_finds_nothing_where_all_is_well",
        |broker| {
            all_is_well(&broker);
        },
    ));
    trials.extend(on_each_broker(
        "doctor_names_a_missing_topic_and_creates_none",
        |broker| {
            missing_topic(&broker);
        },
    ));
    trials.extend(on_each_version("doctor_names_topics_it_may_not_read", forbidden));
    trials
}

/// What `doctor` said, and how it ended.
struct Report {
    code: Option<i32>,
    text: String,
}

impl Report {
    fn of(config: &str) -> Report {
        Report::with(config, &[])
    }

    fn with(config: &str, arguments: &[&str]) -> Report {
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
            "all is said on stdout"
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
    fn assert_says(&self, start: &str, parts: &[&str]) {
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
    fn assert_end(&self, code: i32, failed: usize) {
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
fn filled(broker: &Broker) -> String {
    let topic = topic_name("doctor");
    broker.create_topic(&topic, 3, &[]);
    let message = |number: i32| Message::new("k", format!("{number}")).partition(number % 2);
    broker.produce(&topic, &(0..4).map(message).collect::<Vec<_>>());
    topic
}

fn all_is_well(broker: &Broker) {
    let topic = filled(broker);
    let text = config(broker, &[&topic], "start = \"snapshot\"");
    let report = Report::of(&text);
    report.assert_end(0, 0);
    let bootstrap = broker.bootstrap();
    report.assert_says("ok    configuration: ", &[".toml: 1 stream\n"]);
    report.assert_says("ok    listen 127.0.0.1:0: can be bound", &[]);
    report.assert_says("ok    log file: none", &[]);
    report.assert_says("ok    assets: the page in the binary", &[]);
    report.assert_says(&format!("ok    dns {bootstrap}: 127.0.0.1\n"), &[]);
    report.assert_says(&format!("ok    tcp {bootstrap}: connected"), &[]);
    let fetch = match broker.version() {
        Version::V3_9 => "Fetch 0–17, ListOffsets 0–9: spoken by the kafka crate and librdkafka",
        Version::V4_4 => "Fetch 4–18, ListOffsets 1–11: spoken by librdkafka",
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
        "descriptors",
        "kafka client",
        "clock",
        "ids /events",
    ] {
        assert!(named(name), "{name}");
    }
    assert!(named(&format!("reading {topic}")));
}

fn missing_topic(broker: &Broker) {
    let (topic, missing) = (filled(broker), topic_name("doctor-missing"));
    let report = Report::of(&config(broker, &[&missing, &topic], "start = \"earliest\""));
    report.assert_end(1, 1);
    report.assert_says(
        &format!("fail  topic {missing}: does not exist"),
        &["remedy: create it, correct topics in [[stream]], or allow"],
    );
    report.assert_says(&format!("ok    topic {topic}: 3 partitions"), &[]);
    report.assert_says(
        "ok    ids /events: 3 partitions",
        &["without the topics that are not known"],
    );
    assert!(!broker.topics().contains(&missing), "it creates none");
}

/// The configuration with one more broker, named first.
fn with_broker_before(text: &str, address: &str) -> String {
    text.replacen("brokers = [", &format!("brokers = [\"{address}\", "), 1)
}

fn unreachable_broker() {
    let broker = Broker::shared(Version::V4_4);
    let topic = filled(&broker);
    let nobody = format!("127.0.0.1:{}", free_port());
    let report = Report::of(&with_broker_before(&config(&broker, &[&topic], ""), &nobody));
    report.assert_end(1, 1);
    report.assert_says(
        &format!("fail  tcp {nobody}: "),
        &["Connection refused", "remedy: start the broker, correct its port"],
    );
    report.assert_says(&format!("ok    reading {topic}: "), &[]);
}

fn unknown_name() {
    let broker = Broker::shared(Version::V4_4);
    let topic = filled(&broker);
    let name = "no-such-host.invalid:9092";
    let report = Report::of(&with_broker_before(&config(&broker, &[&topic], ""), name));
    report.assert_end(1, 1);
    report.assert_says(
        &format!("fail  dns {name}: "),
        &["remedy: correct brokers in [kafka]"],
    );
    assert!(!report.text.contains(&format!("tcp {name}")), "{}", report.text);
    report.assert_says(&format!("ok    reading {topic}: "), &[]);
}

fn hung_broker() {
    // The system accepts for it; nobody reads.
    let hung = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = hung.local_addr().expect("its address");
    let text = format!(
        "[kafka]\nbrokers = [\"{address}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
         [[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n"
    );
    let report = Report::of(&text);
    report.assert_end(1, 2);
    report.assert_says(&format!("ok    tcp {address}: connected"), &[]);
    report.assert_says(
        &format!("fail  api versions {address}: it accepts connections, but does not answer"),
        &["remedy: is this a broker's plain listener?"],
    );
    report.assert_says("fail  topics: not looked at: no broker answers", &[]);
    report.assert_says("ok    clock: ", &[]);
}

/// A broker that says which versions it speaks, and nothing else ever after.
fn stalling(broker: &Broker) -> SocketAddr {
    const API_VERSIONS: [u8; 2] = [0, 18];
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let target = broker.bootstrap();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let target = target.clone();
            thread::spawn(move || -> io::Result<()> {
                let mut server = TcpStream::connect(target)?;
                let mut buffer = [0; 4096];
                loop {
                    // Short questions, each waited for: they come in one piece.
                    let read = client.read(&mut buffer)?;
                    if read == 0 {
                        return Ok(());
                    }
                    if buffer[4..6] == API_VERSIONS {
                        server.write_all(&buffer[..read])?;
                        let read = server.read(&mut buffer)?;
                        client.write_all(&buffer[..read])?;
                    }
                }
            });
        }
    });
    address
}

fn stalling_broker(version: Version, client: &str) -> Report {
    let address = stalling(&Broker::shared(version));
    let report = Report::of(&format!(
        "[kafka]\nbrokers = [\"{address}\"]\nclient = \"{client}\"\nisolation = \"read_uncommitted\"\n\
         [http]\nlisten = [\"127.0.0.1:0\"]\n[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n"
    ));
    assert_eq!(report.code, Some(1), "{}", report.text);
    report.assert_says(&format!("ok    api versions {address}: Fetch"), &[]);
    report.assert_says("ok    clock: ", &[]);
    report
}

fn stalling_under_librdkafka() {
    let report = stalling_broker(Version::V4_4, "librdkafka");
    report.assert_says("fail  topic t: metadata of topic \"t\": ", &["remedy: "]);
}

/// The kafka crate would wait for two minutes.
fn stalling_under_the_kafka_crate() {
    let report = stalling_broker(Version::V3_9, "kafka");
    report.assert_says(
        "fail  kafka client: no answer within 10s",
        &["remedy: a broker hangs"],
    );
}

fn advertised() {
    // Held, but not listened at: nobody else can answer there.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    held.bind(&any.into()).expect("a port");
    let nobody = held
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket())
        .expect("its address");
    let more = format!("advertised.listeners=PLAINTEXT://{nobody}\n");
    let broker = Broker::start_with(Version::V4_4, &more);
    let report = Report::of(&config(&broker, &["t"], ""));
    assert_eq!(report.code, Some(1));
    report.assert_says(&format!("ok    api versions {}: ", broker.bootstrap()), &[]);
    report.assert_says(
        &format!("fail  tcp {nobody} (advertised): "),
        &["Connection refused", "correct advertised.listeners at the broker"],
    );
}

fn addresses() {
    let broker = Broker::shared(Version::V4_4);
    let topic = filled(&broker);
    let text = config(&broker, &[&topic], "");
    let daemon = Daemon::start(&text);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = taken.local_addr().expect("its address").to_string();
    let ours = format!("127.0.0.1:{}", daemon.port());
    let everywhere = format!("0.0.0.0:{}", daemon.port());
    let free = format!("127.0.0.1:{}", free_port());
    let listens: Vec<&str> = vec![
        "--listen",
        &ours,
        "--listen",
        &everywhere,
        "--listen",
        &other,
        "--listen",
        &free,
    ];
    let report = Report::with(&text, &listens);
    report.assert_end(1, 1);
    let version = env!("CARGO_PKG_VERSION");
    for address in [&ours, &everywhere] {
        report.assert_says(
            &format!("ok    listen {address}: held by a running kafka-sse-bridge {version}\n"),
            &[],
        );
    }
    report.assert_says(
        &format!("fail  listen {other}: Address already in use"),
        &["remedy: another program serves it: stop that, or choose another with --listen"],
    );
    report.assert_says(&format!("ok    listen {free}: can be bound\n"), &[]);
    report.assert_says(&format!("ok    topic {topic}"), &[]);
    drop(taken);
}

fn unix_sockets() {
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
    report.assert_says(&format!("ok    listen {left}: left behind"), &[]);
    report.assert_says(
        &format!("fail  listen {silent}: another program serves it"),
        &["remedy: stop that"],
    );
    report.assert_says(
        &format!("fail  listen {file}: there is a file"),
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

fn exit_codes() {
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

fn secrets() {
    let broker = Broker::shared(Version::V4_4);
    let topic = filled(&broker);
    let text = config(&broker, &[&topic], "");
    let misspelt = (
        "\"sasl.pasword\" = \"hush\"",
        "fail  kafka client: librdkafka refuses its settings: ".to_owned(),
        ["sasl.pasword", "remedy: correct the table [kafka.librdkafka]"],
    );
    // The answer alone says that the transport failed; why it did comes by another way.
    let refused = (
        "\"security.protocol\" = \"sasl_plaintext\"\n\"sasl.mechanism\" = \"PLAIN\"\n\
         \"sasl.username\" = \"me\"\n\"sasl.password\" = \"hush\"",
        format!("fail  topic {topic}: "),
        [
            "SASL PLAIN mechanism handshake failed",
            "remedy: correct the properties \"sasl.…\" in [kafka.librdkafka]",
        ],
    );
    for (properties, start, parts) in [misspelt, refused] {
        let text = format!("{text}[kafka.librdkafka]\n{properties}\n");
        let report = Report::of(&text);
        assert_eq!(report.code, Some(1), "{}", report.text);
        report.assert_says(&start, &parts);
        assert!(!report.text.contains("hush"), "{}", report.text);
        let report = Report::with(&text, &["--json"]);
        assert_eq!(report.code, Some(1), "{}", report.text);
        assert!(!report.text.contains("hush"), "{}", report.text);
    }
}

/// Without quotes a password of digits is a number, and the file is wrong.
fn secret_of_digits() {
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

fn long_ids() {
    let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("wide", 1000, 1).expect("a topic");
    let text = format!(
        "[kafka]\nbrokers = [\"{}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
         [[stream]]\npath = \"/wide\"\ntopics = [\"wide\"]\n",
        cluster.bootstrap_servers()
    );
    let report = Report::of(&text);
    report.assert_says(
        "ok    topic wide: 1000 partitions, 0 offsets; ends 0:0 1:0",
        &[" 7:0 …\n"],
    );
    report.assert_says(
        "fail  ids /wide: 1000 partitions take up to ",
        &[
            " of 6144 bytes",
            "remedy: the stream is refused: spread its topics over several streams",
        ],
    );
    assert_eq!(report.code, Some(1));
}

fn few_descriptors() {
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
        "warn  descriptors: at most 200 here, enough for 100 clients, and max_clients is 100000: ",
        &["remedy: set max_clients = 100 in [http], or raise the limit: ulimit -Hn"],
    );
    report.assert_end(0, 0);
}

fn future() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("doctor-future");
    broker.create_topic(&topic, 1, &[]);
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let ahead = i64::try_from(now).expect("it fits") + 3_600_000;
    broker.produce(&topic, &[Message::value("x").timestamp(ahead)]);
    let report = Report::of(&config(&broker, &[&topic], ""));
    report.assert_end(0, 0);
    report.assert_says(
        "warn  clock: ",
        &[
            &format!("topic {topic:?} lies 59m "),
            "remedy: set the clock (NTP)",
        ],
    );
}

fn files() {
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
    assert!(!log.exists(), "it would belong to whoever looked");

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

fn kafka_crate() {
    let broker = Broker::shared(Version::V3_9);
    let topic = filled(&broker);
    let isolation = "[kafka]\nisolation = \"read_uncommitted\"\n";
    let text = config(&broker, &[&topic], "").replacen("[kafka]\n", isolation, 1);
    let report = Report::of(&text);
    report.assert_end(0, 0);
    report.assert_says(
        "ok    kafka client: kafka: broker ",
        &["speaks Fetch 0 and ListOffsets 0"],
    );
    report.assert_says(
        &format!("ok    topic {topic}: 3 partitions, 4 offsets; ends 0:2 1:2 2:0\n"),
        &[],
    );
    report.assert_says(
        &format!("ok    reading {topic}: records at the ends of 2 of 2 partitions\n"),
        &[],
    );
    report.assert_says(
        &format!("warn  times {topic}: the kafka crate cannot look up times"),
        &["remedy: set client = \"librdkafka\" in [kafka]"],
    );
    report.assert_says("ok    clock: ", &["no record's time to compare with"]);

    // A batch that it cannot read: under auto the daemon changes clients, told to use it, it cannot.
    broker.produce_with(
        &topic,
        &[Message::value("zstd".repeat(1000)).partition(2)],
        &[("compression.type", "zstd")],
    );
    let report = Report::of(&text);
    report.assert_end(0, 0);
    report.assert_says(
        &format!("warn  reading {topic}: "),
        &["compressed with zstd", "changes to librdkafka"],
    );
    let report = Report::of(&text.replacen("[kafka]\n", "[kafka]\nclient = \"kafka\"\n", 1));
    report.assert_end(1, 1);
    report.assert_says(
        &format!("fail  reading {topic}: "),
        &["compressed with zstd", "remedy: set client = \"librdkafka\""],
    );

    // A broker that it cannot speak to at all.
    let broker = Broker::shared(Version::V4_4);
    let text = config(&broker, &["t"], "").replacen(
        "[kafka]\n",
        "[kafka]\nclient = \"kafka\"\nisolation = \"read_uncommitted\"\n",
        1,
    );
    let report = Report::of(&text);
    report.assert_end(1, 1);
    report.assert_says(
        "fail  kafka client: client = \"kafka\" cannot read from broker ",
        &["remedy: set client = \"auto\""],
    );
}

fn markers() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("doctor-markers");
    broker.create_topic(&topic, 1, &[]);
    for _ in 0..3 {
        broker.produce_transaction(&topic, &[Message::value("x")], Outcome::Commit);
    }
    let text = config(&broker, &[&topic], "");
    Report::of(&text).assert_says(
        &format!("ok    reading {topic}: records at the ends of 1 of 1"),
        &[],
    );
    for _ in 0..3 {
        broker.produce_transaction(&topic, &[Message::value("x")], Outcome::Abort);
    }
    let report = Report::of(&text);
    report.assert_end(0, 0);
    report.assert_says(
        &format!("warn  reading {topic}: records at the ends of 0 of 1 partitions"),
        &["remedy: markers of transactions may end the others"],
    );
}

fn forbidden(version: Version) {
    let broker = Broker::start_with(version, AUTHORIZER);
    let (open, seen, hidden) = (filled(&broker), filled(&broker), filled(&broker));
    broker.allow("User:ANONYMOUS", Right::Describe, &seen);
    broker.allow("User:somebody", Right::Read, &hidden);
    let report = Report::of(&config(&broker, &[&open, &seen, &hidden], ""));
    report.assert_says(&format!("ok    reading {open}: "), &[]);
    let remedy = |topic: &str| format!("User:NAME --operation Read --topic {topic}\n");
    report.assert_says(&format!("ok    topic {seen}: 3 partitions"), &[]);
    report.assert_says(
        &format!("fail  reading {seen}: "),
        &["Topic authorization failed", &remedy(&seen)],
    );
    report.assert_says(
        &format!("fail  topic {hidden}: "),
        &["Topic authorization failed", &remedy(&hidden)],
    );
    report.assert_end(1, 2);
}
