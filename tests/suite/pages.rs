//! HTTP beside assets and event streams: about, streams, errors, HEAD, addresses and paths.

use crate::harness::broker::free_port;
use crate::harness::daemon::Daemon;
use crate::harness::http::{get, request};
use crate::harness::wait::{block_on, secs};
use crate::trials;
use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

pub fn trials() -> Vec<Trial> {
    trials![
        about_shows_product_urls_and_values_of_harmless_headers_only,
        streams_reports_the_state_of_each_stream,
        unknown_paths_and_methods_get_errors_in_json,
        a_mistyped_parameter_is_an_error,
        head_works_wherever_get_does,
        port_from_the_environment_sets_the_port,
        a_wildcard_host_is_served_over_ipv4_and_ipv6,
        repeated_slashes_count_as_one,
        a_nearly_right_path_gets_a_suggestion,
        no_request_line_crashes_the_daemon,
    ]
}

/// No Kafka is needed for any of this.
pub fn daemon(more: &str) -> Daemon {
    Daemon::start(&config(more))
}

pub fn config(more: &str) -> String {
    format!(
        "[kafka]\nbrokers = [\"127.0.0.1:{}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
         [[stream]]\npath = \"/topn/updates\"\ntopics = [\"t\"]\n{more}",
        free_port()
    )
}

fn about_shows_product_urls_and_values_of_harmless_headers_only() {
    let daemon = daemon("");
    block_on(async {
        let injected = [
            "authorization",
            "cookie",
            "proxy-authorization",
            "x-forwarded-access-token",
            "x-amzn-oidc-data",
            "cf-access-jwt-assertion",
            "x-api-key",
            "x-forwarded-email",
            "referer",
            "x-original-url",
            "x-any-other",
        ];
        for accept in ["application/json", "text/html"] {
            let mut secret: Vec<(&str, &str)> = injected.map(|name| (name, "hush")).to_vec();
            secret.extend([("accept", accept), ("x-forwarded-for", "10.1.2.3")]);
            let about = get(&daemon.url("/about"), &secret).await;
            assert!(!about.text().contains("hush"), "{}", about.text());
            for shown in injected.iter().chain(&["x-forwarded-for", "10.1.2.3"]) {
                assert!(about.text().contains(shown), "{shown}: {}", about.text());
            }
            for (name, value) in [
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
            ] {
                assert_eq!(about.header(name), Some(value), "{accept}: {name}");
            }
            assert!(
                about
                    .header("content-security-policy")
                    .is_some_and(|policy| policy.contains("default-src 'self'")),
                "{accept}"
            );
        }
        let headers = [
            ("accept", "application/json"),
            ("authorization", "Basic hush"),
            ("x-forwarded-for", "10.1.2.3"),
        ];
        let about = get(&daemon.url("/about"), &headers).await.json();
        assert_eq!(about["product"], json!("kafka-sse-bridge"));
        assert_eq!(about["version"], json!(env!("CARGO_PKG_VERSION")));
        assert_eq!(about["headers"]["authorization"], json!("***"));
        assert_eq!(about["headers"]["x-forwarded-for"], json!("10.1.2.3"));
        let urls = about["urls"].as_array().expect("a list");
        assert!(urls.iter().any(|url| url["path"] == json!("/topn/updates")));
        for url in urls {
            let path = url["path"].as_str().expect("a path");
            let status = request(Method::HEAD, &daemon.url(path), &[])
                .await
                .expect("an answer")
                .status;
            assert!(
                status == 200 || (path == "/health/ready" && status == 503),
                "{path}: {status}"
            );
        }
        let browser = [
            ("accept", "text/html,application/xhtml+xml"),
            ("x-forwarded-host", "<img src=x>"),
        ];
        let html = get(&daemon.url("/about"), &browser).await;
        assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(
            html.text().contains("&lt;img src=x&gt;") && !html.text().contains("<img"),
            "{}",
            html.text()
        );
    });
}

