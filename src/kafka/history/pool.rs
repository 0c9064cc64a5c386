//! History: reads ranges that have left memory, and answers questions about offsets, on a bounded
//! pool of threads with connections of their own.
//!
//! A [`Job`] names half-open ranges of offsets and a channel. Its thread sends what it finds there,
//! in partition order, and ends with [`Feed::Loaded`] for every topic. The channel is bounded, so a
//! job goes no faster than its readers; when they are gone the channel is closed and the job ends.
//! From when a thread takes it, a job occupies one of [`SEATS`] seats until its [`Seat`] is dropped,
//! which whoever holds its records for readers does when they are taken: that bounds what all of
//! them hold. Jobs for which there is no thread or no seat wait in a queue, and
//! [`Archive::is_contended`] says so. Flows take [`turns`](super::fair_queue): one that queues many jobs delays its own.
//!
//! A [`Question`] is short. At most [`READING`] threads read and at most [`ASKING`] ask, so that
//! neither kind of work waits for the other. Knows nothing of streams, clients or positions.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{debug, warn};
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::mpsc;

use super::fair_queue::{Flow, Turns};
use super::lookup::{Outcome, Pending};
use super::replay::{POLL_WAIT, Reading};
use crate::config::Client;
use crate::kafka::batcher::Batcher;
use crate::kafka::client::{Clients, Connect};
use crate::kafka::reader::{Connection, backoff};
use crate::kafka::record::Feed;
use crate::kafka::source::SourceError;
use crate::kafka::status::Board;

/// Jobs that run at once: each may hold a fetch of a few MiB.
const READING: usize = 4;

/// Jobs whose records are held for readers at once, in all streams together: [`TERMS`] bytes each, so
/// 32 MiB in all.
const SEATS: usize = 8;

/// Clients of Kafka that replays and questions may have at once.
pub const CLIENTS: usize = READING + ASKING;

/// The terms of every seat of the pool. The window is a compromise: beyond a few fetches more memory
/// makes nobody faster.
const TERMS: Terms = Terms {
    window: 4 * 1024 * 1024,
    patience: Duration::from_secs(1),
};

/// Threads that ask at once. More than one, so that questions about a partition without a leader do
/// not hold up those about others.
const ASKING: usize = 2;

/// Jobs that may wait, and questions. Each stands for clients that are kept waiting, with their memory.
const MAX_WAITING: usize = 1024;

/// Failures in a row, without a record between, after which a job gives its thread to others.
const MAX_FAILURES: u32 = 6;

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
    /// For whom.
    pub flow: Flow,
    /// Topics, each with a range per partition, from 0.
    pub topics: Vec<(Arc<str>, Vec<Range>)>,
    /// Takes [`Feed::Assigned`] with the offsets at which reading really begins, records, gaps, and
    /// [`Feed::Loaded`] at the end of each topic.
    pub feed: mpsc::Sender<Feed>,
}

impl Job {
    /// How many offsets there are to be read, as far as is known beforehand.
    fn offsets(&self) -> u64 {
        let ranges = self.topics.iter().flat_map(|(_, ranges)| ranges);
        ranges
            .map(|range| u64::try_from(range.to.saturating_sub(range.from.max(0))).unwrap_or(0))
            .fold(0, u64::saturating_add)
    }
}

/// What those who hold records for readers may do with a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Most bytes held, a block more or less.
    pub window: usize,
    /// How long they may be held, or hold up the job, for readers who keep others waiting.
    pub patience: Duration,
}

/// A job's place among those whose records are held. Dropped before its turn, it takes the job out
/// of the queue.
pub struct Seat {
    terms: Terms,
    leave: Option<Box<dyn FnOnce() + Send>>,
}

impl Seat {
    /// A seat; `leave` is called when it is dropped.
    #[must_use]
    pub fn new(terms: Terms, leave: impl FnOnce() + Send + 'static) -> Self {
        Self {
            terms,
            leave: Some(Box::new(leave)),
        }
    }

