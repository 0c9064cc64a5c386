//! A row of the table: the newest record of a key, in one allocation.
//!
//! Fixed fields, key, frame and headers are packed into one boxed slice, because rows are the most numerous objects of
//! a process whose table has small records: each further allocation costs a header, a pointer and a rounding per key.

use super::encode::Invalid;
use super::filter::Candidate;

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// Index of the topic in the stream's configuration.
    pub topic: u16,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since the epoch, where known.
    pub timestamp: Option<i64>,
}

impl Origin {
    /// Whether this record is the newer of two of the same key, the same on every replica: within a
    /// partition by offset, between partitions by time, then by partition.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        if self.partition == other.partition {
            return self.offset > other.offset;
        }
        // Without timestamps, which the `kafka` crate does not provide, the later arrival.
        if self.timestamp.is_none() && other.timestamp.is_none() {
            return true;
        }
        (self.timestamp, self.partition, self.offset) > (other.timestamp, other.partition, other.offset)
    }

    /// Whether this record replaces its key's latest.
    pub(super) fn supersedes(&mut self, latest: &Self) -> bool {
        let is_newer = self.is_newer_than(latest);
        // Timestamps may go back within a partition. The partition's latest one is compared with others, or the outcome
        // would depend on the order in which a replica reads the partitions.
        if is_newer && self.partition == latest.partition {
            self.timestamp = self.timestamp.max(latest.timestamp);
        }
        is_newer
    }
}

/// A record as the new latest of its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Update<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Where the record came from.
    pub origin: Origin,
    /// When a tombstone was made (unix seconds).
    pub deleted: Option<u64>,
    /// Why the record cannot be shown, if so; `deleted` is `None` then. It deletes its key's earlier record, and stays
    /// for as long as it is its key's latest, while a tombstone is forgotten.
    pub unusable: Option<Invalid>,
    /// The record's frame without its id line.
    pub frame: &'a [u8],
    /// Its headers, packed, where filters may ask for them.
    pub headers: &'a [u8],
}

/// Bytes of the structures that hold a row: its slot in the order (24, and a share of the gaps that updates of other
/// keys leave), and its share of the index (13 bytes per bucket, of which between seven sixteenths and seven eighths are
/// in use).
const SLOT: usize = 48;

/// Bytes of a marker in the set by which deletes expire, with its share of half-filled tree nodes.
const MARKER: usize = 32;

/// Step between jemalloc's allocation sizes up to 128 bytes.
const SMALLEST_STEP: usize = 16;

/// Number of jemalloc's allocation sizes per power of two above that, times two.
const STEPS: usize = 8;

/// The latest record of a key.
///
/// | bytes | content, little endian |
/// | --- | --- |
/// | 8 | [`key_hash`](super::filter::key_hash) of the key |
/// | 8 | offset |
/// | 8 | timestamp, 0 where there is none |
/// | 4 | partition |
/// | 4 | length of the key |
/// | 4 | length of the headers |
/// | 2 | topic |
/// | 1 | flags: [`HAS_TIMESTAMP`], [`IS_TOMBSTONE`], [`IS_UNUSABLE`]; above them the index of the cause |
/// | 8, of a tombstone only | when it was made, unix seconds |
/// | the rest | key, headers, frame |
#[derive(Debug, Clone)]
pub(super) struct Row(Box<[u8]>);

const HASH: usize = 0;
const OFFSET: usize = 8;
const TIMESTAMP: usize = 16;
const PARTITION: usize = 24;
const KEY_LENGTH: usize = 28;
const HEADERS_LENGTH: usize = 32;
const TOPIC: usize = 36;
const FLAGS: usize = 38;
const FIXED: usize = 39;
const DELETED: usize = 8;

const HAS_TIMESTAMP: u8 = 1;
const IS_TOMBSTONE: u8 = 2;
const IS_UNUSABLE: u8 = 4;
const CAUSE_SHIFT: u32 = 3;

