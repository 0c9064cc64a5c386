//! Where a reader begins: by what it asked for, the position that it came with, and what the stream holds.
//!
//! Makes decisions only, because the stream's state is locked: it starts nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::access::Access;
use super::control::{CaughtUp, Gap, Reset, Resets};
use super::kafka_sse_id::{KafkaSse, from_kafka_sse, is_kafka_sse};
use super::log::Sequence;
use super::lookup::{Offsets, Query};
use super::position::{BEGINNING, NOT_BEGUN, Position};
use super::read_from::{ReadFrom, is_in_table, read_from, snapshot};
use super::resume::{Resumed, ahead_of, names_more_partitions, names_unbegun, names_unread_epochs, resume};
use super::shared::Stream;
use super::state::StreamState;
use super::truncation::Divergence;
use crate::config::Start;
use crate::config::filter::Filter;
use crate::config::path_parameters::PathValues;
use crate::kafka::history::fair_queue::Flow;

/// How long a client waits for a stream that is still being loaded to read past its id: a partition that loses its
/// leader in that time must not block the others for ever.
const LOADING_PATIENCE: Duration = Duration::from_secs(60);

/// How a client wants to begin, and what it wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    /// Where to begin, if the client says so.
    pub start: Option<Start>,
    /// From which time on to read, in milliseconds since the epoch, if the client says so.
    pub since: Option<i64>,
    /// The id of the last event it saw, if it comes back.
    pub last_event_id: Option<String>,
    /// The records that its query asks for; all, if not given.
    pub filter: Option<Filter>,
    /// The shortest time between two values of a key, if the client says so.
    pub throttle: Option<Duration>,
    /// The values of the path's parameters, where it has any. Without them such a stream shows no record.
    pub path_values: Option<PathValues>,
    /// The right of the client; `None` where everybody may read.
    pub access: Option<Access>,
    /// The flow in which its reads of the past take turns.
    pub flow: Flow,
    /// Whether it moved over from the stream that this one replaced, instead of connecting.
    pub is_handed_over: bool,
}

/// Kafka cannot say: the client library in use does not know how to ask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unknowable;

/// The answers that a reader needed before it could begin.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Where times lie, or that it cannot be known.
    pub(super) times: Option<Result<Offsets, Unknowable>>,
    /// Where partitions end.
    pub(super) ends: Option<Offsets>,
    /// When the reader first tried to begin.
    asked_at: Option<Instant>,
    /// Whether it has waited for [`LOADING_PATIENCE`] since.
    is_late: bool,
}

impl Answers {
    /// Notes that the reader tries to begin at `now`.
    pub(super) fn note_attempt(&mut self, now: Instant) {
        let since = *self.asked_at.get_or_insert(now);
        if !self.is_late && now.saturating_duration_since(since) >= LOADING_PATIENCE {
            self.is_late = true;
            // A log may have been truncated since they were requested.
            self.ends = None;
        }
    }

    /// Whether the reader may go on waiting for the stream to read past its id.
    const fn is_patient(&self) -> bool {
        self.asked_at.is_some() && !self.is_late
    }
}

/// Where a reader begins, and its first announcements.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) read_from: ReadFrom,
    /// The id of that place, where it is in the log.
    pub(super) id: Option<Bytes>,
    /// Why it must forget its records, and of which topic (by index) if not of all.
    pub(super) resets: Resets,
    /// Records that it has seen and that no longer exist in Kafka.
    pub(super) gaps: Vec<Gap>,
    /// The record at which it has caught up.
    pub(super) target: Sequence,
    /// The data of `caught-up`.
    pub(super) reason: CaughtUp,
}

/// The result for a reader that begins.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The stream does not know enough yet.
    Wait,
    /// Kafka has to be asked first.
    Ask(Query),
    Begin(Beginning),
}

/// A reader that wants to begin.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) stream: &'a Stream,
    pub(super) opening: &'a Opening,
    pub(super) answers: &'a Answers,
    /// Whether the reader has a filter: then it receives ids beside those of the log.
    pub(super) is_filtered: bool,
    /// Whether a record can end what another one of its key showed, because it does not pass.
    pub(super) makes_deletes: bool,
    /// Whether the reader may not learn of records that do not pass: then no delete says what became of a key since an
    /// id.
    pub(super) is_secret: bool,
}

