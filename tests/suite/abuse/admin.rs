//! Routes for operators: on listeners of their own, and hidden from everybody else. No Kafka is needed.

use crate::configuration::complains;
use crate::doctor::Report;
use crate::harness::broker::free_port;
use crate::harness::certificates::Certificates;
use crate::harness::daemon::Daemon;
use crate::harness::http::{self, Response};
use crate::harness::raw::{exchange, exchange_unix, get};
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually, secs};
use crate::limits::config_of;
use crate::reload::{reload, reloaded};
use crate::trials;
use libtest_mimic::Trial;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;

pub fn trials() -> Vec<Trial> {
    trials![
        operators_routes_are_served_by_their_own_listener_alone,
        hidden_routes_look_like_paths_that_were_never_served,
        with_tls_clients_are_served_health_alone,
        expose_names_what_the_listeners_for_clients_serve_too,
        health_without_details_names_no_stream_topic_or_broker,
        reloads_open_and_close_the_listeners_for_operators,
        an_operators_unix_socket_has_its_own_mode,
        a_systemd_socket_named_admin_is_served_to_operators_alone,
        doctor_knows_a_daemon_that_hides_its_name,
        errors_of_operators_listeners_name_line_key_and_remedy,
    ]
}

/// The routes for operators, with the words of `expose`. `/streams` is served to all, where it is not exposed in its reduced
/// form.
const ROUTES: [(&str, &str); 7] = [
    ("/about", "about"),
    ("/streams", "streams"),
    ("/metrics", "metrics"),
    ("/health/live", "health"),
    ("/health/ready", "health"),
    ("/openapi.json", "descriptions"),
    ("/asyncapi.json", "descriptions"),
];

const ADMIN: &str = "admin.listen = [\"127.0.0.1:0\"]";

/// The port at which operators are served.
fn admin_port(daemon: &Daemon) -> u16 {
    eventually(secs(20), "a listener for operators", || {
        let log = daemon.log();
        let line = log.lines().rev().find(|line| line.ends_with(" for operators"));
        let port = line.and_then(|line| line.rsplit_once(':')?.1.split(' ').next()?.parse().ok());
        port.ok_or(log)
    })
}

/// Whether an answer is what a listener gives that does not expose the route.
fn is_hidden(path: &str, answer: &Response) -> bool {
    match path {
        "/streams" => answer.status == 200 && answer.json().get("http").is_none(),
        _ => answer.status == 404,
    }
}

async fn asked(port: u16, path: &str) -> Response {
    http::get(&format!("http://127.0.0.1:{port}{path}"), &[]).await
}

fn operators_routes_are_served_by_their_own_listener_alone() {
    let daemon = Daemon::start(&config_of(&format!(
        "base_path = \"/live\"\n{ADMIN}\ncors.allow_origins = [\"*\"]"
    )));
    let port = admin_port(&daemon);
    block_on(async {
        for (path, _) in ROUTES {
            let answer = asked(port, path).await;
            assert!([200, 503].contains(&answer.status), "{path}: {}", answer.status);
            let headers = [("origin", "https://shop.example.org")];
            let url = format!("http://127.0.0.1:{port}{path}");
            let crossed = http::get(&url, &headers).await;
            assert_eq!(crossed.header("access-control-allow-origin"), None, "{path}");
        }
        let ready = asked(port, "/health/ready").await.json();
        assert!(ready["degraded"].is_array(), "{ready}");
        for path in [
            "/",
            "/events",
            "/live/events",
            "/assets/page/main.js",
            "/live/metrics",
            "/live",
        ] {
            assert_eq!(asked(port, path).await.status, 404, "{path}");
        }
        let about = http::get(
            &format!("http://127.0.0.1:{port}/about"),
            &[("accept", "application/json")],
        )
        .await
        .json();
        let listed: Vec<&str> = about["urls"]
            .as_array()
            .expect("an array")
            .iter()
            .filter_map(|url| url["path"].as_str())
            .collect();
        assert_eq!(listed[..3], ["/live/events", "/live/", "/about"]);
        let page = asked(port, "/about").await.text();
        assert!(page.contains("href=\"./metrics\""), "{page}");
        assert!(
            !page.contains("href=\"./events\"") && page.contains("/live/events"),
            "{page}"
        );
        let hint = asked(port, "/metric").await.json();
        let hint = hint["error"]["message"].as_str().expect("a message").to_owned();
        assert!(
            hint.contains("did you mean /metrics? /about lists what is"),
            "{hint}"
        );

        assert_eq!(daemon.get("/live/health/live").await.status, 200);
        for (path, word) in ROUTES {
            let answer = daemon.get(&format!("/live{path}")).await;
            assert_eq!(is_hidden(path, &answer), word != "health", "{path}");
        }
    });
}

