//! Requests that no browser sends. Each is answered without harm: nothing of it becomes a header, a log line or the
//! name of a file. No Kafka is needed.

use crate::harness::daemon::Daemon;
use crate::harness::http;
use crate::harness::raw::{exchange, get};
use crate::harness::wait::block_on;
use crate::limits::config_of;
use crate::trials;
use libtest_mimic::Trial;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    trials![
        no_request_splits_a_response_or_sets_a_header,
        nothing_that_a_client_sends_forges_a_log_line,
        no_path_leaves_the_directory_of_assets,
        a_long_path_or_query_gets_status_414,
        requests_with_bodies_upgrades_and_odd_targets_are_answered_and_the_next_one_too,
        every_named_test_of_the_table_of_attacks_exists,
    ]
}

/// The names of the header fields that the daemon ever sends.
const FIELDS: [&str; 21] = [
    "access-control-allow-origin",
    "access-control-expose-headers",
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-resource-policy",
    "date",
    "etag",
    "last-modified",
    "location",
    "retry-after",
    "timing-allow-origin",
    "transfer-encoding",
    "vary",
    "www-authenticate",
    "x-accel-buffering",
    "x-content-type-options",
];

/// Bytes that split a response if they are part of a head unescaped.
const SPLITTERS: [&str; 6] = [
    "%0d%0aSet-Cookie:%20a=b",
    "%0aSet-Cookie:%20a=b",
    "%0d%0a%0d%0aHTTP/1.1%20200%20OK%0d%0a%0d%0a",
    "%E5%98%8A%E5%98%8DSet-Cookie:%20a=b",
    "\u{560a}\u{560d}Set-Cookie:a=b",
    "%00%1b[2J",
];

fn no_request_splits_a_response_or_sets_a_header() {
    let daemon = Daemon::start(&config_of(
        "base_path = \"/live\"\ncors.allow_origins = [\"https://shop.example.org\", \"https://*.b.example\"]",
    ));
    let port = daemon.port();
    let mut requests: Vec<Vec<u8>> = Vec::new();
    for splitter in SPLITTERS {
        for path in [
            format!("/{splitter}"),
            format!("/live?{splitter}"),
            format!("/live/{splitter}"),
            format!("/live/assets/{splitter}"),
            format!("/live/events?{splitter}"),
            format!("/live/events?start={splitter}"),
            format!("//{splitter}"),
        ] {
            requests.push(get(&path, "Host: x\r\n"));
        }
        let raw = splitter
            .replace("%0d", "\r")
            .replace("%0a", "\n")
            .replace("%20", " ");
        for field in ["Origin", "Last-Event-ID", "Accept", "If-None-Match", "Host"] {
            requests.push(get(
                "/live/events?x=1",
                &format!("{field}: https://{splitter}.b.example\r\n"),
            ));
            // A bare CR or LF is not part of a value (RFC 9112, section 2.2): it ends the field. One that ends the head
            // begins a request of the client's own.
            if raw.contains("\r\n\r\n") {
                continue;
            }
            requests.push(get(
                "/live/events?x=1",
                &format!("{field}: https://{raw}.b.example\r\n"),
            ));
        }
    }
    for request in requests {
        let answer = exchange(port, &request);
        let shown = String::from_utf8_lossy(&request).into_owned();
        let head = answer.split("\r\n\r\n").next().unwrap_or_default();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        assert!(status.starts_with("HTTP/1.1 "), "{shown:?}: {answer:?}");
        assert!(
            head.bytes()
                .all(|byte| byte.is_ascii_graphic() || b" \r\n".contains(&byte)),
            "{answer:?}"
        );
        for line in lines {
            let name = line.split(':').next().unwrap_or_default();
            assert!(FIELDS.contains(&name), "{shown:?} got {line:?}");
        }
        assert_eq!(
            answer.matches("\r\nHTTP/1.1 ").count(),
            0,
            "{shown:?}: {answer:?}"
        );
    }
}