    /// What may be done with it.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.terms
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Seat")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            leave();
        }
    }
}

/// What is asked of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Nothing.
    Nothing,
    /// The high watermark now: the offset of the next record.
    End,
    /// The first offset whose record is at or after this time (milliseconds since the epoch); the
    /// high watermark where there is none.
    At(i64),
}

/// Offsets by topic and partition, as they were asked for; `None` for [`Ask::Nothing`] and for
/// partitions that do not exist.
pub type Offsets = Vec<Vec<Option<i64>>>;

/// Takes the answer, on the thread that asked: it must not block.
pub type Answer = Box<dyn FnOnce(Result<Offsets, Lacking>) + Send>;

/// A question about offsets.
pub struct Question {
    /// Topics, each with what is asked of its partitions, from 0.
    pub topics: Vec<(Arc<str>, Vec<Ask>)>,
    /// Set when a thread begins to ask: who comes later must ask anew for a fresh answer. Taken back
    /// where that failed, because the next try asks anew.
    pub begun: Arc<AtomicBool>,
    /// Nobody waits any more when this has no strong reference left.
    pub wanted: Weak<()>,
    /// Called once, however long that takes; dropped without when nobody waits any more, or the pool is
    /// closed.
    pub answer: Answer,
}

impl fmt::Debug for Question {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Question")
            .field("topics", &self.topics)
            .field("begun", &self.begun)
            .finish_non_exhaustive()
    }
}

/// The client library in use cannot answer. Says what it lacks, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Lacking(pub String);

/// The work was not taken: too much waits already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WAITING} replays, or questions about offsets, wait already")]
pub struct Busy;

/// Where the past can be read.
pub trait Archive: fmt::Debug + Send + Sync {
    /// Queues a job. The seat is to be kept for as long as its records are held.
    ///
    /// # Errors
    /// [`Busy`] when too many wait already.
    fn read(&self, job: Job) -> Result<Seat, Busy>;

    /// Whether jobs wait for a thread or a seat.
    fn is_contended(&self) -> bool;

    /// Queues a question. It is asked again, with pauses, until it is answered or unwanted.
    ///
    /// # Errors
    /// [`Busy`] when too many wait already.
    fn ask(&self, question: Question) -> Result<(), Busy>;

    /// Jobs that a thread reads now, and jobs that wait for a thread or a seat.
    fn load(&self) -> (usize, usize) {
        (0, 0)
    }

    /// Whether the client library in use is known to give neither the times of records (nor offsets
    /// by time) nor their headers. False while it is not known yet.
    fn lacks_times_and_headers(&self) -> bool;
}

#[derive(Debug, Default)]
struct Queue {
    /// Jobs that wait.
    jobs: Turns<Job>,
    /// Numbers of those that have a seat.
    seated: BTreeSet<u64>,
    questions: VecDeque<Pending>,
    /// Threads that read now, and threads that ask.
    reading: usize,
    asking: usize,
    is_closed: bool,
}

/// Makes each thread a way to connect of its own.
type Connects = Box<dyn Fn() -> Box<dyn Connect> + Send + Sync>;

struct Shared {
    queue: Mutex<Queue>,
    change: Condvar,
    connects: Connects,
    /// The client library as configured.
    client: Client,
    /// What live records are read with.
    tails: Arc<Board>,
}

/// The pool. Threads start with the first work and end when the pool is closed.
pub struct History {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for History {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("History").finish_non_exhaustive()
    }
}

impl History {
    /// A pool that reads over `connection`.
    #[must_use]
    pub fn new(connection: Connection, tails: Arc<Board>) -> Self {
        let (client, followed) = (connection.client, Arc::clone(&tails));
        let connects = move || {
            Box::new(Clients::following(connection.clone(), Arc::clone(&followed))) as Box<dyn Connect>
        };
        Self::with(Box::new(connects), client, tails)
    }

