//! The replay quota: how many bytes of records replays may read from Kafka in a minute, per flow and in all.
//!
//! Each quota is a bucket that holds a minute's bytes and fills within a minute. How much a read returns is known only
//! afterwards, so it is taken then, and a bucket may come to owe some. An empty bucket closes, and opens again once it has
//! enough for a turn: no turn begins while it is closed, and one that is under way ends. Nothing fails by it.
//!
//! The time is passed in; no threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::fair_queue::Flow;
use crate::config::HttpSettings;

/// The time that a quota is for.
const WINDOW: Duration = Duration::from_secs(60);

/// How long an empty bucket fills before it opens. Each turn connects to Kafka, so those of one flow are few; where all
/// wait, nobody should wait for long.
const FLOW_PAUSE: Duration = Duration::from_secs(6);
const PAUSE_OF_ALL: Duration = Duration::from_secs(1);

/// The least bytes to open for: fewer are not worth connecting to Kafka.
const LEAST_TURN: u64 = 4 * 1024 * 1024;

/// Capacity for this many flows is never freed.
const LEAST_ROOM: usize = 64;

/// Bytes that replays may read from Kafka in a minute; 0 is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// All replays together.
    pub in_all: u64,
    /// The replays of one flow.
    pub per_flow: u64,
}

impl From<&HttpSettings> for QuotaLimits {
    fn from(http: &HttpSettings) -> Self {
        Self {
            in_all: http.max_replay_bytes_per_minute.0,
            per_flow: http.max_replay_bytes_per_minute_per_client.0,
        }
    }
}

/// The quota that a replay waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// That of its flow.
    Flow,
    /// That of all.
    All,
}

/// The outcome of taking bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Charge {
    /// The quota for which the turn ends, if it does.
    pub held: Option<Held>,
    /// Whether the quota of the flow has been used up by it.
    pub closes_flow: bool,
    /// Whether the quota of all has been used up by it.
    pub closes_all: bool,
}

/// The quotas of all flows, shared by the pools that read for them one after the other.
#[derive(Debug, Default)]
pub struct ReplayQuota {
    buckets: Mutex<Buckets>,
    read: AtomicU64,
    flows_closed: AtomicU64,
    all_closed: AtomicU64,
}

impl ReplayQuota {
    /// Full buckets of this size.
    pub fn new(limits: QuotaLimits) -> Self {
        let quota = Self::default();
        quota.set(limits);
        quota
    }

    /// Changes the limits. Buckets whose limit has changed are full again; whoever holds a pool wakes its threads.
    pub fn set(&self, limits: QuotaLimits) {
        let mut buckets = self.buckets.lock();
        if buckets.limits.in_all != limits.in_all {
            buckets.in_all = Bucket::default();
        }
        if buckets.limits.per_flow != limits.per_flow {
            buckets.flows = HashMap::new();
        }
        buckets.limits = limits;
    }

    /// Takes the bytes that a replay of this flow has read.
    pub fn charge(&self, flow: Flow, bytes: u64, now: Instant) -> Charge {
        self.read.fetch_add(bytes, Ordering::Relaxed);
        let charge = self.buckets.lock().charge(flow, bytes, now);
        let count =
            |counter: &AtomicU64, closes: bool| counter.fetch_add(u64::from(closes), Ordering::Relaxed);
        count(&self.flows_closed, charge.closes_flow);
        count(&self.all_closed, charge.closes_all);
        charge
    }

    /// The quota that a replay of this flow would wait for.
    pub fn held(&self, flow: Flow, now: Instant) -> Option<Held> {
        self.buckets.lock().held(flow, now)
    }

    /// When a replay of this flow may begin; `now` or earlier if it may already.
    pub(crate) fn opens_at(&self, flow: Flow, now: Instant) -> Instant {
        self.buckets.lock().opens_at(flow, now)
    }

    /// Bytes that replays have read since the start.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// How often the quota of a flow, and how often that of all, was used up since the start.
    pub fn times_closed(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.flows_closed), load(&self.all_closed))
    }
}

#[derive(Debug, Default)]
struct Buckets {
    limits: QuotaLimits,
    in_all: Bucket,
    /// Those that are not full.
    flows: HashMap<Flow, Bucket>,
    swept_at: Option<Instant>,
}

