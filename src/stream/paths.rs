//! Paths into JSON payloads: the values at all of them are found by one walk over the text.
//!
//! A path is a list of names from the outside in: members of objects and indices of arrays. Producers use dots
//! within names too, so at each object the rest of the path as one name goes first, then its next name.
//! The value at a path is the text of the first scalar found so: a string's content, anything else as it is
//! written (`1.50`, `true`, `null`). Of a repeated member the last counts, as in browsers. A text that is no JSON
//! document has no values.
//!
//! No value is built: serde_json passes over what no path leads to. An object or array on a path is scanned
//! once for each level that paths lead through it.
//!
//! Pure: no filters, no records.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Names of an object up to which comparing is cheaper than hashing.
const FEW: usize = 8;

/// A path's number among those of a [`Paths`].
pub type Slot = u32;

/// Paths as a trie.
#[derive(Debug, Default)]
pub struct Paths {
    /// The first is the document.
    nodes: Vec<Node>,
    entries: Vec<Entry>,
}

/// An object or array that paths lead through.
#[derive(Debug, Default)]
struct Node {
    /// Names with their entries.
    members: Vec<(Box<str>, usize)>,
    /// The same to look up, where there are many.
    by_name: HashMap<Box<str>, usize>,
    /// Indices with their entries, in ascending order.
    elements: Vec<(usize, usize)>,
}

/// A member or element.
#[derive(Debug, Default)]
struct Entry {
    /// Where paths lead on.
    child: Option<usize>,
    /// Paths that end here, each with its rank: of several values of a path that of the lowest counts.
    ends: Vec<(Slot, u32)>,
}

impl Paths {
    /// These paths.
    pub fn new<'a>(paths: impl IntoIterator<Item = (Slot, &'a [String])>) -> Self {
        let mut trie = Self {
            nodes: vec![Node::default()],
            entries: Vec::new(),
        };
        for (slot, path) in paths {
            trie.insert(slot, path);
        }
        for node in &mut trie.nodes {
            if node.members.len() > FEW {
                node.by_name = node.members.iter().cloned().collect();
            }
        }
        trie
    }

    fn insert(&mut self, slot: Slot, path: &[String]) {
        let mut node = 0;
        for (depth, name) in path.iter().enumerate() {
            let rank = u32::try_from(depth).unwrap_or(u32::MAX);
            let is_last = depth + 1 == path.len();
            let rest = if is_last {
                Cow::Borrowed(name)
            } else {
                Cow::Owned(path[depth..].join("."))
            };
            let end = self.entry(node, &rest);
            self.entries[end].ends.push((slot, rank));
            if !is_last {
                let entry = self.entry(node, name);
                node = self.entries[entry].child.unwrap_or_else(|| {
                    self.nodes.push(Node::default());
                    let child = self.nodes.len() - 1;
                    self.entries[entry].child = Some(child);
                    child
                });
            }
        }
    }

    /// The entry of a name in a node, made where there is none. Only used to build: by comparing.
    fn entry(&mut self, node: usize, name: &str) -> usize {
        let node = &mut self.nodes[node];
        if let Some((_, entry)) = node.members.iter().find(|(known, _)| **known == *name) {
            return *entry;
        }
        let entry = self.entries.len();
        self.entries.push(Entry::default());
        node.members.push((name.into(), entry));
        if let Some(index) = name
            .parse::<usize>()
            .ok()
            .filter(|index| index.to_string() == name)
        {
            let place = node.elements.partition_point(|(other, _)| *other < index);
            node.elements.insert(place, (index, entry));
        }
        entry
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Node {
    fn member(&self, name: &str) -> Option<usize> {
        if self.by_name.is_empty() {
            let found = self.members.iter().find(|(known, _)| **known == *name);
            return found.map(|(_, entry)| *entry);
        }
        self.by_name.get(name).copied()
    }
}

/// A value that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    slot: Slot,
    rank: u32,
    /// Where its text begins and ends.
    start: usize,
    end: usize,
}

/// No path has this number: what was found there does not count.
const NOTHING: Slot = Slot::MAX;

/// The values of successive documents.
#[derive(Debug, Default)]
pub struct Found {
    hits: Vec<Hit>,
    /// The texts, copied: payloads of several lines are put together anew for each.
    text: String,
    /// Where the hits of each document end.
    ends: Vec<usize>,
    /// Members met on the way, with the first of their hits and the one behind the last.
    met: Vec<(usize, usize, usize)>,
}

