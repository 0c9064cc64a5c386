//! CORS: which pages of other origins may read.

use crate::auth::{File, make_token, text};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::http::{Response, get, request};
use crate::harness::process::Signal;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::limits::config_of;
use crate::trials;
use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

pub fn trials() -> Vec<Trial> {
    trials![
        only_pages_of_named_origins_may_read,
        pages_of_any_origin_may_read_but_never_with_credentials,
        a_wildcard_domain_is_every_host_below_it_and_no_other,
        pages_may_send_the_configured_headers,
        a_browser_lets_only_pages_of_named_origins_read,
        a_browser_keeps_streams_from_pages_of_other_sites,
    ]
}

const CORS: [&str; 5] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
];

fn cors_of(answer: &Response) -> Vec<Option<&str>> {
    CORS.iter().map(|name| answer.header(name)).collect()
}

/// The values of `Vary`, of all lines.
fn varies(answer: &Response) -> Vec<String> {
    let lines = answer.headers.get_all("vary").iter();
    let mut names: Vec<String> = lines
        .flat_map(|line| line.to_str().expect("text").split(", "))
        .map(str::to_lowercase)
        .collect();
    names.sort();
    names
}

async fn preflight(daemon: &Daemon, path: &str, origin: &str) -> Response {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "cache-control,last-event-id"),
    ];
    let answer = request(Method::OPTIONS, &daemon.url(path), &headers).await;
    answer.expect("an answer")
}

fn only_pages_of_named_origins_may_read() {
    let http = |cors: &str| format!("keepalive = \"1s\"\n{cors}");
    let daemon = Daemon::start(&config_of(&http("")));
    block_on(async {
        let shop = [("origin", "https://shop.example.org")];
        // By default no CORS header is sent.
        for path in ["/", "/streams", "/nothing"] {
            let answer = get(&daemon.url(path), &shop).await;
            assert_eq!(cors_of(&answer), [None; 5], "{path}");
            assert!(!varies(&answer).contains(&"origin".to_owned()), "{path}");
        }
        assert_eq!(preflight(&daemon, "/events", shop[0].1).await.status, 405);

        let cors = "[http.cors]\nallow_origins = [\"https://shop.example.org\", \"http://localhost:8080\"]\n\
                    allow_credentials = true";
        daemon.rewrite_config(&config_of(&http(cors)));
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: http.cors", secs(20));
        for (path, varied) in [
            ("/streams", &["origin"][..]),
            ("/", &["accept-encoding", "origin"]),
            ("/about", &["accept", "origin"]),
            ("/nothing", &["origin"]),
            ("/events?strat=live", &["origin"]),
        ] {
            for origin in ["https://shop.example.org", "http://localhost:8080"] {
                let answer = get(&daemon.url(path), &[("origin", origin)]).await;
                assert_eq!(
                    cors_of(&answer),
                    [Some(origin), Some("true"), None, None, None],
                    "{path}"
                );
                assert_eq!(varies(&answer), varied, "{path}");
            }
            for origin in [
                "https://evil.example.org",
                "http://shop.example.org",
                "null",
                "https://shop.example.org.evil.org",
            ] {
                let answer = get(&daemon.url(path), &[("origin", origin)]).await;
                assert_eq!(cors_of(&answer), [None; 5], "{path} {origin}");
                assert_eq!(varies(&answer), varied, "{path} {origin}");
            }
            assert_eq!(
                varies(&daemon.get(path).await),
                varied,
                "{path}: a cache must not mix them"
            );
        }
        let stream = Stream::to(daemon.url("/events"))
            .header("Origin", shop[0].1)
            .send()
            .await;
        let stream = stream.expect("an answer");
        assert_eq!(stream.header("access-control-allow-origin"), Some(shop[0].1));
        assert_eq!(
            stream.header("access-control-expose-headers"),
            Some("etag, retry-after")
        );
        assert_eq!(stream.header("vary"), Some("origin"));

        let allowed = preflight(&daemon, "/events", shop[0].1).await;
        assert_eq!(allowed.status, 204);
        assert_eq!(
            cors_of(&allowed),
            [
                Some(shop[0].1),
                Some("true"),
                Some("GET, HEAD"),
                Some("accept, cache-control, if-none-match, last-event-id"),
                Some("7200")
            ]
        );
        assert_eq!(varies(&allowed), ["origin"]);
        let refused = preflight(&daemon, "/events", "https://evil.example.org").await;
        assert_eq!((refused.status, cors_of(&refused)), (405, vec![None; 5]));
        assert_eq!(varies(&refused), ["origin"]);
    });
}

