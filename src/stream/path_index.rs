//! The paths of all filters of a stream as one trie, and the values of a batch's records at them.
//!
//! Paths are added and removed with clients, under the lock of the filter index, which only records the changes. The
//! trie has its own lock and applies them at once if it is free, otherwise before the next batch. So threads that serve
//! clients never wait for the writer's walk over values, and changes cost what their own paths cost.
//!
//! Paths that are added during the lookup of a batch are looked up in a trie of their own.

use std::cell::OnceCell;
use std::sync::Arc;

use super::block::Block;
use super::filter::{Candidate, payload};
use super::noted::Budget;
use super::paths::{Paths, Slot};
use super::table::Row;
use super::values::{Found, Values};

/// How often a batch is walked before the index is locked: for all paths, then for those added during the walk. Later
/// paths are looked up under the lock, on demand.
const ROUNDS: usize = 3;

/// A path of a filter, shared by its users.
pub(super) type SharedPath = Arc<[String]>;

/// The trie of the paths that were applied so far.
#[derive(Debug)]
pub(super) struct Trie {
    paths: Paths,
    /// Paths from this number on are not in it.
    end: Slot,
    budget: Arc<Budget>,
}

/// Additions and removals since the trie last applied changes.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) added: Vec<(Slot, SharedPath)>,
    pub(super) removed: Vec<Slot>,
    /// The number of the next path.
    pub(super) end: Slot,
}

impl Trie {
    /// A trie without paths, whose bytes `budget` counts.
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            paths: Paths::default(),
            end: 0,
            budget,
        }
    }

    /// Applies additions and removals.
    pub(super) fn apply(&mut self, changes: Changes) {
        for slot in changes.removed {
            self.paths.remove(slot);
        }
        for (slot, path) in &changes.added {
            self.paths.insert(*slot, path);
        }
        self.end = changes.end;
        self.count();
    }

    /// Frees unused memory.
    pub(super) fn tidy(&mut self) {
        self.paths.tidy();
        self.count();
    }

    fn count(&self) {
        let (used, held) = (self.paths.used_bytes(), self.paths.bytes());
        self.budget.set_paths(used, held);
    }
}

/// A row of the table that a record of a batch replaced, or a stand-in for an evicted one.
#[derive(Debug)]
pub(super) struct Replaced {
    /// The frame of the batch that replaced it.
    pub(super) frame: usize,
    /// The record of the batch of that frame.
    pub(super) record: usize,
    pub(super) row: Row,
}

/// The values of a batch's records at the paths of filters.
#[derive(Debug)]
pub(super) struct Lookups<'t> {
    /// By the numbers of their paths.
    layers: Vec<Layer<'t>>,
}

/// Some of the paths.
#[derive(Debug)]
struct Layer<'t> {
    paths: LayerPaths<'t>,
    /// Its paths have numbers below this, and are not in an earlier layer.
    end: Slot,
    /// The values in all frames and in all replaced rows; `None` where they are looked up record by record, on demand.
    values: Option<(Found, Found)>,
}

#[derive(Debug)]
enum LayerPaths<'t> {
    Trie(&'t Paths),
    Late(Box<Paths>),
}

impl Layer<'_> {
    fn paths(&self) -> &Paths {
        match &self.paths {
            LayerPaths::Trie(paths) => paths,
            LayerPaths::Late(paths) => paths,
        }
    }
}

impl<'t> Lookups<'t> {
    /// Nothing looked up yet.
    pub(super) fn new(trie: &'t Trie) -> Self {
        Self {
            layers: vec![Layer {
                paths: LayerPaths::Trie(&trie.paths),
                end: trie.end,
                values: None,
            }],
        }
    }

