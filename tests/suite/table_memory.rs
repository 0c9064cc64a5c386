//! Tables of many rows: freed in steps, and scanned in bounded memory.

use crate::common::SIZE_OF_PIECES;
use crate::rig::{Rig, rec};
use crate::trials;
use allocation_counter::measure;
use bytes::Bytes;
use kafka_sse_bridge::config::Start;
use kafka_sse_bridge::kafka::record::Feed;
use kafka_sse_bridge::stream::pieces::{AMPLE, PIECE, SMALL_PIECE};
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::{Step, Subscription};
use kafka_sse_bridge::stream::writer::FREED_AT_ONCE;
use libtest_mimic::Trial;
use std::time::Instant;

pub fn trials() -> Vec<Trial> {
    trials![
        the_writer_frees_a_recreated_topic_in_steps,
        scans_of_clients_that_do_not_read_are_bounded_in_memory,
    ]
}

fn freed(work: impl FnOnce()) -> i64 {
    -measure(work).count_current
}

fn rig() -> Rig {
    Rig::ready(|settings| settings.start = Start::Snapshot)
}

/// Writes records of so many keys in one batch.
fn write_keys(rig: &mut Rig, count: usize) {
    let key = |key: usize| rec(&key.to_string(), key.to_string());
    rig.records(&(0..count).map(key).collect::<Vec<_>>());
}

fn the_writer_frees_a_recreated_topic_in_steps() {
    let mut rig = rig();
    let count = 3 * FREED_AT_ONCE;
    write_keys(&mut rig, count);
    assert_eq!(rig.stream.figures().table.map(|(keys, _)| keys), Some(count));
    let by_feed = freed(|| rig.writer.take(&Feed::Recreated { topic: "t".into() }));
    assert!(
        by_feed < 100,
        "{by_feed} allocations freed by the new beginning itself"
    );
    assert_eq!(rig.stream.figures().table, Some((0, 0)));
    let mut pieces = Vec::new();
    while {
        let mut has_more = false;
        pieces.push(freed(|| has_more = rig.writer.tidy()));
        has_more
    } {}
    let most = pieces.iter().copied().max().unwrap_or_default();
    let limit = i64::try_from(FREED_AT_ONCE).expect("small") + 1000;
    assert!(most <= limit, "{most} allocations freed at once");
    let all: i64 = pieces.iter().sum();
    assert!(
        all >= i64::try_from(count).expect("small"),
        "{all} of {count} rows freed"
    );
}

fn scans_of_clients_that_do_not_read_are_bounded_in_memory() {
    const CLIENTS: usize = 1000;
    const KEYS: usize = 20_000;
    let _alone = SIZE_OF_PIECES.write();
    let mut rig = rig();
    write_keys(&mut rig, KEYS);
    let next = |client: &mut Subscription| match client.step(Instant::now()) {
        Step::Send(bytes) => Some(bytes),
        Step::Yield => Some(Bytes::new()),
        Step::Wait(_) | Step::End => None,
    };
    // Each has its first piece of the table, which its socket does not take.
    let mut held = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = rig.stream.subscribe(Opening::default());
        assert!(next(&mut client).is_some(), "the opening");
        let piece = next(&mut client).expect("a piece of the table");
        assert!(!piece.is_empty());
        held.push((client, piece));
    }
    let bytes: usize = held.iter().map(|(_, piece)| piece.len()).sum();
    let most = AMPLE + PIECE + CLIENTS * (SMALL_PIECE + 100);
    assert!(bytes <= most, "{bytes} bytes held by {CLIENTS} clients");
    // A reading client beside them gets everything.
    let mut reader = rig.stream.subscribe(Opening::default());
    let mut shown = 0;
    while let Some(piece) = next(&mut reader) {
        assert!(piece.len() <= SMALL_PIECE + 100, "{} bytes at once", piece.len());
        shown += String::from_utf8_lossy(&piece)
            .lines()
            .filter(|line| line.starts_with("data: "))
            .count();
    }
    assert_eq!(shown, KEYS + 1, "every key, and caught-up");
    // The slow clients get the rest as well.
    let (mut slow, piece) = held.swap_remove(CLIENTS - 1);
    let mut text = String::from_utf8_lossy(&piece).into_owned();
    drop(held);
    while let Some(piece) = next(&mut slow) {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    assert_eq!(
        text.lines().filter(|line| line.starts_with("data: ")).count(),
        KEYS + 1
    );
}
