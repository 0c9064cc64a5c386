//! HTTP/1.1 on a bare socket, as much as a stream's client needs: it can be as slow as a test wants.

use std::io;
use std::mem;
use tokio::net::TcpStream;

/// The part of a body that is read next, so that a cancelled read continues where it was.
pub enum Body {
    ChunkSize,
    /// Bytes left of the chunk.
    Chunk(usize),
    ChunkEnd,
    Trailer,
    /// Bytes left of the body.
    Length(usize),
    UntilClose,
    Ended,
}

impl Body {
    /// Some of the body, or `None` at its proper end. May be dropped and called again: no byte is lost.
    pub async fn read(&mut self, connection: &mut Connection) -> io::Result<Option<Vec<u8>>> {
        loop {
            *self = match self {
                Body::Ended => return Ok(None),
                Body::UntilClose => {
                    let bytes = connection.some(usize::MAX).await?;
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                    Body::Ended
                }
                Body::Length(0) => Body::Ended,
                Body::Chunk(0) => Body::ChunkEnd,
                Body::Length(left) | Body::Chunk(left) => {
                    let bytes = connection.some(*left).await?;
                    *left -= bytes.len();
                    if bytes.is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    return Ok(Some(bytes));
                }
                Body::ChunkSize => {
                    let line = connection.until(b"\r\n").await?;
                    let size = line.split(';').next().unwrap_or_default();
                    match usize::from_str_radix(size, 16) {
                        Ok(0) => Body::Trailer,
                        Ok(size) => Body::Chunk(size),
                        Err(_) => return Err(io::Error::other(format!("not a chunk's size: {line:?}"))),
                    }
                }
                Body::ChunkEnd => {
                    connection.until(b"\r\n").await?;
                    Body::ChunkSize
                }
                // No trailer fields are expected: a blank line ends the body.
                Body::Trailer => {
                    connection.until(b"\r\n").await?;
                    Body::Ended
                }
            };
        }
    }
}

pub struct Connection {
    socket: TcpStream,
    /// Read from the socket, and not yet asked for.
    unread: Vec<u8>,
}

impl Connection {
    pub fn new(socket: TcpStream) -> Connection {
        Connection {
            socket,
            unread: Vec::new(),
        }
    }

    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.socket.writable().await?;
            match self.socket.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The bytes before `end`, which is consumed and not returned.
    pub async fn until(&mut self, end: &[u8]) -> io::Result<String> {
        loop {
            let found = self.unread.windows(end.len()).position(|window| window == end);
            if let Some(at) = found {
                let taken: Vec<u8> = self.unread.drain(..at + end.len()).take(at).collect();
                return Ok(String::from_utf8_lossy(&taken).into_owned());
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// At least one byte and at most `limit`; none at the end of the connection.
    async fn some(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        if self.unread.is_empty() {
            self.fill().await?;
        }
        let rest = self.unread.split_off(self.unread.len().min(limit));
        Ok(mem::replace(&mut self.unread, rest))
    }

    /// Reads once; false at the end of the connection.
    async fn fill(&mut self) -> io::Result<bool> {
        // On the heap: a future that carries it is moved about.
        let mut buffer = vec![0; 16 * 1024];
        loop {
            self.socket.readable().await?;
            match self.socket.try_read(&mut buffer) {
                Ok(read) => {
                    self.unread.extend_from_slice(&buffer[..read]);
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
