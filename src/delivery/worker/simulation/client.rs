//! A client of the simulation: what it asked for, what became of it, and whether it got what it should.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::received::{Received, dechunked, events};
use super::rig::{Rig, key};
use super::sockets::Network;
use super::{clock, sockets::SimSocket};
use crate::config::Start;
use crate::config::claims::Claims;
use crate::config::filter::{Filter, Name};
use crate::delivery::new_client::{Guard, NewClient};
use crate::stream::access::{Access, Deadline, Grant};
use crate::stream::counters::Departure;
use crate::stream::start_position::Opening;
use crate::stream::subscription::{Step, Subscription};

pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a client begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// As the stream does.
    Default,
    Live,
    /// Behind this part of the batches (of 256) that were written.
    After(u8),
}

/// How a client opens the stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) begin: Begin,
    pub(super) key: Option<u8>,
    /// Its right ends after so many seconds.
    pub(super) access: Option<u8>,
    /// How many bytes its socket takes at first.
    pub(super) room: usize,
}

/// What was done with a client's guard.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) timed_out: AtomicU32,
    pub(super) ended: AtomicU32,
    pub(super) dropped: AtomicU32,
    pub(super) departure: Mutex<Option<Departure>>,
}

#[derive(Debug)]
struct SimGuard {
    seen: Arc<Seen>,
    network: Network,
    number: usize,
}

impl Guard for SimGuard {
    fn write_timeout(&self) -> Duration {
        WRITE_TIMEOUT
    }

    fn timed_out(&mut self) {
        let net = self.network.lock();
        let peer = &net.peers[self.number];
        let is_stalled = peer.took_at.is_none_or(|at| clock::now() >= at + WRITE_TIMEOUT);
        assert!(peer.error.is_some() || is_stalled, "it has taken bytes since");
        assert!(peer.error.is_some() || peer.is_aborted, "unsent bytes are kept");
        self.seen.timed_out.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&mut self, subscription: &Subscription, _: Instant) {
        self.seen.ended.fetch_add(1, Ordering::Relaxed);
        *self.seen.departure.lock() = Some(subscription.departure());
    }
}

