//! Targets of the fuzzer: event ids, and values in JSON.

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::kafka_sse_id::{IdEntry, from_kafka_sse, is_kafka_sse};
use super::paths::Paths;
use super::position::{BEGINNING, Position, TopicPosition, fingerprint};
use super::resume::resume;
use super::values::Found;
use crate::config::Start;
use crate::config::filter::{MAX_PATH, split};
use crate::config::units::other_unit;

/// Times up to which deletes are known take at most this many bits in ids that are written here: until the year 3058.
const AS_OF_BITS: u32 = 35;

/// The position of a stream of two topics.
fn here() -> Position {
    let topic = |name: &str, next: &[i64]| TopicPosition {
        name: fingerprint(name),
        id: 7,
        next: next.to_vec(),
        marks: Vec::new(),
    };
    Position {
        as_of: None,
        topics: vec![topic("t", &[10, 20]), topic("u", &[0])],
    }
}

/// An id that is a position is written as one that is equal and no longer. A stream that a client resumes with it continues
/// at one of its own partitions, and not before what the client has if it advances from there.
pub(crate) fn positions(id: &[u8]) {
    let Ok(position) = Position::parse(id) else {
        return;
    };
    let written = position.id();
    assert_eq!(Position::parse(&written).as_ref(), Ok(&position));
    assert!(written.len() <= id.len());
    if position.as_of.is_none_or(|as_of| as_of >> AS_OF_BITS == 0) {
        assert!(written.len() <= position.id_len_ahead());
    }
    assert!(position.has_passed(&position));
    let here = here();
    let Ok(resumed) = resume(&position, &here) else {
        assert!(
            position
                .topics
                .iter()
                .all(|topic| here.topics.iter().all(|own| own.name != topic.name))
        );
        return;
    };
    let wanted = resumed.wanted;
    assert_eq!(wanted.topics.len(), here.topics.len());
    for (wanted, here) in wanted.topics.iter().zip(&here.topics) {
        assert_eq!((wanted.name, wanted.id), (here.name, here.id));
        assert!(wanted.next.len() >= here.next.len());
    }
    let mut advanced = here.clone();
    advanced.advance_to(&wanted);
    assert!(advanced.has_passed(&here) && advanced.has_passed(&wanted));
    let mut retreated = here.clone();
    retreated.retreat_to(&wanted);
    assert!(here.has_passed(&retreated));
}

/// Any text is an id of KafkaSSE, and none of ours, or is refused. A client with one begins each partition at an offset or
/// at a time in milliseconds, and the partitions that it omits as other clients do. The first byte says how these begin.
pub(crate) fn kafka_sse_ids(data: &[u8]) {
    let Some((&other, id)) = data.split_first() else {
        return;
    };
    let Ok(id) = std::str::from_utf8(id) else {
        return;
    };
    let start = [Start::Live, Start::Earliest, Start::Snapshot][usize::from(other % 3)];
    let since = (other & 0x80 != 0).then_some(1_764_063_000_123);
    let (topics, here) = (["t".to_owned(), "u".to_owned()], here());
    let Ok(begun) = from_kafka_sse(id, &topics, &here, since, start) else {
        return;
    };
    assert!(is_kafka_sse(id.trim_start()) && Position::parse(id.as_bytes()).is_err());
    let entries = IdEntry::all(id).expect("it was read");
    let times = |topic: usize, partition: u32| {
        let times = begun.times.as_ref()?.get(topic)?;
        *times.get(partition as usize).expect("as many as partitions")
    };
    for (topic, partition, next) in here.partitions() {
        let wanted = begun.wanted.next(topic, partition);
        let time = times(topic, partition);
        assert!(wanted >= 0 || wanted == BEGINNING, "{wanted}");
        assert!(time.is_none_or(|time| time >= 0 && other_unit(time).is_none()));
        let is_named = |entry: &IdEntry| entry.topic == topics[topic] && entry.partition == partition;
        if !entries.iter().any(is_named) {
            let is_live = start == Start::Live && since.is_none();
            assert_eq!((wanted, time), (if is_live { next } else { BEGINNING }, since));
        }
    }
    assert_eq!(begun.wanted.partitions().count(), here.partitions().count());
    let written: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({
                "topic": entry.topic,
                "partition": entry.partition,
                "offset": entry.offset,
                "timestamp": entry.timestamp,
            })
        })
        .collect();
    let written = Value::from(written).to_string();
    assert_eq!(from_kafka_sse(&written, &topics, &here, since, start), Ok(begun));
}

/// The values at paths are those that a search of the parsed document finds; of no document there are none. The first line
/// has paths with commas between them, the rest is a document.
pub(crate) fn values(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some((paths, json)) = text.split_once('\n') else {
        return;
    };
    let paths: Vec<Vec<String>> = paths
        .split(',')
        .filter_map(split)
        .filter(|path| path.len() <= MAX_PATH)
        .collect();
    let trie = Paths::new((0..).zip(paths.iter().map(Vec::as_slice)));
    let mut found = Found::default();
    // A document before it changes nothing.
    found.look_up(&trie, "{\"a\":{\"b\":1}}");
    found.look_up(&trie, json);
    let is_document = serde_json::from_str::<IgnoredAny>(json).is_ok();
    let document = serde_json::from_str::<Value>(json);
    for (slot, path) in (0..).zip(&paths) {
        let value = found.values(1).get(slot);
        if !is_document {
            assert_eq!(value, None);
        }
        // Numbers that are too large, escapes of half a character and deep nesting are values only as text.
        let Ok(document) = &document else {
            continue;
        };
        match (search(document, path), value) {
            (Some(Value::String(wanted)), value) => assert_eq!(value, Some(wanted.as_str())),
            (wanted, value) => {
                let value = value.map(|text| serde_json::from_str::<Value>(text).expect("a scalar"));
                assert_eq!(value.as_ref(), wanted);
            }
        }
    }
}

/// By the words of the documentation: the whole rest of the path as one name, if it is a scalar, then its next name.
fn search<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    let get = |name: &str| match value {
        Value::Object(members) => members.get(name),
        Value::Array(elements) => {
            let index: usize = name.parse().ok()?;
            elements.get(index).filter(|_| index.to_string() == name)
        }
        _ => None,
    };
    let is_scalar = |value: &&Value| !value.is_object() && !value.is_array();
    let (first, rest) = path.split_first()?;
    get(&path.join("."))
        .filter(is_scalar)
        .or_else(|| search(get(first)?, rest))
}
