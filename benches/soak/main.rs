//! The suite's proofs under load (`tests/suite/proofs`), at full length and against the release build.
//!
//! ```text
//! scripts/soak [endurance] [slow] [joining] [busy] [leaders] [hostile] [--delivery DRIVER] [NAME=VALUE...]
//! ```
//! Without a name, all of them. A value replaces one of the run's own (`--help` names them). Ends with 0
//! if everything was as promised, with 1 if not.

#![expect(
    unreachable_pub,
    reason = "nothing reaches into a test binary: `pub` here means \"for the other modules\""
)]
#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "findings are printed, and a run that fails has no caller for an error"
)]

#[path = "../../tests/suite/harness/mod.rs"]
mod harness;
#[path = "../../tests/suite/proofs/mod.rs"]
mod proofs;

use harness::broker::{Broker, Version};
use harness::cluster::NODES;
use harness::confined::Limits;
use proofs::leaders::Deed;
use proofs::{Report, busy, endurance, hostile, joining, leaders, slow_readers};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

const USAGE: &str = "\
scripts/soak [endurance] [slow] [joining] [busy] [leaders] [hostile] [--delivery DRIVER] [NAME=VALUE...]     without a name, all

endurance   clients cut off and moved between daemons that are killed
slow        half of the clients stop reading for a while
joining     an audience takes the snapshot of a large table all at once
busy        a large table beside busy loops, then hundreds of value filters: who waits how long
leaders     three brokers: every one is killed, then frozen, then restarted, while the daemon's thread reads
hostile     all at once that has killed or stalled a daemon, against one with limits of memory and CPU time

--delivery auto, io_uring, epoll or hyper: the daemons' http.delivery, in all but leaders, which has no clients
kafka=4.4.0     the broker's version, or 3.9.2
seed=N          repeats the random choices of another run
client=librdkafka, or kafka                         endurance
clients=50 records=1000000 rate=10000 log=4MiB      endurance
clients=200 rate=1000 stall=60 (seconds) log=8MiB   slow
clients=200 keys=20000 rate=500                     joining
loops=24 rows=4000000 filters=500 records=500000
clients=20 rate=200                                 busy
rate=1000 frozen=40 (seconds) rounds=1              leaders
minutes=10 memory=1024 (MiB) cpu=50 (percent of a core; 0: no limits) clients=50 rate=200 filters=500
returning=70 storming=100 keys=100000               hostile";

type Run = fn(&Kafka, &mut Values) -> Result<Report, String>;

const RUNS: [(&str, Run); 6] = [
    ("endurance", run_endurance),
    ("slow", run_slow),
    ("joining", run_joining),
    ("busy", run_busy),
    ("leaders", run_leaders),
    ("hostile", run_hostile),
];

/// The values of `http.delivery`, and the name that the one to use has among the values of a run.
const DRIVERS: [&str; 4] = ["auto", "io_uring", "epoll", "hyper"];
const DELIVERY: &str = "delivery";

/// A broker for all runs that need only one, started by the first of them.
struct Kafka {
    version: Version,
    broker: OnceCell<Broker>,
}

impl Kafka {
    fn broker(&self) -> &Broker {
        self.broker.get_or_init(|| Broker::start(self.version))
    }
}

/// The parsed command line.
#[derive(Default)]
struct Values {
    given: BTreeMap<String, String>,
    used: Vec<&'static str>,
}

impl Values {
    fn get<T: FromStr>(&mut self, name: &'static str, otherwise: T) -> Result<T, String> {
        self.used.push(name);
        match self.given.get(name) {
            Some(value) => value.parse().map_err(|_| format!("{name}={value}: not a value")),
            None => Ok(otherwise),
        }
    }

    fn delivery(&mut self) -> Result<&'static str, String> {
        let name: String = self.get(DELIVERY, DRIVERS[0].to_owned())?;
        let driver = DRIVERS.into_iter().find(|driver| *driver == name);
        driver.ok_or_else(|| format!("--delivery {name}: not one of {}", DRIVERS.join(", ")))
    }

    fn seed(&mut self) -> Result<u64, String> {
        let seed = self.get("seed", rand::random())?;
        println!("seed {seed}");
        Ok(seed)
    }
}

fn main() -> ExitCode {
    let mut values = Values::default();
    let mut wanted = Vec::new();
    // Cargo adds an argument of its own.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        if argument == "--delivery" {
            let driver = arguments.next().unwrap_or_default();
            values.given.insert(DELIVERY.to_owned(), driver);
            continue;
        }
        let run = RUNS.iter().find(|(name, _)| *name == argument);
        match (run, argument.split_once('=')) {
            (Some(run), _) => wanted.push(*run),
            (None, Some((name, value))) => {
                values.given.insert(name.to_owned(), value.to_owned());
            }
            (None, None) => {
                let is_help = matches!(argument.as_str(), "--help" | "-h");
                println!("{USAGE}");
                return ExitCode::from(if is_help { 0 } else { 64 });
            }
        }
    }
    if wanted.is_empty() {
        wanted.extend(RUNS);
    }
    let outcome = run(&wanted, &mut values);
    harness::teardown();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(64)
        }
    }
}