impl Buckets {
    fn charge(&mut self, flow: Flow, bytes: u64, now: Instant) -> Charge {
        let QuotaLimits { in_all, per_flow } = self.limits;
        let closes_all = in_all > 0 && self.in_all.take(bytes, in_all, PAUSE_OF_ALL, now);
        let mut closes_flow = false;
        if per_flow > 0 && bytes > 0 {
            let bucket = self.flows.entry(flow).or_default();
            closes_flow = bucket.take(bytes, per_flow, FLOW_PAUSE, now);
            self.sweep(now);
        }
        Charge {
            held: self.held(flow, now),
            closes_flow,
            closes_all,
        }
    }

    fn held(&self, flow: Flow, now: Instant) -> Option<Held> {
        let is_flow_closed = self.flows.get(&flow).is_some_and(|bucket| bucket.is_closed(now));
        if is_flow_closed {
            Some(Held::Flow)
        } else {
            self.in_all.is_closed(now).then_some(Held::All)
        }
    }

    fn opens_at(&self, flow: Flow, now: Instant) -> Instant {
        let of_flow = self.flows.get(&flow).and_then(|bucket| bucket.opens_at);
        of_flow
            .into_iter()
            .chain(self.in_all.opens_at)
            .fold(now, Instant::max)
    }

    /// Forgets buckets that are full again.
    fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_some_and(|before| now - before < WINDOW) {
            return;
        }
        self.swept_at = Some(now);
        self.flows.retain(|_, bucket| !bucket.is_full(now));
        let wanted = self.flows.len() + LEAST_ROOM;
        if self.flows.capacity() / 4 > wanted {
            self.flows.shrink_to(wanted * 2);
        }
    }
}

/// A bucket of bytes, as the time at which it will be full again (the generic cell rate algorithm).
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    full_at: Option<Instant>,
    /// Closed until then.
    opens_at: Option<Instant>,
}

impl Bucket {
    /// Takes bytes out; returns whether that closes it. An empty one opens once it has filled for `pause`.
    fn take(&mut self, bytes: u64, limit: u64, pause: Duration, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + time_of(bytes, limit);
        self.full_at = Some(full_at);
        if full_at - now < WINDOW {
            return false;
        }
        let was_closed = self.is_closed(now);
        let pause = pause.max(time_of(LEAST_TURN, limit)).min(WINDOW);
        self.opens_at = full_at.checked_sub(WINDOW.saturating_sub(pause));
        !was_closed
    }

    fn is_closed(&self, now: Instant) -> bool {
        self.opens_at.is_some_and(|opens_at| now < opens_at)
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }
}

