//! Decimals as strings of digits.

use num_bigint::BigInt;

use super::compile::MAX_SCALE;
use crate::decode::json::{Fault, Output};

/// Most bytes of a decimal: about 10,000 digits. Conversion takes the square of that.
const MAX_BYTES: usize = 4096;

/// Writes `unscaled`, two's complement and big-endian, times 10 to the power of -`scale`.
pub(super) fn write(unscaled: &[u8], scale: i64, out: &mut Output<'_>) -> Result<(), Fault> {
    let places = usize::try_from(scale.unsigned_abs()).ok();
    let places = places
        .filter(|places| *places <= MAX_SCALE)
        .ok_or(Fault::TooLarge)?;
    let digits = digits(unscaled)?;
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", &*digits), |digits| ("-", digits));
    out.byte(b'"');
    out.raw(sign.as_bytes());
    if scale <= 0 {
        out.raw(digits.as_bytes());
        if digits != "0" {
            out.raw(&vec![b'0'; places]);
        }
    } else {
        let point = digits.len().saturating_sub(places);
        out.raw(if point == 0 {
            b"0"
        } else {
            &digits.as_bytes()[..point]
        });
        out.byte(b'.');
        out.raw(&vec![b'0'; places - (digits.len() - point)]);
        out.raw(&digits.as_bytes()[point..]);
    }
    out.byte(b'"');
    Ok(())
}

fn digits(unscaled: &[u8]) -> Result<String, Fault> {
    // Nearly all decimals.
    if unscaled.len() <= size_of::<i128>() {
        let is_negative = unscaled.first().is_some_and(|first| first & 0x80 != 0);
        let mut bytes = [if is_negative { 0xff } else { 0 }; size_of::<i128>()];
        bytes[size_of::<i128>() - unscaled.len()..].copy_from_slice(unscaled);
        return Ok(i128::from_be_bytes(bytes).to_string());
    }
    if unscaled.len() > MAX_BYTES {
        return Err(Fault::TooLarge);
    }
    Ok(BigInt::from_signed_bytes_be(unscaled).to_string())
}
