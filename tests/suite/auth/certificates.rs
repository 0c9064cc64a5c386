//! Certificates of clients as claims: whom they admit, what they select, and until when.

use super::issuer::{Issuer, claims};
use super::refused::jwt;
use super::{Answer, File, HEARTBEATS, ask, ask_at, is_open, metric, text};
use crate::common::{config, named, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::certificates::{Certificates, DAY};
use crate::harness::daemon::{Daemon, finish};
use crate::harness::gateway::{Gateway, Transport};
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{on_broker, promise};
use libtest_mimic::Trial;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use openssl::x509::extension::SubjectAlternativeName;
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    vec![
        promise(a_rule_admits_clients_by_their_certificates),
        promise(a_token_keeps_its_sub_beside_a_certificate),
        promise(no_token_or_proxy_makes_claims_of_a_certificate),
        promise(a_stream_ends_with_the_certificate_of_its_client),
        promise(no_session_is_resumed_where_certificates_are_asked_for),
        promise(a_ca_that_is_removed_ends_what_its_certificates_opened),
        on_broker(Version::V4_4, a_certificate_selects_the_records_of_its_client),
    ]
}

const WITH_TLS: [Transport; 2] = [Transport::Tls, Transport::TlsHttp2];

/// Lines of `[http.tls]` that ask clients for certificates of this authority.
fn asking(certificates: &Certificates) -> String {
    format!(
        "client_auth = \"request\"\nclient_ca_file = {:?}",
        certificates.path("ca.pem")
    )
}

/// A daemon without Kafka, with these sections of `[auth]` and streams, that asks clients for certificates.
fn start(certificates: &Certificates, sections: &str, streams: &str) -> Daemon {
    Daemon::start(&(text(sections, streams) + &certificates.section(&asking(certificates))))
}

fn stream(path: &str, allow: &str) -> String {
    format!("[[stream]]\npath = {path:?}\ntopics = [\"t\"]\nallow = {{ {allow} }}\n")
}

/// Writes the certificate of a client that is named in every way.
fn write_client(certificates: &Certificates, name: &str, valid: Duration) {
    let subject = [("O", "Example"), ("OU", "Ops"), ("OU", name), ("CN", name)];
    let mut alternatives = SubjectAlternativeName::new();
    alternatives
        .dns(&format!("{name}.example"))
        .dns("all.example")
        .email(&format!("{name}@example.org"))
        .uri(&format!("spiffe://example/{name}"))
        .ip(if name == "alice" { "10.0.0.1" } else { "10.0.0.2" });
    certificates.write_subject(name, &subject, &alternatives, valid);
}

/// A gateway that shows the certificate of a client, or none.
fn gateway(daemon: &Daemon, transport: Transport, certificates: &Certificates, name: &str) -> Gateway {
    let read = |ending: &str| fs::read(certificates.path(&format!("{name}.{ending}"))).expect("a file");
    let own = (!name.is_empty()).then(|| (read("pem"), read("key")));
    let own = own
        .as_ref()
        .map(|(certificate, key)| (certificate.as_slice(), key.as_slice()));
    Gateway::start_with(transport, daemon.tls_port(), &certificates.ca(), own)
}

