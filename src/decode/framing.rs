//! How a record names the schema of its key or value: in front of the payload, or in a header.
//!
//! Confluent's wire format: the magic byte 0 and a number of four bytes, big-endian, or the magic byte 1 and a UUID of 16
//! bytes. For Protobuf the indexes of the message follow. Newer serializers write the same bytes into a header, and the
//! payload alone into the value (`header_schema_id_serializer` of confluent-kafka for Python, `HeaderSchemaIdSerializer`
//! in Java, which write the UUID).

use super::registered::SchemaId;
use crate::kafka::record::Record;

/// A part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

impl Part {
    /// The header that names the part's schema.
    const fn header(self) -> &'static [u8] {
        match self {
            Self::Key => b"__key_schema_id",
            Self::Value => b"__value_schema_id",
        }
    }
}

/// A part of a record, with the schema that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Framed<'a> {
    pub(super) schema: SchemaId,
    /// The bytes behind the id in the header, where the header has it.
    pub(super) header: Option<&'a [u8]>,
    pub(super) payload: &'a [u8],
}

/// Finds the schema of a part; `None` where it names none.
pub(super) fn locate<'a>(record: &Record<'a>, part: Part, bytes: &'a [u8]) -> Option<Framed<'a>> {
    let of_part = |(name, value): (&'a [u8], Option<&'a [u8]>)| value.filter(|_| name == part.header());
    // The last one counts, as in Kafka's `Headers.lastHeader`.
    if let Some(header) = record.headers().filter_map(of_part).last() {
        let (schema, rest) = id(header)?;
        return Some(Framed {
            schema,
            header: Some(rest),
            payload: bytes,
        });
    }
    let (schema, payload) = id(bytes)?;
    Some(Framed {
        schema,
        header: None,
        payload,
    })
}

/// Whether a value begins with the id of a registered schema. No JSON does.
pub(crate) fn has_schema_id(value: &[u8]) -> bool {
    matches!(value, [0, _, _, _, _, ..])
}

fn id(bytes: &[u8]) -> Option<(SchemaId, &[u8])> {
    let (magic, rest) = bytes.split_first()?;
    match magic {
        0 => {
            let (id, rest) = rest.split_first_chunk::<4>()?;
            Some((SchemaId::Number(u32::from_be_bytes(*id)), rest))
        }
        1 => {
            let (guid, rest) = rest.split_first_chunk::<16>()?;
            Some((SchemaId::Guid(*guid), rest))
        }
        _ => None,
    }
}
