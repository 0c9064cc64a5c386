//! What the kernel holds for clients that do not read is shown, by `/metrics` and `doctor`, and stays small, whoever writes
//! to them.

use crate::common::{config, is_record, named, records};
use crate::doctor::Report;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::metrics::figures;
use crate::reload::with_http;
use crate::trials;
use libtest_mimic::Trial;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    trials![the_send_queue_of_a_client_that_does_not_read_is_shown_and_small]
}

const PATIENCE: Duration = secs(30);

/// More than windows and buffers hold: 2 MB.
const COUNT: usize = 20;
const BYTES: usize = 100_000;

/// What shows that it does not read, and the most that may wait for it.
const LEAST: f64 = 16.0 * 1024.0;
const MOST: f64 = 64.0 * 1024.0;

fn connect(port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Set before connecting, or the kernel offers a larger window.
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    socket.connect(&SockAddr::from(address)).expect("it listens");
    socket.into()
}

async fn held(daemon: &Daemon) -> f64 {
    let figures = figures(daemon).await;
    figures.get("kafka_sse_bridge_connection_send_queue_bytes", &[])
}

fn the_send_queue_of_a_client_that_does_not_read_is_shown_and_small() {
    let broker = Broker::shared(Version::V4_4);
    for driver in ["auto", "epoll", "hyper"] {
        let topic = topic_name("queued");
        broker.create_topic(&topic, 1, &[]);
        let text = config(&broker, &[&topic], "start = \"live\"");
        // It is not to be closed while it is looked at.
        let http = format!("delivery = \"{driver}\"\nwrite_timeout = \"10m\"");
        let text = with_http(&text, &http);
        let daemon = Daemon::start(&text);
        block_on(async {
            daemon.wait_ready(PATIENCE).await;
            let mut quick = Stream::open(daemon.url("/events")).await;
            let mut slow = connect(daemon.port());
            slow.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .expect("a request fits");
            let mut head = [0; 15];
            slow.read_exact(&mut head).expect("a response");
            assert_eq!(&head, b"HTTP/1.1 200 OK");
            quick.collect_until(named("caught-up"), PATIENCE).await;
            for _ in 0..COUNT {
                broker.produce(&topic, &[Message::value("x".repeat(BYTES))]);
                let events = quick.collect_until(is_record, PATIENCE).await;
                assert_eq!(records(&events).len(), 1);
            }
            let shown = eventually_async(PATIENCE, "it is shown", async || {
                let shown = held(&daemon).await;
                ensure(shown >= LEAST, shown.to_string()).map(|()| shown)
            })
            .await;
            assert!(shown <= MOST, "{driver}: {shown}");
            let listen = format!("127.0.0.1:{}", daemon.port());
            let report = Report::with(&text, &["--listen", &listen]);
            report.assert_says(
                "ok    send queues: ",
                &[" KiB in the kernel that their clients have not acknowledged"],
            );
            assert!(
                !report.text.contains(": 0 connections have 0 KiB"),
                "{}",
                report.text
            );
            drop(slow);
            eventually_async(
                PATIENCE,
                "nothing is held for a client that is gone",
                async || {
                    let shown = held(&daemon).await;
                    ensure(shown < LEAST, shown.to_string())
                },
            )
            .await;
        });
    }
}
