//! Every reader gets every record once and in order, whatever the batches, and the log never takes more than its bound.

use std::time::Instant;

use proptest::prelude::*;

use super::super::block::Builder;
use super::super::position::TopicPosition;
use super::*;
use crate::kafka::record::{Record, Stamp};

fn frame(number: u64, size: usize) -> Vec<u8> {
    format!("id: {number}\ndata: {}\n\n", "x".repeat(size)).into_bytes()
}

/// Appends records of these sizes as one batch.
fn append(log: &mut Log, next: &mut u64, sizes: &[usize]) {
    let mut builder = Builder::new(log.head().clone(), Instant::now());
    for &size in sizes {
        builder.frame().extend_from_slice(&frame(*next, size));
        finish(&mut builder, 0, 0, i64::try_from(*next).unwrap());
        *next += 1;
    }
    let head = Bytes::from((*next - 1).to_string());
    log.append(builder.finish(), head);
}

fn batches() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let size = prop_oneof![4 => 0..300_usize, 1 => 0..90_000_usize];
    prop::collection::vec(prop::collection::vec(size, 1..6), 1..40)
}

fn numbers(bytes: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .map(|id| id.parse().unwrap())
        .collect()
}

#[test]
fn a_reader_gets_every_record_once_in_order_for_any_batches() {
    proptest!(|(batches in batches(), start in 1..60_u64)| {
        let mut log = Log::new(usize::MAX);
        let mut next = 1;
        // One reader keeps up, one resumes after every fifth batch, one starts in the middle.
        let mut readers = [(1, Vec::new()), (1, Vec::new()), (start, Vec::new())];
        for (round, sizes) in batches.iter().enumerate() {
            append(&mut log, &mut next, sizes);
            for (which, (cursor, seen)) in readers.iter_mut().enumerate() {
                if (which == 0 || round % 5 == 0) && *cursor < log.next() {
                    read_all(&log, cursor, seen);
                }
            }
        }
        for (which, (cursor, seen)) in readers.iter_mut().enumerate() {
            let from = if which == 2 { start } else { 1 };
            if from < next {
                read_all(&log, cursor, seen);
                prop_assert_eq!(&*seen, &(from..next).collect::<Vec<_>>());
            }
        }
    });
}

fn read_all(log: &Log, cursor: &mut u64, seen: &mut Vec<u64>) {
    loop {
        match log.read(*cursor) {
            Read::Frames(bytes, next, count) => {
                let found = numbers(&bytes);
                assert!(bytes.len() <= MAX_BLOCK || found.len() == 1, "a block too large");
                assert_eq!(found.len() as u64, next - *cursor);
                assert_eq!(count, next - *cursor);
                seen.extend(found);
                *cursor = next;
            }
            Read::AtHead => return,
            Read::Evicted => panic!("{cursor} was evicted from a log without bound"),
        }
    }
}

#[test]
fn the_log_stays_within_its_bound_and_reports_evictions() {
    proptest!(|(batches in batches(), capacity in 400_000..900_000_usize)| {
        let mut log = Log::new(capacity);
        let mut next = 1;
        for sizes in &batches {
            append(&mut log, &mut next, sizes);
            prop_assert!(log.cost() <= capacity, "{} > {}", log.cost(), capacity);
            let mut seen = Vec::new();
            let mut cursor = log.first();
            read_all(&log, &mut cursor, &mut seen);
            prop_assert_eq!(seen, (log.first()..next).collect::<Vec<_>>());
            if log.first() > 1 {
                prop_assert_eq!(log.read(log.first() - 1), Read::Evicted);
                prop_assert_eq!(log.id_before(log.first() - 1), None);
            }
        }
    });
}

#[test]
fn the_id_before_a_record_is_that_of_the_previous_event() {
    proptest!(|(batches in batches())| {
        let mut log = Log::new(usize::MAX);
        log.set_head(Bytes::from_static(b"0"));
        let mut next = 1;
        for sizes in &batches {
            append(&mut log, &mut next, sizes);
        }
        for cursor in 1..=next {
            prop_assert_eq!(log.id_before(cursor), Some(Bytes::from((cursor - 1).to_string())));
        }
    });
}

/// Takes the frame that was written as that of a record.
fn finish(builder: &mut Builder, topic: u16, partition: u32, offset: i64) {
    let stamp = Stamp {
        partition,
        offset,
        timestamp: None,
    };
    builder.finish_record(&Record::tombstone("t", stamp, None), topic);
}

