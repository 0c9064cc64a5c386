//! Hundreds of event-stream clients in one thread over epoll, for tests that count every record.
//!
//! Leaner than [`Stream`](super::stream::Stream): no future, no copy per event, and no more of the
//! standard than the daemon uses (one `data` line per event). A client keeps the id of its
//! last whole event between two connections, as an `EventSource` does.

use memchr::{memchr, memmem};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Read from a socket at once, at most.
const BUFFER: usize = 256 * 1024;

/// The ends of a line and of the head in HTTP.
const CRLF: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// An event, borrowed from the read buffer.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// Empty for a record without a configured name.
    pub name: &'a [u8],
    pub data: &'a [u8],
    /// When the bytes had been read.
    pub at: Instant,
}

/// The state of a client.
#[derive(Debug)]
pub enum Happening<'a> {
    Event(Heard<'a>),
    /// The connection is gone, and how it went.
    Ended(String),
}

/// Where a client is in the response.
#[derive(Clone, Copy, Debug)]
enum Place {
    Head,
    ChunkSize,
    /// Bytes left of the chunk.
    Chunk(usize),
    ChunkEnd,
}

struct Member {
    socket: Option<TcpStream>,
    place: Place,
    /// Of the response, read and not understood yet: part of the head, or of a chunk's frame.
    frame: Vec<u8>,
    /// Of the stream, read and not understood yet: part of an event.
    text: Vec<u8>,
    last_event_id: Vec<u8>,
}

/// Clients, each known by its number from 0.
pub struct Crowd {
    epoll: OwnedFd,
    members: Vec<Member>,
    buffer: Vec<u8>,
}

