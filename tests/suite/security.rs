//! Brokers with authentication: TLS with both clients, logins, ACLs, and the errors where
//! something of it is wrong.

use crate::common::{expected, named, numbered, records, until_records};
use crate::harness::acl::Right;
use crate::harness::broker::{Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::secured::{Listener, PASSWORD, Secured, USER, on_each_secured, on_secured, token};
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::security_refusals;
use libtest_mimic::Trial;
use serde_json::Value;
use std::fs;
use std::time::{Duration, SystemTime};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        on_secured(Version::V3_9, the_kafka_crate_reads_over_mutual_tls),
        on_secured(
            Version::V3_9,
            the_kafka_crate_reads_a_thousand_partitions_over_tls_and_reports_its_limit,
        ),
        on_secured(
            Version::V4_4,
            the_kafka_crate_reports_that_it_cannot_read_kafka_4_over_tls,
        ),
        on_secured(Version::V3_9, the_kafka_crate_names_an_unauthorized_topic),
        on_secured(Version::V3_9, auto_selects_librdkafka_for_tls_and_logs_the_reason),
    ];
    trials.extend(on_each_secured(librdkafka_reads_over_mutual_tls));
    trials.extend(on_each_secured(every_sasl_mechanism_reads_with_and_without_tls));
    trials.extend(on_each_secured(an_unauthorized_topic_does_not_delay_others));
    trials.extend(on_each_secured(a_token_is_refreshed_before_it_expires));
    trials.extend(on_each_secured(a_reload_applies_a_changed_secret));
    trials.extend(on_each_secured(
        a_changed_secret_is_applied_once_the_old_one_is_refused,
    ));
    trials.extend(on_each_secured(a_corrected_secret_is_applied_without_a_reload));
    trials.extend(security_refusals::trials());
    trials
}

/// A configuration that reads `topics` at `/events`, from a listener as these lines of `[kafka]` say.
pub fn config(address: &str, kafka: &str, topics: &[&str]) -> String {
    format!(
        "[http]\nlisten = [\"127.0.0.1:0\"]\n[[stream]]\npath = \"/events\"\ntopics = {topics:?}\n\
         start = \"earliest\"\n[kafka]\nbrokers = [\"{address}\"]\n{kafka}\n"
    )
}

/// A topic of one partition with so many records that `principal` may read.
pub fn topic(secured: &Secured, principal: &str, count: usize) -> String {
    let name = topic_name("secured");
    secured.broker.create_topic(&name, 1, &[]);
    secured.broker.produce(&name, &numbered(0, 0, count));
    secured.broker.allow(principal, Right::Read, &name);
    name
}

/// Reads the `before` records that a topic has, and 5 more.
fn reads(secured: &Secured, daemon: &Daemon, topic: &str, before: usize) {
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut events = stream.collect_until(named("caught-up"), secs(30)).await;
        secured.broker.produce(topic, &numbered(0, before, 5));
        events.extend(stream.collect_until(until_records(5), secs(30)).await);
        assert_eq!(records(&events), expected(0, before + 5));
    });
}

/// Records that differ from those of [`topic`].
fn others(count: usize) -> Vec<Message> {
    (0..count)
        .map(|number| Message::value(format!("p1-{number}")))
        .collect()
}

/// The problems in `/health/ready`.
pub async fn degraded(daemon: &Daemon) -> Vec<String> {
    let ready = daemon.get("/health/ready").await;
    let json: Value = serde_json::from_str(&ready.text()).expect("JSON");
    let named = json["degraded"].as_array().expect("a list").iter();
    named
        .map(|what| what.as_str().expect("a text").to_owned())
        .collect()
}

pub fn tls(secured: &Secured) -> String {
    format!("tls = {{ ca_file = {:?} }}", secured.ca())
}

fn mutual_tls(secured: &Secured) -> String {
    let (certificate, key) = secured.certificate("reader");
    format!(
        "tls = {{ ca_file = {:?}, cert_file = {certificate:?}, key_file = {key:?} }}",
        secured.ca()
    )
}