async fn status(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> u16 {
    ask_at(gateway.url(path), headers).await.status
}

fn a_rule_admits_clients_by_their_certificates() {
    let certificates = Certificates::new();
    for name in ["alice", "bob"] {
        write_client(&certificates, name, DAY);
    }
    let rules = [
        ("/subject", "subject", "CN=alice,OU=alice,OU=Ops,O=Example"),
        ("/cn", "subject_cn", "alice"),
        ("/ou", "subject_ou", "alice"),
        ("/dns", "dns", "alice.example"),
        ("/email", "email", "alice@example.org"),
        ("/uri", "uri", "spiffe://example/alice"),
        ("/ip", "ip", "10.0.0.1"),
    ];
    let of_alice =
        rules.map(|(path, claim, value)| stream(path, &format!("\"certificate.{claim}\" = [{value:?}]")));
    let of_both = [
        stream("/o", "\"certificate.subject_o\" = [\"Example\"]"),
        stream("/ops", "\"certificate.subject_ou\" = [\"Ops\"]"),
        stream("/all", "\"certificate.dns\" = [\"all.example\"]"),
    ];
    let streams = of_alice.concat() + &of_both.concat();
    let daemon = start(&certificates, "[auth.certificate]", &streams);
    block_on(async {
        for transport in WITH_TLS {
            let [alice, bob, nobody] =
                ["alice", "bob", ""].map(|name| gateway(&daemon, transport, &certificates, name));
            for (path, ..) in rules {
                assert_eq!(status(&alice, path, &[]).await, 200, "{path}");
                assert_eq!(status(&bob, path, &[]).await, 403, "{path}");
            }
            for path in ["/o", "/ops", "/all", "/events"] {
                assert_eq!(status(&alice, path, &[]).await, 200, "{path}");
                assert_eq!(status(&bob, path, &[]).await, 200, "{path}");
                let answer = ask_at(nobody.url(path), &[]).await;
                assert_eq!(answer.outcome(), (401, "unauthorized"), "{path}");
            }
        }
        // Without TLS there is no certificate.
        assert_eq!(ask(&daemon, "/events", &[]).await.status, 401);
        daemon.wait_log("as \"CN=alice,OU=alice,OU=Ops,O=Example\"", secs(10));
    });
}

fn a_certificate_selects_the_records_of_its_client(broker: &Broker) {
    let certificates = Certificates::new();
    for name in ["alice", "bob"] {
        write_client(&certificates, name, DAY);
    }
    let topic = topic_name("certificates");
    broker.create_topic(&topic, 1, &[]);
    let records_of = [("alice", "1"), ("bob", "2"), ("carol", "3"), ("alice", "4")];
    broker.produce(&topic, &records_of.map(|(key, value)| Message::new(key, value)));
    let selecting = "start = \"snapshot\"\nfilter = { key = [\"${claims.certificate.subject_cn}\"] }\n";
    let table = config(broker, &[&topic], selecting) + "[auth.certificate]\n";
    let daemon = Daemon::start(&certificates.behind(&table, &asking(&certificates)));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        for transport in WITH_TLS {
            for (name, expected) in [("alice", "4"), ("bob", "2")] {
                let gateway = gateway(&daemon, transport, &certificates, name);
                let mut stream = Stream::open(gateway.url("/events")).await;
                let events = stream.collect_until(named("caught-up"), secs(30)).await;
                assert_eq!(records(&events), [expected], "{name}");
                let mut document = Stream::open(gateway.url("/events?format=json")).await;
                let body = document.body(secs(30)).await.expect("a document");
                let body = String::from_utf8(body).expect("UTF-8");
                assert!(body.contains(&format!("[\n{expected}\n]")), "{body}");
            }
        }
    });
}

fn a_token_keeps_its_sub_beside_a_certificate() {
    let certificates = Certificates::new();
    for name in ["alice", "bob"] {
        write_client(&certificates, name, DAY);
    }
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let sections = jwt(&issuer, &key, "") + "[auth.certificate]\nsub = \"subject_cn\"\n";
    let streams = [
        stream("/alice", "sub = [\"alice\"]"),
        stream("/anne", "sub = [\"anne\"]"),
        stream(
            "/both",
            "sub = [\"anne\"], \"certificate.subject_cn\" = [\"alice\"]",
        ),
    ];
    let daemon = start(&certificates, &sections, &streams.concat());
    let good = format!("Bearer {}", issuer.token(&claims("anne")));
    block_on(async {
        for transport in WITH_TLS {
            for (name, token, expected) in [
                ("alice", "", [200, 403, 403]),
                ("alice", good.as_str(), [403, 200, 200]),
                ("bob", &good, [403, 200, 403]),
                ("", &good, [403, 200, 403]),
                ("", "", [401, 401, 401]),
                // It says who the client is, and is not acceptable.
                ("alice", "Bearer x.y.z", [401, 401, 401]),
            ] {
                let gateway = gateway(&daemon, transport, &certificates, name);
                let authorization = [("authorization", token)];
                let headers = if token.is_empty() {
                    &[][..]
                } else {
                    &authorization[..]
                };
                for (path, expected) in ["/alice", "/anne", "/both"].into_iter().zip(expected) {
                    assert_eq!(
                        status(&gateway, path, headers).await,
                        expected,
                        "{name:?} {token} {path}"
                    );
                }
            }
        }
    });
}

