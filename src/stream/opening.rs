//! Where a reader begins: what it asked for, what it came with, and what the stream holds.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::latest::Walk;
use super::log::Sequence;
use super::position::{BEGINNING, MAX_ID, Position, TopicPosition};
use super::resume::{Reset, Resumed, from_kafka_sse, resume};
use super::stream::{State, Stream};
use super::subscription::Place;
use crate::config::Start;

/// How a client wants to begin.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// Where to begin, if the client says so.
    pub start: Option<Start>,
    /// The id of the last event it saw, if it comes back.
    pub last_event_id: Option<String>,
}

/// Where a reader begins, and what it is told first.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) place: Place,
    /// The id of that place, where it is in the log.
    pub(super) id: Option<Bytes>,
    /// Why it must forget what it holds, of which topic if not of all.
    pub(super) resets: Vec<(Reset, Option<String>)>,
    /// The record at which it has caught up.
    pub(super) target: Sequence,
    /// What `caught-up` says.
    pub(super) reason: &'static str,
}

/// Finds where a reader begins; `None` while the stream does not know enough.
pub(super) fn begin(stream: &Arc<Stream>, opening: &Opening) -> Option<Beginning> {
    let state = stream.read();
    if !state.is_assigned {
        return None;
    }
    let here = Position::parse(state.log.head()).ok()?;
    let start = opening.start.unwrap_or(stream.settings().start);
    let mut resets = Vec::new();
    if let Some(id) = &opening.last_event_id {
        match come_back(stream, &state, &here, id, start) {
            Ok(beginning) => return beginning,
            Err(reason) => resets.push((reason, None)),
        }
    }
    // A topic that is still being loaded holds history, which `live` must not show, and a table
    // that is not whole.
    if start != Start::Earliest && state.loaded.is_none() {
        return None;
    }
    let target = state.log.next();
    let (place, reason) = match start {
        Start::Live => (Place::Reading(target), "live"),
        Start::Earliest => (go_on(stream, &state, &here, beginning(&here), None)?, "replay"),
        Start::Snapshot => {
            let mut position = unread(&here);
            position.as_of = Some(now());
            let walk = Walk {
                cursor: 0,
                until: target,
                wanted: Position::default(),
                deletes_from: target,
                position,
                rows_to_id: 0,
            };
            (Place::Walking(Box::new(walk)), "snapshot")
        }
    };
    let id = id_of(&state, &place);
    Some(Beginning {
        place,
        id,
        resets,
        target,
        reason,
    })
}

fn id_of(state: &State, place: &Place) -> Option<Bytes> {
    match place {
        Place::Reading(cursor) => state.log.id_before(*cursor),
        _ => None,
    }
}

/// Where a client goes on that has been here, or at another replica, before. `Ok(None)` while the
/// stream does not know enough.
fn come_back(
    stream: &Stream,
    state: &State,
    here: &Position,
    id: &str,
    start: Start,
) -> Result<Option<Beginning>, Reset> {
    let settings = stream.settings();
    let Resumed { wanted, recreated } = if id.starts_with('[') {
        let wanted = from_kafka_sse(id, &settings.topics, here, start)?;
        Resumed {
            wanted: Position {
                as_of: None,
                ..wanted
            },
            recreated: Vec::new(),
        }
    } else {
        resume(
            &Position::parse(id.as_bytes()).map_err(|_| Reset::UnknownId)?,
            here,
        )?
    };
    if settings.has_table() {
        if state.loaded.is_none() {
            return Ok(None);
        }
        // What the log holds needs no memory of deletes: they are in it.
        let is_in_log = state.log.resume_point(&wanted).is_some();
        if !is_in_log && !knows_deletes(stream, &wanted) {
            return Err(Reset::TooOld);
        }
    }
    let target = state.log.next();
    let Some(place) = go_on(stream, state, here, wanted, Some(id)) else {
        return Ok(None);
    };
    let name = |index: usize| stream.settings().topics.get(index).cloned();
    let resets = recreated
        .into_iter()
        .map(|index| (Reset::Recreated, name(index)))
        .collect();
    let id = id_of(state, &place);
    Ok(Some(Beginning {
        place,
        id,
        resets,
        target,
        reason: "replay",
    }))
}

/// The place of a reader that wants everything from `wanted` on: in the log if that holds it,
/// otherwise in the table, otherwise in a replay. `None` where it has to wait for its turn.
pub(super) fn go_on(
    stream: &Stream,
    state: &State,
    here: &Position,
    wanted: Position,
    id: Option<&str>,
) -> Option<Place> {
    let mut from = wanted.clone();
    from.start_at(&state.low);
    if let Some(cursor) = state.log.resume_point(&from) {
        // The very event is in memory: it was this replica that made the id.
        let exact = id.and_then(|id| state.log.after_id(cursor, id.as_bytes()));
        return Some(match exact {
            Some(cursor) => Place::Reading(cursor),
            None if cursor == state.log.first() && state.log.begins_at(&from) => Place::Reading(cursor),
            // Two replicas may have read the partitions of one key in another order: only the table says
            // which record is the latest, so a position that is not of this replica goes through it.
            None if knows_deletes(stream, &wanted) => walk(from, wanted, state),
            None => Place::Catching(cursor, Box::new(from)),
        });
    }
    if stream.settings().has_table() {
        return Some(walk(from, wanted, state));
    }
    match stream.replay(&wanted, here) {
        Some(Ok(reader)) => Some(Place::Replaying(Box::new(reader))),
        Some(Err(_busy)) => None,
        None => Some(Place::Reading(state.log.first())),
    }
}

/// Whether the stream keeps a table that still knows every delete since `wanted`.
fn knows_deletes(stream: &Stream, wanted: &Position) -> bool {
    let table = stream.read_table();
    table.is_some_and(|table| {
        wanted
            .as_of
            .is_some_and(|as_of| table.knows_deletes_since(as_of, now()))
    })
}

/// Through the table, for what is newer than `wanted`, and on in the log.
fn walk(position: Position, wanted: Position, state: &State) -> Place {
    let until = state.log.next();
    Place::Walking(Box::new(Walk {
        cursor: 0,
        until,
        wanted,
        deletes_from: 0,
        position,
        rows_to_id: 0,
    }))
}

/// Everything, from the beginning of every partition.
fn beginning(here: &Position) -> Position {
    let topic = |topic: &TopicPosition| TopicPosition {
        next: vec![BEGINNING; topic.next.len()],
        ..topic.clone()
    };
    Position {
        as_of: here.as_of,
        topics: here.topics.iter().map(topic).collect(),
    }
}

/// The same topics and partitions, with nothing read.
fn unread(here: &Position) -> Position {
    let topic = |topic: &TopicPosition| TopicPosition {
        next: vec![0; topic.next.len()],
        ..topic.clone()
    };
    Position {
        as_of: here.as_of,
        topics: here.topics.iter().map(topic).collect(),
    }
}

/// Whether an id that came from outside may stand in a frame.
pub(super) fn is_harmless(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= MAX_ID
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Unix seconds.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
