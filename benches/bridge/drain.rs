//! Clients that come all at once and take what they are sent as fast as they can: one thread over
//! epoll, which reads and throws away, the same for the daemon and for what it is compared with.

use crate::audience::OPENED;
use crate::chunks::Chunks;
use crate::measure::now;
use memchr::memmem;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long nothing may come before the rest is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// As much of an answer's end as holds the last event whole.
const TAIL: usize = 128;

/// A request for the stream, with the id of the last event if the client resumes.
pub fn request(path: &str, id: Option<&str>) -> String {
    let id = id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n{id}\r\n")
}

/// All that one client is sent up to and with `caught-up`, without the framing.
pub fn fetch(port: u16, request: &str) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    socket
        .set_read_timeout(Some(SILENCE))
        .expect("a socket with a timeout");
    socket.write_all(request.as_bytes()).expect("the request is sent");
    let (mut chunks, mut payload, mut buffer) = (Chunks::new(), Vec::new(), vec![0; 256 * 1024]);
    while !is_whole(&payload) {
        let read = socket.read(&mut buffer).expect("the stream continues");
        assert!(read > 0, "the server closed a stream");
        chunks.take(&buffer[..read], |data| payload.extend_from_slice(data));
    }
    payload
}

/// Whether `caught-up` is the last event so far, and has come whole.
fn is_whole(payload: &[u8]) -> bool {
    let end = &payload[payload.len().saturating_sub(TAIL)..];
    end.ends_with(b"\n\n") && memmem::find(end, OPENED.as_bytes()).is_some()
}

/// When a client has everything.
#[derive(Clone, Copy)]
pub enum Goal {
    /// With so many bytes, of which `caught-up` is the end.
    Payload(usize),
    /// With `caught-up`, however much comes before it; then the client leaves.
    CaughtUp,
}

struct Client {
    socket: TcpStream,
    chunks: Chunks,
    /// Bytes that came, without the framing.
    payload: usize,
    /// The last of them.
    tail: Vec<u8>,
    /// Whether they have `caught-up`; looked for only where that is the goal.
    has_caught_up: bool,
}

/// The received bytes and events.
pub struct Drained {
    /// From before the first request to the last byte of the last client.
    pub seconds: f64,
    /// Bytes that were read, framing included.
    pub bytes: u64,
}

/// Opens `count` connections, then sends `request` on every one, and reads until each has everything.
///
/// # Panics
/// When an answer is longer, ends otherwise, or stays away.
pub fn storm(port: u16, request: &str, count: usize, goal: Goal) -> Drained {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let mut clients: Vec<Option<Client>> = (0..count).map(|_| Some(Client::connect(port))).collect();
    let began = now();
    for (index, client) in (0..).zip(clients.iter_mut().flatten()) {
        client
            .socket
            .write_all(request.as_bytes())
            .expect("the request is sent");
        client
            .socket
            .set_nonblocking(true)
            .expect("a non-blocking socket");
        let token = epoll::EventData::new_u64(index);
        epoll::add(&epoll, &client.socket, token, epoll::EventFlags::IN).expect("epoll");
    }
    let (mut bytes, mut waiting) = (0, count);
    let mut buffer = vec![0; 256 * 1024];
    let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
    let patience = Timespec::try_from(SILENCE).expect("a short time");
    while waiting > 0 {
        events.clear();
        let ready = epoll::wait(&epoll, spare_capacity(&mut events), Some(&patience)).expect("epoll");
        assert!(ready > 0, "{waiting} clients have not got all that is theirs");
        for event in &events {
            let index: usize = event.data.u64().try_into().expect("an index");
            let Some(client) = &mut clients[index] else {
                continue;
            };
            let read = match client.socket.read(&mut buffer) {
                Ok(0) => panic!("the server closed a stream"),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => panic!("a stream broke: {error}"),
            };
            bytes += read as u64;
            client.take(&buffer[..read], goal);
            if client.has_everything(goal) {
                waiting -= 1;
                if matches!(goal, Goal::CaughtUp) {
                    // It leaves, and is sent nothing of what comes then.
                    clients[index] = None;
                }
            }
        }
    }
    Drained {
        seconds: (now() - began) as f64 / 1e9,
        bytes,
    }
}

impl Client {
    fn connect(port: u16) -> Client {
        Client {
            socket: TcpStream::connect(("127.0.0.1", port)).expect("a connection"),
            chunks: Chunks::new(),
            payload: 0,
            tail: Vec::with_capacity(2 * TAIL),
            has_caught_up: false,
        }
    }

    fn take(&mut self, read: &[u8], goal: Goal) {
        let (payload, tail, has_caught_up) = (&mut self.payload, &mut self.tail, &mut self.has_caught_up);
        self.chunks.take(read, |data| {
            *payload += data.len();
            if matches!(goal, Goal::CaughtUp) {
                let end = tail.len();
                tail.extend_from_slice(&data[..data.len().min(OPENED.len())]);
                let is_in = |part: &[u8]| memmem::find(part, OPENED.as_bytes()).is_some();
                *has_caught_up |= is_in(tail) || is_in(data);
                tail.truncate(end);
            }
            tail.extend_from_slice(&data[data.len().saturating_sub(TAIL)..]);
            tail.drain(..tail.len().saturating_sub(TAIL));
        });
    }

    /// Whether what was just read has made it complete.
    fn has_everything(&self, goal: Goal) -> bool {
        match goal {
            Goal::Payload(payload) => {
                assert!(self.payload <= payload, "more than everything");
                let is_complete = self.payload == payload;
                assert!(
                    !is_complete || is_whole(&self.tail),
                    "all is there, and ends with caught-up"
                );
                is_complete
            }
            Goal::CaughtUp => self.has_caught_up,
        }
    }
}
