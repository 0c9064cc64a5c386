//! Encodes records as frames.
//!
//! Runs once per record, whatever the number of clients. A record that cannot be shown as the
//! stream wants it is an [`Invalid`], which the caller counts and passes over.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::{DataFormat, Format, StreamSettings};
pub use crate::kafka::invalid::Invalid;
use crate::kafka::record::Record;
use crate::sse::control::ControlEvent;
use crate::sse::write;

/// The form in which keys reach the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyForm {
    /// Bytes that are shown as a string where they are text.
    Text,
    /// Bytes that are shown in base64.
    Bytes,
    /// JSON.
    Json,
}

impl From<DataFormat> for KeyForm {
    fn from(format: DataFormat) -> Self {
        match format {
            // A UUID is decoded to its text.
            DataFormat::Text | DataFormat::Uuid => Self::Text,
            DataFormat::Bytes => Self::Bytes,
            _ => Self::Json,
        }
    }
}

/// Whether records of a stream of these settings can have this fault.
pub fn is_possible(cause: Invalid, settings: &StreamSettings) -> bool {
    let (key, value) = (settings.key_format, settings.value_format);
    let has_schemas = |format: DataFormat| format.needs_registry();
    match cause {
        Invalid::ValueNotUtf8 | Invalid::ValueNotObject => true,
        Invalid::ValueHasSchemaId => value == DataFormat::Json && settings.format == Format::Value,
        Invalid::ValueWithoutSchemaId => has_schemas(value) || value == DataFormat::JsonSchema,
        Invalid::ValueSchemaUnknown | Invalid::ValueSchemaUnusable | Invalid::ValueTooLarge => {
            has_schemas(value)
        }
        Invalid::ValueNotJson => !settings.fields.is_empty() || !settings.hide.is_empty(),
        Invalid::ValueNotChange | Invalid::ValueWithoutRow | Invalid::ValueTruncatesTable => {
            settings.unwrap.is_some()
        }
        Invalid::ValueMalformed => !value.is_plain() && value != DataFormat::Json,
        Invalid::KeyWithoutSchemaId => has_schemas(key) || key == DataFormat::JsonSchema,
        Invalid::KeySchemaUnknown | Invalid::KeySchemaUnusable | Invalid::KeyTooLarge => has_schemas(key),
        Invalid::KeyMalformed => !key.is_plain(),
    }
}

/// Whether the data of every record of a stream of these settings is JSON: envelopes are written as JSON, and a value is
/// parsed where a key is written into it.
pub(super) fn is_always_json(settings: &StreamSettings) -> bool {
    match settings.format {
        Format::Envelope => true,
        Format::Value => settings.key_field.is_some() && settings.value_format != DataFormat::Bytes,
    }
}

/// Encodes the records of a stream.
#[derive(Debug)]
pub struct Encoder {
    format: Format,
    key_form: KeyForm,
    value_format: DataFormat,
    key_field: Option<String>,
    event: Option<String>,
    /// Whether a `delete` must name its topic.
    is_multi_topic: bool,
    /// A reused buffer for a payload before it is split into lines.
    payload: Vec<u8>,
}

impl Encoder {
    /// An encoder for a stream of these settings.
    pub fn new(settings: &StreamSettings) -> Self {
        Self {
            format: settings.format,
            key_form: settings.key_format.into(),
            value_format: settings.value_format,
            key_field: settings.key_field.clone(),
            event: settings.event.clone(),
            is_multi_topic: settings.topics.len() > 1,
            payload: Vec::new(),
        }
    }

    /// Appends the whole frame of a record to `out`. `write_id` appends its id.
    ///
    /// # Errors
    /// When the record cannot be shown; `out` is then unchanged.
    pub fn write(
        &mut self,
        record: &Record<'_>,
        out: &mut Vec<u8>,
        write_id: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Invalid> {
        let before = out.len();
        write::begin(out, write_id);
        self.write_body(record, out).inspect_err(|_| out.truncate(before))
    }

    /// Appends the frame of a record without its id line.
    ///
    /// # Errors
    /// When the record cannot be shown; `out` is then unchanged.
    pub fn write_body(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Invalid> {
        self.payload.clear();
        let mut payload = std::mem::take(&mut self.payload);
        let made = self.payload(record, &mut payload);
        if let Ok(borrowed) = made {
            if record.value.is_none() {
                write::write_event(out, ControlEvent::Delete.as_str());
            } else if let Some(event) = &self.event {
                write::write_event(out, event);
            }
            write::write_data(out, borrowed.unwrap_or(&payload));
            write::end(out);
        }
        self.payload = payload;
        made.map(|_| ())
    }

    /// The payload: either the record's own bytes, or `None` if it was written to `payload`.
    fn payload<'r>(&self, record: &Record<'r>, payload: &mut Vec<u8>) -> Result<Option<&'r [u8]>, Invalid> {
        if let Some(error) = record.undecodable {
            return Err(error.cause);
        }
        match (self.format, record.value) {
            (Format::Envelope, _) => self.write_envelope(payload, record),
            (Format::Value, None) => {
                let field = self.key_field.as_deref().unwrap_or("key");
                payload.push(b'{');
                write_json(payload, field);
                payload.push(b':');
                write_key(payload, record.key, self.key_form);
                if self.is_multi_topic {
                    payload.extend_from_slice(b",\"topic\":");
                    write_json(payload, record.topic);
                }
                payload.push(b'}');
            }
            (Format::Value, Some(value)) if self.value_format == DataFormat::Bytes => {
                payload.extend_from_slice(STANDARD.encode(value).as_bytes());
            }
            (Format::Value, Some(value)) => {
                if self.value_format == DataFormat::Json && has_schema_id(value) {
                    return Err(Invalid::ValueHasSchemaId);
                }
                let text = text_of(value).ok_or(Invalid::ValueNotUtf8)?;
                let Some(field) = &self.key_field else {
                    return Ok(Some(text.as_bytes()));
                };
                write_with_key(payload, text, field, |out| {
                    write_key(out, record.key, self.key_form);
                })?;
            }
        }
        Ok(None)
    }

