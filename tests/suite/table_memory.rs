//! Tables of many rows: right after any removal, and locked only for a few rows at a time.

use crate::rig::{Rig, rec};
use crate::table_model;
use crate::trials;
use allocation_counter::measure;
use bytes::Bytes;
use kafka_sse_bridge::config::{Start, WhenFull};
use kafka_sse_bridge::kafka::record::Feed;
use kafka_sse_bridge::stream::pieces::{AMPLE, PIECE, SMALL_PIECE};
use kafka_sse_bridge::stream::position::{Position, TopicPosition};
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::{Step, Subscription};
use kafka_sse_bridge::stream::table::{Applied, Bounds, Origin, ROWS_PER_HOLD, Table, Update};
use kafka_sse_bridge::stream::writer::FREED_AT_ONCE;
use libtest_mimic::Trial;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

pub fn trials() -> Vec<Trial> {
    trials![
        a_large_table_equals_a_simple_map,
        a_cleared_topic_disappears_at_once_and_is_freed_in_steps,
        the_writer_frees_a_recreated_topic_in_steps,
        deletes_expire_in_steps,
        smaller_bounds_are_reached_in_steps,
        scans_of_clients_that_do_not_read_are_bounded_in_memory,
    ]
}

const RETENTION: u64 = 1000;

/// Each row has its slice and no more; what it leaves in the order and the index is freed by the run and the
/// shard.
const SHARDS: i64 = 256;

fn bounds(when_full: WhenFull) -> Bounds {
    Bounds {
        keys: usize::MAX,
        bytes: usize::MAX,
        departed_bytes: 1 << 20,
        hidden_bytes: 0,
        when_full,
        delete_retention: RETENTION,
    }
}

fn update<'a>(key: &'a [u8], topic: u16, offset: i64, frame: &'a [u8], deleted: Option<u64>) -> Update<'a> {
    Update {
        key,
        origin: Origin {
            topic,
            partition: 0,
            offset,
            timestamp: None,
        },
        deleted,
        unusable: None,
        frame,
        headers: b"",
    }
}

/// The frames of the whole table, without ids.
fn scan(table: &Table, until: u64) -> Vec<String> {
    let out = table_model::scan(table, &Position::default(), until, 64 * 1024);
    let text = String::from_utf8(out).expect("frames are text");
    text.lines()
        .filter(|line| line.starts_with("data: "))
        .map(str::to_owned)
        .collect()
}

fn a_large_table_equals_a_simple_map() {
    let mut random = StdRng::seed_from_u64(11);
    let mut table = Table::new(bounds(WhenFull::RefuseNew));
    // By topic and key the number of the last update, and by number what a reader sees.
    let mut keys: HashMap<(u16, u32), u64> = HashMap::new();
    let mut rows: BTreeMap<u64, String> = BTreeMap::new();
    for sequence in 1..=60_000_u64 {
        let topic = random.random_range(0..3_u16);
        // A few keys change all the time, and most seldom, so that runs of rows thin out unevenly.
        let key = if random.random_bool(0.5) {
            random.random_range(0..50_u32)
        } else {
            random.random_range(0..8_000_u32)
        };
        let frame = format!("data: {topic} {key} {sequence}\n\n");
        let name = key.to_string();
        let offset = i64::try_from(sequence).expect("small");
        let (applied, previous) = table.apply(
            sequence,
            &update(name.as_bytes(), topic, offset, frame.as_bytes(), None),
        );
        assert_eq!(applied, Applied::Taken);
        let before = keys
            .insert((topic, key), sequence)
            .and_then(|before| rows.remove(&before));
        let previous = previous.map(|row| {
            String::from_utf8_lossy(row.candidate().frame)
                .trim_end()
                .to_owned()
        });
        assert_eq!(previous, before);
        rows.insert(sequence, frame.trim_end().to_owned());
        if sequence % 20_000 == 0 {
            assert_eq!(table.len(), rows.len());
            assert_eq!(
                scan(&table, sequence + 1),
                rows.values().cloned().collect::<Vec<_>>()
            );
            for (&(topic, key), number) in &keys {
                let row = table
                    .row(topic, key.to_string().as_bytes())
                    .expect("it was put in");
                assert_eq!(row.candidate().frame.trim_ascii_end(), rows[number].as_bytes());
            }
            // One topic is reset now and then; the others stay.
            drop(table.clear(1));
            keys.retain(|(topic, _), number| *topic != 1 || rows.remove(number).is_none());
            assert_eq!(table.len(), rows.len());
            assert!(table.row(1, b"1").is_none());
            assert_eq!(
                scan(&table, sequence + 1),
                rows.values().cloned().collect::<Vec<_>>()
            );
        }
    }
    drop(table.clear(0));
    drop(table.clear(2));
    assert_eq!((table.len(), table.cost()), (0, 0));
}

