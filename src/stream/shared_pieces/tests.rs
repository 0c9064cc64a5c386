use std::cell::Cell;

use proptest::prelude::*;

use super::super::position::TopicPosition;
use super::super::table::{Bounds, Origin, Update};
use super::super::truncation::Truncations;
use super::*;
use crate::config::{StreamSettings, WhenFull};
use crate::stream::scan::{Scan, Show};
use crate::stream::table::Table;
use crate::stream::table::tests::show_all;

const TOPICS: usize = 2;
const PARTITIONS: u32 = 3;

fn with_show<T>(read: impl FnOnce(&mut Show<'_>) -> T) -> (T, u64) {
    let mut show = show_all(&StreamSettings::default());
    (read(&mut show), show.shown)
}

/// A table that records are written to.
struct Tables {
    table: Table,
    sequence: Sequence,
    next: [[i64; PARTITIONS as usize]; TOPICS],
    now: u64,
    epochs: Vec<Option<Arc<LogEpochs>>>,
}

impl Tables {
    fn new(keys: usize, bytes: usize) -> Self {
        let bounds = Bounds {
            keys,
            bytes,
            departed_bytes: 1 << 20,
            hidden_bytes: 0,
            when_full: WhenFull::EvictOldest,
            delete_retention: 1000,
        };
        Self {
            table: Table::new(bounds),
            sequence: 0,
            next: Default::default(),
            now: 1_000_000,
            epochs: vec![
                None,
                Some(Truncations::default().epochs()),
                Some(Truncations::default().epochs()),
            ],
        }
    }

    /// A value of so many bytes, or a delete.
    fn write(&mut self, topic: u16, key: u32, size: Option<usize>) {
        let partition = key % PARTITIONS;
        let next = &mut self.next[usize::from(topic)][partition as usize];
        *next += 1;
        self.sequence += 1;
        let frame = match size {
            Some(size) => format!("data: {key} {} {}\n\n", self.sequence, "x".repeat(size)),
            None => format!("event: delete\ndata: {key}\n\n"),
        };
        let update = Update {
            key: &key.to_le_bytes(),
            origin: Origin {
                topic,
                partition,
                offset: *next,
                timestamp: None,
            },
            deleted: size.is_none().then_some(self.now),
            unusable: None,
            frame: frame.as_bytes(),
            headers: b"",
        };
        self.table.apply(self.sequence, &update);
    }

    fn reader(&self, as_of: u64, epochs: usize) -> Scan {
        let topic = TopicPosition {
            next: vec![0; PARTITIONS as usize],
            ..TopicPosition::unread("t")
        };
        let position = Position {
            as_of: Some(as_of),
            topics: vec![topic; TOPICS],
        };
        let until = self.sequence + 1;
        Scan {
            deletes_from: until,
            ..Scan::new(0, until, position, self.epochs[epochs].clone())
        }
    }

    fn piece(&self, scan: &mut Scan, size: usize) -> (Bytes, bool, u64) {
        let ((bytes, may_have_more), shown) = with_show(|show| self.table.piece(scan, size, show));
        (bytes, may_have_more, shown)
    }

    /// All pieces for a reader.
    fn pieces(&self, scan: &mut Scan) -> Vec<Bytes> {
        let mut all = Vec::new();
        loop {
            let (bytes, may_have_more, _) = self.piece(scan, PIECE);
            all.push(bytes);
            if !may_have_more {
                return all;
            }
        }
    }

    /// The rows that a reader who shares nothing gets up to `end`, each with the id of the place before it.
    fn alone(&self, scan: &mut Scan, end: Sequence) -> Vec<String> {
        let mut rows = Vec::new();
        scan.until = end;
        loop {
            let mut out = Vec::new();
            scan.rows_to_id = 0;
            let (may_have_more, _) = with_show(|show| self.table.read(scan, 1, show, &mut out));
            if !out.is_empty() {
                rows.push(String::from_utf8(out).expect("text"));
            }
            if !may_have_more {
                return rows;
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let Some(shared) = self.table.pieces.0.lock().upgrade() else {
            return Ok(());
        };
        let pieces = shared.0.lock();
        prop_assert_eq!(
            pieces.cost,
            pieces.ranges.values().map(Range::cost).sum::<usize>()
        );
        let mut last = 0;
        for (&start, range) in &pieces.ranges {
            prop_assert!(start >= last && range.end > start && !range.variants.is_empty());
            prop_assert!(range.variants.len() <= MOST_VARIANTS);
            last = range.end;
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write {
        topic: u16,
        key: u32,
        size: Option<usize>,
    },
    Pass {
        seconds: u64,
    },
    Clear {
        topic: u16,
    },
    Join {
        as_of: u64,
        epochs: usize,
    },
    Step {
        reader: usize,
        size: usize,
    },
    StepAll,
    Leave {
        reader: usize,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let size = prop::option::weighted(0.85, prop_oneof![3 => 0..50_usize, 3 => 0..900_usize]);
    // Some partitions are quiet.
    let key = prop_oneof![4 => (0..30_u32).prop_map(|key| key * PARTITIONS), 1 => 0..90_u32];
    let write = (prop_oneof![5 => Just(0), 1 => Just(1)], key, size);
    let op = prop_oneof![
        40 => write.prop_map(|(topic, key, size)| Op::Write { topic, key, size }),
        1 => (0..2000_u64).prop_map(|seconds| Op::Pass { seconds }),
        1 => (0..2_u16).prop_map(|topic| Op::Clear { topic }),
        6 => (prop_oneof![9 => Just(1), 1 => Just(2)], prop_oneof![8 => Just(0), 2 => 1..3_usize])
            .prop_map(|(as_of, epochs)| Op::Join { as_of, epochs }),
        6 => (any::<usize>(), prop_oneof![Just(1000), Just(SMALL_PIECE), Just(8000)])
            .prop_map(|(reader, size)| Op::Step { reader, size }),
        6 => Just(Op::StepAll),
        1 => any::<usize>().prop_map(|reader| Op::Leave { reader }),
    ];
    prop::collection::vec(op, 50..500)
}

/// Has a reader read a piece, and compares it with what one that shares nothing reads.
fn compare(tables: &Tables, scan: &mut Scan, size: usize) -> Result<(Bytes, bool), TestCaseError> {
    let mut alone = scan.clone();
    let before = scan.cursor;
    let (bytes, may_have_more, shown) = tables.piece(scan, size);
    prop_assert_eq!(may_have_more, scan.cursor < scan.until);
    prop_assert!(scan.cursor > before || scan.cursor >= scan.until);
    let expected = tables.alone(&mut alone, scan.cursor);
    prop_assert_eq!(&scan.position, &alone.position);
    let text = std::str::from_utf8(&bytes).expect("text");
    let events: Vec<&str> = text.split_inclusive("\n\n").collect();
    prop_assert_eq!(events.len(), expected.len());
    prop_assert_eq!(shown, expected.len() as u64);
    let mut without_id = usize::MAX;
    for (event, expected) in events.into_iter().zip(&expected) {
        if event.starts_with("id: ") {
            prop_assert_eq!(event, expected);
            without_id = 0;
        } else {
            prop_assert_eq!(Some(event), expected.split_once('\n').map(|(_, frame)| frame));
            prop_assert!(without_id < 99, "a client could not resume near {}", event);
            without_id += 1;
        }
    }
    tables.check()?;
    Ok((bytes, may_have_more))
}

#[test]
fn readers_that_share_pieces_get_what_one_alone_gets() {
    // Pieces, those of them that were shared, and readers that found a piece of another position.
    let counts = Cell::new((0, 0, 0));
    proptest!(ProptestConfig::with_cases(300), |(keys in 10..80_usize, ops in ops())| {
        let mut tables = Tables::new(keys, 1 << 20);
        let mut readers: Vec<Scan> = Vec::new();
        // Kept, so that no two pieces have the same address.
        let mut seen: Vec<Bytes> = Vec::new();
        for op in ops {
            let steps = match op {
                Op::Write { topic, key, size } => {
                    tables.write(topic, key, size);
                    continue;
                }
                Op::Pass { seconds } => {
                    tables.now += seconds;
                    while tables.table.tidy(tables.now) {}
                    continue;
                }
                Op::Clear { topic } => {
                    drop(tables.table.clear(topic));
                    continue;
                }
                Op::Join { as_of, epochs } => {
                    readers.push(tables.reader(as_of, epochs));
                    continue;
                }
                Op::Leave { reader } => {
                    if !readers.is_empty() {
                        readers.swap_remove(reader % readers.len());
                    }
                    continue;
                }
                Op::Step { .. } if readers.is_empty() => continue,
                Op::Step { reader, size } => vec![(reader % readers.len(), size)],
                Op::StepAll => (0..readers.len()).map(|reader| (reader, 8000)).collect(),
            };
            let mut over = Vec::new();
            for (reader, size) in steps {
                let variants = |tables: &Tables| {
                    let shared = tables.table.pieces.0.lock().upgrade();
                    let most = |shared: Arc<SharedPieces>| {
                        let pieces = shared.0.lock();
                        pieces.ranges.values().map(|range| range.variants.len()).max()
                    };
                    shared.and_then(most).unwrap_or(0)
                };
                let before = variants(&tables);
                let (bytes, may_have_more) = compare(&tables, &mut readers[reader], size)?;
                if !may_have_more {
                    over.push(reader);
                }
                let (all, shared, variant) = counts.get();
                let is_shared = seen.iter().any(|other| other.as_ptr() == bytes.as_ptr());
                let is_shared = is_shared && !bytes.is_empty();
                let is_variant = before == 1 && variants(&tables) > 1;
                counts.set((all + 1, shared + u64::from(is_shared), variant + u64::from(is_variant)));
                seen.push(bytes);
            }
            for reader in over.into_iter().rev() {
                readers.remove(reader);
            }
        }
    });
    let (all, shared, variants) = counts.get();
    assert!(
        shared > 300 && all - shared > 300 && variants > 10,
        "the test proves little: {all}, {shared}, {variants}"
    );
}

/// A table of so many rows of some 100 bytes.
fn table_of(keys: u32) -> Tables {
    let mut tables = Tables::new(usize::MAX, usize::MAX);
    for key in 0..keys {
        tables.write(0, key, Some(80));
    }
    tables
}

#[test]
fn readers_that_come_at_once_have_each_piece_written_once() {
    let tables = table_of(10_000);
    let mut readers: Vec<Scan> = (0..100).map(|_| tables.reader(1, 0)).collect();
    loop {
        let step = |scan: &mut Scan| tables.piece(scan, PIECE);
        let pieces: Vec<_> = readers.iter_mut().map(step).collect();
        let (first, may_have_more, _) = &pieces[0];
        assert!(pieces.iter().all(|(bytes, ..)| bytes.as_ptr() == first.as_ptr()));
        if !may_have_more {
            break;
        }
        assert!(first.len() > PIECE / 2 && first.len() <= PIECE, "{}", first.len());
    }
    assert!(tables.table.pieces.0.lock().strong_count() > 0);
    drop(readers);
    assert_eq!(tables.table.pieces.0.lock().strong_count(), 0, "kept for nobody");
}

#[test]
fn a_row_that_moves_has_one_piece_written_again() {
    let mut tables = table_of(10_000);
    // Keeps the pieces.
    let mut first = tables.reader(1, 0);
    let before = tables.pieces(&mut first);
    assert!(before.len() > 10);
    tables.write(0, 5000, Some(80));
    let after = tables.pieces(&mut tables.reader(1, 0));
    let is_new = |piece: &&Bytes| before.iter().all(|other| other.as_ptr() != piece.as_ptr());
    let new: Vec<&Bytes> = after.iter().filter(is_new).collect();
    // The one that it was in, and the last, which it is in now.
    assert_eq!((after.len(), new.len()), (before.len(), 2));
    let has = |piece: &Bytes| String::from_utf8_lossy(piece).contains("data: 5000 ");
    assert_eq!(
        new.iter().map(|piece| has(piece)).collect::<Vec<_>>(),
        [false, true]
    );
    assert_eq!(after.iter().filter(|piece| has(piece)).count(), 1);
}

#[test]
fn the_pieces_of_a_table_are_bounded() {
    let tables = table_of(120_000);
    let mut reader = tables.reader(1, 0);
    let mut all = 0;
    loop {
        let (bytes, may_have_more, _) = tables.piece(&mut reader, PIECE);
        all += bytes.len();
        if !may_have_more {
            break;
        }
    }
    assert!(all > MOST_BYTES + 2 * PIECE, "{all} bytes");
    let shared = reader.pieces.as_ref().expect("it has read some");
    let pieces = shared.0.lock();
    assert!(pieces.cost <= MOST_BYTES && !pieces.ranges.is_empty());
    let (&first, _) = pieces.ranges.first_key_value().expect("some");
    assert!(first > 1000, "the oldest are dropped: {first}");
}

#[test]
fn readers_share_rows_that_move_although_clients_hold_much() {
    const ROWS: u32 = 6000;
    const READERS: usize = 60;
    // As of clients that do not read.
    let _held: Vec<Bytes> = (0..AMPLE / PIECE)
        .map(|_| super::super::pieces::count(vec![0; PIECE]))
        .collect();
    let mut tables = table_of(ROWS);
    let mut readers: Vec<Scan> = Vec::new();
    let (mut joined, mut shared, mut written) = (0, 0, 0);
    let mut random = 1_u64;
    let mut below = |most: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).expect("31 bits") % most
    };
    while joined < READERS || !readers.is_empty() {
        if joined < READERS {
            readers.push(tables.reader(1, 0));
            joined += 1;
        }
        let key = below(ROWS as usize);
        tables.write(0, u32::try_from(key).expect("few"), Some(80));
        for _ in 0..16.min(readers.len()) {
            let reader = below(readers.len());
            let scan = &mut readers[reader];
            let is_found = scan.pieces.as_ref().is_some_and(|pieces| {
                let found = pieces.find((scan.cursor, scan.until), &scan.position, None);
                found.is_ok()
            });
            shared += usize::from(is_found);
            written += usize::from(!is_found);
            let (_, may_have_more, _) = tables.piece(scan, PIECE);
            if !may_have_more {
                readers.swap_remove(reader);
            }
            if readers.is_empty() {
                break;
            }
        }
    }
    assert!(shared > written, "{shared} shared, {written} written");
}