impl Found {
    /// Looks up all paths in one more document.
    pub fn look_up(&mut self, paths: &Paths, json: &str) {
        let first = self.hits.len();
        if !paths.is_empty() {
            self.walk(paths, 0, json);
            self.hits[first..].sort_unstable();
            let mut last = NOTHING;
            let mut kept = first;
            for index in first..self.hits.len() {
                let hit = self.hits[index];
                if hit.slot != last && hit.slot != NOTHING {
                    self.hits[kept] = hit;
                    kept += 1;
                    last = hit.slot;
                }
            }
            self.hits.truncate(kept);
        }
        self.ends.push(self.hits.len());
    }

    /// One more, in which nothing is found.
    pub fn pass_over(&mut self) {
        self.ends.push(self.hits.len());
    }

    /// The values of a document, by the order in which they were looked up.
    #[must_use]
    pub fn values(&self, document: usize) -> Values<'_> {
        let start = document.checked_sub(1).map_or(0, |before| self.ends[before]);
        Values {
            hits: &self.hits[start..self.ends[document]],
            text: &self.text,
        }
    }

    /// Walks an object or array; what is found in one that is none does not count.
    fn walk(&mut self, paths: &Paths, node: usize, json: &str) {
        let (hits, met) = (self.hits.len(), self.met.len());
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let level = Level {
            found: &mut *self,
            paths,
            node: &paths.nodes[node],
        };
        let walked = match json.trim_ascii_start().as_bytes().first() {
            Some(b'{') => deserializer.deserialize_map(level),
            Some(b'[') => deserializer.deserialize_seq(level),
            _ => Ok(()),
        };
        // What follows the document makes it none.
        let is_whole = walked.and_then(|()| deserializer.end()).is_ok();
        if !is_whole {
            self.hits.truncate(hits);
        }
        self.met.truncate(met);
    }

    /// Takes the value of an entry.
    fn take(&mut self, paths: &Paths, entry: usize, value: &str) {
        let entry = &paths.entries[entry];
        if matches!(value.as_bytes().first(), Some(b'{' | b'[')) {
            if let Some(child) = entry.child {
                self.walk(paths, child, value);
            }
            return;
        }
        if entry.ends.is_empty() {
            return;
        }
        let start = self.text.len();
        if value.starts_with('"') {
            let Ok(Text(text)) = serde_json::from_str(value) else {
                return;
            };
            self.text.push_str(&text);
        } else {
            self.text.push_str(value);
        }
        let end = self.text.len();
        self.hits.extend(entry.ends.iter().map(|&(slot, rank)| Hit {
            slot,
            rank,
            start,
            end,
        }));
    }
}

#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The values found in one document.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    hits: &'a [Hit],
    text: &'a str,
}

impl<'a> Values<'a> {
    /// The value at a path.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&'a str> {
        let index = self.hits.binary_search_by_key(&slot, |hit| hit.slot).ok()?;
        let hit = self.hits[index];
        self.text.get(hit.start..hit.end)
    }

    /// All values, with their paths.
    pub fn iter(self) -> impl Iterator<Item = (Slot, &'a str)> {
        let text = self.text;
        let hits = self.hits.iter();
        hits.filter_map(move |hit| Some((hit.slot, text.get(hit.start..hit.end)?)))
    }
}

/// One object or array on the way.
struct Level<'w> {
    found: &'w mut Found,
    paths: &'w Paths,
    node: &'w Node,
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let first_met = self.found.met.len();
        while let Some(entry) = map.next_key_seed(MemberOf(self.node))? {
            let Some(entry) = entry else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: &RawValue = map.next_value()?;
            let mut met = self.found.met[first_met..].iter();
            let before = met.position(|(other, ..)| *other == entry);
            let start = self.found.hits.len();
            self.found.take(self.paths, entry, value.get());
            let range = (entry, start, self.found.hits.len());
            if let Some(before) = before {
                let before = &mut self.found.met[first_met + before];
                for hit in &mut self.found.hits[before.1..before.2] {
                    hit.slot = NOTHING;
                }
                *before = range;
            } else {
                self.found.met.push(range);
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut passed = 0;
        for &(index, entry) in &self.node.elements {
            while passed < index {
                if elements.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(());
                }
                passed += 1;
            }
            let Some(value) = elements.next_element::<&RawValue>()? else {
                return Ok(());
            };
            passed += 1;
            self.found.take(self.paths, entry, value.get());
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Finds the entry of a member by its name, without copying that.
struct MemberOf<'n>(&'n Node);

impl<'de> DeserializeSeed<'de> for MemberOf<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberOf<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.member(name))
    }
}
