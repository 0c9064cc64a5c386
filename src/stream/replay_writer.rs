//! Writes a replay: encodes what a replay request reads, and keeps it until the readers have taken it.
//!
//! More than the limit of its [`ReplaySlot`] is never held: the writer takes nothing then, and the thread that reads
//! Kafka waits. No task and no timer: whoever drives a [`ReplayWriter`] calls [`step`](ReplayWriter::step) with the
//! time.
//!
//! ```text
//! waiting ──thread and slot──► filling ──range read, or turn over──► draining ──all taken──► over
//! ```
//! Slow readers may keep a replay for as long as no other reader waits for it. Otherwise:
//! - within a replay, a reader that takes nothing while another has taken everything loses its place;
//! - while other replays wait, one whose full window has held up its thread for the slow-reader timeout
//!   gives the thread back, and goes on draining: its readers have a window's worth before them;
//! - while other replays wait, a window of which nothing is taken in that time is dropped.
//!
//! A reader that loses its place, or comes to the end of what was read, continues in another replay, behind the waiting
//! ones. A waiting reader has room to take something at once, so it progresses at every turn.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::block::Builder;
use super::encode::Encoder;
use super::filter::{Matcher, pack_headers};
use super::id_writer::IdWriter;
use super::log::Sequence;
use super::notice::{self, to_u16};
use super::position::{BEGINNING, Position, mark_of};
use super::replay::{Replay, ReplayReader};
use super::waiters::Ticket;
use crate::config::StreamSettings;
use crate::kafka::history::fair_queue::Flow;
use crate::kafka::history::{Archive, Busy, OffsetRange, Payer, ReplayRequest, ReplaySlot, SlotLimits};
use crate::kafka::record::{Batch, Effect, Feed};

/// Batches between the history thread and the writer: the replay itself is the buffer.
const CHANNEL_BATCHES: usize = 2;

/// A replay that has been requested and is to be written.
#[derive(Debug)]
pub struct ReplayTask {
    /// Writes it.
    pub writer: ReplayWriter,
    /// The feeds of the request. Dropping the receiver ends the request.
    pub feeds: mpsc::Receiver<Feed>,
    /// Kept until the replay is over.
    pub slot: ReplaySlot,
}

/// Requests everything from `from` up to `to`, to be shown as the stream shows it.
pub(super) fn request(
    archive: &Arc<dyn Archive>,
    settings: &StreamSettings,
    flow: Flow,
    (from, to): (&Position, Position),
) -> Result<(Arc<Replay>, ReplayReader, ReplayTask), Busy> {
    let (feed, feeds) = mpsc::channel(CHANNEL_BATCHES);
    let ranges = |index: usize| {
        // Nothing is read of a partition that has not begun.
        let range = |(partition, &to): (u32, &i64)| OffsetRange {
            from: from.next(index, partition).max(BEGINNING),
            to: to.max(BEGINNING),
        };
        let topic = to.topics.get(index);
        topic.map_or_else(Vec::new, |topic| (0..).zip(&topic.next).map(range).collect())
    };
    let topics = settings
        .topics
        .iter()
        .enumerate()
        .map(|(index, name)| (name.as_str().into(), ranges(index)))
        .collect();
    let payer = Arc::new(Payer::new(flow));
    let slot = archive.replay(ReplayRequest {
        flow,
        payer: Arc::clone(&payer),
        topics,
        feed,
    })?;

    let (replay, reader) = Replay::new(from, to, payer);
    let writer = ReplayWriter::new(
        Arc::clone(&replay),
        Arc::clone(archive),
        slot.limits(),
        settings,
        from.clone(),
    );
    Ok((replay, reader, ReplayTask { writer, feeds, slot }))
}

/// The writer's next action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayStep {
    /// The next feed: [take](ReplayWriter::take) it, or step again when a reader has moved.
    Take,
    /// The buffer is full: step again when a reader has moved, or at this time.
    Full(Instant),
    /// Everything has been read: drop the feeds, and step again when a reader has moved, or at this time.
    Drain(Instant),
    /// The replay is over.
    End,
}

/// The writing side of a replay.
#[derive(Debug)]
pub struct ReplayWriter {
    replay: Arc<Replay>,
    archive: Arc<dyn Archive>,
    limits: SlotLimits,
    /// Waits for readers to move.
    ticket: Ticket,
    /// Their moves at the last step.
    seen: u64,
    stage: Stage,
    /// Since when the buffer has been full, and the cursor of the fastest reader then.
    full: Option<(Instant, Sequence)>,
    /// How long the full buffer has blocked the reading thread in total.
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
    /// The records that no client of the stream sees.
    fixed: Option<Matcher>,
    ids: IdWriter,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Filling,
    /// With the first record that is left, and since when it has been the first.
    Draining(Option<(Sequence, Instant)>),
}

impl ReplayWriter {
    fn new(
        replay: Arc<Replay>,
        archive: Arc<dyn Archive>,
        limits: SlotLimits,
        settings: &StreamSettings,
        from: Position,
    ) -> Self {
        let topics = 0..settings.topics.len();
        Self {
            ticket: replay.writer().enter(),
            replay,
            archive,
            limits,
            seen: 0,
            stage: Stage::Filling,
            full: None,
            held_up: Duration::ZERO,
            encoder: Encoder::new(settings),
            names: settings.topics.clone(),
            names_epochs: from.has_room_for_epochs(),
            begun: from.at_beginning(),
            position: from,
            unassigned: topics.clone().collect(),
            loading: topics.collect(),
            keeps_headers: settings.keeps_headers(),
            fixed: Matcher::fixed(settings),
            ids: IdWriter::default(),
        }
    }

