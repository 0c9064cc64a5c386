//! A replay: a range of a stream's past, read from Kafka once for all clients that need it.
//!
//! It is a small [`Log`] of its own between one replay request and any number of readers. The
//! [writer](super::replay_writer) keeps records until the slowest reader has taken them. Readers skip what their own
//! position has passed, so ranges that overlap are shared. When the last reader is gone, the replay ends.
//!
//! One flow pays for what is read from Kafka: the one that has asked for it, or that of another reader once its own have
//! left. A reader does not wait for the quota of another flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use slab::Slab;

use super::control::{Gap, GapReason};
use super::filter::Matcher;
use super::log::{Log, Read, Sequence};
use super::position::Position;
use super::waiters::{AUDIENCE_SHARDS, Ticket, Waiters};
use crate::kafka::history::fair_queue::Flow;
use crate::kafka::history::{Archive, Payer};

/// Offsets for which a reader waits for others, to share their reads. Starting a read of its own costs as much as some
/// ten thousand records, and depends on no other reader.
const MAX_AHEAD: u64 = 10_000;

/// A range of the past on its way to its readers.
#[derive(Debug)]
pub(super) struct Replay {
    /// The position of the stream when the replay was asked for: where it ends.
    pub(super) to: Position,
    payer: Arc<Payer>,
    state: RwLock<ReplayState>,
    version: AtomicU64,
    waiters: Arc<Waiters>,
    readers: Mutex<Readers>,
    /// How often a reader has taken something or left.
    moves: AtomicU64,
    /// The writer, which waits for that.
    writer: Arc<Waiters>,
}

/// Each reader's cursor and flow.
#[derive(Debug, Default)]
struct Readers {
    cursors: Slab<(Sequence, Flow)>,
    /// Set when the last reader has left: the writing task ends, and no reader may join any more.
    is_abandoned: bool,
    /// Set when a log that it reads was truncated: no reader may join any more.
    is_outdated: bool,
}

#[derive(Debug)]
pub(super) struct ReplayState {
    pub(super) log: Log,
    /// The offsets at which reading really began, once known.
    pub(super) begun: Option<Position>,
    pub(super) is_done: bool,
    /// The request ended before it was done.
    pub(super) is_broken: bool,
}

impl Replay {
    /// An empty replay of everything from `from` up to `to`, and its first reader, whose flow pays.
    pub(super) fn new(from: &Position, to: Position, payer: Arc<Payer>) -> (Arc<Self>, ReplayReader) {
        let flow = payer.flow();
        let mut log = Log::unbounded();
        log.set_head(from.id().into());
        let state = ReplayState {
            log,
            begun: None,
            is_done: false,
            is_broken: false,
        };
        let replay = Arc::new(Self {
            to,
            payer,
            state: RwLock::new(state),
            version: AtomicU64::new(0),
            waiters: Waiters::new(AUDIENCE_SHARDS),
            readers: Mutex::default(),
            moves: AtomicU64::new(0),
            writer: Waiters::new(1),
        });
        let reader = replay.enter(&mut replay.readers(), (1, flow), from);
        (replay, reader)
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock()
    }

