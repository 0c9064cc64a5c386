//! The values of JSON payloads at [`Paths`], all found by one walk over the text.
//!
//! The value at a path is the text of the first scalar found so: a string's content, any other scalar as it is written
//! (`1.50`, `true`, `null`). Of a repeated member the last counts, as in browsers. A text that is not a JSON document
//! has no values.
//!
//! No value is built: serde_json skips members that no path leads to. An object or array on a path is scanned once for
//! each level that paths lead through it.
//!
//! Pure: no filters, no records.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::members::MapName;
use super::paths::{NONE, Paths, ROOT, Slot};

/// A value of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    slot: Slot,
    rank: u32,
    /// Where its text begins and ends in `Found::text`.
    start: usize,
    end: usize,
}

/// A match at an entry of the trie, which is [`NONE`] if it no longer counts: the text of a scalar, or the
/// scalars of a member.
#[derive(Debug, Clone, Copy)]
struct Span {
    entry: u32,
    start: usize,
    end: usize,
}

/// The values of successive documents.
#[derive(Debug, Default)]
pub(super) struct Found {
    hits: Vec<Hit>,
    /// The texts, copied: payloads of several lines are joined in a buffer that is reused.
    text: String,
    /// Where the hits of each document end.
    ends: Vec<usize>,
    /// Scalars of the current document.
    scalars: Vec<Span>,
    /// Members of the objects that are being walked.
    members: Vec<Span>,
    /// For each entry the index of its member, or [`NONE`]: an entry is in one object, so it has one at most.
    met: Vec<u32>,
}

impl Found {
    /// Looks up all paths in one more document.
    pub(super) fn look_up(&mut self, paths: &Paths, json: &str) {
        if !paths.is_empty() {
            self.walk(paths, ROOT, json);
            self.settle(paths);
        }
        self.ends.push(self.hits.len());
    }

    /// Adds a document without values.
    pub(super) fn pass_over(&mut self) {
        self.ends.push(self.hits.len());
    }

    /// The values of a document, by the order of lookups.
    pub(super) fn values(&self, document: usize) -> Values<'_> {
        let start = document.checked_sub(1).map_or(0, |before| self.ends[before]);
        Values {
            hits: &self.hits[start..self.ends[document]],
            text: &self.text,
        }
    }

    /// Converts a document's scalars to hits: for every path the one with the lowest rank.
    fn settle(&mut self, paths: &Paths) {
        let first = self.hits.len();
        for scalar in self.scalars.drain(..).filter(|scalar| scalar.entry != NONE) {
            let hits = paths.ends(scalar.entry).map(|(slot, rank)| Hit {
                slot,
                rank,
                start: scalar.start,
                end: scalar.end,
            });
            self.hits.extend(hits);
        }
        self.hits[first..].sort_unstable();
        let (mut last, mut kept) = (None, first);
        for index in first..self.hits.len() {
            let hit = self.hits[index];
            if last != Some(hit.slot) {
                self.hits[kept] = hit;
                kept += 1;
                last = Some(hit.slot);
            }
        }
        self.hits.truncate(kept);
    }

    /// Walks an object or array; values found in a malformed one do not count.
    fn walk(&mut self, paths: &Paths, node: u32, json: &str) {
        let (scalars, members) = (self.scalars.len(), self.members.len());
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let level = Level {
            found: &mut *self,
            paths,
            node,
        };
        let walked = match json.trim_ascii_start().as_bytes().first() {
            Some(b'{') => deserializer.deserialize_map(level),
            Some(b'[') => deserializer.deserialize_seq(level),
            _ => Ok(()),
        };
        // Trailing text makes the document invalid.
        let is_whole = walked.and_then(|()| deserializer.end()).is_ok();
        if !is_whole {
            self.scalars.truncate(scalars);
        }
        for member in self.members.drain(members..) {
            self.met[member.entry as usize] = NONE;
        }
    }

    /// Takes the value of an entry.
    fn take(&mut self, paths: &Paths, entry: u32, value: &str) {
        if matches!(value.as_bytes().first(), Some(b'{' | b'[')) {
            if let Some(child) = paths.child_of(entry) {
                self.walk(paths, child, value);
            }
            return;
        }
        if !paths.is_end(entry) {
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
        self.scalars.push(Span { entry, start, end });
    }

    /// Notes a member whose scalars begin at `start`. The scalars of an earlier member of the same name no longer
    /// count.
    fn meet(&mut self, entry: u32, start: usize) {
        let member = Span {
            entry,
            start,
            end: self.scalars.len(),
        };
        if self.met.len() <= entry as usize {
            self.met.resize(entry as usize + 1, NONE);
        }
        let met = &mut self.met[entry as usize];
        if let Some(before) = self.members.get_mut(*met as usize) {
            for scalar in &mut self.scalars[before.start..before.end] {
                scalar.entry = NONE;
            }
            *before = member;
        } else {
            // A record has fewer members than bytes, which Kafka limits to below 2 GiB.
            *met = u32::try_from(self.members.len()).unwrap_or(NONE);
            self.members.push(member);
        }
    }
}

#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The values found in one document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    hits: &'a [Hit],
    text: &'a str,
}

impl<'a> Values<'a> {
    /// The value at a path.
    pub(super) fn get(&self, slot: Slot) -> Option<&'a str> {
        let index = self.hits.binary_search_by_key(&slot, |hit| hit.slot).ok()?;
        let hit = self.hits[index];
        self.text.get(hit.start..hit.end)
    }

    /// All values, with their paths.
    pub(super) fn iter(self) -> impl Iterator<Item = (Slot, &'a str)> {
        let text = self.text;
        let hits = self.hits.iter();
        hits.filter_map(move |hit| Some((hit.slot, text.get(hit.start..hit.end)?)))
    }
}

/// An object or array on a path.
struct Level<'w> {
    found: &'w mut Found,
    paths: &'w Paths,
    node: u32,
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let member = |name: &str| self.paths.member(self.node, name);
        while let Some(entry) = map.next_key_seed(MapName(member))? {
            let Some(entry) = entry else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: &RawValue = map.next_value()?;
            let start = self.found.scalars.len();
            self.found.take(self.paths, entry, value.get());
            self.found.meet(entry, start);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut passed = 0;
        for (index, entry) in self.paths.elements(self.node) {
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

#[cfg(test)]
mod tests;