/// Finds where a reader begins.
pub(super) fn decide(request: &Request<'_>) -> Outcome {
    let Request { stream, opening, .. } = *request;
    let state = stream.read();
    let here = Position::parse(state.log.head()).ok();
    let Some(here) = here.filter(|_| state.is_assigned) else {
        return Outcome::Wait;
    };
    let start = opening.start.unwrap_or(stream.settings().start);
    let mut resets = Vec::new();
    if opening.is_handed_over {
        // Its position may be ahead of a stream that is still being loaded.
        if !stream.is_loaded() && opening.last_event_id.is_some() {
            return Outcome::Wait;
        }
        resets.push((Reset::Reconfigured, None));
    }
    let came_back = match (&opening.last_event_id, opening.since) {
        (Some(id), since) => match (come_back(request, &state, &here, id, start), since) {
            // An id that cannot be used leaves `since`, the next rule. Offsets that were looked up for times of the id
            // are not those of `since`.
            (Err(reason), Some(since)) if reason != Reset::TooOld || !is_kafka_sse(id) => {
                resets.push((reason, None));
                come_since(request, &state, &here, since).or(Ok(None))
            }
            (outcome, _) => outcome,
        },
        (None, Some(since)) => come_since(request, &state, &here, since),
        (None, None) => Ok(None),
    };
    match came_back {
        Ok(Some(Outcome::Begin(mut beginning))) => {
            // A client that is reset as a whole needs no resets of single topics.
            if resets.is_empty() {
                resets = std::mem::take(&mut beginning.resets);
            }
            return Outcome::Begin(Beginning { resets, ..beginning });
        }
        Ok(Some(outcome)) => return outcome,
        Ok(None) => {}
        Err(reason) => resets.push((reason, None)),
    }
    // A topic that is still being loaded holds history, which `live` must not show, and a table
    // that is not whole.
    if start != Start::Earliest && !stream.is_loaded() {
        return Outcome::Wait;
    }
    let target = state.log.next();
    let (read_from, reason) = match start {
        Start::Live => (ReadFrom::Log(target), CaughtUp::Live),
        Start::Earliest => {
            let reader = (stream, request.is_filtered);
            let from = read_from(reader, &state, &here, here.at_beginning(), None);
            (from, CaughtUp::Replay)
        }
        Start::Snapshot => (snapshot(stream, &state, &here), CaughtUp::Snapshot),
    };
    Outcome::Begin(Beginning {
        id: read_from.id(&state),
        read_from,
        resets,
        gaps: Vec::new(),
        target,
        reason,
    })
}

/// Where a client resumes that was connected before, here or at another replica.
fn come_back(
    request: &Request<'_>,
    state: &StreamState,
    here: &Position,
    id: &str,
    start: Start,
) -> Result<Option<Outcome>, Reset> {
    let settings = request.stream.settings();
    if is_kafka_sse(id) {
        let since = request.opening.since;
        let KafkaSse { mut wanted, times } = from_kafka_sse(id, &settings.topics, here, since, start)?;
        if let Some(times) = times {
            let Some(found) = &request.answers.times else {
                return Ok(Some(Outcome::Ask(Query::Times(times))));
            };
            let found = found.as_ref().map_err(|_| Reset::UnknownId)?;
            fill(&mut wanted, found, &times);
        }
        wanted.as_of = None;
        let mut resets = Vec::new();
        if let Some(query) = start_over_beyond_ends(request, here, &mut wanted, &mut resets, start) {
            return Ok(Some(Outcome::Ask(query)));
        }
        return resume_at(request, state, here, wanted, resets, Some(id));
    }
    let client = Position::parse(id.as_bytes()).map_err(|_| Reset::UnknownId)?;
    let Resumed {
        mut wanted,
        recreated,
    } = resume(&client, here)?;
    if request.stream.settings().has_table() && names_more_partitions(&wanted, here) {
        // The table lacks rows of those partitions, so which record of a key is the latest is not known yet.
        return Ok(Some(Outcome::Wait));
    }
    if request.opening.is_handed_over {
        // Topics that are new to it are read as for new clients: from the live position on.
        for (wanted, here) in wanted.topics.iter_mut().zip(&here.topics) {
            if client.topics.iter().all(|topic| topic.name != here.name) {
                wanted.start_over(here.next.clone());
            }
        }
    }
    let recreated = recreated.into_iter();
    let mut resets = recreated.map(|index| (Reset::Recreated, Some(index))).collect();
    if waits_for_epochs(request, &wanted, here) {
        return Ok(Some(Outcome::Wait));
    }
    let gaps = truncated(request, state, here, &mut wanted, &mut resets, start);
    if !request.stream.is_loaded() && names_unbegun(&wanted, here) {
        return Ok(Some(Outcome::Wait));
    }
    if let Some(query) = start_over_beyond_ends(request, here, &mut wanted, &mut resets, start) {
        return Ok(Some(Outcome::Ask(query)));
    }
    // A log may have been truncated after this replica's position, and then nothing is truncated for it.
    if names_unread_epochs(&wanted, here) || may_hold_hidden(request.stream, &wanted, here) {
        if request.answers.is_patient() {
            return Ok(Some(Outcome::Wait));
        }
        if request.stream.settings().has_table() {
            return Err(Reset::TooOld);
        }
    }
    let mut outcome = resume_at(request, state, here, wanted, resets, Some(id))?;
    if let Some(Outcome::Begin(beginning)) = &mut outcome {
        beginning.gaps = gaps;
    }
    Ok(outcome)
}

