//! `tail` over HTTPS, with tokens and client certificates, and what it says where these are not accepted.

use super::process::{Tail, assert_refused, said, tail};
use crate::auth::{File, make_token};
use crate::common::config;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::certificates::Certificates;
use crate::harness::daemon::{Daemon, run_to_end};
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::wait::{ensure, eventually, secs};
use crate::limits::config_of;
use crate::trials;
use libtest_mimic::Trial;
use std::process::Command;
use std::time::SystemTime;

pub fn trials() -> Vec<Trial> {
    trials![
        tail_reads_https_with_a_token_that_is_renewed_and_a_client_certificate,
        tail_names_what_is_wrong_with_tls_and_the_remedy,
        tail_trusts_a_certificate_that_is_its_own_authority,
        tail_names_what_is_wrong_with_a_client_certificate,
        tail_names_what_is_wrong_with_a_token_and_the_remedy,
        tail_refuses_options_of_tls_and_tokens_that_cannot_be_meant,
    ]
}

fn tail_reads_https_with_a_token_that_is_renewed_and_a_client_certificate() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("tail-https");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &[Message::value("one")]);
    let certificates = Certificates::new();
    certificates.write_client("alice", "alice", "spiffe://example/alice");
    let (ca, cert, key) = (
        certificates.path("ca.pem"),
        certificates.path("alice.pem"),
        certificates.path("alice.key"),
    );
    let [(first, first_line), (second, second_line)] = [make_token(&["first"]), make_token(&["second"])];
    let (tokens, held) = (
        File::new("tokens", &first_line),
        File::new("token", format!("{first}\n")),
    );
    let text = config(&broker, &[&topic], "start = \"earliest\"").replacen(
        "[http]\n",
        "[http]\nretry = \"100ms\"\n",
        1,
    );
    let lines = format!("client_auth = \"require\"\nclient_ca_file = {ca:?}");
    let text = certificates.behind(&text, &lines) + &format!("[auth.tokens]\nfile = {:?}\n", tokens.path());
    let daemon = Daemon::start(&text);
    let url = format!("https://localhost:{}/events?partition=0", daemon.tls_port());
    let held_path = held.path();
    let follower = Tail::start(&[
        &url,
        "--json",
        "--ca-file",
        &ca,
        "--cert",
        &cert,
        "--key",
        &key,
        "--token-file",
        &held_path,
    ]);
    follower.out.wait_for("\"one\"");
    // Its token is replaced at both ends.
    held.write(&second);
    tokens.write(&second_line);
    daemon.signal(Signal::HUP);
    follower.out.wait_for("unauthorized");
    broker.produce(&topic, &[Message::value("two")]);
    follower.out.wait_for("\"two\"");
    follower.process.signal(Signal::INT);
    let (code, _, error) = follower.end();
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains(" 1 reconnects, 0 gaps, 0 resets"), "{error}");

    // The same by the environment, at an address that is not that of the URL.
    let (elsewhere, address) = (
        "https://localhost/events",
        format!("127.0.0.1:{}", daemon.tls_port()),
    );
    let arguments = [
        "tail",
        elsewhere,
        "--connect",
        &address,
        "--ca-file",
        &ca,
        "--cert",
        &cert,
        "--key",
        &key,
        "-n",
        "1",
    ];
    let output = run_to_end(&arguments, &[("KAFKA_SSE_BRIDGE_TOKEN", &second)]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with(" one\n"));
    for token in [&first, &second] {
        assert!(!error.contains(token.as_str()) && !said(&output).contains(token.as_str()));
        assert!(!daemon.log().contains(token.as_str()));
    }
}

/// A certificate that is made as `openssl req` makes it, in `file.pem` and `file.key`.
fn made_by_openssl(certificates: &Certificates, file: &str, more: &[&str]) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args(["-days", "30", "-subj", "/CN=localhost", "-keyout"])
        .arg(certificates.path(&format!("{file}.key")))
        .arg("-out")
        .arg(certificates.path(&format!("{file}.pem")))
        .args(more)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
}