/// Runs all, and returns whether every promise was kept.
fn run(wanted: &[(&str, Run)], values: &mut Values) -> Result<bool, String> {
    let number = values.get("kafka", Version::V4_4.number().to_owned())?;
    let version = Version::ALL
        .into_iter()
        .find(|version| version.number() == number);
    let version = version.ok_or_else(|| format!("kafka={number}: no version of the tests"))?;
    let kafka = Kafka {
        version,
        broker: OnceCell::new(),
    };
    let mut is_kept = true;
    for (name, run) in wanted {
        println!("\n{name}, on Kafka {version}");
        let report = run(&kafka, values)?;
        let verdict = if report.wrong.is_empty() {
            "as promised"
        } else {
            "NOT AS PROMISED"
        };
        println!("{report}{name}: {verdict}");
        is_kept &= report.wrong.is_empty();
    }
    let unused = values
        .given
        .keys()
        .find(|name| !values.used.contains(&name.as_str()));
    unused.map_or(Ok(is_kept), |name| Err(format!("{name} was not used")))
}

fn run_endurance(kafka: &Kafka, values: &mut Values) -> Result<Report, String> {
    let plan = endurance::Plan {
        client: values.get("client", "librdkafka".to_owned())?,
        seed: values.seed()?,
        delivery: values.delivery()?,
        clients: values.get("clients", 50)?,
        partitions: 8,
        records: values.get("records", 1_000_000)?,
        rate: values.get("rate", 10_000)?,
        bytes: 100,
        connected: 100..900,
        alive: 3000..9000,
        kills: 4,
        log_bytes: values.get("log", "4MiB".to_owned())?,
    };
    Ok(endurance::run(kafka.broker(), &plan))
}

fn run_slow(kafka: &Kafka, values: &mut Values) -> Result<Report, String> {
    let clients = values.get("clients", 200)?;
    let rate: u32 = values.get("rate", 1000)?;
    let stall: u32 = values.get("stall", 60)?;
    let plan = slow_readers::Plan {
        seed: values.seed()?,
        delivery: values.delivery()?,
        clients,
        slow: clients / 2,
        partitions: 4,
        keys: 10_000,
        rate,
        ahead: None,
        bytes: 1000,
        log_bytes: values.get("log", "8MiB".to_owned())?,
        write_timeout: Some(WRITE_TIMEOUT.to_owned()),
        records: [15 * rate, 30 * rate, stall * rate, 20 * rate],
        most_latency: Some(1.5),
    };
    Ok(slow_readers::run(kafka.broker(), &plan))
}

/// Longer than the stall.
const WRITE_TIMEOUT: &str = "2m";

fn run_joining(kafka: &Kafka, values: &mut Values) -> Result<Report, String> {
    let plan = joining::Plan {
        seed: values.seed()?,
        delivery: values.delivery()?,
        clients: values.get("clients", 200)?,
        partitions: 4,
        keys: values.get("keys", 20_000)?,
        bytes: 100,
        rate: values.get("rate", 500)?,
    };
    Ok(joining::run(kafka.broker(), &plan))
}

fn run_busy(kafka: &Kafka, values: &mut Values) -> Result<Report, String> {
    let plan = busy::Plan {
        seed: values.seed()?,
        delivery: values.delivery()?,
        loops: values.get("loops", 24)?,
        rows: values.get("rows", 4_000_000)?,
        filters: values.get("filters", 500)?,
        records: values.get("records", 500_000)?,
        bytes: 1000,
        audience: values.get("clients", 20)?,
        rate: values.get("rate", 200)?,
        bounds: Some(busy::Bounds {
            ping: Duration::from_secs(10),
            answer: Duration::from_millis(250),
            latency: Duration::from_millis(250),
        }),
    };
    Ok(busy::run(kafka.broker(), &plan))
}

fn run_leaders(kafka: &Kafka, values: &mut Values) -> Result<Report, String> {
    let frozen = Duration::from_secs(values.get("frozen", 40)?);
    let deeds = [Deed::Kill, Deed::Freeze(frozen), Deed::Restart];
    let round = deeds
        .iter()
        .flat_map(|&deed| (0..NODES).map(move |node| (node, deed)));
    let rounds: usize = values.get("rounds", 1)?;
    let plan = leaders::Plan {
        seed: values.seed()?,
        partitions: 6,
        rate: values.get("rate", 1000)?,
        bytes: 100,
        deeds: round.cycle().take(rounds * deeds.len() * NODES).collect(),
        // The daemon's own: a connection is given up after 10 seconds without an answer.
        properties: Vec::new(),
    };
    Ok(leaders::run(kafka.version, &plan))
}

fn run_hostile(kafka: &Kafka, values: &mut Values) -> Result<Report, String> {
    let minutes: f64 = values.get("minutes", 10.0)?;
    let memory: u64 = values.get("memory", 1024)?;
    let cpu = values.get("cpu", 50)?;
    let plan = hostile::Plan {
        seed: values.seed()?,
        delivery: values.delivery()?,
        lasts: Duration::try_from_secs_f64(minutes * 60.0)
            .map_err(|error| format!("minutes={minutes}: {error}"))?,
        limits: (cpu > 0).then_some(Limits {
            memory: memory << 20,
            cpu,
        }),
        audience: values.get("clients", 50)?,
        partitions: 4,
        rate: values.get("rate", 200)?,
        bytes: 1000,
        filters: values.get("filters", 500)?,
        filtered_rate: 100,
        unindexed: 50,
        returning: values.get("returning", 70)?,
        storming: values.get("storming", 100)?,
        asset: 5 << 20,
        keys: values.get("keys", 100_000)?,
        reload: Duration::from_secs(1),
        // In a shorter time a quarter is too short to compare.
        most_growth: (minutes >= 4.0).then_some(115),
    };
    Ok(hostile::run(kafka.broker(), &plan))
}