    /// A pool whose threads read with whatever `connects` gives. `client` is the library as configured.
    #[must_use]
    pub fn with(connects: Connects, client: Client, tails: Arc<Board>) -> Self {
        let shared = Shared {
            queue: Mutex::default(),
            change: Condvar::new(),
            connects,
            client,
            tails,
        };
        Self {
            shared: Arc::new(shared),
            threads: Mutex::default(),
        }
    }

    /// One thread per piece of work at first, so that a daemon without replays has none.
    fn grow(&self) {
        let mut threads = self.threads.lock();
        if threads.len() < READING + ASKING {
            let shared = Arc::clone(&self.shared);
            let name = format!("kafka-history-{}", threads.len());
            match std::thread::Builder::new()
                .name(name)
                .spawn(move || work(&shared))
            {
                Ok(thread) => threads.push(thread),
                // The work waits for the threads there are, or for the next that can be had.
                Err(error) => warn!("no thread for a replay: {error}"),
            }
        }
    }

    /// Lets the threads end. Those under way end when the other side of their channel is gone.
    pub fn close(&self) -> Vec<JoinHandle<()>> {
        let mut queue = self.shared.queue();
        queue.is_closed = true;
        let unread = queue.jobs.clear();
        let unanswered = std::mem::take(&mut queue.questions);
        drop(queue);
        drop((unread, unanswered));
        self.shared.change.notify_all();
        std::mem::take(&mut *self.threads.lock())
    }
}

impl Archive for History {
    fn read(&self, job: Job) -> Result<Seat, Busy> {
        let flow = job.flow;
        let mut queue = self.shared.queue();
        let mut displaced = None;
        if queue.jobs.len() >= MAX_WAITING {
            // Its readers ask again.
            displaced = queue.jobs.displace(flow);
        }
        if queue.jobs.len() >= MAX_WAITING || queue.is_closed {
            return Err(Busy);
        }
        let offsets = job.offsets();
        let number = queue.jobs.push(flow, offsets, job);
        drop(queue);
        // Its channel is not ours: it is closed outside of the lock.
        drop(displaced);
        self.shared.change.notify_one();
        self.grow();
        let shared = Arc::clone(&self.shared);
        Ok(Seat::new(TERMS, move || shared.leave(flow, number)))
    }

    fn is_contended(&self) -> bool {
        let queue = self.shared.queue();
        !queue.jobs.is_empty() && !queue.has_room()
    }

    fn load(&self) -> (usize, usize) {
        let queue = self.shared.queue();
        (queue.reading, queue.jobs.len())
    }

    fn ask(&self, question: Question) -> Result<(), Busy> {
        let mut queue = self.shared.queue();
        let waiting = std::mem::take(&mut queue.questions);
        let (wanted, unwanted): (VecDeque<_>, VecDeque<_>) =
            waiting.into_iter().partition(Pending::is_wanted);
        queue.questions = wanted;
        let is_taken = queue.questions.len() < MAX_WAITING && !queue.is_closed;
        if is_taken {
            queue.questions.push_back(Pending::new(question));
        }
        drop(queue);
        // What an answer holds is not ours: it is let go outside of the lock.
        drop(unwanted);
        if !is_taken {
            return Err(Busy);
        }
        self.shared.change.notify_one();
        self.grow();
        Ok(())
    }

    fn lacks_times_and_headers(&self) -> bool {
        self.shared.client == Client::Kafka || self.shared.tails.reads_with(Client::Kafka)
    }
}

