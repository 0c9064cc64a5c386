//! Where a reader of a stream is, and what it reads next.
//!
//! ```text
//!            ┌──────────► Snapshot (table) ──rows done──┐
//! Pending ───┼──────────► CatchUp (log, past its own position) ──shared position passes──► Live (log)
//!  ▲  │      └─────────────────────────────────────────┴───────────────────────────────────► ▲ │
//!  │  ▼       Replay (Kafka) ──end──► CatchUp         │                                        │ │
//! Lookup                         Snapshot ◄─────────── fell off the log (lag = "latest") ──────┘─┘
//! ```
//! A [throttled](super::throttle) reader waits at the log's records until they are due, and reads them from the table.

pub(super) mod parked;

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use super::announcements::Announcements;
use super::control::{CaughtUp, Control, Reset, Resets, echoed_id};
use super::group::Group;
use super::log::Sequence;
use super::lookup::{Offsets, Query};
use super::phase::{Filtered, Frames, Phase, PhaseReader, Piece};
use super::position::{BEGINNING, Position};
use super::read_from::{self, ReadFrom};
use super::shared::Stream;
use super::start_position::{Answers, Beginning, Opening, Outcome, Request, Unknowable, decide};
use super::throttle::{Gate, Release, ReleaseFrom, held_keys};
use crate::config::bound_filter::BoundFilter;
use crate::config::filter::Filter;
use crate::config::{Lag, Start, StreamSettings};
use crate::kafka::history::fair_queue::Flow;

/// The result of an advance.
pub(super) enum Advance {
    /// Frames; perhaps none, and then there may be more at once.
    Frames(Frames),
    /// The end of the log.
    AtHead,
    /// Nothing until something changes.
    Blocked,
    /// The phase changed, or something is to be announced: advance again.
    Changed,
    /// The reader fell off the log, and that ends it.
    TooSlow,
    /// There is more, but it is not due.
    Held,
    /// Held records are read from now on: advance again.
    Released,
}

/// A reader's way through a stream.
#[derive(Debug)]
pub(super) struct Cursor {
    reader: PhaseReader,
    /// The flow of its replays.
    flow: Flow,
    /// The start that it asked for, in case it has to begin again.
    start: Option<Start>,
    since: Option<i64>,
    /// Its request, until it has begun.
    request: Option<Box<(Opening, Answers)>>,
    /// Events to send before anything else: `reset`, `gap` and `conflated`.
    announcements: Announcements,
    /// The table's count of eviction_resets when the reader began.
    eviction_resets: u64,
    has_begun: bool,
    release: Release,
    /// The record at which the reader has caught up, and the data of `caught-up`; `None` once sent.
    catches_up_at: Option<(Sequence, CaughtUp)>,
}

impl Cursor {
    /// A reader that has joined the group of its filter, where it has one: before it looks for its position, so that no
    /// match falls in between.
    pub(super) fn new(
        stream: Arc<Stream>,
        mut opening: Opening,
        group: Option<(Filter, Arc<Group>)>,
        lag: Lag,
    ) -> Self {
        let asked = opening.filter.take();
        let path_values = opening.path_values.take();
        let is_bound = stream.bound_filter().is_some();
        let bound = is_bound.then(|| Box::new((path_values, asked)));
        let flow = std::mem::take(&mut opening.flow);
        let filtered = (group.is_some() || stream.fixed().is_some()).then(|| {
            Box::new(Filtered {
                group,
                bound,
                sent_id: opening.last_event_id.clone().unwrap_or_default().into(),
            })
        });
        let (start, since) = (opening.start, opening.since);
        let is_plain = opening == Opening::default();
        Self {
            reader: PhaseReader {
                stream,
                phase: Phase::Pending,
                filtered,
                last: (lag == Lag::Replay).then(Bytes::new),
                ends_without_id: false,
                kept: None,
            },
            flow,
            start,
            since,
            request: (!is_plain).then(|| Box::new((opening, Answers::default()))),
            announcements: Announcements::default(),
            eviction_resets: 0,
            has_begun: false,
            release: Release::default(),
            catches_up_at: None,
        }
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.reader.stream
    }