    /// `{"topic","partition","offset","timestamp","key","headers","value","encoding"}`
    fn write_envelope(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        out.extend_from_slice(b"{\"topic\":");
        write_json(out, record.topic);
        // Writing into memory cannot fail.
        let _ = write!(
            out,
            ",\"partition\":{},\"offset\":{},\"timestamp\":",
            record.partition, record.offset
        );
        write_json(out, &record.timestamp);
        out.extend_from_slice(b",\"key\":");
        write_key(out, record.key, self.key_form);
        out.extend_from_slice(b",\"headers\":{");
        write_headers(out, record);
        out.extend_from_slice(b"},\"value\":");
        let encoding = match record.value {
            None => {
                out.extend_from_slice(b"null");
                "tombstone"
            }
            Some(value) => self.write_value(out, value),
        };
        let _ = write!(out, ",\"encoding\":\"{encoding}\"}}");
    }

    /// Writes a value as JSON, as text, or in base64; returns the encoding.
    fn write_value(&self, out: &mut Vec<u8>, value: &[u8]) -> &'static str {
        match (self.value_format, text_of(value)) {
            (DataFormat::Bytes, _) | (_, None) => {
                out.push(b'"');
                out.extend_from_slice(STANDARD.encode(value).as_bytes());
                out.push(b'"');
                "base64"
            }
            (DataFormat::Text, Some(text)) => {
                write_json(out, text);
                "text"
            }
            (_, Some(text)) => {
                if let Ok(json) = serde_json::from_str::<&RawValue>(text) {
                    out.extend_from_slice(json.get().as_bytes());
                    "json"
                } else {
                    write_json(out, text);
                    "text"
                }
            }
        }
    }
}

/// The magic byte in front of the id of a registered schema.
const MAGIC: u8 = 0;

/// Whether a value begins with the id of a registered schema. No JSON does.
fn has_schema_id(value: &[u8]) -> bool {
    matches!(value, [MAGIC, _, _, _, _, ..])
}

fn write_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Serializing strings and numbers into memory cannot fail.
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

