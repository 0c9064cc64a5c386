//! Partitions that a client has stopped because it cannot read their next batch, and when it retries them.
//!
//! A batch that is too large may disappear by compaction, retention or a change of a broker's settings. Reads no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batcher::{Batcher, FetchPosition};

/// Time between two tries of a partition.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(300);

pub(super) type PartitionKey = (Arc<str>, u32);

struct UnreadableAt {
    /// Its [`FetchPosition::placed`], if known.
    placed: Option<u64>,
    /// `None` if only a new client or another position can help.
    retry_at: Option<Instant>,
}

#[derive(Default)]
pub(super) struct UnreadablePartitions {
    partitions: BTreeMap<PartitionKey, UnreadableAt>,
    resumed: Vec<PartitionKey>,
}

impl UnreadablePartitions {
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Adds a partition, with the `placed` of its position.
    pub(super) fn insert(&mut self, key: PartitionKey, placed: Option<u64>, retry_at: Option<Instant>) {
        self.partitions.insert(key, UnreadableAt { placed, retry_at });
    }

    pub(super) fn contains(&self, topic: &str, partition: u32) -> bool {
        !self.is_empty() && self.partitions.contains_key(&(Arc::from(topic), partition))
    }

    fn get(&self, position: &FetchPosition) -> Option<&UnreadableAt> {
        if self.is_empty() {
            return None;
        }
        self.partitions.get(&position.key())
    }

    /// Whether the partition is unreadable from this position on.
    pub(super) fn is_at(&self, position: &FetchPosition) -> bool {
        self.get(position)
            .is_some_and(|entry| entry.placed.is_none_or(|placed| placed == position.placed))
    }