fn streams_reports_the_state_of_each_stream() {
    let daemon = daemon("start = \"earliest\"\n");
    block_on(async {
        let streams = daemon.get("/streams").await.json();
        let stream = &streams["streams"][0];
        assert_eq!(stream["path"], json!("/topn/updates"));
        assert_eq!(
            stream["topics"],
            json!([{"topic": "t", "next": null}]),
            "Kafka has not answered yet"
        );
        assert_eq!(
            (&stream["loaded"], &stream["clients"], &stream["start"]),
            (&json!(false), &json!(0), &json!("earliest"))
        );
        assert_eq!(streams["kafka"]["contacted"], json!(false));
    });
}

fn unknown_paths_and_methods_get_errors_in_json() {
    let daemon = daemon("");
    block_on(async {
        for path in [
            "/about/",
            "/health/live/",
            "/nope",
            "/topn",
            "/topn/updates/",
            "/health",
            "/assets/nope.js",
            "/index.html",
            "/%ff",
        ] {
            let answer = daemon.get(path).await;
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (404, Some("application/json")),
                "{path}"
            );
            assert_eq!(answer.json()["error"]["code"], json!("not_found"));
        }
        for path in [
            "/",
            "/about",
            "/topn/updates",
            "/streams",
            "/health/ready",
            "/assets/page/main.js",
        ] {
            for method in [Method::POST, Method::DELETE, Method::OPTIONS] {
                let answer = request(method, &daemon.url(path), &[]).await.expect("an answer");
                assert_eq!(
                    (answer.status, answer.header("allow")),
                    (405, Some("GET, HEAD")),
                    "{path}"
                );
                assert_eq!(answer.json()["error"]["code"], json!("method_not_allowed"));
            }
        }
    });
}

fn a_mistyped_parameter_is_an_error() {
    let daemon = daemon("");
    block_on(async {
        for (query, code, parameter, says) in [
            ("strat=live", "unknown_parameter", "strat", "did you mean"),
            ("start=live&kye=NL", "unknown_parameter", "kye", "did you mean"),
            ("value=NL", "unknown_parameter", "value", "nown are"),
            ("header.=x", "bad_filter", "header.", "lacks a name"),
            ("value.a..b=x", "bad_filter", "value.a..b", "lacks a name"),
            (
                "partition=x",
                "bad_filter",
                "partition",
                "expected a number from 0",
            ),
            ("topic=another", "bad_filter", "topic", "its topics are"),
            ("since=yesterday", "bad_since", "since", "expected"),
            ("since=15m&since=15m", "bad_since", "since", "duplicate"),
            ("start=yesterday", "bad_start", "start", "live"),
            ("start=snapshot", "bad_start", "start", "live"),
            ("start=live&start=live", "bad_start", "start", "duplicate"),
        ] {
            let answer = daemon.get(&format!("/topn/updates?{query}")).await;
            assert_eq!(answer.status, 400, "{query}");
            let error = &answer.json()["error"];
            assert_eq!(
                (&error["code"], &error["parameter"]),
                (&json!(code), &json!(parameter))
            );
            let message = error["message"].as_str().expect("a message");
            assert!(message.contains(says), "{query}: {message}");
        }
    });
}

fn head_works_wherever_get_does() {
    let daemon = daemon("");
    block_on(async {
        for path in ["/", "/about", "/streams", "/health/live", "/topn/updates"] {
            let answer = request(Method::HEAD, &daemon.url(path), &[])
                .await
                .expect("an answer");
            assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
        }
        let stream = request(Method::HEAD, &daemon.url("/topn/updates"), &[])
            .await
            .expect("an answer");
        assert_eq!(
            stream.header("content-type"),
            Some("text/event-stream; charset=utf-8")
        );
    });
}

fn no_request_line_crashes_the_daemon() {
    let daemon = daemon("");
    for line in [
        "CONNECT example.org:443 HTTP/1.1",
        "GET example.org HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET * HTTP/1.1",
        "GET http://example.org/about HTTP/1.1",
        "GET //about HTTP/1.1",
        "GET /about#x HTTP/1.1",
        "GET /about HTTP/1.0",
        "GET / HTTP/9.9",
        "\u{0}\u{1}\u{2}",
        "GET /%00%0d%0a HTTP/1.1",
    ] {
        let mut socket = TcpStream::connect(("127.0.0.1", daemon.port())).expect("it listens");
        socket.set_read_timeout(Some(secs(10))).expect("a timeout");
        socket
            .write_all(format!("{line}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .expect("written");
        let mut answer = Vec::new();
        // It may answer or close the connection; it must keep running.
        let _ = socket.read_to_end(&mut answer);
        assert_eq!(block_on(daemon.get("/health/live")).status, 200, "{line:?}");
    }
}

fn port_from_the_environment_sets_the_port() {
    let port = free_port();
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, config("")).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let output = crate::harness::daemon::run_to_end(
        &["print-config", "--config", path],
        &[("PORT", &port.to_string())],
    );
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        printed.contains(&format!("listen = [\"*:{port}\"]")) && printed.contains("# environment PORT"),
        "{printed}"
    );
}

