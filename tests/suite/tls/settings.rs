//! Wrong settings of `[http.tls]`, and what `check` and `doctor` say.

use crate::configuration::read;
use crate::harness::certificates::{Certificates, DAY};
use crate::harness::daemon::{Daemon, run_to_end};
use crate::harness::wait::secs;
use crate::limits::config_of;
use crate::trials;
use kafka_sse_bridge::config::Flags;
use libtest_mimic::Trial;
use std::fs;

pub fn trials() -> Vec<Trial> {
    trials![
        errors_for_tls_towards_clients_name_key_and_remedy,
        a_key_of_another_certificate_is_refused_at_the_start,
        doctor_warns_of_certificates_that_expire_soon,
        a_daemon_may_serve_https_alone,
        by_default_one_address_has_half_of_all_handshakes_at_most,
    ]
}

/// The output of a command with this configuration, and whether it succeeds.
fn run(command: &str, certificates: &Certificates, text: &str) -> (bool, String) {
    let file = certificates.path("config.toml");
    fs::write(&file, text).expect("written");
    let output = run_to_end(&[command, "--config", &file], &[]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).expect("UTF-8"))
}

fn errors_for_tls_towards_clients_name_key_and_remedy() {
    let certificates = Certificates::new();
    let check = |text: &str| run("check", &certificates, text);
    let good = config_of("") + &certificates.section("");
    let (is_good, said) = check(&good);
    assert!(is_good, "{said}");
    let pair = format!("certificates = [{}]", certificates.pair("server", ""));
    let ca = certificates.path("ca.pem");
    for (from, to, error) in [
        (
            "listen = [\"127.0.0.1:0\"]\ncert",
            "cert",
            "http.tls.listen: is missing; write listen",
        ),
        (
            pair.as_str(),
            "",
            "http.tls.certificates: is missing; write certificates",
        ),
        ("server.pem", "none.pem", "No such file"),
        ("server.pem", "server.key", "holds no certificate in PEM"),
        ("server.key", "server.pem", "holds no private key in PEM"),
        (
            &pair,
            &format!("{pair}\nclient_auth = \"require\""),
            "http.tls.client_ca_file: is missing; client_auth = \"require\" needs",
        ),
        (
            &pair,
            &format!("{pair}\nclient_ca_file = {ca:?}"),
            "has no effect with client_auth = \"none\"",
        ),
        (
            &pair,
            &format!("{pair}\nclient_auth = \"required\""),
            "unknown value \"required\"; did you mean \"require\"?",
        ),
        (
            &pair,
            &format!("{pair}\nmin_version = \"1.1\""),
            "known: 1.2, 1.3",
        ),
        (
            &pair,
            &format!("{pair}\nhandshake_timeout = \"10ms\""),
            "is less than 1s",
        ),
        (
            &pair,
            &format!("{pair}\nmax_handshakes = 0"),
            "is 0, so that no client can connect",
        ),
        (
            &pair,
            &format!("{pair}\nhttps_port = 0"),
            "http.tls.https_port: is 0",
        ),
        (
            &pair,
            &format!("{pair}\nhsts_max_age = \"9years\""),
            "is longer than two years",
        ),
        (
            &pair,
            &format!(
                "certificates = [{}]",
                certificates.pair("server", ", names = [\"a b\"]")
            ),
            "\"a b\" is not a host name",
        ),
        (
            &pair,
            &format!("{pair}\nredirect_to_https = [\"unix:/run/x\"]"),
            "http.tls.redirect_to_https:",
        ),
        (
            &pair,
            &format!("{pair}\nredirect_to_https = [\"127.0.0.1:80\", \"127.0.0.1:80\"]"),
            "is named twice",
        ),
        (
            &pair,
            &format!("{pair}\ncertificate = 1"),
            "did you mean \"certificates\"?",
        ),
    ] {
        // The last place: the listener without TLS comes first.
        let (before, after) = good.rsplit_once(from).unwrap_or_else(|| panic!("{from}"));
        let text = format!("{before}{to}{after}");
        let (is_good, said) = check(&text);
        assert!(!is_good && said.contains(error), "{to}: {error}: {said}");
    }
    let (_, said) = check(&good.replacen("[http]\n", "[http]\nhttp2_max_concurrent_streams = 0\n", 1));
    assert!(said.contains("http.http2_max_concurrent_streams: is 0"), "{said}");
}

