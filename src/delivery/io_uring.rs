//! Sockets of the kernel, with the writes of a slice in one system call (`io_uring`). Everything else is `epoll`'s.
//!
//! # Why there is unsafe code
//! An entry of the submission queue holds a pointer to the bytes to be written, and a descriptor, and the kernel uses
//! both until it has completed the entry. Both are borrowed for the length of [`IoUring::send_to_all`], which does not
//! return before it has the completion of every entry that it has submitted; if it cannot get one, it ends the process.
//! Entries ask not to be waited for (`MSG_DONTWAIT`), so the kernel completes each while it is submitted. The one entry
//! of [`try_out`], which does not end the process, has a byte that is never freed.
#![expect(unsafe_code, reason = "entries hold pointers; see above")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::{Fd, Fixed};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::epoll::{Epoll, SEND};
use super::sockets::{Event, Sockets, Token, number};

/// Writes of one submission.
const ENTRIES: u32 = 64;

/// Does not wait for space; a part that was written is reported, and is no success.
const FLAGS: i32 = SEND.bits().cast_signed() | MSG_DONTWAIT | MSG_WAITALL;
const MSG_DONTWAIT: i32 = 0x40;
const MSG_WAITALL: i32 = 0x100;

/// Most sockets that a ring knows: eight bytes in the kernel for each that might come.
const MOST_KNOWN: u64 = 64 * 1024;

pub(super) struct IoUring {
    ring: io_uring::IoUring,
    state: State,
    /// The slots whose sockets the ring knows, and so need not look up at every write. Shorter on a kernel that cannot
    /// (Linux before 5.19).
    known: Vec<bool>,
    epoll: Epoll,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No thread has used it.
    Disabled,
    /// The thread that has enabled it submits to it.
    Enabled,
    /// It cannot be enabled.
    Refused,
}

/// A disabled ring, for one thread: the kernel need not lock it at every completion (Linux 6.1). For any number of threads
/// on an older kernel.
fn ring() -> io::Result<io_uring::IoUring> {
    let mut builder = io_uring::IoUring::builder();
    builder
        .setup_r_disabled()
        .setup_single_issuer()
        .setup_defer_taskrun();
    match builder.build(ENTRIES) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            io_uring::IoUring::builder().setup_r_disabled().build(ENTRIES)
        }
        built => built,
    }
}

/// Writes a byte by a ring of its own: whether this process can write by one.
///
/// # Errors
/// When the kernel is too old, or forbids any of the system calls.
pub(super) fn try_out() -> io::Result<()> {
    static BYTE: [u8; 1] = [0];
    let mut ring = ring()?;
    ring.submitter().register_enable_rings()?;
    let (socket, _peer) = UnixStream::pair()?;
    let entry = entry(opcode::Send::new(
        Fd(socket.as_raw_fd()),
        BYTE.as_ptr(),
        length(&BYTE),
    ));
    // SAFETY: the byte is there for ever. The kernel looks the descriptor up while it takes the entry, which is before
    // `submit_and_wait` returns.
    if unsafe { ring.submission().push(&entry) }.is_err() {
        unreachable!("the queue is empty");
    }
    while let Err(error) = ring.submit_and_wait(1) {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let written = ring.completion().next().map(|completion| completion.result());
    match written {
        Some(1) => Ok(()),
        Some(error) if error < 0 && -error != Errno::INVAL.raw_os_error() => {
            Err(io::Error::from_raw_os_error(-error))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel is too old",
        )),
    }
}

impl IoUring {
    /// A ring for the thread that will use it, after one was [tried out](try_out).
    ///
    /// # Errors
    /// When the kernel has no memory for it.
    pub(super) fn new(epoll: Epoll) -> io::Result<Self> {
        let ring = ring()?;
        let files = getrlimit(Resource::Nofile).current.unwrap_or(MOST_KNOWN);
        let most = number(usize::try_from(files.min(MOST_KNOWN)).unwrap_or(0));
        let is_registered = ring.submitter().register_files_sparse(most).is_ok();
        Ok(Self {
            ring,
            state: State::Disabled,
            known: vec![false; if is_registered { most as usize } else { 0 }],
            epoll,
        })
    }

    /// Whether this thread can submit.
    fn is_enabled(&mut self) -> bool {
        if self.state == State::Disabled {
            self.state = match self.ring.submitter().register_enable_rings() {
                Ok(()) => State::Enabled,
                Err(error) => {
                    log::warn!("a delivery thread writes by epoll: io_uring cannot be enabled: {error}");
                    State::Refused
                }
            };
        }
        self.state == State::Enabled
    }

    /// Writes to no more sockets than there are entries; `first` is added to the places.
    fn send_some(
        &mut self,
        sockets: &[(u32, &OwnedFd)],
        bytes: &[u8],
        first: usize,
        failed: &mut Vec<(usize, io::Result<usize>)>,
    ) {
        let length = length(bytes);
        for (place, (slot, socket)) in sockets.iter().enumerate() {
            let send = if self.known.get(*slot as usize) == Some(&true) {
                opcode::Send::new(Fixed(*slot), bytes.as_ptr(), length)
            } else {
                opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), length)
            };
            let entry = entry(send).user_data(place as u64);
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

/// A write that does not wait.
fn entry(send: opcode::Send) -> Entry {
    send.flags(FLAGS).build()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
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
        self.epoll.register(socket, token)?;
        if self.is_enabled()
            && let Some(known) = self.known.get_mut(token.slot as usize)
        {
            let files = [socket.as_raw_fd()];
            let updated = self.ring.submitter().register_files_update(token.slot, &files);
            *known = updated.is_ok();
        }
        Ok(())
    }

    fn unregister(&mut self, slot: u32) {
        // The ring would keep the connection open.
        if let Some(known) = self.known.get_mut(slot as usize)
            && std::mem::take(known)
            && let Err(error) = self.ring.submitter().register_files_update(slot, &[-1])
        {
            log::error!("io_uring does not let go of a socket: {error}");
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.epoll.wait(timeout, events)
    }

    fn send(&mut self, socket: &OwnedFd, parts: &[&[u8]]) -> io::Result<usize> {
        self.epoll.send(socket, parts)
    }

    fn send_to_all(
        &mut self,
        sockets: &[(u32, &OwnedFd)],
        bytes: &[u8],
        failed: &mut Vec<(usize, io::Result<usize>)>,
    ) {
        if !self.is_enabled() {
            return self.epoll.send_to_all(sockets, bytes, failed);
        }
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
