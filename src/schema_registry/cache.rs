//! Schemas by id, bounded in bytes: the least recently used ones leave first. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::decode::{SchemaId, Supplied};

/// Bytes of an entry beside its schema, about.
const ENTRY: usize = 256;

/// How long the registry is not asked again for an id that it did not know.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);

/// How long it is not asked again for a schema that cannot be used: what it refers to may be registered later.
const UNUSABLE_FOR: Duration = Duration::from_secs(60);

/// How long an id without a usable schema is reported after its last use.
const REPORTED_FOR: Duration = Duration::from_secs(300);

/// A result of a look into the cache.
#[derive(Debug)]
pub(super) enum Cached {
    /// The answer.
    Hit(Supplied),
    /// The registry must be asked.
    Miss {
        /// Whether the id has been waited for in vain already.
        was_awaited: bool,
    },
}

/// The cache.
#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<SchemaId, CachedSchema>,
    bytes: usize,
    max_bytes: usize,
    /// Counts uses.
    uses: u64,
}

#[derive(Debug)]
struct CachedSchema {
    supplied: Supplied,
    size: usize,
    /// The number of its last use, and the time.
    used: (u64, Instant),
    /// When the registry may be asked again.
    until: Option<Instant>,
}

impl Cache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            entries: HashMap::new(),
            bytes: 0,
            max_bytes,
            uses: 0,
        }
    }

    pub(super) fn get(&mut self, id: SchemaId, now: Instant) -> Cached {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Cached::Miss { was_awaited: false };
        };
        self.uses += 1;
        entry.used = (self.uses, now);
        if entry.until.is_some_and(|until| until <= now) {
            return Cached::Miss { was_awaited: true };
        }
        Cached::Hit(entry.supplied.clone())
    }

    pub(super) fn insert(&mut self, id: SchemaId, supplied: Supplied, now: Instant) {
        let (size, until) = match &supplied {
            Supplied::Schema(schema) => (schema.size(), None),
            Supplied::Unknown => (0, Some(now + UNKNOWN_FOR)),
            Supplied::Unusable(reason) => (reason.len(), Some(now + UNUSABLE_FOR)),
        };
        self.remove(id);
        self.uses += 1;
        let entry = CachedSchema {
            supplied,
            size: size + ENTRY,
            used: (self.uses, now),
            until,
        };
        self.bytes += entry.size;
        self.entries.insert(id, entry);
        self.shrink();
    }

    /// Sets the bound.
    pub(super) fn bound(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
        self.shrink();
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Forgets ids without a usable schema, so that the registry is asked for them at once.
    pub(super) fn forget_failures(&mut self) {
        self.entries.retain(|_, entry| entry.until.is_none());
        self.bytes = self.entries.values().map(|entry| entry.size).sum();
    }

    /// Usable schemas, and the bytes of all entries.
    pub(super) fn figures(&self) -> (usize, usize) {
        let schemas = self.entries.values().filter(|entry| entry.until.is_none());
        (schemas.count(), self.bytes)
    }

    /// Ids without a usable schema that were used lately, in their order.
    pub(super) fn failures(&self, now: Instant) -> Vec<(SchemaId, Supplied)> {
        let mut failures: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                entry.until.is_some() && now.saturating_duration_since(entry.used.1) < REPORTED_FOR
            })
            .map(|(id, entry)| (*id, entry.supplied.clone()))
            .collect();
        failures.sort_unstable_by_key(|(id, _)| *id);
        failures
    }

    fn remove(&mut self, id: SchemaId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.bytes -= entry.size;
        }
    }

    /// Schemas are fetched rarely, so a look at all entries is cheap enough. The newest stays, however large.
    fn shrink(&mut self) {
        while self.bytes > self.max_bytes && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used.0);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                return;
            };
            self.remove(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_hit(cache: &mut Cache, number: u32, now: Instant) -> bool {
        matches!(cache.get(SchemaId::Number(number), now), Cached::Hit(_))
    }

    #[test]
    fn an_unknown_id_is_asked_for_again_after_a_while_without_waiting_for_it() {
        let (mut cache, start) = (Cache::new(1 << 20), Instant::now());
        cache.insert(SchemaId::Number(7), Supplied::Unknown, start);
        cache.insert(
            SchemaId::Number(8),
            Supplied::Unusable("broken".to_owned()),
            start,
        );
        assert!(is_hit(&mut cache, 7, start + UNKNOWN_FOR / 2));
        let later = start + UNKNOWN_FOR;
        assert!(matches!(
            cache.get(SchemaId::Number(7), later),
            Cached::Miss { was_awaited: true }
        ));
        assert!(is_hit(&mut cache, 8, later));
        assert!(!is_hit(&mut cache, 8, start + UNUSABLE_FOR));
        assert!(matches!(
            cache.get(SchemaId::Number(9), later),
            Cached::Miss { was_awaited: false }
        ));
    }

    #[test]
    fn failures_are_reported_for_as_long_as_they_are_used() {
        let (mut cache, start) = (Cache::new(1 << 20), Instant::now());
        for number in [9, 7] {
            cache.insert(SchemaId::Number(number), Supplied::Unknown, start);
        }
        let ids = |cache: &Cache, now| -> Vec<SchemaId> {
            cache.failures(now).into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!(ids(&cache, start), [7, 9].map(SchemaId::Number));
        let later = start + REPORTED_FOR / 2;
        let _ = cache.get(SchemaId::Number(9), later);
        assert_eq!(ids(&cache, start + REPORTED_FOR), [SchemaId::Number(9)]);
        cache.forget_failures();
        assert_eq!(cache.figures(), (0, 0));
    }

    #[test]
    fn the_least_recently_used_leave_first_and_the_newest_stays() {
        let (mut cache, now) = (Cache::new(3 * (ENTRY + 100)), Instant::now());
        let reason = |size| Supplied::Unusable("x".repeat(size));
        for number in 1..=3 {
            cache.insert(SchemaId::Number(number), reason(100), now);
        }
        assert!(is_hit(&mut cache, 1, now));
        cache.insert(SchemaId::Number(4), reason(100), now);
        let kept = [1, 2, 3, 4].map(|number| is_hit(&mut cache, number, now));
        assert_eq!(kept, [true, false, true, true]);
        cache.insert(SchemaId::Number(5), reason(10_000), now);
        let kept = [1, 3, 4, 5].map(|number| is_hit(&mut cache, number, now));
        assert_eq!(kept, [false, false, false, true]);
        cache.bound(0);
        assert!(is_hit(&mut cache, 5, now), "the newest stays, however large");
    }
}
