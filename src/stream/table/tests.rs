use std::collections::{BTreeMap, HashMap};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::encode::Encoder;
use super::super::position::TopicPosition;
use super::super::scan::{Scan, Show};
use super::*;
use crate::config::StreamSettings;

pub(super) const RETENTION: u64 = 1000;

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

/// Shows all rows.
pub(in crate::stream) fn show_all(settings: &StreamSettings) -> Show<'static> {
    Show {
        matcher: None,
        encoder: Encoder::new(settings),
        topics: &[],
        scratch: Vec::new(),
        shown: 0,
    }
}

/// The frames of the rows newer than `wanted`, read in steps of so many bytes.
pub(super) fn scan(table: &Table, wanted: &Position, until: u64, step: usize) -> Vec<u8> {
    let mut scan = Scan {
        wanted: wanted.clone(),
        ..Scan::new(0, until, wanted.clone(), None)
    };
    let mut show = show_all(&StreamSettings::default());
    let mut out = Vec::new();
    while table.read(&mut scan, step, &mut show, &mut out) {}
    out
}

/// The frames of the whole table, without ids.
fn frames(table: &Table, until: u64) -> Vec<String> {
    let out = scan(table, &Position::default(), until, 64 * 1024);
    let text = String::from_utf8(out).expect("frames are text");
    text.lines()
        .filter(|line| line.starts_with("data: "))
        .map(str::to_owned)
        .collect()
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

#[test]
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
                frames(&table, sequence + 1),
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
                frames(&table, sequence + 1),
                rows.values().cloned().collect::<Vec<_>>()
            );
        }
    }
    drop(table.clear(0));
    drop(table.clear(2));
    assert_eq!((table.len(), table.cost()), (0, 0));
}

#[test]
fn a_cleared_topic_disappears_at_once_and_is_freed_in_steps() {
    let mut table = two_topics(10_000);
    let (len, cost) = (table.len(), table.cost());
    let mut cleared = table.clear(0);
    assert_eq!((table.len(), table.cost()), (len / 2, cost / 2));
    assert_eq!(frames(&table, u64::MAX).len(), len / 2, "the other topic's rows");
    let mut pieces = 1;
    while cleared.free(1000) {
        pieces += 1;
    }
    assert!((8..=11).contains(&pieces), "{pieces} pieces");
}

#[test]
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

#[test]
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

#[test]
fn an_unusable_record_does_not_expire_like_a_tombstone() {
    let mut table = Table::new(Bounds {
        delete_retention: 10,
        ..bounds(WhenFull::RefuseNew)
    });
    let frame = b"event: delete\ndata: x\n\n";
    let unusable = Update {
        unusable: Some(Invalid::ValueNotUtf8),
        ..update(b"b", 0, 1, frame, None)
    };
    table.apply(1, &update(b"a", 0, 0, frame, Some(1)));
    table.apply(2, &unusable);
    table.expire(1_000_000);
    assert_eq!(table.len(), 1);
    let row = table.row(0, b"b").expect("it is there");
    assert!(row.candidate().is_tombstone, "to clients it is a delete");
    assert_eq!(table.unusable.0[Invalid::ValueNotUtf8.index()], 1);
}

#[test]
fn a_longer_delete_retention_does_not_cover_the_past() {
    let bounds = |delete_retention| Bounds {
        delete_retention,
        ..bounds(WhenFull::RefuseNew)
    };
    let knows = |table: &Table, as_of, now| {
        let left = Position {
            as_of: Some(as_of),
            ..Position::default()
        };
        table.knows_all_since(&left, now)
    };
    let mut table = Table::new(bounds(10));
    table.loaded(100);
    assert!(knows(&table, 90, 100) && !knows(&table, 89, 100));
    table.set_bounds(bounds(1000), 100);
    assert!(!knows(&table, 89, 100), "that is forgotten");
    assert!(knows(&table, 90, 1000), "what was known is remembered for longer");
    table.set_bounds(bounds(5), 1000);
    assert!(
        knows(&table, 90, 1000),
        "what has not been forgotten so far is still known"
    );
}
