//! When `tail` ends, its exit code and its message.

use super::process::{Tail, assert_refused, said, scripted, stream_of, tail};
use crate::common::config;
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::daemon::{BINARY, Daemon};
use crate::harness::process::Process;
use crate::harness::wait::secs;
use crate::trials;
use libtest_mimic::Trial;
use std::process::{Command, Stdio};

pub fn trials() -> Vec<Trial> {
    trials![
        tail_prints_the_error_message_and_exits_with_1,
        tail_refuses_invalid_arguments_with_a_remedy,
        tail_ends_when_its_output_is_closed,
    ]
}

fn tail_prints_the_error_message_and_exits_with_1() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("tail-errors");
    broker.create_topic(&topic, 1, &[]);
    let daemon = Daemon::start(&config(&broker, &[&topic], ""));
    for (path, wanted) in [
        (
            "/events?strat=live",
            "400 Bad Request: unknown_parameter: \"strat\" is not a parameter of a stream; did you mean \"start\"? Known are",
        ),
        ("/event", "404 Not Found: not_found: "),
        ("/health/live", "200, but not text/event-stream"),
    ] {
        let output = tail(&[&daemon.url(path)]);
        assert_eq!(output.status.code(), Some(1), "{path}");
        assert!(said(&output).contains(wanted), "{path}: {}", said(&output));
        assert!(output.stdout.is_empty());
    }
    // Proxies may answer with errors of their own, also when a stream is opened again.
    let page = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<h1>Bad Gateway</h1>";
    let (url, _heads) = scripted(vec![stream_of("retry: 1\ndata: a\n\n"), page.to_vec()]);
    let (code, out, error) = Tail::start(&[&url]).end();
    assert_eq!(code, Some(1));
    assert!(out.contains(" a\n"), "{out}");
    assert!(
        error.contains("502 Bad Gateway: <h1>Bad Gateway</h1>; an EventSource gives up here"),
        "{error}"
    );
    assert!(
        error.contains("1 events (message 1)"),
        "the summary comes all the same: {error}"
    );

    let moved = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
    let (url, _heads) = scripted(vec![moved.to_vec()]);
    let output = tail(&[&url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("redirect to /elsewhere"),
        "{}",
        said(&output)
    );
}

fn tail_refuses_invalid_arguments_with_a_remedy() {
    let nobody = format!("http://127.0.0.1:{}/x", free_port());
    for (arguments, code, wanted) in [
        (vec![nobody.as_str()], 1, "Connection refused"),
        (vec!["ftp://example.invalid/x"], 1, "is not a URL of HTTP"),
        (
            vec!["localhost:3000/events"],
            1,
            "write it like http://127.0.0.1:3000/events",
        ),
        (
            vec!["http://me:hush@localhost/x"],
            1,
            "--header 'Authorization: ...'",
        ),
        (
            vec!["http://localhost/x", "--header", "novalue"],
            2,
            "a header like 'Name: value' is needed",
        ),
        (vec!["http://localhost/x", "--count", "0"], 2, "--count"),
        (
            vec!["http://localhost/x", "--id", "AWDB0KA…rhAwUFBQ"],
            2,
            "this id is not whole",
        ),
        (vec![], 2, "<URL>"),
    ] {
        assert_refused(&arguments, code, wanted);
    }
}

fn tail_ends_when_its_output_is_closed() {
    let body = "data: x\n\n".repeat(100_000);
    let (url, _heads) = scripted(vec![stream_of(&body); 2]);
    let mut command = Command::new(BINARY);
    command
        .args(["tail", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let process = Process::spawn(&mut command).expect("tail starts");
    drop(process.take(|child| child.stdout.take()));
    let status = process.wait(secs(30)).expect("it ends");
    assert_eq!(status.code(), Some(0));
}