fn no_token_or_proxy_makes_claims_of_a_certificate() {
    let certificates = Certificates::new();
    for name in ["alice", "bob"] {
        write_client(&certificates, name, DAY);
    }
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let mut forged = claims("anne");
    forged["certificate"] = json!({ "subject_cn": "alice", "dns": ["alice.example"] });
    forged["certificate.subject_cn"] = json!("alice");
    let forged = format!("Bearer {}", issuer.token(&forged));
    let forged = [("authorization", forged.as_str()), ("x-user", "anne")];
    let sections = jwt(&issuer, &key, "") + "[auth.certificate]\n";
    let streams = stream("/cn", "\"certificate.subject_cn\" = [\"alice\"]")
        + &stream("/dns", "\"certificate.dns\" = [\"alice.example\"]");
    let daemon = start(&certificates, &sections, &streams);
    // Behind a proxy whose own certificate is that of alice.
    let proxied = format!(
        "trusted_proxies = [\"127.0.0.1\"]\n[auth.proxy]\nheaders = {{ sub = \"X-User\" }}\n{sections}"
    );
    let behind = start(&certificates, &proxied, &streams);
    block_on(async {
        for path in ["/cn", "/dns"] {
            assert_eq!(ask(&daemon, path, &forged).await.status, 403);
            for transport in WITH_TLS {
                for (name, expected) in [("", 403), ("bob", 403), ("alice", 200)] {
                    let gateway = gateway(&daemon, transport, &certificates, name);
                    assert_eq!(status(&gateway, path, &forged).await, expected, "{name:?}");
                }
                let gateway = gateway(&behind, transport, &certificates, "alice");
                assert_eq!(status(&gateway, path, &forged).await, 403);
                assert_eq!(status(&gateway, path, &forged[..1]).await, 403);
                assert_eq!(status(&gateway, path, &[]).await, 401);
                assert_eq!(status(&gateway, "/events", &forged[1..]).await, 200);
            }
        }
    });
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

const UNAUTHORIZED: &str = r#"{"reason":"unauthorized"}"#;

/// A connection of OpenSSL with the certificate of a client.
fn connect(daemon: &Daemon, certificates: &Certificates, name: &str) -> openssl::ssl::SslStream<TcpStream> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("OpenSSL");
    builder
        .set_ca_file(certificates.path("ca.pem"))
        .expect("the authority");
    builder
        .set_certificate_chain_file(certificates.path(&format!("{name}.pem")))
        .expect("a certificate");
    builder
        .set_private_key_file(certificates.path(&format!("{name}.key")), SslFiletype::PEM)
        .expect("a key");
    let socket = TcpStream::connect(("127.0.0.1", daemon.tls_port())).expect("it listens");
    socket.set_read_timeout(Some(secs(60))).expect("a socket");
    builder.build().connect("127.0.0.1", socket).expect("a handshake")
}

