//! The daemon against the least a program could do for the same result, on this machine, in one run.
//!
//! ```text
//! cargo bench --bench bridge -- [NAME...] [--quick] [--against PATH] [--delivery DRIVER]
//! ```
//! Names are those in `BENCHMARKS`, and `delivery` for those in `OF_DELIVERY`; without one, all of them run but `PROCESSES`.
//!
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
    reason = "a benchmark prints, and has no caller for an error"
)]

mod arrival;
mod audience;
mod bare;
mod bare_loop;
mod blocks;
mod bridge;
mod chunks;
mod churn;
mod compare;
mod count;
mod decode;
mod document;
mod drain;
mod fanout;
mod filtered;
mod handshakes;
mod idle;
mod ingest;
mod joining;
mod measure;
mod paths;
mod position;
mod processes;
mod produce;
mod quiet;
mod receivers;
mod reload;
mod report;
mod ring;
mod stalled;
mod start;
mod storm;
mod straggler;
mod streams;
mod table;
mod throttle;
mod topics;
mod transactions;
mod transports;

#[path = "../../tests/suite/harness/mod.rs"]
mod harness;

use harness::broker::{Broker, Version};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::PathBuf;
use std::process::ExitCode;

/// The parsed command line.
#[derive(Default)]
pub struct Options {
    /// Just enough to see that everything works, instead of enough for steady figures.
    pub is_quick: bool,
    /// Another build of the daemon, to compare this one with.
    pub against: Option<PathBuf>,
    /// The value of `http.delivery`; none leaves it to the daemon.
    delivery: Option<String>,
    /// Benchmarks asked for by name; none is all.
    names: Vec<String>,
}

/// What a figure should be, by the driver of connections. None is no target.
pub struct Target {
    hyper: Option<f64>,
    epoll: Option<f64>,
    io_uring: Option<f64>,
}

impl Target {
    /// A target for each.
    pub fn by_driver(hyper: f64, epoll: f64, io_uring: f64) -> Target {
        Target {
            hyper: Some(hyper),
            epoll: Some(epoll),
            io_uring: Some(io_uring),
        }
    }

    /// No target for hyper.
    pub fn of_engine(epoll: f64, io_uring: f64) -> Target {
        Target {
            hyper: None,
            epoll: Some(epoll),
            io_uring: Some(io_uring),
        }
    }
}

/// The known values of `http.delivery`.
const DRIVERS: [&str; 4] = ["auto", "io_uring", "epoll", "hyper"];

impl Options {
    /// One of two amounts.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// That of the driver that is measured.
    pub fn target(&self, target: &Target) -> Option<f64> {
        match self.delivery.as_deref() {
            Some("hyper") => target.hyper,
            Some("epoll") => target.epoll,
            // The daemon's default, where the kernel allows it.
            None | Some(_) => target.io_uring,
        }
    }

    fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // Arguments that cargo adds.
                "--bench" | "all" => {}
                "--quick" => options.is_quick = true,
                "--against" => {
                    let path = arguments.next().ok_or("--against wants the path of a daemon")?;
                    options.against = Some(path.into());
                }
                "--delivery" => {
                    let driver = arguments.next().filter(|name| DRIVERS.contains(&name.as_str()));
                    let wanted = || format!("--delivery wants one of {}", DRIVERS.join(", "));
                    options.delivery = Some(driver.ok_or_else(wanted)?);
                }
                "delivery" => options.names.extend(OF_DELIVERY.map(str::to_owned)),
                name if BENCHMARKS.iter().any(|(known, _)| *known == name) => options.names.push(argument),
                _ => {
                    let known = BENCHMARKS.map(|(known, _)| known).join(", ");
                    return Err(format!(
                        "{argument:?} is no benchmark; known are {known}, delivery and all, --quick, --against PATH and \
                         --delivery DRIVER"
                    ));
                }
            }
        }
        let wants_other = options.names.iter().any(|name| name == COMPARE);
        if wants_other && options.against.is_none() {
            return Err(format!(
                "{COMPARE} wants --against PATH, another build of the daemon"
            ));
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        if self.names.is_empty() {
            name != PROCESSES && (name != COMPARE || self.against.is_some())
        } else {
            self.names.iter().any(|wanted| wanted == name)
        }
    }
}

type Benchmark = fn(&Broker, &Options);

/// The one that needs another build.
const COMPARE: &str = "compare";

/// The one that needs most of a machine's memory, and runs only by its name.
const PROCESSES: &str = "fanout-95000";

/// Those of the delivery to clients.
const OF_DELIVERY: [&str; 11] = [
    "fanout",
    "fanout-10000",
    "fanout-19000",
    "filtered",
    "storm",
    "joining",
    "idle",
    "quiet",
    "churn",
    "streams",
    "straggler",
];

const BENCHMARKS: [(&str, Benchmark); 27] = [
    ("fanout", fanout::run),
    ("fanout-10000", fanout::run_large),
    ("fanout-19000", fanout::run_largest),
    (PROCESSES, processes::run),
    ("transports", transports::run),
    ("handshakes", handshakes::run),
    ("arrival", arrival::run),
    ("filtered", filtered::run),
    ("storm", storm::run),
    ("joining", joining::run),
    ("idle", idle::run),
    ("quiet", quiet::run),
    ("churn", churn::run),
    ("streams", streams::run),
    ("straggler", straggler::run),
    ("reload", reload::run),
    ("ingest", ingest::run),
    ("table", table::run),
    ("document", document::run),
    ("throttle", throttle::run),
    ("stalled", stalled::run),
    ("topics", topics::run),
    ("transactions", transactions::run),
    ("start", start::run),
    ("position", position::run),
    ("decode", decode::run),
    (COMPARE, compare::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == bare::ROLE) {
        bare::main(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(arguments.into_iter()) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(64);
        }
    };
    if let Some(driver) = &options.delivery {
        bridge::DELIVERY.set(driver.clone()).expect("set once");
        println!("http.delivery = {driver:?}");
    }
    raise_descriptor_limit();
    let broker = Broker::start(Version::V4_4);
    for (name, run) in BENCHMARKS {
        if options.wants(name) {
            println!("\nload average before {name}: {}", measure::load());
            run(&broker, &options);
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

/// Descriptors that a process may have.
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX)
}
