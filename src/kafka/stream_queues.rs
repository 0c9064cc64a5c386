//! Where batches go: the channels of the streams, what found no place in them, and who is waited for.
//!
//! A channel is bounded, and a stream that encodes more slowly than Kafka delivers fills it. What it has no place for
//! waits here, in order and bounded by what one poll brings. A stream that takes a batch within a moment is waited
//! for, so that reading slows down to its pace; one that does not is held: its topics are not read until it has
//! caught up, and the other streams go on. Knows nothing of sources, offsets or clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::pulse::Pulse;
use super::record::Feed;

/// How long all streams are waited for after a poll while another one could go on: reading in step with a stream that
/// is a little slower costs less than stopping its topics, whose records that were read ahead are fetched again.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long they are waited for while no other could go on.
const PATIENCE_ALONE: Duration = Duration::from_millis(500);

/// How often is looked whether there is something else to do, while streams are waited for.
const LOOK: Duration = Duration::from_millis(100);

/// A stream that was not held for so long keeps up again.
const CALM: Duration = Duration::from_secs(5);

/// The channel of one stream.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// The stream's path; empty where nobody asks for it.
    pub stream: Arc<str>,
    /// The channel. Its bound is the back-pressure.
    pub feed: mpsc::Sender<Feed>,
    /// Whether the stream keeps a table.
    pub has_table: bool,
}

impl From<mpsc::Sender<Feed>> for Recipient {
    fn from(feed: mpsc::Sender<Feed>) -> Self {
        Self {
            stream: "".into(),
            feed,
            has_table: false,
        }
    }
}

/// One of them, and how it gets on.
#[derive(Debug)]
struct Outlet {
    recipient: Recipient,
    /// What found no place in the channel.
    waiting: VecDeque<Feed>,
    /// Since when the stream's topics are not read.
    held: Option<Instant>,
    /// While it does not keep up: since when, how often it was held, and how long in all.
    slow: Option<Slow>,
}

/// How a stream has not kept up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// Since when.
    pub since: Instant,
    /// How often its topics were paused.
    pub times: u64,
    /// For how long in all.
    pub paused: Duration,
    /// When they were read again.
    resumed: Instant,
}

/// What has become of a stream, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Its topics are not read from now on. The first time since it kept up?
    Held {
        /// The stream.
        outlet: usize,
        /// Whether it kept up before.
        is_first: bool,
    },
    /// Its topics are read again, after so long.
    Resumed(usize, Duration),
    /// It keeps up again, after it did not in this way.
    KeepsUp(usize, Slow),
}

/// The channels of all streams that one thread reads for.
#[derive(Debug, Default)]
pub struct Outlets {
    all: Vec<Outlet>,
    /// How many have something waiting, are held or have not kept up: usually none.
    busy: usize,
}

impl Outlets {
    /// The index of this recipient, which is a new one where its channel is.
    pub(super) fn add(&mut self, recipient: Recipient) -> usize {
        let same = |outlet: &Outlet| outlet.recipient.feed.same_channel(&recipient.feed);
        if let Some(known) = self.all.iter().position(same) {
            return known;
        }
        self.all.push(Outlet {
            recipient,
            waiting: VecDeque::new(),
            held: None,
            slow: None,
        });
        self.all.len() - 1
    }

    /// The path of a stream.
    pub(super) fn stream(&self, outlet: usize) -> &Arc<str> {
        &self.all[outlet].recipient.stream
    }

    /// The paths of all of them that have one.
    pub(super) fn streams(&self) -> impl Iterator<Item = &Arc<str>> {
        let streams = self.all.iter().map(|outlet| &outlet.recipient.stream);
        streams.filter(|stream| !stream.is_empty())
    }

    /// Whether nobody listens there any more.
    pub(super) fn is_closed(&self, outlet: usize) -> bool {
        self.all[outlet].recipient.feed.is_closed()
    }

    /// Whether the topics of a stream are not read.
    pub(super) fn is_held(&self, outlet: usize) -> bool {
        self.all[outlet].held.is_some()
    }

    /// Whether those of any are not.
    pub(super) fn is_any_held(&self) -> bool {
        self.busy > 0 && self.all.iter().any(|outlet| outlet.held.is_some())
    }

    /// Whether something has found no place in the channel of a stream that is not held.
    pub(super) fn is_any_full(&self) -> bool {
        self.busy > 0 && self.full().any(|outlet| outlet.held.is_none())
    }

    /// Streams that do not keep up, and in what way.
    pub(super) fn slow(&self) -> impl Iterator<Item = (usize, Slow)> {
        let all = self.all.iter().enumerate().filter(|_| self.busy > 0);
        all.filter_map(|(index, outlet)| Some((index, outlet.slow?)))
    }