fn a_stream_ends_with_the_certificate_of_its_client() {
    let certificates = Certificates::new();
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let sections = format!(
        "[auth]\nwarn_before = \"2s\"\n{}[auth.certificate]\n",
        jwt(&issuer, &key, "")
    );
    let daemon = start(&certificates, &sections, "");
    write_client(&certificates, "alice", secs(7));
    let begun = Instant::now();
    // HTTP/1.1, whose connection ends too: the next request needs another handshake.
    let mut first = connect(&daemon, &certificates, "alice");
    first
        .write_all(b"GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        .expect("sent");
    block_on(async {
        let gateway = gateway(&daemon, Transport::TlsHttp2, &certificates, "alice");
        let bearer = format!("Bearer {}", issuer.token(&claims("anne")));
        let mut alone = Stream::open(gateway.url("/events")).await;
        // A token that lasts longer changes nothing.
        let request = Stream::to(gateway.url("/events")).header("authorization", bearer);
        let mut with_token = request.send().await.expect("an answer");
        for stream in [&mut alone, &mut with_token] {
            let (events, end) = stream.collect_to_end(secs(30)).await;
            assert_eq!(names(&events), ["reauthenticate", "goodbye"], "{end}");
            assert_eq!(events[1].data, UNAUTHORIZED);
            assert!(matches!(end, NoEvent::Ended), "{end}");
        }
        let lasted = begun.elapsed();
        assert!((secs(4)..secs(15)).contains(&lasted), "{lasted:?}");
        let mut read = Vec::new();
        first.read_to_end(&mut read).expect("a proper end");
        let read = String::from_utf8(read).expect("UTF-8");
        assert!(read.contains(UNAUTHORIZED), "{read}");
        // That of HTTP/2 has been told to go, and is gone.
        eventually_async(secs(20), "the connections have ended", async || {
            let figures = daemon.get("/streams").await.json();
            ensure(figures["http"]["connections"] == 1, figures["http"].to_string())
        })
        .await;
    });
}

/// What OpenSSL gets for `HEAD /events` with the certificate of alice.
fn s_client(certificates: &Certificates, daemon: &Daemon, arguments: &str) -> String {
    let request = certificates.path("request");
    fs::write(&request, "HEAD /events HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    let line = format!(
        "(cat {request}; sleep 1) | timeout 20 openssl s_client -connect 127.0.0.1:{} -CAfile {} {arguments} 2>&1",
        daemon.tls_port(),
        certificates.path("ca.pem")
    );
    let output = finish(Command::new("sh").args(["-c", &line]));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// It would keep the certificate that it began with: past its end, and in place of a new one.
fn no_session_is_resumed_where_certificates_are_asked_for() {
    let certificates = Certificates::new();
    let own = format!(
        "-cert {} -key {}",
        certificates.path("alice.pem"),
        certificates.path("alice.key")
    );
    for auth in ["request", "require"] {
        let asking = asking(&certificates).replace("\"request\"", &format!("{auth:?}"));
        let daemon = Daemon::start(&(text("[auth.certificate]", "") + &certificates.section(&asking)));
        write_client(&certificates, "alice", DAY);
        for version in ["tls1_2", "tls1_3"] {
            let session = certificates.path(&format!("{auth}-{version}"));
            let arguments = format!("-{version} {own} -sess_out {session}");
            let said = s_client(&certificates, &daemon, &arguments);
            assert!(said.contains("HTTP/1.1 200 OK"), "{said}");
            assert!(!fs::exists(&session).expect("a directory"), "{said}");
        }
        // In its last second.
        write_client(&certificates, "alice", secs(0));
        block_on(async {
            eventually_async(secs(20), "the certificate has ended", async || {
                let said = s_client(&certificates, &daemon, &own);
                ensure(said.contains("alert certificate expired"), said)
            })
            .await;
        });
        write_client(&certificates, "alice", DAY);
        let said = s_client(&certificates, &daemon, &own);
        assert!(said.contains("HTTP/1.1 200 OK"), "{said}");
        block_on(async {
            let resumed = "kafka_sse_bridge_tls_sessions_resumed_total";
            assert_eq!(metric::<u64>(&daemon, resumed).await, 0);
        });
    }
}

fn a_ca_that_is_removed_ends_what_its_certificates_opened() {
    let certificates = Certificates::new();
    let [others, more] = [Certificates::new(), Certificates::new()];
    write_client(&certificates, "alice", DAY);
    write_client(&others, "bob", DAY);
    certificates.replace("clients.pem", &[certificates.ca(), others.ca()].concat());
    let asking = format!(
        "client_auth = \"request\"\nclient_ca_file = {:?}",
        certificates.path("clients.pem")
    );
    let public = "[[stream]]\npath = \"/public\"\ntopics = [\"t\"]\nallow = \"public\"\n";
    let streams = format!("{HEARTBEATS}{public}{HEARTBEATS}");
    let config = text("[auth.certificate]", &streams) + &certificates.section(&asking);
    let daemon = Daemon::start(&config);
    // The daemon's own certificate is that of the first authority.
    for file in ["bob.pem", "bob.key"] {
        let content = fs::read(others.path(file)).expect("a file");
        certificates.replace(file, &content);
    }
    block_on(async {
        let alice = gateway(&daemon, Transport::TlsHttp2, &certificates, "alice");
        let bob = gateway(&daemon, Transport::TlsHttp2, &certificates, "bob");
        let mut of_alice = Stream::open(alice.url("/events")).await;
        let mut of_bob = Stream::open(bob.url("/events")).await;
        let mut public = Stream::open(alice.url("/public")).await;
        // One more ends nothing.
        let all = [certificates.ca(), others.ca(), more.ca()].concat();
        certificates.replace("clients.pem", &all);
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: ", secs(20));
        for stream in [&mut of_alice, &mut of_bob, &mut public] {
            is_open(stream).await;
        }
        // Without a reload.
        certificates.replace("clients.pem", &[others.ca(), more.ca()].concat());
        for stream in [&mut of_alice, &mut of_bob] {
            let (events, _) = stream.collect_to_end(secs(30)).await;
            assert_eq!(events.last().expect("a goodbye").data, UNAUTHORIZED);
        }
        // It needs no certificate.
        is_open(&mut public).await;
        let ask_again = async |gateway: &Gateway| -> Option<Answer> {
            let stream = Stream::to(gateway.url("/events")).send().await.ok()?;
            Some(Answer {
                status: stream.status,
                code: None,
                challenge: None,
            })
        };
        eventually_async(secs(20), "bob is back, by another connection", async || {
            let answer = ask_again(&bob).await;
            ensure(
                answer.as_ref().is_some_and(|answer| answer.status == 200),
                format!("{answer:?}"),
            )
        })
        .await;
        let answer = ask_again(&alice).await;
        assert!(answer.is_none_or(|answer| answer.status != 200));
    });
}
