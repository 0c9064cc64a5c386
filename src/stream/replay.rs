//! A replay: a range of a stream's past, read from Kafka once for all clients that need it.
//!
//! It is a small [`Log`] of its own between one replay request and any number of readers. The job's
//! records are encoded as they come and kept until the slowest reader has taken them; more than the
//! limit of its [`ReplaySlot`] is never held, because the writing task then waits, and with it the thread
//! that reads Kafka. Readers skip what their own position has passed, so ranges that overlap are
//! shared. When the last reader is gone, the channel closes and the job ends.
//!
//! ```text
//! waiting ──thread and slot──► filling ──range read, or turn over──► draining ──all taken──► over
//! ```
//! Slow readers may keep a replay for as long as nobody else is kept waiting. Otherwise:
//! - within a replay, one who takes nothing while another has taken everything loses its place;
//! - while other replays wait, one whose full window has held up its thread for the slow-reader timeout
//!   gives the thread back, and goes on draining: its readers have a window's worth before them;
//! - while other replays wait, a window of which nothing leaves in that time is let go.
//!
//! Who loses its place, or comes to the end of what was read, goes on in another replay, behind
//! those who wait. A reader that waits has room to take something at once, so every turn gets it
//! further.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use slab::Slab;
use tokio::sync::{Notify, mpsc};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use super::block::Builder;
use super::control::{Gap, GapReason};
use super::encode::Encoder;
use super::filter::{Matcher, pack_headers};
use super::log::{Log, Read, Sequence};
use super::notice;
use super::position::{BEGINNING, Position, mark_of};
use super::waiters::{AUDIENCE_SHARDS, Ticket, Waiters};
use crate::config::StreamSettings;
use crate::kafka::history::fair_queue::Flow;
use crate::kafka::history::{Archive, Busy, OffsetRange, ReplayRequest, ReplaySlot, SlotLimits};
use crate::kafka::record::{Batch, Feed};

/// Offsets that a reader lets others have first, to share what is read for them. Reading anew from
/// where it stands takes as long as some ten thousand records, and depends on nobody.
const MAX_AHEAD: u64 = 10_000;

/// Batches between the history thread and the writing task: the window is what buffers.
const CHANNEL_BATCHES: usize = 2;

/// A range of the past on its way to its readers.
#[derive(Debug)]
pub(super) struct Replay {
    /// The position of the stream when the replay was asked for: where it ends.
    to: Position,
    state: RwLock<State>,
    version: AtomicU64,
    waiters: Arc<Waiters>,
    readers: Mutex<Readers>,
    /// A reader has gone on, or away.
    room: Notify,
}

/// Each reader's cursor.
#[derive(Debug, Default)]
struct Readers {
    cursors: Slab<Sequence>,
    /// Set when the last has gone: the writing task ends, and nobody may join any more.
    is_abandoned: bool,
    /// Set when a log that it reads was truncated: nobody may join any more.
    is_outdated: bool,
}

#[derive(Debug)]
struct State {
    log: Log,
    /// The offsets at which reading really began, once known.
    begun: Option<Position>,
    is_done: bool,
    /// The job ended before it was done.
    is_broken: bool,
}

impl Replay {
    /// Asks for everything from `from` up to `to`, to be shown as the stream shows it. The future that comes
    /// with it writes the replay, and is to be run.
    pub(super) fn start(
        archive: &Arc<dyn Archive>,
        settings: &StreamSettings,
        flow: Flow,
        (from, to): (&Position, Position),
    ) -> Result<(Arc<Self>, Reader, impl Future<Output = ()> + Send + use<>), Busy> {
        let (feed, feeds) = mpsc::channel(CHANNEL_BATCHES);
        let ranges = |index: usize| {
            let to = to
                .topics
                .get(index)
                .map(|topic| topic.next.clone())
                .unwrap_or_default();
            // Nothing is read of a partition that has not begun.
            let range = |(partition, to): (u32, i64)| OffsetRange {
                from: from.next(index, partition).max(BEGINNING),
                to: to.max(BEGINNING),
            };
            (0..).zip(to).map(range).collect()
        };
        let topics = settings
            .topics
            .iter()
            .enumerate()
            .map(|(index, name)| (name.as_str().into(), ranges(index)))
            .collect();
        let slot = archive.replay(ReplayRequest { flow, topics, feed })?;

        let mut log = Log::unbounded();
        log.set_head(from.id().into());
        let state = State {
            log,
            begun: None,
            is_done: false,
            is_broken: false,
        };
        let replay = Arc::new(Self {
            to,
            state: RwLock::new(state),
            version: AtomicU64::new(0),
            waiters: Waiters::new(AUDIENCE_SHARDS),
            readers: Mutex::default(),
            room: Notify::new(),
        });
        // Before the task that ends when there is no reader.
        let reader = replay.enter(&mut replay.readers(), 1, from);
        let writer = PieceWriter::new(
            Arc::clone(&replay),
            Arc::clone(archive),
            slot.limits(),
            settings,
            from.clone(),
        );
        Ok((replay, reader, writer.run(feeds, slot)))
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock()
    }