fn nothing_that_a_client_sends_forges_a_log_line() {
    let daemon = Daemon::start(&format!("{}[log]\nlevel = \"debug\"\n", config_of("")));
    let port = daemon.port();
    let forged = "2026-01-01T00:00:00.000Z ERROR kafka_sse_bridge: forged";
    for splitter in ["%0a", "%0d%0a", "%1b[31m", "\u{85}", "\u{2028}", "\u{9b}31m"] {
        for request in [
            get(
                &format!("/events?x={splitter}{}", forged.replace(' ', "%20")),
                "Host: x\r\n",
            ),
            get(
                &format!("/{splitter}{}", forged.replace(' ', "%20")),
                "Host: x\r\n",
            ),
            get(
                "/events?x=1",
                &format!("Host: x\r\nLast-Event-ID: {splitter}{forged}\r\n"),
            ),
            get(
                "/events?x=1",
                &format!("Host: x\r\nX-Forwarded-For: {splitter}{forged}\r\n"),
            ),
            get("/events?x=1", &format!("Host: {splitter}{forged}:{port}\r\n")),
            get(
                "/events?x=1",
                &format!("Host: x\r\nUser-Agent: \x1b]0;{forged}\x07\r\n"),
            ),
            format!("\x1b[2J{splitter}{forged}\r\n\r\n").into_bytes(),
        ] {
            exchange(port, &request);
        }
    }
    // The last line is logged, so all lines before are there.
    exchange(
        port,
        &get("/health/live", &format!("Host: last.example:{port}\r\n")),
    );
    daemon.wait_log("last.example", crate::harness::wait::secs(20));
    let log = daemon.log();
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with(forged)), "{log}");
    // Every line begins with the daemon's own time.
    let year = log.get(..4).unwrap_or_default().to_owned();
    assert!(log.lines().all(|line| line.starts_with(&year)), "{log}");
}

fn no_path_leaves_the_directory_of_assets() {
    let directory = tempfile::tempdir().expect("a directory");
    let assets = directory.path().join("assets");
    fs::create_dir_all(assets.join("deep")).expect("directories");
    fs::write(directory.path().join("secret.txt"), "SECRET").expect("written");
    fs::write(assets.join("index.html"), "page").expect("written");
    fs::write(assets.join("deep/file.txt"), "inside").expect("written");
    let daemon = Daemon::with(&config_of("")).arg("--assets").arg(&assets).start();
    let port = daemon.port();
    let absolute = directory.path().join("secret.txt").display().to_string();
    for path in [
        "/../secret.txt",
        "/assets/../secret.txt",
        "/assets/../../secret.txt",
        "/assets/%2e%2e/secret.txt",
        "/assets/%2E%2E%2Fsecret.txt",
        "/assets/..%2fsecret.txt",
        "/assets/..%5csecret.txt",
        "/assets/..\\secret.txt",
        "/assets/%252e%252e/secret.txt",
        "/assets/deep/../../secret.txt",
        "/assets/./../secret.txt",
        "/assets/.../secret.txt",
        "/assets/....//secret.txt",
        "/assets/%c0%ae%c0%ae/secret.txt",
        "/assets/deep/file.txt%00",
        "/assets/%00/../secret.txt",
        "/assets/index.html%00.txt",
        "/assets/file:%2f%2f%2fetc%2fpasswd",
        "/assets/%2fetc%2fpasswd",
        "/assets//etc/passwd",
        "/assets/",
        "/assets/deep",
        "/assets/deep/",
        &format!("/assets/{absolute}"),
        &format!("/assets/{}", absolute.replace('/', "%2f")),
    ] {
        let answer = exchange(port, &get(path, "Host: x\r\n"));
        assert!(
            answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 400 "),
            "{path}: {answer}"
        );
        assert!(
            !answer.contains("SECRET") && !answer.contains("root:"),
            "{path}: {answer}"
        );
    }
    let inside = exchange(port, &get("/assets/deep/file.txt", "Host: x\r\n"));
    assert!(inside.ends_with("inside"), "{inside}");
    // A link is of whoever may write the directory: Kubernetes mounts files as links, and releases are changed by them.
    // Only files are opened.
    fs::write(directory.path().join("outside.txt"), "linked to").expect("written");
    for (name, target, content) in [
        ("link.txt", "deep/file.txt", "inside"),
        ("out.txt", "../outside.txt", "linked to"),
    ] {
        symlink(target, assets.join(name)).expect("a link");
        let linked = exchange(port, &get(&format!("/assets/{name}"), "Host: x\r\n"));
        assert!(
            linked.starts_with("HTTP/1.1 200 ") && linked.ends_with(content),
            "{linked}"
        );
    }
    for (name, target) in [
        ("loop", "loop"),
        ("gone", "nowhere"),
        ("device", "/dev/zero"),
        ("up", ".."),
    ] {
        symlink(target, assets.join(name)).expect("a link");
        let answer = exchange(port, &get(&format!("/assets/{name}"), "Host: x\r\n"));
        assert!(answer.starts_with("HTTP/1.1 404 "), "{name}: {answer}");
    }
}