/// Ids of nearly 6 KiB, as a topic of 900 partitions makes them.
#[test]
fn long_ids_are_counted_and_remembered_within_the_bound() {
    const BATCHES: i64 = 600;
    let capacity = 4 * 1024 * 1024;
    let mut position = Position {
        as_of: None,
        topics: vec![TopicPosition {
            next: vec![10_000_000_000; 860],
            ..TopicPosition::unread("t")
        }],
    };
    let mut log = Log::new(capacity);
    let allocated = allocation_counter::measure(|| {
        for number in 0..BATCHES {
            // So large that no two become one block.
            append_positions(&mut log, &mut position, &[(0, 130_000)], &mut Vec::new());
            assert!(log.cost() <= capacity, "{} after batch {number}", log.cost());
        }
    });
    let id = log.head().len();
    assert!(id > 5_000, "ids of {id} bytes");
    let resident = usize::try_from(allocated.bytes_current).expect("it holds something");
    assert!(
        resident <= capacity + capacity / 20,
        "{resident} bytes are allocated"
    );
    assert!(
        resident >= log.cost() - capacity / 20,
        "{resident} bytes are allocated"
    );
    // Where a reader was that fell off is known the better the later it fell off, and never taken for later.
    for cursor in [3, 100, 300, 500, 560] {
        let reached = log.reached_at(cursor).expect("that is remembered").topics[0].next[0];
        let was = i64::try_from(cursor).expect("small") - 1;
        let error = was - (reached - 10_000_000_000);
        let age = BATCHES - was;
        assert!(
            (0..=age / 4 + 1).contains(&error),
            "at {was}, taken for {error} before"
        );
    }
}

const PARTITIONS: usize = 3;

/// Appends records of these partitions and sizes, with positions as ids, and notes them.
fn append_positions(
    log: &mut Log,
    position: &mut Position,
    records: &[(usize, usize)],
    seen: &mut Vec<(usize, i64, usize)>,
) {
    let mut builder = Builder::new(position.id().into(), Instant::now());
    for &(partition, size) in records {
        let offset = position.topics[0].next[partition];
        position.topics[0].next[partition] += 1;
        let frame = [b"id: ", &*position.id(), b"\ndata: ", &*vec![b'x'; size], b"\n\n"].concat();
        builder.frame().extend_from_slice(&frame);
        let partition = u32::try_from(partition).unwrap();
        finish(&mut builder, 0, partition, offset);
        seen.push((partition as usize, offset, frame.len()));
    }
    log.append(builder.finish(), position.id().into());
}

#[test]
fn the_log_block_of_a_start_position_is_found() {
    let records = prop::collection::vec((0..PARTITIONS, 0..300_usize), 1..10);
    let batches = prop::collection::vec(records, 1..40);
    proptest!(|(
        batches in batches,
        capacity in 2000..20_000_usize,
        at in any::<prop::sample::Index>(),
        ahead in prop::array::uniform3(-5..5_i64),
    )| {
        let mut log = Log::new(capacity);
        let mut position = Position {
            as_of: None,
            topics: vec![TopicPosition { next: vec![0; PARTITIONS], ..TopicPosition::unread("t") }],
        };
        let mut seen = Vec::new();
        let mut positions = vec![position.clone()];
        for records in &batches {
            append_positions(&mut log, &mut position, records, &mut seen);
            positions.push(position.clone());
        }
        // Where another replica may have stood, which reads the partitions in another order.
        let mut wanted = at.get(&positions).clone();
        for (next, ahead) in wanted.topics[0].next.iter_mut().zip(ahead) {
            *next = (*next + ahead).max(0);
        }
        let point = usize::try_from(log.walk_point(&wanted)).unwrap();
        let is_wanted = |&(partition, offset, _): &(usize, i64, usize)| {
            offset >= wanted.topics[0].next[partition]
        };
        prop_assert!(!seen[..point - 1].iter().any(is_wanted), "it misses something");
        let first = seen.iter().position(is_wanted).unwrap_or(seen.len());
        let between: usize = seen[point - 1..first].iter().map(|record| record.2).sum();
        prop_assert!(between <= log_block(capacity, &batches), "{between} bytes are looked at in vain");
    });
}

/// No block of a log is larger, unless a batch is.
fn log_block(capacity: usize, batches: &[Vec<(usize, usize)>]) -> usize {
    let batch = |records: &Vec<(usize, usize)>| records.iter().map(|(_, size)| size + 60).sum();
    let largest: usize = batches.iter().map(batch).max().unwrap_or(0);
    largest.max(capacity / 4)
}
