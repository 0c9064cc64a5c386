//! Lookups: requests for offsets that readers wait for, sent once for all readers with the same request.
//!
//! Lookups find the offset of a time in every partition, or the current ends. The Kafka history threads answer; this
//! module only groups readers that may share an answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;

use super::waiters::{Ticket, Waiters};
use crate::kafka::history::{Archive, Busy, LookupUnsupported, OffsetLookup, OffsetSpec};

/// A query, for every partition of every topic of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Query {
    /// Where partitions end: so many of each topic.
    Ends(Vec<usize>),
    /// The first record at or after a time, in milliseconds since the epoch; not where there is none.
    Times(Vec<Vec<Option<i64>>>),
}

/// An offset for every partition of every topic, where one was asked for and exists.
pub(super) type Offsets = Vec<Vec<Option<i64>>>;

/// A question under way, or answered.
#[derive(Debug)]
pub(super) struct Lookup {
    query: Query,
    /// A thread has begun to ask.
    is_started: Arc<AtomicBool>,
    answer: OnceLock<Result<Offsets, LookupUnsupported>>,
    /// Nobody will answer any more: the archive was closed.
    is_lost: AtomicBool,
    /// Dropped when no reader waits any more.
    wanted: Arc<()>,
    waiters: Arc<Waiters>,
}

impl Lookup {
    pub(super) fn start(archive: &dyn Archive, topics: &[String], query: &Query) -> Result<Arc<Self>, Busy> {
        let specs: Vec<Vec<OffsetSpec>> = match query {
            Query::Ends(counts) => counts
                .iter()
                .map(|&count| (0..count).map(|_| OffsetSpec::Latest).collect())
                .collect(),
            Query::Times(times) => {
                let spec = |time: &Option<i64>| time.map_or(OffsetSpec::Skip, OffsetSpec::Timestamp);
                times
                    .iter()
                    .map(|times| times.iter().map(spec).collect())
                    .collect()
            }
        };
        let lookup = Arc::new(Self {
            query: query.clone(),
            is_started: Arc::default(),
            answer: OnceLock::new(),
            is_lost: AtomicBool::new(false),
            wanted: Arc::default(),
            waiters: Waiters::new(1),
        });
        let mut guard = ReplyGuard(Some(Arc::downgrade(&lookup)));
        archive.look_up(OffsetLookup {
            topics: topics
                .iter()
                .map(|name| name.as_str().into())
                .zip(specs)
                .collect(),
            is_started: Arc::clone(&lookup.is_started),
            wanted: Arc::downgrade(&lookup.wanted),
            reply: Box::new(move |answer| {
                if let Some(lookup) = guard.0.take().and_then(|lookup| lookup.upgrade()) {
                    // A question is answered once.
                    let _ = lookup.answer.set(answer);
                    lookup.waiters.wake_all();
                }
            }),
        })?;
        Ok(lookup)
    }

    /// Whether its answer is valid for a query made now. The offset of a time does not change; an end does.
    pub(super) fn answers(&self, query: &Query) -> bool {
        let is_fresh = matches!(query, Query::Times(_)) || !self.is_started.load(Ordering::SeqCst);
        is_fresh && self.query == *query && !self.is_lost()
    }

    fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::SeqCst)
    }
}

/// Accompanies the question: if it is dropped without an answer, the waiting readers are woken.
struct ReplyGuard(Option<Weak<Lookup>>);

impl Drop for ReplyGuard {
    fn drop(&mut self) {
        if let Some(lookup) = self.0.take().and_then(|lookup| lookup.upgrade()) {
            lookup.is_lost.store(true, Ordering::SeqCst);
            lookup.waiters.wake_all();
        }
    }
}

/// A reader that waits for an answer.
#[derive(Debug)]
pub(super) struct PendingLookup {
    lookup: Arc<Lookup>,
    ticket: Ticket,
}

impl PendingLookup {
    pub(super) fn new(lookup: Arc<Lookup>) -> Self {
        Self {
            ticket: lookup.waiters.enter(),
            lookup,
        }
    }

    pub(super) fn query(&self) -> &Query {
        &self.lookup.query
    }

    pub(super) fn answer(&self) -> Option<&Result<Offsets, LookupUnsupported>> {
        self.lookup.answer.get()
    }

    /// Whether no answer will come, so that the query must be asked elsewhere.
    pub(super) fn is_lost(&self) -> bool {
        self.lookup.is_lost()
    }

    /// As [`Subscription::wait`](super::subscription::Subscription::wait).
    pub(super) fn wait(&self, waker: &Waker) -> bool {
        self.ticket.wait(waker);
        self.lookup.answer.get().is_none() && !self.is_lost()
    }
}
