//! Refusals by the broker, which are no outages: each is reported once, in one line, by the log, by
//! `/health/ready` and by `doctor`, with the remedy.

use crate::harness::broker::Version;
use crate::harness::daemon::{Daemon, run_to_end};
use crate::harness::secured::{Listener, PASSWORD, Secured, USER, on_each_secured, on_secured, token};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::security::{config, degraded, tls, topic, with_client};
use libtest_mimic::Trial;
use std::fs;
use std::thread;

pub fn trials() -> Vec<Trial> {
    let mut trials = on_each_secured(an_authentication_error_is_logged_once_with_a_remedy);
    trials.push(on_secured(
        Version::V4_4,
        doctor_names_its_principal_and_unencrypted_connections,
    ));
    trials
}

/// The exit status and the output of `doctor` for a configuration.
fn doctor(text: &str) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, text).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let output = run_to_end(&["doctor", "--config", path], &[]);
    (
        output.status.code(),
        String::from_utf8(output.stdout).expect("UTF-8"),
    )
}

fn doctor_names_its_principal_and_unencrypted_connections(secured: &Secured) {
    let topic = topic(secured, &format!("User:{USER}"), 3);
    let password = secured.secret(PASSWORD);
    let sasl =
        format!("sasl = {{ mechanism = \"PLAIN\", username = \"{USER}\", password_file = {password:?} }}");
    for (listener, kafka, says) in [
        (
            Listener::SaslTls,
            format!("{}\n{sasl}", tls(secured)),
            "ok    login: PLAIN with \"bridge\", over TLS\n",
        ),
        (
            Listener::Sasl,
            sasl.clone(),
            "warn  login: PLAIN with \"bridge\", without TLS: the secret can be read on the network\n",
        ),
    ] {
        let (code, report) = doctor(&config(&secured.address(listener), &kafka, &[&topic]));
        assert_eq!(code, Some(0), "{report}");
        assert!(report.contains(says), "{report}");
        for part in [
            "ok    api versions ",
            &format!("ok    reading {topic}: records at the ends of 1 of 1"),
        ] {
            assert!(report.contains(part), "{part}: {report}");
        }
        assert!(!report.contains(PASSWORD), "{report}");
    }
}

/// A configuration that fails, and the expected error.
#[derive(Clone)]
struct Refused {
    address: String,
    kafka: String,
    /// Of what is said in the log and by `/health/ready`.
    says: &'static str,
    /// Of where to look.
    remedy: &'static str,
    /// Of what `doctor` finds, where that is something else.
    found: Option<&'static str>,
}

const SECRET: &str = "not-to-be-told";

/// Nothing but what is said and where to look, of a configuration of `[kafka]` for this address.
fn case(address: String, kafka: &str, says: &'static str, remedy: &'static str) -> Refused {
    Refused {
        address,
        kafka: kafka.to_owned(),
        says,
        remedy,
        found: None,
    }
}

fn logins(secured: &Secured) -> Vec<Refused> {
    const PASSWORD: &str = "correct username and password_file of sasl in [kafka]";
    const TOKEN: &str = "see to token_file of sasl in [kafka]";
    secured.set_password("scrammer", "hush\thush");
    let wrong = secured.secret(SECRET);
    let expired = secured.secret(&token("tokener", -60));
    let empty = secured.secret("eyJhbGciOiJub25lIn0.e30.");
    let case = |login: &str, says, remedy| {
        let kafka = format!("{}\nsasl = {{ {login} }}", tls(secured));
        case(secured.address(Listener::SaslTls), &kafka, says, remedy)
    };
    let user = |mechanism: &str, name: &str| {
        format!("mechanism = \"{mechanism}\", username = \"{name}\", password_file = {wrong:?}")
    };
    let token = |file: &str| format!("mechanism = \"OAUTHBEARER\", token_file = {file:?}");
    vec![
        case(
            &user("PLAIN", USER),
            "the brokers refuse user \"bridge\" (PLAIN): Authentication failed: Invalid username or password",
            PASSWORD,
        ),
        case(
            &user("SCRAM-SHA-512", "scrammer"),
            "the brokers refuse user \"scrammer\" (SCRAM-SHA-512): Authentication failed",
            PASSWORD,
        ),
        case(&token(&expired), " expired at 20", TOKEN),
        case(
            &token(&empty),
            "the brokers refuse the token (OAUTHBEARER): ",
            TOKEN,
        ),
    ]
}

