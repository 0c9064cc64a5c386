//! Many clients at once, on real brokers: nothing lost or doubled while they are cut off and daemons
//! die, slow ones cost the others nothing, and a whole audience may come at once.
//!
//! Short forms of what `scripts/soak` runs at full length.

use crate::harness::broker::{Broker, Version};
use crate::harness::wait::secs;
use crate::harness::{promise_on, trial};
use crate::proofs::{Report, busy, endurance, hostile, joining, leaders, slow_readers};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "clients_moved_between_failing_daemons_get_every_record_once@4.4.0",
            || endurance(Version::V4_4, "librdkafka"),
        ),
        trial(
            "clients_moved_between_failing_daemons_get_every_record_once_with_the_kafka_crate@3.9.2",
            || endurance(Version::V3_9, "kafka"),
        ),
        promise_on(
            Version::V4_4,
            stalled_clients_cost_no_memory_and_recover_completely,
        ),
        promise_on(
            Version::V4_4,
            an_audience_that_joins_at_once_gets_a_large_table_completely,
        ),
        promise_on(
            Version::V4_4,
            failing_freezing_and_restarting_brokers_lose_no_records,
        ),
        promise_on(
            Version::V4_4,
            busy_loops_and_many_filters_keep_no_answer_from_anybody,
        ),
        promise_on(Version::V4_4, hostile_clients_and_producers_cost_others_no_record),
    ]
}

/// Said before anything can fail, so that a run that failed can be tried again.
fn seed() -> u64 {
    let seed = rand::random();
    eprintln!("seed {seed}");
    seed
}

fn endurance(version: Version, client: &str) {
    assert_kept(&endurance::run(
        &Broker::shared(version),
        &endurance::Plan {
            client: client.to_owned(),
            seed: seed(),
            delivery: "auto",
            clients: 20,
            partitions: 8,
            records: 40_000,
            rate: 6_000,
            bytes: 60,
            connected: 100..800,
            alive: 1000..2500,
            kills: 2,
            log_bytes: "512KiB".to_owned(),
        },
    ));
}

fn stalled_clients_cost_no_memory_and_recover_completely() {
    assert_kept(&slow_readers::run(
        &Broker::shared(Version::V4_4),
        &slow_readers::Plan {
            seed: seed(),
            delivery: "auto",
            clients: 40,
            slow: 20,
            partitions: 4,
            keys: 5000,
            rate: 10_000,
            ahead: Some(500),
            bytes: 1024,
            log_bytes: "2MiB".to_owned(),
            write_timeout: None,
            records: [3000, 1000, 10_000, 1000],
            most_latency: None,
        },
    ));
}

fn an_audience_that_joins_at_once_gets_a_large_table_completely() {
    assert_kept(&joining::run(
        &Broker::shared(Version::V4_4),
        &joining::Plan {
            seed: seed(),
            delivery: "auto",
            clients: 40,
            partitions: 4,
            keys: 20_000,
            bytes: 100,
            rate: 500,
        },
    ));
}

fn failing_freezing_and_restarting_brokers_lose_no_records() {
    use leaders::Deed;
    assert_kept(&leaders::run(
        Version::V4_4,
        &leaders::Plan {
            seed: seed(),
            partitions: 6,
            rate: 1000,
            bytes: 100,
            deeds: vec![
                (0, Deed::Kill),
                // Twice as long as clients wait for an answer here.
                (1, Deed::Freeze(secs(4))),
                (2, Deed::Restart),
            ],
            properties: vec![("socket.timeout.ms".to_owned(), "2000".to_owned())],
        },
    ));
}

fn busy_loops_and_many_filters_keep_no_answer_from_anybody() {
    assert_kept(&busy::run(
        &Broker::shared(Version::V4_4),
        &busy::Plan {
            seed: seed(),
            delivery: "auto",
            // The test build is slow enough, and other trials run beside it.
            loops: 2,
            rows: 50_000,
            filters: 100,
            records: 5000,
            bytes: 1000,
            audience: 10,
            rate: 200,
            bounds: None,
        },
    ));
}

fn hostile_clients_and_producers_cost_others_no_record() {
    assert_kept(&hostile::run(
        &Broker::shared(Version::V4_4),
        &hostile::Plan {
            seed: seed(),
            delivery: "auto",
            lasts: secs(20),
            // The test build is slow enough, and shares its machine.
            limits: None,
            audience: 10,
            partitions: 4,
            rate: 300,
            bytes: 1000,
            filters: 100,
            filtered_rate: 100,
            unindexed: 20,
            returning: 20,
            storming: 20,
            asset: 1 << 20,
            keys: 5000,
            reload: secs(1),
            most_growth: None,
        },
    ));
}

/// # Panics
/// If something was not as promised.
#[track_caller]
fn assert_kept(report: &Report) {
    assert!(report.wrong.is_empty(), "{report}");
}
