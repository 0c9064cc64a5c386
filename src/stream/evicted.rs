//! Keys that have a latest record but no row in the table: the full table evicted the row, or had no room for it.
//!
//! Clients may hold that record. When the key's next record does not pass a filter, they must receive a delete; when
//! that record is older, because it is in another partition, they must receive nothing. The table's rows cannot tell,
//! so the hash of the key is remembered with the record's origin. Sending a delete for every record of an unknown key
//! needs no memory, but makes each new key an event for each client whose filter it does not pass, and shows keys that
//! the stream's own filter hides.
//!
//! The bytes are bounded. At the bound, everything is forgotten at once and that is counted: clients that may be
//! affected are reset. Pure data.

use hashbrown::HashTable;

use super::row::Origin;

/// Bytes of a key: a bucket of a hash table, of which between seven sixteenths and seven eighths are used.
pub(super) const COST: usize = 54;

/// Hash tables over which a topic's keys are split, so that none blocks its caller for long when it grows.
const SHARDS: usize = 64;

/// The bits of a hash that choose the shard: neither the lowest nor the highest, which the tables use.
const SHARD_SHIFT: u32 = 32;

/// The latest record of a key without a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastRecord {
    pub(super) origin: Origin,
    /// Whether clients may hold it: it was shown, and not as a delete.
    pub(super) is_held: bool,
}

#[derive(Debug)]
struct HashedKey {
    hash: u64,
    offset: i64,
    /// Milliseconds, where known.
    timestamp: i64,
    partition: u32,
    has_timestamp: bool,
    is_held: bool,
}

/// The latest records of keys, by topic and hash.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// By topic; no tables before the first key.
    topics: Vec<Box<[HashTable<HashedKey>]>>,
    len: usize,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The latest record of a key with this hash, if it is remembered.
    pub(super) fn find(&self, topic: u16, hash: u64) -> Option<LastRecord> {
        let shard = self.topics.get(usize::from(topic))?.get(shard_of(hash))?;
        let entry = shard.find(hash, |entry| entry.hash == hash)?;
        Some(LastRecord {
            origin: Origin {
                topic,
                partition: entry.partition,
                offset: entry.offset,
                timestamp: entry.has_timestamp.then_some(entry.timestamp),
            },
            is_held: entry.is_held,
        })
    }

    pub(super) fn remove(&mut self, topic: u16, hash: u64) {
        let topic = self.topics.get_mut(usize::from(topic));
        let Some(shard) = topic.and_then(|shards| shards.get_mut(shard_of(hash))) else {
            return;
        };
        if let Ok(entry) = shard.find_entry(hash, |entry| entry.hash == hash) {
            entry.remove();
            self.len -= 1;
        }
    }

    /// Adds a key that is not present.
    pub(super) fn insert(&mut self, hash: u64, record: LastRecord) {
        let LastRecord { origin, is_held } = record;
        let topic = usize::from(origin.topic);
        if self.topics.len() <= topic {
            self.topics.resize_with(topic + 1, Box::default);
        }
        let shards = &mut self.topics[topic];
        if shards.is_empty() {
            *shards = std::iter::repeat_with(HashTable::new).take(SHARDS).collect();
        }
        let entry = HashedKey {
            hash,
            offset: origin.offset,
            timestamp: origin.timestamp.unwrap_or_default(),
            partition: origin.partition,
            has_timestamp: origin.timestamp.is_some(),
            is_held,
        };
        shards[shard_of(hash)].insert_unique(hash, entry, |entry| entry.hash);
        self.len += 1;
    }

    /// Removes the keys of a topic.
    pub(super) fn clear(&mut self, topic: u16) {
        if let Some(shards) = self.topics.get_mut(usize::from(topic)) {
            self.len -= shards.iter().map(HashTable::len).sum::<usize>();
            *shards = Box::default();
        }
    }
}

/// Keys without a row.
#[derive(Debug)]
pub(super) struct Evicted {
    keys: Keys,
    /// Most keys.
    most: usize,
    eviction_resets: u64,
}

impl Evicted {
    /// No keys, with capacity for those that fit into this many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            keys: Keys::default(),
            most: most(bytes),
            eviction_resets: 0,
        }
    }

    /// Sets how many bytes they may take.
    pub(super) fn set_bytes(&mut self, bytes: usize) {
        self.most = most(bytes);
        if self.keys.len() > self.most {
            self.forget();
        }
    }

    /// Bytes of memory.
    pub(super) fn cost(&self) -> usize {
        self.keys.len() * COST
    }

    /// How often everything was forgotten.
    pub(super) fn eviction_resets(&self) -> u64 {
        self.eviction_resets
    }

    /// The latest record of a key with this hash, if it is remembered.
    pub(super) fn find(&self, topic: u16, hash: u64) -> Option<LastRecord> {
        self.keys.find(topic, hash)
    }

    /// Forgets a key that now has a row.
    pub(super) fn remove(&mut self, topic: u16, hash: u64) {
        self.keys.remove(topic, hash);
    }

    /// Remembers a key that has no row and was not remembered.
    pub(super) fn note(&mut self, hash: u64, record: LastRecord) {
        if self.keys.len() >= self.most {
            self.forget();
        }
        self.keys.insert(hash, record);
    }

    /// Forgets the keys of a topic that is reset: clients forget them too.
    pub(super) fn clear(&mut self, topic: u16) {
        self.keys.clear(topic);
    }

    fn forget(&mut self) {
        self.keys = Keys::default();
        self.eviction_resets += 1;
    }
}

/// Most keys that fit into this many bytes.
pub(super) fn most(bytes: usize) -> usize {
    (bytes / COST).max(1)
}

/// The shard of a hash.
fn shard_of(hash: u64) -> usize {
    // The remainder is far below `usize::MAX`.
    usize::try_from((hash >> SHARD_SHIFT) % SHARDS as u64).unwrap_or(0)
}
