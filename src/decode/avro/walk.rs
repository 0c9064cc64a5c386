//! Walks over the bytes of a value and writes it as JSON.

use super::decimal;
use super::{Avro, Branch, Index, Node};
use crate::decode::json::{Fault, Options, Output};
use crate::decode::primitives;
use crate::decode::times::{self, Unit};

impl Avro {
    pub(in crate::decode) fn write(&self, payload: &[u8], out: &mut Output<'_>) -> Result<(), Fault> {
        let mut input = Input(payload);
        self.value(self.root, &mut input, out)?;
        out.check()?;
        if !input.0.is_empty() {
            return Err(Fault::Malformed("bytes follow the value"));
        }
        Ok(())
    }

    /// Whether every value is an object, none of whose members has one of these names.
    pub(in crate::decode) fn is_object_without(&self, names: &[Box<[u8]>], options: Options) -> bool {
        let lacks = |name: &[u8]| names.iter().all(|other| **other != *name);
        let is_object = |node: Index| match &self.nodes[node] {
            Node::Record(fields) => fields
                .iter()
                .all(|field| lacks(field.name.strip_prefix(b",").unwrap_or(&field.name))),
            _ => false,
        };
        match &self.nodes[self.root] {
            Node::Union(branches) if options.tags_unions => branches
                .iter()
                .all(|branch| !branch.is_null && lacks(&branch.name)),
            Node::Union(branches) => branches.iter().all(|branch| is_object(branch.node)),
            _ => is_object(self.root),
        }
    }

    fn value(&self, node: Index, input: &mut Input<'_>, out: &mut Output<'_>) -> Result<(), Fault> {
        match &self.nodes[node] {
            Node::Null => out.raw(b"null"),
            Node::Boolean => match input.take(1)? {
                [0] => out.boolean(false),
                [1] => out.boolean(true),
                _ => return Err(Fault::Malformed("a boolean is neither 0 nor 1")),
            },
            Node::Int => out.integer(input.int()?.into()),
            Node::Long => out.int64(input.long()?),
            Node::Float => out.float(f32::from_le_bytes(input.array()?)),
            Node::Double => out.double(f64::from_le_bytes(input.array()?)),
            Node::Bytes => out.base64(input.bytes()?)?,
            Node::String => out.text(input.bytes()?)?,
            Node::Fixed(size) => out.base64(input.take(*size)?)?,
            Node::Enum(symbols) => {
                let symbol = usize::try_from(input.int()?)
                    .ok()
                    .and_then(|symbol| symbols.get(symbol));
                out.raw(symbol.ok_or(Fault::Malformed("an enum has no such symbol"))?);
            }
            Node::Record(fields) => {
                out.open(b'{')?;
                for field in fields {
                    out.raw(&field.name);
                    self.value(field.node, input, out)?;
                }
                out.close(b'}');
            }
            Node::Union(branches) => {
                let branch = usize::try_from(input.long()?)
                    .ok()
                    .and_then(|branch| branches.get(branch));
                let branch = branch.ok_or(Fault::Malformed("a union has no such branch"))?;
                self.branch(branch, input, out)?;
            }
            Node::Array(items) => {
                out.open(b'[')?;
                self.blocks(input, out, |input, out| self.value(*items, input, out))?;
                out.close(b']');
            }
            Node::Map(values) => {
                out.open(b'{')?;
                self.blocks(input, out, |input, out| {
                    out.text(input.bytes()?)?;
                    out.byte(b':');
                    self.value(*values, input, out)
                })?;
                out.close(b'}');
            }
            logical => return write_logical(logical, input, out),
        }
        Ok(())
    }

    fn branch(&self, branch: &Branch, input: &mut Input<'_>, out: &mut Output<'_>) -> Result<(), Fault> {
        if branch.is_null || !out.options.tags_unions {
            return self.value(branch.node, input, out);
        }
        out.open(b'{')?;
        out.raw(&branch.name);
        self.value(branch.node, input, out)?;
        out.close(b'}');
        Ok(())
    }

    /// Writes the items of an array or a map: blocks with their counts, up to an empty one. An item may take no byte, so
    /// a count says nothing of what follows.
    #[expect(clippy::unused_self, reason = "it is a part of the walk")]
    fn blocks(
        &self,
        input: &mut Input<'_>,
        out: &mut Output<'_>,
        mut item: impl FnMut(&mut Input<'_>, &mut Output<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut is_first = true;
        loop {
            let mut count = input.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The size of the block in bytes follows, for readers that skip it.
                input.long()?;
                count = count
                    .checked_neg()
                    .ok_or(Fault::Malformed("a block has no such count"))?;
            }
            for _ in 0..count {
                if !is_first {
                    out.byte(b',');
                }
                is_first = false;
                item(input, out)?;
                out.check()?;
            }
        }
    }
}

fn write_logical(node: &Node, input: &mut Input<'_>, out: &mut Output<'_>) -> Result<(), Fault> {
    match node {
        Node::Decimal(scale, None) => decimal::write(input.bytes()?, i64::from(*scale), out)?,
        Node::Decimal(scale, Some(size)) => decimal::write(input.take(*size)?, i64::from(*scale), out)?,
        Node::BigDecimal => {
            let mut inner = Input(input.bytes()?);
            let unscaled = inner.bytes()?;
            decimal::write(unscaled, inner.long()?, out)?;
        }
        Node::UuidText => out.text(input.bytes()?)?,
        Node::UuidBytes(size) => {
            let bytes = match size {
                Some(size) => input.take(*size)?,
                None => input.bytes()?,
            };
            out.string(&primitives::uuid(bytes)?);
        }
        Node::Date => times::date(input.int()?, out),
        Node::TimeMillis => times::time(input.int()?.into(), Unit::Millis, out),
        Node::TimeMicros => times::time(input.long()?, Unit::Micros, out),
        Node::Timestamp(unit, is_local) => times::timestamp(input.long()?, *unit, *is_local, out),
        _ => {
            let [months, days, millis] =
                [input.array()?, input.array()?, input.array()?].map(u32::from_le_bytes);
            times::duration(months, days, millis, out);
        }
    }
    Ok(())
}

/// The bytes that are left.
struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    fn take(&mut self, count: usize) -> Result<&'i [u8], Fault> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(Fault::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Fault::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A variable-length zig-zag number.
    fn long(&mut self) -> Result<i64, Fault> {
        // Most lengths and indexes.
        if let [byte @ ..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
        }
        let mut value = 0_u64;
        for (index, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if index == 9 && *byte > 1 {
                    break;
                }
                self.0 = &self.0[index + 1..];
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Fault::Malformed(if self.0.len() < 10 {
            "it ends too early"
        } else {
            "a number has more than 64 bits"
        }))
    }

    fn int(&mut self) -> Result<i32, Fault> {
        i32::try_from(self.long()?).map_err(|_| Fault::Malformed("an int has more than 32 bits"))
    }

    /// Bytes behind their length.
    fn bytes(&mut self) -> Result<&'i [u8], Fault> {
        let length = usize::try_from(self.long()?).map_err(|_| Fault::Malformed("a length is negative"))?;
        self.take(length)
    }
}