    /// Returns the next action at `now`.
    pub fn step(&mut self, now: Instant) -> ReplayStep {
        let moves = self.replay.moves();
        let has_moved = std::mem::replace(&mut self.seen, moves) != moves;
        match self.stage {
            Stage::Filling => self.fill(now, has_moved),
            Stage::Draining(first) => self.drain(now, first),
        }
    }

    /// Wakes `waker` when a reader moves. Returns false if one has moved since the last step.
    #[must_use]
    pub fn wait(&self, waker: &Waker) -> bool {
        self.ticket.wait(waker);
        self.replay.moves() == self.seen
    }

    /// Drops the records that all readers have taken, and waits while the buffer is full.
    fn fill(&mut self, now: Instant, has_moved: bool) -> ReplayStep {
        let timeout = self.limits.slow_reader_timeout;
        if let Some((since, fastest)) = self.full.take() {
            let waited = now.saturating_duration_since(since);
            self.held_up += waited;
            if !has_moved && waited >= timeout && self.is_at_head(fastest) {
                self.let_go_half();
            }
        }
        let Some((slowest, fastest)) = self.replay.pace() else {
            return ReplayStep::End;
        };
        if !self.let_go_before(slowest) {
            return ReplayStep::Take;
        }
        if self.held_up >= timeout && self.archive.is_contended() {
            self.end();
            return self.drain(now, None);
        }
        self.full = Some((now, fastest));
        ReplayStep::Full(now + timeout)
    }

    /// Marks the log as complete.
    fn end(&mut self) {
        self.stage = Stage::Draining(None);
        let mut state = self.replay.write();
        state.is_broken = !state.is_done;
        drop(state);
        self.replay.changed();
    }

    /// Keeps the records for readers that have not taken them yet, until they have or keep others waiting.
    fn drain(&mut self, now: Instant, first: Option<(Sequence, Instant)>) -> ReplayStep {
        let timeout = self.limits.slow_reader_timeout;
        let Some((slowest, fastest)) = self.replay.pace() else {
            return ReplayStep::End;
        };
        let mut left = self.let_go_all_before(slowest);
        let since = first
            .filter(|(first, _)| left == Some(*first))
            .map(|(_, since)| since);
        let is_quiet = since.is_some_and(|since| now.saturating_duration_since(since) >= timeout);
        let mut since = since.unwrap_or(now);
        if is_quiet && self.archive.is_contended() {
            // Readers that take something keep their places. If none does, nothing is kept.
            let before = left;
            left = self.let_go_all_before(fastest);
            if left == before {
                left = self.let_go_all_before(Sequence::MAX);
            }
            self.replay.changed();
            if left != before {
                since = now;
            }
        }
        let Some(left) = left else {
            return ReplayStep::End;
        };
        self.stage = Stage::Draining(Some((left, since)));
        // Waiting replays are checked again after that time, since nothing signals them.
        ReplayStep::Drain(now + timeout)
    }

    /// Drops the blocks before `cursor`; returns whether the window is still full.
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

    /// Drops the older half of the window, whether taken or not; all of it, if it is a single block.
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

    /// Takes the next feed of the request, which came at `now`, or its end.
    pub fn take(&mut self, feed: Option<&Feed>, now: Instant) {
        let Some(feed) = feed else {
            return self.end();
        };
        let Some(index) = self.names.iter().position(|name| name == feed.topic()) else {
            return;
        };
        match feed {
            Feed::Assigned { next, .. } => {
                if self.unassigned.remove(&index) {
                    self.begun.topics[index].next.clone_from(next);
                } else {
                    self.overtaken(index, next, now);
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
            Feed::Records(batch) => self.records(index, batch, now),
            Feed::Loaded { .. } => {
                self.loading.remove(&index);
                self.replay.write().is_done = self.loading.is_empty();
            }
        }
        self.replay.changed();
    }

    /// Retention deleted records ahead of the job while it ran.
    fn overtaken(&mut self, index: usize, next: &[i64], now: Instant) {
        let mut builder = Builder::new(self.position.id().into(), now);
        let ranges: Vec<_> = (0..)
            .zip(next)
            .map(|(partition, &to)| {
                let reached = self.position.next(index, partition);
                // Records behind the range are not expired: they come from the stream's own log.
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

    fn records(&mut self, index: usize, batch: &Batch, now: Instant) {
        let mut builder = Builder::new(self.position.id().into(), now);
        self.ids.start_over();
        for record in batch.iter() {
            self.ids.note(index, record.partition);
            // Records that the stream has shown live since then come from its log.
            let to = self.replay.to.next(index, record.partition);
            if record.offset >= to {
                // The range is read to its end, whatever offsets there hold no record.
                self.position.pass(index, record.partition, to - 1);
                continue;
            }
            self.position.pass(index, record.partition, record.offset);
            if record.effect != Effect::Shown {
                continue;
            }
            let mark = mark_of(record.epoch.filter(|_| self.names_epochs));
            self.position.topics[index].set_mark(record.partition as usize, mark);
            let (position, ids) = (&self.position, &mut self.ids);
            let written = self
                .encoder
                .write(&record, builder.frame(), |out| ids.write(position, out));
            // A record that cannot be shown was counted when the stream first read it.
            if written.is_err() {
                continue;
            }
            if self.keeps_headers {
                pack_headers(&record, builder.headers());
            }
            let topic = to_u16(index);
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