fn a_wildcard_domain_is_every_host_below_it_and_no_other() {
    let allowed = "[http.cors]\nallow_origins = [\"https://*.example.org\", \"http://*.localhost:8080\"]";
    let daemon = Daemon::start(&config_of(allowed));
    block_on(async {
        for (origin, may) in [
            ("https://a.example.org", true),
            ("https://b.a.example.org", true),
            ("https://xn--nxasmq6b.example.org", true),
            ("http://a.localhost:8080", true),
            ("https://example.org", false),
            ("https://evilexample.org", false),
            ("https://.example.org", false),
            ("https://a..example.org", false),
            ("http://a.example.org", false),
            ("https://a.example.org:8443", false),
            ("https://a.example.org:443", false),
            ("https://a.example.org.evil.org", false),
            ("https://evil.org/.example.org", false),
            ("https://evil.org?.example.org", false),
            ("https://evil.org#.example.org", false),
            ("https://evil.org:80.example.org", false),
            ("https://user@a.example.org", false),
            ("https://A.example.org", false),
            ("https://*.example.org", false),
            ("http://a.localhost", false),
            ("http://a.localhost:80", false),
            ("null", false),
            ("", false),
        ] {
            let answer = get(&daemon.url("/streams"), &[("origin", origin)]).await;
            let allowed = answer.header("access-control-allow-origin");
            assert_eq!(allowed, may.then_some(origin), "{origin}");
            assert_eq!(varies(&answer), ["origin"], "{origin}");
            let asked = preflight(&daemon, "/events", origin).await;
            assert_eq!(asked.status, if may { 204 } else { 405 }, "{origin}");
            assert_eq!(varies(&asked), ["origin"], "{origin}");
        }
    });
}

fn pages_may_send_the_configured_headers() {
    let cors = |headers: &str| {
        config_of(&format!(
            "[http.cors]\nallow_origins = [\"https://shop.example.org\"]\n{headers}"
        ))
    };
    let daemon = Daemon::start(&cors(
        "allow_headers = [\"Authorization\", \"X-Tenant\", \"Accept\"]",
    ));
    block_on(async {
        let allowed = async || {
            let answer = preflight(&daemon, "/events", "https://shop.example.org").await;
            let headers = answer.header("access-control-allow-headers").map(str::to_owned);
            (answer.status, headers.expect("the headers"))
        };
        let usual = "accept, cache-control, if-none-match, last-event-id";
        let more = "accept, authorization, cache-control, if-none-match, last-event-id, x-tenant";
        assert_eq!(allowed().await, (204, more.to_owned()));
        daemon.rewrite_config(&cors(""));
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: http.cors", secs(20));
        assert_eq!(allowed().await, (204, usual.to_owned()));
    });
}

fn pages_of_any_origin_may_read_but_never_with_credentials() {
    let daemon = Daemon::start(&config_of("[http.cors]\nallow_origins = [\"*\"]"));
    block_on(async {
        for origin in ["https://shop.example.org", "null"] {
            let answer = get(&daemon.url("/streams"), &[("origin", origin)]).await;
            assert_eq!(cors_of(&answer), [Some("*"), None, None, None, None]);
            assert!(varies(&answer).is_empty());
            let allowed = preflight(&daemon, "/events", origin).await;
            assert_eq!(
                (allowed.status, cors_of(&allowed)[..2].to_vec()),
                (204, vec![Some("*"), None])
            );
        }
    });
}

