//! The promises of delivery, by simulation: two replicas that read the same topics in different interleavings and are
//! restarted at any time, clients that are cut off anywhere and resume at either, logs that forget, retention,
//! compaction, partitions that are added and seen at different times or have no leader at first, full tables, backfills,
//! clocks that are set, and time that passes. It runs the real stream core, without network or real time, and a seed
//! determines every choice.
//!
//! [`ops`] generates the operations. [`model`] is Kafka, [`archive`] reads its past, [`replica`] feeds a stream as the
//! reading thread does, and [`browser`] checks what a client receives. [`cases`] and [`truncated_cases`] are
//! operations that failed once.

mod archive;
mod browser;
mod cases;
mod clock;
mod ids;
mod model;
mod ops;
mod reached;
mod replica;
mod setup;
mod truncated_cases;

use crate::trials;
use archive::{Shared, TERMS};
use browser::Browser;
use clock::{LOADING_PATIENCE, MAX_LAG};
use kafka_sse_bridge::stream::control::Goodbye;
use libtest_mimic::Trial;
use ops::{Op, Then, log_setup, op, table_setup};
use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;
use replica::Replica;
use setup::{Place, Setup};
use std::cell::RefCell;
use std::rc::Rc;

pub fn trials() -> Vec<Trial> {
    trials![
        a_log_client_gets_every_record_exactly_once_whatever_happens,
        a_table_client_ends_with_the_latest_of_every_key_whatever_happens,
        cases::what_lies_behind_the_range_of_a_replay_is_no_gap,
        cases::a_client_cut_off_between_two_resets_loses_nothing,
        cases::a_client_given_the_table_again_may_leave_half_way,
        cases::a_replica_that_does_not_know_a_partition_yet_keeps_its_first_offset_in_ids,
        cases::a_client_is_not_left_with_a_record_older_than_one_that_left_an_added_partition,
        truncated_cases::a_client_that_comes_to_a_lagging_replica_is_compared_with_the_truncated_log,
        truncated_cases::a_replay_beyond_an_unnoticed_truncation_is_followed_by_the_gap,
        truncated_cases::an_id_without_a_leader_epoch_beyond_a_truncated_log_is_taken_for_one_of_the_lost_records,
        truncated_cases::retention_waits_for_what_a_replica_must_go_back_for,
        truncated_cases::a_second_truncation_before_all_that_a_replica_has_read_is_noticed,
        cases::a_gap_of_a_shared_replay_names_nothing_that_a_client_has,
        truncated_cases::a_truncation_of_an_unread_partition_is_noticed_by_its_end,
        truncated_cases::an_id_beyond_a_truncation_of_an_unread_partition_is_taken_for_one_of_the_lost_records,
        truncated_cases::a_lost_record_without_a_successor_is_not_announced_by_a_later_replica,
        truncated_cases::an_id_from_before_the_reset_of_a_truncation_is_reset_too,
        truncated_cases::a_client_that_leaves_amid_rows_of_lost_records_may_keep_them,
        cases::a_client_that_visits_a_lagging_replica_keeps_no_hidden_row,
        cases::a_client_waits_a_minute_at_most_for_a_loading_replica_to_read_past_its_id,
    ]
}

fn a_log_client_gets_every_record_exactly_once_whatever_happens() {
    simulate(log_setup().boxed());
}

fn a_table_client_ends_with_the_latest_of_every_key_whatever_happens() {
    simulate(table_setup().boxed());
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

/// Runs one case.
fn run(setup: Setup, ops: Vec<Op>) -> Result<(), String> {
    on_paused_clock(World::new(setup).run(ops))
}

/// Runs on a clock that advances to the next deadline whenever all tasks wait.
fn on_paused_clock<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
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
            let has_forgotten =
                |replica: &Rc<RefCell<Replica>>| replica.borrow().stream.eviction_resets() > 0;
            self.kafka.lock().has_forgotten |= self.replicas.iter().any(has_forgotten);
        }
        self.kafka.lock().is_busy = false;
        self.kafka.lock().lead_all();
        self.read_all();
        let has_forgotten = |replica: &Rc<RefCell<Replica>>| replica.borrow().stream.eviction_resets() > 0;
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
        let kafka = self.kafka.lock();
        if place.partition < kafka.partitions(place.topic) && kafka.has_leader(place) {
            let high = kafka.high(place);
            // A truncation may not be noticed yet: what the replica has read behind it is of another log.
            let read = |replica: &Rc<RefCell<Replica>>| {
                let replica = replica.borrow();
                let same = kafka.divergence(place, replica.version(place), kafka.version(place));
                replica.has_read(place).map(|read| read.min(same))
            };
            let read = self.replicas.iter().filter_map(read);
            read.min().unwrap_or(high).min(high)
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
            Op::Elect { place } => self.kafka.lock().elect(place),
            Op::Truncate { place, eighths } => self.kafka.lock().truncate(place, eighths),
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
                clock::set_wrong(by);
                self.kafka.lock().was_behind |= by < 0;
            }
            Op::Pass { seconds, is_cut } => self.pass(seconds, is_cut).await?,
        }
        Ok(())
    }

    fn restart(&mut self, replica: usize, is_graceful: bool) {
        // The clock that a process starts with is all that it has.
        clock::set_wrong(0);
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
        clock::set_wrong(0);
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
        // Within about a second.
        for replica in &self.replicas {
            replica.borrow_mut().validate_all(&self.kafka.lock());
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
        clock::pass(seconds);
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
        for _ in 0..3 {
            if client.is_connected() && !client.is_caught_up() {
                // Its replica cannot read up to an id that is behind offsets without records.
                clock::pass(LOADING_PATIENCE);
                client.take(usize::MAX).await?;
            }
        }
        if client.is_connected() {
            return client.check();
        }
    }
    Err("it is let go again and again".to_owned())
}
