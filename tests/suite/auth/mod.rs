//! Authentication and authorisation: tokens, the rights that they give, and what is hidden without them.

mod certificates;
mod claims;
mod doctor;
mod files;
pub mod issuer;
mod jwks;
mod lasting;
mod others;
pub mod refused;
mod secrecy;
mod settings;
mod vectors;

use crate::common::json;
use crate::harness::daemon::{Daemon, run_to_end};
use crate::harness::stream::Stream;
use crate::harness::wait::secs;
use crate::limits::config_of;
use kafka_sse_bridge::config::units::Instant;
use libtest_mimic::Trial;
use serde_json::Value;
use std::fs;
use std::str::FromStr;
use std::time::SystemTime;
use tempfile::TempDir;

pub fn trials() -> Vec<Trial> {
    [
        vectors::trials(),
        refused::trials(),
        jwks::trials(),
        claims::trials(),
        doctor::trials(),
        secrecy::trials(),
        lasting::trials(),
        others::trials(),
        certificates::trials(),
        settings::trials(),
        files::trials(),
        crate::listed_streams::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A file that a configuration names.
pub struct File {
    directory: TempDir,
    name: &'static str,
}

impl File {
    pub fn new(name: &'static str, content: impl AsRef<[u8]>) -> File {
        let directory = tempfile::tempdir().expect("a directory");
        let file = File { directory, name };
        file.write(content);
        file
    }

    pub fn write(&self, content: impl AsRef<[u8]>) {
        fs::write(self.path(), content).expect("written");
    }

    pub fn path(&self) -> String {
        self.directory.path().join(self.name).display().to_string()
    }
}

/// A token and its line, as the command prints them.
pub fn make_token(arguments: &[&str]) -> (String, String) {
    let output = run_to_end(&[&["token"], arguments].concat(), &[]);
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{said}");
    let mut lines = said.lines().map(str::to_owned);
    let both = (lines.next().expect("a token"), lines.next().expect("a line"));
    assert_eq!(lines.next(), None);
    both
}

/// A daemon without Kafka, which serves `/events` of topic `t` with these lines of `[http]` and other sections before
/// it, and these lines of the stream behind.
pub fn daemon(sections: &str, stream: &str) -> Daemon {
    Daemon::start(&text(sections, stream))
}

pub fn text(sections: &str, stream: &str) -> String {
    // With [auth] clients would be served /health alone of these.
    let exposed = "expose = [\"health\", \"about\", \"metrics\", \"streams\", \"descriptions\"]";
    let http = config_of(&format!("{exposed}\n{sections}"));
    format!("{http}{stream}\n[log]\nlevel = \"trace\"\n")
}

/// Lines of a stream that sends an event every second.
pub const HEARTBEATS: &str = "heartbeat = \"event\"\nheartbeat_interval = \"1s\"\n";

/// Waits for an event that was sent after the call, of a stream with [`HEARTBEATS`]: the stream is still open.
pub async fn is_open(stream: &mut Stream) {
    let now = Instant::millis(SystemTime::now()).to_string();
    loop {
        let event = stream.next(secs(20)).await;
        assert_ne!(event.name, "goodbye", "{}", event.data);
        if event.name == "heartbeat" && json(&event)["time"].as_str() > Some(&now) {
            return;
        }
    }
}

/// The answer to a request for a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The code of the error, if it is one.
    pub code: Option<String>,
    pub challenge: Option<String>,
}

impl Answer {
    pub fn outcome(&self) -> (u16, &str) {
        (self.status, self.code.as_deref().unwrap_or_default())
    }
}

/// Asks for a stream, with these headers; the stream is closed at once.
pub async fn ask(daemon: &Daemon, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask_at(daemon.url(path), headers).await
}

/// The same, at any URL.
pub async fn ask_at(url: String, headers: &[(&str, &str)]) -> Answer {
    let mut request = Stream::to(url);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let mut stream = request.send().await.expect("an answer");
    let mut code = None;
    if stream.status != 200 {
        let body = stream.body(secs(10)).await.expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        code = body["error"]["code"].as_str().map(str::to_owned);
    }
    Answer {
        status: stream.status,
        code,
        challenge: stream.header("www-authenticate").map(str::to_owned),
    }
}

/// Asks with a token.
pub async fn ask_with(daemon: &Daemon, token: &str) -> Answer {
    ask(
        daemon,
        "/events",
        &[("authorization", &format!("Bearer {token}"))],
    )
    .await
}

/// The value of a metric.
pub async fn metric<T: FromStr>(daemon: &Daemon, name: &str) -> T {
    let text = daemon.get("/metrics").await.text();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not in {text}"))
}
