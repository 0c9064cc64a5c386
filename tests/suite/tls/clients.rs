//! Real clients: curl, OpenSSL and a browser.

use super::{curl, figures, start, text};
use crate::harness::browser::Browser;
use crate::harness::certificates::{Certificates, DAY, EXPOSED};
use crate::harness::daemon::{Daemon, finish};
use crate::harness::http::get;
use crate::harness::raw::connect_from;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::limits::config_of;
use crate::trials;
use libtest_mimic::Trial;
use std::fs;
use std::io::{Read, Write};
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    trials![
        curl_speaks_both_versions_of_tls_and_of_http,
        clients_are_shown_the_certificate_of_the_name_they_ask_for,
        sessions_are_resumed_with_both_versions_of_tls,
        client_certificates_are_asked_for_or_required,
        responses_over_tls_have_hsts_and_others_have_not,
        a_redirect_listener_sends_every_request_to_https,
        a_redirect_listener_sends_nobody_to_unknown_hosts,
        a_browser_keeps_ten_event_streams_open_over_one_connection,
    ]
}

fn curl_speaks_both_versions_of_tls_and_of_http() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "", "");
    let url = format!("https://127.0.0.1:{}/health/live", daemon.tls_port());
    for (http, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in ["1.2", "1.3"] {
            let (least, most) = (format!("--tlsv{tls}"), tls);
            let output = curl(
                &certificates,
                &[http, &least, "--tls-max", most, "-w", " %{http_version}", &url],
            );
            let said = text(&output);
            assert!(said.contains("{\"live\":true}"), "{http} {tls}: {said}");
            assert!(said.ends_with(&format!(" {version}")), "{http} {tls}: {said}");
        }
    }
    // Older ones are refused.
    let output = curl(
        &certificates,
        &["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", &url],
    );
    assert!(!output.status.success(), "{}", text(&output));

    // With the newer version alone.
    let daemon = start(&certificates, "", "min_version = \"1.3\"");
    let url = format!("https://127.0.0.1:{}/health/live", daemon.tls_port());
    assert!(curl(&certificates, &["--tlsv1.3", &url]).status.success());
    assert!(!curl(&certificates, &["--tls-max", "1.2", &url]).status.success());
}

/// The output of `openssl s_client`, which sends a request and reads its response.
fn s_client(certificates: &Certificates, daemon: &Daemon, arguments: &str) -> String {
    let request = certificates.path("request");
    fs::write(
        &request,
        "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .expect("written");
    let line = format!(
        "exec timeout 20 openssl s_client -connect 127.0.0.1:{} -CAfile {} {arguments} -ign_eof < {request} 2>&1",
        daemon.tls_port(),
        certificates.path("ca.pem")
    );
    text(&finish(Command::new("sh").args(["-c", &line])))
}

fn clients_are_shown_the_certificate_of_the_name_they_ask_for() {
    let certificates = Certificates::new();
    certificates.write("a", &["a.example"], 90 * DAY);
    certificates.write("b", &["*.b.example", "b.example"], 90 * DAY);
    certificates.write("other", &["unnamed.example"], 90 * DAY);
    let section = format!(
        "\n[http.tls]\nlisten = [\"127.0.0.1:0\"]\ncertificates = [{}, {}, {}, {}]\n",
        certificates.pair("server", ""),
        certificates.pair("a", ""),
        certificates.pair("b", ""),
        certificates.pair("other", ", names = [\"c.example\"]"),
    );
    let daemon = Daemon::start(&(config_of(EXPOSED) + &section));
    for (asked, shown) in [
        ("a.example", "a.example"),
        ("A.Example", "a.example"),
        ("b.example", "*.b.example"),
        ("x.b.example", "*.b.example"),
        // A wildcard is one label.
        ("y.x.b.example", "localhost"),
        ("c.example", "unnamed.example"),
        ("unnamed.example", "localhost"),
        ("nowhere.example", "localhost"),
    ] {
        let said = s_client(&certificates, &daemon, &format!("-servername {asked}"));
        assert!(
            said.contains(&format!("subject=CN = {shown}\n")),
            "{asked}: {said}"
        );
        assert!(said.contains("HTTP/1.1 200 OK"), "{asked}: {said}");
    }
    let said = s_client(&certificates, &daemon, "-noservername");
    assert!(said.contains("subject=CN = localhost\n"), "{said}");
}

fn sessions_are_resumed_with_both_versions_of_tls() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "", "");
    for (version, expected) in [("tls1_2", "Reused, TLSv1.2"), ("tls1_3", "Reused, TLSv1.3")] {
        let session = certificates.path("session");
        let said = s_client(&certificates, &daemon, &format!("-{version} -sess_out {session}"));
        assert!(said.contains("New, TLSv1"), "{said}");
        let said = s_client(&certificates, &daemon, &format!("-{version} -sess_in {session}"));
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("HTTP/1.1 200 OK"), "{said}");
    }
    block_on(async {
        let figures = figures(&daemon).await;
        assert_eq!(figures["tls"]["resumed"], 2, "{figures}");
        assert_eq!(figures["tls"]["handshakes"]["ok"], 4, "{figures}");
    });
}