/// Serves an empty page at a port until the test process ends.
fn other_site() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut socket = socket;
            // Chromium opens connections in advance, and may send nothing over them.
            thread::spawn(move || {
                let mut head = [0; 8192];
                if socket.read(&mut head).is_ok_and(|count| count > 0) {
                    let _ = socket.write_all(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n\
                          <!doctype html>",
                    );
                }
            });
        }
    });
    port
}

fn a_browser_lets_only_pages_of_named_origins_read() {
    /// The result of an EventSource, and of a request with a preflight.
    const READ: &str = "
        const [url, done] = arguments;
        const source = new EventSource(url, { withCredentials: true });
        source.onopen = () => { source.close(); fetched('open'); };
        source.onerror = () => { source.close(); fetched('error'); };
        function fetched(opened) {
            const headers = {
                'Last-Event-ID': 'x', 'Cache-Control': 'no-cache', 'Accept': 'text/event-stream',
                'Authorization': 'Bearer x',
            };
            fetch(url, { headers, credentials: 'include' })
                .then(response => done([opened, response.status]), () => done([opened, 'refused']));
        }";
    let port = other_site();
    let cors = format!(
        "[http.cors]\nallow_origins = [\"http://127.0.0.1:{port}\", \"http://*.localhost:{port}\"]\n\
                 allow_credentials = true\nallow_headers = \"Authorization\""
    );
    let daemon = Daemon::start(&config_of(&cors));
    block_on(async {
        let browser = Browser::start().await;
        for (host, expected) in [
            ("127.0.0.1", serde_json::json!(["open", 200])),
            // Browsers find this machine below localhost without asking a resolver.
            ("a.b.localhost", serde_json::json!(["open", 200])),
            ("localhost", serde_json::json!(["error", "refused"])),
        ] {
            browser.goto(&format!("http://{host}:{port}/")).await;
            let read = browser
                .client
                .execute_async(READ, vec![daemon.url("/events").into()])
                .await;
            assert_eq!(read.expect("a result"), expected, "{host}");
        }
        browser.close().await;
        eventually_async(secs(20), "the browser has left", async || {
            let limits = daemon.get("/streams").await.json()["http"]["limits"].clone();
            ensure(limits["clients"] == 0, limits.to_string())
        })
        .await;
    });
}

/// Loads without CORS are refused by `Cross-Origin-Resource-Policy`. Where all origins are allowed, a page may load, and reads
/// why it is not shown a stream.
fn a_browser_keeps_streams_from_pages_of_other_sites() {
    /// The result of a script, of a request without CORS, and of one with it.
    const LOAD: &str = "
        const [url, done] = arguments;
        const script = new Promise((resolve) => {
            const element = document.createElement('script');
            element.onload = () => resolve('loaded');
            element.onerror = () => resolve('refused');
            element.src = url + '/streams';
            document.head.append(element);
        });
        const opaque = fetch(url + '/streams', { mode: 'no-cors' })
            .then((response) => response.type, () => 'refused');
        const read = fetch(url + '/events')
            .then(async (response) => [response.status, (await response.json()).error.code], () => 'refused');
        Promise.all([script, opaque, read]).then(done);";
    let file = File::new("tokens", make_token(&["reports"]).1);
    let daemon = |cors: &str| {
        let sections = format!("{cors}\n[auth.tokens]\nfile = {:?}\n", file.path());
        Daemon::start(&text(&sections, ""))
    };
    let closed = daemon("");
    let open = daemon("[http.cors]\nallow_origins = [\"*\"]");
    let site = other_site();
    block_on(async {
        let browser = Browser::start().await;
        browser.goto(&format!("http://localhost:{site}/")).await;
        for (daemon, expected) in [
            (&closed, json!(["refused", "refused", "refused"])),
            (&open, json!(["refused", "opaque", [401, "unauthorized"]])),
        ] {
            let url = format!("http://127.0.0.1:{}", daemon.port());
            let seen = browser.client.execute_async(LOAD, vec![url.into()]).await;
            assert_eq!(seen.expect("a result"), expected);
        }
        browser.close().await;
    });
}
