//! The least that io_uring takes for the writes of a record: a few submissions, over sockets that the ring knows.
//!
//! # Why there is unsafe code
//! An entry of the submission queue holds a pointer to the bytes, which the kernel uses until it has completed the
//! entry. They are borrowed for the length of [`Ring::write_to_all`], which has all completions before it returns.
#![expect(unsafe_code, reason = "entries hold pointers; see above")]

use io_uring::types::Fixed;
use io_uring::{IoUring, opcode};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Writes of one submission.
const ENTRIES: u32 = 256;

/// Sockets that it can know: no more than descriptors of a process.
const MOST: u32 = 16 * 1024;

const MSG_DONTWAIT: i32 = 0x40;
const MSG_NOSIGNAL: i32 = 0x4000;
const MSG_WAITALL: i32 = 0x100;

pub struct Ring(IoUring);

impl Ring {
    /// For the thread that calls it.
    ///
    /// # Errors
    /// When the kernel forbids it, or is older than Linux 6.1.
    pub fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        let ring = builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(ENTRIES)?;
        ring.submitter().register_files_sparse(MOST)?;
        Ok(Ring(ring))
    }

    /// Has it know a socket by the client's number, of which there are fewer than [`MOST`].
    pub fn add(&self, token: u64, socket: &TcpStream) {
        self.update(token, socket.as_raw_fd());
    }

    pub fn forget(&self, token: u64) {
        self.update(token, -1);
    }

    fn update(&self, token: u64, descriptor: i32) {
        let updated = self
            .0
            .submitter()
            .register_files_update(place(token), &[descriptor]);
        updated.expect("a place for the socket");
    }

    /// Returns the clients to whom not all was written, and how much was.
    pub fn write_to_all(&mut self, tokens: &[u64], bytes: &[u8]) -> Vec<(u64, usize)> {
        let mut unwritten = Vec::new();
        let length = bytes.len().try_into().expect("a short record");
        for some in tokens.chunks(ENTRIES as usize) {
            for &token in some {
                let send = opcode::Send::new(Fixed(place(token)), bytes.as_ptr(), length)
                    .flags(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_WAITALL)
                    .build()
                    .user_data(token);
                // SAFETY: the bytes are there until all completions are.
                unsafe { self.0.submission().push(&send) }.expect("space for a submission");
            }
            let mut left = some.len();
            while left > 0 {
                self.0.submit_and_wait(left).expect("io_uring");
                for completion in self.0.completion() {
                    left -= 1;
                    let written = completion.result().try_into().unwrap_or(0);
                    if written < bytes.len() {
                        unwritten.push((completion.user_data(), written));
                    }
                }
            }
        }
        unwritten
    }
}

fn place(token: u64) -> u32 {
    token.try_into().expect("few clients")
}
