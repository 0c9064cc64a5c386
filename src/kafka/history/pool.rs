//! The pool: queues replays and offset lookups, and runs them on a bounded number of threads with their own
//! connections.
//!
//! A replay sends records in partition order over a bounded channel, so it goes no faster than its readers; it ends
//! when they close the channel. It occupies one of [`SLOTS`] from its start until its readers have the records and drop
//! its [`ReplaySlot`]: that bounds the records that all replays buffer. Replays without a thread or a slot wait in
//! a [`FairQueue`], and [`Archive::is_contended`] reports that.
//!
//! Replays also wait there while the [`ReplayQuota`] of their flow, or that of all, is used up; one that is running ends
//! its turn, and its readers queue another. Threads and slots are free for the others meanwhile.
//!
//! Lookups are short. At most [`REPLAY_THREADS`] threads run replays and at most [`LOOKUP_THREADS`] run lookups, so that
//! neither waits for the other.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{info, warn};
use parking_lot::{Condvar, Mutex};

use super::fair_queue::{FairQueue, Flow};
use super::lookup::PendingLookup;
use super::quota::{Held, ReplayQuota};
use super::replay;
use super::request::{
    Archive, Busy, MAX_WAITING, OffsetLookup, Payer, ReplayLoad, ReplayRequest, ReplaySlot, SlotLimits,
};
use crate::config::Client;
use crate::kafka::client::{Clients, Connect, HANDLES};
use crate::kafka::connection::Connection;
use crate::kafka::status::KafkaStatus;
use crate::logging::Seldom;

/// Replays that run at once: each may hold a fetch of a few MiB.
const REPLAY_THREADS: usize = 4;

/// Replays of all streams whose records are buffered at once: up to [`LIMITS`] each, so 16 MiB in all.
const SLOTS: usize = 8;

/// Handles of Kafka clients that replays and lookups may have at once. A lookup needs no consumer.
pub const MAX_HANDLES: usize = HANDLES * REPLAY_THREADS + LOOKUP_THREADS;

/// The limits of every slot. More memory than two fetches makes no reader faster.
const LIMITS: SlotLimits = SlotLimits {
    max_bytes: 2 * 1024 * 1024,
    slow_reader_timeout: Duration::from_secs(1),
};

/// Threads that run lookups. More than one, so that a partition without a leader does not delay lookups of others.
const LOOKUP_THREADS: usize = 2;

/// Shortest time between two log lines about a quota that is used up, which it may be all the time.
const LOG_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Queue {
    replays: FairQueue<ReplayRequest>,
    /// Numbers of the replays that occupy a slot.
    occupied: BTreeSet<u64>,
    lookups: VecDeque<PendingLookup>,
    replaying: usize,
    looking_up: usize,
    is_closed: bool,
}

type Connects = Box<dyn Fn() -> Box<dyn Connect> + Send + Sync>;

struct Shared {
    queue: Mutex<Queue>,
    change: Condvar,
    connects: Connects,
    /// The client library as configured.
    client: Client,
    /// The status of the reading threads, which choose the client library and count errors.
    board: Arc<KafkaStatus>,
    quota: Arc<ReplayQuota>,
    /// For quotas of flows, and for that of all. Locked for a log line, and by nothing else.
    logs: [Mutex<Seldom>; 2],
}

/// The pool. Threads start with the first request and end when the pool is closed.
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
    /// A pool that reads over `connection`, within `quota`.
    pub fn new(connection: Connection, board: Arc<KafkaStatus>, quota: Arc<ReplayQuota>) -> Self {
        let (client, followed) = (connection.client, Arc::clone(&board));
        let connects = move || {
            Box::new(Clients::following(connection.clone(), Arc::clone(&followed))) as Box<dyn Connect>
        };
        Self::with(Box::new(connects), client, board, quota)
    }

    /// A pool whose threads connect by `connects`. `client` is the library as configured.
    pub fn with(
        connects: Connects,
        client: Client,
        board: Arc<KafkaStatus>,
        quota: Arc<ReplayQuota>,
    ) -> Self {
        let shared = Shared {
            queue: Mutex::default(),
            change: Condvar::new(),
            connects,
            client,
            board,
            quota,
            logs: [const { Mutex::new(Seldom::new(LOG_EVERY)) }; 2],
        };
        Self {
            shared: Arc::new(shared),
            threads: Mutex::default(),
        }
    }

    /// Starts one more thread, up to the bound: a daemon without replays has none.
    fn grow(&self) {
        let mut threads = self.threads.lock();
        if threads.len() < REPLAY_THREADS + LOOKUP_THREADS {
            let shared = Arc::clone(&self.shared);
            let name = format!("kafka-history-{}", threads.len());
            match std::thread::Builder::new()
                .name(name)
                .spawn(move || shared.work())
            {
                Ok(thread) => threads.push(thread),
                // The request waits for a running thread, or for the next one that starts.
                Err(error) => warn!("cannot start a thread for replays: {error}"),
            }
        }
    }

    /// Has the threads look again which replays may begin: the quota has changed.
    pub fn quota_changed(&self) {
        // Under the lock, so that a thread that has just looked waits already.
        let queue = self.shared.queue.lock();
        self.shared.change.notify_all();
        drop(queue);
    }

    /// Closes the pool: its threads end after their current work, and running replays end when their channels are
    /// closed.
    pub fn close(&self) -> Vec<JoinHandle<()>> {
        let mut queue = self.shared.queue.lock();
        queue.is_closed = true;
        let replays = queue.replays.clear();
        let lookups = std::mem::take(&mut queue.lookups);
        drop(queue);
        drop((replays, lookups));
        self.shared.change.notify_all();
        std::mem::take(&mut *self.threads.lock())
    }
}

