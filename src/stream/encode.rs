//! Encodes records as frames.
//!
//! Runs once per record, whatever the number of clients. A record that cannot be shown as the
//! stream wants it is an [`Invalid`], which the caller counts and passes over.

use std::collections::HashMap;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::members::{self, Member};
use crate::config::{AddedField, DataFormat, Format, StreamSettings};
use crate::decode::has_schema_id;
pub use crate::kafka::invalid::Invalid;
use crate::kafka::record::{Guarantee, Record};
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
        Invalid::ValueHasSchemaId => {
            let is_parsed = settings.unwrap.is_some() || settings.leaves_out();
            value == DataFormat::Json && (settings.format == Format::Value || is_parsed)
        }
        Invalid::ValueWithoutSchemaId => has_schemas(value) || value == DataFormat::JsonSchema,
        Invalid::ValueSchemaUnknown | Invalid::ValueSchemaUnusable | Invalid::ValueTooLarge => {
            has_schemas(value)
        }
        // The same of a row that gets its metadata.
        Invalid::ValueNotJson => settings.leaves_out() || settings.metadata_field.is_some(),
        Invalid::ValueNotChange | Invalid::ValueWithoutRow | Invalid::ValueTruncatesTable => {
            settings.unwrap.is_some()
        }
        Invalid::ValueMalformed => !value.is_plain() && value != DataFormat::Json,
        Invalid::KeyWithoutSchemaId => has_schemas(key) || key == DataFormat::JsonSchema,
        Invalid::KeySchemaUnknown | Invalid::KeySchemaUnusable | Invalid::KeyTooLarge => has_schemas(key),
        Invalid::KeyMalformed => !key.is_plain(),
    }
}

/// Whether the data of every record of a stream of these settings is JSON: envelopes and decoded values are written as
/// JSON, and a value is parsed where something is put into it or left out.
pub(super) fn is_always_json(settings: &StreamSettings) -> bool {
    let is_parsed = AddedField::of(settings).next().is_some()
        || settings.metadata_field.is_some()
        || settings.leaves_out();
    // A document of MongoDB is a string in its change event.
    let is_whole = settings.unwrap.is_none();
    match (settings.format, settings.value_format) {
        (Format::Envelope, _) => true,
        (Format::Value, DataFormat::Bytes) => false,
        (
            Format::Value,
            DataFormat::Text | DataFormat::Json | DataFormat::JsonSchema | DataFormat::Registry,
        ) => is_parsed,
        (Format::Value, _) => is_parsed || is_whole,
    }
}

/// Encodes the records of a stream.
#[derive(Debug)]
pub struct Encoder {
    format: Format,
    key_form: KeyForm,
    value_format: DataFormat,
    /// The members that are added to values.
    added: Vec<Member<AddedField>>,
    /// The content of deletes.
    deletes: Vec<Member<AddedField>>,
    event: Option<String>,
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
            added: AddedField::of(settings)
                .map(|(field, name)| Member::new(field, name))
                .collect(),
            deletes: AddedField::of_deletes(settings)
                .map(|(field, name)| Member::new(field, name))
                .collect(),
            event: settings.event.clone(),
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
                for (index, member) in self.deletes.iter().enumerate() {
                    payload.push(if index == 0 { b'{' } else { b',' });
                    member.write_name(payload);
                    self.write_added(payload, member.what, record);
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
                // That a value is ASCII, as most are, is seen faster than that it is UTF-8.
                if self.added.is_empty() && (record.guarantee != Guarantee::Nothing || value.is_ascii()) {
                    return Ok(Some(value));
                }
                let write = |out: &mut Vec<u8>, field: &AddedField| self.write_added(out, *field, record);
                if record.guarantee == Guarantee::Object {
                    members::write_with_new(payload, value, &self.added, write);
                    return Ok(None);
                }
                let text = text_of(value).ok_or(Invalid::ValueNotUtf8)?;
                if self.added.is_empty() {
                    return Ok(Some(text.as_bytes()));
                }
                members::write_with(payload, text, &self.added, write)
                    .map_err(|_| Invalid::ValueNotObject)?;
            }
        }
        Ok(None)
    }

    fn write_added(&self, out: &mut Vec<u8>, field: AddedField, record: &Record<'_>) {
        match field {
            AddedField::Key => write_key(out, record.key, self.key_form),
            AddedField::Topic => write_json(out, record.topic),
            AddedField::Partition => write_json(out, &record.partition),
            AddedField::Offset => write_json(out, &record.offset),
            AddedField::Timestamp => write_json(out, &record.timestamp),
            AddedField::Headers => write_headers(out, record),
        }
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
        out.extend_from_slice(b",\"headers\":");
        write_headers(out, record);
        out.extend_from_slice(b",\"value\":");
        let encoding = match record.value {
            None => {
                out.extend_from_slice(b"null");
                "tombstone"
            }
            Some(value) if record.guarantee != Guarantee::Nothing => {
                out.extend_from_slice(value);
                "json"
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
    // Most keys, which JSON has as they are.
    if key
        .iter()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    {
        out.push(b'"');
        out.extend_from_slice(key);
        out.push(b'"');
        return;
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

/// The headers as an object: each name once, a repeated one with an array of its values.
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
    out.push(b'{');
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
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::de::IgnoredAny;

    use super::*;
    use crate::decode::{Decoder, Step};
    use crate::kafka::record::{Batch, Stamp};

    const VALUES: [&[u8]; 12] = [
        // A number of 2 bytes, and a UUID of 16.
        b"\x01\x02",
        b"0123456789abcdef",
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
        let mut batch = Batch::new("t".into());
        for key in [None, Some(&b"k\n"[..]), Some(b"\0\xff")] {
            for value in VALUES {
                let stamp = Stamp {
                    partition: 0,
                    offset: 1,
                    timestamp: None,
                };
                let framed = if settings.value_format == DataFormat::JsonSchema {
                    [b"\0\0\0\0\x07", value].concat()
                } else {
                    value.to_vec()
                };
                batch.push(stamp, key, Some(&framed), std::iter::empty());
            }
        }
        let Step::Done(decoded) = Decoder::new(settings).decode(&Arc::new(batch), || {}) else {
            panic!("no schema is needed");
        };
        let mut encoder = Encoder::new(settings);
        let mut frames = decoded.iter().filter_map(|record| {
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
            for (key_field, topic_field) in [(None, None), (Some("id"), None), (None, Some("topic"))] {
                for hide in [&[][..], &["ssn"]] {
                    for value_format in [
                        DataFormat::Json,
                        DataFormat::Text,
                        DataFormat::Bytes,
                        DataFormat::Int16,
                        DataFormat::Uuid,
                        DataFormat::JsonSchema,
                    ] {
                        // The configuration check refuses other combinations.
                        if !hide.is_empty() && !value_format.has_objects() {
                            continue;
                        }
                        let settings = StreamSettings {
                            format,
                            key_field: key_field.map(str::to_owned),
                            topic_field: topic_field.map(str::to_owned),
                            hide: hide.iter().map(|path| (*path).to_owned()).collect(),
                            value_format,
                            ..StreamSettings::default()
                        };
                        assert_eq!(
                            is_always_json(&settings),
                            shows_json_alone(&settings),
                            "{format:?}, {key_field:?}, {topic_field:?}, {hide:?}, {value_format:?}"
                        );
                    }
                }
            }
        }
    }
}