/// A value as text, without the byte order mark that some programs write in front of UTF-8: JSON parsers
/// refuse it. `None` where the value is not UTF-8.
fn text_of(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    Some(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Writes a key, the same in every format: null, a string if the key is text, and otherwise `{"base64":"..."}`. Text is
/// UTF-8 without control characters (Unicode category Cc: C0, DEL and C1) other than tab, LF and CR, so a binary
/// integer like `00 00 00 00 00 00 00 11` is not text.
///
/// A key that is JSON is written as it is.
fn write_key(out: &mut Vec<u8>, key: Option<&[u8]>, form: KeyForm) {
    let Some(key) = key else {
        return out.extend_from_slice(b"null");
    };
    match form {
        KeyForm::Text => {}
        KeyForm::Bytes => return write_base64(out, key),
        KeyForm::Json => return out.extend_from_slice(key),
    }
    let is_binary = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    match std::str::from_utf8(key) {
        Ok(text) if !text.contains(is_binary) => write_json(out, text),
        _ => write_base64(out, key),
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    // Writing into memory cannot fail.
    let _ = write!(out, "{{\"base64\":\"{}\"}}", STANDARD.encode(bytes));
}

/// Writes `object` with a key, which `write_key` writes, under the name `field`; every other byte stays unchanged.
fn write_with_key(
    out: &mut Vec<u8>,
    object: &str,
    field: &str,
    write_key: impl Fn(&mut Vec<u8>),
) -> Result<(), Invalid> {
    let mut deserializer = serde_json::Deserializer::from_str(object);
    let members = deserializer
        .deserialize_map(FindMember { field, object })
        .and_then(|members| deserializer.end().map(|()| members))
        .map_err(|_| Invalid::ValueNotObject)?;
    let bytes = object.as_bytes();
    let mut copied = 0;
    for range in &members.found {
        out.extend_from_slice(&bytes[copied..range.start]);
        write_key(out);
        copied = range.end;
    }
    if members.found.is_empty() {
        // A valid object ends with its brace.
        let brace = object.trim_end().len() - 1;
        out.extend_from_slice(&bytes[..brace]);
        if !members.is_empty {
            out.push(b',');
        }
        write_json(out, field);
        out.push(b':');
        write_key(out);
        copied = brace;
    }
    out.extend_from_slice(&bytes[copied..]);
    Ok(())
}

/// Finds the values of the members named `field`, without building any value.
struct FindMember<'a> {
    field: &'a str,
    object: &'a str,
}

struct Members {
    is_empty: bool,
    /// Byte ranges of the values, in order. More than one if a name is repeated.
    found: Vec<std::ops::Range<usize>>,
}

impl<'de> Visitor<'de> for FindMember<'_> {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        // An empty `Vec` does not allocate, so the usual record costs none.
        let mut members = Members {
            is_empty: true,
            found: Vec::new(),
        };
        while let Some(is_field) = map.next_key_seed(MapName(|name: &str| name == self.field))? {
            members.is_empty = false;
            if is_field {
                let value: &'de RawValue = map.next_value()?;
                let start = value.get().as_ptr() as usize - self.object.as_ptr() as usize;
                members.found.push(start..start + value.get().len());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(members)
    }
}

/// Applies a function to a member's name, without copying the name.
pub(super) struct MapName<F>(pub(super) F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for MapName<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for MapName<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<T, E> {
        Ok(self.0(name))
    }
}

/// A header's value: a string, null, or `{"base64":"..."}` where it is not UTF-8.
fn write_header(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => out.extend_from_slice(b"null"),
        Some(Ok(text)) => write_json(out, text),
        Some(Err(bytes)) => write_base64(out, bytes),
    }
}

/// A header's name and all its values.
type Named<'a> = (&'a [u8], Vec<Option<&'a [u8]>>);

/// The members of the headers' object: each name once, a repeated one with an array of its values.
fn write_headers(out: &mut Vec<u8>, record: &Record<'_>) {
    // A map, because a record may have as many headers as fit into it.
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut named: Vec<Named<'_>> = Vec::new();
    for (name, value) in record.headers() {
        let place = *places.entry(name).or_insert(named.len());
        match named.get_mut(place) {
            Some((_, values)) => values.push(value),
            None => named.push((name, vec![value])),
        }
    }
    for (place, (name, values)) in named.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_json(out, &String::from_utf8_lossy(name));
        out.push(b':');
        if let [value] = values.as_slice() {
            write_header(out, *value);
            continue;
        }
        for (index, value) in values.iter().enumerate() {
            out.push(if index == 0 { b'[' } else { b',' });
            write_header(out, *value);
        }
        out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::record::Stamp;

    const VALUES: [&[u8]; 10] = [
        b"{\"a\": 1}",
        b"\xef\xbb\xbf{ }\n",
        b"{\n \"id\":\r\n 1\r}",
        b"text",
        b"[1]",
        b"\xff",
        b"7 8",
        b"{}x",
        b"",
        b"{\"a\":\"\x01\"}",
    ];

    /// Whether all that a stream of these settings shows of `VALUES` is JSON.
    fn shows_json_alone(settings: &StreamSettings) -> bool {
        let mut encoder = Encoder::new(settings);
        let stamp = Stamp {
            partition: 0,
            offset: 1,
            timestamp: None,
        };
        let records = [None, Some(&b"k\n"[..]), Some(b"\0\xff")]
            .into_iter()
            .flat_map(|key| VALUES.map(|value| (key, value)));
        let mut frames = records.filter_map(|(key, value)| {
            let mut record = Record::tombstone("t", stamp, key);
            record.value = Some(value);
            let mut frame = Vec::new();
            encoder.write_body(&record, &mut frame).ok().map(|()| frame)
        });
        frames.all(|frame| {
            let mut joined = Vec::new();
            serde_json::from_slice::<IgnoredAny>(write::payload(&frame, &mut joined)).is_ok()
        })
    }

    #[test]
    fn data_that_is_always_json_is_json() {
        for format in [Format::Envelope, Format::Value] {
            for key_field in [None, Some("id".to_owned())] {
                for value_format in [DataFormat::Json, DataFormat::Text, DataFormat::Bytes] {
                    let settings = StreamSettings {
                        format,
                        key_field: key_field.clone(),
                        value_format,
                        ..StreamSettings::default()
                    };
                    assert_eq!(
                        is_always_json(&settings),
                        shows_json_alone(&settings),
                        "{format:?}, {key_field:?}, {value_format:?}"
                    );
                }
            }
        }
    }
}