/// A daemon with these entries of `certificates`, and more lines of `[http.tls]`.
fn serving(pairs: &[String], more: &str) -> Daemon {
    let listed = pairs.join(", ");
    let text = format!("\n[http.tls]\nlisten = [\"127.0.0.1:0\"]\ncertificates = [{listed}]\n{more}\n");
    Daemon::start(&(config_of("") + &text))
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Reads `url` at an address with these options, and asserts that it fails with these words.
#[track_caller]
fn assert_says(url: &str, address: &str, more: &[&str], wanted: &[&str]) {
    let output = tail(&[&[url, "--connect", address], more].concat());
    assert_eq!(output.status.code(), Some(1), "{url}: {}", said(&output));
    for wanted in wanted {
        assert!(
            said(&output).contains(wanted),
            "{url}: {wanted}: {}",
            said(&output)
        );
    }
}

fn tail_names_what_is_wrong_with_tls_and_the_remedy() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    certificates.write("expired", &["expired.example"], secs(0));
    let made = SystemTime::now();
    let pairs = ["server", "expired"].map(|file| certificates.pair(file, ""));
    let daemon = serving(&pairs, "");
    let (tls, plain) = (at(daemon.tls_port()), at(daemon.port()));
    let (ca, other_ca) = (certificates.path("ca.pem"), others.path("ca.pem"));
    let url = "https://localhost/events";
    let unknown = [tls.as_str(), "not signed by a trusted CA", "--ca-file"];
    assert_says(url, &tls, &[], &unknown);
    assert_says(url, &tls, &["--ca-file", &other_ca], &unknown);
    assert_says(
        "https://elsewhere.example/events",
        &tls,
        &["--ca-file", &ca],
        &[
            &tls,
            "is for 127.0.0.1, localhost, not for elsewhere.example",
            "--connect",
        ],
    );
    assert_says(url, &plain, &[], &[&plain, "no TLS is spoken", "http://"]);
    assert_says(
        "http://localhost/events",
        &tls,
        &[],
        &["http://localhost/events: 400 Bad Request: tls_required: "],
    );
    // It is valid for the second in which it was made; after that, `tail` ends.
    eventually(secs(20), "the certificate has expired", || {
        ensure(SystemTime::now() > made + secs(1), "its second has not passed")
    });
    let arguments = ["--ca-file", ca.as_str()];
    let expired = ["the certificate expired ", " min ago; renew it"];
    assert_says("https://expired.example/events", &tls, &arguments, &expired);
}

fn tail_trusts_a_certificate_that_is_its_own_authority() {
    let certificates = Certificates::new();
    made_by_openssl(
        &certificates,
        "ca-like",
        &["-addext", "subjectAltName=DNS:ca.example"],
    );
    let names = [
        "-addext",
        "subjectAltName=DNS:self.example",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    made_by_openssl(&certificates, "self", &names);
    let pairs = ["ca-like", "self"].map(|file| certificates.pair(file, ""));
    let daemon = serving(&pairs, "");
    let tls = at(daemon.tls_port());
    let (like, own) = (certificates.path("ca-like.pem"), certificates.path("self.pem"));
    assert_says(
        "https://ca.example/events",
        &tls,
        &["--ca-file", &like],
        &["that of a CA", "basicConstraints=critical,CA:FALSE"],
    );
    assert_says(
        "https://self.example/event",
        &tls,
        &["--ca-file", &own],
        &["https://self.example/event: 404 Not Found"],
    );
}

fn tail_names_what_is_wrong_with_a_client_certificate() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    others.write_client("mallory", "mallory", "spiffe://example/alice");
    let ca = certificates.path("ca.pem");
    let more = format!("client_auth = \"require\"\nclient_ca_file = {ca:?}");
    let daemon = serving(&[certificates.pair("server", "")], &more);
    let (cert, key) = (others.path("mallory.pem"), others.path("mallory.key"));
    let (url, tls) = ("https://localhost/events", at(daemon.tls_port()));
    assert_says(
        url,
        &tls,
        &["--ca-file", &ca],
        &[&tls, "wants a certificate of the client", "--cert and --key"],
    );
    assert_says(
        url,
        &tls,
        &["--ca-file", &ca, "--cert", &cert, "--key", &key],
        &[&tls, "refuses the certificate of --cert", "its CA"],
    );
}

