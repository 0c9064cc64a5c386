//! The promises of delivery, by simulation: two replicas that read the same topics in different
//! interleavings and start anew at any time, clients that are cut off anywhere and come back to either,
//! logs that forget, retention, compaction, partitions that are added and seen at different times or have no leader at first, full tables,
//! backfills, clocks that are set, and time that passes. The real stream room, without network, real time or chance
//! beyond the seed.
//!
//! [`cases`] are those that failed once. [`model`] is Kafka, [`archive`] its past, [`replica`] feeds a stream as the reading thread would, and [`browser`] knows
//! what it may be told.

mod archive;
mod browser;
mod cases;
mod model;
mod replica;

use crate::harness::trial;
use archive::{Shared, TERMS};
use browser::Browser;
use kafka_sse_bridge::config::{Lag, Start, WhenFull};
use kafka_sse_bridge::stream::control::Goodbye;
use libtest_mimic::Trial;
use model::{Kind, MAX_LAG, PARTITIONS, Place, Setup, TOPICS, Wants};
use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;
use replica::{Pick, Replica};
use std::cell::RefCell;
use std::rc::Rc;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a_log_client_gets_every_record_exactly_once_whatever_happens",
            || simulate(log_setup().boxed()),
        ),
        trial(
            "a_table_client_ends_with_the_latest_of_every_key_whatever_happens",
            || simulate(table_setup().boxed()),
        ),
        trial(
            "what_lies_behind_the_range_of_a_replay_is_no_gap",
            cases::past_the_range,
        ),
        trial(
            "a_client_cut_off_between_two_resets_loses_nothing",
            cases::between_resets,
        ),
        trial(
            "a_client_given_the_table_again_may_leave_half_way",
            cases::table_again,
        ),
        trial(
            "a_replica_that_does_not_know_a_partition_yet_keeps_its_first_offset_in_ids",
            cases::unknown_partition,
        ),
        trial(
            "a_client_is_not_left_with_a_record_older_than_one_that_left_an_added_partition",
            cases::departed_from_an_added_partition,
        ),
    ]
}

/// Cases where `PROPTEST_CASES` names no number. A long run:
/// `PROPTEST_CASES=25000 cargo test --test suite -- whatever_happens`.
const CASES: u32 = 200;
const KEYS: u8 = 6;
const REPLICAS: usize = 2;
const CLIENTS: usize = 3;

/// Most clients whose state is kept, to come back to every replica in the end.
const TWINS: usize = 6;

/// A connection that takes nothing for longer (in seconds) is closed.
const PATIENCE: u64 = 30;

