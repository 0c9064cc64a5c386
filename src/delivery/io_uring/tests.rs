//! Both ways to write to sockets of the kernel do the same, to the byte.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};
use socket2::SockRef;

use super::super::epoll::alarm;
use super::*;

#[derive(Debug, Clone, Copy)]
enum Family {
    Unix,
    Tcp,
}

/// What a socket is like before the write.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Empty.
    Ready,
    /// Empty, with a small buffer.
    Small,
    /// It takes nothing.
    Full,
    /// Its peer has reset the connection.
    Reset,
}

/// A socket, its peer, and how many bytes were written before.
struct Pair {
    socket: OwnedFd,
    peer: Option<Box<dyn Read>>,
    before: usize,
}

/// The result of a write to one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    All,
    Part,
    Nothing,
    Failed(io::ErrorKind),
}

const FILLING: u8 = b'.';

fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let socket = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    (socket, listener.accept().expect("a connection").0)
}

fn fill(mut socket: impl Write) -> usize {
    let mut filled = 0;
    loop {
        match socket.write(&[FILLING; 4096]) {
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return filled,
            Err(error) => panic!("{error}"),
        }
    }
}

fn pair(family: Family, kind: Kind) -> Pair {
    let (socket, peer): (OwnedFd, OwnedFd) = match family {
        Family::Unix => UnixStream::pair()
            .map(|(socket, peer)| (socket.into(), peer.into()))
            .expect("a pair"),
        Family::Tcp => {
            let (socket, peer) = tcp();
            (socket.into(), peer.into())
        }
    };
    SockRef::from(&socket).set_nonblocking(true).expect("an option");
    if let Kind::Small = kind {
        SockRef::from(&socket)
            .set_send_buffer_size(4096)
            .expect("an option");
    }
    let mut pair = Pair {
        before: 0,
        peer: None,
        socket,
    };
    match kind {
        Kind::Reset => {
            if let Family::Tcp = family {
                let reset = Some(Duration::ZERO);
                SockRef::from(&peer).set_linger(reset).expect("an option");
            }
            drop(peer);
            let mut polled = [PollFd::new(&pair.socket, PollFlags::IN)];
            poll(&mut polled, None).expect("a poll");
            return pair;
        }
        Kind::Full => {
            pair.before = fill(std::fs::File::from(
                pair.socket.try_clone().expect("a descriptor"),
            ));
        }
        Kind::Ready | Kind::Small => {}
    }
    pair.peer = Some(Box::new(std::fs::File::from(peer)));
    pair
}

/// Writes to all, and checks that each peer gets as many bytes as are reported.
fn write(sockets: &mut impl Sockets<Socket = OwnedFd>, pairs: Vec<Pair>, message: &[u8]) -> Vec<Outcome> {
    let mut failed = Vec::new();
    // The ring knows every second of them.
    for (slot, pair) in (0..).zip(&pairs).step_by(2) {
        let token = Token { slot, generation: 0 };
        sockets.register(&pair.socket, token).expect("a registration");
    }
    let all: Vec<(u32, &OwnedFd)> = (0..).zip(pairs.iter().map(|pair| &pair.socket)).collect();
    sockets.send_to_all(&all, message, &mut failed);
    let mut outcomes = vec![None; pairs.len()];
    for (place, result) in failed {
        let outcome = match result {
            Ok(count) => (Outcome::Part, count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (Outcome::Nothing, 0),
            Err(error) => (Outcome::Failed(error.kind()), 0),
        };
        assert_eq!(
            outcomes[place].replace(outcome),
            None,
            "socket {place} fails twice"
        );
    }
    for (slot, _) in (0..).zip(&pairs) {
        sockets.unregister(slot);
    }
    let check = |(pair, outcome): (Pair, Option<(Outcome, usize)>)| {
        let (outcome, count) = outcome.unwrap_or((Outcome::All, message.len()));
        // The peer reads to the end.
        drop(pair.socket);
        if let Some(mut peer) = pair.peer {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).expect("an end");
            assert_eq!(received.len(), pair.before + count, "{outcome:?}");
            assert_eq!(received[pair.before..], message[..count], "{outcome:?}");
        }
        outcome
    };
    pairs.into_iter().zip(outcomes).map(check).collect()
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Ready),
        2 => Just(Kind::Small),
        2 => Just(Kind::Full),
        1 => Just(Kind::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn both_report_what_each_socket_has_taken(
        family in prop_oneof![Just(Family::Unix), Just(Family::Tcp)],
        kinds in prop::collection::vec(kind(), 1..200),
        len in prop_oneof![Just(1_usize), 2..2_000_usize, 50_000..400_000_usize],
    ) {
        let intake = alarm().expect("an eventfd");
        let epoll = Epoll::new(&intake).expect("epoll");
        let mut ring = match try_out().and_then(|()| IoUring::new(epoll)) {
            Ok(ring) => ring,
            Err(error) => {
                // The kernel forbids it.
                println!("skipped: {error}");
                return Ok(());
            }
        };
        let pairs = || kinds.iter().map(|kind| pair(family, *kind)).collect();
        let message: Vec<u8> = (b'a'..=b'w').cycle().take(len).collect();
        let mut epoll = Epoll::new(&intake).expect("epoll");
        let by_epoll = write(&mut epoll, pairs(), &message);
        let by_ring = write(&mut ring, pairs(), &message);
        for ((kind, epoll), ring) in kinds.iter().zip(by_epoll).zip(by_ring) {
            // How much a TCP connection takes depends on what its peer has acknowledged.
            if let (Family::Tcp, Kind::Ready | Kind::Small | Kind::Full) = (family, kind) {
                let is_taken = |outcome| !matches!(outcome, Outcome::Failed(_));
                prop_assert!(is_taken(epoll) && is_taken(ring));
            } else {
                prop_assert_eq!(epoll, ring, "{:?}", kind);
            }
            if let Kind::Reset = kind {
                let is_failed = |outcome| matches!(outcome, Outcome::Failed(_));
                prop_assert!(is_failed(epoll));
            }
            if let (Family::Unix, Kind::Full) = (family, kind) {
                prop_assert_eq!(epoll, Outcome::Nothing);
            }
        }
    }
}
