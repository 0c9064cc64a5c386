//! The fields of messages, noted before they are written: they may come in any order, and more than once.

use super::wire::{Fields, to_i32};
use super::{Kind, Message, Protobuf, Shape, Wire};
use crate::decode::json::Fault;

/// Most entries of a message with those around it, of 32 bytes each. The items of a packed list are one.
const MAX_ENTRIES: usize = 2 << 20;

/// Entries whose memory is kept for the next message.
const KEPT_ENTRIES: usize = 16 << 10;

/// The entries of the messages that are being written, those of the innermost last.
#[derive(Debug, Default)]
pub(in crate::decode) struct Scratch {
    entries: Vec<FieldEntry>,
    /// For each oneof of the message that is being read the last member, and its first entry that counts.
    oneofs: Vec<(usize, usize)>,
}

impl Scratch {
    /// The entries from `start` on.
    pub(super) fn entries(&self, start: usize) -> &[FieldEntry] {
        &self.entries[start..]
    }

    pub(super) fn get(&self, place: usize) -> FieldEntry {
        self.entries[place]
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.entries.truncate(length);
    }

    /// Removes all entries, and keeps no more memory than is usually needed.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        if self.entries.capacity() > KEPT_ENTRIES {
            self.entries = Vec::new();
        }
    }
}

/// A field in the bytes of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldEntry {
    /// Its place in the fields of the message.
    field: usize,
    /// A number, or where the bytes begin.
    value: u64,
    /// Where the bytes end, if it has any.
    end: Option<usize>,
}

impl FieldEntry {
    /// The bytes of a field that has bytes, otherwise none.
    pub(super) fn bytes<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let start = usize::try_from(self.value).unwrap_or(usize::MAX);
        self.end.and_then(|end| bytes.get(start..end)).unwrap_or_default()
    }

    /// Whether its value is what an absent field has.
    pub(super) fn is_default(&self) -> bool {
        match self.end {
            Some(end) => usize::try_from(self.value).is_ok_and(|start| start == end),
            None => self.value == 0,
        }
    }

    pub(super) const fn field(&self) -> usize {
        self.field
    }

    /// The value of a field that is a number, otherwise 0.
    pub(super) const fn number(&self) -> u64 {
        self.value
    }

    /// An item of a packed list.
    pub(super) const fn item(self, value: u64) -> Self {
        Self {
            value,
            end: None,
            ..self
        }
    }

    /// Whether its value is bytes.
    pub(super) const fn has_bytes(&self) -> bool {
        self.end.is_some()
    }

    /// A field that is absent.
    pub(super) const fn default(field: usize) -> Self {
        Self {
            field,
            value: 0,
            end: None,
        }
    }
}

impl Protobuf {
    /// Notes the entries of a message, by field, and returns the place of the first. The caller removes them.
    pub(super) fn read(&self, place: usize, bytes: &[u8], scratch: &mut Scratch) -> Result<usize, Fault> {
        let start = scratch.entries.len();
        let mut input = Fields::new(bytes);
        let mut is_sorted = true;
        while let Some((number, wire, value, end)) = input.next()? {
            let Some(place_of_field) = self.field(place, number) else {
                continue;
            };
            let field = &self.messages[place].fields[place_of_field];
            let is_packed = wire == Wire::Length && field.shape == Shape::List && field.kind.is_packable();
            // As an unknown field, it is passed over.
            if wire != field.kind.wire() && !is_packed {
                continue;
            }
            if let Kind::Enum(symbols) = field.kind
                && !is_packed
                && self.enums[symbols].is_unknown(to_i32(value))
            {
                continue;
            }
            is_sorted &= scratch.entries[start..]
                .last()
                .is_none_or(|last| last.field <= place_of_field);
            if scratch.entries.len() >= MAX_ENTRIES {
                return Err(Fault::TooLarge);
            }
            scratch.entries.push(FieldEntry {
                field: place_of_field,
                value,
                end,
            });
        }
        let message = &self.messages[place];
        if message.oneofs > 0 {
            settle(message, start, scratch);
        }
        if !is_sorted {
            scratch.entries[start..].sort_by_key(|entry| entry.field);
        }
        Ok(start)
    }
}

/// Removes the members of oneofs that a later member replaces.
fn settle(message: &Message, start: usize, scratch: &mut Scratch) {
    let Scratch { entries, oneofs } = scratch;
    oneofs.clear();
    oneofs.resize(message.oneofs, (usize::MAX, start));
    for (place, entry) in entries.iter().enumerate().skip(start) {
        if let Some(oneof) = message.fields[entry.field].oneof
            && oneofs[oneof].0 != entry.field
        {
            oneofs[oneof] = (entry.field, place);
        }
    }
    let mut kept = start;
    for place in start..entries.len() {
        let entry = entries[place];
        let oneof = message.fields[entry.field].oneof;
        if oneof.is_none_or(|oneof| place >= oneofs[oneof].1) {
            entries[kept] = entry;
            kept += 1;
        }
    }
    entries.truncate(kept);
}
