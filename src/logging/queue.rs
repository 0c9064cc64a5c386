//! A bounded queue of log lines for one output, and the thread that writes them.
//!
//! A write blocks while a pipe is full or a disk hangs. Only the thread of the queue blocks then; a full queue drops
//! lines and counts them. The queue does not know the format of lines.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Most bytes of lines in a queue. Lines are dropped from then on until half of it is free, so that a slow
/// reader gets stretches of the log without gaps.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that only errors may use beyond [`MAX_BYTES`].
const RESERVE: usize = 256 * 1024;

const OVERHEAD: usize = size_of::<QueuedLine>();

/// The destination of lines.
pub trait Output: Send + Sync {
    /// Writes; may block.
    fn write(&self, text: &str);

    /// The line that reports how many lines were dropped.
    fn dropped(&self, count: u64) -> String;
}

/// Lines in the order in which they were pushed, each with its output.
#[derive(Default)]
pub struct Queue {
    state: Mutex<QueueState>,
    /// An entry was added.
    filled: Condvar,
    /// An entry has been written.
    wrote: Condvar,
}

#[derive(Default)]
struct QueueState {
    entries: VecDeque<QueuedLine>,
    /// The memory of the entries, and of the one being written.
    bytes: usize,
    /// How many entries were pushed and written so far.
    pushed: u64,
    written: u64,
    /// Lines that were dropped and not reported, and the output of the last of them.
    dropped: Option<(u64, Arc<dyn Output>)>,
    is_started: bool,
}

struct QueuedLine {
    output: Arc<dyn Output>,
    text: String,
}

impl Queue {
    /// Empty, and without a thread.
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(QueueState {
                entries: VecDeque::new(),
                bytes: 0,
                pushed: 0,
                written: 0,
                dropped: None,
                is_started: false,
            }),
            filled: Condvar::new(),
            wrote: Condvar::new(),
        }
    }

    /// Starts the thread, once.
    ///
    /// # Errors
    /// When the operating system refuses the thread.
    pub fn start(&'static self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.is_started {
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(|| self.write())?;
            state.is_started = true;
        }
        Ok(())
    }

    /// Adds a line, or drops it where the queue is full. Never waits for the output: the lock is only held to move
    /// an entry.
    pub fn push(&self, output: &Arc<dyn Output>, text: String, is_error: bool) {
        let mut state = self.state.lock();
        let bytes = state.bytes + text.len() + OVERHEAD;
        let fits = state.dropped.is_none() && bytes <= MAX_BYTES || state.entries.is_empty();
        if fits || is_error && bytes <= MAX_BYTES + RESERVE {
            state.add(Arc::clone(output), text);
            self.filled.notify_one();
        } else {
            let count = state.dropped.take().map_or(0, |(count, _)| count);
            state.dropped = Some((count + 1, Arc::clone(output)));
        }
    }

    /// Waits until everything pushed before is written, or the deadline has passed.
    pub fn flush(&self, deadline: Instant) {
        let mut state = self.state.lock();
        if !state.is_started {
            return;
        }
        if state.report_dropped() {
            self.filled.notify_one();
        }
        let target = state.pushed;
        while state.written < target {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            let _ = self.wrote.wait_for(&mut state, left);
        }
    }

    fn write(&self) -> ! {
        let mut state = self.state.lock();
        loop {
            let Some(entry) = state.entries.pop_front() else {
                self.filled.wait(&mut state);
                continue;
            };
            drop(state);
            entry.output.write(&entry.text);
            state = self.state.lock();
            state.bytes -= entry.text.len() + OVERHEAD;
            state.written += 1;
            if state.bytes <= MAX_BYTES / 2 {
                state.report_dropped();
            }
            self.wrote.notify_all();
        }
    }
}

impl QueueState {
    fn add(&mut self, output: Arc<dyn Output>, text: String) {
        self.bytes += text.len() + OVERHEAD;
        self.pushed += 1;
        self.entries.push_back(QueuedLine { output, text });
    }

    /// Adds the line that reports dropped lines, at their position among the others.
    fn report_dropped(&mut self) -> bool {
        let Some((count, output)) = self.dropped.take() else {
            return false;
        };
        let text = output.dropped(count);
        self.add(output, text);
        true
    }
}
