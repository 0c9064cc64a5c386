//! Clients in a process of their own: one process has too few descriptors for two audiences of ten thousand.

use crate::audience::{Audience, Receipts, Receive};
use crate::bare::Bare;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// A process with connected clients.
pub struct Receivers {
    bare: Bare,
    /// Takes the rounds.
    control: TcpStream,
}

impl Receivers {
    /// Opens `count` streams that show everything, and waits until each is at the head.
    pub fn connect(port: u16, path: &str, count: usize) -> Receivers {
        Receivers::connect_to_streams(port, &[path.to_owned()], count)
    }

    /// The same with streams that go round `paths`, as the records do.
    pub fn connect_to_streams(port: u16, paths: &[String], count: usize) -> Receivers {
        let (port, count) = (port.to_string(), count.to_string());
        let mut arguments: Vec<&str> = vec!["receivers", &port, &count];
        arguments.extend(paths.iter().map(String::as_str));
        let mut bare = Bare::spawn(&arguments);
        let port = bare.port();
        Receivers {
            bare,
            control: TcpStream::connect(("127.0.0.1", port)).expect("the receivers are connected"),
        }
    }
}

impl Receive for Receivers {
    fn receive(&mut self, first: u64, count: usize) -> Receipts {
        writeln!(self.control, "{first} {count}").expect("the receivers still run");
        let numbers = self.bare.numbers();
        let [deliveries, p50, p99, bytes, ref spans @ ..] = numbers[..] else {
            panic!("the receivers failed");
        };
        Receipts {
            deliveries,
            p50,
            p99,
            spans: spans.chunks_exact(2).map(|span| (span[0], span[1])).collect(),
            bytes,
        }
    }
}

/// The process: prints the port that takes rounds once all clients are connected, and the figures of every round.
pub fn main(port: u16, paths: &[&str], count: usize) {
    let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
    let mut audience = Audience::connect_to_streams(port, &paths, count);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    let (control, _) = listener.accept().expect("a connection");
    for line in BufReader::new(control).lines() {
        let line = line.expect("a round");
        let (first, count) = line.split_once(' ').expect("a round has two numbers");
        let receipts = audience.receive(
            first.parse().expect("the first number"),
            count.parse().expect("a count"),
        );
        let Receipts {
            deliveries,
            p50,
            p99,
            spans,
            bytes,
        } = receipts;
        let spans: Vec<String> = spans
            .iter()
            .map(|(first, last)| format!("{first} {last}"))
            .collect();
        println!("{deliveries} {p50} {p99} {bytes} {}", spans.join(" "));
    }
}
