//! The offsets that a client of a stream without a table has received of a partition, whose log may be truncated.

use super::model::{Kafka, Kind};
use super::setup::{Place, Wants};

/// How far a client has come in a partition.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// Before this offset, it has had everything that Kafka still has.
    pub next: usize,
    /// The versions of the log from which its records can be, one bit each.
    versions: u64,
}

impl Reached {
    /// A client that is at an offset of one of these versions.
    pub const fn at(next: usize, versions: u64) -> Self {
        Self { next, versions }
    }
}

/// A partition as a client sees it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub kafka: &'a Kafka,
    pub wants: Wants,
    pub place: Place,
}

impl View<'_> {
    fn count(self) -> usize {
        self.kafka.version(self.place) + 1
    }

    /// The versions for which something holds.
    fn versions(self, holds: impl Fn(usize) -> bool) -> u64 {
        let bits = (0..self.count()).filter(|&version| holds(version));
        bits.fold(0, |bits, version| bits | 1 << version)
    }

    /// The leader epoch of a record that the client is to see.
    fn shown(self, version: usize, offset: usize) -> Option<u32> {
        let record = self.kafka.log(self.place, version).get(offset)?;
        let is_shown = self.kafka.is_for(self.wants, self.place, record);
        is_shown.then_some(record.epoch)
    }

    /// The versions that look the same as those of a client's records.
    fn alike(self, reached: Reached) -> u64 {
        let is_alike = |one, other| {
            let from = self.kafka.divergence(self.place, one, other);
            (from..reached.next).all(|offset| self.shown(one, offset) == self.shown(other, offset))
        };
        self.versions(|other| {
            let mut had = (0..self.count()).filter(|version| reached.versions >> version & 1 == 1);
            had.any(|one| is_alike(one, other))
        })
    }

    /// The versions with at least so many offsets.
    pub fn with_end(self, end: usize) -> u64 {
        self.versions(|version| self.kafka.log(self.place, version).len() >= end)
    }

    /// The versions with a record at an offset that was written under a leader epoch.
    pub fn with_record(self, offset: usize, epoch: u32) -> u64 {
        self.versions(|version| {
            let record = self.kafka.log(self.place, version).get(offset);
            record.is_some_and(|record| record.epoch == epoch)
        })
    }

    pub fn present(self) -> u64 {
        1 << self.kafka.version(self.place)
    }

    /// Moves to an offset of one of these versions, and must not miss a record that Kafka still has, nor receive one
    /// twice. A client that has had nothing yet begins at `begin`.
    pub fn pass(
        self,
        before: Option<Reached>,
        begin: usize,
        to: usize,
        versions: u64,
    ) -> Result<Reached, String> {
        let before = before.unwrap_or_else(|| Reached::at(begin.min(to), self.with_end(0)));
        let from = before.next;
        let is_kept = |version, offset| {
            let epoch = self.shown(version, offset);
            let kept = self.kafka.written(self.place, offset).map(|record| record.epoch);
            epoch.is_some() && epoch == kept
        };
        // Back over records that are not shown, nothing is shown twice.
        let between = |version| {
            if to < from {
                (to..from).find(|&offset| self.shown(version, offset).is_some())
            } else {
                (from..to).find(|&offset| is_kept(version, offset))
            }
        };
        let possible = self.alike(before) & versions;
        let passed = possible & self.versions(|version| between(version).is_none());
        if passed > 0 {
            return Ok(Reached::at(to, passed));
        }
        let record =
            (0..self.count()).find_map(|version| between(version).filter(|_| possible >> version & 1 == 1));
        let what = match record {
            None => "gets records of another log without a gap".to_owned(),
            Some(record) if to < from => format!("would double {record}"),
            Some(record) => format!("has lost {record}"),
        };
        Err(format!(
            "{:?} {what}: from {before:?} to {to} of {versions:b}",
            self.place
        ))
    }

    /// Is told that the log was truncated at `from`, where it begins to differ from the versions that the client has
    /// had records of; of any version if the client `may_mix` them. Without leader epochs, only the end of a shorter
    /// log is known.
    pub fn truncated(
        self,
        before: Reached,
        from: usize,
        (may_mix, has_epoch): (bool, bool),
    ) -> Result<Reached, String> {
        let had = if may_mix {
            self.with_end(0)
        } else {
            self.alike(before)
        };
        // The first record that differs may be behind offsets that hold none.
        let is_first = |version: usize, at: usize| {
            let before = self.kafka.log(self.place, version).get(at..from);
            let mut before = (at..).zip(before.into_iter().flatten());
            at <= from
                && (!has_epoch
                    || before
                        .all(|(at, record)| record.kind == Kind::Hole || at < self.kafka.low(self.place)))
        };
        let is_after = |later: usize| {
            let mut earlier = (0..later).filter(|version| had >> version & 1 == 1);
            earlier.any(|version| is_first(later, self.kafka.divergence(self.place, version, later)))
        };
        match self.versions(is_after) {
            0 => Err(format!(
                "{:?} was not truncated at {from}: {before:?}",
                self.place
            )),
            versions => Ok(Reached::at(from, versions)),
        }
    }

    /// Whether the present log has no record at the offsets where it differs from a client's records.
    pub fn has_only_holes(self, before: Reached) -> bool {
        let version = self.kafka.version(self.place);
        let had = self.alike(before);
        (0..version).filter(|one| had >> one & 1 == 1).any(|one| {
            let from = self.kafka.divergence(self.place, one, version);
            let present = self.kafka.log(self.place, version).get(from..before.next);
            present.is_some_and(|present| present.iter().all(|record| record.kind == Kind::Hole))
        })
    }

    /// Whether none of these versions can be those of the client's records.
    pub fn differs(self, reached: Reached, versions: u64) -> bool {
        self.alike(reached) & versions == 0
    }
}
