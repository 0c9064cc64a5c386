//! Walks over the bytes of a message and writes it as JSON.
//!
//! Fields may come in any order, and more than once. The entries of a message are noted first, then written by number.

use super::entries::{FieldEntry, Scratch};
use super::wire::{Fields, chunk, to_i32, to_u32, varint};
use super::{Field, Kind, Known, Protobuf, Shape, Wire};
use crate::decode::json::{Fault, Output};

/// Most numbers in the path to a message.
const MAX_INDEXES: u64 = 64;

impl Protobuf {
    /// For each message whether it is shown as an object, none of whose members has one of these names.
    pub(in crate::decode) fn objects_without(&self, names: &[Box<[u8]>]) -> Vec<bool> {
        self.messages
            .iter()
            .map(|message| {
                let mut fields = message.fields.iter();
                message.known == Known::None && fields.all(|field| !names.contains(&field.name))
            })
            .collect()
    }

    /// Writes a payload, and returns the place of its message.
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
        let written = self.message(message, payload, scratch, out);
        scratch.clear();
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
        while let Some(entry) = scratch.entries(next).first() {
            let field = entry.field();
            let entries = scratch.entries(next).iter();
            let count = entries.take_while(|entry| entry.field() == field).count();
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
        scratch.truncate(start);
        Ok(())
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
                    let entry = scratch.get(entry).bytes(bytes);
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
                    let entry = scratch.get(entry);
                    self.items(field.kind, entry, bytes, &mut is_empty, scratch, out)?;
                }
                out.close(b']');
                Ok(!is_empty)
            }
            Shape::Optional | Shape::Implicit => {
                let last = scratch.get(range.end - 1);
                if field.shape == Shape::Implicit && last.is_default() {
                    return Ok(false);
                }
                if let Kind::Message(message) | Kind::Group(message) = field.kind
                    && range.len() > 1
                {
                    // The parts of a message are those of its concatenated bytes.
                    let parts = scratch.entries(range.start)[..range.len()].iter();
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
        entry: FieldEntry,
        bytes: &[u8],
        is_empty: &mut bool,
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        let mut item = |entry: FieldEntry, bytes: &[u8], out: &mut Output<'_>| {
            if !std::mem::replace(is_empty, false) {
                out.byte(b',');
            }
            self.value(kind, entry, bytes, scratch, out)?;
            out.check()
        };
        if !kind.is_packable() || !entry.has_bytes() {
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
            item(entry.item(value), &[], out)?;
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
        let mut input = Fields::new(bytes);
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
            let entries = scratch.entries(start).iter().rev();
            let found = entries.copied().find(|entry| entry.field() == field);
            found.unwrap_or(FieldEntry::default(field))
        };
        let (key, value) = (last(0), last(1));
        scratch.truncate(start);
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
        entry: FieldEntry,
        bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        let value = entry.number();
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