fn a_key_of_another_certificate_is_refused_at_the_start() {
    let certificates = Certificates::new();
    let text = config_of("") + &certificates.section("");
    let other = fs::read(Certificates::new().path("server.key")).expect("it is there");
    certificates.replace("server.key", &other);
    for command in ["check", "run"] {
        let (is_good, said) = run(command, &certificates, &text);
        assert!(!is_good, "{command}");
        assert!(
            said.contains("http.tls: ") && said.contains("is not the key of the certificate"),
            "{command}: {said}"
        );
    }
}

fn doctor_warns_of_certificates_that_expire_soon() {
    let certificates = Certificates::new();
    let text = config_of("") + &certificates.section("");
    for (valid, line) in [
        (22 * DAY, "ok    certificate "),
        (20 * DAY, "warn  certificate "),
        (secs(0), "fail  certificate "),
    ] {
        certificates.write("server", &["www.example"], valid);
        let (_, said) = run("doctor", &certificates, &text);
        let found = said.lines().find(|said| said.starts_with(line));
        let found = found.unwrap_or_else(|| panic!("{line}: {said}"));
        assert!(found.contains("for www.example: "), "{found}");
    }
    // Those of the CAs of clients are not checked by TLS itself.
    let authority = certificates.path("ca.pem");
    let clients = format!("client_auth = \"require\"\nclient_ca_file = {authority:?}");
    let text_of_clients = config_of("") + &certificates.section(&clients);
    let (_, said) = run("doctor", &certificates, &text_of_clients);
    let wanted = format!("warn  client CA {authority}: CN=an authority of the suite: valid for 1 days");
    assert!(said.contains(&wanted), "{said}");
    // A running daemon holds its addresses.
    certificates.write("server", &["www.example"], 90 * DAY);
    let port = crate::harness::broker::free_port();
    let text = text.replace(
        "\n[http.tls]\nlisten = [\"127.0.0.1:0\"]",
        &format!("\n[http.tls]\nlisten = [\"127.0.0.1:{port}\"]"),
    );
    let daemon = Daemon::start(&text);
    let (_, said) = run("doctor", &certificates, &text);
    assert!(
        said.contains("held by a running kafka-sse-bridge, with TLS"),
        "{said}"
    );
    drop(daemon);
}

fn a_daemon_may_serve_https_alone() {
    let certificates = Certificates::new();
    let text = config_of("").replace("listen = [\"127.0.0.1:0\"]", "listen = []") + &certificates.section("");
    let (is_good, said) = run("check", &certificates, &text);
    assert!(is_good, "{said}");
}

fn by_default_one_address_has_half_of_all_handshakes_at_most() {
    const PER_IP: &str = "http.tls.max_handshakes_per_ip";
    let certificates = Certificates::new();
    let derived = "derived from http.tls.max_handshakes";
    let in_variable = ("KAFKA_SSE_BRIDGE__HTTP__TLS__MAX_HANDSHAKES_PER_IP", "64");
    for (lines, variables, per_ip, origin) in [
        ("", &[][..], 64, "default"),
        ("max_handshakes = 128", &[], 64, "default"),
        ("max_handshakes = 127", &[], 63, derived),
        ("max_handshakes = 10", &[], 5, derived),
        // 0 would be no limit.
        ("max_handshakes = 1", &[], 1, derived),
        ("max_handshakes = 10\nmax_handshakes_per_ip = 0", &[], 0, "FILE"),
        ("max_handshakes = 10\nmax_handshakes_per_ip = 64", &[], 64, "FILE"),
        ("max_handshakes = 10", &[in_variable], 64, "environment"),
    ] {
        let text = config_of("") + &certificates.section(lines);
        let loaded = read(&text, variables, &Flags::default()).unwrap_or_else(|error| panic!("{error}"));
        let tls = loaded.settings.http.tls.as_ref().expect("it is configured");
        assert_eq!(tls.max_handshakes_per_ip, per_ip, "{lines}");
        let found = loaded.origin(PER_IP);
        let is_so = match origin {
            "FILE" => found.contains(".toml:"),
            "environment" => found.starts_with("environment "),
            _ => found == origin,
        };
        assert!(is_so, "{lines}: {found}");
    }
}
