//! Reads a piece from where a reader is, with its filter. [`cursor`](super::cursor) decides where it reads next.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;

use super::block::Block;
use super::control::Gap;
use super::encode::Encoder;
use super::filter::Matcher;
use super::group::Group;
use super::log::{Read, Sequence};
use super::lookup::PendingLookup;
use super::pieces;
use super::position::{NOT_BEGUN, Position};
use super::replay::{ReplayRead, ReplayReader};
use super::scan::{Scan, Show};
use super::selection::{Selection, select, select_wanted};
use super::shared::Stream;
use super::shared_pieces::{KEPT_FOR, SharedPieces};
use crate::config::filter::Filter;
use crate::config::path_parameters::PathValues;

/// Where a reader is. The larger kinds are boxed: nearly all readers are [`Phase::Live`].
#[derive(Debug)]
pub(super) enum Phase {
    /// The stream does not know its own position yet, or too many replays or lookups wait.
    Pending,
    /// Kafka looks up offsets.
    Lookup(Box<PendingLookup>),
    /// In the table.
    Snapshot(Box<Scan>),
    /// In the log, behind or beside its own position: what that has passed is skipped, and its ids
    /// never go back behind it.
    CatchUp(Sequence, Box<Position>),
    /// In a past that is read from Kafka; with the log's next record when that began.
    Replay(Box<ReplayReader>, Sequence),
    /// In the log, at the position that it shares with all.
    Live(Sequence),
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

/// The result of reading a piece.
pub(super) enum Piece {
    /// Frames; perhaps none, and then there may be more at once.
    Frames(Frames),
    /// The end of the log.
    AtHead,
    /// Nothing until something changes.
    Blocked,
    /// The reader is at the position that it shares with all: read again.
    Live,
    /// A part of the past is gone.
    Gap(Gap),
    /// The phase is over. The reader's position is `wanted`, which it reached in the log at record `since`, or by a
    /// replay since then.
    Over {
        wanted: Position,
        since: Sequence,
        has_read_kafka: bool,
    },
    /// The live reader's next record, this one, has left the log.
    FellOff(Sequence),
    /// The full table evicted something that the reader has not seen.
    Overtaken,
}

/// A reader whose records a filter may hide, its own or the stream's.
#[derive(Debug)]
pub(super) struct Filtered {
    /// Its own filter, and the readers that share it.
    pub(super) group: Option<(Filter, Arc<Group>)>,
    /// The values of its path, if any, and the filter of its query, where the stream makes that filter of more than the
    /// query; another stream may make another one.
    pub(super) bound: Option<Box<(Option<PathValues>, Option<Filter>)>>,
    /// The last id that it was sent.
    pub(super) sent_id: Bytes,
}

/// A reader in its phase.
#[derive(Debug)]
pub(super) struct PhaseReader {
    pub(super) stream: Arc<Stream>,
    pub(super) phase: Phase,
    pub(super) filtered: Option<Box<Filtered>>,
    /// The id of what was sent last, where the reader may have to continue exactly there although that has left the log
    /// (`lag = "replay"`).
    pub(super) last: Option<Bytes>,
    /// Whether the last scan has ended with a row without an id.
    pub(super) ends_without_id: bool,
    /// Pieces of the table that it keeps for others until that time, although it has read them.
    pub(super) kept: Option<Box<(Instant, Arc<SharedPieces>)>>,
}

/// The group whose matches a reader gets, where it filters.
fn group_of(filtered: Option<&Filtered>) -> Option<&Arc<Group>> {
    filtered?.group.as_ref().map(|(_, group)| group)
}

impl PhaseReader {
    /// The group whose matches the reader gets, where it filters.
    pub(super) fn group(&self) -> Option<&Arc<Group>> {
        group_of(self.filtered.as_deref())
    }

    /// Whether the reader's filter accepts notices of a topic, or of one of its partitions.
    pub(super) fn reads(&self, topic: usize, partition: Option<u32>) -> bool {
        let group = self.group();
        group.is_none_or(|group| group.matcher.reads(topic, partition))
    }

    /// Whether a reset of a topic, or of all, concerns the reader.
    pub(super) fn reads_resets_of(&self, topic: Option<usize>) -> bool {
        topic.is_none_or(|topic| self.reads(topic, None))
    }