/// How long so many bytes take to fill again.
fn time_of(bytes: u64, limit: u64) -> Duration {
    let nanos = u128::from(bytes) * WINDOW.as_nanos() / u128::from(limit);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const ONE: Flow = Flow(1);
    const OTHER: Flow = Flow(2);

    fn per_flow(bytes: u64) -> ReplayQuota {
        ReplayQuota::new(QuotaLimits {
            per_flow: bytes,
            in_all: 0,
        })
    }

    #[test]
    fn a_flow_over_its_quota_waits_and_others_do_not() {
        let (quota, now) = (per_flow(60 * MIB), Instant::now());
        assert_eq!(quota.charge(ONE, 59 * MIB, now), Charge::default());
        let charge = quota.charge(ONE, MIB, now);
        assert_eq!((charge.held, charge.closes_flow), (Some(Held::Flow), true));
        assert_eq!(quota.held(OTHER, now), None);
        // Another replay of the flow, which is under way.
        let charge = quota.charge(ONE, 0, now);
        assert_eq!((charge.held, charge.closes_flow), (Some(Held::Flow), false));
        let just_before = now + FLOW_PAUSE.saturating_sub(Duration::from_millis(1));
        assert_eq!(quota.held(ONE, just_before), Some(Held::Flow));
        assert_eq!(quota.opens_at(ONE, now), now + FLOW_PAUSE);
        let opened = now + FLOW_PAUSE;
        assert_eq!(quota.held(ONE, opened), None);
        // As much as has come back since.
        assert_eq!(quota.charge(ONE, 5 * MIB, opened).held, None);
        assert_eq!(quota.charge(ONE, MIB, opened).held, Some(Held::Flow));
        assert_eq!(quota.times_closed(), (2, 0));
        assert_eq!(quota.read(), 66 * MIB);
    }

    #[test]
    fn bytes_beyond_the_quota_are_waited_for() {
        let (quota, now) = (per_flow(60 * MIB), Instant::now());
        assert_eq!(quota.charge(ONE, 90 * MIB, now).held, Some(Held::Flow));
        assert_eq!(
            quota.opens_at(ONE, now),
            now + Duration::from_secs(30) + FLOW_PAUSE
        );
    }

    #[test]
    fn over_any_time_no_more_than_the_quota_is_read() {
        let (quota, start) = (per_flow(60 * MIB), Instant::now());
        let (mut now, mut read) = (start, 0);
        while now < start + 10 * WINDOW {
            while quota.held(ONE, now).is_none() {
                quota.charge(ONE, MIB, now);
                read += 1;
            }
            now = quota.opens_at(ONE, now);
        }
        // The first minute's bytes are there at once.
        let most = 60 * 11;
        assert!((most - 12..=most).contains(&read), "{read} MiB in ten minutes");
    }

    #[test]
    fn small_quotas_open_for_a_turn_that_is_worth_it() {
        let (quota, now) = (per_flow(8 * MIB), Instant::now());
        quota.charge(ONE, 8 * MIB, now);
        assert_eq!(quota.opens_at(ONE, now), now + WINDOW / 2, "4 MiB");
        let (quota, now) = (per_flow(MIB), Instant::now());
        quota.charge(ONE, MIB, now);
        assert_eq!(quota.opens_at(ONE, now), now + WINDOW, "all there is");
    }

    #[test]
    fn the_quota_of_all_holds_every_flow_for_a_moment() {
        let quota = ReplayQuota::new(QuotaLimits {
            in_all: 600 * MIB,
            per_flow: 0,
        });
        let now = Instant::now();
        assert_eq!(quota.charge(ONE, 599 * MIB, now).held, None);
        let charge = quota.charge(OTHER, MIB, now);
        assert_eq!((charge.held, charge.closes_all), (Some(Held::All), true));
        assert_eq!(quota.held(Flow(3), now), Some(Held::All));
        assert_eq!(quota.opens_at(ONE, now), now + PAUSE_OF_ALL);
        assert_eq!(quota.held(ONE, now + PAUSE_OF_ALL), None);
        assert_eq!(quota.times_closed(), (0, 1));
    }

    #[test]
    fn without_limits_nothing_waits_and_no_flow_is_kept() {
        let (quota, now) = (ReplayQuota::default(), Instant::now());
        for flow in 0..1000 {
            assert_eq!(quota.charge(Flow(flow), u64::MAX / 1000, now), Charge::default());
        }
        assert!(quota.buckets.lock().flows.is_empty());
    }

    #[test]
    fn a_changed_limit_begins_with_full_buckets() {
        let (quota, now) = (per_flow(MIB), Instant::now());
        quota.charge(ONE, 100 * MIB, now);
        let limits = QuotaLimits {
            per_flow: MIB,
            in_all: MIB,
        };
        quota.set(limits);
        assert_eq!(quota.held(ONE, now), Some(Held::Flow), "the same limit");
        quota.set(QuotaLimits {
            per_flow: 2 * MIB,
            ..limits
        });
        assert_eq!(quota.held(ONE, now), None);
    }

    #[test]
    fn flows_whose_buckets_are_full_again_are_forgotten() {
        let (quota, now) = (per_flow(60 * MIB), Instant::now());
        for flow in 0..5000 {
            quota.charge(Flow(flow), MIB, now);
        }
        quota.charge(Flow(0), 600 * MIB, now);
        quota.charge(Flow(9999), 1, now + WINDOW);
        let buckets = quota.buckets.lock();
        assert_eq!(buckets.flows.len(), 2, "one that owes, and the last one");
        assert!(buckets.flows.capacity() < 10 * LEAST_ROOM);
    }
}
