//! The table compared with a simple model: random records, bounds and scans.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::position::TopicPosition;
use super::tests::{RETENTION, scan};
use super::*;

const PARTITIONS: u8 = 2;

#[derive(Clone, Debug)]
enum Op {
    /// A record of a key with a value of so many bytes, or a tombstone.
    Record { key: u8, value: Option<usize> },
    /// So many seconds pass.
    Pass { seconds: u64 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let value = prop::option::weighted(0.8, prop_oneof![4 => 0..200_usize, 1 => 0..3000_usize]);
    let record = (0..10_u8, value).prop_map(|(key, value)| Op::Record { key, value });
    let pass = (0..700_u64).prop_map(|seconds| Op::Pass { seconds });
    prop::collection::vec(prop_oneof![8 => record, 1 => pass], 1..80)
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let when_full = prop_oneof![Just(WhenFull::RefuseNew), Just(WhenFull::EvictOldest)];
    (1..16_usize, 300..12_000_usize, when_full).prop_map(|(keys, bytes, when_full)| Bounds {
        keys,
        bytes,
        departed_bytes: 1 << 20,
        hidden_bytes: 0,
        when_full,
        delete_retention: RETENTION,
    })
}

struct ModelRow {
    key: u8,
    offset: i64,
    frame: Vec<u8>,
    /// When it was deleted.
    deleted: Option<u64>,
}

/// A table, and beside it what should be in there.
struct Model {
    table: Table,
    bounds: Bounds,
    rows: BTreeMap<u64, ModelRow>,
    /// Partitions and offsets of what had to leave, or found no place.
    lost: Vec<(u8, i64)>,
    next: Vec<i64>,
    sequence: u64,
    now: u64,
    /// The state of a client that was connected all the time.
    truth: BTreeMap<u8, usize>,
    /// Keys of values that had to leave, or found no place.
    departed: BTreeSet<u8>,
}

/// The cost of a row with a key of one byte, alone in a table.
fn cost(frame: &[u8], deleted: Option<u64>) -> usize {
    let mut table = Table::new(Bounds {
        keys: 1,
        bytes: usize::MAX,
        departed_bytes: 1 << 20,
        hidden_bytes: 0,
        when_full: WhenFull::RefuseNew,
        delete_retention: 0,
    });
    let update = Update {
        key: b"k",
        origin: Origin {
            topic: 0,
            partition: 0,
            offset: 0,
            timestamp: None,
        },
        deleted,
        unusable: None,
        frame,
        headers: b"",
    };
    assert_eq!(table.apply(1, &update).0, Applied::Taken);
    table.cost()
}

fn frame(key: u8, value: Option<usize>) -> Vec<u8> {
    match value {
        Some(size) => format!("data: {key} {size} {}\n\n", "x".repeat(size)).into_bytes(),
        None => format!("event: delete\ndata: {key}\n\n").into_bytes(),
    }
}

impl Model {
    fn new(bounds: Bounds) -> Self {
        Self {
            table: Table::new(bounds),
            bounds,
            rows: BTreeMap::new(),
            lost: Vec::new(),
            next: vec![0; usize::from(PARTITIONS)],
            sequence: 0,
            now: 1_000_000,
            truth: BTreeMap::new(),
            departed: BTreeSet::new(),
        }
    }

    fn cost(&self) -> usize {
        self.rows.values().map(|row| cost(&row.frame, row.deleted)).sum()
    }

    fn act(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Pass { seconds } => {
                self.now += seconds;
                self.table.expire(self.now);
                let now = self.now;
                // As much longer than promised as readers may be on their way.
                let is_over = |row: &ModelRow| row.deleted.is_some_and(|made| made + RETENTION + 600 < now);
                let forgotten = self.rows.values().filter(|row| is_over(row));
                self.lost
                    .extend(forgotten.map(|row| (row.key % PARTITIONS, row.offset)));
                self.rows.retain(|_, row| !is_over(row));
            }
            Op::Record { key, value } => self.record(key, value)?,
        }
        prop_assert_eq!(self.table.len(), self.rows.len());
        prop_assert_eq!(self.table.cost(), self.cost());
        prop_assert!(self.table.len() <= self.bounds.keys);
        prop_assert!(self.table.cost() <= self.bounds.bytes);
        let wanted: Vec<u8> = self.rows.values().flat_map(|row| row.frame.clone()).collect();
        prop_assert_eq!(self.scan(&Position::default()), wanted);
        Ok(())
    }

