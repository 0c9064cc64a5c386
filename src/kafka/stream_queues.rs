//! The queues to the streams, and backpressure.
//!
//! A stream's channel is bounded, and a stream that encodes more slowly than Kafka delivers fills it. The overflow is
//! queued here, in order and bounded by the size of one poll. Reading waits briefly for a full channel, and so adapts
//! to a stream that is slightly slower. If a stream takes nothing in that time, its topics are paused until it catches
//! up, and the streams of other topics continue. Where it holds up a stream of the same topic for too long, the reading
//! thread hands it to another one ([`Batcher::blocking`](super::batcher::Batcher::blocking)). Knows nothing of Kafka
//! clients, offsets or HTTP clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::pulse::Pulse;
use super::record::Feed;

/// Longest wait for full channels after a poll while another stream can continue. Waiting for a slightly slower stream
/// costs less than pausing its topics, whose prefetched records must be fetched again.
const WAIT: Duration = Duration::from_millis(10);

/// Longest wait while no other stream can continue.
const WAIT_ALONE: Duration = Duration::from_millis(500);

/// How often a wait checks whether the thread has a command.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// A stream counts as keeping up once its topics have not been paused for this long.
const KEEPS_UP_AFTER: Duration = Duration::from_secs(5);

/// A stream whose topics are paused for this long holds up the other streams of these topics for too long.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// The same for a stream whose topics are paused for half of this time.
const STUCK_OFTEN: Duration = Duration::from_secs(10);

/// The channel of one stream.
#[derive(Debug, Clone)]
pub struct StreamChannel {
    /// The stream's path; empty for a replay.
    pub stream: Arc<str>,
    /// The channel. Its bound causes backpressure.
    pub feed: mpsc::Sender<Feed>,
    /// Whether the stream keeps a table.
    pub has_table: bool,
}

impl From<mpsc::Sender<Feed>> for StreamChannel {
    fn from(feed: mpsc::Sender<Feed>) -> Self {
        Self {
            stream: "".into(),
            feed,
            has_table: false,
        }
    }
}

/// The batches that wait for one stream, and since when they do.
#[derive(Debug)]
pub(super) struct StreamQueue {
    channel: StreamChannel,
    overflow: VecDeque<Feed>,
    paused_since: Option<Instant>,
    /// Present while the stream does not keep up.
    slow: Option<SlowPeriod>,
}

/// A period in which a stream does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlowPeriod {
    /// When the period began.
    pub since: Instant,
    /// How often its topics were paused.
    pub times: u64,
    /// Total time its topics were paused.
    pub paused: Duration,
    resumed: Instant,
}

/// A change of a stream's backpressure. Streams are given by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowChange {
    Paused {
        queue: usize,
        /// Whether the stream kept up until now.
        is_first: bool,
    },
    /// Its topics are resumed after this time.
    Resumed(usize, Duration),
    /// It keeps up again.
    KeepsUp(usize, SlowPeriod),
}

/// The queues to all streams that one thread reads for.
#[derive(Debug, Default)]
pub(crate) struct StreamQueues {
    all: Vec<StreamQueue>,
    /// How many queues have overflow, are paused or do not keep up: usually none.
    busy: usize,
}

impl StreamQueues {
    /// Adds a channel unless it is known; returns its index.
    pub(super) fn add(&mut self, channel: StreamChannel) -> usize {
        let same = |queue: &StreamQueue| queue.channel.feed.same_channel(&channel.feed);
        if let Some(known) = self.all.iter().position(same) {
            return known;
        }
        self.all.push(StreamQueue::new(channel));
        self.all.len() - 1
    }

