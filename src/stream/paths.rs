//! Paths into JSON payloads as a trie: [`values`](super::values) finds all of them in one walk over a text.
//!
//! A path is a list of names from the outside in: members of objects and indices of arrays. Producers use dots
//! within names too, so at each object the rest of the path as one name goes first, then its next name.
//!
//! The cost of adding or removing a path does not depend on the number of other paths: names are found by hashes with a
//! secret key. A path's text is kept once; its suffixes are slices of it.
//!
//! Pure: no filters, no records.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use slab::Slab;

/// Largest number of names of an object for which comparing is cheaper than hashing.
const FEW: usize = 8;

/// No entry, no node.
pub(super) const NONE: u32 = u32::MAX;

/// The document.
pub(super) const ROOT: u32 = 0;

/// Bytes of the trie for each entry, node and path, beside what these own, including the index's bytes for one.
const PER_ENTRY: usize = size_of::<TrieEntry>() + size_of::<Hashed>() * 8 / 7 + 1;
const PER_NODE: usize = size_of::<TrieNode>();
const PER_PATH: usize = size_of::<PathText>() + size_of::<(Slot, u32)>() * 8 / 7 + 1;

/// Estimated bytes of an array index.
const PER_ELEMENT: usize = 32;

/// Largest unused memory for which rebuilding the trie is not worthwhile.
const SPARE: usize = 16 * 1024;

/// A path's number. Numbers are not reused.
pub(super) type Slot = u64;

/// Paths as a trie.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// The first is the document; it exists if there are paths.
    nodes: Slab<TrieNode>,
    entries: Slab<TrieEntry>,
    /// Every entry by the hash of its node and name.
    by_name: HashTable<Hashed>,
    texts: Slab<PathText>,
    by_slot: HashMap<Slot, u32>,
    /// Random keys, because clients choose the names.
    hasher: RandomState,
    /// Bytes that nodes, entries and texts own.
    owned: usize,
    /// Names that changes have hashed and compared.
    work: u64,
}

/// A hash with its entry.
type Hashed = (u64, u32);

/// An object or array that paths lead through.
#[derive(Debug, Default)]
struct TrieNode {
    /// Its name in its parent.
    name: Box<str>,
    entries: u32,
    /// Its entries with the lengths of their names, while they are few.
    few: Vec<(u32, u32)>,
    /// Whether it once had more than a few.
    is_large: bool,
    /// Indices with their entries.
    elements: BTreeMap<usize, u32>,
}

/// A member or element. Its name is its child's, or, without a child, the suffix of any path that ends here.
#[derive(Debug)]
struct TrieEntry {
    node: u32,
    /// The node below, if paths continue.
    child: u32,
    /// Paths that end here.
    ends: Vec<End>,
}

/// A path whose suffix after its first names is the name of an entry. The rank is the number of these first names: of
/// several values of a path, the one with the lowest rank counts.
#[derive(Debug, Clone, Copy)]
struct End {
    text: u32,
    rank: u32,
}

/// A path.
#[derive(Debug)]
struct PathText {
    slot: Slot,
    /// Its names, with dots between them.
    joined: Box<str>,
    steps: Box<[PathStep]>,
}

/// A name of a path.
#[derive(Debug, Clone, Copy)]
struct PathStep {
    /// Its beginning in the joined text.
    start: u32,
    /// The index, among the ends of its entry, of the suffix from here on.
    place: u32,
}

impl PathText {
    fn new(slot: Slot, path: &[String]) -> Self {
        let mut start = 0;
        let steps = path.iter().map(|name| {
            let step = PathStep { start, place: 0 };
            start += to_u32(name.len() + 1);
            step
        });
        Self {
            slot,
            steps: steps.collect(),
            joined: path.join(".").into(),
        }
    }

    fn rest(&self, depth: usize) -> &str {
        let start = self.steps[depth].start as usize;
        self.joined.get(start..).unwrap_or_default()
    }

    fn name(&self, depth: usize) -> &str {
        let start = self.steps[depth].start as usize;
        let end = self
            .steps
            .get(depth + 1)
            .map_or(self.joined.len(), |next| next.start as usize - 1);
        self.joined.get(start..end).unwrap_or_default()
    }

    fn owned(&self) -> usize {
        self.joined.len() + size_of_val(&*self.steps)
    }
}

/// A name in a node.
#[derive(Debug, Clone, Copy)]
struct Place {
    node: u32,
    hash: u64,
    /// Its index in an array, if it is one.
    element: Option<usize>,
    len: u32,
    entry: u32,
}