/// The `kafka` crate for `client`, which needs uncommitted reading.
pub fn with_client(client: &str, kafka: &str) -> String {
    format!("client = \"{client}\"\nisolation = \"read_uncommitted\"\n{kafka}")
}

fn the_kafka_crate_reads_over_mutual_tls(secured: &Secured) {
    reads_over_mutual_tls(secured, "kafka");
}

fn librdkafka_reads_over_mutual_tls(secured: &Secured) {
    reads_over_mutual_tls(secured, "librdkafka");
}

fn reads_over_mutual_tls(secured: &Secured, client: &str) {
    let topic = topic(secured, "User:CN=reader", 20);
    let kafka = with_client(client, &mutual_tls(secured));
    let daemon = Daemon::start(&config(&secured.address(Listener::Mutual), &kafka, &[&topic]));
    reads(secured, &daemon, &topic, 20);
    daemon.wait_log(&format!("reading with {client}: client = "), secs(1));
}

/// As many partitions as fit into one request of the crate, and then a few more.
fn the_kafka_crate_reads_a_thousand_partitions_over_tls_and_reports_its_limit(secured: &Secured) {
    let (broker, topics) = (&secured.broker, [topic_name("many"), topic_name("more")]);
    for topic in &topics {
        broker.create_topic(topic, 500, &[]);
        broker.produce(topic, &[numbered(0, 0, 2), numbered(499, 0, 2)].concat());
        broker.allow("User:CN=reader", Right::Read, topic);
    }
    // The ids of one stream cannot hold so many.
    let stream = |number: usize| {
        let topic = &topics[number];
        format!("[[stream]]\npath = \"/{number}\"\ntopics = [{topic:?}]\nstart = \"earliest\"\n")
    };
    let streams = stream(0) + &stream(1);
    let daemon = Daemon::start(&format!(
        "[http]\nlisten = [\"127.0.0.1:0\"]\n{streams}[kafka]\nbrokers = [\"{}\"]\n{}\n",
        secured.address(Listener::Mutual),
        with_client("kafka", &mutual_tls(secured))
    ));
    block_on(async {
        daemon.wait_ready(secs(60)).await;
        for number in 0..topics.len() {
            let mut stream = Stream::open(daemon.url(&format!("/{number}"))).await;
            let events = stream.collect_until(named("caught-up"), secs(30)).await;
            let mut read = records(&events);
            read.sort();
            assert_eq!(read, ["p0-0", "p0-1", "p499-0", "p499-1"]);
        }
        broker.add_partitions(&topics[1], 530);
        eventually_async(
            secs(60),
            "health names what cannot be read, and the remedy",
            async || {
                let degraded = degraded(&daemon).await;
                let is_named = degraded.iter().any(|what| {
                    what.contains("cannot ask for so many partitions over TLS")
                        && what.ends_with("set client = \"librdkafka\" in [kafka]")
                });
                ensure(is_named, format!("{degraded:?}"))
            },
        )
        .await;
    });
    for topic in &topics {
        broker.delete_topic(topic);
    }
}

fn the_kafka_crate_reports_that_it_cannot_read_kafka_4_over_tls(secured: &Secured) {
    let kafka = with_client("kafka", &tls(secured));
    let daemon = Daemon::start(&config(&secured.address(Listener::Tls), &kafka, &["never-read"]));
    daemon.wait_log("client = \"kafka\" cannot read from broker", secs(20));
    daemon.wait_log("(Kafka 4 dropped the old ones)", secs(1));
}

fn auto_selects_librdkafka_for_tls_and_logs_the_reason(secured: &Secured) {
    let topic = topic(secured, "User:CN=reader", 20);
    let kafka = with_client("auto", &mutual_tls(secured));
    let daemon = Daemon::start(&config(&secured.address(Listener::Mutual), &kafka, &[&topic]));
    reads(secured, &daemon, &topic, 20);
    daemon.wait_log("reading with librdkafka: tls in [kafka]: ", secs(1));
}