impl Row {
    /// A row of a record whose key has this hash.
    pub(super) fn new(update: &Update<'_>, hash: u64) -> Self {
        let Update {
            key,
            origin,
            deleted,
            unusable,
            frame,
            headers,
        } = *update;
        let length = packed_length(update);
        // Exact, so that the vector becomes a boxed slice without another allocation.
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&hash.to_le_bytes());
        bytes.extend_from_slice(&origin.offset.to_le_bytes());
        bytes.extend_from_slice(&origin.timestamp.unwrap_or_default().to_le_bytes());
        bytes.extend_from_slice(&origin.partition.to_le_bytes());
        bytes.extend_from_slice(&to_u32(key.len()).to_le_bytes());
        bytes.extend_from_slice(&to_u32(headers.len()).to_le_bytes());
        bytes.extend_from_slice(&origin.topic.to_le_bytes());
        let has_timestamp = u8::from(origin.timestamp.is_some()) * HAS_TIMESTAMP;
        let unusable = unusable.map_or(0, |cause| IS_UNUSABLE | (cause as u8) << CAUSE_SHIFT);
        let is_tombstone = u8::from(deleted.is_some()) * IS_TOMBSTONE;
        bytes.push(has_timestamp | is_tombstone | unusable);
        if let Some(deleted) = deleted {
            bytes.extend_from_slice(&deleted.to_le_bytes());
        }
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(frame);
        debug_assert_eq!(bytes.len(), length);
        Self(bytes.into_boxed_slice())
    }

    /// Says which record it shows, by its place in Kafka; 0 for a delete, which is shown nowhere.
    pub(super) fn fingerprint(&self) -> u64 {
        if self.candidate().is_tombstone {
            return 0;
        }
        let origin = self.origin();
        let place = u64::from(origin.topic) << 32 | u64::from(origin.partition);
        mix(mix(place) ^ origin.offset.cast_unsigned())
    }

    /// A stand-in for the row of an evicted key. Only the record's origin is known, so filters treat it as a delete and
    /// do not conclude that the record did not pass.
    pub(super) fn stand_in(origin: Origin, hash: u64) -> Self {
        let update = Update {
            key: &[],
            origin,
            deleted: Some(0),
            unusable: None,
            frame: &[],
            headers: &[],
        };
        Self::new(&update, hash)
    }

    /// Whether it is a [stand-in](Self::stand_in) for the row of an evicted key.
    pub(super) fn is_stand_in(&self) -> bool {
        self.is_tombstone() && self.frame().is_empty()
    }

    /// Bytes of memory of the row of an update in total.
    pub(super) fn cost_of(update: &Update<'_>) -> usize {
        cost(packed_length(update), update.deleted.is_some())
    }

    /// Bytes of memory in total.
    pub(super) fn cost(&self) -> usize {
        cost(self.0.len(), self.is_tombstone())
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.0[at..at + N]);
        field
    }

    fn length(&self, at: usize) -> usize {
        u32::from_le_bytes(self.field(at)) as usize
    }

    /// [`key_hash`](super::filter::key_hash) of the key.
    pub(super) fn hash(&self) -> u64 {
        u64::from_le_bytes(self.field(HASH))
    }

    /// Where the record came from.
    pub(super) fn origin(&self) -> Origin {
        let has_timestamp = self.0[FLAGS] & HAS_TIMESTAMP != 0;
        Origin {
            topic: u16::from_le_bytes(self.field(TOPIC)),
            partition: u32::from_le_bytes(self.field(PARTITION)),
            offset: i64::from_le_bytes(self.field(OFFSET)),
            timestamp: has_timestamp.then(|| i64::from_le_bytes(self.field(TIMESTAMP))),
        }
    }

    fn is_tombstone(&self) -> bool {
        self.0[FLAGS] & IS_TOMBSTONE != 0
    }

    /// When the tombstone was made (unix seconds), if it is a tombstone's marker.
    pub(super) fn deleted(&self) -> Option<u64> {
        self.is_tombstone().then(|| u64::from_le_bytes(self.field(FIXED)))
    }

    /// Why the record cannot be shown, if so: then the frame is a delete.
    pub(super) fn unusable(&self) -> Option<Invalid> {
        let flags = self.0[FLAGS];
        let cause = Invalid::ALL.get(usize::from(flags >> CAUSE_SHIFT))?;
        (flags & IS_UNUSABLE != 0).then_some(*cause)
    }

    fn key_start(&self) -> usize {
        FIXED + if self.is_tombstone() { DELETED } else { 0 }
    }

    fn headers_start(&self) -> usize {
        self.key_start() + self.length(KEY_LENGTH)
    }

    /// The key.
    pub(super) fn key(&self) -> &[u8] {
        &self.0[self.key_start()..self.headers_start()]
    }

    fn headers(&self) -> &[u8] {
        let start = self.headers_start();
        &self.0[start..start + self.length(HEADERS_LENGTH)]
    }

    /// The frame without its id line, as readers see it.
    pub(super) fn frame(&self) -> &[u8] {
        &self.0[self.headers_start() + self.length(HEADERS_LENGTH)..]
    }

    /// The row as filters see it.
    pub(super) fn candidate(&self) -> Candidate<'_> {
        let origin = self.origin();
        Candidate {
            topic: origin.topic,
            partition: origin.partition,
            key: self.hash(),
            is_tombstone: self.0[FLAGS] & (IS_TOMBSTONE | IS_UNUSABLE) != 0,
            headers: self.headers(),
            frame: self.frame(),
        }
    }
}

fn packed_length(update: &Update<'_>) -> usize {
    let fixed = FIXED + if update.deleted.is_some() { DELETED } else { 0 };
    fixed + update.key.len() + update.headers.len() + update.frame.len()
}

fn cost(packed: usize, is_tombstone: bool) -> usize {
    allocated(packed) + SLOT + if is_tombstone { MARKER } else { 0 }
}

/// Bytes that jemalloc allocates: the next of its sizes.
fn allocated(bytes: usize) -> usize {
    bytes.next_multiple_of((bytes.next_power_of_two() / STEPS).max(SMALLEST_STEP))
}

/// A length in a row. Kafka's largest record is below 2 GiB.
fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
/// Spreads close numbers over all 64 bits, so that their sum says which they are (SplitMix64).
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