impl Paths {
    /// A trie of these paths.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = (Slot, &'a [String])>) -> Self {
        let mut trie = Self::default();
        for (slot, path) in paths {
            trie.insert(slot, path);
        }
        trie
    }

    /// Adds a path under an unused number.
    pub(super) fn insert(&mut self, slot: Slot, path: &[String]) {
        if self.nodes.is_empty() {
            self.nodes.insert(TrieNode::default());
        }
        let text = PathText::new(slot, path);
        self.owned += text.owned();
        grow(&mut self.texts);
        let text = to_u32(self.texts.insert(text));
        self.by_slot.insert(slot, text);
        let mut node = ROOT;
        for depth in 0..path.len() {
            let rest = self.enter(node, text, depth, PathText::rest);
            let entry = &mut self.entries[rest as usize];
            let before = entry.ends.capacity();
            if entry.ends.is_empty() {
                entry.ends.reserve_exact(1);
            }
            self.texts[text as usize].steps[depth].place = to_u32(entry.ends.len());
            let rank = to_u32(depth);
            entry.ends.push(End { text, rank });
            self.owned += (entry.ends.capacity() - before) * size_of::<End>();
            if depth + 1 < path.len() {
                let entry = self.enter(node, text, depth, PathText::name);
                node = self.child(entry, text, depth);
            }
        }
    }

    /// The node behind an entry, created if missing.
    fn child(&mut self, entry: u32, text: u32, depth: usize) -> u32 {
        let child = self.entries[entry as usize].child;
        if child != NONE {
            return child;
        }
        let name: Box<str> = self.texts[text as usize].name(depth).into();
        self.owned += name.len();
        grow(&mut self.nodes);
        let child = to_u32(self.nodes.insert(TrieNode {
            name,
            ..TrieNode::default()
        }));
        self.entries[entry as usize].child = child;
        child
    }

    /// The entry of a name in a node, created if missing.
    fn enter(&mut self, node: u32, text: u32, depth: usize, name: fn(&PathText, usize) -> &str) -> u32 {
        let place = self.find(node, text, depth, name);
        if place.entry != NONE {
            return place.entry;
        }
        grow(&mut self.entries);
        let entry = to_u32(self.entries.insert(TrieEntry {
            node,
            child: NONE,
            ends: Vec::new(),
        }));
        self.by_name
            .insert_unique(place.hash, (place.hash, entry), |(hash, _)| *hash);
        let node = &mut self.nodes[node as usize];
        node.entries += 1;
        if let Some(index) = place.element {
            node.elements.insert(index, entry);
            self.owned += PER_ELEMENT;
        }
        let before = node.few.capacity();
        if node.few.len() == FEW {
            node.is_large = true;
            node.few = Vec::new();
        } else if !node.is_large {
            node.few.reserve_exact(1);
            node.few.push((entry, place.len));
        }
        self.owned =
            self.owned + node.few.capacity() * size_of::<(u32, u32)>() - before * size_of::<(u32, u32)>();
        entry
    }

    /// Where a name of a path is, or would be, in a node.
    fn find(&mut self, node: u32, text: u32, depth: usize, name: fn(&PathText, usize) -> &str) -> Place {
        let name = name(&self.texts[text as usize], depth);
        let hash = self.hash(node, name);
        let mut work = 1;
        let entry = self.by_hash(hash, node, name, &mut work);
        let place = Place {
            node,
            hash,
            element: name
                .parse::<usize>()
                .ok()
                .filter(|index| index.to_string() == name),
            len: to_u32(name.len()),
            entry: entry.unwrap_or(NONE),
        };
        self.work += work;
        place
    }

    /// Removes a path.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(text) = self.by_slot.remove(&slot) else {
            return;
        };
        if self.by_slot.is_empty() {
            *self = Self {
                work: self.work,
                ..Self::default()
            };
            return;
        }
        let depths = self.texts[text as usize].steps.len();
        let (mut node, mut way) = (ROOT, Vec::with_capacity(depths));
        for depth in 0..depths {
            let rest = self.find(node, text, depth, PathText::rest);
            let name = (depth + 1 < depths).then(|| self.find(node, text, depth, PathText::name));
            if let Some(name) = &name {
                node = self.entries[name.entry as usize].child;
            }
            way.push((rest, name));
        }
        // From the inside out: a node is removed with its last entry.
        for (depth, (rest, name)) in way.into_iter().enumerate().rev() {
            if let Some(name) = name {
                self.leave_child(&name);
            }
            self.leave_end(&rest, text, depth);
        }
        self.owned -= self.texts.remove(text as usize).owned();
    }

    fn leave_child(&mut self, name: &Place) {
        let entry = &mut self.entries[name.entry as usize];
        let child = entry.child as usize;
        if self.nodes[child].entries > 0 {
            return;
        }
        entry.child = NONE;
        let is_unused = entry.ends.is_empty();
        let child = self.nodes.remove(child);
        self.owned -= child.name.len() + child.few.capacity() * size_of::<(u32, u32)>();
        if is_unused {
            self.forget(name);
        }
    }

    fn leave_end(&mut self, rest: &Place, text: u32, depth: usize) {
        let place = self.texts[text as usize].steps[depth].place;
        let entry = &mut self.entries[rest.entry as usize];
        entry.ends.swap_remove(place as usize);
        if let Some(moved) = entry.ends.get(place as usize) {
            self.texts[moved.text as usize].steps[moved.rank as usize].place = place;
        }
        if entry.ends.is_empty() {
            self.owned -= entry.ends.capacity() * size_of::<End>();
            entry.ends = Vec::new();
            if entry.child == NONE {
                self.forget(rest);
            }
        }
    }

    /// Removes an entry without paths.
    fn forget(&mut self, place: &Place) {
        let known = self
            .by_name
            .find_entry(place.hash, |(_, entry)| *entry == place.entry);
        if let Ok(known) = known {
            known.remove();
        }
        self.entries.remove(place.entry as usize);
        let node = &mut self.nodes[place.node as usize];
        node.entries -= 1;
        node.few.retain(|(entry, _)| *entry != place.entry);
        if let Some(index) = place.element {
            node.elements.remove(&index);
            self.owned -= PER_ELEMENT;
        }
    }

    /// Frees memory if more than one and a half times the used memory is held. Costs as much as adding all paths, so a
    /// fraction of the removals before it.
    pub(super) fn tidy(&mut self) {
        if self.bytes() <= self.used_bytes() / 2 * 3 + SPARE {
            return;
        }
        let old = std::mem::take(self);
        self.work = old.work;
        for (_, text) in &old.texts {
            let names = (0..text.steps.len()).map(|depth| text.name(depth).to_owned());
            self.insert(text.slot, &names.collect::<Vec<_>>());
        }
    }

    fn hash(&self, node: u32, name: &str) -> u64 {
        self.hasher.hash_one((node, name))
    }

    fn by_hash(&self, hash: u64, node: u32, name: &str, work: &mut u64) -> Option<u32> {
        let is_meant = |&(other, entry): &Hashed| {
            *work += 1;
            other == hash && self.entries[entry as usize].node == node && self.name(entry) == name
        };
        self.by_name.find(hash, is_meant).map(|(_, entry)| *entry)
    }

    fn name(&self, entry: u32) -> &str {
        let entry = &self.entries[entry as usize];
        match entry.ends.first() {
            Some(end) if entry.child == NONE => self.texts[end.text as usize].rest(end.rank as usize),
            _ => self
                .nodes
                .get(entry.child as usize)
                .map_or("", |child| &child.name),
        }
    }

    /// The entry of a name in a node.
    pub(super) fn member(&self, node: u32, name: &str) -> Option<u32> {
        let known = &self.nodes[node as usize];
        if known.is_large {
            return self.by_hash(self.hash(node, name), node, name, &mut 0);
        }
        let mut few = known.few.iter();
        few.find(|&&(entry, len)| len as usize == name.len() && self.name(entry) == name)
            .map(|(entry, _)| *entry)
    }

    /// The indices of a node with their entries, in ascending order.
    pub(super) fn elements(&self, node: u32) -> impl Iterator<Item = (usize, u32)> {
        let elements = self.nodes[node as usize].elements.iter();
        elements.map(|(index, entry)| (*index, *entry))
    }

    /// The node below an entry, if paths continue.
    pub(super) fn child_of(&self, entry: u32) -> Option<u32> {
        let child = self.entries[entry as usize].child;
        (child != NONE).then_some(child)
    }

    /// Whether paths end at an entry.
    pub(super) fn is_end(&self, entry: u32) -> bool {
        !self.entries[entry as usize].ends.is_empty()
    }

    /// The paths that end at an entry, each with its rank.
    pub(super) fn ends(&self, entry: u32) -> impl Iterator<Item = (Slot, u32)> {
        let ends = self.entries[entry as usize].ends.iter();
        ends.map(|end| (self.texts[end.text as usize].slot, end.rank))
    }

    /// Whether there are no paths.
    pub(super) fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// Bytes of memory that these paths use.
    pub(super) fn used_bytes(&self) -> usize {
        self.entries.len() * PER_ENTRY
            + self.nodes.len() * PER_NODE
            + self.texts.len() * PER_PATH
            + self.owned
    }

    /// Bytes of memory that these paths hold, including unused capacity.
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<TrieEntry>()
            + self.nodes.capacity() * size_of::<TrieNode>()
            + self.texts.capacity() * size_of::<PathText>()
            + self.by_name.allocation_size()
            + self.by_slot.capacity() * size_of::<(Slot, u32)>() * 8 / 7
            + self.owned
    }

    /// Most bytes that a path can use: those of a path that shares nothing with others.
    pub(super) fn most_bytes(path: &[String]) -> usize {
        let names = path.len();
        let text: usize = path.iter().map(|name| name.len() + 1).sum();
        let entries = names * 2;
        // A list of few entries has capacity for two where nothing is shared.
        let lists = entries * (size_of::<End>() + size_of::<(u32, u32)>() + PER_ELEMENT);
        let own = text * 2 + names * (size_of::<PathStep>() + PER_NODE) + lists;
        PER_PATH + entries * PER_ENTRY + own
    }

    /// How many names additions and removals have hashed and compared so far: a measure of work independent of time.
    #[cfg(test)]
    pub(super) fn work(&self) -> u64 {
        self.work
    }
}

/// Grows by an eighth instead of doubling: capacity counts too.
fn grow<T>(slab: &mut Slab<T>) {
    if slab.len() == slab.capacity() {
        slab.reserve_exact(slab.len() / 8 + 1);
    }
}

/// Lengths of filters are far below 4 GiB, and so are numbers of names.
fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(NONE)
}