impl Archive for History {
    fn replay(&self, request: ReplayRequest) -> Result<ReplaySlot, Busy> {
        let flow = request.flow;
        let mut queue = self.shared.queue.lock();
        let mut displaced = None;
        if queue.replays.len() >= MAX_WAITING {
            let now = Instant::now();
            let is_held = |flow| self.shared.quota.held(flow, now) == Some(Held::Flow);
            // Its readers queue another replay.
            displaced = queue.replays.displace(flow, is_held);
        }
        if queue.replays.len() >= MAX_WAITING || queue.is_closed {
            return Err(Busy);
        }
        let offsets = request.offsets();
        let number = queue.replays.push(flow, offsets, request);
        drop(queue);
        // Outside the lock: closing its channel runs foreign code.
        drop(displaced);
        self.shared.change.notify_one();
        self.grow();
        let shared = Arc::clone(&self.shared);
        Ok(ReplaySlot::new(LIMITS, move || shared.release(flow, number)))
    }

    fn is_contended(&self) -> bool {
        let queue = self.shared.queue.lock();
        if queue.replays.is_empty() || queue.has_capacity() {
            return false;
        }
        let now = Instant::now();
        let mut waiting = queue.replays.waiting();
        waiting.any(|(flow, _)| self.shared.quota.held(flow, now).is_none())
    }

    fn is_over_quota(&self, flow: Flow) -> bool {
        self.shared.quota.held(flow, Instant::now()) == Some(Held::Flow)
    }

    fn load(&self) -> ReplayLoad {
        let queue = self.shared.queue.lock();
        let now = Instant::now();
        let mut load = ReplayLoad {
            running: queue.replaying,
            ..ReplayLoad::default()
        };
        for (flow, count) in queue.replays.waiting() {
            *match self.shared.quota.held(flow, now) {
                None => &mut load.waiting,
                Some(Held::Flow) => &mut load.over_flow_quota,
                Some(Held::All) => &mut load.over_quota_of_all,
            } += count;
        }
        load
    }

    fn look_up(&self, lookup: OffsetLookup) -> Result<(), Busy> {
        let mut queue = self.shared.queue.lock();
        let waiting = std::mem::take(&mut queue.lookups);
        let (wanted, unwanted): (VecDeque<_>, VecDeque<_>) =
            waiting.into_iter().partition(PendingLookup::is_wanted);
        queue.lookups = wanted;
        let is_taken = queue.lookups.len() < MAX_WAITING && !queue.is_closed;
        if is_taken {
            queue.lookups.push_back(PendingLookup::new(lookup));
        }
        drop(queue);
        // Outside the lock: dropping a reply runs foreign code.
        drop(unwanted);
        if !is_taken {
            return Err(Busy);
        }
        self.shared.change.notify_one();
        self.grow();
        Ok(())
    }

    fn lacks_times_and_headers(&self) -> bool {
        self.shared.client == Client::Kafka || self.shared.board.reads_with(Client::Kafka)
    }
}

enum Work {
    LookUp(PendingLookup),
    Replay(ReplayRequest),
}

impl Shared {
    fn work(&self) {
        let mut connect = (self.connects)();
        while let Some(work) = self.next() {
            match work {
                Work::LookUp(lookup) => {
                    self.look_up(&mut *connect, lookup);
                    self.queue.lock().looking_up -= 1;
                }
                Work::Replay(request) => {
                    replay::run(
                        request,
                        &mut *connect,
                        self.board.counters(),
                        || self.queue.lock().is_closed,
                        |payer, bytes| self.charge(payer, bytes),
                    );
                    self.queue.lock().replaying -= 1;
                }
            }
        }
    }