    /// The partitions to try again, except those of paused topics.
    pub(super) fn due<'a>(
        &'a self,
        now: Instant,
        batcher: &'a Batcher,
    ) -> impl Iterator<Item = FetchPosition> {
        let is_due = move |position: &FetchPosition| {
            let retry_at = self.get(position).and_then(|entry| entry.retry_at);
            retry_at.is_some_and(|retry_at| now >= retry_at)
        };
        let positions = (!self.is_empty()).then(|| batcher.fetch_positions());
        positions.into_iter().flatten().filter(is_due)
    }

    /// Takes the result of a try: resumes the partition, or schedules the next try.
    pub(super) fn tried(&mut self, key: PartitionKey, is_readable: bool, now: Instant) {
        if is_readable {
            if self.partitions.remove(&key).is_some() {
                self.resumed.push(key);
            }
        } else if let Some(entry) = self.partitions.get_mut(&key) {
            entry.retry_at = Some(now + RETRY_EVERY);
        }
    }

    /// Resumes partitions whose position was set again, and those that are no longer read.
    pub(super) fn forget_moved(&mut self, batcher: &Batcher) {
        if self.is_empty() {
            return;
        }
        let mut moved = Vec::new();
        for place in batcher.fetch_positions() {
            let key = place.key();
            if let Some(entry) = self.partitions.get_mut(&key)
                && *entry.placed.get_or_insert(place.placed) != place.placed
            {
                moved.push(key);
            }
        }
        // A paused topic has next offsets, but no fetch positions.
        let gone = |(topic, partition): &&PartitionKey| batcher.next_offset(topic, *partition).is_none();
        moved.extend(self.partitions.keys().filter(gone).cloned());
        self.partitions.retain(|key, _| !moved.contains(key));
        self.resumed.extend(moved);
    }

    /// Partitions that have resumed since the last call.
    pub(super) fn take_resumed(&mut self) -> Vec<PartitionKey> {
        std::mem::take(&mut self.resumed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::record::Feed;
    use tokio::sync::mpsc;

    const SECOND: Duration = Duration::from_secs(1);

    /// Reads topic `t` from these offsets, for one stream.
    fn batcher(next: &[i64]) -> (Batcher, mpsc::Receiver<Feed>) {
        let (sender, feeds) = mpsc::channel(8);
        let mut batcher = Batcher::new([(Arc::from("t"), vec![sender])]);
        batcher.assign("t", None, next.to_vec(), vec![0; next.len()]);
        (batcher, feeds)
    }

    fn key(partition: u32) -> PartitionKey {
        (Arc::from("t"), partition)
    }

    fn placed(batcher: &Batcher, partition: u32) -> Option<u64> {
        let mut places = batcher.fetch_positions();
        places
            .find(|place| place.partition == partition)
            .map(|place| place.placed)
    }

    fn due(unreadable: &UnreadablePartitions, now: Instant, batcher: &Batcher) -> Vec<(u32, i64)> {
        let due = unreadable.due(now, batcher);
        due.map(|place| (place.partition, place.next)).collect()
    }

    #[test]
    fn an_unreadable_partition_is_tried_every_five_minutes_until_it_is_readable() {
        let (batcher, _feeds) = batcher(&[10, 20, 30]);
        let start = Instant::now();
        let mut unreadable = UnreadablePartitions::default();
        unreadable.insert(key(1), placed(&batcher, 1), Some(start + RETRY_EVERY));
        // Without a time it is not retried.
        unreadable.insert(key(2), placed(&batcher, 2), None);
        let mut tries = Vec::new();
        for second in 0..=1000 {
            let now = start + second * SECOND;
            for (partition, next) in due(&unreadable, now, &batcher) {
                tries.push((second, partition, next));
                // Still too large at first, then readable.
                unreadable.tried(key(partition), tries.len() == 3, now);
            }
            assert_eq!(unreadable.contains("t", 1), second < 900, "{second}");
        }
        assert_eq!(tries, [(300, 1, 20), (600, 1, 20), (900, 1, 20)]);
        assert_eq!(unreadable.take_resumed(), [key(1)]);
        assert_eq!(unreadable.take_resumed(), []);
        assert!(unreadable.contains("t", 2) && !unreadable.contains("t", 0));
    }

    #[test]
    fn an_unreadable_partition_that_is_placed_anew_or_gone_is_read_again_at_once() {
        let (mut batcher, _feeds) = batcher(&[10, 20, 30]);
        let start = Instant::now();
        let mut unreadable = UnreadablePartitions::default();
        for partition in 0..3 {
            let retry_at = (partition > 0).then_some(start + RETRY_EVERY);
            unreadable.insert(key(partition), placed(&batcher, partition), retry_at);
        }
        unreadable.forget_moved(&batcher);
        assert_eq!(unreadable.take_resumed(), [], "nothing has moved");

        // The positions of the first two are set again; the third partition no longer exists.
        batcher.assign("t", None, vec![11, 25], vec![0, 0]);
        assert!(batcher.fetch_positions().all(|place| !unreadable.is_at(&place)));
        unreadable.forget_moved(&batcher);
        assert_eq!(unreadable.take_resumed(), [key(0), key(1), key(2)]);
        assert!(unreadable.is_empty());
        // The result of a try that began before that changes nothing.
        unreadable.tried(key(1), false, start);
        unreadable.tried(key(1), true, start);
        assert!(unreadable.is_empty());
        assert_eq!(unreadable.take_resumed(), []);
    }

    #[test]
    fn an_unreadable_partition_without_a_known_place_stays_at_its_first_one() {
        let (mut batcher, _feeds) = batcher(&[10]);
        let mut unreadable = UnreadablePartitions::default();
        unreadable.insert(key(0), None, None);
        assert!(batcher.fetch_positions().all(|place| unreadable.is_at(&place)));
        unreadable.forget_moved(&batcher);
        assert!(unreadable.contains("t", 0));
        batcher.assign("t", None, vec![11], vec![0]);
        unreadable.forget_moved(&batcher);
        assert_eq!(unreadable.take_resumed(), [key(0)]);
    }
}
