//! Walks over the bytes of a message and writes it as JSON.
//!
//! Fields may come in any order, and more than once. The entries of a message are noted first, then written by number.

use super::{Enum, Field, Kind, Known, Message, Protobuf, Shape, Wire};
use crate::decode::json::{Fault, MAX_DEPTH, Output};

/// Most numbers in the path to a message.
const MAX_INDEXES: u64 = 64;

/// Most entries of a message with those around it, of 32 bytes each. The items of a packed list are one.
const MAX_ENTRIES: usize = 2 << 20;

/// Entries whose memory is kept for the next message.
const KEPT_ENTRIES: usize = 16 << 10;

/// The entries of the messages that are being written, those of the innermost last.
#[derive(Debug, Default)]
pub(in crate::decode) struct Scratch {
    entries: Vec<Entry>,
    /// For each oneof of the message that is being read the last member, and its first entry that counts.
    oneofs: Vec<(usize, usize)>,
}

impl Scratch {
    /// The entries from `start` on.
    pub(super) fn entries(&self, start: usize) -> &[Entry] {
        &self.entries[start..]
    }

    pub(super) fn get(&self, place: usize) -> Entry {
        self.entries[place]
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.entries.truncate(length);
    }
}

/// A field in the bytes of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Its place in the fields of the message.
    field: usize,
    /// A number, or where the bytes begin.
    value: u64,
    /// Where the bytes end, if it has any.
    end: Option<usize>,
}

