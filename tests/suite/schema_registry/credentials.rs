//! Credentials and certificates come from files, take effect when these change, and are never shown.

use super::{SCHEMA, SEVEN, count, kind, registry};
use crate::doctor::Report;
use crate::harness::broker::free_port;
use crate::harness::scratch;
use crate::harness::scripted_registry::{Answer, Request, ScriptedRegistry};
use crate::harness::secured::Authority;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::trials;
use kafka_sse_bridge::decode::SchemaId;
use kafka_sse_bridge::schema_registry::Outcome;
use libtest_mimic::Trial;
use std::fs;

pub fn trials() -> Vec<Trial> {
    trials![
        a_refused_password_is_named_and_its_successor_taken_without_a_reload,
        a_token_is_sent_as_a_bearer_token,
        a_replaced_token_is_sent_with_the_next_request,
        doctor_warns_of_a_secret_that_the_network_can_read,
        credentials_that_are_missing_or_lack_rights_are_named,
        a_registry_is_trusted_by_its_ca_alone,
        a_client_certificate_is_sent_and_its_absence_named,
    ]
}

const SECRET: &str = "not-to-be-told";

/// Answers to one value of `Authorization` alone.
fn guarded(expected: &'static str) -> impl Fn(&Request) -> Answer + Send + Sync {
    move |request| match request.authorization.as_deref() {
        Some(given) if given == expected => Answer::schema(SCHEMA),
        _ => Answer::Json(401, r#"{"error_code":401,"message":"Unauthorized"}"#.to_owned()),
    }
}

fn a_refused_password_is_named_and_its_successor_taken_without_a_reload() {
    let directory = scratch::directory("credentials");
    let file = directory.path().join("password");
    fs::write(&file, SECRET).expect("written");
    // bridge:right
    let server = ScriptedRegistry::start(guarded("Basic YnJpZGdlOnJpZ2h0"));
    block_on(async {
        let lines = format!("username = \"bridge\"\npassword_file = \"{}\"", file.display());
        let (registry, status) = registry(&[&server.url()], &lines);
        let need = tokio::spawn(async move { registry.schema(SEVEN).await });
        eventually_async(secs(20), "health names it", async || {
            let degraded = status.degraded().join("\n");
            assert!(!degraded.contains(SECRET), "{degraded}");
            ensure(
                degraded.contains(
                    "refuses the credentials (401): Unauthorized; correct username and password_file",
                ),
                degraded,
            )
        })
        .await;
        assert!(count(&status, Outcome::Unauthorized) > 0);
        fs::write(&file, "right\n").expect("written");
        kind(&need.await.expect("no panic"));
    });
}

fn a_token_is_sent_as_a_bearer_token() {
    let directory = scratch::directory("credentials");
    let file = directory.path().join("token");
    fs::write(&file, format!("{SECRET}\n")).expect("written");
    let server = ScriptedRegistry::start(guarded("Bearer not-to-be-told"));
    block_on(async {
        let (registry, _) = registry(&[&server.url()], &format!("token_file = \"{}\"", file.display()));
        kind(&registry.schema(SEVEN).await);
    });
}

fn a_replaced_token_is_sent_with_the_next_request() {
    let directory = scratch::directory("credentials");
    let file = directory.path().join("token");
    fs::write(&file, "first\n").expect("written");
    // As when the first one expires: no request is refused for it.
    let server = ScriptedRegistry::start(|request| {
        let expected = if request.path.ends_with("/7") {
            "Bearer first"
        } else {
            "Bearer second"
        };
        guarded(expected)(request)
    });
    block_on(async {
        let (registry, status) = registry(&[&server.url()], &format!("token_file = \"{}\"", file.display()));
        kind(&registry.schema(SEVEN).await);
        let fresh = directory.path().join("token.new");
        fs::write(&fresh, "second").expect("written");
        fs::rename(&fresh, &file).expect("replaced");
        kind(&registry.schema(SchemaId::Number(8)).await);
        assert_eq!(count(&status, Outcome::Unauthorized), 0);
        let sent: Vec<_> = server
            .requests()
            .into_iter()
            .map(|request| request.authorization)
            .collect();
        assert_eq!(
            sent,
            ["Bearer first", "Bearer second"].map(|token| Some(token.to_owned()))
        );
    });
}

fn doctor_warns_of_a_secret_that_the_network_can_read() {
    let directory = scratch::directory("credentials");
    let file = directory.path().join("secret");
    fs::write(&file, SECRET).expect("written");
    let nowhere = free_port();
    let report = |registry: &str| {
        let report = Report::of(&format!(
            "[kafka]\nbrokers = [\"127.0.0.1:{nowhere}\"]\n[kafka.schema_registry]\ntimeout = \"100ms\"\n{registry}\n\
             [http]\nlisten = [\"127.0.0.1:0\"]\n[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n"
        ));
        assert!(!report.text.contains(SECRET), "{}", report.text);
        report.text
    };
    let file = file.display();
    let token = format!("token_file = \"{file}\"");
    // An address for documentation, which nobody has.
    let text = report(&format!(
        "urls = [\"https://127.0.0.1:{nowhere}\", \"http://192.0.2.1:8081\"]\n{token}"
    ));
    for line in [
        "warn  schema registry login: a token, without TLS to http://192.0.2.1:8081: it can be read on the network",
        "remedy: write https in urls of [kafka.schema_registry]",
    ] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    let login = format!("username = \"me\"\npassword_file = \"{file}\"");
    let text = report(&format!(
        "urls = [\"http://127.0.0.1:{nowhere}\", \"http://[::1]:{nowhere}\"]\n{login}"
    ));
    let line = "ok    schema registry login: the password of \"me\", over TLS or within this machine";
    assert!(text.contains(line), "{text}");
    let text = report("urls = [\"http://192.0.2.1:8081\"]");
    assert!(!text.contains("schema registry login"), "{text}");
}

fn credentials_that_are_missing_or_lack_rights_are_named() {
    for (status_code, text, outcome) in [
        (
            401,
            "requires credentials (401): no; set username and password_file, or token_file",
            Outcome::Unauthorized,
        ),
        (
            403,
            "forbids GET /schemas/ids/7 (403): no; grant the user the right to read schemas",
            Outcome::Forbidden,
        ),
    ] {
        let server = ScriptedRegistry::start(move |_| {
            Answer::Json(status_code, r#"{"error_code":40301,"message":"no"}"#.to_owned())
        });
        block_on(async {
            let (registry, status) = registry(&[&server.url()], "");
            let need = tokio::spawn(async move { registry.schema(SEVEN).await });
            eventually_async(secs(20), "health names it", async || {
                let degraded = status.degraded().join("\n");
                ensure(degraded.contains(text), degraded)
            })
            .await;
            assert!(count(&status, outcome) > 0);
            need.abort();
        });
    }
}

fn a_registry_is_trusted_by_its_ca_alone() {
    let directory = scratch::directory("credentials");
    let authority = Authority::new("the registry's CA");
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, Authority::new("somebody else's CA").pem()).expect("written");
    let server = ScriptedRegistry::with_tls(&authority.sign("registry", Some("127.0.0.1")), None, |_| {
        Answer::schema(SCHEMA)
    });
    block_on(async {
        let (registry, status) = registry(&[&server.url()], &format!("ca_file = \"{}\"", ca.display()));
        let need = tokio::spawn(async move { registry.schema(SEVEN).await });
        eventually_async(secs(20), "health names it", async || {
            let degraded = status.degraded().join("\n");
            ensure(
                degraded.contains("UnknownIssuer; set ca_file in [kafka.schema_registry]"),
                degraded,
            )
        })
        .await;
        assert_eq!(server.requests(), []);
        // Another file is taken without a reload.
        fs::write(&ca, authority.pem()).expect("written");
        kind(&need.await.expect("no panic"));
    });
}

fn a_client_certificate_is_sent_and_its_absence_named() {
    let directory = scratch::directory("credentials");
    let authority = Authority::new("the registry's CA");
    let place = |name: &str| directory.path().join(name).display().to_string();
    let (certificate, key) = authority.sign("bridge", None);
    for (name, content) in [
        ("ca.pem", authority.pem()),
        ("bridge.pem", certificate),
        ("bridge.key", key),
    ] {
        fs::write(place(name), content).expect("written");
    }
    let server = ScriptedRegistry::with_tls(
        &authority.sign("registry", Some("127.0.0.1")),
        Some(&authority.pem()),
        |_| Answer::schema(SCHEMA),
    );
    let lines = format!("ca_file = {:?}", place("ca.pem"));
    block_on(async {
        let (anonymous, status) = registry(&[&server.url()], &lines);
        let need = tokio::spawn(async move { anonymous.schema(SEVEN).await });
        eventually_async(secs(20), "health names it", async || {
            let degraded = status.degraded().join("\n");
            ensure(degraded.to_lowercase().contains("certificate"), degraded)
        })
        .await;
        assert_eq!(server.requests(), []);
        need.abort();
        let both = format!(
            "{lines}\ncert_file = {:?}\nkey_file = {:?}",
            place("bridge.pem"),
            place("bridge.key")
        );
        let (known, _) = registry(&[&server.url()], &both);
        kind(&known.schema(SEVEN).await);
    });
}