    /// Whether the reader has had a position.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether a filter may keep records from the reader.
    pub(super) fn is_filtered(&self) -> bool {
        self.reader.filtered.is_some()
    }

    /// The reader's filter, and the readers that share it.
    pub(super) fn filter(&self) -> Option<&(Filter, Arc<Group>)> {
        self.reader.filtered.as_ref()?.group.as_ref()
    }

    /// The events to send before anything else; empty if there are none.
    pub(super) fn take_announcements(&mut self) -> Vec<u8> {
        self.announcements.take()
    }

    /// The data of `caught-up`, once, when the reader is at the head of a loaded stream.
    pub(super) fn caught_up(&mut self) -> Option<CaughtUp> {
        let (target, reason) = self.catches_up_at?;
        let (Phase::Live(cursor) | Phase::CatchUp(cursor, _)) = self.reader.phase else {
            return None;
        };
        let loaded = self.reader.stream.loaded()?;
        (cursor >= loaded.max(target)).then(|| {
            self.catches_up_at = None;
            reason
        })
    }

    /// As [`Subscription::wait`](super::subscription::Subscription::wait), for what the reader waits for beside the
    /// stream.
    pub(super) fn wait(&self, waker: &Waker) -> bool {
        self.reader.wait(waker)
    }

    /// The reader's position, to resume from: the id of the last event sent. Before the stream knows its own position,
    /// the id that the client came with. `None` where that is forgotten: the client keeps its id.
    pub(super) fn id(&self) -> Option<Bytes> {
        let came_with = || {
            let (opening, _) = &**self.request.as_ref()?;
            let id = echoed_id(opening.last_event_id.as_deref()?)?;
            Some(id.to_owned().into())
        };
        match self.reader.phase {
            Phase::Pending | Phase::Lookup(_) => came_with(),
            _ => self.reader.id(),
        }
    }

    /// The id of a checkpoint; `None` where the reader was sent it before.
    pub(super) fn checkpoint_id(&self) -> Option<Bytes> {
        let sent = self.reader.filtered.as_ref().map(|filtered| &filtered.sent_id);
        self.id().filter(|id| Some(id) != sent)
    }

    /// The reader was sent this id with a control event.
    pub(super) fn note_sent_id(&mut self, id: &Bytes) {
        if let Some(filtered) = &mut self.reader.filtered {
            filtered.sent_id.clone_from(id);
        }
    }

    /// Changes the policy for a reader that falls off the log.
    pub(super) fn set_lag(&mut self, lag: Lag) {
        // Known where it is now; a reader on its way gets there with the id of its position.
        self.reader.last = (lag == Lag::Replay).then(|| self.id().unwrap_or_default());
    }

    /// How the reader opens a stream with other settings: as it first came. One that follows what is live continues
    /// where it is, or it would miss what is written while that stream is loaded.
    pub(super) fn reopen(&mut self, settings: &StreamSettings) -> Opening {
        let mut opening = if self.has_begun {
            let start = self
                .start
                .filter(|start| *start != Start::Snapshot || settings.has_table());
            let is_live = self.since.is_none() && start.unwrap_or(settings.start) == Start::Live;
            let forgotten = || self.reader.last.clone().filter(|id| !id.is_empty());
            let id = is_live.then(|| self.id().or_else(forgotten)).flatten();
            Opening {
                start,
                since: self.since,
                last_event_id: id.and_then(|id| String::from_utf8(id.into()).ok()),
                is_handed_over: true,
                ..Opening::default()
            }
        } else {
            self.request.take().map(|request| request.0).unwrap_or_default()
        };
        let filtered = self.reader.filtered.as_deref();
        match filtered.and_then(|filtered| filtered.bound.as_deref()) {
            Some((values, asked)) => {
                opening.path_values.clone_from(values);
                opening.filter.clone_from(asked);
            }
            None => opening.filter = self.filter().map(|(filter, _)| filter.clone()),
        }
        opening.flow = self.flow;
        opening
    }