fn tail_names_what_is_wrong_with_a_token_and_the_remedy() {
    let (reader, line) = make_token(&["reader"]);
    let tokens = File::new("tokens", &line);
    let sections = format!(
        "hosts = [\"stream.example\"]\n[auth.tokens]\nfile = {:?}\n",
        tokens.path()
    );
    let streams = "[[stream]]\npath = \"/audit\"\ntopics = [\"t\"]\nallow = { role = [\"auditor\"] }\n";
    let daemon = Daemon::start(&(config_of(&sections) + streams));
    let held = File::new("token", &reader);
    let (good, held_path) = (daemon.url("/events?start=live"), held.path());
    let wrong = File::new("wrong", "ksb_wrong\n");
    let wrong_path = wrong.path();
    let audit = daemon.url("/audit");
    let address = format!("127.0.0.1:{}", daemon.port());
    let cases: &[(&[&str], &[&str])] = &[
        (
            &[&good],
            &[
                "/events: 401 Unauthorized: unauthorized: ",
                "--token-file",
                "KAFKA_SSE_BRIDGE_TOKEN",
            ],
        ),
        (
            &[&good, "--token-file", &wrong_path],
            &["401 Unauthorized: invalid_token: ", &wrong_path],
        ),
        (
            &[&good, "--header", "Authorization: Bearer ksb_wrong"],
            &["401 Unauthorized: invalid_token: ", "Authorization in --header"],
        ),
        (
            &[&audit, "--token-file", &held_path],
            &["/audit: 403 Forbidden: forbidden: ", "another client", "allow"],
        ),
        (
            &["http://other.example/events", "--connect", &address],
            &[
                "http://other.example/events: 421 ",
                "hosts in [http]",
                "--connect",
            ],
        ),
    ];
    for (arguments, wanted) in cases {
        let output = tail(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        for wanted in *wanted {
            assert!(said(&output).contains(wanted), "{wanted}: {}", said(&output));
        }
        let shown = said(&output);
        assert!(
            !shown.contains("ksb_") && !shown.contains("start=live"),
            "{shown}"
        );
        assert!(!shown.contains("without TLS"), "{shown}");
    }
    // Beyond this machine a token without TLS is warned of.
    let far = good.replace("127.0.0.1", "0.0.0.0").replace("/events", "/event");
    let output = tail(&[&far, "--token-file", &held_path]);
    assert!(
        said(&output).contains("the token is sent without TLS to http://0.0.0.0:")
            && said(&output).contains("https://"),
        "{}",
        said(&output)
    );
}

fn tail_refuses_options_of_tls_and_tokens_that_cannot_be_meant() {
    let (empty, two, pem) = (
        File::new("empty", "\n"),
        File::new("two", "hush one\nhush two\n"),
        File::new("no.pem", "hush"),
    );
    let (empty, two, pem) = (empty.path(), two.path(), pem.path());
    let (plain, secure) = ("http://localhost:1/x", "https://localhost:1/x");
    for (arguments, code, wanted) in [
        (
            vec![plain, "--token-file", "/nonexistent"],
            1,
            "/nonexistent: No such file",
        ),
        (vec![plain, "--token-file", &empty], 1, "is empty"),
        (
            vec![plain, "--token-file", &two],
            1,
            "holds no token, which is one line",
        ),
        (vec![plain, "--ca-file", &pem], 1, "write https:// or remove them"),
        (vec![secure, "--ca-file", &pem], 1, "holds no certificate in PEM"),
        (vec![secure, "--cert", &pem], 2, "--key"),
        (vec![secure, "--key", &pem], 2, "--cert"),
        (
            vec![plain, "--connect", "somewhere"],
            1,
            "write it like 10.0.0.5:8443",
        ),
        (
            vec![plain, "--connect", "[::1:80"],
            1,
            "write it like 10.0.0.5:8443",
        ),
        (
            vec![plain, "--connect", "a:1", "--unix-socket", "/x"],
            2,
            "cannot be used with",
        ),
        (vec!["https://a_b..c/x"], 1, "neither a name nor an address"),
    ] {
        assert_refused(&arguments, code, wanted);
    }
    for value in ["two words", "h\u{fc}sh"] {
        let output = run_to_end(&["tail", plain], &[("KAFKA_SSE_BRIDGE_TOKEN", value)]);
        assert_eq!(output.status.code(), Some(1));
        let shown = said(&output);
        assert!(
            shown.contains("KAFKA_SSE_BRIDGE_TOKEN holds no token") && !shown.contains(value),
            "{shown}"
        );
    }
}
