//! A reader's places, and how it gets from one to the next.
//!
//! The half of a [`Subscription`] that reads: from the log, past its own position in the log, through
//! the table, from a replay, each with the reader's filter. What is sent when, and what beside records, is
//! in [`subscription`](super::subscription).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::control::{Control, Gap, Goodbye, Reset};
use super::counters::To;
use super::encode::Encoder;
use super::filter::Matcher;
use super::group::{Group, Selected};
use super::log::{Log, PIECE, Read, Sequence};
use super::lookup::{Offsets, PendingLookup, Query};
use super::pieces;
use super::position::{BEGINNING, Position};
use super::replay::{ReplayRead, ReplayReader};
use super::start_position::{self, Answers, Beginning, Opening, Outcome, Request, Unknowable, begin};
use super::subscription::{Step, Subscription};
use super::table::{Scan, Show};
use crate::config::Lag;
use crate::sse::write;

/// Where a reader is. The larger kinds are boxed: nearly all readers are [`Place::Reading`].
#[derive(Debug)]
pub(super) enum Place {
    /// The stream does not know yet where it stands.
    Waiting,
    /// Kafka is asked where offsets lie.
    Asking(Box<PendingLookup>),
    /// On its way through the table.
    Scanning(Box<Scan>),
    /// In the log, behind or beside its own position: what that has passed is skipped, and its ids
    /// never go back behind it.
    Catching(Sequence, Box<Position>),
    /// In a past that is read from Kafka; with the log's next record when that began.
    Replaying(Box<ReplayReader>, Sequence),
    /// In the log, at the position it shares with all.
    Reading(Sequence),
}

impl Place {
    /// The record up to which the reader knows what became of its topics.
    fn stands_at(&self) -> Sequence {
        match self {
            Self::Waiting | Self::Asking(_) => Sequence::MAX,
            Self::Scanning(scan) => scan.until,
            Self::Catching(cursor, _) | Self::Reading(cursor) | Self::Replaying(_, cursor) => *cursor,
        }
    }
}

/// Frames, and what is counted of them.
#[derive(Default)]
pub(super) struct Frames {
    pub(super) bytes: Bytes,
    /// How many they are.
    pub(super) count: u64,
    /// When the first of them came, where the reader has read all that came before.
    pub(super) came: Option<Instant>,
}

impl Frames {
    /// Frames of which it does not matter when they came.
    fn of_past(bytes: impl Into<Bytes>, count: u64) -> Self {
        Self {
            bytes: bytes.into(),
            count,
            came: None,
        }
    }
}

/// What a move has brought.
pub(super) enum Moved {
    /// Frames; perhaps none, and then there may be more at once.
    Frames(Frames),
    /// The end of the log.
    AtHead,
    /// Nothing until something changes.
    Quiet,
    /// It is to be told something, or goes on elsewhere.
    On,
    /// The stream is over.
    Over(Step),
}

impl Subscription {
    /// The group whose matches the reader gets, where it filters.
    fn group(&self) -> Option<&Arc<Group>> {
        self.quiet.as_ref()?.group.as_ref().map(|(_, group)| group)
    }

    /// Whether a record can end what another one of its key showed to the reader, because it does not pass.
    fn makes_deletes(&self) -> bool {
        let is_by_record = |group: &Arc<Group>| group.matcher.tells_records_apart();
        self.stream.fixed().is_some() || self.group().is_some_and(is_by_record)
    }

    /// Has a reader begin anew where the table has forgotten keys that left it since the reader began: it may hold
    /// records of them, and would not be told when the next ones do not pass.
    pub(super) fn heed_forgettings(&mut self) {
        let forgettings = self.stream.forgettings();
        if forgettings == self.forgettings || matches!(self.place, Place::Waiting | Place::Asking(_)) {
            return;
        }
        self.forgettings = forgettings;
        if self.makes_deletes() {
            self.begin_anew();
        }
    }

