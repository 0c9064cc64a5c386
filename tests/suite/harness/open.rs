//! The request that opens a stream.

use super::connection::Connection;
use super::stream::Stream;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout_at};

/// A request to be sent.
pub struct Open {
    url: String,
    headers: Vec<(String, String)>,
    receive_buffer: Option<u32>,
    source: Option<IpAddr>,
}

impl Open {
    pub fn new(url: String) -> Open {
        Open {
            url,
            headers: Vec::new(),
            receive_buffer: None,
            source: None,
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Open {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// As `EventSource` does when it reconnects; an empty id is not sent.
    pub fn last_event_id(self, id: &str) -> Open {
        if id.is_empty() {
            self
        } else {
            self.header("Last-Event-ID", id)
        }
    }

    /// Caps the kernel's buffer on this side, for a client that must be felt to be slow.
    pub fn receive_buffer(mut self, bytes: u32) -> Open {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Connects from another address of this machine: all of 127.0.0.0/8 are its own.
    pub fn source(mut self, address: &str) -> Open {
        self.source = Some(address.parse().expect("an address"));
        self
    }

    /// Connects and waits for the response head, whatever its status.
    pub async fn send(self) -> io::Result<Stream> {
        let bad = |what: &str| io::Error::other(format!("{what}: {}", self.url));
        let rest = self.url.strip_prefix("http://").ok_or_else(|| bad("not http"))?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let address = authority.parse().map_err(|_| bad("not an address"))?;
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        let mut connection = Connection::new(socket.connect(address).await?);
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n");
        if !self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("accept"))
        {
            head.push_str("Accept: text/event-stream\r\n");
        }
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        connection.write(head.as_bytes()).await?;
        let deadline = Instant::now() + Duration::from_secs(20);
        let head = timeout_at(deadline, connection.until(b"\r\n\r\n"))
            .await
            .map_err(|_| bad("no response head within 20 s"))??;
        Stream::new(self.url, connection, &head)
    }
}