impl Entry {
    /// The bytes of a field that has bytes, otherwise none.
    pub(super) fn bytes<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let start = usize::try_from(self.value).unwrap_or(usize::MAX);
        self.end.and_then(|end| bytes.get(start..end)).unwrap_or_default()
    }

    pub(super) const fn field(&self) -> usize {
        self.field
    }

    /// The value of a field that is a number, otherwise 0.
    pub(super) const fn number(&self) -> u64 {
        self.value
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
    /// Writes a message, and returns its place among the messages of the schema.
    pub(in crate::decode) fn write(
        &self,
        header: Option<&[u8]>,
        payload: &[u8],
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<usize, Fault> {
        let (mut indexes, mut payload) = (header.unwrap_or_default(), payload);
        let message = self.root(if header.is_some() {
            &mut indexes
        } else {
            &mut payload
        })?;
        scratch.entries.clear();
        let written = self.message(message, payload, scratch, out);
        if scratch.entries.capacity() > KEPT_ENTRIES {
            scratch.entries = Vec::new();
        }
        written?;
        out.check()?;
        Ok(message)
    }

    /// Finds the message by its path in the file: the number of its indexes and the indexes, zig-zag. No index means the
    /// first message.
    fn root(&self, input: &mut &[u8]) -> Result<usize, Fault> {
        let none = Fault::Malformed("the schema has no message of these indexes");
        let mut next = || {
            let value = varint(input)?;
            if value & 1 == 1 {
                return Err(none);
            }
            Ok(value >> 1)
        };
        let count = next()?;
        if count > MAX_INDEXES {
            return Err(none);
        }
        let mut message = None;
        let mut among = &self.top;
        for _ in 0..count {
            let index = usize::try_from(next()?).map_err(|_| none)?;
            let chosen = among
                .get(index)
                .copied()
                .filter(|chosen| !self.messages[*chosen].is_map_entry);
            // Java's serializer does not count the messages of maps.
            let declared = || {
                among
                    .iter()
                    .copied()
                    .filter(|chosen| !self.messages[*chosen].is_map_entry)
                    .nth(index)
            };
            let chosen = chosen.or_else(declared).ok_or(none)?;
            message = Some(chosen);
            among = &self.messages[chosen].nested;
        }
        message.or_else(|| self.top.first().copied()).ok_or(none)
    }

    /// Writes a message of any type.
    pub(super) fn message(
        &self,
        place: usize,
        bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        let message = &self.messages[place];
        if message.known != Known::None {
            return self.known(place, bytes, scratch, out);
        }
        out.open(b'{')?;
        self.fields(place, bytes, true, scratch, out)?;
        out.close(b'}');
        Ok(())
    }

    /// Writes the fields of a message into an object.
    pub(super) fn fields(
        &self,
        place: usize,
        bytes: &[u8],
        mut is_first: bool,
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        let message = &self.messages[place];
        let start = self.read(place, bytes, scratch)?;
        let mut next = start;
        while let Some(entry) = scratch.entries.get(next) {
            let field = entry.field;
            let count = scratch.entries[next..]
                .iter()
                .take_while(|entry| entry.field == field)
                .count();
            let range = next..next + count;
            next += count;
            let before = out.len();
            if !is_first {
                out.byte(b',');
            }
            let field = &message.fields[field];
            out.raw(&field.name);
            if self.field_value(field, bytes, range, scratch, out)? {
                is_first = false;
            } else {
                out.truncate(before);
            }
            out.check()?;
        }
        scratch.entries.truncate(start);
        Ok(())
    }

    /// Notes the entries of a message, by field, and returns the place of the first. The caller removes them.
    pub(super) fn read(&self, place: usize, bytes: &[u8], scratch: &mut Scratch) -> Result<usize, Fault> {
        let start = scratch.entries.len();
        let mut input = Fields { bytes, at: 0 };
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
            scratch.entries.push(Entry {
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

    /// Writes the value of a field from all its entries. False where it is not shown.
    fn field_value(
        &self,
        field: &Field,
        bytes: &[u8],
        range: std::ops::Range<usize>,
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<bool, Fault> {
        match field.shape {
            Shape::Map => {
                out.open(b'{')?;
                let mut is_empty = true;
                for entry in range {
                    let entry = scratch.entries[entry].bytes(bytes);
                    if self.is_unknown_entry(field.kind, entry)? {
                        continue;
                    }
                    if !std::mem::replace(&mut is_empty, false) {
                        out.byte(b',');
                    }
                    self.map_entry(field.kind, entry, scratch, out)?;
                    out.check()?;
                }
                out.close(b'}');
                Ok(!is_empty)
            }
            Shape::List => {
                out.open(b'[')?;
                let mut is_empty = true;
                for entry in range {
                    let entry = scratch.entries[entry];
                    self.items(field.kind, entry, bytes, &mut is_empty, scratch, out)?;
                }
                out.close(b']');
                Ok(!is_empty)
            }
            Shape::Optional | Shape::Implicit => {
                let last = scratch.entries[range.end - 1];
                if field.shape == Shape::Implicit && is_default(&last) {
                    return Ok(false);
                }
                if let Kind::Message(message) | Kind::Group(message) = field.kind
                    && range.len() > 1
                {
                    // The parts of a message are those of its concatenated bytes.
                    let parts = scratch.entries[range].iter();
                    let merged: Vec<u8> = parts.flat_map(|entry| entry.bytes(bytes)).copied().collect();
                    self.message(message, &merged, scratch, out)?;
                } else {
                    self.value(field.kind, last, bytes, scratch, out)?;
                }
                Ok(true)
            }
        }
    }

    /// Writes the items of one entry of a list: one, or all of a packed one.
    fn items(
        &self,
        kind: Kind,
        entry: Entry,
        bytes: &[u8],
        is_empty: &mut bool,
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        let mut item = |entry: Entry, bytes: &[u8], out: &mut Output<'_>| {
            if !std::mem::replace(is_empty, false) {
                out.byte(b',');
            }
            self.value(kind, entry, bytes, scratch, out)?;
            out.check()
        };
        if !kind.is_packable() || entry.end.is_none() {
            return item(entry, bytes, out);
        }
        let mut packed = entry.bytes(bytes);
        while !packed.is_empty() {
            let value = match kind.wire() {
                Wire::Eight => u64::from_le_bytes(chunk(&mut packed)?),
                Wire::Four => u32::from_le_bytes(chunk(&mut packed)?).into(),
                _ => varint(&mut packed)?,
            };
            if let Kind::Enum(symbols) = kind
                && self.enums[symbols].is_unknown(to_i32(value))
            {
                continue;
            }
            let entry = Entry {
                value,
                end: None,
                ..entry
            };
            item(entry, &[], out)?;
        }
        Ok(())
    }

    /// Whether an entry of a map has a number that its enum lacks: it is an unknown field as a whole.
    fn is_unknown_entry(&self, kind: Kind, bytes: &[u8]) -> Result<bool, Fault> {
        let Kind::Message(place) = kind else {
            return Ok(false);
        };
        let Some(Field {
            number,
            kind: Kind::Enum(symbols),
            ..
        }) = self.messages[place].fields.last()
        else {
            return Ok(false);
        };
        let mut input = Fields { bytes, at: 0 };
        while let Some((found, wire, value, _)) = input.next()? {
            if found == *number && wire == Wire::Varint && self.enums[*symbols].is_unknown(to_i32(value)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the name and the value of an entry of a map.
    pub(super) fn map_entry(
        &self,
        kind: Kind,
        bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        let Kind::Message(place) = kind else {
            return Err(Fault::Malformed("a map without entries"));
        };
        let start = self.read(place, bytes, scratch)?;
        let last = |field: usize| {
            let entries = scratch.entries[start..].iter().rev();
            let found = entries.copied().find(|entry| entry.field == field);
            found.unwrap_or(Entry::default(field))
        };
        let (key, value) = (last(0), last(1));
        scratch.entries.truncate(start);
        // The key and the value, by their numbers.
        let [key_field, value_field] = &*self.messages[place].fields else {
            return Err(Fault::Malformed("a map without entries"));
        };
        if key_field.kind == Kind::String {
            out.text(key.bytes(bytes))?;
        } else {
            let quotes = out.options.quotes_int64;
            out.options.quotes_int64 = false;
            out.byte(b'"');
            self.value(key_field.kind, key, bytes, scratch, out)?;
            out.byte(b'"');
            out.options.quotes_int64 = quotes;
        }
        out.byte(b':');
        self.value(value_field.kind, value, bytes, scratch, out)
    }

    /// Writes one value.
    pub(super) fn value(
        &self,
        kind: Kind,
        entry: Entry,
        bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        let value = entry.value;
        match kind {
            Kind::Double => out.double(f64::from_bits(value)),
            Kind::Float => out.float(f32::from_bits(to_u32(value))),
            Kind::Int32 | Kind::Sfixed32 => out.integer(to_i32(value).into()),
            Kind::Int64 | Kind::Sfixed64 => out.int64(value.cast_signed()),
            Kind::Uint32 | Kind::Fixed32 => out.integer(to_u32(value).into()),
            Kind::Uint64 | Kind::Fixed64 => out.uint64(value),
            Kind::Sint32 => {
                let value = to_u32(value);
                out.integer(((value >> 1).cast_signed() ^ -(value & 1).cast_signed()).into());
            }
            Kind::Sint64 => out.int64((value >> 1).cast_signed() ^ -(value & 1).cast_signed()),
            Kind::Bool => out.boolean(value != 0),
            Kind::String => out.text(entry.bytes(bytes))?,
            Kind::Bytes => out.base64(entry.bytes(bytes))?,
            Kind::Enum(symbols) => match self.enums[symbols].name(to_i32(value)) {
                Some(name) => out.raw(name),
                None => out.integer(to_i32(value).into()),
            },
            Kind::Message(message) | Kind::Group(message) => {
                self.message(message, entry.bytes(bytes), scratch, out)?;
            }
        }
        Ok(())
    }
}

impl Enum {
    fn name(&self, number: i32) -> Option<&[u8]> {
        let place = self
            .values
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()?;
        Some(&self.values[place].1)
    }

    fn is_unknown(&self, number: i32) -> bool {
        self.is_closed && self.name(number).is_none()
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

fn is_default(entry: &Entry) -> bool {
    match entry.end {
        Some(end) => usize::try_from(entry.value).is_ok_and(|start| start == end),
        None => entry.value == 0,
    }
}

/// The lower half, as every parser of Protobuf reads numbers of 32 bits.
pub(super) const fn to_u32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

pub(super) const fn to_i32(value: u64) -> i32 {
    to_u32(value).cast_signed()
}

fn chunk<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (taken, rest) = input
        .split_first_chunk()
        .ok_or(Fault::Malformed("it ends too early"))?;
    *input = rest;
    Ok(*taken)
}

fn varint(input: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0_u64;
    for (index, byte) in input.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *input = &input[index + 1..];
            return Ok(value);
        }
    }
    Err(Fault::Malformed(if input.len() < 10 {
        "it ends too early"
    } else {
        "a number has more than 64 bits"
    }))
}

/// Number, encoding, and number or range of a field.
type Read = (u32, Wire, u64, Option<usize>);

/// The fields of a message.
struct Fields<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Fields<'_> {
    /// Reads the next field.
    fn next(&mut self) -> Result<Option<Read>, Fault> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let (number, wire) = self.key()?;
        let field = match wire {
            0 => (number, Wire::Varint, self.varint()?, None),
            1 => (number, Wire::Eight, u64::from_le_bytes(self.array()?), None),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let start = self.at;
                self.skip(length)?;
                (number, Wire::Length, start as u64, Some(self.at))
            }
            3 => {
                let start = self.at;
                let end = self.skip_group(number)?;
                (number, Wire::Group, start as u64, Some(end))
            }
            5 => (number, Wire::Four, u32::from_le_bytes(self.array()?).into(), None),
            _ => return Err(Fault::Malformed("a field has no valid type")),
        };
        Ok(Some(field))
    }

    fn key(&mut self) -> Result<(u32, u8), Fault> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or(Fault::Malformed("a field has no valid number"))?;
        Ok((number, key.to_le_bytes()[0] & 7))
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut rest = &self.bytes[self.at..];
        let value = varint(&mut rest)?;
        self.at = self.bytes.len() - rest.len();
        Ok(value)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut rest = &self.bytes[self.at..];
        let taken = chunk(&mut rest)?;
        self.at += N;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), Fault> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        self.at = end.ok_or(Fault::Malformed("it ends too early"))?;
        Ok(())
    }

    /// Passes over a group and returns where its fields end.
    fn skip_group(&mut self, number: u32) -> Result<usize, Fault> {
        let mut open = vec![number];
        loop {
            let end = self.at;
            let (number, wire) = self.key()?;
            match wire {
                0 => {
                    self.varint()?;
                }
                1 => self.skip(8)?,
                2 => {
                    let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                    self.skip(length)?;
                }
                3 => {
                    open.push(number);
                    if open.len() > MAX_DEPTH {
                        return Err(Fault::TooDeep);
                    }
                }
                4 if open.pop() == Some(number) => {
                    if open.is_empty() {
                        return Ok(end);
                    }
                }
                5 => self.skip(4)?,
                _ => return Err(Fault::Malformed("a field has no valid type")),
            }
        }
    }
}
