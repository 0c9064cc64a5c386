//! The rules for `[http.tls]`.

use super::address::check_host_port;
use super::faults::Faults;
use super::http_tls::{ClientAuth, HttpTlsSettings};
use super::units::Span;
use super::validate_security::{Pem, check_pem};

/// The shortest time that a handshake over a network may take.
const LEAST_HANDSHAKE: Span = Span::seconds(1);
/// The longest `max-age`: two years, as the preload list of browsers asks for.
const LONGEST_HSTS: Span = Span::seconds(2 * 366 * 24 * 60 * 60);

pub(super) fn validate(tls: &HttpTlsSettings, faults: &mut Faults) {
    let key = |name: &str| format!("http.tls.{name}");
    if !cfg!(feature = "rustls") {
        faults.add(
            "http.tls",
            "needs TLS, which is not part of this build; install one with the cargo feature rustls",
        );
    }
    if tls.listen.is_empty() {
        faults.add(
            key("listen"),
            "is missing; write listen = [\"[::]:8443\"], or remove [http.tls]",
        );
    }
    for (name, addresses) in [
        ("listen", &tls.listen),
        ("redirect_to_https", &tls.redirect_to_https),
    ] {
        // Sockets that a socket unit has bound.
        for address in addresses.iter().filter(|address| *address != "systemd") {
            if let Err(why) = check_host_port(address, 0) {
                let message = format!("{address:?} {why}; write \"[::]:8443\", \"*:8443\" or \"systemd\"");
                faults.add(key(name), message);
            }
        }
    }
    check_certificates(tls, faults);
    match (&tls.client_ca_file, tls.client_auth) {
        (None, ClientAuth::Request | ClientAuth::Require) => faults.add(
            key("client_ca_file"),
            format!(
                "is missing; client_auth = \"{}\" needs the certificates of the CAs that sign those of clients",
                tls.client_auth
            ),
        ),
        (Some(_), ClientAuth::None) => faults.add(
            key("client_ca_file"),
            "has no effect with client_auth = \"none\"; set \"request\" or \"require\", or remove it",
        ),
        _ => {}
    }
    check_pem(
        &key("client_ca_file"),
        tls.client_ca_file.as_ref(),
        Pem::Certificate,
        faults,
    );
    faults.add_if_longest(key("handshake_timeout"), tls.handshake_timeout);
    if tls.handshake_timeout < LEAST_HANDSHAKE {
        faults.add(
            key("handshake_timeout"),
            format!("is less than {LEAST_HANDSHAKE}; 10s is usual"),
        );
    }
    if tls.max_handshakes == 0 {
        faults.add(
            key("max_handshakes"),
            "is 0, so that no client can connect; 512 is usual",
        );
    }
    if tls.https_port == Some(0) {
        faults.add(key("https_port"), "is 0; write the port that browsers connect to");
    }
    if tls.hsts_max_age > LONGEST_HSTS {
        faults.add(
            key("hsts_max_age"),
            "is longer than two years; write something like \"365d\"",
        );
    }
}

fn check_certificates(tls: &HttpTlsSettings, faults: &mut Faults) {
    if tls.certificates.is_empty() {
        faults.add(
            "http.tls.certificates",
            "is missing; write certificates = [{ cert_file = \"server.pem\", key_file = \"server.key\" }]",
        );
    }
    for (index, pair) in tls.certificates.iter().enumerate() {
        let key = |name: &str| format!("http.tls.certificates[{index}].{name}");
        check_pem(&key("cert_file"), Some(&pair.cert_file), Pem::Certificate, faults);
        check_pem(&key("key_file"), Some(&pair.key_file), Pem::PrivateKey, faults);
        for name in &pair.names {
            let rest = name.strip_prefix("*.").unwrap_or(name);
            let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            if rest.is_empty() || !rest.bytes().all(is_host) || rest.split('.').any(str::is_empty) {
                faults.add(
                    key("names"),
                    format!("{name:?} is not a host name; write \"www.example.org\" or \"*.example.org\""),
                );
            }
        }
    }
}
