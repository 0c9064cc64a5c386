//! Keys whose latest record the stream's own filter hides, and that no client holds.
//!
//! An older record of such a key in another partition may pass the filter, and must not be shown. A filter may hide
//! millions of keys, of which few are ever in several partitions, so the memory is bounded by forgetting the oldest
//! keys first. Resetting clients instead, as for evicted keys, would never end, and protect against less: a forgotten
//! key can only show a record that is older than the hidden one. Pure data.

use super::evicted::{COST, Keys, LastRecord, most};
use super::row::Origin;

/// Keys in two generations: when the younger one is full, the older one is dropped.
#[derive(Debug)]
pub(super) struct Hidden {
    young: Keys,
    old: Keys,
    /// Most keys in a generation; zero where nothing is hidden.
    most: usize,
}

impl Hidden {
    /// Keeps as many keys as fit into this many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            young: Keys::default(),
            old: Keys::default(),
            most: generation(bytes),
        }
    }

    /// Changes how many bytes they may take.
    pub(super) fn set_bytes(&mut self, bytes: usize) {
        self.most = generation(bytes);
        self.make_way();
        if self.old.len() > self.most {
            self.old = Keys::default();
        }
    }

    /// Bytes of memory.
    pub(super) fn cost(&self) -> usize {
        (self.young.len() + self.old.len()) * COST
    }

    /// The latest record of a key with this hash, if it is hidden and remembered.
    pub(super) fn find(&self, topic: u16, hash: u64) -> Option<Origin> {
        let found = self
            .young
            .find(topic, hash)
            .or_else(|| self.old.find(topic, hash));
        found.map(|key| key.origin)
    }

    /// Forgets a key whose newer record is shown.
    pub(super) fn remove(&mut self, topic: u16, hash: u64) {
        self.young.remove(topic, hash);
        self.old.remove(topic, hash);
    }

    /// Remembers the latest record of a key.
    pub(super) fn note(&mut self, hash: u64, origin: Origin) {
        if self.most == 0 {
            return;
        }
        self.remove(origin.topic, hash);
        self.make_way();
        let is_held = false;
        self.young.insert(hash, LastRecord { origin, is_held });
    }

    /// Forgets the keys of a topic that is reset.
    pub(super) fn clear(&mut self, topic: u16) {
        self.young.clear(topic);
        self.old.clear(topic);
    }

    fn make_way(&mut self) {
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

/// Most keys of one of two generations that fit into this many bytes.
fn generation(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { most(bytes / 2) }
}