    fn enter(self: &Arc<Self>, readers: &mut Readers, cursor: Sequence, wanted: &Position) -> Reader {
        Reader {
            slot: readers.cursors.insert(cursor),
            replay: Arc::clone(self),
            ticket: self.waiters.enter(),
            cursor,
            wanted: wanted.clone(),
            has_begun: false,
            seen: 0,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    /// Bytes held, all told.
    pub(super) fn cost(&self) -> usize {
        self.read().log.cost()
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.waiters.wake_all();
    }

    /// A reader that wants what comes from `wanted` on, if the replay still has all of that, and has
    /// nearly come to it.
    pub(super) fn join(self: &Arc<Self>, wanted: &Position) -> Option<Reader> {
        // One that ends where the reader stands has nothing for it.
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
            state.log.resume_point(wanted)?
        };
        Some(self.enter(&mut readers, cursor, wanted))
    }

    /// Nobody may join any more.
    pub(super) fn outdate(&self) {
        self.readers().is_outdated = true;
    }

    /// The cursors of the slowest and the fastest reader; `None` when there is none left.
    fn pace(&self) -> Option<(Sequence, Sequence)> {
        let mut readers = self.readers();
        readers.is_abandoned = readers.cursors.is_empty();
        let cursors = || readers.cursors.iter().map(|(_, cursor)| *cursor);
        Some((cursors().min()?, cursors().max()?))
    }
}

/// One client's way through a replay.
#[derive(Debug)]
pub(super) struct Reader {
    replay: Arc<Replay>,
    slot: usize,
    ticket: Ticket,
    cursor: Sequence,
    /// The client's own position.
    wanted: Position,
    has_begun: bool,
    seen: u64,
}

/// What a reader finds.
#[derive(Debug)]
pub(super) enum Found {
    /// Frames, perhaps none, and how many.
    Frames(bytes::Bytes, u64),
    /// A part of what it wants is gone; its position has passed it now.
    Gap(Gap),
    /// Nothing yet.
    Nothing,
    /// The end: the client has all of it.
    End,
    /// What comes next was let go, because the client kept others waiting.
    Lost,
}

impl Reader {
    /// The client's position.
    pub(super) fn position(&self) -> &Position {
        &self.wanted
    }

    /// The next piece of what `matcher` accepts of it.
    pub(super) fn next(&mut self, matcher: Option<&Matcher>, scratch: &mut Vec<u8>) -> Found {
        self.seen = self.replay.version.load(Ordering::SeqCst);
        let state = self.replay.read();
        if !self.has_begun {
            let Some(begun) = &state.begun else {
                // A job that ended before it began will not begin any more.
                return if state.is_broken {
                    Found::Lost
                } else {
                    Found::Nothing
                };
            };
            // One at a time: the id that goes with it must not claim the others.
            if let Some(gap) = first_gap(&self.wanted, begun) {
                self.wanted.pass(gap.topic, gap.partition, gap.to - 1);
                return Found::Gap(gap);
            }
            // What is wanted from its beginning begins here, and the ids must say so.
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
                self.replay.readers().cursors[self.slot] = next;
                self.replay.room.notify_one();
                Found::Frames(frames, count)
            }
            Read::AtHead if state.is_done => Found::End,
            Read::AtHead if state.is_broken => Found::Lost,
            Read::AtHead => Found::Nothing,
            Read::Evicted => Found::Lost,
        }
    }