    /// Hands this to a stream, or keeps it until there is a place for it. Does not wait.
    pub(super) fn send(&mut self, outlet: usize, feed: Feed) {
        let outlet = &mut self.all[outlet];
        if !outlet.waiting.is_empty() {
            outlet.waiting.push_back(feed);
            return;
        }
        match outlet.recipient.feed.try_send(feed) {
            // Nobody listens there any more.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(feed)) => {
                self.busy += usize::from(!outlet.is_busy());
                outlet.waiting.push_back(feed);
            }
        }
    }

    /// Hands on what has waited. Does not wait.
    pub(super) fn drain(&mut self) {
        if self.busy > 0 {
            self.all.iter_mut().for_each(Outlet::drain);
            self.count();
        }
    }

    /// Hands on all that has waited, however long that takes, unless nobody listens any more.
    pub(super) fn drain_all(&mut self) {
        loop {
            self.drain();
            if self.full().next().is_none() {
                return;
            }
            self.wait_for_room(LOOK);
        }
    }

    /// Waits a moment for streams that have no place, and decides whose topics are to be paused and whose are to be
    /// read again.
    pub(super) fn settle(&mut self, pulse: &Pulse) -> Vec<Change> {
        self.drain();
        if self.busy == 0 {
            return Vec::new();
        }
        self.wait_for_slow(pulse);
        let now = Instant::now();
        let all = self.all.iter_mut().enumerate();
        let changes = all
            .filter_map(|(index, outlet)| outlet.change(index, now))
            .collect();
        self.count();
        changes
    }

    fn wait_for_slow(&mut self, pulse: &Pulse) {
        let begun = Instant::now();
        loop {
            let patience = if self.all.iter().any(Outlet::goes_on) {
                PATIENCE
            } else {
                PATIENCE_ALONE
            };
            let is_waited_for = |outlet: &Outlet| outlet.held.is_none();
            let Some(left) = patience.checked_sub(begun.elapsed()) else {
                return;
            };
            let is_resumed = |outlet: &Outlet| outlet.held.is_some() && outlet.has_caught_up();
            if pulse.is_called() || self.all.iter().any(is_resumed) || !self.full().any(is_waited_for) {
                return;
            }
            pulse.beat(LOOK);
            self.wait_for_room(left.min(LOOK));
            self.drain();
        }
    }

    /// Streams that have something waiting.
    fn full(&self) -> impl Iterator<Item = &Outlet> {
        self.all.iter().filter(|outlet| !outlet.waiting.is_empty())
    }

    /// Waits until one of the streams that have something waiting takes more, or has ended.
    fn wait_for_room(&self, limit: Duration) {
        let begun = Instant::now();
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut rooms: Vec<_> = self
            .full()
            .map(|outlet| Box::pin(outlet.recipient.feed.reserve()))
            .collect();
        loop {
            let mut rooms = rooms.iter_mut();
            // The place is given back, and taken when what waits is handed on.
            if rooms.any(|room| room.as_mut().poll(&mut context).is_ready()) {
                return;
            }
            let Some(left) = limit.checked_sub(begun.elapsed()) else {
                return;
            };
            std::thread::park_timeout(left);
        }
    }

    fn count(&mut self) {
        self.busy = self.all.iter().filter(|outlet| outlet.is_busy()).count();
    }
}

impl Outlet {
    fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || self.held.is_some() || self.slow.is_some()
    }

    /// Whether its topics are read, and what they bring finds a place.
    fn goes_on(&self) -> bool {
        self.held.is_none() && self.waiting.is_empty() && !self.recipient.feed.is_closed()
    }

    fn drain(&mut self) {
        while let Some(feed) = self.waiting.pop_front() {
            match self.recipient.feed.try_send(feed) {
                Ok(()) => {}
                Err(TrySendError::Full(feed)) => {
                    self.waiting.push_front(feed);
                    return;
                }
                Err(TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
    }

    /// Whether there is place for so much that it is worth reading again.
    fn has_caught_up(&self) -> bool {
        let feed = &self.recipient.feed;
        feed.is_closed() || (self.waiting.is_empty() && feed.capacity() * 2 >= feed.max_capacity())
    }

    fn change(&mut self, outlet: usize, now: Instant) -> Option<Change> {
        if let Some(since) = self.held {
            if !self.has_caught_up() {
                return None;
            }
            self.held = None;
            let paused = now.saturating_duration_since(since);
            if let Some(slow) = &mut self.slow {
                slow.paused += paused;
                slow.resumed = now;
            }
            return Some(Change::Resumed(outlet, paused));
        }
        if !self.waiting.is_empty() {
            self.held = Some(now);
            let is_first = self.slow.is_none();
            let slow = self.slow.get_or_insert(Slow {
                since: now,
                times: 0,
                paused: Duration::ZERO,
                resumed: now,
            });
            slow.times += 1;
            return Some(Change::Held { outlet, is_first });
        }
        let slow = self.slow?;
        let is_calm = now.saturating_duration_since(slow.resumed) >= CALM;
        is_calm.then(|| {
            self.slow = None;
            Change::KeepsUp(outlet, slow)
        })
    }
}

/// Wakes the thread that waits for room.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