/// What a thread does next.
enum Work {
    Ask(Pending),
    Read(Job),
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// The next piece of work; `None` when the pool is closed.
    fn next(&self) -> Option<Work> {
        let mut queue = self.queue();
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(pending) = queue.due_question() {
                queue.asking += 1;
                return Some(Work::Ask(pending));
            }
            if queue.has_room()
                && let Some((number, job)) = queue.jobs.pop()
            {
                queue.reading += 1;
                queue.seated.insert(number);
                return Some(Work::Read(job));
            }
            match queue.next_due() {
                Some(pause) => drop(self.change.wait_for(&mut queue, pause)),
                None => self.change.wait(&mut queue),
            }
        }
    }

    /// Frees a job's seat, or takes it out of the queue.
    fn leave(&self, flow: Flow, number: u64) {
        let mut queue = self.queue();
        let job = if queue.seated.remove(&number) {
            queue.jobs.done(flow);
            None
        } else {
            queue.jobs.remove(flow, number)
        };
        drop(queue);
        drop(job);
        self.change.notify_one();
    }

    /// Asks, and goes on with the other questions that wait over the same connection. Kept for
    /// longer, that would go stale.
    fn ask(&self, connect: &mut dyn Connect, first: Pending) {
        let mut source = None;
        let mut next = Some(first);
        while let Some(pending) = next {
            let later = if pending.is_wanted() {
                match pending.ask(connect, &mut source) {
                    Outcome::Answered => None,
                    Outcome::Later(pending) => Some(pending),
                }
            } else {
                None
            };
            let mut queue = self.queue();
            if queue.is_closed {
                drop(queue);
                // What its answer holds is not ours: it is let go outside of the lock.
                drop(later);
                return;
            }
            queue.questions.extend(later);
            next = queue.next_question();
        }
    }
}

impl Queue {
    /// The first question whose time has come, if one more thread may ask.
    fn due_question(&mut self) -> Option<Pending> {
        if self.asking < ASKING {
            self.next_question()
        } else {
            None
        }
    }

    fn next_question(&mut self) -> Option<Pending> {
        let now = Instant::now();
        let index = self.questions.iter().position(|pending| pending.due <= now)?;
        self.questions.remove(index)
    }

    /// Whether there is a thread and a seat for one more job.
    fn has_room(&self) -> bool {
        self.reading < READING && self.seated.len() < SEATS
    }

    /// How long until a question is to be asked again, if one more thread may ask.
    fn next_due(&self) -> Option<Duration> {
        let due = self.questions.iter().map(|pending| pending.due).min()?;
        (self.asking < ASKING).then(|| due.saturating_duration_since(Instant::now()))
    }
}

fn work(shared: &Shared) {
    let mut connect = (shared.connects)();
    while let Some(work) = shared.next() {
        match work {
            Work::Ask(pending) => {
                shared.ask(&mut *connect, pending);
                shared.queue().asking -= 1;
            }
            Work::Read(job) => {
                read(&mut *connect, job, shared);
                shared.queue().reading -= 1;
            }
        }
    }
}

/// Reads a job to its end, or until its readers are gone or it has failed too often.
fn read(connect: &mut dyn Connect, job: Job, shared: &Shared) {
    let mut reading = Reading::new(job);
    let mut failures = 0;
    while !reading.batcher.is_closed() && !reading.is_done {
        let received = reading.batcher.received();
        // A client per job: one that rests between jobs would go on fetching, or have gone stale.
        let brokers = connect.brokers();
        let outcome = connect
            .connect()
            .and_then(|mut source| reading.read(&mut *source, &brokers));
        reading.batcher.flush();
        match outcome {
            Ok(()) => {}
            Err(error) if connect.refuse(&error) => debug!("replay: {error}: another client takes over"),
            Err(error) => {
                failures = if reading.batcher.received() > received {
                    1
                } else {
                    failures + 1
                };
                if failures > MAX_FAILURES || shared.queue().is_closed {
                    if matches!(error, SourceError::TooLarge { .. }) {
                        shared.tails.tally().count(error.kind());
                    }
                    // Its readers ask again, behind those who wait, or another pool.
                    warn!("replay: {error}; given up for now");
                    break;
                }
                debug!("replay: {error}; trying again");
                pause(&reading.batcher, backoff(failures));
            }
        }
    }
}

/// Waits, but not for a job whose readers are gone.
fn pause(batcher: &Batcher, pause: Duration) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !batcher.is_closed() {
        std::thread::sleep(POLL_WAIT.min(until.saturating_duration_since(Instant::now())));
    }
}
