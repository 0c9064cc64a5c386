//! History: reads ranges that have left memory, on a bounded pool of threads with connections of
//! their own.
//!
//! A [`Job`] names half-open ranges of offsets and a channel. Its thread sends what it finds there,
//! in partition order, and ends with [`Feed::Loaded`] for every topic. The channel is bounded, so a
//! job goes no faster than its readers; when they are gone the channel is closed and the job ends.
//! Knows nothing of streams, clients or positions.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{debug, warn};
use tokio::sync::mpsc;

use super::client::{Clients, Connect};
use super::inbox::Inbox;
use super::record::Feed;
use super::source::{Source, SourceError};
use super::status::Status;
use super::tail::{Connection, backoff};

/// Threads, and so jobs that run at once: each may hold a fetch of a few MiB.
const THREADS: usize = 4;

/// Jobs that may wait. Each stands for clients that are kept waiting, with their memory.
const MAX_WAITING: usize = 1024;

/// Failures in a row, without a record between, after which a job gives its thread to others.
const MAX_FAILURES: u32 = 6;

/// Longest wait for records in one poll, and so the longest before a closed channel is seen.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// A range of one partition; `from` below zero is the beginning, whatever that is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First offset wanted.
    pub from: i64,
    /// The offset behind the last one wanted.
    pub to: i64,
}

/// What to read, and where to send it.
#[derive(Debug)]
pub struct Job {
    /// Topics, each with a range per partition, from 0.
    pub topics: Vec<(Arc<str>, Vec<Range>)>,
    /// Takes [`Feed::Assigned`] with the offsets at which reading really begins, records, gaps, and
    /// [`Feed::Loaded`] at the end of each topic.
    pub feed: mpsc::Sender<Feed>,
}

/// The job was not taken: too many wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WAITING} replays wait already")]
pub struct Busy;

/// Where the past can be read.
pub trait Archive: std::fmt::Debug + Send + Sync {
    /// Queues a job.
    ///
    /// # Errors
    /// [`Busy`] when too many wait already.
    fn read(&self, job: Job) -> Result<(), Busy>;
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    change: Condvar,
    connection: Connection,
    status: Arc<Status>,
}

/// The pool. Threads start with the first job and end when the pool is dropped.
#[derive(Debug)]
pub struct History {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl History {
    /// A pool that reads over `connection`.
    #[must_use]
    pub fn new(connection: Connection, status: Arc<Status>) -> Self {
        let shared = Shared {
            queue: Mutex::default(),
            change: Condvar::new(),
            connection,
            status,
        };
        Self {
            shared: Arc::new(shared),
            threads: Mutex::default(),
        }
    }

    /// One thread per job at first, so that a daemon without replays has none.
    fn grow(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.len() < THREADS {
            let shared = Arc::clone(&self.shared);
            let name = format!("kafka-history-{}", threads.len());
            match std::thread::Builder::new()
                .name(name)
                .spawn(move || work(&shared))
            {
                Ok(thread) => threads.push(thread),
                // The job waits for the threads there are, or for the next that can be had.
                Err(error) => warn!("no thread for a replay: {error}"),
            }
        }
    }