    /// Reads on from where the reader is.
    pub(super) fn advance(&mut self) -> Moved {
        match &mut self.place {
            Place::Waiting => self.begin(),
            Place::Asking(_) => self.hear_answer(),
            Place::Reading(_) => self.read_log(),
            Place::Scanning(_) => Moved::Frames(self.scan()),
            Place::Catching(..) => self.catch_up(),
            Place::Replaying(..) => self.replay(),
        }
    }

    /// Finds the reader's place, once the stream knows where it stands.
    fn begin(&mut self) -> Moved {
        let nothing = (Opening::default(), Answers::default());
        let (opening, answers) = match self.request.as_deref() {
            Some((opening, answers)) => (opening, answers),
            None => (&nothing.0, &nothing.1),
        };
        // What is forgotten from now on concerns it, whatever it is given.
        self.forgettings = self.stream.forgettings();
        let outcome = begin(&Request {
            stream: &self.stream,
            opening,
            answers,
            is_filtered: self.group().is_some(),
            makes_deletes: self.makes_deletes(),
            flow: self.flow,
        });
        match outcome {
            Outcome::Wait => Moved::Quiet,
            Outcome::Begin(beginning) => {
                self.enter(beginning);
                Moved::On
            }
            Outcome::Ask(query) => match self.stream.look_up(&query) {
                Some(Ok(asking)) => {
                    self.place = Place::Asking(Box::new(asking));
                    Moved::On
                }
                // Too many ask. It is tried again at the next change, or with the next keepalive.
                Some(Err(_)) => Moved::Quiet,
                None => {
                    self.answer(&query, None);
                    Moved::On
                }
            },
        }
    }

    fn hear_answer(&mut self) -> Moved {
        let Place::Asking(asking) = &self.place else {
            return Moved::On;
        };
        let Some(answer) = asking.answer() else {
            if !asking.is_lost() {
                return Moved::Quiet;
            }
            self.place = Place::Waiting;
            return Moved::On;
        };
        let (query, offsets) = (asking.query().clone(), answer.as_ref().ok().cloned());
        self.place = Place::Waiting;
        self.answer(&query, offsets);
        Moved::On
    }

    fn answer(&mut self, query: &Query, offsets: Option<Offsets>) {
        let (_, answers) = &mut **self.request.get_or_insert_default();
        match query {
            Query::Times(_) => answers.times = Some(offsets.ok_or(Unknowable)),
            Query::Ends(_) => answers.ends = Some(offsets.unwrap_or_default()),
        }
    }

    fn enter(&mut self, beginning: Beginning) {
        self.place = beginning.place;
        // What it came with has served, and a connection may last for months.
        let request = self.request.take();
        let came_with = request
            .filter(|_| beginning.resets.len() > 1)
            .and_then(|request| Position::parse(request.0.last_event_id?.as_bytes()).ok());
        if let (Some(last), Some(id)) = (&mut self.last, beginning.id) {
            *last = id;
        }
        // A reader that had to wait for its next place keeps what it was told to catch up with.
        if !std::mem::replace(&mut self.has_begun, true) {
            self.caught_up = Some((beginning.target, beginning.reason));
        }
        self.announce_gaps(&beginning.gaps);
        self.announce_resets(beginning.resets, came_with);
    }

    /// Whether what becomes of a topic, or of one of its partitions, is of concern to the reader.
    fn reads(&self, topic: usize, partition: Option<u32>) -> bool {
        self.group()
            .is_none_or(|group| group.matcher.reads(topic, partition))
    }

