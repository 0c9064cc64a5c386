//! The encoding of a message: keys, numbers and lengths.

use super::Wire;
use crate::decode::json::{Fault, MAX_DEPTH};

/// The lower half, as every parser of Protobuf reads numbers of 32 bits.
pub(super) const fn to_u32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

pub(super) const fn to_i32(value: u64) -> i32 {
    to_u32(value).cast_signed()
}

pub(super) fn chunk<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (taken, rest) = input
        .split_first_chunk()
        .ok_or(Fault::Malformed("it ends too early"))?;
    *input = rest;
    Ok(*taken)
}

pub(super) fn varint(input: &mut &[u8]) -> Result<u64, Fault> {
    // Most keys and lengths.
    if let [byte @ ..0x80, rest @ ..] = *input {
        *input = rest;
        return Ok((*byte).into());
    }
    let mut value = 0_u64;
    for (index, byte) in input.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *input = &input[index + 1..];
            return Ok(value);
        }
    }
    Err(Fault::Malformed(if input.len() < 10 {
        "it ends too early"
    } else {
        "a number has more than 64 bits"
    }))
}

/// Number, encoding, and number or range of a field.
pub(super) type Read = (u32, Wire, u64, Option<usize>);

/// The fields of a message.
pub(super) struct Fields<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Fields<'b> {
    pub(super) const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads the next field.
    pub(super) fn next(&mut self) -> Result<Option<Read>, Fault> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let (number, wire) = self.key()?;
        let field = match wire {
            0 => (number, Wire::Varint, self.varint()?, None),
            1 => (number, Wire::Eight, u64::from_le_bytes(self.array()?), None),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let start = self.at;
                self.skip(length)?;
                (number, Wire::Length, start as u64, Some(self.at))
            }
            3 => {
                let start = self.at;
                let end = self.skip_group(number)?;
                (number, Wire::Group, start as u64, Some(end))
            }
            5 => (number, Wire::Four, u32::from_le_bytes(self.array()?).into(), None),
            _ => return Err(Fault::Malformed("a field has no valid type")),
        };
        Ok(Some(field))
    }

    fn key(&mut self) -> Result<(u32, u8), Fault> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or(Fault::Malformed("a field has no valid number"))?;
        Ok((number, key.to_le_bytes()[0] & 7))
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut rest = &self.bytes[self.at..];
        let value = varint(&mut rest)?;
        self.at = self.bytes.len() - rest.len();
        Ok(value)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut rest = &self.bytes[self.at..];
        let taken = chunk(&mut rest)?;
        self.at += N;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), Fault> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        self.at = end.ok_or(Fault::Malformed("it ends too early"))?;
        Ok(())
    }

    /// Passes over a group and returns where its fields end.
    fn skip_group(&mut self, number: u32) -> Result<usize, Fault> {
        let mut open = vec![number];
        loop {
            let end = self.at;
            let (number, wire) = self.key()?;
            match wire {
                0 => {
                    self.varint()?;
                }
                1 => self.skip(8)?,
                2 => {
                    let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                    self.skip(length)?;
                }
                3 => {
                    open.push(number);
                    if open.len() > MAX_DEPTH {
                        return Err(Fault::TooDeep);
                    }
                }
                4 if open.pop() == Some(number) => {
                    if open.is_empty() {
                        return Ok(end);
                    }
                }
                5 => self.skip(4)?,
                _ => return Err(Fault::Malformed("a field has no valid type")),
            }
        }
    }
}