    fn record(&mut self, key: u8, value: Option<usize>) -> Result<(), TestCaseError> {
        let partition = key % PARTITIONS;
        let offset = self.next[usize::from(partition)];
        self.next[usize::from(partition)] += 1;
        self.sequence += 1;
        let frame = frame(key, value);
        let deleted = value.is_none().then_some(self.now);
        let update = Update {
            key: &[key],
            origin: Origin {
                topic: 0,
                partition: partition.into(),
                offset,
                timestamp: None,
            },
            deleted,
            unusable: None,
            frame: &frame,
            headers: b"",
        };
        let (applied, previous) = self.table.apply(self.sequence, &update);
        match value {
            Some(size) => self.truth.insert(key, size),
            None => self.truth.remove(&key),
        };

        let known = self
            .rows
            .iter()
            .find(|(_, row)| row.key == key)
            .map(|(at, _)| *at);
        // A placeholder for an evicted value.
        let has_departed = self.departed.remove(&key);
        prop_assert_eq!(previous.is_some(), known.is_some() || has_departed);
        known.map(|known| self.rows.remove(&known));
        let cost = cost(&frame, deleted);
        let has_room =
            |model: &Self| model.rows.len() < model.bounds.keys && model.cost() + cost <= model.bounds.bytes;
        let expected = if has_room(self) {
            Applied::Taken
        } else if cost <= self.bounds.bytes && self.bounds.when_full == WhenFull::EvictOldest {
            while !has_room(self) {
                let (_, row) = self.rows.pop_first().expect("it fits into an empty one");
                self.lost.push((row.key % PARTITIONS, row.offset));
                if row.deleted.is_none() {
                    self.departed.insert(row.key);
                }
            }
            Applied::Evicted
        } else if known.is_some() {
            Applied::Displaced
        } else {
            Applied::Refused
        };
        prop_assert_eq!(applied, expected);
        if matches!(applied, Applied::Taken | Applied::Evicted) {
            let row = ModelRow {
                key,
                offset,
                frame,
                deleted,
            };
            self.rows.insert(self.sequence, row);
        } else {
            self.lost.push((partition, offset));
            if deleted.is_none() {
                self.departed.insert(key);
            }
            prop_assert!(self.table.is_full() || cost > self.bounds.bytes);
        }
        Ok(())
    }

    fn position(&self) -> Position {
        Position {
            as_of: Some(self.now),
            topics: vec![TopicPosition {
                next: self.next.clone(),
                ..TopicPosition::unread("t")
            }],
        }
    }

    /// The events, without ids, of a reader that wants rows newer than `wanted`.
    fn scan(&self, wanted: &Position) -> Vec<u8> {
        let out = scan(&self.table, wanted, self.sequence + 1, 1000);
        let lines = out.split_inclusive(|&byte| byte == b'\n');
        lines
            .filter(|line| !line.starts_with(b"id: "))
            .flatten()
            .copied()
            .collect()
    }
}

#[test]
fn a_table_stays_within_its_bounds_and_counts_exactly() {
    proptest!(|(bounds in bounds(), ops in ops())| {
        let mut model = Model::new(bounds);
        for op in &ops {
            model.act(op)?;
        }
    });
}

#[test]
fn a_resuming_table_client_ends_with_the_table_or_gets_a_reset() {
    // How many continued after a change, and how many were reset.
    let outcomes = Cell::new((0, 0));
    proptest!(ProptestConfig::with_cases(500), |(bounds in bounds(), ops in ops(), leaves in 0..80_usize)| {
        let mut model = Model::new(bounds);
        let mut left = None;
        for (number, op) in ops.iter().enumerate() {
            if number == leaves {
                left = Some((model.position(), model.truth.clone(), model.sequence));
            }
            model.act(op)?;
        }
        // A client that has just left has missed nothing.
        prop_assert!(model.table.knows_all_since(&model.position(), model.now));
        let Some((position, mut shown, sequence)) = left else { return Ok(()) };
        let has_missed = model
            .lost
            .iter()
            .any(|(partition, offset)| position.next(0, u32::from(*partition)) <= *offset);
        let goes_on = model.table.knows_all_since(&position, model.now);
        prop_assert_eq!(goes_on, !has_missed);
        let (went_on, began_anew) = outcomes.get();
        if !goes_on {
            outcomes.set((went_on, began_anew + 1));
            return Ok(());
        }
        outcomes.set((went_on + usize::from(sequence < model.sequence), began_anew));
        for text in std::str::from_utf8(&model.scan(&position)).unwrap().split("\n\n") {
            let words: Vec<&str> = text.split_whitespace().collect();
            match *words.as_slice() {
                ["event:", _, _, key] => drop(shown.remove(&key.parse().unwrap())),
                ["data:", key, size, ..] => drop(shown.insert(key.parse().unwrap(), size.parse().unwrap())),
                _ => {}
            }
        }
        prop_assert_eq!(&shown, &model.truth);
    });
    let (went_on, began_anew) = outcomes.get();
    assert!(
        went_on > 10 && began_anew > 10,
        "the test proves little: {went_on}, {began_anew}"
    );
}
