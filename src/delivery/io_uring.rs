//! Sockets of the kernel, with the writes of a slice in one system call (`io_uring`). Everything else is `epoll`'s.
//!
//! # Why there is unsafe code
//! An entry of the submission queue holds a pointer to the bytes to be written, and a descriptor, and the kernel uses
//! both until it has completed the entry. Both are borrowed for the length of [`IoUring::send_to_all`], which does not
//! return before it has the completion of every entry that it has submitted; if it cannot get one, it ends the process.
//! Entries ask not to be waited for (`MSG_DONTWAIT`), so the kernel completes each while it is submitted. The one entry
//! of [`IoUring::new`], which does not end the process, has a byte that is never freed.
#![expect(unsafe_code, reason = "entries hold pointers; see above")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::Fd;
use rustix::io::Errno;

use super::epoll::{Epoll, SEND};
use super::sockets::{Event, Sockets, Token};

/// Writes of one submission.
const ENTRIES: u32 = 64;

/// Does not wait for space; a part that was written is reported, and is no success.
const FLAGS: i32 = SEND.bits().cast_signed() | MSG_DONTWAIT | MSG_WAITALL;
const MSG_DONTWAIT: i32 = 0x40;
const MSG_WAITALL: i32 = 0x100;

pub(super) struct IoUring {
    ring: io_uring::IoUring,
    epoll: Epoll,
}

impl IoUring {
    /// A ring that this process can write by: it has written a byte.
    ///
    /// # Errors
    /// When the kernel is too old, or forbids any of the system calls.
    pub(super) fn new(epoll: Epoll) -> io::Result<Self> {
        static BYTE: [u8; 1] = [0];
        let mut ring = io_uring::IoUring::new(ENTRIES)?;
        let (socket, _peer) = UnixStream::pair()?;
        // SAFETY: the byte is there for ever. The kernel looks the descriptor up while it takes the entry, which is before
        // `submit_and_wait` returns.
        if unsafe { ring.submission().push(&entry(&socket, &BYTE)) }.is_err() {
            unreachable!("the queue is empty");
        }
        ring.submit_and_wait(1)?;
        let written = ring.completion().next().map(|completion| completion.result());
        match written {
            Some(1) => Ok(Self { ring, epoll }),
            Some(error) if error < 0 && -error != Errno::INVAL.raw_os_error() => {
                Err(io::Error::from_raw_os_error(-error))
            }
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel is too old",
            )),
        }
    }

    /// Writes to no more sockets than there are entries; `first` is added to the places.
    fn send_some(
        &mut self,
        sockets: &[&OwnedFd],
        bytes: &[u8],
        first: usize,
        failed: &mut Vec<(usize, io::Result<usize>)>,
    ) {
        for (place, socket) in sockets.iter().enumerate() {
            let entry = entry(*socket, bytes).user_data(place as u64);
            // SAFETY: the descriptor is open and the bytes are there until this function returns, which is after the
            // entry's completion. The queue has space: it is empty before the first, and takes `ENTRIES`.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                unreachable!("the queue takes as many entries as there are sockets");
            }
        }
        let mut left = sockets.len();
        while left > 0 {
            match self.ring.submit_and_wait(left) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted) => {}
                // The kernel is short of memory, or completions are to be taken first.
                Err(error) if is_passing(&error) => std::thread::yield_now(),
                Err(error) => {
                    // Entries may be under way whose bytes would be freed.
                    log::error!("io_uring does not take writes: {error}");
                    std::process::abort();
                }
            }
            for completion in self.ring.completion() {
                left -= 1;
                let place = first + usize::try_from(completion.user_data()).unwrap_or(usize::MAX - first);
                match usize::try_from(completion.result()) {
                    Ok(count) if count == bytes.len() => {}
                    Ok(count) => failed.push((place, Ok(count))),
                    Err(_) => {
                        let error = io::Error::from_raw_os_error(-completion.result());
                        failed.push((place, Err(error)));
                    }
                }
            }
        }
    }
}

/// A write of `bytes`.
fn entry(socket: &impl AsRawFd, bytes: &[u8]) -> Entry {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), len)
        .flags(FLAGS)
        .build()
}

fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    [Errno::AGAIN, Errno::BUSY, Errno::NOMEM]
        .iter()
        .any(|passing| errno == Some(passing.raw_os_error()))
}

impl Sockets for IoUring {
    type Socket = OwnedFd;

    fn register(&mut self, socket: &OwnedFd, token: Token) -> io::Result<()> {
        self.epoll.register(socket, token)
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.epoll.wait(timeout, events)
    }

    fn send(&mut self, socket: &OwnedFd, parts: &[&[u8]]) -> io::Result<usize> {
        self.epoll.send(socket, parts)
    }

    fn send_to_all(
        &mut self,
        sockets: &[&OwnedFd],
        bytes: &[u8],
        failed: &mut Vec<(usize, io::Result<usize>)>,
    ) {
        for (number, some) in sockets.chunks(ENTRIES as usize).enumerate() {
            self.send_some(some, bytes, number * ENTRIES as usize, failed);
        }
    }

    fn receive(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        self.epoll.receive(socket, buffer)
    }

    fn shut_down(&mut self, socket: &OwnedFd) {
        self.epoll.shut_down(socket);
    }

    fn abort(&mut self, socket: &OwnedFd) {
        self.epoll.abort(socket);
    }

    fn error_of(&mut self, socket: &OwnedFd) -> Option<io::Error> {
        self.epoll.error_of(socket)
    }
}

#[cfg(test)]
mod tests;
