//! Formats of keys and values in Kafka, and how decoded values are shown.

use super::words::words;

words! {
    /// The format of the bytes of a key or a value.
    DataFormat {
        /// UTF-8.
        #[default]
        Text = "text",
        /// JSON.
        Json = "json",
        /// Any bytes, shown in base64.
        Bytes = "bytes",
        /// A number of 2 bytes, as of Kafka's `ShortSerializer`.
        Int16 = "int16",
        /// A number of 4 bytes, as of `IntegerSerializer`.
        Int32 = "int32",
        /// A number of 8 bytes, as of `LongSerializer`.
        Int64 = "int64",
        /// A number of 4 bytes, as of `FloatSerializer`.
        Float = "float",
        /// A number of 8 bytes, as of `DoubleSerializer`.
        Double = "double",
        /// A UUID: 36 characters, as of `UUIDSerializer`, or 16 bytes.
        Uuid = "uuid",
        /// Avro behind the id of a registered schema.
        Avro = "avro",
        /// Protobuf behind the id of a registered schema.
        Protobuf = "protobuf",
        /// JSON behind the id of a registered schema.
        JsonSchema = "json-schema",
        /// The format of the registered schema, whose id precedes the value.
        Registry = "registry",
    }
}

impl DataFormat {
    /// Whether a schema registry is asked for schemas.
    pub(crate) const fn needs_registry(self) -> bool {
        matches!(self, Self::Avro | Self::Protobuf | Self::Registry)
    }

    /// Whether the id of a registered schema is in front of the payload, or in a header.
    pub(crate) const fn is_framed(self) -> bool {
        self.needs_registry() || matches!(self, Self::JsonSchema)
    }

    /// Whether a value may be a JSON object.
    pub(crate) const fn has_objects(self) -> bool {
        self.is_framed() || matches!(self, Self::Json)
    }

    /// Whether the bytes are handed on to clients without decoding them first.
    pub(crate) const fn is_plain(self) -> bool {
        matches!(self, Self::Text | Self::Bytes)
    }
}

words! {
    /// The envelope of values.
    Unwrap {
        /// A change event of Debezium.
        #[default]
        Debezium = "debezium",
    }
}

words! {
    /// How a value of an Avro union is shown.
    AvroJson {
        /// As the value alone.
        #[default]
        Plain = "plain",
        /// As the Avro specification encodes it in JSON: an object with the name of its type, other than null.
        Tagged = "tagged",
    }
}

words! {
    /// How an integer of 64 bits is shown.
    Int64 {
        /// As a number, of which browsers keep 53 bits.
        #[default]
        Number = "number",
        /// As a string.
        String = "string",
    }
}

words! {
    /// How Avro's dates and times are shown.
    Timestamps {
        /// As strings of RFC 3339.
        #[default]
        Rfc3339 = "rfc3339",
        /// As numbers in the unit of the schema.
        Number = "number",
    }
}
