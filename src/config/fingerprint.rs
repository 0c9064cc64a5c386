//! Fingerprints of topic names, for event ids.

/// The fingerprint of a topic's name: its CRC-32 (IEEE 802.3), which every language provides. Within a stream all
/// fingerprints differ; [`validate`](super::validate) checks that.
pub fn fingerprint(name: &str) -> u32 {
    crc32fast::hash(name.as_bytes())
}
