//! Files of keys, tokens, certificates and passwords whose content changes while their names do not.

use super::{File, text};
use crate::auth::issuer::Issuer;
use crate::harness::certificates::{Certificates, DAY};
use crate::harness::daemon::Daemon;
use crate::reload::reloaded;
use crate::trials;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![a_reload_names_every_file_whose_content_has_changed]
}

/// A file of tokens with one of them, for this client.
fn tokens(sub: &str) -> String {
    format!("sha256:{} {{\"sub\":\"{sub}\"}}\n", "0".repeat(64))
}

fn a_reload_names_every_file_whose_content_has_changed() {
    let certificates = Certificates::new();
    let keys = File::new("keys.pem", Issuer::new("ES256").pem());
    let known = File::new("tokens", tokens("one"));
    let password = File::new("password", "one");
    let sections = format!(
        "[auth.jwt]\nalgorithms = [\"ES256\"]\nkey_file = {:?}\n[auth.tokens]\nfile = {:?}\n\
         [kafka.schema_registry]\nurls = [\"http://127.0.0.1:1\"]\nusername = \"x\"\npassword_file = {:?}\n",
        keys.path(),
        known.path(),
        password.path()
    );
    let authority = format!(
        "client_auth = \"request\"\nclient_ca_file = {:?}",
        certificates.path("client-ca.pem")
    );
    let content = |name: &str| std::fs::read(certificates.path(name)).expect("it is there");
    certificates.replace("client-ca.pem", &content("ca.pem"));
    let text = text(&sections, "") + &certificates.section(&authority);
    let daemon = Daemon::start(&text);
    reloaded(&daemon, &text, "nothing has changed");
    known.write(tokens("two"));
    reloaded(&daemon, &text, "content of auth.tokens.file");
    keys.write(Issuer::new("ES256").pem());
    password.write("two");
    reloaded(
        &daemon,
        &text,
        "content of auth.jwt.key_file, content of kafka.schema_registry.password_file",
    );
    certificates.write("server", &[], DAY);
    reloaded(
        &daemon,
        &text,
        "content of http.tls.certificates[0].cert_file, content of http.tls.certificates[0].key_file",
    );
    certificates.replace("client-ca.pem", &[content("ca.pem"), content("ca.pem")].concat());
    let later = text.replacen("[http]\n", "[http]\nkeepalive = \"7s\"\n", 1);
    reloaded(
        &daemon,
        &later,
        "http.keepalive, content of http.tls.client_ca_file",
    );
    // What is not valid changes nothing, and is not forgotten.
    known.write("nonsense");
    let said = crate::reload::reload(&daemon, &later);
    assert!(said.contains("reload failed"), "{said}");
    known.write(tokens("three"));
    reloaded(&daemon, &later, "content of auth.tokens.file");
    reloaded(&daemon, &later, "nothing has changed");
}