    /// Sends the reasons to begin anew. Only the last event has the id of the new place. The others have the id that
    /// the client came with, where that is known, with the new place of the topics that were sent so far: a client
    /// that is cut off in between has forgotten those, and must not come back to where it stood in them.
    fn announce_resets(&mut self, mut resets: Vec<(Reset, Option<usize>)>, mut came_with: Option<Position>) {
        resets.retain(|(_, topic)| topic.is_none_or(|topic| self.reads(topic, None)));
        let last = resets.len().saturating_sub(1);
        for (index, (reason, topic)) in resets.into_iter().enumerate() {
            self.stream.counters().count_reset(reason, To::One);
            let id = if index == last {
                self.id()
            } else {
                came_with.as_mut().zip(topic).and_then(|(came_with, topic)| {
                    let here = Position::parse(&self.id()?).ok()?;
                    let begins = here.topics.get(topic)?;
                    let mut topics = came_with.topics.iter_mut();
                    let stood = topics.find(|stood| stood.name == begins.name)?;
                    stood.clone_from(begins);
                    Some(came_with.id().into())
                })
            };
            let topic = topic.and_then(|topic| self.stream.settings().topics.get(topic));
            let topic = topic.map(String::as_str);
            self.announcements
                .extend(Control::Reset { reason, topic }.frame(id.as_deref()));
        }
    }

    fn read_log(&mut self) -> Moved {
        let Self {
            stream,
            place,
            quiet,
            last,
            ..
        } = self;
        let Place::Reading(cursor) = place else {
            return Moved::On;
        };
        let group = quiet.as_ref().and_then(|quiet| quiet.group.as_ref());
        let state = stream.read();
        let mut has_shown_last = true;
        // What the reader gets first; of a filter's matches the last, as others may lie far behind the first.
        let mut looks_at = *cursor;
        let read = match group {
            None => state.log.read(*cursor),
            Some((_, group)) => match select(&state.log, group, *cursor) {
                Selection::Read(read, shown) => {
                    looks_at = shown;
                    has_shown_last = matches!(read, Read::Frames(_, next, _) if shown + 1 == next);
                    read
                }
                Selection::Look(until) => match state.log.block_at(*cursor) {
                    Some(block) => {
                        drop(state);
                        return if stream.look(group, (*cursor, until), block) {
                            Moved::Frames(Frames::default())
                        } else {
                            Moved::Quiet
                        };
                    }
                    None => Read::Evicted,
                },
            },
        };
        match read {
            Read::Frames(bytes, next, count) => {
                let came = state.arrivals.of(looks_at);
                *cursor = next;
                if let Some(last) = last {
                    // The id of what is sent now: shared bytes, copied only in mid-block.
                    *last = state.log.id_before(next).unwrap_or_default();
                }
                if let Some(quiet) = quiet
                    && has_shown_last
                    && next == state.log.next()
                    && state.log.ends_with_head()
                {
                    quiet.told.clone_from(state.log.head());
                }
                Moved::Frames(Frames { bytes, count, came })
            }
            Read::AtHead => Moved::AtHead,
            Read::Evicted => {
                drop(state);
                self.fell_off()
            }
        }
    }

    /// The next piece of the table; empty when the scan is over, or has come to nothing to be shown.
    fn scan(&mut self) -> Frames {
        let group = self.group().map(Arc::clone);
        let Place::Scanning(scan) = &mut self.place else {
            return Frames::default();
        };
        let size = pieces::next_size();
        let mut out = Vec::with_capacity(size);
        let settings = self.stream.settings();
        let mut show = Show {
            matcher: group.as_deref().map(|group| &group.matcher),
            encoder: Encoder::new(settings),
            topics: &settings.topics,
            scratch: Vec::new(),
            shown: 0,
        };
        let (may_have_more, has_kept) = match self.stream.read_table() {
            Some(table) => {
                let has_kept = table.has_kept_since(&scan.wanted) && !table.has_overtaken(scan);
                (table.read(scan, size, &mut show, &mut out), has_kept)
            }
            None => (false, true),
        };
        if !has_kept {
            self.begin_anew();
            return Frames::default();
        }
        let shown = show.shown;
        if !may_have_more {
            // A client that came from a replica further on than this one must not go back.
            let (until, position) = (scan.until, scan.position.clone());
            self.place = Place::Catching(until, Box::new(position));
        }
        Frames::of_past(pieces::count(out), shown)
    }

