//! The well-known types, which have a JSON of their own.

use super::entries::{FieldEntry, Scratch};
use super::wire::to_i32;
use super::{Kind, Known, Protobuf};
use crate::decode::json::{Fault, Output};
use crate::decode::times;

/// The years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Ten thousand years.
const LONGEST: i64 = 315_576_000_000;

const SECOND: i32 = 1_000_000_000;

const OBJECT: [u8; 2] = *b"{}";
const ARRAY: [u8; 2] = *b"[]";

impl Protobuf {
    /// Writes a message of a well-known type.
    pub(super) fn known(
        &self,
        place: usize,
        bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        match self.messages[place].known {
            // They have one field, whose value is theirs.
            Known::Wrapper => {
                let [value] = self.last(place, bytes, scratch)?;
                let kind = self.messages[place].fields.first().map(|field| field.kind);
                self.value(kind.unwrap_or(Kind::Bool), value, bytes, scratch, out)
            }
            Known::Struct => self.enclosed(OBJECT, place, bytes, scratch, out),
            Known::ListValue => self.enclosed(ARRAY, place, bytes, scratch, out),
            Known::Value => {
                let start = self.read(place, bytes, scratch)?;
                // The members of its oneof: at most one is left, unless a message was written in parts.
                let entries = scratch.entries(start);
                let Some(&last) = entries.last() else {
                    out.raw(b"null");
                    return Ok(());
                };
                let kind = self.messages[place].fields[last.field()].kind;
                if entries.len() > 1
                    && let Kind::Message(message) = kind
                {
                    let parts = entries.iter().flat_map(|entry| entry.bytes(bytes));
                    let merged: Vec<u8> = parts.copied().collect();
                    scratch.truncate(start);
                    return self.message(message, &merged, scratch, out);
                }
                scratch.truncate(start);
                self.value(kind, last, bytes, scratch, out)
            }
            Known::FieldMask => {
                let start = self.read(place, bytes, scratch)?;
                let mut text = String::new();
                for entry in scratch.entries(start) {
                    if !text.is_empty() {
                        text.push(',');
                    }
                    let path = std::str::from_utf8(entry.bytes(bytes));
                    camel_case(
                        path.map_err(|_| Fault::Malformed("a string is not UTF-8"))?,
                        &mut text,
                    );
                }
                scratch.truncate(start);
                out.string(&text);
                Ok(())
            }
            Known::Timestamp | Known::Duration => {
                let [seconds, nanos] = self.last(place, bytes, scratch)?;
                let (seconds, nanos) = (seconds.number().cast_signed(), to_i32(nanos.number()));
                if self.messages[place].known == Known::Timestamp {
                    if !SECONDS.contains(&seconds) || !(0..SECOND).contains(&nanos) {
                        return Err(Fault::Malformed("a timestamp is out of range"));
                    }
                    times::instant(seconds, nanos, out);
                    return Ok(());
                }
                duration(seconds, nanos, out)
            }
            Known::Any | Known::None => self.any(place, bytes, scratch, out),
        }
    }

    /// The last entries of the first fields.
    fn last<const N: usize>(
        &self,
        place: usize,
        bytes: &[u8],
        scratch: &mut Scratch,
    ) -> Result<[FieldEntry; N], Fault> {
        let start = self.read(place, bytes, scratch)?;
        let last = std::array::from_fn(|field| {
            let mut entries = scratch.entries(start).iter().rev();
            let found = entries.find(|entry| entry.field() == field);
            found.copied().unwrap_or(FieldEntry::default(field))
        });
        scratch.truncate(start);
        Ok(last)
    }

    /// Writes the values of the only field: those of a map as the members of an object, others as the elements of an
    /// array.
    fn enclosed(
        &self,
        brackets: [u8; 2],
        place: usize,
        bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        let field = self.messages[place].fields.first();
        let kind = field.map_or(Kind::Bool, |field| field.kind);
        let start = self.read(place, bytes, scratch)?;
        let end = scratch.len();
        out.open(brackets[0])?;
        for index in start..end {
            if index > start {
                out.byte(b',');
            }
            let entry = scratch.get(index);
            if brackets == OBJECT {
                self.map_entry(kind, entry.bytes(bytes), scratch, out)?;
            } else {
                self.value(kind, entry, bytes, scratch, out)?;
            }
            out.check()?;
        }
        out.close(brackets[1]);
        scratch.truncate(start);
        Ok(())
    }

    /// Writes an `Any` with the fields of its message, if the schema has the type, otherwise with its bytes.
    fn any(
        &self,
        place: usize,
        bytes: &[u8],
        scratch: &mut Scratch,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        let [url, value] = self.last(place, bytes, scratch)?;
        let (url, value) = (url.bytes(bytes), value.bytes(bytes));
        out.open(b'{')?;
        if !url.is_empty() {
            out.raw(b"\"@type\":");
            out.text(url)?;
            let name = url.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let found = self
                .messages
                .iter()
                .position(|message| message.name.as_bytes() == name);
            match found {
                Some(message) if self.messages[message].known == Known::None => {
                    self.fields(message, value, false, scratch, out)?;
                }
                Some(message) => {
                    out.raw(b",\"value\":");
                    self.message(message, value, scratch, out)?;
                }
                None => {
                    out.raw(b",\"value\":");
                    out.base64(value)?;
                }
            }
        }
        out.close(b'}');
        Ok(())
    }
}

fn duration(seconds: i64, nanos: i32, out: &mut Output<'_>) -> Result<(), Fault> {
    let is_right = (-LONGEST..=LONGEST).contains(&seconds)
        && (-SECOND < nanos && nanos < SECOND)
        && i64::from(nanos.signum()) * seconds.signum() >= 0;
    if !is_right {
        return Err(Fault::Malformed("a duration is out of range"));
    }
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let mut text = format!("{sign}{}", seconds.unsigned_abs());
    let nanos = nanos.unsigned_abs();
    let fraction = match (nanos % 1_000_000, nanos % 1_000) {
        _ if nanos == 0 => String::new(),
        (0, _) => format!(".{:03}", nanos / 1_000_000),
        (_, 0) => format!(".{:06}", nanos / 1_000),
        _ => format!(".{nanos:09}"),
    };
    text.push_str(&fraction);
    text.push('s');
    out.string(&text);
    Ok(())
}

/// `user_name` as `userName`.
fn camel_case(path: &str, text: &mut String) {
    let mut is_next_upper = false;
    for character in path.chars() {
        if character == '_' {
            is_next_upper = true;
        } else if std::mem::take(&mut is_next_upper) {
            text.push(character.to_ascii_uppercase());
        } else {
            text.push(character);
        }
    }
}