    /// Waits for work; `None` when the pool is closed.
    fn next(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            if queue.looking_up < LOOKUP_THREADS
                && let Some(lookup) = queue.due_lookup()
            {
                queue.looking_up += 1;
                self.pass_on(&queue);
                return Some(Work::LookUp(lookup));
            }
            let now = Instant::now();
            if queue.has_capacity()
                && let Some((number, request)) =
                    queue.replays.pop(|flow| self.quota.held(flow, now).is_none())
            {
                queue.replaying += 1;
                queue.occupied.insert(number);
                self.pass_on(&queue);
                return Some(Work::Replay(request));
            }
            let pauses = [queue.until_next_lookup(), self.until_quota_opens(&queue, now)];
            match pauses.into_iter().flatten().min() {
                Some(pause) => drop(self.change.wait_for(&mut queue, pause)),
                None => self.change.wait(&mut queue),
            }
        }
    }

    /// Has another thread look after what still waits, perhaps for a time: this one is busy from now on.
    fn pass_on(&self, queue: &Queue) {
        if !queue.replays.is_empty() || !queue.lookups.is_empty() {
            self.change.notify_one();
        }
    }

    /// How long until a waiting replay may begin, if only a quota holds it.
    fn until_quota_opens(&self, queue: &Queue, now: Instant) -> Option<Duration> {
        if !queue.has_capacity() {
            return None;
        }
        let waiting = queue.replays.waiting();
        let opens_at = waiting.map(|(flow, _)| self.quota.opens_at(flow, now)).min()?;
        Some(opens_at.saturating_duration_since(now))
    }

    /// Takes the bytes that a replay has read from its payer's quota; returns whether it may read more.
    fn charge(&self, payer: &Payer, bytes: u64) -> bool {
        let flow = payer.flow();
        let charge = self.quota.charge(flow, bytes, Instant::now());
        let [of_flows, of_all] = &self.logs;
        if charge.closes_flow {
            if let Some(held_back) = of_flows.lock().admit() {
                info!("a client has used up its quota of replays; its next ones wait{held_back}");
            }
            // Readers of other flows do not wait with it, they queue replays of their own.
            let shared = self
                .queue
                .lock()
                .replays
                .extract(flow, |request| request.payer.has_others());
            // Outside the lock: closing its channel runs foreign code.
            drop(shared);
        }
        if charge.closes_all
            && let Some(held_back) = of_all.lock().admit()
        {
            info!("the quota of all replays is used up; they wait for a moment{held_back}");
        }
        charge.held.is_none()
    }

    /// Frees a replay's slot, or removes the replay from the queue.
    fn release(&self, flow: Flow, number: u64) {
        let mut queue = self.queue.lock();
        let request = if queue.occupied.remove(&number) {
            queue.replays.done(flow);
            None
        } else {
            queue.replays.remove(flow, number)
        };
        drop(queue);
        drop(request);
        self.change.notify_one();
    }

    /// Runs a lookup, then the others that are due, over the same connection. A connection kept for later lookups would
    /// become stale.
    fn look_up(&self, connect: &mut dyn Connect, first: PendingLookup) {
        let mut admin = None;
        let mut next = Some(first);
        while let Some(lookup) = next {
            let again = if lookup.is_wanted() {
                lookup.attempt(connect, &mut admin)
            } else {
                None
            };
            let mut queue = self.queue.lock();
            if queue.is_closed {
                drop(queue);
                // Outside the lock: dropping a reply runs foreign code.
                drop(again);
                return;
            }
            queue.lookups.extend(again);
            next = queue.due_lookup();
        }
    }
}

impl Queue {
    fn due_lookup(&mut self) -> Option<PendingLookup> {
        let now = Instant::now();
        let index = self.lookups.iter().position(|lookup| lookup.due <= now)?;
        self.lookups.remove(index)
    }

    fn has_capacity(&self) -> bool {
        self.replaying < REPLAY_THREADS && self.occupied.len() < SLOTS
    }

    /// How long until a lookup is due, if one more thread may run it.
    fn until_next_lookup(&self) -> Option<Duration> {
        let due = self.lookups.iter().map(|lookup| lookup.due).min()?;
        (self.looking_up < LOOKUP_THREADS).then(|| due.saturating_duration_since(Instant::now()))
    }
}
