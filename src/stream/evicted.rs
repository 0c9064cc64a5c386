//! Keys of which the table has no row although they have a latest record: it had to leave the full table, or found no
//! place there.
//!
//! Clients may hold that record. When the key's next one does not pass a filter, they must be sent a delete, and when
//! that one is older, because it stands in another partition, nothing. The table's rows cannot tell, so the hash of the
//! key is remembered with where the record came from. To send a delete for every record of an unknown key needs no
//! memory, but makes each new key an event for each client whose filter it does not pass, and shows keys that the
//! stream's own filter hides.
//!
//! That has a bound in bytes. Where it is used up, everything is forgotten at once, and that is counted: clients to whom
//! it may matter begin anew. Pure data.

use hashbrown::HashTable;

use super::row::Origin;

/// A key takes so many bytes: a bucket of a hash table, of which between seven sixteenths and seven eighths are used.
pub(super) const COST: usize = 54;

/// Hash tables that a topic's keys are split over, so that none stops its caller for long when it grows.
const SHARDS: usize = 64;

/// Which bits of a hash choose the shard: neither the lowest nor the highest, which the tables use.
const SHARD_SHIFT: u32 = 32;

/// The latest record of a key without a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Departed {
    pub(super) origin: Origin,
    /// Whether clients may hold it: it was shown, and not as a delete.
    pub(super) is_held: bool,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    offset: i64,
    /// Milliseconds, where known.
    timestamp: i64,
    partition: u32,
    has_timestamp: bool,
    is_held: bool,
}

/// What is known of keys, by topic and hash.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// By topic; no tables where there were no keys.
    topics: Vec<Box<[HashTable<Entry>]>>,
    len: usize,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What is known of a key with this hash.
    pub(super) fn find(&self, topic: u16, hash: u64) -> Option<Departed> {
        let shard = self.topics.get(usize::from(topic))?.get(shard_of(hash))?;
        let entry = shard.find(hash, |entry| entry.hash == hash)?;
        Some(Departed {
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

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, hash: u64, departed: Departed) {
        let Departed { origin, is_held } = departed;
        let topic = usize::from(origin.topic);
        if self.topics.len() <= topic {
            self.topics.resize_with(topic + 1, Box::default);
        }
        let shards = &mut self.topics[topic];
        if shards.is_empty() {
            *shards = std::iter::repeat_with(HashTable::new).take(SHARDS).collect();
        }
        let entry = Entry {
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
    forgettings: u64,
}

impl Evicted {
    /// None yet, which may take so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            keys: Keys::default(),
            most: most(bytes),
            forgettings: 0,
        }
    }

    /// They may take so many bytes from now on.
    pub(super) fn set_bytes(&mut self, bytes: usize) {
        self.most = most(bytes);
        if self.keys.len() > self.most {
            self.forget();
        }
    }

    /// Bytes they take.
    pub(super) fn cost(&self) -> usize {
        self.keys.len() * COST
    }

    /// How often everything was forgotten.
    pub(super) fn forgettings(&self) -> u64 {
        self.forgettings
    }

    /// What is known of a key with this hash.
    pub(super) fn find(&self, topic: u16, hash: u64) -> Option<Departed> {
        self.keys.find(topic, hash)
    }

    /// Forgets a key, which has a row from now on.
    pub(super) fn remove(&mut self, topic: u16, hash: u64) {
        self.keys.remove(topic, hash);
    }

    /// Remembers a key that has no row and was not remembered.
    pub(super) fn note(&mut self, hash: u64, departed: Departed) {
        if self.keys.len() >= self.most {
            self.forget();
        }
        self.keys.insert(hash, departed);
    }

    /// Forgets the keys of a topic, which begins anew: clients are told to forget them too.
    pub(super) fn clear(&mut self, topic: u16) {
        self.keys.clear(topic);
    }

    fn forget(&mut self) {
        self.keys = Keys::default();
        self.forgettings += 1;
    }
}

/// Most keys that take so many bytes.
pub(super) fn most(bytes: usize) -> usize {
    (bytes / COST).max(1)
}

/// Which shard a hash belongs to.
fn shard_of(hash: u64) -> usize {
    // The remainder is far below any usize.
    usize::try_from((hash >> SHARD_SHIFT) % SHARDS as u64).unwrap_or(0)
}
