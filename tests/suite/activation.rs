//! Sockets that systemd has bound: served when the configuration names them, and only then, however often
//! it changes.

use crate::common::{config, named, numbered};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::http;
use crate::harness::open::Open;
use crate::harness::process::Signal;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::reload::{reload, reloaded, says_goodbye};
use crate::trials;
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

pub fn trials() -> Vec<Trial> {
    trials![
        reloads_add_and_remove_systemd_sockets,
        reloads_stop_and_resume_serving_an_activation_socket,
        a_systemd_unix_socket_is_served_and_not_removed,
    ]
}

const OWN: &str = "listen = [\"127.0.0.1:0\"]";
const BOTH: &str = "listen = [\"127.0.0.1:0\", \"systemd\"]";
const SYSTEMDS: &str = "listen = [\"systemd\"]";

/// A topic, and a configuration that serves it.
fn topic() -> (Arc<Broker>, String, String) {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("activation");
    broker.create_topic(&topic, 1, &[]);
    let text = config(&broker, &[&topic], "");
    (broker, topic, text)
}

/// A socket that systemd has bound, and its address.
fn bound() -> (TcpListener, String) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("its address").to_string();
    (socket, address)
}

async fn is_served(address: &str) {
    let answer = http::get(&format!("http://{address}/health/live"), &[]).await;
    assert_eq!(answer.status, 200);
}

/// A request on a connection that is not accepted yet.
fn ask(address: &str) -> TcpStream {
    let mut waiting = TcpStream::connect(address).expect("systemd listens");
    waiting
        .write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("sent");
    waiting
}

#[track_caller]
fn is_answered(mut waiting: TcpStream) {
    waiting.set_read_timeout(Some(secs(20))).expect("a timeout");
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Fails if a response has arrived.
fn is_waiting(waiting: &TcpStream) {
    waiting.set_nonblocking(true).expect("a socket");
    let error = waiting.peek(&mut [0]).expect_err("nothing has come");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    waiting.set_nonblocking(false).expect("a socket");
}

fn reloads_add_and_remove_systemd_sockets() {
    let (broker, topic, own) = topic();
    let both = own.replace(OWN, BOTH);
    let (socket, address) = bound();
    let held = socket.try_clone().expect("systemd keeps it");
    let daemon = Daemon::with(&own).socket(socket).start();
    block_on(async {
        let mut stays = Stream::open(daemon.url("/events")).await;
        stays.collect_until(named("caught-up"), secs(30)).await;
        let mut before: Option<Stream> = None;
        for round in 0..3 {
            let waiting = ask(&address);
            reloaded(&daemon, &own, "nothing has changed");
            is_waiting(&waiting);

            reloaded(&daemon, &both, "http.listen");
            is_answered(waiting);
            is_served(&address).await;
            let mut stream = Open::new(format!("http://{address}/events"))
                .send()
                .await
                .expect("it opens");
            stream.collect_until(named("caught-up"), secs(30)).await;

            reloaded(&daemon, &own, "http.listen");
            broker.produce(&topic, &numbered(0, round, 1));
            for client in [Some(&mut stays), Some(&mut stream), before.as_mut()]
                .into_iter()
                .flatten()
            {
                let data = client.next(secs(20)).await.data;
                assert_eq!(data, format!("p0-{round}"), "connected clients stay");
            }
            before = Some(stream);
        }
    });
    drop(held);
}

fn reloads_stop_and_resume_serving_an_activation_socket() {
    let (_broker, _topic, own) = topic();
    let systemds = own.replace(OWN, SYSTEMDS);
    let (socket, address) = bound();
    let mut daemon = Daemon::with(&systemds).socket(socket).start();
    block_on(async {
        is_served(&address).await;
        reloaded(&daemon, &own, "http.listen");
        let waiting = ask(&address);
        // Descriptors of its own take the places of any that were closed.
        let own_address = daemon.log().lines().rev().find_map(|line| {
            let (_, address) = line.split_once("listening on http://")?;
            Some(address.to_owned())
        });
        let mut others = Vec::new();
        for _ in 0..5 {
            let url = format!("http://{}/events", own_address.as_ref().expect("an address"));
            let mut stream = Stream::open(url).await;
            stream.collect_until(named("caught-up"), secs(30)).await;
            others.push(stream);
        }
        is_waiting(&waiting);
        reloaded(&daemon, &systemds, "http.listen");
        is_answered(waiting);
        is_served(&address).await;
        let said = reload(&daemon, &systemds);
        assert_eq!(said, "reloaded: nothing has changed");
        daemon.signal(Signal::TERM);
        for stream in &mut others {
            let (events, end) = stream.collect_to_end(secs(20)).await;
            says_goodbye(&events, &end, "shutdown");
        }
    });
    assert_eq!(daemon.wait_exit(secs(20)).code(), Some(0));
}

fn a_systemd_unix_socket_is_served_and_not_removed() {
    let (_broker, _topic, own) = topic();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("systemd.sock");
    let socket = UnixListener::bind(&path).expect("a socket");
    let mut daemon = Daemon::with(&own.replace(OWN, BOTH)).socket(socket).start();
    for text in [own.replace(OWN, BOTH), own.clone(), own.replace(OWN, BOTH)] {
        reload(&daemon, &text);
        assert!(path.exists(), "it is systemd's");
    }
    let mut waiting = UnixStream::connect(&path).expect("it is served");
    waiting
        .write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(secs(20)).code(), Some(0));
    assert!(path.exists(), "it is systemd's");
}