fn hidden_routes_look_like_paths_that_were_never_served() {
    let daemon = Daemon::start(&config_of(ADMIN));
    let port = daemon.port();
    // The whole answer, without its date and with the path taken out.
    let seen = |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = exchange(port, request.as_bytes());
        let lines: Vec<String> = answer
            .lines()
            .filter(|line| !line.starts_with("date: ") && !line.starts_with("content-length: "))
            .map(|line| line.replace(path, "PATH"))
            .collect();
        lines.join("\n")
    };
    for method in ["GET", "HEAD", "POST", "OPTIONS", "DELETE"] {
        let never = seen(method, "/never-served");
        for (path, word) in ROUTES.into_iter().filter(|(path, _)| *path != "/streams") {
            let is_hidden = word != "health";
            assert_eq!(seen(method, path) == never, is_hidden, "{method} {path}");
        }
    }
    for near in [
        "/metric",
        "/Metrics",
        "/metrics/",
        "/abuot",
        "/%6detrics",
        "/openapi.jsn",
    ] {
        let answer = exchange(port, &get(near, "Host: x\r\n"));
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        let message =
            format!("{{\"error\":{{\"code\":\"not_found\",\"message\":\"nothing is served at {near}\"}}}}");
        assert_eq!(body, message);
    }
    // Streams, their list and health are named as ever.
    let answer = exchange(port, &get("/stream", "Host: x\r\n"));
    assert!(answer.contains("did you mean /streams?\""), "{answer}");
    let answer = exchange(port, &get("/Events", "Host: x\r\n"));
    assert!(answer.contains("did you mean /events?\""), "{answer}");
    let answer = exchange(port, &get("/health/live/", "Host: x\r\n"));
    assert!(answer.contains("did you mean /health/live?\""), "{answer}");
}

fn with_tls_clients_are_served_health_alone() {
    let certificates = Certificates::new();
    let daemon = Daemon::start(&(config_of("") + &certificates.section("")));
    block_on(async {
        for (path, word) in ROUTES {
            let answer = daemon.get(path).await;
            assert_eq!(
                is_hidden(path, &answer),
                word != "health",
                "{path}: {}",
                answer.status
            );
        }
        assert_eq!(daemon.get("/").await.status, 200, "the page is no such route");
    });
}

fn expose_names_what_the_listeners_for_clients_serve_too() {
    let daemon = Daemon::start(&config_of(""));
    block_on(async {
        let serves = async |words: &[&str]| {
            for (path, word) in ROUTES {
                let answer = daemon.get(path).await;
                let status = answer.status;
                assert_eq!(
                    is_hidden(path, &answer),
                    !words.contains(&word),
                    "{words:?} {path}: {status}"
                );
            }
        };
        serves(&["about", "streams", "metrics", "health", "descriptions"]).await;
        for words in [
            &["metrics"][..],
            &["health", "descriptions"],
            &["about"],
            &["streams"],
            &[],
        ] {
            reloaded(&daemon, &config_of(&format!("expose = {words:?}")), "http.expose");
            serves(words).await;
            assert_eq!(daemon.get("/").await.status, 200, "the page is no such route");
        }
        // Without a listener for operators the key can hide everything; what is exposed is in the description.
        reloaded(
            &daemon,
            &config_of("expose = \"descriptions, metrics\""),
            "http.expose",
        );
        let paths = daemon.get("/openapi.json").await.json()["paths"].clone();
        let paths: Vec<&String> = paths.as_object().expect("paths").keys().collect();
        assert_eq!(
            paths,
            [
                "/asyncapi.json",
                "/events",
                "/metrics",
                "/openapi.json",
                "/streams"
            ]
        );
    });
}

fn health_without_details_names_no_stream_topic_or_broker() {
    let daemon = Daemon::start(&config_of(ADMIN));
    let port = admin_port(&daemon);
    let closed = config_of("expose = [\"health\", \"streams\"]");
    block_on(async {
        let public = daemon.get("/health/ready").await;
        assert_eq!(public.text(), "{\"draining\":false,\"ready\":false}");
        let detailed = asked(port, "/health/ready").await;
        assert_eq!(public.status, detailed.status);
        assert_eq!(detailed.json()["loading"][0], "/events");
        // Whoever may read /streams may read the same here.
        reload(&daemon, &closed);
        assert_eq!(daemon.get("/health/ready").await.json()["loading"][0], "/events");
    });
}

