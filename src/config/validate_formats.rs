//! The rules of a stream's formats of keys and values.

use super::faults::Faults;
use super::formats::{AvroJson, DataFormat, Int64, Timestamps};
use super::stream::StreamSettings;

pub(super) fn validate(
    stream: &StreamSettings,
    key: &dyn Fn(&str) -> String,
    has_registry: bool,
    faults: &mut Faults,
) {
    let formats = [
        ("key_format", stream.key_format),
        ("value_format", stream.value_format),
    ];
    for (name, format) in formats {
        let is_missing = match format {
            DataFormat::Avro => !cfg!(feature = "avro"),
            DataFormat::Protobuf => !cfg!(feature = "protobuf"),
            _ => false,
        };
        if is_missing {
            let message = format!(
                "\"{format}\" is not in this build; build with the feature {format}, or take another format"
            );
            faults.add(key(name), message);
        } else if format.needs_registry() && !has_registry {
            let message = format!(
                "\"{format}\" needs schemas, and there is no registry; name its urls in [kafka.schema_registry]"
            );
            faults.add(key(name), message);
        }
    }
    let has = |wanted: fn(DataFormat) -> bool| wanted(stream.key_format) || wanted(stream.value_format);
    let has_avro = has(|format| matches!(format, DataFormat::Avro | DataFormat::Registry));
    let has_int64 = has_avro || has(|format| matches!(format, DataFormat::Int64 | DataFormat::Protobuf));
    let unused = [
        (
            "avro_json",
            stream.avro_json != AvroJson::default() && !has_avro,
            "\"avro\" or \"registry\"",
        ),
        (
            "timestamps",
            stream.timestamps != Timestamps::default() && !has_avro,
            "\"avro\" or \"registry\"",
        ),
        (
            "int64",
            stream.int64 != Int64::default() && !has_int64,
            "\"int64\", \"avro\", \"protobuf\" or \"registry\"",
        ),
    ];
    for (name, is_unused, wanted) in unused {
        if is_unused {
            let message = format!("has no effect: key_format or value_format would be {wanted}; remove it");
            faults.add(key(name), message);
        }
    }
}