    /// Where the client stands that has read to the end.
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

impl Drop for Reader {
    fn drop(&mut self) {
        self.replay.readers().cursors.remove(self.slot);
        self.replay.room.notify_one();
    }
}

/// The first part of what a client wants that was gone when the replay began. Who wants a partition
/// from its beginning misses nothing, wherever that is.
fn first_gap(wanted: &Position, begun: &Position) -> Option<Gap> {
    for (topic, found) in begun.topics.iter().enumerate() {
        for (partition, &to) in (0..).zip(&found.next) {
            let from = wanted.next(topic, partition);
            if from >= 0 && from < to {
                return Some(Gap {
                    reason: GapReason::Expired,
                    topic,
                    partition,
                    from,
                    to,
                });
            }
        }
    }
    None
}

/// The writing side: one task per replay.
struct PieceWriter {
    replay: Arc<Replay>,
    archive: Arc<dyn Archive>,
    limits: SlotLimits,
    /// How long the full window has held up the thread that reads, all told.
    held_up: Duration,
    encoder: Encoder,
    names: Vec<String>,
    position: Position,
    begun: Position,
    unassigned: BTreeSet<usize>,
    loading: BTreeSet<usize>,
    keeps_headers: bool,
    /// Whether ids have room for leader epochs.
    names_epochs: bool,
    /// What no client of the stream is shown.
    fixed: Option<Matcher>,
    scratch: Vec<u8>,
}

/// Whether the job may go on.
enum Room {
    Some,
    /// Others wait for the thread, and this one has had its turn.
    TurnOver,
    NoReader,
}

impl PieceWriter {
    fn new(
        replay: Arc<Replay>,
        archive: Arc<dyn Archive>,
        limits: SlotLimits,
        settings: &StreamSettings,
        from: Position,
    ) -> Self {
        let topics = 0..settings.topics.len();
        let mut begun = from.clone();
        begun
            .topics
            .iter_mut()
            .for_each(|topic| topic.start_over(vec![BEGINNING; topic.next.len()]));
        Self {
            replay,
            archive,
            limits,
            held_up: Duration::ZERO,
            encoder: Encoder::new(settings),
            names: settings.topics.clone(),
            names_epochs: from.has_room_for_epochs(),
            position: from,
            begun,
            unassigned: topics.clone().collect(),
            loading: topics.collect(),
            keeps_headers: settings.keeps_headers(),
            fixed: Matcher::fixed(settings),
            scratch: Vec::new(),
        }
    }

    /// Keeps the slot until the replay buffers nothing.
    async fn run(mut self, feeds: mpsc::Receiver<Feed>, _slot: ReplaySlot) {
        if !self.fill(feeds).await {
            return;
        }
        self.end();
        self.drain().await;
    }

    /// What the log holds now is all it will hold.
    fn end(&self) {
        let mut state = self.replay.write();
        state.is_broken = !state.is_done;
        drop(state);
        self.replay.changed();
    }

    /// Takes what the job reads, until that is over. False when no reader is left. Either way the
    /// channel is closed, which ends the job.
    async fn fill(&mut self, mut feeds: mpsc::Receiver<Feed>) -> bool {
        loop {
            let room = self.replay.room.notified();
            tokio::select! {
                // Room is made behind every feed, so readers are not kept waiting; and without chance, a
                // simulation of this can be repeated.
                biased;
                feed = feeds.recv() => match feed {
                    Some(feed) => {
                        self.take(&feed);
                        // Who else writes has its turn.
                        yield_now().await;
                    }
                    None => return true,
                },
                // A reader has gone on, or away.
                () = room => {}
            }
            match self.make_room().await {
                Room::Some => {}
                Room::TurnOver => return true,
                Room::NoReader => return false,
            }
        }
    }

    /// Lets go what all readers have, and waits while the window is full.
    async fn make_room(&mut self) -> Room {
        loop {
            // Taken before the look, so that a reader who goes on in between is not missed.
            let room = self.replay.room.notified();
            let Some((slowest, fastest)) = self.replay.pace() else {
                return Room::NoReader;
            };
            if !self.let_go_before(slowest) {
                return Room::Some;
            }
            if self.held_up >= self.limits.slow_reader_timeout && self.archive.is_contended() {
                return Room::TurnOver;
            }
            let since = Instant::now();
            let is_quiet = timeout(self.limits.slow_reader_timeout, room).await.is_err();
            self.held_up += since.elapsed();
            if is_quiet && self.is_at_head(fastest) {
                self.let_go_half();
            }
        }
    }

    /// Keeps what was read for those who have not taken it yet, until they have or keep others
    /// waiting.
    async fn drain(&self) {
        let (mut first, mut since) = (0, Instant::now());
        loop {
            let room = self.replay.room.notified();
            let Some((slowest, fastest)) = self.replay.pace() else {
                return;
            };
            let mut left = self.let_go_all_before(slowest);
            let is_quiet = left == Some(first) && since.elapsed() >= self.limits.slow_reader_timeout;
            if is_quiet && self.archive.is_contended() {
                // Those who take something keep their places. If nobody does, nothing is kept.
                left = self.let_go_all_before(fastest);
                if left == Some(first) {
                    left = self.let_go_all_before(Sequence::MAX);
                }
                self.replay.changed();
            }
            let Some(left) = left else { return };
            if left != first {
                (first, since) = (left, Instant::now());
            }
            // Whether others wait is looked at again after that time: nobody tells.
            let _ = timeout(self.limits.slow_reader_timeout, room).await;
        }
    }

