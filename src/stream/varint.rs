//! Unsigned LEB128: seven bits per byte, the lowest first, and the high bit of each byte but the last.

/// The number of bytes that a number takes.
pub(super) fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

pub(super) fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Takes a number from the beginning of `rest`; `None` where that ends too early, or has one of more than 64 bits.
pub(super) fn read(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{len, read, write};

    #[test]
    fn a_number_reads_back_as_written_in_as_many_bytes_as_foreseen() {
        let edges = (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit]);
        for value in edges.chain([u64::MAX]) {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            assert_eq!(bytes.len(), len(value), "{value}");
            bytes.push(7);
            let mut rest = &bytes[..];
            assert_eq!((read(&mut rest), rest), (Some(value), &[7][..]), "{value}");
            let mut cut = &bytes[..bytes.len() - 2];
            assert_eq!(read(&mut cut), None, "{value}");
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        for last in [2, 0x7f, 0x81] {
            let bytes = [[0xff; 9].as_slice(), &[last, 0]].concat();
            assert_eq!(read(&mut &bytes[..]), None, "{last}");
        }
    }
}
