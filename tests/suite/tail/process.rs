//! A running `tail`, and a server that answers it by script.

use crate::harness::daemon::{BINARY, run_to_end};
use crate::harness::process::Process;
use crate::harness::wait::{ensure, eventually, secs};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

/// A running `tail`.
pub(super) struct Tail {
    pub(super) process: Process,
    pub(super) out: Lines,
    pub(super) error: Lines,
}

/// The output of a process so far, and the thread that reads it.
pub(super) struct Lines {
    pub(super) text: Arc<Mutex<String>>,
    pub(super) reader: Option<JoinHandle<()>>,
}

impl Lines {
    pub(super) fn read(pipe: impl Read + Send + 'static) -> Lines {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let (mut lines, mut line) = (BufReader::new(pipe), Vec::new());
            while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let mut text = shared.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Lines {
            text,
            reader: Some(reader),
        }
    }

    pub(super) fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[track_caller]
    pub(super) fn wait_for(&self, wanted: &str) {
        eventually(secs(30), &format!("tail says {wanted:?}"), || {
            let text = self.text();
            ensure(text.contains(wanted), text.clone())
        });
    }

    pub(super) fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.text()
    }
}

impl Tail {
    pub(super) fn start(arguments: &[&str]) -> Tail {
        let mut command = Command::new(BINARY);
        command
            .arg("tail")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let process = Process::spawn(&mut command).expect("tail starts");
        let out = process
            .take(|child| child.stdout.take())
            .expect("stdout is piped");
        let error = process
            .take(|child| child.stderr.take())
            .expect("stderr is piped");
        Tail {
            process,
            out: Lines::read(out),
            error: Lines::read(error),
        }
    }

    /// Waits for its end: exit code, stdout, stderr.
    #[track_caller]
    pub(super) fn end(mut self) -> (Option<i32>, String, String) {
        let status = self.process.wait(secs(30));
        let said = || format!("{}\n{}", self.out.text(), self.error.text());
        let status = status.unwrap_or_else(|| panic!("tail has not ended: {}", said()));
        (status.code(), self.out.finish(), self.error.finish())
    }
}

pub(super) fn tail(arguments: &[&str]) -> Output {
    let all: Vec<&str> = ["tail"].iter().chain(arguments).copied().collect();
    run_to_end(&all, &[])
}

pub(super) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// These arguments end it with this code and a message, which has no secret: `hush` stands for one.
#[track_caller]
pub(super) fn assert_refused(arguments: &[&str], code: i32, wanted: &str) {
    let output = tail(arguments);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(wanted), "{arguments:?}: {said}");
    assert!(!said.contains("hush"), "{said}");
}

/// The data of the records among what `tail --json` printed.
pub(super) fn data_of_records(out: &str) -> Vec<String> {
    out.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|event| event["event"] == "message")
        .map(|event| event["data"].as_str().expect("a string").to_owned())
        .collect()
}

/// A server that answers one connection after another by script, and returns the heads of requests.
pub(super) fn scripted(answers: Vec<Vec<u8>>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/x?a=b", listener.local_addr().expect("its address"));
    let (sender, heads) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            let _ = sender.send(head_of(&mut stream));
            let _ = stream.write_all(&answer);
        }
    });
    (url, heads)
}

fn head_of(stream: &mut TcpStream) -> String {
    let mut lines = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if lines.read_line(&mut head).is_ok_and(|read| read > 0) {
            continue;
        }
        break;
    }
    head
}

pub(super) fn stream_of(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n{body}").into_bytes()
}
