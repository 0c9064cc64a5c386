//! Who may read what the page shows: every way to say who a client is, over HTTP and HTTPS.

use super::{LOOK, picture, setup, wait_for, wait_for_rows};
use crate::auth::issuer::{Issuer, now};
use crate::auth::refused::jwt;
use crate::auth::{File, make_token};
use crate::common::table;
use crate::harness::broker::{Broker, Version};
use crate::harness::browser::Browser;
use crate::harness::certificates::Certificates;
use crate::harness::daemon::Daemon;
use crate::harness::gateway::{Gateway, Transport};
use crate::harness::on_broker;
use crate::harness::process::Signal;
use crate::harness::wait::block_on;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

pub fn trials() -> Vec<Trial> {
    vec![
        on_broker(Version::V4_4, the_page_forgets_the_rows_of_another_login),
        on_broker(
            Version::V4_4,
            the_page_asks_for_a_token_and_keeps_it_in_memory_only,
        ),
        on_broker(Version::V4_4, the_page_reads_with_the_cookie_of_a_login),
        on_broker(Version::V4_4, the_page_reads_through_a_proxy_that_authenticates),
        on_broker(
            Version::V4_4,
            the_page_needs_no_certificate_where_none_is_required,
        ),
        on_broker(
            Version::V4_4,
            the_page_reads_with_a_certificate_and_says_where_one_is_missing,
        ),
    ]
}

async fn wait_for_title(browser: &Browser, title: &str) -> Value {
    // In place of the stream, or of the list where no stream is for this client.
    let is_refused = |seen: &Value| seen["state"] == "unauthorised" || seen["page"] == "home";
    let is_so = |seen: &Value| seen["title"] == title && is_refused(seen) && seen["rows"] == json!([]);
    wait_for(
        browser,
        &format!("the page says {title:?} and shows no rows"),
        is_so,
    )
    .await
}

async fn enter(browser: &Browser, token: &str) {
    let script = format!(
        "document.querySelector('#token').value = {}; document.querySelector('#token-form').requestSubmit();",
        json!(token)
    );
    browser.run(&script).await;
}

fn the_page_asks_for_a_token_and_keeps_it_in_memory_only(broker: &Broker) {
    let certificates = Certificates::new();
    for (is_tls, parameter) in [(false, ""), (true, "query_parameter = \"access_token\"\n")] {
        let (reader, reader_line) = make_token(&["reader", "--claim", "role=reader"]);
        let (other, other_line) = make_token(&["other"]);
        let tokens = File::new("tokens", format!("{reader_line}\n{other_line}"));
        let (topic, text) = setup(broker, "", "allow = { role = [\"reader\"] }");
        let auth = format!("[auth]\n{parameter}[auth.tokens]\nfile = {:?}\n", tokens.path());
        let tls = if is_tls {
            certificates.section("")
        } else {
            String::new()
        };
        let daemon = Daemon::start(&format!("{text}{auth}{tls}"));
        let origin = if is_tls {
            format!("https://127.0.0.1:{}/", daemon.tls_port())
        } else {
            daemon.url("/")
        };
        block_on(async {
            let browser = Browser::open(&daemon, &origin).await;
            let seen = wait_for_title(&browser, "Please log in").await;
            assert_eq!(
                (&seen["asks"], &seen["login"]),
                (&json!(true), &Value::Null),
                "{seen}"
            );
            assert!(
                seen["why"].as_str().is_some_and(|why| why.contains("by a token")),
                "{seen}"
            );
            assert!(
                seen["curl"]
                    .as_str()
                    .is_some_and(|curl| curl.contains("Bearer $TOKEN")),
                "{seen}"
            );
            browser.screenshot(&picture("page-token.png")).await;
            // No form would send this.
            enter(&browser, "two words").await;
            assert_eq!(browser.run(LOOK).await["title"], "Please log in");
            enter(&browser, "ksb_wrong").await;
            let seen = wait_for_title(&browser, "This token is not accepted").await;
            assert_eq!(seen["asks"], json!(true));
            enter(&browser, &other).await;
            let seen = wait_for_title(&browser, "You may not read this").await;
            assert_eq!(seen["asks"], json!(true));
            enter(&browser, &reader).await;
            wait_for_rows(&browser, &["Europe"]).await;
            broker.produce(&topic, &[table("Asia", &["CN"])]);
            wait_for_rows(&browser, &["Asia", "Europe"]).await;
            let kept =
                "return JSON.stringify([location.href, document.cookie, document.documentElement.outerHTML,
                performance.getEntries().map((entry) => entry.name), Object.entries(sessionStorage),
                Object.entries(localStorage), document.querySelector('#token').value])";
            let kept = browser.run(kept).await;
            assert!(!kept.to_string().contains(&reader), "{kept}");
            // A token that is revoked takes its rows along.
            tokens.write(&other_line);
            daemon.signal(Signal::HUP);
            wait_for_title(&browser, "This token is not accepted").await;
            browser.close().await;
        });
        assert!(!daemon.log().contains(&reader));
    }
}