    /// Whether the reader may not learn of records that do not pass its filter. Then no row of the table is shown as a
    /// delete, and where a reader may hold rows that the log no longer speaks of, it begins again.
    fn is_secret(&self) -> bool {
        self.reader.group().is_some_and(|group| group.matcher.is_secret())
    }

    /// Whether a record can end what another one of its key showed to the reader, because it does not pass.
    fn makes_deletes(&self) -> bool {
        let is_by_record = |group: &Arc<Group>| group.matcher.tells_records_apart();
        self.reader.stream.fixed().is_some() || self.reader.group().is_some_and(is_by_record)
    }

    /// Resets a reader if the table has forgotten evicted keys since the reader began: it may hold records of them, and
    /// would receive no delete when the next ones do not pass.
    pub(super) fn heed_forgettings(&mut self) {
        let eviction_resets = self.reader.stream.eviction_resets();
        if eviction_resets == self.eviction_resets
            || matches!(self.reader.phase, Phase::Pending | Phase::Lookup(_))
        {
            return;
        }
        self.eviction_resets = eviction_resets;
        if self.makes_deletes() {
            self.begin_again();
        }
    }

    /// Reads on from where the reader is.
    pub(super) fn advance(&mut self, lag: Lag, gate: Gate) -> Advance {
        match self.reader.phase {
            Phase::Pending => return self.begin(),
            Phase::Lookup(_) => return self.hear_answer(),
            Phase::Live(cursor) | Phase::CatchUp(cursor, _)
                if self.release.holds(cursor, gate) && cursor < self.stream().read().log.next() =>
            {
                if gate == Gate::Closed {
                    return Advance::Held;
                }
                self.release(cursor);
                return Advance::Released;
            }
            _ => {}
        }
        let was_scan = matches!(self.reader.phase, Phase::Snapshot(_));
        match self.reader.read() {
            Piece::Frames(frames) => {
                if was_scan && gate != Gate::None {
                    self.end_scan();
                }
                Advance::Frames(frames)
            }
            Piece::AtHead => Advance::AtHead,
            Piece::Blocked => Advance::Blocked,
            Piece::Live => Advance::Changed,
            Piece::Gap(gap) => {
                let id = self.id();
                self.announcements.add_gap(&self.reader, &gap, id.as_ref());
                Advance::Changed
            }
            Piece::Over {
                wanted,
                since,
                has_read_kafka,
            } => self.continue_at(wanted, since, has_read_kafka),
            Piece::FellOff(cursor) => self.fell_off(cursor, lag),
            Piece::Overtaken => {
                self.begin_again();
                Advance::Changed
            }
        }
    }

    /// Sends the position behind the last row of a scan, if that has no id: the next scan may be long in coming.
    fn end_scan(&mut self) {
        if std::mem::take(&mut self.reader.ends_without_id) {
            let id = self.id();
            self.announcements.add(&Control::Checkpoint, id.as_ref());
        }
    }

    /// Has a throttled reader read what came since `cursor`.
    fn release(&mut self, cursor: Sequence) {
        let is_secret = self.is_secret();
        let stream = &self.reader.stream;
        let state = stream.read();
        let position = match &self.reader.phase {
            Phase::CatchUp(_, position) => Position::clone(position),
            _ => state.position_at(cursor),
        };
        match self
            .release
            .release(stream, &state, (cursor, &position), is_secret)
        {
            ReleaseFrom::Log => {}
            ReleaseFrom::Nowhere => {
                drop(state);
                self.begin_again();
            }
            ReleaseFrom::Table => {
                let (mut scan, resets) = read_from::scan_since(&state, cursor, position);
                let group = self.reader.group();
                scan.held = group.and_then(|group| held_keys(group, &state.log, cursor));
                drop(state);
                scan.wanted = scan.position.clone();
                self.reader.phase = Phase::Snapshot(Box::new(scan));
                self.announce_resets(resets, None);
            }
        }
    }

