//! Tables of many rows: freed in steps, and scanned in bounded memory.

use crate::common::SIZE_OF_PIECES;
use crate::rig::{PACE, Rig, clock, rec, settings};
use crate::trials;
use allocation_counter::measure;
use bytes::Bytes;
use kafka_sse_bridge::config::Start;
use kafka_sse_bridge::kafka::record::Feed;
use kafka_sse_bridge::stream::Stream;
use kafka_sse_bridge::stream::pieces::{AMPLE, PIECE, SMALL_PIECE, held};
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::{Step, Subscription};
use kafka_sse_bridge::stream::writer::FREED_AT_ONCE;
use libtest_mimic::Trial;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    trials![
        the_writer_frees_a_recreated_topic_in_steps,
        scans_of_clients_that_do_not_read_are_bounded_in_memory,
        clients_that_scan_at_once_hold_one_table_and_in_the_end_nothing,
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
    let mut slow = Vec::new();
    for client in 0..CLIENTS {
        // A row moves, so that no other client can share the piece.
        rig.records(&[rec(&client.to_string(), "moved")]);
        let mut client = rig.stream.subscribe(Opening::default());
        assert!(next(&mut client).is_some(), "the opening");
        let piece = next(&mut client).expect("a piece of the table");
        assert!(!piece.is_empty());
        slow.push((client, piece));
    }
    let bytes: usize = slow.iter().map(|(_, piece)| piece.len()).sum();
    let most = AMPLE + PIECE + CLIENTS * (SMALL_PIECE + 100);
    assert!(bytes <= most, "{bytes} bytes held by {CLIENTS} clients");
    assert!(held() >= AMPLE, "{} bytes", held());
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
    let (mut last, piece) = slow.swap_remove(CLIENTS - 1);
    let mut text = String::from_utf8_lossy(&piece).into_owned();
    drop(slow);
    while let Some(piece) = next(&mut last) {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    assert_eq!(
        text.lines().filter(|line| line.starts_with("data: ")).count(),
        KEYS + 1
    );
}

fn clients_that_scan_at_once_hold_one_table_and_in_the_end_nothing() {
    const CLIENTS: usize = 1000;
    const KEYS: usize = 20_000;
    let _alone = SIZE_OF_PIECES.write();
    let settings = settings(1, |settings| settings.start = Start::Snapshot);
    let stream = Stream::with_clock(settings, PACE, None, clock::CLOCK);
    let mut rig = Rig::of(stream, &[1]);
    rig.load();
    write_keys(&mut rig, KEYS);
    let before = held();
    let mut now = clock::monotonic();
    let mut clients: Vec<(Subscription, Bytes, usize)> = (0..CLIENTS)
        .map(|_| (rig.stream.subscribe(Opening::default()), Bytes::new(), 0))
        .collect();
    // Each holds what it got last until it takes more, as if its socket were slow.
    let mut most = 0;
    let mut is_over = false;
    while !is_over {
        is_over = true;
        for (client, last, taken) in &mut clients {
            if let Step::Send(bytes) = client.step(now) {
                *taken += bytes.len();
                *last = bytes;
                is_over = false;
            }
        }
        most = most.max(held() - before);
    }
    let (_, _, table) = &clients[0];
    assert!(*table > 3 * PIECE, "{table} bytes each");
    assert!(
        clients.iter().all(|(_, _, taken)| taken.abs_diff(*table) < 100),
        "all get the same, but for the time to reconnect"
    );
    assert!(
        most < *table + 2 * PIECE,
        "{most} bytes held for {CLIENTS} clients"
    );
    // Those who connect shortly after find the pieces.
    let mut late = rig.stream.subscribe(Opening::default());
    let _prelude = late.step(now);
    let kept = held();
    assert!(matches!(late.step(now), Step::Send(bytes) if bytes.len() > PIECE / 2));
    assert_eq!(held(), kept, "nothing was copied");
    drop(late);
    // Idle clients keep nothing.
    now += Duration::from_secs(60);
    clock::advance(60);
    for (client, last, _) in &mut clients {
        *last = Bytes::new();
        assert!(matches!(client.step(now), Step::Send(_)), "a keepalive");
    }
    assert_eq!(held(), before);
}