fn every_sasl_mechanism_reads_with_and_without_tls(secured: &Secured) {
    secured.set_password("scrammer", "hush\thush");
    let password = secured.secret(&format!("{PASSWORD}\n"));
    let scram = secured.secret("hush\thush\r\n");
    fs::write(secured.file("a-token"), token("tokener", 600) + "\n").expect("written");
    let logins = [
        (
            USER,
            format!("mechanism = \"PLAIN\", username = \"{USER}\", password_file = {password:?}"),
        ),
        (
            "scrammer",
            format!("mechanism = \"SCRAM-SHA-256\", username = \"scrammer\", password_file = {scram:?}"),
        ),
        (
            "scrammer",
            format!("mechanism = \"SCRAM-SHA-512\", username = \"scrammer\", password_file = {scram:?}"),
        ),
        (
            "tokener",
            "mechanism = \"OAUTHBEARER\", token_file = \"credential:a-token\"".to_owned(),
        ),
    ];
    for (user, sasl) in &logins {
        let topic = topic(secured, &format!("User:{user}"), 10);
        let sasl = format!("sasl = {{ {sasl} }}");
        for (listener, kafka, before) in [
            (Listener::SaslTls, format!("{}\n{sasl}", tls(secured)), 10),
            (Listener::Sasl, sasl, 15),
        ] {
            let daemon = Daemon::with(&config(&secured.address(listener), &kafka, &[&topic]))
                .env("CREDENTIALS_DIRECTORY", secured.file(""))
                .start();
            reads(secured, &daemon, &topic, before);
            daemon.wait_log("reading with librdkafka: ", secs(1));
            assert_eq!(block_on(degraded(&daemon)), [""; 0]);
        }
    }
}

fn an_unauthorized_topic_does_not_delay_others(secured: &Secured) {
    secured.set_password("scrammer", "hush\thush");
    let password = secured.secret("hush\thush\n");
    let kafka = format!(
        "{}\nsasl = {{ mechanism = \"SCRAM-SHA-256\", username = \"scrammer\", password_file = {password:?} }}",
        tls(secured)
    );
    let (broker, user) = (&secured.broker, "User:scrammer");
    let open = topic(secured, user, 10);
    let (seen, hidden, empty) = (topic_name("seen"), topic_name("hidden"), topic_name("empty"));
    for (name, count) in [(&seen, 3), (&hidden, 3), (&empty, 0)] {
        broker.create_topic(name, 1, &[]);
        broker.produce(name, &others(count));
    }
    for name in [&seen, &empty] {
        broker.allow(user, Right::Describe, name);
    }
    let topics = [open.as_str(), &seen, &hidden, &empty];
    let daemon = Daemon::start(&config(&secured.address(Listener::SaslTls), &kafka, &topics));
    let about = |name: &str| format!("topic {name:?} may not be read: Topic authorization failed");
    let names = async |wanted: &[&str]| {
        eventually_async(secs(30), "topics that may not be read are named", async || {
            let degraded = degraded(&daemon).await;
            let are_told = wanted.iter().all(|name| {
                let acl = format!("--add --allow-principal {user} --operation Read --topic {name}");
                let is_named = |what: &String| what.contains(&about(name)) && what.ends_with(&acl);
                degraded.iter().any(is_named)
            });
            ensure(
                are_told && degraded.len() == wanted.len(),
                format!("{degraded:?}, not {wanted:?}"),
            )
        })
        .await;
    };
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut events = stream.collect_until(named("caught-up"), secs(30)).await;
        broker.produce(&open, &numbered(0, 10, 10));
        events.extend(stream.collect_until(until_records(10), secs(10)).await);
        assert_eq!(records(&events), expected(0, 20));
        names(&[&seen, &hidden, &empty]).await;
        for name in [&seen, &hidden, &empty] {
            daemon.wait_log(&about(name), secs(1));
        }
        let log = daemon.log();
        assert!(
            !log.contains("answers again") && !log.contains("does not exist"),
            "{log}"
        );

        // Authorized topics are read from the start position without loss.
        for name in [&seen, &hidden, &empty] {
            broker.allow(user, Right::Read, name);
        }
        let events = stream.collect_until(until_records(6), secs(30)).await;
        let mut read = records(&events);
        read.sort();
        assert_eq!(read, ["p1-0", "p1-0", "p1-1", "p1-1", "p1-2", "p1-2"]);
        names(&[]).await;
        for name in [&seen, &hidden, &empty] {
            daemon.wait_log(&format!("topic {name:?} may be read now"), secs(1));
        }

        // A topic whose access is revoked is reported, and the others continue.
        broker.deny(user, Right::Read, &empty);
        names(&[&empty]).await;
        broker.produce(&open, &numbered(0, 20, 10));
        let events = stream.collect_until(until_records(10), secs(10)).await;
        assert_eq!(records(&events), expected(0, 30)[20..]);
    });
}