fn the_page_reads_with_the_cookie_of_a_login(broker: &Broker) {
    let certificates = Certificates::new();
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let (topic, text) = setup(broker, "", "");
    let auth = format!(
        "[auth]\ncookie = \"__Host-session\"\nwarn_before = \"50s\"\n{}\n[ui]\nlogin_url = \"/login?for=page&x=1\"\n",
        jwt(&issuer, &key, "")
    );
    let daemon = Daemon::start(&format!("{text}{auth}{}", certificates.section("")));
    block_on(async {
        let browser = Browser::open(&daemon, &format!("https://127.0.0.1:{}/", daemon.tls_port())).await;
        let seen = wait_for_title(&browser, "Please log in").await;
        assert_eq!(seen["login"], "/login?for=page&x=1");
        let log_in = async |seconds: u64| {
            let token = issuer.token(&json!({ "sub": "anne", "exp": now() + seconds }));
            let cookie =
                format!("document.cookie = '__Host-session={token}; Secure; SameSite=Strict; Path=/';");
            browser
                .run(&format!("{cookie} document.querySelector('#again').click();"))
                .await;
        };
        log_in(3600).await;
        wait_for_rows(&browser, &["Europe"]).await;
        broker.produce(&topic, &[table("Asia", &["CN"])]);
        wait_for_rows(&browser, &["Asia", "Europe"]).await;
        // A login that ends soon is said to, beside the rows.
        log_in(40).await;
        let is_warned = |seen: &Value| {
            seen["title"] == "Your access ends soon"
                && seen["state"] == "live"
                && seen["rows"] == json!(["Asia", "Europe"])
        };
        let seen = wait_for(&browser, "the page warns beside the rows", is_warned).await;
        assert_eq!(seen["asks"], json!(false), "{seen}");
        assert_eq!(seen["login"], "/login?for=page&x=1");
        browser.screenshot(&picture("page-warning.png")).await;
        browser.close().await;
    });
}

/// A proxy that logs clients in at `/login`, and names those that are to the server behind it.
fn login_proxy(target: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = BufReader::new(client.try_clone().ok()?);
                let server = TcpStream::connect(("127.0.0.1", target)).ok()?;
                let (mut from, mut to) = (server.try_clone().ok()?, client.try_clone().ok()?);
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                loop {
                    let head = head_of(&mut reader)?;
                    if head.starts_with("GET /login ") {
                        let answer = "HTTP/1.1 303 See Other\r\nSet-Cookie: logged=in; Path=/\r\nLocation: /\r\n\
                                      Content-Length: 0\r\nConnection: close\r\n\r\n";
                        (&client).write_all(answer.as_bytes()).ok()?;
                        return client.shutdown(std::net::Shutdown::Both).ok();
                    }
                    let user = if head.contains("logged=in") {
                        "X-Forwarded-User: anne\r\n"
                    } else {
                        ""
                    };
                    let head = format!("{}{user}\r\n", head.strip_suffix("\r\n")?);
                    (&server).write_all(head.as_bytes()).ok()?;
                }
            });
        }
    });
    port
}

fn head_of(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = reader.read_line(&mut head).ok()?;
        if read == 0 {
            return None;
        }
    }
    Some(head)
}