fn client_certificates_are_asked_for_or_required() {
    let certificates = Certificates::new();
    certificates.write_client("alice", "alice", "spiffe://example/alice");
    let others = Certificates::new();
    others.write_client("mallory", "mallory", "spiffe://example/alice");
    let ca = format!("client_ca_file = {:?}\n", certificates.path("ca.pem"));
    for (auth, without) in [("require", false), ("request", true)] {
        let daemon = start(&certificates, "", &format!("{ca}client_auth = {auth:?}"));
        let url = format!("https://127.0.0.1:{}/health/live", daemon.tls_port());
        for http in ["--http1.1", "--http2"] {
            for tls in ["1.2", "1.3"] {
                let with = |files: &Certificates, name: &str| {
                    let (cert, key) = (
                        files.path(&format!("{name}.pem")),
                        files.path(&format!("{name}.key")),
                    );
                    let arguments = [http, "--tls-max", tls, "--cert", &cert, "--key", &key, &url];
                    curl(&certificates, &arguments).status.success()
                };
                assert!(with(&certificates, "alice"), "{auth} {http} {tls}");
                assert!(!with(&others, "mallory"), "{auth} {http} {tls}");
                let output = curl(&certificates, &[http, "--tls-max", tls, &url]);
                assert_eq!(
                    output.status.success(),
                    without,
                    "{auth} {http} {tls}: {}",
                    text(&output)
                );
            }
        }
    }
}

fn responses_over_tls_have_hsts_and_others_have_not() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "", "hsts_max_age = \"365d\"");
    let url = format!("https://127.0.0.1:{}/health/live", daemon.tls_port());
    for http in ["--http1.1", "--http2"] {
        let said = text(&curl(&certificates, &["--head", http, &url]));
        assert!(
            said.to_lowercase()
                .contains("strict-transport-security: max-age=31536000\r\n"),
            "{said}"
        );
    }
    let plain = block_on(daemon.get("/health/live"));
    assert_eq!(plain.header("strict-transport-security"), None);
    // By default no browser is bound to HTTPS.
    let daemon = start(&certificates, "", "");
    let url = format!("https://127.0.0.1:{}/health/live", daemon.tls_port());
    let said = text(&curl(&certificates, &["--head", &url]));
    assert!(!said.to_lowercase().contains("strict-transport"), "{said}");
}

fn a_redirect_listener_sends_every_request_to_https() {
    let certificates = Certificates::new();
    let port = crate::harness::broker::free_port();
    let daemon = start(
        &certificates,
        "",
        &format!("redirect_to_https = [\"127.0.0.1:{port}\"]\nhttps_port = 443"),
    );
    block_on(async {
        let answer = get(
            &format!("http://127.0.0.1:{port}/events?a=b"),
            &[("host", "live.example:80")],
        )
        .await;
        assert_eq!(answer.status, 308);
        assert_eq!(answer.header("location"), Some("https://live.example/events?a=b"));
        // The other listener answers as before.
        assert_eq!(daemon.get("/health/live").await.status, 200);
    });
}

