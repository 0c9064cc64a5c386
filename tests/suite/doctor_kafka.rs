//! Findings of `doctor` about brokers and about the topics that streams read: from an unknown host name to
//! records that cannot be read.

use crate::common::config;
use crate::doctor::{Report, filled};
use crate::harness::acl::{AUTHORIZER, Right};
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::produce::{Message, Outcome};
use crate::harness::{on_each_broker, on_each_version, promise, promise_on};
use libtest_mimic::Trial;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        promise(doctor_continues_after_a_broker_that_refuses_connections),
        promise(doctor_continues_after_an_unknown_host_name),
        promise(doctor_ends_when_a_broker_never_answers),
        promise(doctor_ends_when_a_broker_stops_answering_librdkafka),
        promise(doctor_ends_when_a_broker_stops_answering_the_kafka_crate),
        promise(doctor_names_an_unreachable_advertised_address),
        promise(doctor_reports_ids_that_are_too_long),
        promise(doctor_warns_of_records_from_the_future),
        promise(doctor_names_keys_in_several_partitions_and_future_timestamps),
        promise(doctor_names_features_that_the_kafka_crate_lacks),
        promise(doctor_warns_of_transaction_markers_at_the_end),
        promise_on(Version::V4_4, doctor_names_long_open_transactions),
    ];
    trials.extend(on_each_broker(doctor_names_a_missing_topic_and_creates_none));
    trials.extend(on_each_version(doctor_names_topics_that_it_may_not_read));
    trials
}

/// The configuration with one more broker, named first.
fn with_broker_before(text: &str, address: &str) -> String {
    text.replacen("brokers = [", &format!("brokers = [\"{address}\", "), 1)
}

fn doctor_continues_after_a_broker_that_refuses_connections() {
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

fn doctor_continues_after_an_unknown_host_name() {
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

fn doctor_ends_when_a_broker_never_answers() {
    // The kernel accepts connections; no process reads from them.
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
        &["remedy: check that this is the broker's plaintext listener"],
    );
    report.assert_says("fail  topics: skipped: no broker answers", &[]);
    report.assert_says("ok    clock: ", &[]);
}

/// A broker that answers only the request for its API versions.
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

fn doctor_ends_when_a_broker_stops_answering_librdkafka() {
    let report = stalling_broker(Version::V4_4, "librdkafka");
    report.assert_says("fail  topic t: metadata of topic \"t\": ", &["remedy: "]);
}

/// The kafka crate would wait for two minutes.
fn doctor_ends_when_a_broker_stops_answering_the_kafka_crate() {
    let report = stalling_broker(Version::V3_9, "kafka");
    report.assert_says(
        "fail  kafka client: no answer within 10s",
        &["remedy: a broker hangs"],
    );
}

fn doctor_names_an_unreachable_advertised_address() {
    // The port is bound but not listening, so that no other process can answer.
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

fn doctor_names_a_missing_topic_and_creates_none(broker: &Broker) {
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
        &["not counting unknown topics"],
    );
    assert!(!broker.topics().contains(&missing), "it creates none");
}

fn doctor_reports_ids_that_are_too_long() {
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
            "remedy: the daemon refuses this stream: spread its topics over several streams",
        ],
    );
    assert_eq!(report.code, Some(1));
}

fn doctor_warns_of_records_from_the_future() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("doctor-future");
    broker.create_topic(&topic, 1, &[]);
    let now = UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let ahead = i64::try_from(now).expect("it fits") + 3_600_000;
    broker.produce(&topic, &[Message::value("x").timestamp(ahead)]);
    let report = Report::of(&config(&broker, &[&topic], ""));
    report.assert_end(0, 0);
    report.assert_says(
        "warn  clock: ",
        &[&format!("topic {topic:?} is 59m "), "remedy: set the clock (NTP)"],
    );
}