    pub(super) fn stream(&self, queue: usize) -> &Arc<str> {
        &self.all[queue].channel.stream
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = &Arc<str>> {
        let streams = self.all.iter().map(|queue| &queue.channel.stream);
        streams.filter(|stream| !stream.is_empty())
    }

    pub(super) fn is_closed(&self, queue: usize) -> bool {
        self.all[queue].channel.feed.is_closed()
    }

    pub(super) fn is_paused(&self, queue: usize) -> bool {
        self.all[queue].paused_since.is_some()
    }

    pub(super) fn has_table(&self, queue: usize) -> bool {
        self.all[queue].channel.has_table
    }

    /// Whether the topics of a stream that takes too little must not be paused for one that takes everything.
    pub(super) fn is_held_up_by(&self, held_up: usize, by: usize, now: Instant) -> bool {
        let (held_up, by) = (&self.all[held_up], &self.all[by]);
        let is_often = || held_up.slow.is_none() && by.is_paused_often(now);
        held_up.goes_on() && (by.is_paused_long(now) || is_often())
    }

    /// Takes a stream's queue away; nothing is sent to the stream through its index any more.
    pub(super) fn take(&mut self, queue: usize) -> StreamQueue {
        let closed = StreamQueue::new(StreamChannel {
            feed: mpsc::channel(1).0,
            ..self.all[queue].channel.clone()
        });
        let taken = std::mem::replace(&mut self.all[queue], closed);
        self.count();
        taken
    }

    /// Adds a queue that was taken away from others; returns its index.
    pub(super) fn put(&mut self, queue: StreamQueue) -> usize {
        self.all.push(queue);
        self.count();
        self.all.len() - 1
    }

    /// Adds the queues of others behind its own, in their order.
    pub(super) fn put_all(&mut self, others: Self) {
        self.all.extend(others.all);
        self.count();
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_any_paused(&self) -> bool {
        self.busy > 0 && self.all.iter().any(|queue| queue.paused_since.is_some())
    }

    /// Whether there is overflow for a stream that is not paused.
    pub(super) fn is_any_full(&self) -> bool {
        self.busy > 0 && self.full().any(|queue| queue.paused_since.is_none())
    }

    pub(super) fn slow(&self) -> impl Iterator<Item = (usize, SlowPeriod)> {
        let all = self.all.iter().enumerate().filter(|_| self.busy > 0);
        all.filter_map(|(index, queue)| Some((index, queue.slow?)))
    }

    /// Sends to a stream, or adds to its overflow. Does not wait.
    pub(super) fn send(&mut self, queue: usize, feed: Feed) {
        let queue = &mut self.all[queue];
        if !queue.overflow.is_empty() {
            queue.overflow.push_back(feed);
            return;
        }
        match queue.channel.feed.try_send(feed) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(feed)) => {
                self.busy += usize::from(!queue.is_busy());
                queue.overflow.push_back(feed);
            }
        }
    }

    /// Sends overflow until the channels are full. Does not wait.
    pub(super) fn drain(&mut self) {
        if self.busy > 0 {
            self.all.iter_mut().for_each(StreamQueue::drain);
            self.count();
        }
    }

    /// Sends all overflow, waiting for channels that are full and not closed.
    pub(super) fn drain_all(&mut self) {
        loop {
            self.drain();
            if self.full().next().is_none() {
                return;
            }
            self.wait_for_capacity(CHECK_EVERY);
        }
    }

    /// Waits briefly for full channels, then decides which topics are paused and which are resumed.
    pub(super) fn update_paused(&mut self, pulse: &Pulse) -> Vec<FlowChange> {
        self.drain();
        if self.busy == 0 {
            return Vec::new();
        }
        self.wait_for_slow(pulse);
        let now = Instant::now();
        let all = self.all.iter_mut().enumerate();
        let changes = all
            .filter_map(|(index, queue)| queue.change(index, now))
            .collect();
        self.count();
        changes
    }

    fn wait_for_slow(&mut self, pulse: &Pulse) {
        let begun = Instant::now();
        loop {
            let limit = if self.all.iter().any(StreamQueue::goes_on) {
                WAIT
            } else {
                WAIT_ALONE
            };
            let is_waited_for = |queue: &StreamQueue| queue.paused_since.is_none();
            let Some(left) = limit.checked_sub(begun.elapsed()) else {
                return;
            };
            let is_resumed = |queue: &StreamQueue| queue.paused_since.is_some() && queue.has_caught_up();
            if pulse.has_command() || self.all.iter().any(is_resumed) || !self.full().any(is_waited_for) {
                return;
            }
            pulse.beat(CHECK_EVERY);
            self.wait_for_capacity(left.min(CHECK_EVERY));
            self.drain();
        }
    }

    /// Queues with overflow.
    fn full(&self) -> impl Iterator<Item = &StreamQueue> {
        self.all.iter().filter(|queue| !queue.overflow.is_empty())
    }

    /// Waits until a full channel has capacity, or is closed.
    fn wait_for_capacity(&self, limit: Duration) {
        let begun = Instant::now();
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut permits: Vec<_> = self
            .full()
            .map(|queue| Box::pin(queue.channel.feed.reserve()))
            .collect();
        loop {
            let mut permits = permits.iter_mut();
            // The permit is released at once: `drain` acquires its own.
            if permits.any(|permit| permit.as_mut().poll(&mut context).is_ready()) {
                return;
            }
            let Some(left) = limit.checked_sub(begun.elapsed()) else {
                return;
            };
            std::thread::park_timeout(left);
        }
    }

