//! How large a table may become, and which of these bounds it has reached.

use crate::config::{StreamSettings, WhenFull};

/// The part of a table's bytes that is for keys without a row: some 600,000 of them in 256 MiB.
const PART_FOR_DEPARTED: usize = 8;

/// How large a table may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most keys, markers included.
    pub keys: usize,
    /// Most bytes of rows in total.
    pub bytes: usize,
    /// Most bytes of data on keys without a row.
    pub departed_bytes: usize,
    /// Most bytes of data on keys that the stream's own filter hides.
    pub hidden_bytes: usize,
    /// The policy of a full table.
    pub when_full: WhenFull,
    /// How long, in seconds, deletes are remembered.
    pub delete_retention: u64,
}

impl From<&StreamSettings> for Bounds {
    fn from(settings: &StreamSettings) -> Self {
        let bytes = settings.max_table_bytes.as_len();
        let without_rows = bytes / PART_FOR_DEPARTED;
        let hidden_bytes = if settings.has_fixed_filter() {
            without_rows / 2
        } else {
            0
        };
        Self {
            keys: usize::try_from(settings.max_keys).unwrap_or(usize::MAX),
            bytes: bytes - without_rows,
            departed_bytes: without_rows - hidden_bytes,
            hidden_bytes,
            when_full: settings.when_full,
            delete_retention: settings.delete_retention.0.as_secs(),
        }
    }
}

/// Which bounds of a table are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::stream) struct Reached {
    pub(super) keys: bool,
    pub(super) bytes: bool,
}

impl Reached {
    /// By their keys in the configuration; `None` if there is room.
    pub(in crate::stream) fn name(self) -> Option<&'static str> {
        match (self.keys, self.bytes) {
            (true, true) => Some("max_keys and max_table_bytes"),
            (true, false) => Some("max_keys"),
            (false, true) => Some("max_table_bytes"),
            (false, false) => None,
        }
    }

    pub(in crate::stream) fn bits(self) -> u8 {
        u8::from(self.keys) | u8::from(self.bytes) << 1
    }

    pub(in crate::stream) fn from_bits(bits: u8) -> Self {
        Self {
            keys: bits & 1 != 0,
            bytes: bits & 2 != 0,
        }
    }
}