    /// Lets go the blocks before `cursor`; returns whether the window is full all the same.
    fn let_go_before(&self, cursor: Sequence) -> bool {
        let mut state = self.replay.write();
        state.log.let_go_before(cursor);
        state.log.cost() > self.limits.max_bytes && !state.is_done
    }

    /// The same; returns the first record that is left.
    fn let_go_all_before(&self, cursor: Sequence) -> Option<Sequence> {
        let mut state = self.replay.write();
        state.log.let_go_before(cursor);
        (state.log.first() < state.log.next()).then(|| state.log.first())
    }

    fn is_at_head(&self, cursor: Sequence) -> bool {
        cursor >= self.replay.read().log.next()
    }

    /// Lets go the older half of the window, whoever has not taken it; all of it, where that is a
    /// single block.
    fn let_go_half(&self) {
        let mut state = self.replay.write();
        let (first, next) = (state.log.first(), state.log.next());
        state.log.let_go_before(first.midpoint(next));
        if state.log.first() == first {
            state.log.let_go_before(next);
        }
        drop(state);
        self.replay.changed();
    }

    fn take(&mut self, feed: &Feed) {
        let topic = match feed {
            Feed::Recreated { topic }
            | Feed::Begun { topic, .. }
            | Feed::Truncated { topic, .. }
            | Feed::Assigned { topic, .. }
            | Feed::Loaded { topic }
            | Feed::AtEnd { topic, .. } => topic,
            Feed::Records(batch) => batch.topic(),
        };
        let Some(index) = self.names.iter().position(|name| *name == **topic) else {
            return;
        };
        match feed {
            Feed::Assigned { next, .. } => {
                if self.unassigned.remove(&index) {
                    self.begun.topics[index].next.clone_from(next);
                } else {
                    self.overtaken(index, next);
                }
                if self.unassigned.is_empty() {
                    self.replay
                        .write()
                        .begun
                        .get_or_insert_with(|| self.begun.clone());
                }
            }
            // A job reads what it was asked for; it does not watch topics.
            Feed::Recreated { .. } | Feed::Begun { .. } | Feed::Truncated { .. } | Feed::AtEnd { .. } => {}
            Feed::Records(batch) => self.records(index, batch),
            Feed::Loaded { .. } => {
                self.loading.remove(&index);
                self.replay.write().is_done = self.loading.is_empty();
            }
        }
        self.replay.changed();
    }

    /// Retention deleted records ahead of the job while it ran.
    fn overtaken(&mut self, index: usize, next: &[i64]) {
        let mut builder = Builder::new(self.position.id().into());
        let ranges: Vec<_> = (0..)
            .zip(next)
            .map(|(partition, &to)| {
                let reached = self.position.next(index, partition);
                // What lies behind the range is not expired: it comes from the stream's own log.
                let end = self.replay.to.next(index, partition);
                (
                    partition,
                    reached.max(self.begun.next(index, partition)),
                    to.min(end),
                )
            })
            .collect();
        notice::append_expired(&mut self.position, index, ranges, &self.names, &mut builder);
        let head = self.position.id().into();
        self.replay.write().log.append(builder.finish(), head);
    }

    fn records(&mut self, index: usize, batch: &Batch) {
        let mut builder = Builder::new(self.position.id().into());
        for record in batch.iter() {
            // What the stream has shown live since then comes from its log.
            let to = self.replay.to.next(index, record.partition);
            if record.offset >= to {
                // The range is read to its end, whatever offsets there hold no record.
                self.position.pass(index, record.partition, to - 1);
                continue;
            }
            self.position.pass(index, record.partition, record.offset);
            let mark = mark_of(record.epoch.filter(|_| self.names_epochs));
            self.position.topics[index].set_mark(record.partition as usize, mark);
            let (position, scratch) = (&self.position, &mut self.scratch);
            let written = self
                .encoder
                .write(&record, builder.frame(), |out| position.write_id(scratch, out));
            // A record that cannot be shown was counted when the stream first read it.
            if written.is_err() {
                continue;
            }
            if self.keeps_headers {
                pack_headers(&record, builder.headers());
            }
            let topic = u16::try_from(index).unwrap_or(u16::MAX);
            let is_hidden = |fixed: &Matcher| !fixed.accepts(&builder.candidate(&record, topic));
            if self.fixed.as_ref().is_some_and(is_hidden) {
                builder.discard_frame();
            } else {
                builder.finish_record(&record, topic);
            }
        }
        let head = self.position.id().into();
        self.replay.write().log.append(builder.finish(), head);
    }
}