    /// The next piece of the table, the log or a replay.
    pub(super) fn read(&mut self) -> Piece {
        if self
            .kept
            .as_ref()
            .is_some_and(|kept| kept.0 <= self.stream.instant())
        {
            self.kept = None;
        }
        match &self.phase {
            Phase::Live(cursor) => self.read_log(*cursor),
            Phase::Snapshot(_) => self.scan(),
            Phase::CatchUp(..) => self.catch_up(),
            Phase::Replay(..) => self.replay(),
            Phase::Pending | Phase::Lookup(_) => Piece::Blocked,
        }
    }

    /// The id of what was sent last; `None` where that is forgotten, or before the reader has begun.
    pub(super) fn id(&self) -> Option<Bytes> {
        match &self.phase {
            Phase::Pending | Phase::Lookup(_) => None,
            Phase::Snapshot(scan) => Some(scan.position.id().into()),
            Phase::CatchUp(_, wanted) => Some(wanted.id().into()),
            Phase::Replay(reader, _) => Some(reader.position().id().into()),
            Phase::Live(cursor) => {
                let id = self.stream.read().log.id_before(*cursor);
                id.filter(|id| !id.is_empty())
            }
        }
    }

    /// Wakes `waker` when what the reader waits for beside the stream changes. Returns false if it has changed since it
    /// was last read.
    pub(super) fn wait(&self, waker: &Waker) -> bool {
        match &self.phase {
            Phase::Replay(reader, _) => reader.wait(waker),
            Phase::Lookup(lookup) => lookup.wait(waker),
            _ => true,
        }
    }

    /// The next piece of the log.
    fn read_log(&mut self, cursor: Sequence) -> Piece {
        let state = self.stream.read();
        let mut has_shown_last = true;
        // The first record that the reader gets; of a filter's matches the last, as others may be far behind the first.
        let mut looks_at = cursor;
        let read = match self.group() {
            None => state.log.read(cursor),
            Some(group) => match select(&state.log, group, cursor) {
                Selection::Read(read, shown) => {
                    looks_at = shown;
                    has_shown_last = matches!(read, Read::Frames(_, next, _) if shown + 1 == next);
                    read
                }
                Selection::Look(until) => match state.log.block_at(cursor) {
                    Some(block) => {
                        drop(state);
                        return look(&self.stream, group, (cursor, until), block);
                    }
                    None => Read::Evicted,
                },
            },
        };
        match read {
            Read::Frames(bytes, next, count) => {
                let came = state.arrivals.of(looks_at);
                self.phase = Phase::Live(next);
                if let Some(last) = &mut self.last {
                    // The id of what is sent now: shared bytes, copied only in mid-block.
                    *last = state.log.id_before(next).unwrap_or_default();
                }
                if let Some(filtered) = &mut self.filtered
                    && has_shown_last
                    && next == state.log.next()
                    && state.log.ends_with_head()
                {
                    filtered.sent_id.clone_from(state.log.head());
                }
                Piece::Frames(Frames { bytes, count, came })
            }
            Read::AtHead => Piece::AtHead,
            Read::Evicted => Piece::FellOff(cursor),
        }
    }

    /// The next piece of the table; empty when the scan is over, or has come to nothing that is shown.
    fn scan(&mut self) -> Piece {
        let group = self.group().map(Arc::clone);
        let Phase::Snapshot(scan) = &mut self.phase else {
            return Piece::Blocked;
        };
        let settings = self.stream.settings();
        let mut show = Show {
            matcher: group.as_deref().map(|group| &group.matcher),
            encoder: Encoder::new(settings),
            topics: &settings.topics,
            scratch: Vec::new(),
            shown: 0,
        };
        let ((bytes, may_have_more), has_kept) = match self.stream.read_table() {
            Some(table) => {
                // One that fell off the log may show an older record of the key.
                let is_overtaken = scan.is_conflated && table.has_lost_row_since(scan.cursor);
                let has_kept = table.has_kept_since(&scan.wanted) && !is_overtaken;
                (table.piece(scan, pieces::next_size(), &mut show), has_kept)
            }
            None => ((Bytes::new(), false), true),
        };
        if !has_kept {
            return Piece::Overtaken;
        }
        let shown = show.shown;
        if !may_have_more {
            // A client that came from a replica further on than this one must not go back.
            let (until, position) = (scan.until, scan.position.clone());
            self.ends_without_id = scan.is_conflated && scan.lacks_id();
            if let Some(pieces) = scan.pieces.take() {
                self.kept = Some(Box::new((self.stream.instant() + KEPT_FOR, pieces)));
            }
            self.phase = Phase::CatchUp(until, Box::new(position));
        }
        Piece::Frames(Frames::of_past(bytes, shown))
    }

