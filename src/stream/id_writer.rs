//! Writes the ids of successive records.
//!
//! A record moves one partition, while an id has all of them. So the id before is kept, and only the characters of the
//! partition are written again: more partitions cost only the copying of a longer id.

use super::position::{Position, encode_part, encoded_len};

/// Bytes that make whole characters: three make four.
const GROUP: usize = 3;

/// Most partitions that are rewritten one by one.
const MOST_MOVED: usize = 16;

/// The id that was written last.
#[derive(Debug, Default)]
pub struct IdWriter {
    /// Its bytes; empty if anything may have changed since.
    bytes: Vec<u8>,
    /// Its characters.
    text: Vec<u8>,
    /// Where each partition begins and ends in `bytes`, topic after topic.
    places: Vec<(usize, usize)>,
    /// Per topic the index of its first partition in `places`; at the end the number of all.
    first: Vec<usize>,
    /// Whether `bytes` has the form for partitions that need more than their next offsets.
    is_marked: bool,
    /// The topics and partitions that have moved since.
    moved: Vec<(usize, usize)>,
    /// The bytes of a partition, to be compared.
    next: Vec<u8>,
}

impl IdWriter {
    /// Forgets the id before: anything of the position may have changed.
    pub(crate) fn start_over(&mut self) {
        self.bytes.clear();
        self.moved.clear();
    }

    /// Notes that a partition of the position has moved, or is about to.
    pub fn note(&mut self, topic: usize, partition: u32) {
        let partition = (topic, partition as usize);
        if self.moved.last() == Some(&partition) {
            return;
        }
        // Records that are not shown move partitions too, and no id is written.
        if self.moved.len() >= MOST_MOVED {
            self.start_over();
        }
        self.moved.push(partition);
    }

    /// Appends the position as an event id. Since the last call only partitions have changed that were
    /// [noted](Self::note), and perhaps the number of their topic's. Allocates only where the buffers grow.
    pub fn write(&mut self, position: &Position, out: &mut Vec<u8>) {
        if !self.patch(position) {
            self.rebuild(position);
        }
        self.moved.clear();
        out.extend_from_slice(&self.text);
        debug_assert_eq!(self.text, position.id(), "another partition has moved");
    }

    /// Writes what has moved over what was there; not if that needs another number of bytes, or the other form.
    fn patch(&mut self, position: &Position) -> bool {
        if self.bytes.is_empty() {
            return false;
        }
        for &(index, partition) in &self.moved {
            let Some(topic) = position.topics.get(index) else {
                return false;
            };
            let &[first, behind] = &self.first[index..index + 2] else {
                return false;
            };
            if topic.next.len() != behind - first {
                return false;
            }
            let (start, end) = self.places[first + partition];
            let was_marked = self.is_marked && self.bytes[start].is_multiple_of(2);
            if topic.is_partition_marked(partition) != was_marked {
                return false;
            }
            self.next.clear();
            topic.write_partition(partition, self.is_marked, &mut self.next);
            if self.next.len() != end - start {
                return false;
            }
            self.bytes[start..end].copy_from_slice(&self.next);
            let from = start / GROUP * GROUP;
            let to = (end.div_ceil(GROUP) * GROUP).min(self.bytes.len());
            encode_part(
                &self.bytes[from..to],
                &mut self.text[encoded_len(from)..encoded_len(to)],
            );
        }
        true
    }

    fn rebuild(&mut self, position: &Position) {
        self.bytes.clear();
        self.places.clear();
        let places = &mut self.places;
        position.write_bytes(&mut self.bytes, |start, end| places.push((start, end)));
        self.first.clear();
        self.first.push(0);
        let mut partitions = 0;
        for topic in &position.topics {
            partitions += topic.next.len();
            self.first.push(partitions);
        }
        self.is_marked = position.is_marked();
        self.text.resize(encoded_len(self.bytes.len()), 0);
        encode_part(&self.bytes, &mut self.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::position::{NOT_BEGUN, TopicPosition};

    fn topic(name: &str, next: &[i64]) -> TopicPosition {
        TopicPosition {
            next: next.to_vec(),
            ..TopicPosition::unread(name)
        }
    }

    /// Steps of random size through random partitions, with and without epochs, are written as whole ids are.
    #[test]
    fn ids_are_those_of_the_whole_positions() {
        let mut random = fastrand(7);
        for as_of in [None, Some(1_796_000_000)] {
            let mut position = Position {
                as_of,
                topics: vec![topic("a", &[0, NOT_BEGUN, 126]), topic("b", &[16_382])],
            };
            let mut ids = IdWriter::default();
            for step in 0..20_000 {
                if step % 500 == 0 {
                    position.as_of = position.as_of.map(|as_of| as_of + 1);
                    ids.start_over();
                }
                let (topic, partition) = [(0, 0), (0, 1), (0, 2), (1, 0)][random(4)];
                for _ in 0..random(5) {
                    ids.note(topic, u32::try_from(partition).expect("small"));
                    let at = &mut position.topics[topic];
                    if random(100) == 0 {
                        at.next.push(0);
                    }
                    at.move_to(partition, at.next[partition].max(0) + [1, 3, 200][random(3)]);
                    at.set_mark(partition, [0, 0, 1, 300][random(4)]);
                    let mut out = b"id: ".to_vec();
                    if random(2) == 0 {
                        ids.write(&position, &mut out);
                        assert_eq!(out.strip_prefix(b"id: "), Some(&*position.id()), "{position:?}");
                    }
                }
            }
        }
    }

    /// Numbers below what it is asked for (SplitMix64).
    fn fastrand(mut seed: u64) -> impl FnMut(usize) -> usize {
        move |below| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            usize::try_from((mixed >> 33) % below as u64).expect("it fits")
        }
    }
}