    /// The next piece of the log that the reader's own position has not passed. When it has reached the
    /// position all share, it reads on there.
    fn catch_up(&mut self) -> Moved {
        let Self {
            stream, place, quiet, ..
        } = self;
        let Place::Catching(cursor, wanted) = place else {
            return Moved::On;
        };
        let group = quiet.as_ref().and_then(|quiet| quiet.group.as_ref());
        let state = stream.read();
        if state.begins_behind(*cursor, wanted) {
            // What it wants of that partition is not in the log.
            drop(state);
            return self.go_on();
        }
        let mut scratch = Vec::new();
        let read = match group {
            None => state.log.read_wanted(*cursor, wanted, None, &mut scratch),
            Some((_, group)) => match select_wanted(&state.log, group, *cursor, wanted, &mut scratch) {
                Selection::Read(read, _) => read,
                Selection::Look(until) => match state.log.block_at(*cursor) {
                    Some(block) => {
                        drop(state);
                        return if stream.look(group, (*cursor, until), block) {
                            Moved::Frames(Frames::default())
                        } else {
                            Moved::Quiet
                        };
                    }
                    None => Read::Evicted,
                },
            },
        };
        if let Read::Frames(frames, next, _) = &read {
            *cursor = *next;
            if !frames.is_empty()
                && let Some(quiet) = &mut self.quiet
            {
                quiet.told = wanted.id().into();
            }
        }
        let shared = state
            .log
            .id_before(*cursor)
            .and_then(|id| Position::parse(&id).ok());
        drop(state);
        if let Some(shared) = &shared {
            // What was not for this reader lies behind it too.
            wanted.advance_to(shared);
        }
        if shared.is_some_and(|shared| shared.has_passed(wanted)) {
            if let Some(last) = &mut self.last {
                *last = wanted.id().into();
            }
            let cursor = *cursor;
            self.place = Place::Reading(cursor);
            if read == Read::AtHead {
                return Moved::On;
            }
        }
        match read {
            Read::Frames(frames, _, count) => Moved::Frames(Frames::of_past(frames, count)),
            Read::AtHead => Moved::AtHead,
            Read::Evicted => self.go_on(),
        }
    }

    fn replay(&mut self) -> Moved {
        let group = self.group().map(Arc::clone);
        let matcher: Option<&Matcher> = group.as_deref().map(|group| &group.matcher);
        let Place::Replaying(reader, joined) = &mut self.place else {
            return Moved::On;
        };
        match reader.next(matcher, &mut Vec::new()) {
            ReplayRead::Frames(frames, count) => Moved::Frames(Frames::of_past(frames, count)),
            ReplayRead::Nothing => Moved::Quiet,
            ReplayRead::Gap(gap) => {
                if self.reads(gap.topic, Some(gap.partition)) {
                    self.announce_gap(&gap);
                }
                Moved::On
            }
            ReplayRead::End => self.go_on(),
            ReplayRead::Lost => {
                let (wanted, joined) = (reader.position().clone(), *joined);
                self.go_on_from(wanted, joined, true)
            }
        }
    }

    /// Finds the next place of a reader that has read all its last place held, up to its own position.
    fn go_on(&mut self) -> Moved {
        let stood = self.place.stands_at();
        let (wanted, has_read_kafka) = match std::mem::replace(&mut self.place, Place::Waiting) {
            Place::Catching(_, wanted) => (*wanted, false),
            Place::Replaying(reader, _) => (reader.end(), true),
            // Told apart by the caller.
            other => {
                self.place = other;
                return Moved::On;
            }
        };
        self.go_on_from(wanted, stood, has_read_kafka)
    }

