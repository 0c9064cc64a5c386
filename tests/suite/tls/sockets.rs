//! Sockets that systemd has bound.

use super::{curl, text};
use crate::harness::certificates::Certificates;
use crate::harness::daemon::Daemon;
use crate::harness::http::get;
use crate::harness::wait::block_on;
use crate::limits::config_of;
use crate::reload::reload;
use crate::trials;
use libtest_mimic::Trial;
use std::net::TcpListener;

pub fn trials() -> Vec<Trial> {
    trials![
        a_systemd_socket_named_https_is_served_with_tls_alone,
        a_systemd_socket_named_redirect_sends_every_request_to_https,
        a_systemd_socket_that_no_listener_takes_is_warned_of,
    ]
}

/// The first lines of [`Certificates::section`], and what a socket unit makes of them.
const BY_ADDRESS: &str = "[http.tls]\nlisten = [\"127.0.0.1:0\"]";
const BY_SYSTEMD: &str = "[http.tls]\nlisten = [\"systemd\"]";

/// A daemon that gets a socket of this name, whose port is the second.
fn start_with(name: &str, text: &str) -> (Daemon, u16) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("its address").port();
    let launch = Daemon::with(text).env("LISTEN_FDNAMES", name).socket(socket);
    (launch.start(), port)
}

fn a_systemd_socket_named_https_is_served_with_tls_alone() {
    let certificates = Certificates::new();
    let config = config_of("") + &certificates.section("").replace(BY_ADDRESS, BY_SYSTEMD);
    let (daemon, port) = start_with("https", &config);
    let url = format!("https://127.0.0.1:{port}/health/live");
    let said = text(&curl(&certificates, &[&url]));
    assert!(said.contains("{\"live\":true}"), "{said}");
    // The listeners without TLS do not take it, by whatever reload.
    let both = config.replacen("[\"127.0.0.1:0\"]", "[\"127.0.0.1:0\", \"systemd\"]", 1);
    let why = reload(&daemon, &both);
    assert!(why.contains("systemd has passed no socket"), "{why}");
}

fn a_systemd_socket_named_redirect_sends_every_request_to_https() {
    let certificates = Certificates::new();
    let section = certificates.section("https_port = 443\nredirect_to_https = [\"systemd\"]");
    let config = config_of("") + &section;
    let (daemon, port) = start_with("redirect", &config);
    let url = format!("http://127.0.0.1:{port}/events");
    let answer = block_on(get(&url, &[("host", "live.example")]));
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), Some("https://live.example/events"));
    // The listeners with TLS do not take it.
    let why = reload(&daemon, &config.replace(BY_ADDRESS, BY_SYSTEMD));
    assert!(
        why.contains("systemd has passed no socket of TCP named https"),
        "{why}"
    );
}

fn a_systemd_socket_that_no_listener_takes_is_warned_of() {
    let systemd_alone = config_of("").replacen("[\"127.0.0.1:0\"]", "[\"127.0.0.1:0\", \"systemd\"]", 1);
    for (name, scheme, key) in [
        ("https", "https", "listen in [http.tls]"),
        ("redirect", "http", "redirect_to_https in [http.tls]"),
        ("admin", "http", "listen in [http.admin]"),
        ("", "http", "listen in [http]"),
    ] {
        let (daemon, port) = start_with(name, &config_of(""));
        let warning = format!(
            "systemd has passed {scheme}://127.0.0.1:{port}, which is not served: its clients wait until \"systemd\" \
             is in {key}\n"
        );
        assert!(daemon.log().contains(&warning), "{}", daemon.log());
    }
    let (daemon, _) = start_with("", &systemd_alone);
    assert!(!daemon.log().contains("is not served"), "{}", daemon.log());
}