impl Drop for SimGuard {
    fn drop(&mut self) {
        self.seen.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct SimGrant(Arc<AtomicBool>);

impl Grant for SimGrant {
    fn holds(&self, _: &str, _: &Claims) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A client, and perhaps a subscription beside it that is stepped by itself.
pub(super) struct SimClient {
    pub(super) number: usize,
    want: Want,
    pub(super) seen: Arc<Seen>,
    grant: Arc<AtomicBool>,
    /// How many records it has no wish for, at least.
    from: usize,
    reference: Option<(Box<Subscription>, Vec<u8>, bool)>,
}

impl SimClient {
    /// Opens the stream; the worker gets the second.
    pub(super) fn open(
        rig: &Rig,
        network: &Network,
        want: Want,
        has_reference: bool,
    ) -> (Self, NewClient<SimSocket>) {
        let grant = Arc::new(AtomicBool::new(true));
        let (mut opening, mut from) = (Opening::default(), 0);
        match want.begin {
            Begin::Default => {}
            Begin::Live => {
                opening.start = Some(Start::Live);
                from = rig.records.len();
            }
            Begin::After(part) => {
                let (count, id) = &rig.ids[usize::from(part) * rig.ids.len() / 256];
                opening.last_event_id = Some(id.clone());
                from = *count;
            }
        }
        if let Some(name) = want.key {
            let mut filter = Filter::default();
            let topics = ["t".to_owned()];
            filter.add(Name::Key, &key(name), &topics).expect("a filter");
            opening.filter = Some(filter);
        }
        opening.access = want.access.map(|seconds| {
            let ends_at = clock::now() + Duration::from_secs(seconds.into());
            let deadline = Deadline {
                warns_at: ends_at.checked_sub(Duration::from_secs(5)),
                ends_at,
            };
            let grant = Box::new(SimGrant(Arc::clone(&grant)));
            Access::new(Claims::default(), Some(deadline), grant)
        });
        let reference = has_reference.then(|| {
            (
                Box::new(rig.stream().subscribe(opening.clone())),
                Vec::new(),
                false,
            )
        });
        let subscription = Box::new(rig.stream().subscribe(opening));
        let seen = Arc::<Seen>::default();
        let socket = network.connect(want.room);
        let number = network.lock().peers.len() - 1;
        let guard = Box::new(SimGuard {
            seen: Arc::clone(&seen),
            network: network.clone(),
            number,
        });
        let new = NewClient {
            socket,
            subscription,
            guard,
            opened: clock::now().into(),
        };
        let client = Self {
            number,
            want,
            seen,
            grant,
            from,
            reference,
        };
        (client, new)
    }

    /// Whether all of it is gone.
    pub(super) fn is_gone(&self, network: &Network) -> bool {
        let drops = network.lock().peers[self.number].drops;
        assert_eq!(
            drops,
            self.seen.dropped.load(Ordering::Relaxed),
            "socket and guard"
        );
        assert!(drops <= 1);
        drops == 1
    }

    /// Takes its right away, where it has one of its own.
    pub(super) fn revoke(&self) {
        self.grant.store(false, Ordering::Relaxed);
    }

    /// Steps the subscription beside it until that waits or has ended.
    pub(super) fn step_reference(&mut self) {
        let Some((subscription, data, is_over)) = &mut self.reference else {
            return;
        };
        loop {
            match subscription.step(clock::now()) {
                Step::Send(bytes) => data.extend_from_slice(&bytes),
                Step::Yield => {}
                Step::Wait(until) if until <= clock::now() => {}
                Step::Wait(_) => return,
                Step::End => {
                    *is_over = true;
                    return;
                }
            }
        }
    }

    pub(super) fn drop_reference(&mut self) {
        self.reference = None;
    }

    /// Compares what it has received with what the subscription beside it gave.
    pub(super) fn check_reference(&self, network: &Network, has_small_log: bool) {
        let Some((_, data, is_over)) = &self.reference else {
            return;
        };
        let (received, has_ended) = dechunked(&network.lock().peers[self.number].received);
        // A reader is not woken for records that do not pass its filter, so its position depends on when it is stepped,
        // and with it whether it falls off a small log.
        if has_small_log && self.want.key.is_some() {
            return;
        }
        let comparable = |mut event: Received| {
            if self.want.key.is_some() && event.record().is_none() {
                event.id.clear();
            }
            event
        };
        let [received, expected] = [&received, data].map(|data| {
            let events = events(data).into_iter();
            events.map(comparable).collect::<Vec<_>>()
        });
        assert_eq!(received, expected, "client {}: {:?}", self.number, self.want);
        assert_eq!(has_ended, *is_over, "client {}", self.number);
    }

    /// Checks what it has received; with `is_complete` that it lacks nothing.
    pub(super) fn check(&self, rig: &Rig, network: &Network, is_complete: bool) {
        let (data, has_ended) = dechunked(&network.lock().peers[self.number].received);
        let events = events(&data);
        let goodbye = events.iter().position(|event| event.name == "goodbye");
        if let Some(place) = goodbye {
            assert_eq!(place + 1, events.len(), "events after goodbye");
        }
        assert!(!has_ended || goodbye.is_some(), "an end without goodbye");
        let is_complete = is_complete && goodbye.is_none();
        if rig.kind.has_table {
            self.check_rows(rig, &events, is_complete);
        } else {
            self.check_log(rig, &events, is_complete);
        }
    }

    fn matches(&self, name: u8) -> bool {
        self.want.key.is_none_or(|key| key == name)
    }

    /// A client of a stream without a table gets each record once, in their order.
    fn check_log(&self, rig: &Rig, events: &[Received], is_complete: bool) {
        let is_live = matches!(self.want.begin, Begin::Live);
        // None before the first, where it may be one of several.
        let mut next = (!is_live && !rig.kind.has_small_log).then_some(self.from);
        let is_missing = |from: usize, to: usize| {
            let mut between = rig.records[from..to].iter();
            between.any(|(name, _)| self.matches(*name))
        };
        for event in events {
            if let Some((name, offset)) = event.record() {
                let offset = usize::try_from(offset).expect("an offset");
                assert_eq!(name, key(rig.records[offset].0));
                assert!(self.matches(rig.records[offset].0), "{event:?}");
                if let Some(next) = next.filter(|next| !rig.may_skip || offset < *next) {
                    assert!(
                        offset >= next,
                        "client {}: {offset} again, not {next}",
                        self.number
                    );
                    assert!(
                        !is_missing(next, offset),
                        "client {}: {next} is missing",
                        self.number
                    );
                } else {
                    assert!(offset >= self.from || rig.kind.has_small_log);
                }
                next = Some(offset + 1);
                continue;
            }
            match event.name.as_str() {
                "reset" if !rig.kind.has_small_log => {
                    assert!(rig.streams.len() > 1, "{event:?}");
                    next = if is_live { next } else { Some(0) };
                }
                "reset" | "gap" => {
                    assert!(rig.kind.has_small_log, "{event:?}");
                    next = None;
                }
                "caught-up" | "goodbye" | "reauthenticate" => {}
                other => panic!("{other}"),
            }
        }
        if is_complete && let Some(next) = next {
            let end = rig.records.len();
            // The log has the last one in any case.
            let from = if rig.may_skip {
                next.max(end.saturating_sub(1))
            } else {
                next
            };
            assert!(
                !is_missing(from, end),
                "client {}: {from}.. is missing of {end}",
                self.number
            );
        }
    }

    /// A client of a table ends up with the latest record of each key.
    fn check_rows(&self, rig: &Rig, events: &[Received], is_complete: bool) {
        let mut rows: BTreeMap<String, (usize, bool)> = BTreeMap::new();
        let (mut from, mut is_repeating) = (self.from, false);
        let is_live = matches!(self.want.begin, Begin::Live);
        for event in events {
            if let Some((name, offset)) = event.record() {
                let offset = usize::try_from(offset).expect("an offset");
                assert_eq!(name, key(rig.records[offset].0));
                assert!(self.matches(rig.records[offset].0), "{event:?}");
                let is_shown = event.name == "message";
                if let Some((before, _)) = rows.insert(name, (offset, is_shown)) {
                    assert!(
                        offset > before || is_repeating && offset == before,
                        "{offset} after {before}"
                    );
                }
                continue;
            }
            match event.name.as_str() {
                "reset" => {
                    rows.clear();
                    // A client that follows what is live continues.
                    from = if is_live { from } else { 0 };
                }
                "conflated" => is_repeating = true,
                "caught-up" | "goodbye" | "reauthenticate" => {}
                other => panic!("{other}"),
            }
        }
        if !is_complete {
            return;
        }
        for name in (0..=u8::MAX).filter(|name| self.matches(*name)) {
            let Some((offset, (_, len))) = rig.latest(name) else {
                continue;
            };
            // What a live client began with is not known to the test, nor what it held before a reset.
            let row = rows.get(&key(name));
            if let (Some((_, is_shown)), None) = (row, len) {
                // A delete of what is deleted need not be shown.
                assert!(!is_shown, "client {}: {name} is not deleted", self.number);
                continue;
            }
            match row {
                Some(row) => assert_eq!(*row, (offset, len.is_some()), "client {}: {name}", self.number),
                None => assert!(
                    len.is_none() || is_live || offset < from,
                    "client {}: record {offset} of {name} is missing, {:?}",
                    self.number,
                    self.want
                ),
            }
        }
    }
}
