//! Writes JSON within bounds.
#![cfg_attr(
    not(any(feature = "avro", feature = "protobuf")),
    expect(dead_code, reason = "numbers and UUIDs are neither deep nor large")
)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::config::{AvroJson, Int64, StreamSettings, Timestamps};

/// Most bytes of a key or a value as JSON: a record of Kafka's usual limit of 1 MiB, many times over. A few bytes of
/// Avro may claim billions of elements. A fuzzer finds such bytes again and again, and would write nothing but their JSON.
pub(super) const MAX_BYTES: usize = if cfg!(fuzzing) { 64 << 10 } else { 64 << 20 };

/// Most objects and arrays around a value, as JSON parsers have such limits too (`serde_json`: 128).
pub(super) const MAX_DEPTH: usize = 100;

/// Why bytes cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// They are not of the format, or do not match the schema.
    Malformed(&'static str),
    /// The JSON would be larger than [`MAX_BYTES`].
    TooLarge,
    /// The JSON would be deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// How values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    /// Whether values of unions are objects with the names of their types.
    pub(super) tags_unions: bool,
    /// Whether integers of 64 bits are strings.
    pub(super) quotes_int64: bool,
    /// Whether Avro's dates and times are numbers.
    pub(super) numbers_times: bool,
}

impl From<&StreamSettings> for Options {
    fn from(settings: &StreamSettings) -> Self {
        Self {
            tags_unions: settings.avro_json == AvroJson::Tagged,
            quotes_int64: settings.int64 == Int64::String,
            numbers_times: settings.timestamps == Timestamps::Number,
        }
    }
}

/// Appends one JSON value to a buffer.
#[derive(Debug)]
pub(super) struct Output<'o> {
    bytes: &'o mut Vec<u8>,
    /// The length of `bytes` that is not to be exceeded.
    end: usize,
    depth: usize,
    pub(super) options: Options,
}

impl<'o> Output<'o> {
    pub(super) fn new(bytes: &'o mut Vec<u8>, options: Options) -> Self {
        Self {
            end: bytes.len().saturating_add(MAX_BYTES),
            bytes,
            depth: 0,
            options,
        }
    }

    /// Begins an object or an array. Every value within one passes here or through [`check`](Self::check).
    pub(super) fn open(&mut self, bracket: u8) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::TooDeep);
        }
        self.bytes.push(bracket);
        self.check()
    }

    pub(super) fn close(&mut self, bracket: u8) {
        self.depth -= 1;
        self.bytes.push(bracket);
    }

    /// Fails when the value is too large.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.bytes.len() > self.end {
            return Err(Fault::TooLarge);
        }
        Ok(())
    }

    /// Appends JSON that is finished.
    pub(super) fn raw(&mut self, json: &[u8]) {
        self.bytes.extend_from_slice(json);
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    fn serialize<T: Serialize + ?Sized>(&mut self, value: &T) {
        // Serializing strings and numbers into memory cannot fail.
        let written = serde_json::to_writer(&mut *self.bytes, value);
        debug_assert!(written.is_ok());
    }

    pub(super) fn boolean(&mut self, value: bool) {
        self.raw(if value { b"true" } else { b"false" });
    }

    pub(super) fn string(&mut self, text: &str) {
        self.serialize(text);
    }

    /// A string from bytes that are to be UTF-8.
    pub(super) fn text(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if is_plain(bytes) {
            self.byte(b'"');
            self.raw(bytes);
            self.byte(b'"');
            return self.check();
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::Malformed("a string is not UTF-8"))?;
        self.string(text);
        self.check()
    }

    pub(super) fn base64(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.byte(b'"');
        let at = self.bytes.len();
        self.bytes.resize(at + bytes.len().div_ceil(3) * 4, 0);
        // The space is exact.
        let written = STANDARD.encode_slice(bytes, &mut self.bytes[at..]);
        debug_assert!(written.is_ok());
        self.byte(b'"');
        self.check()
    }

    /// An integer that is a number with any options.
    pub(super) fn integer(&mut self, value: i64) {
        self.serialize(&value);
    }

    pub(super) fn int64(&mut self, value: i64) {
        self.integer_of_64_bits(&value);
    }

    fn integer_of_64_bits<T: Serialize>(&mut self, value: &T) {
        if self.options.quotes_int64 {
            self.byte(b'"');
            self.serialize(value);
            self.byte(b'"');
        } else {
            self.serialize(value);
        }
    }

    pub(super) fn float(&mut self, value: f32) {
        if value.is_finite() {
            // The shortest digits that identify it among numbers of 32 bits.
            self.serialize(&value);
        } else {
            self.not_finite(value.is_nan(), value > 0.0);
        }
    }

    pub(super) fn double(&mut self, value: f64) {
        if value.is_finite() {
            self.serialize(&value);
        } else {
            self.not_finite(value.is_nan(), value > 0.0);
        }
    }

    fn not_finite(&mut self, is_nan: bool, is_positive: bool) {
        self.raw(match (is_nan, is_positive) {
            (true, _) => b"\"NaN\"",
            (false, true) => b"\"Infinity\"",
            (false, false) => b"\"-Infinity\"",
        });
    }
}

/// Whether a JSON string has these bytes as they are: they are ASCII, none of which is escaped.
fn is_plain(bytes: &[u8]) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    // To the end in any case, so that the compiler can take many bytes at once.
    bytes
        .iter()
        .fold(true, |are_plain, byte| are_plain & is_plain(*byte))
}

#[cfg(feature = "protobuf")]
impl Output<'_> {
    pub(super) fn uint64(&mut self, value: u64) {
        self.integer_of_64_bits(&value);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Removes what was appended since the length was `length`.
    pub(super) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }
}

/// A string as JSON.
pub(super) fn string(text: &str) -> Box<[u8]> {
    serde_json::Value::from(text).to_string().into_bytes().into()
}

/// The name of a member as JSON, with its colon.
pub(super) fn name(text: &str) -> Box<[u8]> {
    let mut name = string(text).into_vec();
    name.push(b':');
    name.into()
}