/// Starts topics over that end before what a client wants, as Kafka confirms: they are other topics than those that the
/// id was made of. This replica alone may be behind the one that made it. Returns what Kafka is to be asked first.
fn start_over_beyond_ends(
    request: &Request<'_>,
    here: &Position,
    wanted: &mut Position,
    resets: &mut Resets,
    start: Start,
) -> Option<Query> {
    let ahead = ahead_of(wanted, here)?;
    let Some(ends) = &request.answers.ends else {
        let counts = || here.topics.iter().map(|topic| topic.next.len()).collect();
        return request.stream.history().map(|_| Query::Ends(counts()));
    };
    for topic in ahead {
        let (Some(wanted), Some(ends)) = (wanted.topics.get_mut(topic), ends.get(topic)) else {
            continue;
        };
        let is_behind = |(next, end): (&i64, &Option<i64>)| end.is_some_and(|end| *next > end);
        if wanted.next.iter().zip(ends).any(is_behind) {
            let from = |here: &i64| if start == Start::Live { *here } else { BEGINNING };
            wanted.start_over(here.topics[topic].next.iter().map(from).collect());
            resets.push((Reset::AheadOfTopic, Some(topic)));
        }
    }
    None
}

/// Moves a client back to where it diverges from the logs, as far as this process can tell. Returns the offsets beyond
/// that it has seen.
fn truncated(
    request: &Request<'_>,
    state: &StreamState,
    here: &Position,
    wanted: &mut Position,
    resets: &mut Resets,
    start: Start,
) -> Vec<Gap> {
    // By leader epochs first: a truncation that this replica noticed may be later than the one that the id is from
    // before.
    let Divergence { mut gaps, unknown } = state.truncations.compare(wanted);
    gaps.extend(state.truncations.take_back(wanted, here));
    // It diverges before the first record that was read here, at an unknown offset.
    let mut anew: Vec<usize> = unknown;
    let has_table = request.stream.settings().has_table();
    if has_table {
        // Rows that those records had replaced are shown again.
        anew.extend(gaps.drain(..).map(|gap| gap.topic));
    }
    gaps.retain(|gap| !anew.contains(&gap.topic));
    for topic in anew {
        if resets.iter().all(|(_, named)| *named != Some(topic)) {
            let is_live = start == Start::Live && !has_table;
            let from = |here: &i64| if is_live { *here } else { BEGINNING };
            wanted.topics[topic].start_over(here.topics[topic].next.iter().map(from).collect());
            resets.push((Reset::Truncated, Some(topic)));
        }
    }
    gaps
}

/// Whether the leader epochs of an id can be compared soon, because a stream that reads from the first offset will read
/// past it.
fn waits_for_epochs(request: &Request<'_>, wanted: &Position, here: &Position) -> bool {
    if request.stream.is_loaded() || request.stream.settings().start == Start::Live {
        return false;
    }
    request.answers.is_patient() && names_unread_epochs(wanted, here)
}