    /// Finds the reader's position, once the stream knows its own.
    fn begin(&mut self) -> Advance {
        let now = self.stream().instant();
        if let Some((_, answers)) = self.request.as_deref_mut() {
            answers.note_attempt(now);
        }
        let nothing = Default::default();
        let (opening, answers) = self.request.as_deref().unwrap_or(&nothing);
        self.release.begin(&self.reader.stream.read());
        // Keys that are forgotten from now on concern it, wherever it begins.
        self.eviction_resets = self.reader.stream.eviction_resets();
        let outcome = decide(&Request {
            stream: &self.reader.stream,
            opening,
            answers,
            is_filtered: self.reader.group().is_some(),
            makes_deletes: self.makes_deletes(),
            is_secret: self.is_secret(),
        });
        match outcome {
            Outcome::Wait => Advance::Blocked,
            Outcome::Begin(beginning) => self.enter(beginning),
            Outcome::Ask(query) => match self.reader.stream.look_up(&query) {
                Some(Ok(lookup)) => {
                    self.reader.phase = Phase::Lookup(Box::new(lookup));
                    Advance::Changed
                }
                // Too many wait. It is tried again at the next change, or with the next keepalive.
                Some(Err(_)) => Advance::Blocked,
                None => {
                    self.answer(&query, None);
                    Advance::Changed
                }
            },
        }
    }

    fn hear_answer(&mut self) -> Advance {
        let Phase::Lookup(lookup) = &self.reader.phase else {
            return Advance::Changed;
        };
        let Some(answer) = lookup.answer() else {
            if !lookup.is_lost() {
                return Advance::Blocked;
            }
            self.reader.phase = Phase::Pending;
            return Advance::Changed;
        };
        let (query, offsets) = (lookup.query().clone(), answer.as_ref().ok().cloned());
        self.reader.phase = Phase::Pending;
        self.answer(&query, offsets);
        Advance::Changed
    }

    fn answer(&mut self, query: &Query, offsets: Option<Offsets>) {
        let (_, answers) = &mut **self.request.get_or_insert_default();
        match query {
            Query::Times(_) => answers.times = Some(offsets.ok_or(Unknowable)),
            Query::Ends(_) => answers.ends = Some(offsets.unwrap_or_default()),
        }
    }

    /// The phase of a reader that reads from there; `None` where too many replays wait. Starts a replay where it takes
    /// one, so the stream's state must not be locked.
    fn phase(&self, read_from: ReadFrom) -> Option<Phase> {
        Some(match read_from {
            ReadFrom::Log(cursor) => Phase::Live(cursor),
            ReadFrom::LogBehind(cursor, position) => Phase::CatchUp(cursor, Box::new(position)),
            ReadFrom::Table(scan) => Phase::Snapshot(scan),
            ReadFrom::Kafka { from, to, joins_at } => {
                let reader = self.reader.stream.replay(self.flow, &from, &to)?.ok()?;
                Phase::Replay(Box::new(reader), joins_at)
            }
        })
    }

    fn enter(&mut self, beginning: Beginning) -> Advance {
        let Some(phase) = self.phase(beginning.read_from) else {
            return Advance::Blocked;
        };
        self.reader.phase = phase;
        // The request is no longer needed, and a connection may last for months.
        let request = self.request.take();
        let came_with = request
            .filter(|_| beginning.resets.len() > 1)
            .and_then(|request| Position::parse(request.0.last_event_id?.as_bytes()).ok());
        if let (Some(last), Some(id)) = (&mut self.reader.last, beginning.id) {
            *last = id;
        }
        // A reader that had to wait for its next phase keeps the target of its catching up.
        if !std::mem::replace(&mut self.has_begun, true) {
            self.catches_up_at = Some((beginning.target, beginning.reason));
        }
        self.announcements.add_gaps(&self.reader, &beginning.gaps);
        self.announce_resets(beginning.resets, came_with);
        Advance::Changed
    }

    /// Announces the resets that concern the reader, at its position; `came_with` is the one before.
    fn announce_resets(&mut self, mut resets: Resets, came_with: Option<Position>) {
        resets.retain(|(_, topic)| self.reader.reads_resets_of(*topic));
        if !resets.is_empty() {
            let id = self.id();
            self.announcements
                .add_resets(&self.reader, resets, id.as_ref(), came_with);
        }
    }

