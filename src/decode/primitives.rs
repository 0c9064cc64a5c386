//! Numbers as Kafka's serializers write them, big-endian, and UUIDs.

use std::fmt::Write;

use super::json::{Fault, Output};
use crate::config::DataFormat;

/// Writes a number or a UUID as JSON.
pub(super) fn write(format: DataFormat, bytes: &[u8], out: &mut Output<'_>) -> Result<(), Fault> {
    match format {
        DataFormat::Int16 => out.integer(i16::from_be_bytes(exactly(bytes, "not 2 bytes")?).into()),
        DataFormat::Int32 => out.integer(i32::from_be_bytes(exactly(bytes, "not 4 bytes")?).into()),
        DataFormat::Int64 => out.int64(i64::from_be_bytes(exactly(bytes, "not 8 bytes")?)),
        DataFormat::Float => out.float(f32::from_be_bytes(exactly(bytes, "not 4 bytes")?)),
        DataFormat::Double => out.double(f64::from_be_bytes(exactly(bytes, "not 8 bytes")?)),
        _ => out.string(&uuid(bytes)?),
    }
    Ok(())
}

fn exactly<const N: usize>(bytes: &[u8], otherwise: &'static str) -> Result<[u8; N], Fault> {
    bytes.try_into().map_err(|_| Fault::Malformed(otherwise))
}

/// The text of a UUID, in lower case: of 36 characters as `UUIDSerializer` writes it, or of 16 bytes.
pub(super) fn uuid(bytes: &[u8]) -> Result<String, Fault> {
    let is_hyphen = |index: usize| matches!(index, 8 | 13 | 18 | 23);
    if bytes.len() == 36 {
        let is_right = bytes.iter().enumerate().all(|(index, byte)| {
            if is_hyphen(index) {
                *byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        });
        if is_right {
            return Ok(bytes
                .iter()
                .map(|byte| char::from(byte.to_ascii_lowercase()))
                .collect());
        }
    }
    let bytes: [u8; 16] = exactly(bytes, "not a UUID of 36 characters or 16 bytes")?;
    Ok(hyphenated(bytes))
}

/// A UUID as text.
pub(super) fn hyphenated(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing into memory cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