/// Whether a client may hold a record that this replica has not read, although the stream's own filter hides a newer one
/// of its key in another partition: it would be sent no delete, and its id would claim that it needs none.
fn may_hold_hidden(stream: &Stream, wanted: &Position, here: &Position) -> bool {
    let mut partitions = wanted.partitions();
    stream.fixed().is_some()
        && stream.settings().has_table()
        && partitions.any(|(topic, partition, next)| next > here.next(topic, partition).max(0))
}

/// Where a client begins that wants the records from a time on.
fn come_since(
    request: &Request<'_>,
    state: &StreamState,
    here: &Position,
    since: i64,
) -> Result<Option<Outcome>, Reset> {
    let times: Vec<Vec<Option<i64>>> = here
        .topics
        .iter()
        .map(|topic| vec![Some(since); topic.next.len()])
        .collect();
    let Some(found) = &request.answers.times else {
        return Ok(Some(Outcome::Ask(Query::Times(times))));
    };
    // Where this was known beforehand, the request was refused.
    let found = found.as_ref().map_err(|_| Reset::UnknownId)?;
    let mut wanted = here.at_beginning();
    fill(&mut wanted, found, &times);
    wanted.as_of = request
        .stream
        .settings()
        .has_table()
        .then(|| u64::try_from(since / 1000).unwrap_or(0).min(request.stream.now()));
    resume_at(request, state, here, wanted, Vec::new(), None)
}

/// Sets what was asked for to what was found; what exists only now is wanted from its beginning.
fn fill(wanted: &mut Position, found: &Offsets, asked: &[Vec<Option<i64>>]) {
    for ((topic, found), asked) in wanted.topics.iter_mut().zip(found).zip(asked) {
        for ((next, found), asked) in topic.next.iter_mut().zip(found).zip(asked) {
            if asked.is_some() {
                *next = found.unwrap_or(BEGINNING);
            }
        }
    }
}

/// Where a client resumes that wants everything from `wanted` on.
fn resume_at(
    request: &Request<'_>,
    state: &StreamState,
    here: &Position,
    mut wanted: Position,
    resets: Resets,
    id: Option<&str>,
) -> Result<Option<Outcome>, Reset> {
    let stream = request.stream;
    if stream.settings().has_table() {
        let Some(loaded) = stream.loaded() else {
            return Ok(Some(Outcome::Wait));
        };
        // Of a partition that has not begun the client holds nothing, and a table shows all.
        wanted.replace(NOT_BEGUN, |_, _| BEGINNING);
        // A key may occur in several partitions. Where this replica is behind the client, it may show it an
        // older record than it has, and must show it the newer one again: no id may claim that.
        wanted.retreat_to(here);
        // Records that were read live need no memory of deletes, since the log has them, unless a filter makes them.
        // Records that were loaded before were perhaps compacted, tombstones and all.
        let at_load = state.log.id_before(loaded);
        let was_live = at_load
            .and_then(|id| Position::parse(&id).ok())
            .is_none_or(|at_load| wanted.has_passed(&at_load));
        let is_in_log = was_live && state.log.resume_point(&wanted).is_some();
        // The client's filter makes none if it has everything; the stream's may differ from the one before a restart.
        let makes_deletes = stream.fixed().is_some() || request.is_filtered && !wanted.has_passed(here);
        // Records that were deleted before this replica began to read may have changed or deleted the client's keys.
        let misses = !is_in_log && wanted.misses_before(&state.low);
        // Nor is it known of keys that left the table whether a client holds records of them.
        let has_forgotten = id.is_some() && request.makes_deletes && stream.eviction_resets() > 0;
        let is_kept_secret = request.is_secret && id.is_some() && !wanted.has_passed(here);
        if is_kept_secret
            || misses
            || has_forgotten
            || (!is_in_log || makes_deletes) && !is_in_table(stream, &wanted)
        {
            return Err(Reset::TooOld);
        }
    }
    let target = state.log.next();
    let read_from = read_from((stream, request.is_filtered), state, here, wanted, id);
    Ok(Some(Outcome::Begin(Beginning {
        id: read_from.id(state),
        read_from,
        resets,
        gaps: Vec::new(),
        target,
        reason: CaughtUp::Replay,
    })))
}
