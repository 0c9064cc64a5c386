//! The daemon against the least a program could do for the same result, on this machine, in one run.
//!
//! ```text
//! cargo bench --bench bridge -- [fanout] [idle] [ingest] [start] [all] [--quick]
//! ```
//! The daemon runs as its own process, as an operator would start it, and so does what it is
//! compared with: this binary in another role (see `bare`). Both are measured in alternating rounds,
//! because a shared machine is never as fast as a minute ago; docs/benchmarks.md says how to read
//! the figures.

#![expect(
    unreachable_pub,
    reason = "nothing reaches into a benchmark: `pub` here means \"for the other modules\""
)]
#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

mod audience;
mod bare;
mod bridge;
mod count;
mod fanout;
mod idle;
mod ingest;
mod measure;
mod produce;
mod report;
mod start;

#[path = "../../tests/suite/harness/mod.rs"]
mod harness;

use harness::broker::{Broker, Version};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::ExitCode;

/// How much is done: enough for steady figures, or just enough to see that everything works.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Just enough.
    pub is_quick: bool,
}

impl Effort {
    /// One of two amounts.
    pub fn pick<T>(self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }
}

type Benchmark = fn(&Broker, Effort);

const BENCHMARKS: [(&str, Benchmark); 4] = [
    ("fanout", fanout::run),
    ("idle", idle::run),
    ("ingest", ingest::run),
    ("start", start::run),
];

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == bare::ROLE) {
        bare::main(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    // What cargo itself adds.
    arguments.retain(|argument| argument != "--bench");
    let effort = Effort {
        is_quick: arguments.iter().any(|argument| argument == "--quick"),
    };
    arguments.retain(|argument| argument != "--quick" && argument != "all");
    if let Some(unknown) = arguments
        .iter()
        .find(|name| BENCHMARKS.iter().all(|(known, _)| known != name))
    {
        eprintln!("{unknown:?} is no benchmark; known are fanout, idle, ingest, start and all, and --quick");
        return ExitCode::from(64);
    }
    raise_descriptor_limit();
    let broker = Broker::start(Version::V4_4);
    for (name, run) in BENCHMARKS {
        if arguments.is_empty() || arguments.iter().any(|wanted| wanted == name) {
            println!("\nload average before {name}: {}", measure::load());
            run(&broker, effort);
        }
    }
    drop(broker);
    harness::teardown();
    ExitCode::SUCCESS
}

/// Thousands of sockets here and in the processes started from here, which inherit the limit.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