fn doctor_names_keys_in_several_partitions_and_future_timestamps() {
    let broker = Broker::shared(Version::V4_4);
    let topics = ["doctor-keys", "doctor-hour", "doctor-micros"].map(topic_name);
    let [keys, hour, micros] = &topics;
    for topic in &topics {
        // Without it brokers refuse timestamps more than an hour ahead.
        let any_time = ("message.timestamp.after.max.ms", "9223372036854775807");
        broker.create_topic(topic, 2, &[any_time]);
    }
    let now = UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let now = i64::try_from(now).expect("it fits");
    let in_partition = |key: &str, partition| Message::new(key, "x").partition(partition);
    broker.produce(
        keys,
        &[in_partition("a", 0), in_partition("a", 0), in_partition("b", 1)],
    );
    broker.produce(
        hour,
        &[
            in_partition("a", 0).timestamp(now + 3_600_000),
            in_partition("b", 0),
            in_partition("b", 1),
            in_partition("a", 1),
        ],
    );
    broker.produce(micros, &[in_partition("a", 1).timestamp(now * 1000)]);
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let report = Report::of(&config(&broker, &names, "start = \"snapshot\""));
    report.assert_end(0, 0);
    report.assert_says(
        &format!("ok    keys {keys}: each in one partition, among 2 keys of the newest 3 records"),
        &[],
    );
    report.assert_says(
        &format!("ok    timestamps {keys}: none of the newest 3 records is from the future"),
        &[],
    );
    report.assert_says(
        &format!("warn  keys {hour}: 2 of 2 keys of the newest 4 records are in several partitions"),
        &[
            "partition 0 offset ",
            "partition 1 offset ",
            "the same partitioner",
        ],
    );
    report.assert_says(
        &format!("warn  timestamps {hour}: 1 of the newest 4 records are from the future, by up to "),
        &["(partition 0 offset 0)", "set the clock (NTP)"],
    );
    report.assert_says(
        &format!("warn  timestamps {micros}: 1 of the newest 1 records are from the future, by up to "),
        &["more than a day ahead, the time of arrival counts instead"],
    );
    // Without a table every record is shown, whichever is later.
    let report = Report::of(&config(&broker, &[hour], ""));
    assert!(!report.text.contains("keys "), "{}", report.text);
}

fn doctor_names_features_that_the_kafka_crate_lacks() {
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
    report.assert_says("ok    clock: ", &["no record timestamp to compare with"]);

    // A batch that the crate cannot read: with `auto` the daemon changes clients, with `client = "kafka"` it cannot.
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

fn doctor_warns_of_transaction_markers_at_the_end() {
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
        &["remedy: the other partitions may end in transaction markers"],
    );
}

/// A transaction whose first record is minutes old is named with its offset; one that has just begun is not.
fn doctor_names_long_open_transactions() {
    let broker = Broker::shared(Version::V4_4);
    let (hanging, fresh) = (topic_name("doctor-hanging"), topic_name("doctor-fresh"));
    for topic in [&hanging, &fresh] {
        broker.create_topic(topic, 2, &[]);
        broker.produce(topic, &[Message::value("committed").partition(1)]);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now = i64::try_from(now.as_millis()).expect("a time");
    let in_transaction = |timestamp| Message::value("open").partition(1).timestamp(timestamp);
    let (held, _) = broker.open_transaction(&hanging, &[in_transaction(now - 300_000), in_transaction(now)]);
    broker.produce(&hanging, &[Message::value("behind").partition(1)]);
    let (open, _) = broker.open_transaction(&fresh, &[in_transaction(now)]);
    let text = config(&broker, &[&hanging, &fresh], "");
    let report = Report::of(&text);
    report.assert_end(0, 0);
    report.assert_says(
        &format!(
            "warn  transactions {hanging}: an open transaction blocks reading of committed records: partition 1 held at \
             offset 1, 3 offsets before its high watermark 4, for 5m"
        ),
        &[&format!(
            "find-hanging --topic {hanging}, then abort --topic {hanging} --partition 1 --start-offset 1\n"
        )],
    );
    report.assert_says(
        &format!(
            "ok    transactions {fresh}: open for less than 1m: partition 1 held at offset 1, 1 offsets before its high \
             watermark 2, for "
        ),
        &[],
    );
    held.end(Outcome::Commit);
    open.end(Outcome::Abort);
    let report = Report::of(&text);
    for topic in [&hanging, &fresh] {
        report.assert_says(
            &format!("ok    transactions {topic}: no open transaction blocks reading"),
            &[],
        );
    }
    // Readers of uncommitted records are not delayed.
    let text = text.replacen("[kafka]\n", "[kafka]\nisolation = \"read_uncommitted\"\n", 1);
    let report = Report::of(&text);
    assert!(!report.text.contains("transactions "), "{}", report.text);
}

fn doctor_names_topics_that_it_may_not_read(version: Version) {
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