/// A table of so many keys in each of two topics.
fn two_topics(count: u32) -> Table {
    let mut table = Table::new(bounds(WhenFull::RefuseNew));
    for number in 0..2 * count {
        let key = (number / 2).to_string();
        let topic = u16::from(number % 2 == 1);
        let frame = format!("data: {topic} {key}\n\n");
        table.apply(
            u64::from(number) + 1,
            &update(key.as_bytes(), topic, number.into(), frame.as_bytes(), None),
        );
    }
    table
}

fn freed(work: impl FnOnce()) -> i64 {
    -measure(work).count_current
}

fn a_cleared_topic_disappears_at_once_and_is_freed_in_steps() {
    let mut table = two_topics(10_000);
    let (len, cost) = (table.len(), table.cost());
    let mut cleared = None;
    let while_locked = freed(|| cleared = Some(table.clear(0)));
    assert_eq!(while_locked, 0, "allocations freed while the table is locked");
    assert_eq!((table.len(), table.cost()), (len / 2, cost / 2));
    assert_eq!(scan(&table, u64::MAX).len(), len / 2, "the other topic's rows");
    let mut cleared = cleared.expect("it was");
    let mut pieces = 1;
    while {
        let mut has_more = false;
        let freed = freed(|| has_more = cleared.free(1000));
        // A piece ends with a run of rows; the first frees the index too.
        assert!(
            freed <= 1000 + 256 + SHARDS + 100,
            "{freed} allocations freed at once"
        );
        has_more
    } {
        pieces += 1;
    }
    assert!((8..=11).contains(&pieces), "{pieces} pieces");
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

fn deletes_expire_in_steps() {
    let mut table = Table::new(bounds(WhenFull::RefuseNew));
    let count = 5 * ROWS_PER_HOLD;
    for number in 0..count {
        let key = number.to_string();
        let offset = i64::try_from(number).expect("small");
        let update = update(key.as_bytes(), 0, offset, b"event: delete\ndata: {}\n\n", Some(1));
        table.apply(number as u64 + 1, &update);
    }
    assert!(!table.tidy(RETENTION), "nothing is due");
    assert_eq!(table.len(), count);
    let late = 10 * RETENTION;
    let mut before = table.len();
    while table.tidy(late) {
        assert!(
            before - table.len() <= ROWS_PER_HOLD,
            "{before} became {}",
            table.len()
        );
        before = table.len();
    }
    assert_eq!((table.len(), table.cost()), (0, 0));
}

fn smaller_bounds_are_reached_in_steps() {
    let mut table = two_topics(3 * u32::try_from(ROWS_PER_HOLD).expect("small"));
    let (len, cost) = (table.len(), table.cost());
    let smaller = Bounds {
        keys: len,
        bytes: cost / 4,
        ..bounds(WhenFull::EvictOldest)
    };
    table.set_bounds(smaller, 1);
    assert_eq!(table.len(), len, "nothing leaves while the bounds are set");
    // Of a record that comes before the rest has gone, too.
    let mut before = table.len();
    table.apply(1 << 40, &update(b"new", 0, 1 << 40, b"data: new\n\n", None));
    assert!(
        before + 1 - table.len() <= ROWS_PER_HOLD,
        "{before} became {}",
        table.len()
    );
    assert!(table.row(0, b"new").is_some());
    before = table.len();
    while table.tidy(1) {
        assert!(
            before - table.len() <= ROWS_PER_HOLD,
            "{before} became {}",
            table.len()
        );
        before = table.len();
    }
    assert!(table.cost() <= cost / 4 && table.cost() > cost / 5);
    let keys = table.len() - 7;
    table.set_bounds(Bounds { keys, ..smaller }, 1);
    while table.tidy(1) {}
    assert_eq!(table.len(), keys, "no more leave than must");
    let position = |next| Position {
        as_of: Some(1),
        topics: vec![
            TopicPosition {
                next: vec![next],
                ..TopicPosition::unread("t")
            };
            2
        ],
    };
    assert!(
        !table.has_kept_since(&position(1)),
        "rows that a client has not seen have left"
    );
    assert!(table.has_kept_since(&position(i64::try_from(len).expect("small"))));
}