    /// Looks up all paths in all records of finished blocks, and in the rows that they replaced; `since` returns the
    /// paths from a number on, and the next number.
    pub(super) fn look_up(
        &mut self,
        blocks: &[Block],
        replaced: &[Replaced],
        mut since: impl FnMut(Slot) -> (Vec<(Slot, SharedPath)>, Slot),
    ) {
        loop {
            if let Some(layer) = self.layers.last_mut() {
                layer.values = Some(values(layer.paths(), blocks, replaced));
            }
            let late = since(self.end());
            if late.0.is_empty() || self.layers.len() == ROUNDS {
                return;
            }
            self.add(late);
        }
    }

    /// Paths from this number on were not looked up.
    pub(super) fn end(&self) -> Slot {
        self.layers.last().map_or(0, |layer| layer.end)
    }

    /// Adds paths, with the number of the next.
    pub(super) fn add(&mut self, (paths, end): (Vec<(Slot, SharedPath)>, Slot)) {
        if paths.is_empty() {
            return;
        }
        let paths = Paths::new(paths.iter().map(|(slot, path)| (*slot, &**path)));
        self.layers.push(Layer {
            paths: LayerPaths::Late(Box::new(paths)),
            end,
            values: None,
        });
    }
}

fn values(paths: &Paths, blocks: &[Block], replaced: &[Replaced]) -> (Found, Found) {
    let (mut frames, mut rows) = (Found::default(), Found::default());
    let mut scratch = Vec::new();
    let mut look_up = |found: &mut Found, candidate: Option<&Candidate<'_>>| {
        let candidate = candidate.filter(|candidate| !candidate.is_tombstone);
        match candidate.and_then(|candidate| payload(candidate.frame, &mut scratch)) {
            Some(json) => found.look_up(paths, json),
            None => found.pass_over(),
        }
    };
    for block in blocks {
        for index in 0..block.len() {
            look_up(&mut frames, block.candidate(index).as_ref());
        }
    }
    for replaced in replaced {
        look_up(&mut rows, Some(&replaced.row.candidate()));
    }
    (frames, rows)
}

/// A record of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    /// The record of a frame.
    Frame(usize),
    /// A replaced row.
    Replaced(usize),
}

/// A record as groups see it: its values are looked up once for all of them.
#[derive(Debug)]
pub(super) struct Offered<'a> {
    pub(super) candidate: Candidate<'a>,
    which: Which,
    layers: &'a [Layer<'a>],
    /// The values of layers that were not looked up with the batch.
    late: OnceCell<Vec<Found>>,
}

impl<'a> Offered<'a> {
    pub(super) fn new(candidate: Candidate<'a>, which: Which, lookups: &'a Lookups<'a>) -> Self {
        Self {
            candidate,
            which,
            layers: &lookups.layers,
            late: OnceCell::new(),
        }
    }

    /// The value at a path.
    pub(super) fn value(&self, slot: Slot) -> Option<&str> {
        let layer = self.layers.partition_point(|layer| layer.end <= slot);
        (layer < self.layers.len())
            .then(|| self.layer(layer).get(slot))
            .flatten()
    }

    /// All values, with their paths.
    pub(super) fn values(&self) -> impl Iterator<Item = (Slot, &str)> {
        (0..self.layers.len()).flat_map(|layer| self.layer(layer).iter())
    }

    fn layer(&self, index: usize) -> Values<'_> {
        match (&self.layers[index].values, self.which) {
            (Some((frames, _)), Which::Frame(frame)) => frames.values(frame),
            (Some((_, rows)), Which::Replaced(row)) => rows.values(row),
            (None, _) => self.late.get_or_init(|| self.look_up())[index].values(0),
        }
    }

    /// The values of each layer that was not looked up; nothing for the others.
    fn look_up(&self) -> Vec<Found> {
        let mut scratch = Vec::new();
        let json = payload(self.candidate.frame, &mut scratch);
        let layers = self.layers.iter().map(|layer| {
            let mut found = Found::default();
            match json.filter(|_| layer.values.is_none()) {
                Some(json) => found.look_up(layer.paths(), json),
                None => found.pass_over(),
            }
            found
        });
        layers.collect()
    }
}