fn reloads_open_and_close_the_listeners_for_operators() {
    let plain = config_of("keepalive = \"1s\"");
    let port = free_port();
    let with_admin = config_of(&format!(
        "keepalive = \"1s\"\nadmin.listen = [\"127.0.0.1:{port}\"]"
    ));
    let daemon = Daemon::start(&plain);
    block_on(async {
        let mut open = Stream::open(daemon.url("/events")).await;
        for _ in 0..2 {
            assert_eq!(daemon.get("/metrics").await.status, 200);
            reloaded(&daemon, &with_admin, "http.admin.listen");
            assert_eq!(asked(port, "/metrics").await.status, 200);
            assert_eq!(daemon.get("/metrics").await.status, 404);
            reloaded(&daemon, &plain, "http.admin.listen");
            assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "it is closed");
        }
        let kept = open.next_comment(secs(20)).await;
        assert!(kept.is_ok(), "connected clients stay: {kept:?}");
    });
    // An address that is taken changes nothing.
    let taken = TcpListener::bind(("127.0.0.1", port)).expect("a port");
    let why = reload(&daemon, &with_admin);
    assert!(
        why.contains("reload failed") && why.contains("another program"),
        "{why}"
    );
    drop(taken);
}

fn an_operators_unix_socket_has_its_own_mode() {
    let directory = tempfile::tempdir().expect("a directory");
    let [public, admin] = ["public", "admin"].map(|name| directory.path().join(name));
    let text = |mode: &str| {
        let http = format!(
            "unix_socket_mode = \"0666\"\nadmin.listen = [\"unix:{}\"]\nadmin.unix_socket_mode = \"{mode}\"",
            admin.display()
        );
        let listen = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", public.display());
        config_of(&http).replacen("listen = [\"127.0.0.1:0\"]", &listen, 1)
    };
    let daemon = Daemon::start(&text("0600"));
    let modes = || [&public, &admin].map(|path| path.metadata().expect("a socket").mode() & 0o777);
    eventually(secs(20), "both listen", || {
        ensure(admin.exists() && public.exists(), "not yet")
    });
    assert_eq!(modes(), [0o666, 0o600]);
    reloaded(&daemon, &text("0660"), "http.admin.unix_socket_mode");
    assert_eq!(modes(), [0o666, 0o660]);
    for (path, status) in [(&admin, "200"), (&public, "404")] {
        let answer = exchange_unix(path, &get("/metrics", "Host: x\r\n")).expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

fn a_systemd_socket_named_admin_is_served_to_operators_alone() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("its address").port();
    let text = config_of("admin.listen = [\"systemd\"]");
    let daemon = Daemon::with(&text)
        .env("LISTEN_FDNAMES", "admin")
        .socket(socket)
        .start();
    block_on(async {
        assert_eq!(asked(port, "/metrics").await.status, 200);
        assert_eq!(asked(port, "/events").await.status, 404);
    });
    // The listeners for clients do not take it, by whatever reload.
    let both = config_of("").replacen(
        "listen = [\"127.0.0.1:0\"]",
        "listen = [\"127.0.0.1:0\", \"systemd\"]",
        1,
    );
    let why = reload(&daemon, &both);
    assert!(why.contains("systemd has passed no socket"), "{why}");
}

fn doctor_knows_a_daemon_that_hides_its_name() {
    let text = config_of(ADMIN);
    let daemon = Daemon::start(&text);
    let (public, admin) = (daemon.port(), admin_port(&daemon));
    let report = Report::of(
        &text
            .replacen("127.0.0.1:0", &format!("127.0.0.1:{public}"), 1)
            .replacen("127.0.0.1:0", &format!("127.0.0.1:{admin}"), 1),
    );
    let version = env!("CARGO_PKG_VERSION");
    report.assert_says(
        &format!("ok    admin listen 127.0.0.1:{admin}: held by a running kafka-sse-bridge {version}\n"),
        &[],
    );
    report.assert_says(
        &format!(
            "ok    listen 127.0.0.1:{public}: held by a program that answers like a running kafka-sse-bridge;"
        ),
        &[],
    );
}

fn errors_of_operators_listeners_name_line_key_and_remedy() {
    complains(
        "[http]\nadmin.listen = [\"9464\"]\n",
        "FILE:2: http.admin.listen: ",
        &["9464", "unix:/run/x.sock"],
    );
    complains(
        "[http]\nlisten = [\"127.0.0.1:3000\"]\nadmin.listen = [\"127.0.0.1:3000\"]\n",
        "FILE:3: http.admin.listen: ",
        &["cannot be bound beside \"127.0.0.1:3000\" of listen in [http]; choose another"],
    );
    complains(
        "[http]\nadmin.unix_socket_group = \"\"\n",
        "FILE:2: http.admin.unix_socket_group: ",
        &["is empty"],
    );
    complains(
        "[http]\nexpose = [\"metric\"]\n",
        "FILE:2: http.expose: ",
        &["did you mean \"metrics\"?"],
    );
}