fn certificates(secured: &Secured) -> Vec<Refused> {
    const UNKNOWN: (&str, &str) = (
        "the broker's certificate is not trusted: its CA (CN=the suite's CA) is unknown here",
        "name that CA's certificate in ca_file of tls in [kafka]",
    );
    const HOST: (&str, &str) = (
        "the broker's certificate is not for the host \"localhost\" but for 127.0.0.1",
        "name the broker in brokers as its certificate does",
    );
    const WANTED: (&str, &str) = (
        "the brokers want a certificate of us (",
        "set cert_file and key_file of tls in [kafka]",
    );
    let at = |listener| secured.address(listener);
    let own = tls(secured);
    let other = format!("tls = {{ ca_file = {:?} }}", secured.file("other-ca.pem"));
    let elsewhere = at(Listener::Tls).replace("127.0.0.1", "localhost");
    let (certificate, _) = secured.certificate("one");
    let (_, key) = secured.certificate("another");
    let mixed = format!(
        "tls = {{ ca_file = {:?}, cert_file = {certificate:?}, key_file = {key:?} }}",
        secured.ca()
    );
    let crate_of = |kafka: &str| with_client("kafka", kafka);
    vec![
        case(at(Listener::Tls), &other, UNKNOWN.0, UNKNOWN.1),
        case(at(Listener::Tls), &crate_of(&other), UNKNOWN.0, UNKNOWN.1),
        case(elsewhere.clone(), &own, HOST.0, HOST.1),
        case(elsewhere, &crate_of(&own), HOST.0, HOST.1),
        case(at(Listener::Mutual), &own, WANTED.0, WANTED.1),
        case(at(Listener::Mutual), &crate_of(&own), WANTED.0, WANTED.1),
        case(
            at(Listener::Mutual),
            &mixed,
            "another.key.pem is not the key of ",
            "correct tls in [kafka]",
        ),
    ]
}

fn listeners(secured: &Secured) -> Vec<Refused> {
    vec![
        case(
            secured.broker.bootstrap(),
            &tls(secured),
            "no TLS is spoken at this port",
            "name a TLS listener in brokers, or remove tls in [kafka]",
        ),
        Refused {
            found: Some("the answer is not Kafka's protocol (does the port want TLS?)"),
            ..case(
                secured.address(Listener::Tls),
                "",
                "what is spoken at this port is not Kafka's protocol in plain",
                "tls in [kafka]",
            )
        },
        case(
            secured.address(Listener::Sasl),
            "",
            "the broker says what it speaks and then closes the connection",
            "set sasl in [kafka]",
        ),
    ]
}

/// All at once: each waits for its client library's patience, not for the processor.
fn an_authentication_error_is_logged_once_with_a_remedy(secured: &Secured) {
    let cases = [logins(secured), certificates(secured), listeners(secured)].concat();
    thread::scope(|scope| {
        for case in &cases {
            scope.spawn(|| refusal(case));
        }
    });
}

fn refusal(case: &Refused) {
    let text = config(&case.address, &case.kafka, &["t"]);
    let daemon = Daemon::start(&text);
    daemon.wait_log(case.says, secs(60));
    block_on(eventually_async(secs(20), "/health/ready names it", async || {
        let degraded = degraded(&daemon).await;
        let is_named = |what: &String| what.contains(case.says) && what.contains(case.remedy);
        ensure(degraded.iter().any(is_named), format!("{degraded:?}"))
    }));

    let (code, report) = doctor(&text);
    assert_eq!(code, Some(1), "{report}");
    let mut lines = report.lines();
    let found = case.found.unwrap_or(case.says);
    lines
        .find(|line| line.starts_with("fail  ") && line.contains(found))
        .unwrap_or_else(|| panic!("no failure that says {found:?}:\n{report}"));
    let remedy = lines.next().unwrap_or_default();
    assert!(remedy.contains(case.remedy), "{}: {remedy}", case.remedy);

    // By now it was tried several times.
    let log = daemon.log();
    let named: Vec<&str> = log.lines().filter(|line| line.contains(case.says)).collect();
    assert!(
        named.len() == 1 && named[0].contains(" WARN ") && named[0].contains(case.remedy),
        "{log}"
    );
    for text in [&log, &report, &block_on(degraded(&daemon)).concat()] {
        assert!(!text.contains(SECRET), "{text}");
    }
}