    /// Continues at `wanted`, which the reader reached in the log at record `since`, or by a replay since then.
    fn continue_at(&mut self, mut wanted: Position, since: Sequence, has_read_kafka: bool) -> Advance {
        if self.is_secret() && self.reader.stream.settings().has_table() {
            self.begin_again();
            return Advance::Changed;
        }
        let state = self.reader.stream.read();
        let here = Position::parse(state.log.head()).unwrap_or_default();
        // Resets in the log that the reader had not reached.
        let resets = state.start_over_since(since, &mut wanted, BEGINNING);
        let gaps = if self.reader.stream.settings().has_table() {
            Vec::new()
        } else {
            let truncations = &state.truncations;
            truncations.take_reader_back(&mut wanted, since, has_read_kafka)
        };
        let reader = (&*self.reader.stream, self.reader.group().is_some());
        let read_from = read_from::read_from(reader, &state, &here, wanted.clone(), None);
        if let (Some(last), ReadFrom::Log(_)) = (&mut self.reader.last, &read_from) {
            *last = read_from.id(&state).unwrap_or_default();
        }
        drop(state);
        // Too many replays wait: ask again by the id, as the client itself would.
        self.reader.phase = self.phase(read_from).unwrap_or_else(|| {
            let (opening, _) = &mut **self.request.get_or_insert_default();
            opening.last_event_id = String::from_utf8(wanted.id()).ok();
            Phase::Pending
        });
        self.announcements.add_gaps(&self.reader, &gaps);
        self.announce_resets(resets, None);
        Advance::Changed
    }

    /// The full table evicted something that the reader has not seen: only a snapshot makes up for it.
    fn begin_again(&mut self) {
        let state = self.reader.stream.read();
        let here = Position::parse(state.log.head()).unwrap_or_default();
        let snapshot = read_from::snapshot(&self.reader.stream, &state, &here);
        drop(state);
        if let Some(phase) = self.phase(snapshot) {
            self.reader.phase = phase;
        }
        self.announce_resets(vec![(Reset::TooOld, None)], None);
    }

    /// The reader was too slow: its next record has left the log.
    fn fell_off(&mut self, cursor: Sequence, lag: Lag) -> Advance {
        let counters = self.reader.stream.counters();
        if lag == Lag::Latest {
            counters.conflated.add(1);
            self.conflate(cursor);
            return Advance::Changed;
        }
        counters.slow.add(1);
        // Known with `lag = "replay"` only.
        let position = self.reader.last.as_ref().and_then(|id| Position::parse(id).ok());
        position.map_or(Advance::TooSlow, |position| {
            self.continue_at(position, cursor, false)
        })
    }

    /// Has the reader read from the table what became of the keys since `cursor`.
    fn conflate(&mut self, cursor: Sequence) {
        let stream = &self.reader.stream;
        let has_lost = stream
            .read_table()
            .is_some_and(|table| table.has_lost_since(cursor));
        // The number that was skipped is that of all clients' records.
        let is_own = stream.bound_filter().is_some_and(BoundFilter::selects_by_claims);
        if has_lost || is_own {
            return self.begin_again();
        }
        // More matches than its group notes are skipped too, although the log may have them.
        let noted_from = self.reader.group().map_or(0, |group| group.lost() + 1);
        let state = self.reader.stream.read();
        let skipped = state.log.first().max(noted_from).saturating_sub(cursor);
        // It had reached at least this position; records that it may have had beyond are shown again, as latest values.
        let (scan, mut resets) = read_from::scan_since(&state, cursor, state.position_at(cursor));
        drop(state);
        resets.retain(|(_, topic)| self.reader.reads_resets_of(*topic));
        self.reader.phase = Phase::Snapshot(Box::new(scan));
        // Where a reset follows, that one carries the new position: a client that misses it comes back for it.
        let id = self.id().filter(|_| resets.is_empty());
        self.announcements
            .add(&Control::Conflated { skipped }, id.as_ref());
        self.announce_resets(resets, None);
    }
}
