//! Five daemons on this machine, each with as many clients as a process has descriptors for: that all are served, what
//! memory a client takes, of the daemons and of the kernel, and what a delivery costs.

use crate::audience::{Receive, spread};
use crate::bridge::{Bridge, Launch, PATH};
use crate::fanout::every;
use crate::harness::broker::Broker;
use crate::measure::{KernelMemory, Meter, kernel_memory, median, memory};
use crate::produce::Source;
use crate::receivers::Receivers;
use crate::report::{Table, figure};
use crate::{Options, PROCESSES, descriptors};
use std::thread;
use std::time::Duration;

const DAEMONS: usize = 5;

/// Clients of a daemon, if there are descriptors for them and for a thousand other files.
const CLIENTS: usize = 19_000;

const PAUSE: Duration = Duration::from_secs(1);

/// Long enough for pages that were freed to be given back. In a quick run it is not.
const SETTLE: Duration = Duration::from_secs(12);
const SETTLE_QUICKLY: Duration = Duration::from_secs(2);

/// Memory at a time, in KiB.
struct Stage {
    daemons: u64,
    kernel: KernelMemory,
}

/// The figures of the rounds, one value for each.
#[derive(Default)]
struct Rounds {
    /// Microseconds per delivery.
    cpu: Vec<f64>,
    /// Milliseconds.
    p50: Vec<f64>,
    p99: Vec<f64>,
    spread: Vec<f64>,
}

/// The daemons, each with a process of clients.
struct Party {
    source: Source,
    bridges: [Bridge; DAEMONS],
    receivers: Option<[Receivers; DAEMONS]>,
    settle: Duration,
}

impl Party {
    fn new(broker: &Broker, settle: Duration) -> Party {
        let source = Source::new(broker, PROCESSES, every(PAUSE));
        Party {
            bridges: std::array::from_fn(|_| Launch::new(source.topic(), "live").start(broker)),
            source,
            receivers: None,
            settle,
        }
    }

    fn connect(&mut self, clients: usize) {
        let connect = |bridge: &Bridge| Receivers::connect(bridge.port, PATH, clients);
        self.receivers = Some(self.bridges.each_ref().map(connect));
    }

    /// Each daemon has so many clients.
    fn assert_live(&self, clients: usize) {
        for bridge in &self.bridges {
            let (_, body) = bridge
                .asker()
                .and_then(|mut asker| asker.get("/streams"))
                .expect("the daemon answers");
            let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(answer["streams"][0]["clients"], clients, "clients of a daemon");
        }
    }

    fn stage(&self) -> Stage {
        thread::sleep(self.settle);
        Stage {
            daemons: self.bridges.iter().map(|bridge| memory(bridge.pid()).rss).sum(),
            kernel: kernel_memory(),
        }
    }

    /// Every client gets every record, once.
    fn round(&mut self, count: usize, rounds: &mut Rounds) {
        let meters = self.bridges.each_ref().map(|bridge| Meter::start(bridge.pid()));
        let receivers = self.receivers.as_mut().expect("clients are connected");
        let all = receivers.each_mut().map(|each| each as &mut dyn Receive);
        let receipts = self.source.round(count, all);
        let used: Duration = meters.iter().map(Meter::used).sum();
        let deliveries: u64 = receipts.iter().map(|receipts| receipts.deliveries).sum();
        rounds.cpu.push(used.as_nanos() as f64 / 1e3 / deliveries as f64);
        let p50 = receipts.each_ref().map(|receipts| receipts.p50 as f64 / 1e6);
        rounds.p50.push(median(&p50));
        let worst = receipts.iter().map(|receipts| receipts.p99).max();
        rounds.p99.push(worst.unwrap_or(0) as f64 / 1e6);
        // The clock is that of all processes.
        let spans: Vec<(u64, u64)> = (0..count)
            .map(|record| {
                let of_record = receipts.iter().map(|receipts| receipts.spans[record]);
                of_record.fold((u64::MAX, 0), |all, each| (all.0.min(each.0), all.1.max(each.1)))
            })
            .collect();
        rounds.spread.push(spread(&spans) as f64 / 1e6);
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let clients = descriptors().saturating_sub(1000).min(CLIENTS);
    let clients = options.pick(clients, clients.min(1000));
    let count = options.pick(6, 3);
    let times = options.pick(5, 2);
    let mut party = Party::new(broker, options.pick(SETTLE, SETTLE_QUICKLY));
    let before = party.stage();
    party.connect(clients);
    let connected = party.stage();
    party.assert_live(clients);
    // Warms everything up, and does not count.
    party.round(count, &mut Rounds::default());
    let mut rounds = Rounds::default();
    for _ in 0..times {
        party.round(count, &mut rounds);
    }
    let delivered = party.stage();
    party.assert_live(clients);
    drop(party);
    print(DAEMONS * clients, &[before, connected, delivered], &rounds);
}

fn print(clients: usize, stages: &[Stage; 3], rounds: &Rounds) {
    let mut table = Table::new(&["", "before", "connected", "KiB each", "after records", "KiB each"]);
    let mut row = |name: &str, of: fn(&Stage) -> u64| {
        let [before, connected, delivered] = stages.each_ref().map(|stage| of(stage) as f64);
        let each = |now: f64| figure((now - before) / clients as f64);
        table.row(&[
            name.to_owned(),
            figure(before / 1024.0),
            figure(connected / 1024.0),
            each(connected),
            figure(delivered / 1024.0),
            each(delivered),
        ]);
    };
    row("resident memory of the daemons, MiB", |stage| stage.daemons);
    row("objects of the kernel, both ends, MiB", |stage| stage.kernel.slab);
    row("queues of TCP, both ends, MiB", |stage| stage.kernel.tcp);
    table.print(&format!(
        "{PROCESSES}: {clients} clients of {DAEMONS} daemons, memory"
    ));

    let mut table = Table::new(&["", "all daemons"]);
    let mut row = |name: &str, values: &[f64]| table.row(&[name.to_owned(), figure(median(values))]);
    row("processor per delivery, µs", &rounds.cpu);
    row("latency p50, ms", &rounds.p50);
    row("latency p99, of the slowest daemon, ms", &rounds.p99);
    row("first to last client of all, ms", &rounds.spread);
    table.print(&format!(
        "{PROCESSES}: a record per {} s to each client, {} rounds",
        PAUSE.as_secs(),
        rounds.cpu.len()
    ));
}
