//! Why a record cannot be shown.

use std::fmt;

/// Why a record cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// The value is not UTF-8, which SSE requires.
    ValueNotUtf8,
    /// The stream puts something into its values (`key_field` and the like), but the value is not a JSON object.
    ValueNotObject,
    /// The value begins with the magic byte of a registered schema, but the stream's values are JSON.
    ValueHasSchemaId,
    /// The value names no schema, but the stream's format needs one.
    ValueWithoutSchemaId,
    /// The registry does not know the schema of the value.
    ValueSchemaUnknown,
    /// The registry's schema of the value is not valid, or of another kind than the stream's format.
    ValueSchemaUnusable,
    /// The value is not of the stream's format, or does not match its schema.
    ValueMalformed,
    /// The value is nested too deeply, or too large as JSON.
    ValueTooLarge,
    /// The stream leaves out members of its values, but the value is not JSON.
    ValueNotJson,
    /// The stream unwraps change events, but the value is none.
    ValueNotChange,
    /// A change event does not have the row after the change.
    ValueWithoutRow,
    /// A change event says that the whole table of its source was emptied.
    ValueTruncatesTable,
    /// The key names no schema, but the stream's format needs one.
    KeyWithoutSchemaId,
    /// The registry does not know the schema of the key.
    KeySchemaUnknown,
    /// The registry's schema of the key is not valid, or of another kind than the stream's format.
    KeySchemaUnusable,
    /// The key is not of the stream's format, or does not match its schema.
    KeyMalformed,
    /// The key is nested too deeply, or too large as JSON.
    KeyTooLarge,
}

impl Invalid {
    /// All causes, in the order of [`Invalid::index`].
    pub const ALL: [Self; 17] = [
        Self::ValueNotUtf8,
        Self::ValueNotObject,
        Self::ValueHasSchemaId,
        Self::ValueWithoutSchemaId,
        Self::ValueSchemaUnknown,
        Self::ValueSchemaUnusable,
        Self::ValueMalformed,
        Self::ValueTooLarge,
        Self::ValueNotJson,
        Self::ValueNotChange,
        Self::ValueWithoutRow,
        Self::ValueTruncatesTable,
        Self::KeyWithoutSchemaId,
        Self::KeySchemaUnknown,
        Self::KeySchemaUnusable,
        Self::KeyMalformed,
        Self::KeyTooLarge,
    ];

    /// The cause as a label in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ValueNotUtf8 => "value-not-utf8",
            Self::ValueNotObject => "value-not-a-json-object",
            Self::ValueHasSchemaId => "value-has-schema-id",
            Self::ValueWithoutSchemaId => "value-without-schema-id",
            Self::ValueSchemaUnknown => "value-schema-unknown",
            Self::ValueSchemaUnusable => "value-schema-unusable",
            Self::ValueMalformed => "value-malformed",
            Self::ValueTooLarge => "value-too-large",
            Self::ValueNotJson => "value-not-json",
            Self::ValueNotChange => "value-not-a-change-event",
            Self::ValueWithoutRow => "value-without-row",
            Self::ValueTruncatesTable => "value-truncates-table",
            Self::KeyWithoutSchemaId => "key-without-schema-id",
            Self::KeySchemaUnknown => "key-schema-unknown",
            Self::KeySchemaUnusable => "key-schema-unusable",
            Self::KeyMalformed => "key-malformed",
            Self::KeyTooLarge => "key-too-large",
        }
    }

    /// Its place in [`Invalid::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The remedy, where that is always the same.
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::ValueHasSchemaId => Some("set value_format = \"registry\" for the stream"),
            _ => None,
        }
    }
}

/// A record whose key or value could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// The cause as it is counted.
    pub cause: Invalid,
    /// The fault, for the log.
    pub detail: String,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause.as_str(), self.detail)
    }
}