impl Crowd {
    /// `count` clients, none of them connected.
    pub fn new(count: usize) -> Crowd {
        let member = || Member {
            socket: None,
            place: Place::Head,
            frame: Vec::new(),
            text: Vec::new(),
            last_event_id: Vec::new(),
        };
        Crowd {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll"),
            members: (0..count).map(|_| member()).collect(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Connects a client and asks for `path` with its last id, if it has one. The answer's head is
    /// looked at as it comes. A small `receive_buffer` makes a client that does not read felt soon.
    pub fn connect(
        &mut self,
        client: usize,
        port: u16,
        path: &str,
        receive_buffer: Option<usize>,
    ) -> io::Result<()> {
        let member = &mut self.members[client];
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
        let mut socket = TcpStream::from(socket);
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: crowd\r\nAccept: text/event-stream\r\n");
        if !member.last_event_id.is_empty() {
            let id = String::from_utf8_lossy(&member.last_event_id);
            request.extend(["Last-Event-ID: ", &id, "\r\n"]);
        }
        request.push_str("\r\n");
        socket.write_all(request.as_bytes())?;
        socket.set_nonblocking(true)?;
        let token = epoll::EventData::new_u64(client as u64);
        epoll::add(&self.epoll, &socket, token, epoll::EventFlags::IN)?;
        member.forget();
        member.socket = Some(socket);
        Ok(())
    }

    /// Closes a client's connection; an incomplete event is lost, as in a browser.
    pub fn cut(&mut self, client: usize) {
        self.members[client].forget();
    }

    /// Has a connected client read nothing from now on, or read again. Its connection may end meanwhile.
    pub fn mute(&mut self, client: usize, is_muted: bool) {
        if let Some(socket) = &self.members[client].socket {
            let flags = if is_muted {
                epoll::EventFlags::empty()
            } else {
                epoll::EventFlags::IN
            };
            let token = epoll::EventData::new_u64(client as u64);
            epoll::modify(&self.epoll, socket, token, flags).expect("it is waited for");
        }
    }

    pub fn is_connected(&self, client: usize) -> bool {
        self.members[client].socket.is_some()
    }

    /// The id with which the client would resume.
    pub fn last_event_id(&self, client: usize) -> &[u8] {
        &self.members[client].last_event_id
    }

    /// Waits for input, reads once from every client that has some, and passes on the events. Returns how many clients
    /// had input.
    pub fn poll(&mut self, within: Duration, mut each: impl FnMut(usize, Happening<'_>)) -> usize {
        // Not kept: it holds a pointer, and a crowd may move to another thread.
        let mut ready = Vec::with_capacity(128);
        let timeout = Timespec::try_from(within).expect("a short time");
        let count = match epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&timeout)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => panic!("epoll: {error}"),
        };
        for event in &ready {
            let client = usize::try_from(event.data.u64()).expect("a client's number");
            let member = &mut self.members[client];
            let Some(socket) = &mut member.socket else {
                continue;
            };
            let end = match socket.read(&mut self.buffer) {
                Ok(0) => Some("the server closed the connection".to_owned()),
                Ok(read) => {
                    let at = Instant::now();
                    let outcome = member.take(&self.buffer[..read], |name, data| {
                        each(client, Happening::Event(Heard { name, data, at }));
                    });
                    outcome.err()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = end {
                member.forget();
                each(client, Happening::Ended(why));
            }
        }
        count
    }
}

impl Member {
    /// Back to a client that has an id and no connection.
    fn forget(&mut self) {
        self.socket = None;
        self.place = Place::Head;
        self.frame.clear();
        self.text.clear();
    }

    /// Removes HTTP's chunk framing from the bytes that were read, and parses their events.
    fn take(&mut self, mut read: &[u8], each: impl FnMut(&[u8], &[u8])) -> Result<(), String> {
        while !read.is_empty() {
            match self.place {
                Place::Head => {
                    let Some(head) = self.until(HEAD_END, &mut read) else {
                        break;
                    };
                    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                    if !head.starts_with("http/1.1 200 ") || !head.contains("transfer-encoding: chunked") {
                        return Err(format!("not an open stream: {head}"));
                    }
                    self.place = Place::ChunkSize;
                }
                Place::ChunkSize => {
                    let Some(line) = self.until(CRLF, &mut read) else {
                        break;
                    };
                    let size = std::str::from_utf8(&line).ok();
                    match size.and_then(|size| usize::from_str_radix(size, 16).ok()) {
                        Some(0) => return Err("the stream ended".to_owned()),
                        Some(size) => self.place = Place::Chunk(size),
                        None => return Err(format!("not a chunk's size: {line:?}")),
                    }
                }
                Place::Chunk(left) => {
                    let (taken, rest) = read.split_at(left.min(read.len()));
                    self.text.extend_from_slice(taken);
                    read = rest;
                    self.place = match left - taken.len() {
                        0 => Place::ChunkEnd,
                        left => Place::Chunk(left),
                    };
                }
                Place::ChunkEnd => {
                    if self.until(CRLF, &mut read).is_none() {
                        break;
                    }
                    self.place = Place::ChunkSize;
                }
            }
        }
        self.understand(each)
    }

    /// The bytes before `end`, once it has arrived.
    fn until(&mut self, end: &[u8], read: &mut &[u8]) -> Option<Vec<u8>> {
        let before = self.frame.len();
        self.frame.extend_from_slice(read);
        let Some(found) = memmem::find(&self.frame, end) else {
            *read = &[];
            return None;
        };
        *read = &read[found + end.len() - before..];
        self.frame.truncate(found);
        Some(std::mem::take(&mut self.frame))
    }

    fn understand(&mut self, mut each: impl FnMut(&[u8], &[u8])) -> Result<(), String> {
        let mut text = std::mem::take(&mut self.text);
        let mut rest = &text[..];
        let (mut name, mut data): (&[u8], Option<&[u8]>) = (b"", None);
        let mut id: Option<&[u8]> = None;
        // Where the first event begins that is not whole.
        let mut whole = 0;
        while let Some(end) = memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if let Some(value) = line.strip_prefix(b"data: ") {
                if data.replace(value).is_some() {
                    return Err("two lines of data in one event".to_owned());
                }
            } else if let Some(value) = line.strip_prefix(b"id: ") {
                id = Some(value);
            } else if let Some(value) = line.strip_prefix(b"event: ") {
                name = value;
            } else if line.is_empty() {
                if let Some(id) = id.take() {
                    self.last_event_id.clear();
                    self.last_event_id.extend_from_slice(id);
                }
                let Some(data) = data.take() else {
                    return Err("a block without data".to_owned());
                };
                each(std::mem::take(&mut name), data);
                whole = text.len() - rest.len();
            } else if !line.starts_with(b":") && !line.starts_with(b"retry: ") {
                return Err(format!("unknown field: {}", String::from_utf8_lossy(line)));
            }
        }
        text.drain(..whole);
        self.text = text;
        Ok(())
    }
}