    /// Lets the threads end. Those under way end when the other side of their channel is gone.
    pub fn close(&self) -> Vec<JoinHandle<()>> {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.is_closed = true;
        queue.jobs.clear();
        drop(queue);
        self.shared.change.notify_all();
        std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Archive for History {
    fn read(&self, job: Job) -> Result<(), Busy> {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.jobs.retain(|job| !job.feed.is_closed());
        if queue.jobs.len() >= MAX_WAITING {
            return Err(Busy);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.change.notify_one();
        self.grow();
        Ok(())
    }
}

fn work(shared: &Shared) {
    let mut clients = Clients::new(shared.connection.clone(), Arc::clone(&shared.status));
    while let Some(job) = next_job(shared) {
        let mut reading = Reading::new(job);
        let mut failures = 0;
        while !reading.inbox.is_closed() && !reading.is_done {
            let received = reading.inbox.received();
            // A client per job: one that rests between jobs would go on fetching, or have gone stale.
            let outcome = clients
                .connect()
                .and_then(|mut source| reading.read(&mut *source));
            reading.inbox.flush();
            match outcome {
                Ok(()) => {}
                Err(error) if clients.refuse(&error) => debug!("replay: {error}: another client takes over"),
                Err(error) => {
                    failures = if reading.inbox.received() > received {
                        1
                    } else {
                        failures + 1
                    };
                    if failures > MAX_FAILURES {
                        // Its readers ask again, behind those who wait.
                        warn!("replay: {error}; given up for now");
                        break;
                    }
                    debug!("replay: {error}; trying again");
                    pause(&reading.inbox, backoff(failures));
                }
            }
        }
    }
}

/// The next job; `None` when the pool is closed.
fn next_job(shared: &Shared) -> Option<Job> {
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if queue.is_closed {
            return None;
        }
        // Those whose readers have gone meanwhile are not read.
        while let Some(job) = queue.jobs.pop_front() {
            if !job.feed.is_closed() {
                return Some(job);
            }
        }
        queue = shared.change.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Waits, but not for a job whose readers are gone.
fn pause(inbox: &Inbox, pause: Duration) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !inbox.is_closed() {
        std::thread::sleep(POLL_WAIT.min(until.saturating_duration_since(Instant::now())));
    }
}

/// A job under way.
struct Reading {
    topics: Vec<(Arc<str>, Vec<Range>)>,
    inbox: Inbox,
    is_begun: bool,
    is_done: bool,
}

impl Reading {
    fn new(job: Job) -> Self {
        let inbox = Inbox::new(
            job.topics
                .iter()
                .map(|(name, _)| (Arc::clone(name), vec![job.feed.clone()])),
        );
        Self {
            topics: job.topics,
            inbox,
            is_begun: false,
            is_done: false,
        }
    }

    /// Reads to the end of the ranges, or until nobody listens.
    fn read(&mut self, source: &mut dyn Source) -> Result<(), SourceError> {
        for (name, ranges) in &self.topics {
            let bounds = source.bounds(name, ranges.len())?;
            let known: Vec<i64> = self.inbox.next_offsets(name);
            let next = ranges
                .iter()
                .zip(&bounds)
                .enumerate()
                .map(|(partition, (range, bounds))| {
                    let wanted = known.get(partition).copied().unwrap_or(range.from);
                    // Never beyond the range, where an offset from outside could be one that does not exist;
                    // what lies behind it is not ours to skip to.
                    wanted.max(bounds.low).min(range.to).max(0).min(bounds.high)
                });
            let next: Vec<i64> = next.collect();
            if next != known || !self.is_begun {
                let low = bounds.iter().map(|bounds| bounds.low).collect();
                self.inbox.assign(name, next, low);
            }
        }
        self.is_begun = true;
        source.assign(&self.inbox)?;
        let mut at_end = std::collections::BTreeSet::new();
        loop {
            let mut pending = Vec::new();
            for (name, ranges) in &self.topics {
                let next = self.inbox.next_offsets(name);
                for (partition, (range, &next)) in (0..).zip(ranges.iter().zip(&next)) {
                    if next < range.to && !at_end.contains(&(Arc::clone(name), partition)) {
                        pending.push((Arc::clone(name), partition, next));
                    }
                }
            }
            if pending.is_empty() {
                for (name, _) in &self.topics {
                    self.inbox.loaded(name);
                }
                self.is_done = true;
                return Ok(());
            }
            let before = self.inbox.received();
            source.poll(POLL_WAIT, &mut self.inbox)?;
            self.inbox.flush();
            if self.inbox.is_closed() {
                debug!("replay: nobody listens any more");
                return Ok(());
            }
            if self.inbox.received() == before {
                for (name, partition, next) in pending {
                    if source.is_at_end(&name, partition, next)? {
                        at_end.insert((name, partition));
                    }
                }
            }
        }
    }
}
