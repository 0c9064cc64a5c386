//! Bytes over a bare socket, and all that comes back: for requests that no client library would send.

use super::wait::secs;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Everything that the daemon at this port answers until it closes the connection, which the bytes must ask for.
#[track_caller]
pub fn exchange(port: u16, bytes: &[u8]) -> String {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(secs(20))).expect("a timeout");
    answer(stream, bytes).expect("an answer")
}

/// A connection to this port from another address of this machine.
pub fn connect_from(source: &str, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let address = |text: String| SockAddr::from(text.parse::<SocketAddr>().expect("an address"));
    socket
        .bind(&address(format!("{source}:0")))
        .expect("an address of this machine");
    socket
        .connect(&address(format!("127.0.0.1:{port}")))
        .expect("it listens");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(secs(20))).expect("a socket");
    socket
}

/// [`exchange`] over a Unix socket.
pub fn exchange_unix(path: &Path, bytes: &[u8]) -> io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(secs(20)))?;
    answer(stream, bytes)
}

/// GET, on a connection of its own, with more header lines that end with CR LF.
pub fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").into_bytes()
}

fn answer(mut stream: impl Read + Write, bytes: &[u8]) -> io::Result<String> {
    // A daemon that has seen enough closes before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => return Err(error),
        _ => {}
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