/// With the crate only reading can be refused: a topic that may not be seen does not exist to it.
fn the_kafka_crate_names_an_unauthorized_topic(secured: &Secured) {
    let open = topic(secured, "User:CN=reader", 10);
    let seen = topic_name("seen");
    secured.broker.create_topic(&seen, 1, &[]);
    secured.broker.produce(&seen, &others(3));
    secured.broker.allow("User:CN=reader", Right::Describe, &seen);
    let kafka = with_client("kafka", &mutual_tls(secured));
    let daemon = Daemon::start(&config(
        &secured.address(Listener::Mutual),
        &kafka,
        &[&open, &seen],
    ));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut events = stream.collect_until(named("caught-up"), secs(30)).await;
        secured.broker.produce(&open, &numbered(0, 10, 10));
        events.extend(stream.collect_until(until_records(10), secs(10)).await);
        assert_eq!(records(&events), expected(0, 20));
        let acl = format!("--allow-principal User:CN=reader --operation Read --topic {seen}");
        let named = degraded(&daemon).await;
        assert!(named.len() == 1 && named[0].ends_with(&acl), "{named:?}");
        secured.broker.allow("User:CN=reader", Right::Read, &seen);
        let events = stream.collect_until(until_records(3), secs(30)).await;
        assert_eq!(records(&events), ["p1-0", "p1-1", "p1-2"]);
        eventually_async(secs(10), "nothing is wrong any more", async || {
            let named = degraded(&daemon).await;
            ensure(named.is_empty(), format!("{named:?}"))
        })
        .await;
    });
}

fn a_token_is_refreshed_before_it_expires(secured: &Secured) {
    const LIFETIME: i64 = 10;
    let topic = topic(secured, "User:tokener", 10);
    let file = secured.secret(&token("tokener", LIFETIME));
    let expiry = SystemTime::now() + Duration::from_secs(10);
    let kafka = format!(
        "{}\nsasl = {{ mechanism = \"OAUTHBEARER\", token_file = {file:?} }}\n\
         [log.targets]\n\"kafka_sse_bridge::kafka\" = \"debug\"",
        tls(secured)
    );
    let daemon = Daemon::start(&config(&secured.address(Listener::SaslTls), &kafka, &[&topic]));
    let read = |daemon: &Daemon| daemon.log().matches(&format!("token read from {file}")).count();
    block_on(async {
        daemon.wait_ready(secs(9)).await;
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut events = stream.collect_until(named("caught-up"), secs(9)).await;
        let before = read(&daemon);
        assert!(before >= 2, "each handle has one: {}", daemon.log());
        fs::write(&file, token("tokener", 600)).expect("written");
        // Each handle asks for its own, the one that only answers questions too.
        eventually_async(secs(20), "the token is read again for both handles", async || {
            ensure(read(&daemon) >= before + 2, daemon.log())
        })
        .await;
        assert!(SystemTime::now() < expiry, "later than it should have been");
        // The broker closes connections whose token has expired.
        eventually_async(secs(20), "the first token has expired", async || {
            ensure(
                SystemTime::now() > expiry + Duration::from_secs(1),
                "it is valid still",
            )
        })
        .await;
        secured.broker.produce(&topic, &numbered(0, 10, 5));
        events.extend(stream.collect_until(until_records(5), secs(30)).await);
        assert_eq!(records(&events), expected(0, 15));
        // Another client, which asks for times.
        let mut since = Stream::open(daemon.url("/events?since=1h")).await;
        let events = since.collect_until(named("caught-up"), secs(30)).await;
        assert_eq!(records(&events), expected(0, 15));
        assert_eq!(degraded(&daemon).await, [""; 0]);
        assert!(!daemon.log().contains(" WARN "), "{}", daemon.log());
    });
}