    /// The next piece of the log that the reader's own position has not passed. When it has reached the
    /// position all share, it reads on there. Without a table, one that wants a partition from its beginning does not
    /// reach that before the partition has a leader: the log never has its past, nor do the log's ids ask for it.
    fn catch_up(&mut self) -> Piece {
        let group = group_of(self.filtered.as_deref());
        let Phase::CatchUp(cursor, wanted) = &mut self.phase else {
            return Piece::Blocked;
        };
        let state = self.stream.read();
        if state.begins_behind(*cursor, wanted) {
            // The records that it wants of that partition are not in the log.
            return caught_up_to(wanted, *cursor);
        }
        let mut scratch = Vec::new();
        let read = match group {
            None => state.log.read_wanted(*cursor, wanted, None, &mut scratch),
            Some(group) => match select_wanted(&state.log, group, *cursor, wanted, &mut scratch) {
                Selection::Read(read, _) => read,
                Selection::Look(until) => match state.log.block_at(*cursor) {
                    Some(block) => {
                        let range = (*cursor, until);
                        drop(state);
                        return look(&self.stream, group, range, block);
                    }
                    None => Read::Evicted,
                },
            },
        };
        if let Read::Frames(frames, next, _) = &read {
            *cursor = *next;
            if !frames.is_empty()
                && let Some(filtered) = &mut self.filtered
            {
                filtered.sent_id = wanted.id().into();
            }
        }
        let shared = state
            .log
            .id_before(*cursor)
            .and_then(|id| Position::parse(&id).ok());
        if let Some(shared) = &shared {
            // Records that do not match this reader's filter are passed too.
            wanted.advance_to(shared);
        }
        let has_table = self.stream.settings().has_table();
        let is_passed = shared.is_some_and(|mut shared| {
            if has_table {
                // An id that says so of a partition gets all its rows, as one that names its first offset does; and its
                // past is in the log when it begins.
                shared.replace(NOT_BEGUN, |topic, partition| state.low.next(topic, partition));
            }
            shared.has_passed(wanted)
        });
        drop(state);
        if is_passed {
            if let Some(last) = &mut self.last {
                *last = wanted.id().into();
            }
            let cursor = *cursor;
            self.phase = Phase::Live(cursor);
            return match read {
                Read::Frames(frames, _, count) => Piece::Frames(Frames::of_past(frames, count)),
                Read::AtHead | Read::Evicted => Piece::Live,
            };
        }
        match read {
            Read::Frames(frames, _, count) => Piece::Frames(Frames::of_past(frames, count)),
            Read::AtHead => Piece::AtHead,
            Read::Evicted => caught_up_to(wanted, *cursor),
        }
    }

    /// The next piece of a replay.
    fn replay(&mut self) -> Piece {
        let group = group_of(self.filtered.as_deref());
        let matcher: Option<&Matcher> = group.map(|group| &group.matcher);
        let Phase::Replay(reader, joined) = &mut self.phase else {
            return Piece::Blocked;
        };
        match reader.next(matcher, &mut Vec::new()) {
            ReplayRead::Frames(frames, count) => Piece::Frames(Frames::of_past(frames, count)),
            ReplayRead::Nothing => Piece::Blocked,
            ReplayRead::Gap(gap) => Piece::Gap(gap),
            end @ (ReplayRead::End | ReplayRead::Lost) => Piece::Over {
                wanted: match end {
                    ReplayRead::End => reader.end(),
                    _ => reader.position().clone(),
                },
                since: *joined,
                has_read_kafka: true,
            },
        }
    }
}

fn caught_up_to(wanted: &Position, since: Sequence) -> Piece {
    Piece::Over {
        wanted: wanted.clone(),
        since,
        has_read_kafka: false,
    }
}

/// Has records of a block looked through for a group.
fn look(
    stream: &Arc<Stream>,
    group: &Arc<Group>,
    range: (Sequence, Sequence),
    block: (Sequence, Arc<Block>),
) -> Piece {
    if stream.look(group, range, block) {
        Piece::Frames(Frames::default())
    } else {
        Piece::Blocked
    }
}
