//! Runs a target of `kafka_sse_bridge::fuzzing` under libFuzzer: the one that the environment names. `scripts/fuzz` builds
//! and starts it.

#![no_main]

use std::process::exit;
use std::sync::{Arc, OnceLock};

use kafka_sse_bridge::fuzzing::TARGETS;
use libfuzzer_sys::fuzz_target;
use signal_hook::consts::SIGPIPE;

/// Names the target.
const VARIABLE: &str = "KAFKA_SSE_BRIDGE_FUZZ";

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

/// The named target. Without one, prints the names of all.
fn chosen() -> fn(&[u8]) {
    let name = std::env::var(VARIABLE).unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        for target in TARGETS {
            println!("{}", target.name);
        }
        exit(64);
    };
    // As in a program whose `main` is Rust's: a write to a socket whose peer is gone is an error, and ends nothing.
    signal_hook::flag::register(SIGPIPE, Arc::default()).expect("a handler");
    target.run
}

fuzz_target!(
    init: {
        RUN.get_or_init(chosen);
    },
    |data: &[u8]| {
        if let Some(run) = RUN.get() {
            run(data);
        }
    }
);
