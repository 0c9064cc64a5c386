//! What stands for a topic's name in event ids.

/// The fingerprint of a topic's name: its CRC-32 (IEEE 802.3), which every language has at hand. Within a
/// stream no two topics may have the same, which [`validate`](super::validate) sees to.
#[must_use]
pub fn fingerprint(name: &str) -> u32 {
    crc32fast::hash(name.as_bytes())
}