fn a_long_path_or_query_gets_status_414() {
    let daemon = Daemon::start(&config_of(""));
    let port = daemon.port();
    for (length, status) in [(16_384, 404), (16_385, 414), (30_000, 414)] {
        let path = format!("/{}", "x".repeat(length - 1));
        let answer = exchange(port, &get(&path, "Host: x\r\n"));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{length}: {}",
            answer.lines().next().unwrap_or_default()
        );
    }
    let query = format!("/events?x={}", "x".repeat(20_000));
    let answer = exchange(port, &get(&query, "Host: x\r\n"));
    assert!(answer.contains("\"code\":\"uri_too_long\""), "{answer}");
    // Beyond 32 KiB it is a head that is too large.
    let answer = exchange(port, &get(&format!("/{}", "x".repeat(60_000)), "Host: x\r\n"));
    assert!(
        answer.starts_with("HTTP/1.1 431 ") || answer.starts_with("HTTP/1.1 414 "),
        "{answer}"
    );
}

fn requests_with_bodies_upgrades_and_odd_targets_are_answered_and_the_next_one_too() {
    let daemon = Daemon::start(&config_of(""));
    let port = daemon.port();
    let zeros = "0".repeat(1000);
    for (request, status) in [
        // No body is read, however it is compressed.
        (format!("POST /events HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 100000\r\n\r\n{zeros}"), "405"),
        ("POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_owned(), "405"),
        ("GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n".to_owned(), "200"),
        ("GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n".to_owned(), "200"),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "404"),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nConnection: close\r\n\r\n".to_owned(), "404"),
        ("TRACE / HTTP/1.1\r\nHost: x\r\nCookie: secret\r\nConnection: close\r\n\r\n".to_owned(), "405"),
        ("GET / HTTP/9.9\r\nHost: x\r\n\r\n".to_owned(), "400"),
        ("GET /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), "400"),
        ("GET /health/live HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n".to_owned(), "200"),
    ] {
        let request = if request.contains("lose\r\n") {
            request
        } else {
            request.replacen("Host: x\r\n", "Host: x\r\nConnection: close\r\n", 1)
        };
        let answer = exchange(port, request.as_bytes());
        let shown: String = request.chars().take(120).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer:?}");
        assert!(!answer.contains("secret"), "{answer}");
        assert_eq!(block_on(http::get(&daemon.url("/health/live"), &[])).status, 200, "{shown:?}");
    }
}

/// docs/security.md names the tests that try each attack.
fn every_named_test_of_the_table_of_attacks_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/security.md")).expect("docs/security.md");
    let table = text.split("## Attacks").nth(1).expect("the table");
    let rows: Vec<&str> = table
        .lines()
        .skip_while(|line| !line.starts_with("| --- "))
        .skip(1)
        .take_while(|line| line.starts_with("| "))
        .collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    let mut sources = String::new();
    for directory in ["src", "tests"] {
        read_all(&root.join(directory), &mut sources);
    }
    for row in rows {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [attack, _, tests] = cells.as_slice() else {
            panic!("not three cells: {row}")
        };
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{attack} names no test");
        for name in names {
            assert!(
                sources.contains(&format!("fn {name}(")),
                "{attack}: no test {name}"
            );
        }
    }
}

fn read_all(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension() == Some("rs".as_ref()) {
            into.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}
