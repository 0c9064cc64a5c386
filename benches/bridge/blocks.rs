//! The bare loop of a storm: one thread over epoll that writes one stream, whole, to everyone who
//! asks, as chunks of the daemon's block size from one piece of memory that all share.

use crate::bare::{HEAD, listener};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// As the daemon's largest block.
const BLOCK: usize = 256 * 1024;

const LISTENER: u64 = u64::MAX;

struct Peer {
    socket: TcpStream,
    request: Vec<u8>,
    /// The piece that is being sent, and how much of it is.
    at: (usize, usize),
}

/// Changes the events that epoll reports for a socket.
enum Next {
    /// The same as before.
    Same,
    /// That it takes something.
    Send,
    /// Only that it goes away: it has everything.
    End,
}

/// Prints its port, then serves the stream in `file`.
pub fn main(file: &str) -> ! {
    let payload = fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let chunk = |block: &[u8]| [format!("{:X}\r\n", block.len()).as_bytes(), block, b"\r\n"].concat();
    let mut pieces = vec![HEAD.as_bytes().to_vec()];
    pieces.extend(payload.chunks(BLOCK).map(chunk));

    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let listener = listener();
    let token = epoll::EventData::new_u64(LISTENER);
    epoll::add(&epoll, &listener, token, epoll::EventFlags::IN).expect("epoll");
    println!("{}", listener.local_addr().expect("an address").port());

    let mut peers: HashMap<u64, Peer> = HashMap::new();
    let mut accepted = 0;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
    loop {
        events.clear();
        if epoll::wait(&epoll, spare_capacity(&mut events), None).is_err() {
            continue;
        }
        for event in &events {
            let token = event.data.u64();
            if token == LISTENER {
                while let Ok((socket, _)) = listener.accept() {
                    let data = epoll::EventData::new_u64(accepted);
                    socket
                        .set_nonblocking(true)
                        .and_then(|()| socket.set_nodelay(true))
                        .expect("socket options");
                    epoll::add(&epoll, &socket, data, epoll::EventFlags::IN).expect("epoll");
                    peers.insert(accepted, Peer::new(socket));
                    accepted += 1;
                }
                continue;
            }
            let Some(peer) = peers.get_mut(&token) else {
                continue;
            };
            let flags = match peer.serve(&pieces) {
                Ok(Next::Same) => continue,
                Ok(Next::Send) => epoll::EventFlags::OUT,
                Ok(Next::End) => epoll::EventFlags::IN,
                Err(_) => {
                    peers.remove(&token);
                    continue;
                }
            };
            epoll::modify(&epoll, &peer.socket, event.data, flags).expect("epoll");
        }
    }
}

impl Peer {
    fn new(socket: TcpStream) -> Peer {
        Peer {
            socket,
            request: Vec::new(),
            at: (0, 0),
        }
    }

    fn serve(&mut self, pieces: &[Vec<u8>]) -> io::Result<Next> {
        if !self.request.ends_with(b"\r\n\r\n") {
            let mut buffer = [0; 1024];
            let read = self.socket.read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.request.extend_from_slice(&buffer[..read]);
            let is_whole = self.request.ends_with(b"\r\n\r\n");
            return Ok(if is_whole { Next::Send } else { Next::Same });
        }
        let Some(piece) = pieces.get(self.at.0) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        match self.socket.write(&piece[self.at.1..]) {
            Ok(written) => self.at.1 += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if self.at.1 == piece.len() {
            self.at = (self.at.0 + 1, 0);
        }
        Ok(if self.at.0 == pieces.len() {
            Next::End
        } else {
            Next::Same
        })
    }
}