    fn enter(
        self: &Arc<Self>,
        readers: &mut Readers,
        (cursor, flow): (Sequence, Flow),
        wanted: &Position,
    ) -> ReplayReader {
        ReplayReader {
            slot: readers.cursors.insert((cursor, flow)),
            replay: Arc::clone(self),
            ticket: self.waiters.enter(),
            cursor,
            wanted: wanted.clone(),
            has_begun: false,
            seen: 0,
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, ReplayState> {
        self.state.read()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, ReplayState> {
        self.state.write()
    }

    /// Bytes held in all.
    pub(super) fn cost(&self) -> usize {
        self.read().log.cost()
    }

    /// How often a reader has taken something or left.
    pub(super) fn moves(&self) -> u64 {
        self.moves.load(Ordering::SeqCst)
    }

    /// Where the writer waits for a reader to move.
    pub(super) fn writer(&self) -> &Arc<Waiters> {
        &self.writer
    }

    fn note_move(&self) {
        self.moves.fetch_add(1, Ordering::SeqCst);
        self.writer.wake_all();
    }

    pub(super) fn changed(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.waiters.wake_all();
    }

    /// A reader of `flow` that wants what comes from `wanted` on, if the replay still has all of that, has nearly come to
    /// it, and does not wait for a quota of another flow.
    pub(super) fn join(
        self: &Arc<Self>,
        wanted: &Position,
        flow: Flow,
        archive: &dyn Archive,
    ) -> Option<ReplayReader> {
        // A replay that ends at the reader's position has nothing for it.
        if wanted.has_passed(&self.to) {
            return None;
        }
        // The readers' lock is held over the look into the log, so that nothing leaves in between.
        let mut readers = self.readers();
        let cursor = {
            let state = self.read();
            if readers.is_abandoned || readers.is_outdated || state.is_broken {
                return None;
            }
            let head = Position::parse(state.log.head()).ok()?;
            if wanted.offsets_ahead_of(&head) > MAX_AHEAD {
                return None;
            }
            let cursor = state.log.resume_point(wanted)?;
            if readers.cursors.is_empty() {
                // The last reader has left, and paid until now.
                self.payer.hand_over(flow);
            }
            let payer = self.payer.flow();
            if payer != flow && state.begun.is_none() {
                // Before the quota is looked at: if that is used up just now, the archive sees this reader, or this
                // reader sees that.
                self.payer.note_other();
                if archive.is_over_quota(payer) {
                    return None;
                }
            }
            cursor
        };
        Some(self.enter(&mut readers, (cursor, flow), wanted))
    }

    /// Prevents further readers from joining.
    pub(super) fn outdate(&self) {
        self.readers().is_outdated = true;
    }

    /// The cursors of the slowest and the fastest reader; `None` when there is none left.
    pub(super) fn pace(&self) -> Option<(Sequence, Sequence)> {
        let mut readers = self.readers();
        readers.is_abandoned = readers.cursors.is_empty();
        let cursors = || readers.cursors.iter().map(|(_, (cursor, _))| *cursor);
        Some((cursors().min()?, cursors().max()?))
    }
}

/// One client's way through a replay.
#[derive(Debug)]
pub(super) struct ReplayReader {
    replay: Arc<Replay>,
    slot: usize,
    ticket: Ticket,
    cursor: Sequence,
    /// The client's own position.
    wanted: Position,
    has_begun: bool,
    seen: u64,
}

/// The result of a read.
#[derive(Debug)]
pub(super) enum ReplayRead {
    /// Frames, perhaps none, and how many.
    Frames(bytes::Bytes, u64),
    /// A part of what it wants is gone; its position has passed it now.
    Gap(Gap),
    /// Nothing yet.
    Nothing,
    /// The end: the client has all of it.
    End,
    /// The replay broke off, or the next records were dropped because the client kept others waiting: it continues in
    /// another replay from its position.
    Lost,
}

impl ReplayReader {
    /// The client's position.
    pub(super) fn position(&self) -> &Position {
        &self.wanted
    }

    /// The next piece of what `matcher` accepts of it.
    pub(super) fn next(&mut self, matcher: Option<&Matcher>, scratch: &mut Vec<u8>) -> ReplayRead {
        self.seen = self.replay.version.load(Ordering::SeqCst);
        let state = self.replay.read();
        if !self.has_begun {
            let Some(begun) = &state.begun else {
                // A job that ended before it began will not begin any more.
                return if state.is_broken {
                    ReplayRead::Lost
                } else {
                    ReplayRead::Nothing
                };
            };
            // One at a time: the id that goes with it must not claim the others.
            if let Some(gap) = first_gap(&self.wanted, begun) {
                self.wanted.pass(gap.topic, gap.partition, gap.to - 1);
                return ReplayRead::Gap(gap);
            }
            // A partition that is wanted from its beginning begins here, and the ids must say so.
            self.wanted.start_at(begun);
            self.has_begun = true;
        }
        match state
            .log
            .read_wanted(self.cursor, &mut self.wanted, matcher, scratch)
        {
            Read::Frames(frames, next, count) => {
                drop(state);
                self.cursor = next;
                self.replay.readers().cursors[self.slot].0 = next;
                self.replay.note_move();
                ReplayRead::Frames(frames, count)
            }
            Read::AtHead if state.is_done => ReplayRead::End,
            Read::AtHead if state.is_broken => {
                // Records that the stream hides leave no entry. They were passed too, or the next replay would begin
                // with them again, and end with them again where they are more than a turn.
                if let Ok(head) = Position::parse(state.log.head()) {
                    self.wanted.advance_to(&head);
                }
                ReplayRead::Lost
            }
            Read::AtHead => ReplayRead::Nothing,
            Read::Evicted => ReplayRead::Lost,
        }
    }

    /// The position of a client that has read to the end.
    pub(super) fn end(&self) -> Position {
        let (mut position, to) = (self.wanted.clone(), &self.replay.to);
        position.advance_to(to);
        for (mine, to) in position.topics.iter_mut().zip(&to.topics) {
            for (partition, next) in to.next.iter().enumerate() {
                // Where both are at the same offset, that of the stream's log counts: a truncation which the stream has
                // still to notice concerns this reader too.
                if mine.next.get(partition) == Some(next) {
                    mine.set_mark(partition, to.mark(partition));
                }
            }
        }
        position
    }

    /// As [`Subscription::wait`](super::subscription::Subscription::wait).
    pub(super) fn wait(&self, waker: &Waker) -> bool {
        self.ticket.wait(waker);
        self.replay.version.load(Ordering::SeqCst) == self.seen
    }
}

impl Drop for ReplayReader {
    fn drop(&mut self) {
        let replay = &self.replay;
        let mut readers = replay.readers();
        let (_, flow) = readers.cursors.remove(self.slot);
        if flow == replay.payer.flow() {
            let mut left = readers.cursors.iter().map(|(_, (_, flow))| *flow);
            if let Some(first) = left.next()
                && first != flow
                && left.all(|other| other != flow)
            {
                replay.payer.hand_over(first);
            }
        }
        drop(readers);
        replay.note_move();
    }
}

/// The first part of the wanted range that no longer existed when the replay began. A client that wants a partition
/// from its beginning misses nothing, wherever that is.
fn first_gap(wanted: &Position, begun: &Position) -> Option<Gap> {
    begun.partitions().find_map(|(topic, partition, to)| {
        let from = wanted.next(topic, partition);
        (from >= 0 && from < to).then_some(Gap {
            reason: GapReason::Expired,
            topic,
            partition,
            from,
            to,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::history::{Busy, OffsetLookup, ReplayRequest, ReplaySlot};
    use crate::stream::position::TopicPosition;

    /// Where the quota of one flow is used up.
    #[derive(Debug)]
    struct Exhausted(Flow);

    impl Archive for Exhausted {
        fn replay(&self, _request: ReplayRequest) -> Result<ReplaySlot, Busy> {
            Err(Busy)
        }

        fn is_contended(&self) -> bool {
            false
        }

        fn is_over_quota(&self, flow: Flow) -> bool {
            flow == self.0
        }

        fn look_up(&self, _lookup: OffsetLookup) -> Result<(), Busy> {
            Err(Busy)
        }

        fn lacks_times_and_headers(&self) -> bool {
            false
        }
    }

    fn at(offset: i64) -> Position {
        Position {
            as_of: None,
            topics: vec![TopicPosition {
                next: vec![offset],
                ..TopicPosition::unread("t")
            }],
        }
    }

    #[test]
    fn a_reader_that_is_left_alone_or_comes_to_an_empty_replay_pays() {
        let (one, other, third) = (Flow(1), Flow(2), Flow(3));
        let archive = Exhausted(one);
        let from = at(5);
        let (replay, first) = Replay::new(&from, at(9), Arc::new(Payer::new(one)));
        // It does not wait for the quota of another flow.
        assert!(replay.join(&from, other, &archive).is_none());
        let same = replay.join(&from, one, &archive).expect("it pays itself");
        drop(first);
        assert_eq!(replay.payer.flow(), one);
        // Nobody has seen yet that all are gone.
        drop(same);
        let second = replay.join(&from, other, &archive).expect("it is alone");
        assert_eq!(replay.payer.flow(), other);
        let last = replay.join(&from, third, &archive).expect("that one has a quota");
        drop(second);
        assert_eq!(replay.payer.flow(), third);
        drop(last);
    }
}