fn the_page_reads_through_a_proxy_that_authenticates(broker: &Broker) {
    let (_, text) = setup(broker, "trusted_proxies = [\"127.0.0.1\"]", "");
    let daemon = Daemon::start(&format!(
        "{text}[auth.proxy]\nheaders = {{ sub = \"X-Forwarded-User\" }}\n[ui]\nlogin_url = \"/login\"\n"
    ));
    let proxy = login_proxy(daemon.port());
    block_on(async {
        let browser = Browser::open(&daemon, &format!("http://127.0.0.1:{proxy}/")).await;
        let seen = wait_for_title(&browser, "Please log in").await;
        assert_eq!(seen["asks"], json!(false), "no token would help: {seen}");
        assert!(
            seen["why"]
                .as_str()
                .is_some_and(|why| why.contains("a proxy in front")),
            "{seen}"
        );
        browser.run("document.querySelector('#login').click()").await;
        wait_for_rows(&browser, &["Europe"]).await;
        browser.close().await;
    });
}

fn the_page_needs_no_certificate_where_none_is_required(broker: &Broker) {
    let certificates = Certificates::new();
    let (_, text) = setup(broker, "", "");
    let ca = certificates.path("ca.pem");
    let section = certificates.section(&format!("client_auth = \"request\"\nclient_ca_file = {ca:?}"));
    let daemon = Daemon::start(&format!("{text}{section}"));
    block_on(async {
        let browser = Browser::open(&daemon, &format!("https://127.0.0.1:{}/", daemon.tls_port())).await;
        let seen = wait_for_rows(&browser, &["Europe"]).await;
        assert_eq!(seen["links"], json!([]), "with TLS they are hidden");
        browser.close().await;
    });
}

/// A gateway shows the certificate: in place of the browser, which has no store for one here.
fn the_page_reads_with_a_certificate_and_says_where_one_is_missing(broker: &Broker) {
    let certificates = Certificates::new();
    certificates.write_client("alice", "alice", "spiffe://example/alice");
    let (_, text) = setup(broker, "", "");
    let ca = certificates.path("ca.pem");
    let section = certificates.section(&format!("client_auth = \"request\"\nclient_ca_file = {ca:?}"));
    let daemon = Daemon::start(&format!("{text}[auth.certificate]\n{section}"));
    let [certificate, key] =
        ["pem", "key"].map(|ending| fs::read(certificates.path(&format!("alice.{ending}"))).expect("a file"));
    let gateway = |own| Gateway::start_with(Transport::TlsHttp2, daemon.tls_port(), &certificates.ca(), own);
    let (known, unknown) = (gateway(Some((&*certificate, &*key))), gateway(None));
    block_on(async {
        let browser = Browser::open(&daemon, &unknown.url("/")).await;
        let seen = wait_for_title(&browser, "Please log in").await;
        assert_eq!(seen["asks"], json!(false), "no token would help: {seen}");
        assert!(
            seen["why"]
                .as_str()
                .is_some_and(|why| why.contains("certificate")),
            "{seen}"
        );
        browser.goto(&known.url("/")).await;
        wait_for_rows(&browser, &["Europe"]).await;
        browser.close().await;
    });
}

/// The cookie becomes another client's while the page is open.
fn the_page_forgets_the_rows_of_another_login(broker: &Broker) {
    let [(europe, europe_line), (asia, asia_line)] = ["Europe", "Asia"].map(|name| make_token(&[name]));
    let tokens = File::new("tokens", format!("{europe_line}\n{asia_line}"));
    let (topic, text) = setup(broker, "", "filter = { key = [\"${claims.sub}\"] }");
    broker.produce(&topic, &[table("Asia", &["CN"])]);
    let auth = format!(
        "[auth]\ncookie = \"session\"\n[auth.tokens]\nfile = {:?}\n",
        tokens.path()
    );
    let daemon = Daemon::start(&format!("{text}{auth}"));
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        wait_for_title(&browser, "Please log in").await;
        let log_in = async |token: &str, more: &str| {
            browser
                .run(&format!("document.cookie = 'session={token}; Path=/'; {more}"))
                .await;
        };
        log_in(&europe, "document.querySelector('#again').click();").await;
        let shows = |rows: Value| move |seen: &Value| seen["state"] == "live" && seen["rows"] == rows;
        wait_for(&browser, "the first one's rows", shows(json!(["Europe"]))).await;
        log_in(&asia, "").await;
        // The first one's stream ends, and the page comes back as the second one, without a 401 in between.
        tokens.write(&asia_line);
        daemon.signal(Signal::HUP);
        wait_for(&browser, "the second one's rows alone", shows(json!(["Asia"]))).await;
        browser.close().await;
    });
}