/// A listener that sent clients to any name that a request has would be an open redirect.
fn a_redirect_listener_sends_nobody_to_unknown_hosts() {
    let certificates = Certificates::new();
    let port = crate::harness::broker::free_port();
    let daemon = start(
        &certificates,
        "hosts = [\"live.example\"]\ntrusted_proxies = [\"127.0.0.2\"]",
        &format!("redirect_to_https = [\"127.0.0.1:{port}\"]\nhttps_port = 443"),
    );
    let ask = |source: &str, target: &str, fields: &str| {
        let head = format!("GET {target} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
        exchange_from(source, port, head.as_bytes())
    };
    for (source, target, fields, status, location) in [
        (
            "127.0.0.1",
            "/x",
            "Host: live.example:80\r\n",
            308,
            "https://live.example/x",
        ),
        ("127.0.0.1", "/x", "Host: evil.example\r\n", 421, ""),
        (
            "127.0.0.1",
            "/x",
            "Host: evil.example:8080\r\nX-Forwarded-Host: live.example\r\n",
            421,
            "",
        ),
        (
            "127.0.0.1",
            "/x",
            "Host: 127.0.0.1\r\n",
            308,
            "https://127.0.0.1/x",
        ),
        ("127.0.0.1", "/x", "Host: a@b\r\n", 400, ""),
        (
            "127.0.0.1",
            "/x",
            "Host: live.example\r\nHost: evil.example\r\n",
            400,
            "",
        ),
        ("127.0.0.1", "/x", "", 400, ""),
        // The target counts, not the field.
        (
            "127.0.0.1",
            "http://evil.example/x",
            "Host: live.example\r\n",
            421,
            "",
        ),
        (
            "127.0.0.1",
            "http://live.example/x",
            "Host: evil.example\r\n",
            308,
            "https://live.example/x",
        ),
        // The name that was checked is the one in the redirect.
        (
            "127.0.0.2",
            "/x",
            "Host: evil.example\r\nX-Forwarded-Host: live.example\r\n",
            308,
            "https://live.example/x",
        ),
        (
            "127.0.0.2",
            "/x",
            "Host: live.example\r\nX-Forwarded-Host: evil.example\r\n",
            421,
            "",
        ),
    ] {
        let answer = ask(source, target, fields);
        let shown = format!("{source} {target} {fields:?}: {answer}");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}");
        let found = answer.lines().find_map(|line| line.strip_prefix("location: "));
        assert_eq!(found.unwrap_or_default(), location, "{shown}");
    }
    assert_eq!(block_on(figures(&daemon))["unknown_hosts"], 4);
}

/// Sends bytes from that address, and reads until the connection ends.
fn exchange_from(source: &str, port: u16, request: &[u8]) -> String {
    let mut socket = connect_from(source, port);
    socket.write_all(request).expect("it fits");
    let mut answer = String::new();
    socket
        .read_to_string(&mut answer)
        .expect("an answer, then its end");
    answer
}

fn a_browser_keeps_ten_event_streams_open_over_one_connection() {
    let certificates = Certificates::new();
    let daemon = start(&certificates, "", "");
    // More than a browser opens connections of HTTP/1.1 to one host.
    let origin = format!("https://127.0.0.1:{}", daemon.tls_port());
    block_on(async {
        let browser = Browser::start().await;
        browser.goto(&format!("{origin}/about")).await;
        browser
            .run(
                "window.streams = [];
                 for (let i = 0; i < 10; i++) window.streams.push(new EventSource('events?start=live&_=' + i));",
            )
            .await;
        eventually_async(secs(30), "all are open", async || {
            let open = browser
                .run("return window.streams.filter(stream => stream.readyState === 1).length")
                .await;
            ensure(open == 10, open.to_string())
        })
        .await;
        let protocol = browser
            .run("return performance.getEntriesByType('navigation')[0].nextHopProtocol")
            .await;
        assert_eq!(protocol, "h2");
        let streams = daemon.get("/streams").await.json();
        assert_eq!(streams["streams"][0]["clients"], 10, "{streams}");
        browser
            .run("window.streams.forEach(stream => stream.close())")
            .await;
        eventually_async(secs(30), "all are closed", async || {
            let streams = daemon.get("/streams").await.json();
            ensure(streams["streams"][0]["clients"] == 0, streams.to_string())
        })
        .await;
        browser.close().await;
    });
}
