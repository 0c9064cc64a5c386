//! Damage to a broker's records on disk.

use super::broker::Broker;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// Before the records of a batch: its header, the first twelve bytes of which are its offset and length.
const HEADER: usize = 61;

impl Broker {
    /// Spoils the batch that begins at `offset`, which should be a compressed one: its records can no longer be
    /// decompressed. A broker reads its first segment from the file, so that it serves the changed bytes.
    ///
    /// # Panics
    /// If no batch matches.
    pub fn spoil(&self, topic: &str, partition: i32, offset: i64) {
        let path = self
            .data()
            .join(format!("{topic}-{partition}/00000000000000000000.log"));
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut at = 0;
        loop {
            let mut head = [0; 12];
            file.read_exact_at(&mut head, at)
                .expect("a batch with that offset");
            let (first, length) = head.split_at(8);
            let first = i64::from_be_bytes(first.try_into().expect("eight"));
            let length = u32::from_be_bytes(length.try_into().expect("four"));
            if first == offset {
                let records = vec![0xa5; length as usize + 12 - HEADER];
                file.write_all_at(&records, at + HEADER as u64)
                    .expect("the file takes it");
                return;
            }
            at += 12 + u64::from(length);
        }
    }
}