/// What happens next.
#[derive(Clone, Debug)]
enum Op {
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
enum Then {
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

fn op() -> impl Strategy<Value = Op> {
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
            1 => Just(model::DELETE_RETENTION),
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
            let (is_envelope, is_spread, is_fixed, has_times, has_ids) = flags;
            Setup {
                start,
                lag,
                is_envelope,
                // Where there are no times, it is not known which of two partitions has the latest record of a key.
                is_spread: is_spread && has_times,
                is_fixed,
                has_times,
                has_ids,
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

fn log_setup() -> impl Strategy<Value = Setup> {
    let start = || prop_oneof![Just(Start::Live), Just(Start::Earliest)];
    let lag = prop_oneof![3 => Just(Lag::Replay), 1 => Just(Lag::Disconnect)];
    setup(start(), lag, prop::option::of(start()))
}

fn table_setup() -> impl Strategy<Value = Setup> {
    let own_start = prop_oneof![
        6 => Just(None),
        2 => Just(Some(Start::Earliest)),
        1 => Just(Some(Start::Live)),
    ];
    let lag = prop_oneof![3 => Just(Lag::Latest), 1 => Just(Lag::Replay), 1 => Just(Lag::Disconnect)];
    setup(Just(Start::Snapshot), lag, own_start)
}

/// Runs one case.
fn run(setup: Setup, ops: Vec<Op>) -> Result<(), String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // Its clock goes on to the next deadline whenever all tasks wait.
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(World::new(setup).run(ops))
}

fn simulate(setup: BoxedStrategy<Setup>) {
    let mut config = ProptestConfig {
        rng_algorithm: RngAlgorithm::XorShift,
        // In milliseconds.
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    proptest!(config, |(setup in setup, ops in prop::collection::vec(op(), 10..120))| {
        run(setup, ops).map_err(TestCaseError::fail)?;
    });
}

struct World {
    kafka: Shared,
    replicas: Vec<Rc<RefCell<Replica>>>,
    clients: Vec<Browser>,
    twins: Vec<Browser>,
    /// For how many seconds at most a replica may have lagged.
    lag: u64,
}

impl World {
    fn new(setup: Setup) -> Self {
        let clients = setup.clients.clone();
        let kafka = Shared::new(setup);
        let replica = || Rc::new(RefCell::new(Replica::new(&kafka)));
        Self {
            replicas: (0..REPLICAS).map(|_| replica()).collect(),
            clients: clients
                .into_iter()
                .map(|client| Browser::new(kafka.clone(), client))
                .collect(),
            twins: Vec::new(),
            lag: 0,
            kafka,
        }
    }

    async fn run(mut self, ops: Vec<Op>) -> Result<(), String> {
        for (number, op) in ops.into_iter().enumerate() {
            let name = format!("operation {number}, {op:?}");
            self.apply(op).await.map_err(|what| format!("{name}: {what}"))?;
            let has_forgotten = |replica: &Rc<RefCell<Replica>>| replica.borrow().stream.forgettings() > 0;
            self.kafka.lock().has_forgotten |= self.replicas.iter().any(has_forgotten);
        }
        self.kafka.lock().is_busy = false;
        self.kafka.lock().lead_all();
        self.read_all();
        let has_forgotten = |replica: &Rc<RefCell<Replica>>| replica.borrow().stream.forgettings() > 0;
        self.kafka.lock().has_forgotten |= self.replicas.iter().any(has_forgotten);
        for (number, client) in self.clients.iter_mut().enumerate() {
            let replica = &self.replicas[number % REPLICAS];
            let ended = end(client, replica).await;
            ended.map_err(|what| format!("client {number} in the end: {what}"))?;
        }
        // Wherever a client was cut off, it can go on at any replica.
        for (number, twin) in self.twins.iter().enumerate() {
            for replica in &self.replicas {
                let ended = end(&mut twin.twin(), replica).await;
                ended.map_err(|what| format!("twin {number} in the end: {what}"))?;
            }
        }
        Ok(())
    }

    fn read_all(&mut self) {
        for replica in &self.replicas {
            replica.borrow_mut().read_all(&self.kafka.lock());
        }
        self.lag = 0;
    }

    /// Up to where all replicas have read a partition that have begun to read it: readers keep up.
    fn read(&self, place: Place) -> usize {
        let read = self
            .replicas
            .iter()
            .filter_map(|replica| replica.borrow().has_read(place));
        let kafka = self.kafka.lock();
        if place.partition < kafka.partitions(place.topic) && kafka.has_leader(place) {
            read.min().unwrap_or_else(|| kafka.high(place))
        } else {
            0
        }
    }

    async fn apply(&mut self, op: Op) -> Result<(), String> {
        match op {
            Op::Produce { place, keys, skew } => self.kafka.lock().produce(place, &keys, skew),
            Op::Read {
                replica,
                picks,
                split,
            } => {
                self.replicas[replica]
                    .borrow_mut()
                    .read(&self.kafka.lock(), &picks, split);
            }
            Op::Refresh { replica } => self.replicas[replica].borrow_mut().refresh(&self.kafka.lock()),
            Op::AskEnds { replica } => self.replicas[replica].borrow_mut().ask_ends(&self.kafka.lock()),
            Op::Lead { place } => self.kafka.lock().lead(place),
            Op::AddPartition { topic } => self.kafka.lock().add_partition(topic),
            Op::Restart { replica, is_graceful } => self.restart(replica, is_graceful),
            Op::Take { client, count, then } => {
                self.clients[client].take(count).await?;
                match then {
                    Then::Leave => self.clients[client].leave(),
                    Then::Part if self.twins.len() < TWINS => self.twins.push(self.clients[client].twin()),
                    Then::Stay | Then::Part => {}
                }
            }
            Op::Go { client, replica } => self.clients[client].go(&self.replicas[replica]),
            Op::Retain { place, eighths } => {
                let to = self.read(place) * eighths / 8;
                self.kafka.lock().retain(place, to);
            }
            Op::Compact { place } => {
                let to = self.read(place);
                let mut kafka = self.kafka.lock();
                if kafka.setup.has_table() {
                    kafka.compact(place, to);
                }
            }
            Op::Busy { is_busy } => self.kafka.lock().is_busy = is_busy,
            Op::Fail => self.kafka.lock().failures += 1,
            Op::SetClocks { by } => {
                model::set_wrong(by);
                self.kafka.lock().was_behind |= by < 0;
            }
            Op::Pass { seconds, is_cut } => self.pass(seconds, is_cut).await?,
        }
        Ok(())
    }

    fn restart(&mut self, replica: usize, is_graceful: bool) {
        // The clock that a process starts with is all that it has.
        model::set_wrong(0);
        let new = Rc::new(RefCell::new(Replica::new(&self.kafka)));
        let old = std::mem::replace(&mut self.replicas[replica], new);
        if is_graceful {
            // Its clients hear of it when they listen again.
            old.borrow().stream.close(Goodbye::Shutdown);
            return;
        }
        for client in &mut self.clients {
            if client.is_connected_to(&old) {
                client.leave();
            }
        }
    }

    async fn pass(&mut self, seconds: u64, is_cut: bool) -> Result<(), String> {
        model::set_wrong(0);
        self.lag += seconds;
        if self.lag > MAX_LAG {
            let mut kafka = self.kafka.lock();
            if kafka.setup.is_spread {
                // An older record that comes after a delete in another partition was forgotten is shown.
                kafka.lead_all();
            }
            drop(kafka);
            self.read_all();
        }
        if seconds > PATIENCE {
            for client in &mut self.clients {
                if is_cut {
                    client.leave();
                } else {
                    client.take(usize::MAX).await?;
                }
            }
        }
        model::pass(seconds);
        Ok(())
    }
}

/// Lets a client take everything, and sees that it was everything.
async fn end(client: &mut Browser, replica: &Rc<RefCell<Replica>>) -> Result<(), String> {
    // As often as its server may have to let it go.
    for _ in 0..100 {
        if !client.is_connected() {
            client.go(replica);
        }
        client.take(usize::MAX).await?;
        // One who takes nothing may hold up a replay that it shares, until patience with it is over.
        for _ in 0..100 {
            if client.is_caught_up() || !client.is_connected() {
                break;
            }
            tokio::time::sleep(2 * TERMS.slow_reader_timeout).await;
            client.take(usize::MAX).await?;
        }
        if client.is_connected() {
            return client.check();
        }
    }
    Err("it is let go again and again".to_owned())
}