fn a_wildcard_host_is_served_over_ipv4_and_ipv6() {
    let port = free_port();
    let both = format!("listen = [\"127.0.0.1:0\", \"*:{port}\"]");
    let _daemon = Daemon::start(&config("").replace("listen = [\"127.0.0.1:0\"]", &both));
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let addresses = ["127.0.0.1", "[::1]"];
    let served = if has_ipv6 { &addresses[..] } else { &addresses[..1] };
    block_on(async {
        for address in served {
            let answer = get(&format!("http://{address}:{port}/health/live"), &[]).await;
            assert_eq!(answer.status, 200, "{address}");
        }
    });
}

fn repeated_slashes_count_as_one() {
    let daemon = daemon("");
    let about = |path: &str| raw_status(&daemon, path);
    for path in [
        "//about",
        "///about",
        "/health//live",
        "//health///live",
        "//",
        "//assets//page/main.js",
        "//about?x=//y",
    ] {
        assert_eq!(about(path), 200, "{path}");
    }
    // Escaped slashes are no slashes.
    for path in ["/%2Fabout", "/health%2F/live"] {
        assert_eq!(about(path), 404, "{path}");
    }
    // The query stays as it is.
    assert_eq!(about("//topn//updates?start=a//b"), 400);
    block_on(async {
        let answer = daemon.get("//topn//updates?start=a//b").await;
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains("a//b"), "{message}");
    });
}

/// The status of the response to a request whose path no client normalizes.
fn raw_status(daemon: &Daemon, path: &str) -> u16 {
    let mut socket = TcpStream::connect(("127.0.0.1", daemon.port())).expect("it listens");
    socket.set_read_timeout(Some(secs(10))).expect("a timeout");
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("written");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("{path}: {answer}"))
}

fn a_nearly_right_path_gets_a_suggestion() {
    for (base, misses) in [
        (
            "",
            &[
                ("/topn/updates/", Some("/topn/updates")),
                ("/TopN/Updates", Some("/topn/updates")),
                ("/topn/updates//", Some("/topn/updates")),
                ("/topn%2Fupdates", Some("/topn/updates")),
                ("/topn/update", Some("/topn/updates")),
                ("/About/", Some("/about")),
                ("/health/live/", Some("/health/live")),
                ("/stream", Some("/streams")),
                ("/orders", None),
                ("/assets/page/main.jss", None),
                ("/%3Cscript%3E", None),
            ][..],
        ),
        (
            "/live",
            &[
                ("/live/topn/updates/", Some("/live/topn/updates")),
                ("/topn/updates", Some("/live/topn/updates")),
                ("/Live/about", Some("/live/about")),
                ("/live/orders", None),
                ("/orders", None),
            ],
        ),
    ] {
        let daemon =
            Daemon::start(&config("").replace("[http]\n", &format!("[http]\nbase_path = \"{base}\"\n")));
        block_on(async {
            for (path, meant) in misses {
                let answer = daemon.get(path).await;
                assert_eq!(answer.status, 404, "{path}");
                assert_eq!(answer.header("content-type"), Some("application/json"));
                assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
                let error = answer.json()["error"].clone();
                assert_eq!(error["code"], json!("not_found"));
                let message = error["message"].as_str().expect("text").to_owned();
                match meant {
                    Some(meant) => {
                        assert!(
                            message.contains(&format!("did you mean {meant}?")),
                            "{path}: {message}"
                        );
                        let right = request(Method::HEAD, &daemon.url(meant), &[]).await;
                        assert_eq!(right.expect("an answer").status, 200, "{meant}");
                    }
                    None => assert!(!message.contains("did you mean"), "{path}: {message}"),
                }
            }
        });
    }
}