    /// Goes on at `wanted`, which the reader reached in the log at record `stood`, or by a replay since then.
    fn go_on_from(&mut self, mut wanted: Position, stood: Sequence, has_read_kafka: bool) -> Moved {
        let stream = Arc::clone(&self.stream);
        let state = stream.read();
        let here = Position::parse(state.log.head()).unwrap_or_default();
        let mut resets = Vec::new();
        for (index, &(turn, reason)) in state.turns.iter().enumerate() {
            // What the reader would have been told in the log it did not get to.
            if turn > stood
                && let (Some(wanted), Some(here)) = (wanted.topics.get_mut(index), here.topics.get(index))
            {
                wanted.id = here.id;
                wanted.start_over(vec![BEGINNING; here.next.len()]);
                resets.push((reason, Some(index)));
            }
        }
        let gaps = if stream.settings().has_table() {
            Vec::new()
        } else {
            let truncations = &state.truncations;
            truncations.take_reader_back(&mut wanted, stood, has_read_kafka)
        };
        let reader = (&*stream, self.group().is_some(), self.flow);
        let place = start_position::go_on(reader, &state, &here, wanted.clone(), None);
        if let (Some(last), Some(Place::Reading(cursor))) = (&mut self.last, &place) {
            *last = state.log.id_before(*cursor).unwrap_or_default();
        }
        drop(state);
        // Too many replays wait: ask again by the id, as the client itself would.
        self.place = place.unwrap_or_else(|| {
            let (opening, _) = &mut **self.request.get_or_insert_default();
            opening.last_event_id = String::from_utf8(wanted.id()).ok();
            Place::Waiting
        });
        self.announce_gaps(&gaps);
        self.announce_resets(resets, None);
        Moved::On
    }

    /// Announces what a reader has seen that is no longer in Kafka. Without an id: a client that misses it comes back with
    /// one from before, and is told again.
    fn announce_gaps(&mut self, gaps: &[Gap]) {
        for gap in gaps {
            if self.reads(gap.topic, Some(gap.partition)) {
                self.stream.counters().count_gap(To::One);
                let topics = &self.stream.settings().topics;
                self.announcements
                    .extend(Control::Gap { gap, topics }.frame(None));
            }
        }
    }

    /// Something that the reader has not seen had to leave the full table: only a snapshot makes up
    /// for it.
    fn begin_anew(&mut self) {
        let state = self.stream.read();
        let here = Position::parse(state.log.head()).unwrap_or_default();
        let place = start_position::snapshot(&self.stream, &state, &here);
        drop(state);
        self.place = place;
        self.announce_resets(vec![(Reset::TooOld, None)], None);
    }

    fn announce_gap(&mut self, gap: &Gap) {
        self.stream.counters().count_gap(To::One);
        let id = self.id();
        let topics = &self.stream.settings().topics;
        self.announcements = Control::Gap { gap, topics }.frame(id.as_deref());
    }

