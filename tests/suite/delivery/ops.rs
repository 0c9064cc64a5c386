//! The operations of a simulation and its settings, and how likely each is.

use super::clock::DELETE_RETENTION;
use super::model::Kind;
use super::replica::Pick;
use super::setup::{PARTITIONS, Place, Setup, TOPICS, Wants};
use super::{CLIENTS, KEYS, REPLICAS};
use kafka_sse_bridge::config::{Lag, Start, WhenFull};
use proptest::prelude::*;

/// The next operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// Records with these keys, up to so many milliseconds old.
    Produce {
        place: Place,
        keys: Vec<(Option<u8>, Kind)>,
        skew: i64,
    },
    /// A replica reads, and hands on what it has after so many records each.
    Read {
        replica: usize,
        picks: Vec<Pick>,
        split: usize,
    },
    /// A replica looks for new partitions.
    Refresh {
        replica: usize,
    },
    /// A replica asks where partitions end.
    AskEnds {
        replica: usize,
    },
    AddPartition {
        topic: usize,
    },
    /// A partition that has no leader gets one.
    Lead {
        place: Place,
    },
    /// A partition gets another leader, which has all records.
    Elect {
        place: Place,
    },
    /// A partition gets another leader, which lacks the last records.
    Truncate {
        place: Place,
        eighths: usize,
    },
    /// A replica goes, with or without a word, and another begins in its place.
    Restart {
        replica: usize,
        is_graceful: bool,
    },
    /// A client takes at most so many events.
    Take {
        client: usize,
        count: usize,
        then: Then,
    },
    /// A client goes to a replica, with the id it has.
    Go {
        client: usize,
        replica: usize,
    },
    /// Records before this part of a partition go away.
    Retain {
        place: Place,
        eighths: usize,
    },
    /// All but the last record of each key go away, and tombstones whose time is over.
    Compact {
        place: Place,
    },
    /// The history pool takes no more jobs, or does again.
    Busy {
        is_busy: bool,
    },
    /// All jobs of the history pool fail.
    Fail,
    /// The clocks of the replicas are set wrong by so many seconds, until time passes or a replica starts.
    SetClocks {
        by: i64,
    },
    /// Time passes. Clients that have not taken everything are cut off, or take it before.
    Pass {
        seconds: u64,
        is_cut: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Then {
    Stay,
    Leave,
    /// A twin stays where the client is, and comes back in the end.
    Part,
}

fn place() -> impl Strategy<Value = Place> {
    (0..TOPICS.len(), 0..PARTITIONS).prop_map(|(topic, partition)| Place { topic, partition })
}

fn produce() -> impl Strategy<Value = Op> {
    // By ranges: a choice of strategies for every key would cost more than all the rest.
    let kind = (0..20_u8).prop_map(|number| match number {
        0..14 => Kind::Value,
        14..18 => Kind::Tombstone,
        18 => Kind::Bad,
        _ => Kind::Hole,
    });
    let key = (0..KEYS * 3 + 1).prop_map(|number| Some(number % KEYS).filter(|_| number < KEYS * 3));
    let keys = prop::collection::vec((key, kind), 1..16);
    // Now and then a backfill, with times from before anything is remembered.
    let skew = prop_oneof![6 => 0..5000_i64, 1 => 0..500_000_000_i64];
    (place(), keys, skew).prop_map(|(place, keys, skew)| Op::Produce { place, keys, skew })
}

pub fn op() -> impl Strategy<Value = Op> {
    let pick = (place(), 1..25_usize).prop_map(|(place, count)| Pick { place, count });
    let picks = prop::collection::vec(pick, 1..6);
    let read = (0..REPLICAS, picks, 1..30_usize).prop_map(|(replica, picks, split)| Op::Read {
        replica,
        picks,
        split,
    });
    let then = prop_oneof![3 => Just(Then::Stay), 2 => Just(Then::Leave), 1 => Just(Then::Part)];
    let take =
        (0..CLIENTS, 1..40_usize, then).prop_map(|(client, count, then)| Op::Take { client, count, then });
    let go = (0..CLIENTS, 0..REPLICAS).prop_map(|(client, replica)| Op::Go { client, replica });
    let restart =
        (0..REPLICAS, any::<bool>()).prop_map(|(replica, is_graceful)| Op::Restart { replica, is_graceful });
    let pass = (
        prop_oneof![
            2 => 1..20_u64,
            1 => 100..900_u64,
            1 => Just(DELETE_RETENTION),
            1 => 1500..3000_u64,
        ],
        any::<bool>(),
    );
    prop_oneof![
        12 => produce(),
        16 => read,
        12 => take,
        8 => go,
        2 => (0..REPLICAS).prop_map(|replica| Op::Refresh { replica }),
        2 => (0..REPLICAS).prop_map(|replica| Op::AskEnds { replica }),
        1 => (0..TOPICS.len()).prop_map(|topic| Op::AddPartition { topic }),
        1 => place().prop_map(|place| Op::Lead { place }),
        1 => place().prop_map(|place| Op::Elect { place }),
        3 => (place(), 0..8_usize).prop_map(|(place, eighths)| Op::Truncate { place, eighths }),
        2 => restart,
        3 => (place(), 0..8_usize).prop_map(|(place, eighths)| Op::Retain { place, eighths }),
        3 => place().prop_map(|place| Op::Compact { place }),
        2 => any::<bool>().prop_map(|is_busy| Op::Busy { is_busy }),
        1 => Just(Op::Fail),
        1 => (-3000..20_000_i64).prop_map(|by| Op::SetClocks { by }),
        3 => pass.prop_map(|(seconds, is_cut)| Op::Pass { seconds, is_cut }),
    ]
}

fn wants() -> impl Strategy<Value = Wants> {
    prop_oneof![
        4 => Just(Wants::All),
        1 => (0..KEYS * 4).prop_map(Wants::Key),
        1 => (0..PARTITIONS).prop_map(Wants::Partition),
        2 => (0..3_usize).prop_map(Wants::Shade),
    ]
}

fn setup(
    start: impl Strategy<Value = Start>,
    lag: impl Strategy<Value = Lag>,
    own_start: impl Strategy<Value = Option<Start>>,
) -> impl Strategy<Value = Setup> {
    let partitions = [1..=PARTITIONS - 1, 0..=2_usize];
    let log_bytes = prop_oneof![Just(2048_u64), Just(8192), Just(32768)];
    let clients = prop::collection::vec((own_start, wants()), CLIENTS);
    // With so few bytes the table forgets which keys have left it.
    let bytes = prop_oneof![2 => Just(1_u64 << 20), 1 => 2000..6000_u64];
    let when_full = prop_oneof![2 => Just(WhenFull::EvictOldest), 1 => Just(WhenFull::RefuseNew)];
    let bounds = (2..u64::from(KEYS), bytes, when_full);
    let bounds = prop_oneof![2 => Just(None), 3 => bounds.prop_map(Some)];
    let flags = (
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.7),
    );
    // A fifth of the values need a piece of their own, with which little else is as likely.
    let padding = prop_oneof![4 => Just(0_usize), 1 => Just(20_000)];
    let leaderless = prop::collection::vec((place(), 0..12_usize), 1..4);
    let leaderless = prop_oneof![2 => Just(Vec::new()), 1 => leaderless];
    let partitions = (partitions, leaderless);
    let sizes = (partitions, log_bytes, 0..20_usize, bounds, padding);
    (start, lag, flags, sizes, clients).prop_map(
        |(start, lag, flags, (partitions, log_bytes, preload, bounds, padding), clients)| {
            let (partitions, leaderless) = partitions;
            let (is_envelope, is_spread, is_fixed, has_times, has_ids, has_epochs) = flags;
            Setup {
                start,
                lag,
                is_envelope,
                // Where there are no times, it is not known which of two partitions has the latest record of a key.
                is_spread: is_spread && has_times,
                is_fixed,
                has_times,
                has_ids,
                has_epochs,
                partitions,
                leaderless,
                log_bytes,
                preload,
                bounds,
                padding: if start == Start::Snapshot { padding } else { 0 },
                clients,
            }
        },
    )
}

pub fn log_setup() -> impl Strategy<Value = Setup> {
    let start = || prop_oneof![Just(Start::Live), Just(Start::Earliest)];
    let lag = prop_oneof![3 => Just(Lag::Replay), 1 => Just(Lag::Disconnect)];
    setup(start(), lag, prop::option::of(start()))
}

pub fn table_setup() -> impl Strategy<Value = Setup> {
    let own_start = prop_oneof![
        6 => Just(None),
        2 => Just(Some(Start::Earliest)),
        1 => Just(Some(Start::Live)),
    ];
    let lag = prop_oneof![3 => Just(Lag::Latest), 1 => Just(Lag::Replay), 1 => Just(Lag::Disconnect)];
    setup(Just(Start::Snapshot), lag, own_start)
}