    fn count(&mut self) {
        self.busy = self.all.iter().filter(|queue| queue.is_busy()).count();
    }
}

impl StreamQueue {
    const fn new(channel: StreamChannel) -> Self {
        Self {
            channel,
            overflow: VecDeque::new(),
            paused_since: None,
            slow: None,
        }
    }

    fn is_busy(&self) -> bool {
        !self.overflow.is_empty() || self.paused_since.is_some() || self.slow.is_some()
    }

    /// Whether its topics are read, and its channel has capacity.
    fn goes_on(&self) -> bool {
        self.paused_since.is_none() && self.overflow.is_empty() && !self.channel.feed.is_closed()
    }

    fn paused(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.paused_since?))
    }

    fn is_paused_long(&self, now: Instant) -> bool {
        self.paused(now).is_some_and(|paused| paused >= STUCK_AFTER)
    }

    fn is_paused_often(&self, now: Instant) -> bool {
        let (Some(paused), Some(slow)) = (self.paused(now), self.slow) else {
            return false;
        };
        let period = now.saturating_duration_since(slow.since);
        period >= STUCK_OFTEN && (slow.paused + paused) * 2 >= period
    }

    fn drain(&mut self) {
        while let Some(feed) = self.overflow.pop_front() {
            match self.channel.feed.try_send(feed) {
                Ok(()) => {}
                Err(TrySendError::Full(feed)) => {
                    self.overflow.push_front(feed);
                    return;
                }
                Err(TrySendError::Closed(_)) => self.overflow.clear(),
            }
        }
    }

    fn has_caught_up(&self) -> bool {
        let feed = &self.channel.feed;
        feed.is_closed() || (self.overflow.is_empty() && feed.capacity() * 2 >= feed.max_capacity())
    }

    fn change(&mut self, queue: usize, now: Instant) -> Option<FlowChange> {
        if let Some(since) = self.paused_since {
            if !self.has_caught_up() {
                return None;
            }
            self.paused_since = None;
            let paused = now.saturating_duration_since(since);
            if let Some(slow) = &mut self.slow {
                slow.paused += paused;
                slow.resumed = now;
            }
            return Some(FlowChange::Resumed(queue, paused));
        }
        if !self.overflow.is_empty() {
            self.paused_since = Some(now);
            let is_first = self.slow.is_none();
            let slow = self.slow.get_or_insert(SlowPeriod {
                since: now,
                times: 0,
                paused: Duration::ZERO,
                resumed: now,
            });
            slow.times += 1;
            return Some(FlowChange::Paused { queue, is_first });
        }
        let slow = self.slow?;
        let is_calm = now.saturating_duration_since(slow.resumed) >= KEEPS_UP_AFTER;
        is_calm.then(|| {
            self.slow = None;
            FlowChange::KeepsUp(queue, slow)
        })
    }
}

/// Wakes the thread that waits for capacity.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_keeps_up_again_after_five_seconds_without_a_pause() {
        let (feed, mut feeds) = mpsc::channel(1);
        let mut queue = StreamQueue::new(StreamChannel {
            stream: "/orders".into(),
            feed,
            has_table: false,
        });
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let loaded = || Feed::Loaded {
            topic: "orders".into(),
        };
        queue.overflow.push_back(loaded());
        let paused = queue.change(0, at(0));
        assert_eq!(
            paused,
            Some(FlowChange::Paused {
                queue: 0,
                is_first: true
            })
        );
        queue.overflow.clear();
        assert_eq!(
            queue.change(0, at(2_000)),
            Some(FlowChange::Resumed(0, Duration::from_secs(2)))
        );

        // Another pause: the five seconds begin again when it ends.
        queue.overflow.push_back(loaded());
        let again = queue.change(0, at(6_000));
        assert_eq!(
            again,
            Some(FlowChange::Paused {
                queue: 0,
                is_first: false
            })
        );
        queue.overflow.clear();
        assert!(matches!(
            queue.change(0, at(7_000)),
            Some(FlowChange::Resumed(..))
        ));
        assert_eq!(queue.change(0, at(11_999)), None);
        let Some(FlowChange::KeepsUp(0, slow)) = queue.change(0, at(12_000)) else {
            panic!("it does not keep up");
        };
        assert_eq!((slow.times, slow.paused), (2, Duration::from_secs(3)));
        assert_eq!(queue.change(0, at(60_000)), None, "said once");
        assert!(feeds.try_recv().is_err());
    }
}