    /// The reader was too slow: its next record has left the log.
    fn fell_off(&mut self) -> Moved {
        let Place::Reading(cursor) = self.place else {
            return Moved::On;
        };
        match self.live_settings.lag {
            Lag::Latest => {}
            Lag::Disconnect => {
                self.stream.counters().slow.fetch_add(1, Ordering::Relaxed);
                return Moved::Over(self.goodbye(Goodbye::Slow));
            }
            Lag::Replay => {
                self.stream.counters().slow.fetch_add(1, Ordering::Relaxed);
                let position = self.last.as_ref().and_then(|id| Position::parse(id).ok());
                return match position {
                    Some(position) => self.go_on_from(position, cursor, false),
                    None => Moved::Over(self.goodbye(Goodbye::Slow)),
                };
            }
        }
        self.stream.counters().conflated.fetch_add(1, Ordering::Relaxed);
        let table = self.stream.read_table();
        if table.is_some_and(|table| table.has_lost_since(cursor)) {
            self.begin_anew();
            return Moved::On;
        }
        // More matches than its group notes are skipped too, although the log may have them.
        let noted_from = self.group().map_or(0, |group| group.lost() + 1);
        let state = self.stream.read();
        let skipped = state.log.first().max(noted_from).saturating_sub(cursor);
        let here = state.log.id_before(cursor);
        // At least this far it had come; what it may have had beyond is shown again, as latest values.
        let mut position = here
            .and_then(|id| Position::parse(&id).ok())
            .or_else(|| state.log.reached_at(cursor))
            .unwrap_or_default();
        let mut resets = Vec::new();
        let here = Position::parse(state.log.head()).unwrap_or_default();
        for (index, &(turn, reason)) in state.turns.iter().enumerate() {
            if turn > cursor
                && let (Some(position), Some(here)) = (position.topics.get_mut(index), here.topics.get(index))
            {
                position.id = here.id;
                position.start_over(vec![0; here.next.len()]);
                if self.reads(index, None) {
                    resets.push((reason, Some(index)));
                }
            }
        }
        let until = state.log.next();
        drop(state);
        let scan = Scan {
            cursor,
            until,
            wanted: Position::default(),
            deletes_from: 0,
            is_conflated: true,
            position,
            rows_to_id: 0,
        };
        self.place = Place::Scanning(Box::new(scan));
        // Where a reset follows, that one tells the new place: a client that misses it comes back for it.
        let id = self.id().filter(|_| resets.is_empty());
        self.announcements = Control::Conflated { skipped }.frame(id.as_deref());
        self.announce_resets(resets, None);
        Moved::On
    }
}

/// What a group has for a reader.
enum Selection {
    /// Frames, with the number of the last record shown.
    Read(Read, Sequence),
    /// Records up to this one must be looked at first.
    Look(Sequence),
}

fn selection(selected: Selected, frames: Bytes, count: u64, shown: Sequence) -> Selection {
    match selected {
        Selected::Until(next) => Selection::Read(Read::Frames(frames, next, count), shown),
        Selected::Evicted => Selection::Read(Read::Evicted, shown),
        Selected::Unknown(until) => Selection::Look(until),
    }
}

/// The group's matches from `cursor` on. One alone, as it is in live reading, is a slice of its block;
/// several are copied together, for one write.
fn select(log: &Log, group: &Group, cursor: Sequence) -> Selection {
    let next = log.next();
    if cursor >= next {
        return Selection::Read(Read::AtHead, 0);
    }
    let (mut alone, mut together, mut shown, mut count) = (Bytes::new(), Vec::new(), 0, 0);
    let selected = group.select(cursor, next, |found| {
        let frame = log.frame(found.sequence).ok_or(())?;
        if !alone.is_empty() {
            together.extend_from_slice(&std::mem::take(&mut alone));
        }
        shown = found.sequence;
        count += 1;
        match &found.delete {
            None if together.is_empty() => alone = frame,
            None => together.extend_from_slice(&frame),
            Some(delete) => {
                together.extend_from_slice(write::id_line(&frame));
                together.extend_from_slice(delete);
            }
        }
        Ok(alone.len() + together.len() < PIECE)
    });
    let frames = if together.is_empty() {
        alone
    } else {
        together.into()
    };
    selection(selected, frames, count, shown)
}

/// The same for a reader with a position of its own.
fn select_wanted(
    log: &Log,
    group: &Group,
    cursor: Sequence,
    wanted: &mut Position,
    scratch: &mut Vec<u8>,
) -> Selection {
    let next = log.next();
    if cursor >= next {
        return Selection::Read(Read::AtHead, 0);
    }
    let (mut out, mut shown, mut count) = (Vec::new(), 0, 0);
    let selected = group.select(cursor, next, |found| {
        shown = found.sequence;
        let before = out.len();
        if log.write_wanted(found.sequence, found.delete.as_deref(), wanted, scratch, &mut out) {
            count += u64::from(out.len() > before);
            Ok(out.len() < PIECE)
        } else {
            Err(())
        }
    });
    selection(selected, out.into(), count, shown)
}
