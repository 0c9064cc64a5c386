//! The settings of a simulation, and the filters of its clients.

use super::model::{Kind, Record};
use kafka_sse_bridge::config::filter::{Filter, Name};
use kafka_sse_bridge::config::{Lag, Start, WhenFull};
use std::collections::BTreeMap;

/// Both have the same keys.
pub const TOPICS: [&str; 2] = ["t", "u"];

/// Most partitions of a topic.
pub const PARTITIONS: usize = 4;

/// The settings of one simulation.
#[derive(Clone, Debug)]
pub struct Setup {
    pub start: Start,
    pub lag: Lag,
    /// Whether records are shown as envelopes; otherwise as their values, which then say the same.
    pub is_envelope: bool,
    /// Whether a key may turn up in any partition of its topic.
    pub is_spread: bool,
    pub partitions: [usize; TOPICS.len()],
    /// Partitions without a leader at first, with how many records they hold.
    pub leaderless: Vec<(Place, usize)>,
    pub log_bytes: u64,
    pub preload: usize,
    /// Most keys and bytes of the table, and what happens there.
    pub bounds: Option<(u64, u64, WhenFull)>,
    /// Whether the stream itself shows one shade of values only.
    pub is_fixed: bool,
    /// Whether records have timestamps.
    pub has_times: bool,
    /// Whether the ids of topics are known.
    pub has_ids: bool,
    /// Whether leader epochs are known. Otherwise no log is truncated.
    pub has_epochs: bool,
    /// Bytes that every value has more: a client is given a table of such rows in several pieces.
    pub padding: usize,
    /// Where each client begins that brings no id, and what it wants to see.
    pub clients: Vec<(Option<Start>, Wants)>,
}

/// The filter of a client.
#[derive(Clone, Copy, Debug)]
pub enum Wants {
    All,
    Key(u8),
    Partition(usize),
    /// Records whose value has this shade.
    Shade(usize),
}

impl Wants {
    /// The filter, as a query would ask for it.
    pub fn filter(self) -> Option<Filter> {
        let (name, value) = match self {
            Self::All => return None,
            Self::Key(key) => (Name::Key, key.to_string()),
            Self::Partition(partition) => (Name::Partition, partition.to_string()),
            Self::Shade(shade) => (Name::Value(vec!["shade".to_owned()]), shade.to_string()),
        };
        let mut filter = Filter::default();
        filter.add(name, &value, &TOPICS.map(str::to_owned)).unwrap();
        Some(filter)
    }

    /// Whether a record passes that has a value or, on a stream without a table, has none.
    pub fn passes(self, place: Place, record: &Record) -> bool {
        match self {
            Self::All => true,
            Self::Key(key) => record.key == Some(key),
            Self::Partition(partition) => place.partition == partition,
            Self::Shade(shade) => record.kind == Kind::Value && record.shade == shade,
        }
    }
}

/// The fixed filter of streams.
pub const FIXED: Wants = Wants::Shade(0);

/// The same in their configuration.
pub fn fixed() -> BTreeMap<String, Vec<String>> {
    BTreeMap::from([("value.shade".to_owned(), vec!["0".to_owned()])])
}

/// Values have shades, so that a key's records pass a filter at times, and at times do not. A record that replaces a lost
/// one has another shade.
pub fn shade(offset: usize, epoch: u32) -> usize {
    (offset + epoch as usize) % 3
}

impl Setup {
    pub fn has_table(&self) -> bool {
        self.start == Start::Snapshot
    }
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: usize,
    pub partition: usize,
}
