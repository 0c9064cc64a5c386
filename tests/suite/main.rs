//! The black-box test suite: the real binary against real Kafka brokers and a real browser.
//!
//! A `main` of its own, because brokers are shared between tests and must be gone when the run is:
//! libtest has no place for "after the last test". Each module offers `trials()`; names, filters and
//! `--list` work as with `cargo test`.

#![expect(
    unreachable_pub,
    reason = "nothing reaches into a test binary: `pub` here means \"for the other modules\""
)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "clippy knows tests by #[test], and these are not: they fail by a panic and say what they saw"
)]

mod abuse;
mod activation;
mod added_fields;
mod assets;
mod auth;
mod base_path;
mod changed_topics;
mod client_library;
mod clocks;
mod common;
mod configuration;
mod configuration_lists;
mod configuration_rules;
mod connections;
mod connectors;
mod contract;
mod cors;
mod counted;
mod decoded_frames;
mod decoders;
mod decoding;
mod delivery;
mod demo;
mod described_schemas;
mod descriptions;
mod docs;
mod doctor;
mod doctor_kafka;
mod documents;
mod evicted_keys;
mod filter_model;
mod filter_paths;
mod filter_races;
mod filtered_backlogs;
mod filtered_readers;
mod filters;
mod fixed_filters;
mod framing;
mod gaps_and_resets;
mod harness;
mod harness_selftest;
mod history;
mod http2;
mod identity;
mod kafka_clients;
mod keys;
mod known_deletes;
mod lag;
mod large_records;
mod layers;
mod lifecycle;
mod limits;
mod listed_streams;
mod loading;
mod logs;
mod memory_limit;
mod metrics;
mod missing_schemas;
mod outages;
mod outside_values;
mod own_page;
mod page;
mod pages;
mod panics;
mod parameters;
mod path_parameters;
mod positions;
mod proofs;
mod reading;
mod registered;
mod registry_outages;
mod reload;
mod reload_differences;
mod reload_endurance;
mod reload_kafka;
mod reload_streams;
mod replays;
mod reshaping;
mod resuming;
mod retention;
mod rig;
mod samples;
mod schema_registry;
mod scripted;
mod security;
mod security_refusals;
mod security_settings;
mod seed;
mod serializers;
mod shared_topics;
mod since;
mod sse_clients;
mod subscriptions;
mod supervision;
mod table_memory;
mod tables;
mod tail;
mod tail_parser;
mod throttles;
mod tls;
mod transports;
mod truncation;
mod unclean_elections;
mod under_load;
mod unusable;
mod views;
mod write_timeouts;
mod writers;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Ok(thread) = std::env::var(panics::THREAD) {
        panics::child(&thread);
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or_else(threads);
    let conclusion = libtest_mimic::run(&arguments, all_trials());
    harness::report_slowest();
    harness::teardown();
    conclusion.exit_code()
}

/// One more than there are processors: trials wait for brokers, browsers and deadlines more than they compute.
fn threads() -> Option<usize> {
    let processors = std::thread::available_parallelism().ok()?;
    Some(processors.get() + 1)
}

fn all_trials() -> Vec<Trial> {
    [
        harness_selftest::trials(),
        framing::trials(),
        layers::trials(),
        positions::trials(),
        documents::trials(),
        descriptions::trials(),
        described_schemas::trials(),
        throttles::trials(),
        reshaping::trials(),
        registered::trials(),
        registry_outages::trials(),
        serializers::trials(),
        subscriptions::trials(),
        filters::trials(),
        fixed_filters::trials(),
        filtered_readers::trials(),
        filtered_backlogs::trials(),
        filter_model::trials(),
        filter_paths::trials(),
        filter_races::trials(),
        gaps_and_resets::trials(),
        path_parameters::trials(),
        table_memory::trials(),
        tables::trials(),
        client_library::trials(),
        clocks::trials(),
        truncation::trials(),
        unclean_elections::trials(),
        unusable::trials(),
        tail_parser::trials(),
        tail::trials(),
        delivery::trials(),
        samples::trials(),
        docs::trials(),
        configuration::trials(),
        configuration_lists::trials(),
        configuration_rules::trials(),
        security_settings::trials(),
        schema_registry::trials(),
        pages::trials(),
        page::trials(),
        assets::trials(),
        auth::trials(),
        parameters::trials(),
        reading::trials(),
        history::trials(),
        identity::trials(),
        keys::trials(),
        known_deletes::trials(),
        lag::trials(),
        large_records::trials(),
        loading::trials(),
        replays::trials(),
        seed::trials(),
        resuming::trials(),
        since::trials(),
        changed_topics::trials(),
        retention::trials(),
        kafka_clients::trials(),
        contract::trials(),
        write_timeouts::trials(),
        limits::trials(),
        base_path::trials(),
        tls::trials(),
        http2::trials(),
        transports::trials(),
        connections::trials(),
        memory_limit::trials(),
        metrics::trials(),
        counted::trials(),
        sse_clients::trials(),
        lifecycle::trials(),
        abuse::trials(),
        activation::trials(),
        added_fields::trials(),
        logs::trials(),
        panics::trials(),
        outside_values::trials(),
        supervision::trials(),
        writers::trials(),
        reload_differences::trials(),
        reload::trials(),
        reload_streams::trials(),
        reload_kafka::trials(),
        reload_endurance::trials(),
        decoded_frames::trials(),
        decoders::trials(),
        decoding::trials(),
        demo::trials(),
        evicted_keys::trials(),
        doctor::trials(),
        doctor_kafka::trials(),
        security::trials(),
        outages::trials(),
        under_load::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
