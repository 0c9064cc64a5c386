use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;

use hyper_util::server::graceful::GracefulShutdown;

use super::super::protocol::PREFACE;
use super::*;

#[tokio::test]
async fn a_connection_that_has_begun_when_its_listener_ends_is_told_so() {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: u8 = 7;
    let (mut client, socket) = StdUnixStream::pair().expect("a pair");
    client.write_all(&[PREFACE, &SETTINGS].concat()).expect("space");
    // The runtime does not know yet that it has bytes.
    socket.set_nonblocking(true).expect("an option");
    let socket = UnixStream::from_std(socket).expect("a socket");
    let connections = Arc::new(Connections::new(Duration::from_secs(30)));
    let connection = connections.accept(Share::unlimited(Peer::Unix), None, false);
    let socket = TimedSocket::new(socket, Arc::clone(&connection), Duration::from_secs(30));
    let (end, ending) = watch::channel(false);
    end.send_replace(true);
    let session = Session {
        handler: Arc::new(|_| Box::pin(async { warp::reply().into_response() })),
        connection,
        limits: http2::Limits {
            max_streams: 1,
            max_head: MAX_HEAD,
            idle_timeout: IDLE_TIMEOUT,
            write_timeout: Duration::from_secs(30),
        },
        watcher: GracefulShutdown::new().watcher(),
        ending,
    };
    session.distinguish(socket, true).await;
    let read = tokio::task::spawn_blocking(move || {
        let mut read = Vec::new();
        client.read_to_end(&mut read).map(|_| read)
    });
    let mut read = &*read.await.expect("a task").expect("it is not reset");
    let mut kinds = Vec::new();
    while let Some((&[high, middle, low, kind, ..], rest)) = read.split_first_chunk::<9>() {
        kinds.push(kind);
        read = &rest[u32::from_be_bytes([0, high, middle, low]) as usize..];
    }
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
}
