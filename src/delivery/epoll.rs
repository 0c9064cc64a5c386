//! Sockets of the kernel, by `epoll` and a system call per write.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll;
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use super::chunk::PARTS;
use super::sockets::{Event, INTAKE, Sockets, Token};

/// Most events of one wait.
const EVENTS: usize = 256;

/// A write to a socket whose peer is gone must not raise SIGPIPE.
pub(super) const SEND: SendFlags = SendFlags::NOSIGNAL;

#[derive(Debug)]
pub(super) struct Epoll {
    epoll: OwnedFd,
}

/// The eventfd by which other threads wake the one that waits.
pub(super) fn alarm() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

impl Epoll {
    /// Waits for `alarm` and for the sockets that are registered.
    pub(super) fn new(alarm: &OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, alarm, epoll::EventData::new_u64(INTAKE.into()), flags)?;
        Ok(Self { epoll })
    }
}

impl Sockets for Epoll {
    type Socket = OwnedFd;

    fn register(&mut self, socket: &OwnedFd, token: Token) -> io::Result<()> {
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(
            &self.epoll,
            socket,
            epoll::EventData::new_u64(token.into()),
            flags,
        )?;
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| Timespec::try_from(timeout).unwrap_or_default());
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let found = match epoll::wait(&self.epoll, &mut buffer, timeout.as_ref()) {
            Ok((found, _)) => found,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        events.extend(found.iter().map(|event| {
            let flags = event.flags;
            let gone = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
            Event {
                token: event.data.u64().into(),
                is_readable: flags.contains(epoll::EventFlags::IN),
                is_writable: flags.contains(epoll::EventFlags::OUT),
                is_half_closed: flags.contains(epoll::EventFlags::RDHUP),
                is_closed: flags.intersects(gone),
            }
        }));
        Ok(())
    }

    fn send(&mut self, socket: &OwnedFd, parts: &[&[u8]]) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); PARTS];
        let mut count = 0;
        for part in parts.iter().filter(|part| !part.is_empty()) {
            slices[count] = IoSlice::new(part);
            count += 1;
        }
        if let [only] = parts {
            return Ok(send(socket, only, SEND)?);
        }
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut []);
        Ok(rustix::net::sendmsg(
            socket,
            &slices[..count],
            &mut control,
            SEND,
        )?)
    }

    fn send_to_all(
        &mut self,
        sockets: &[(u32, &OwnedFd)],
        bytes: &[u8],
        failed: &mut Vec<(usize, io::Result<usize>)>,
    ) {
        for (place, (_, socket)) in sockets.iter().enumerate() {
            match send(socket, bytes, SEND) {
                Ok(count) if count == bytes.len() => {}
                Ok(count) => failed.push((place, Ok(count))),
                Err(error) => failed.push((place, Err(error.into()))),
            }
        }
    }

    fn receive(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        let (count, _) = recv(socket, buffer, RecvFlags::DONTWAIT)?;
        Ok(count)
    }

    fn shut_down(&mut self, socket: &OwnedFd) {
        // The peer may have closed the connection.
        let _ = shutdown(socket, Shutdown::Write);
    }

    fn abort(&mut self, socket: &OwnedFd) {
        let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
    }

    fn error_of(&mut self, socket: &OwnedFd) -> Option<io::Error> {
        sockopt::socket_error(socket).ok()?.err().map(Into::into)
    }
}
