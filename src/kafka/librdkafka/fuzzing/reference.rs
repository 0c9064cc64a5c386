//! The records in the bytes of a batch, by Kafka's documentation of format 2.

use crate::kafka::record::Record;

/// Bytes, or null.
type Text = Option<Vec<u8>>;

/// Names and values.
type Headers = Vec<(Vec<u8>, Text)>;

/// Key, value and headers.
struct Known {
    key: Text,
    value: Text,
    /// `None` where they are malformed.
    headers: Option<Headers>,
}

/// The records that may be met.
pub(super) struct Expected {
    left: std::vec::IntoIter<Known>,
    /// Whether others may follow.
    is_open: bool,
}

impl Expected {
    /// Any records.
    pub(super) fn any() -> Self {
        Self {
            left: Vec::new().into_iter(),
            is_open: true,
        }
    }

    /// All records, up to one that is malformed. librdkafka does not look at their count.
    pub(super) fn of(mut bytes: &[u8]) -> Self {
        let mut known = Vec::new();
        while !bytes.is_empty() {
            let Some(record) = record(&mut bytes) else {
                return Self {
                    left: known.into_iter(),
                    is_open: true,
                };
            };
            known.push(record);
        }
        Self {
            left: known.into_iter(),
            is_open: false,
        }
    }

    /// One of them was read. Those in between may have been passed over for their offsets.
    pub(super) fn meet(&mut self, record: &Record<'_>) {
        let is_it = |known: &Known| known.is(record);
        assert!(
            self.left.by_ref().any(|known| is_it(&known)) || self.is_open,
            "{record:?}"
        );
    }
}

impl Known {
    fn is(&self, record: &Record<'_>) -> bool {
        let has_headers = |known: &Headers| {
            let known = known
                .iter()
                .map(|(name, value)| (name.as_slice(), value.as_deref()));
            known.eq(record.headers())
        };
        (self.key.as_deref(), self.value.as_deref()) == (record.key, record.value)
            && self.headers.as_ref().is_none_or(has_headers)
    }
}

fn record(bytes: &mut &[u8]) -> Option<Known> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    let (mut body, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    // Attributes, time and offset.
    body = body.split_first()?.1;
    varint(&mut body)?;
    varint(&mut body)?;
    let key = text(&mut body)?;
    let value = text(&mut body)?;
    Some(Known {
        key,
        value,
        headers: headers(body),
    })
}

fn headers(mut body: &[u8]) -> Option<Headers> {
    let count = varint(&mut body)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = text(&mut body)??;
        headers.push((name, text(&mut body)?));
    }
    // librdkafka's names end at a NUL.
    let is_plain = headers.iter().all(|(name, _)| !name.contains(&0));
    (is_plain && count >= 0 && body.is_empty()).then_some(headers)
}

/// A length and as many bytes; −1 is null.
fn text(body: &mut &[u8]) -> Option<Text> {
    let length = varint(body)?;
    if length == -1 {
        return Some(None);
    }
    let (text, rest) = body.split_at_checked(usize::try_from(length).ok()?)?;
    *body = rest;
    Some(Some(text.to_vec()))
}

/// A signed number in zigzag, of at most five bytes.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_i64;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= i64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value >> 1 ^ -(value & 1));
        }
    }
    None
}