fn a_reload_applies_a_changed_secret(secured: &Secured) {
    let user = topic_name("rotating");
    secured.set_password(&user, "first");
    let file = secured.secret("first\n");
    let topic = topic(secured, &format!("User:{user}"), 10);
    let kafka = format!(
        "{}\nsasl = {{ mechanism = \"SCRAM-SHA-512\", username = {user:?}, password_file = {file:?} }}",
        tls(secured)
    );
    let daemon = Daemon::start(&config(&secured.address(Listener::SaslTls), &kafka, &[&topic]));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut events = stream.collect_until(named("caught-up"), secs(30)).await;
        secured.set_password(&user, "second");
        fs::write(&file, "second\n").expect("written");
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: content of kafka.sasl.password_file\n", secs(20));
        secured.broker.produce(&topic, &numbered(0, 10, 5));
        events.extend(stream.collect_until(until_records(5), secs(30)).await);
        assert_eq!(records(&events), expected(0, 15));
        eventually_async(secs(20), "another client reads", async || {
            let reading = daemon.log().matches("reading with librdkafka").count();
            ensure(reading == 2, daemon.log())
        })
        .await;
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: nothing has changed\n", secs(20));
        // A secret that cannot be read changes nothing.
        fs::remove_file(&file).expect("removed");
        daemon.signal(Signal::HUP);
        daemon.wait_log("reload failed, the running configuration is unchanged", secs(20));
        secured.broker.produce(&topic, &numbered(0, 15, 5));
        events.extend(stream.collect_until(until_records(5), secs(30)).await);
        assert_eq!(records(&events), expected(0, 20));
    });
}

/// The password changes in the broker and in the file while the running daemon gets no reload.
fn a_changed_secret_is_applied_once_the_old_one_is_refused(secured: &Secured) {
    let user = topic_name("changing");
    secured.set_password(&user, "first");
    let file = secured.secret("first\n");
    let topic = topic(secured, &format!("User:{user}"), 10);
    let kafka =
        format!("sasl = {{ mechanism = \"SCRAM-SHA-512\", username = {user:?}, password_file = {file:?} }}");
    let daemon = Daemon::start(&config(&secured.address(Listener::Sasl), &kafka, &[&topic]));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let mut stream = Stream::open(daemon.url("/events")).await;
        let mut events = stream.collect_until(named("caught-up"), secs(30)).await;
        secured.set_password(&user, "second");
        daemon.wait_log(&format!("the brokers refuse user {user:?}"), secs(30));
        fs::write(&file, "second\n").expect("written");
        daemon.wait_log("answers again", secs(30));
        secured.broker.produce(&topic, &numbered(0, 10, 5));
        events.extend(stream.collect_until(until_records(5), secs(30)).await);
        assert_eq!(records(&events), expected(0, 15));
    });
}

fn a_corrected_secret_is_applied_without_a_reload(secured: &Secured) {
    secured.set_password("scrammer", "hush\thush");
    let file = secured.secret("wrong");
    let topic = topic(secured, "User:scrammer", 10);
    let kafka = format!(
        "{}\nsasl = {{ mechanism = \"SCRAM-SHA-512\", username = \"scrammer\", password_file = {file:?} }}",
        tls(secured)
    );
    let daemon = Daemon::start(&config(&secured.address(Listener::SaslTls), &kafka, &[&topic]));
    daemon.wait_log("the brokers refuse user \"scrammer\"", secs(30));
    fs::write(&file, "hush\thush\n").expect("written");
    reads(secured, &daemon, &topic, 10);
    daemon.wait_log("answers again", secs(1));
}
