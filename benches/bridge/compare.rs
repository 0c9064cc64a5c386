//! This build and another one, each with its thousand clients, in alternating rounds: whether fan-out
//! has become dearer.

use crate::Options;
use crate::audience::Audience;
use crate::bridge::{Bridge, Launch, PATH};
use crate::fanout::{CLIENTS, FLOW, Side, round};
use crate::filtered;
use crate::harness::broker::Broker;
use crate::harness::daemon::BINARY;
use crate::produce::Source;
use crate::report::{Table, at_most};
use std::path::Path;

/// Most processor time per delivery, as a multiple of the other build's: as much, but for what two
/// runs of one build differ by.
const MOST: f64 = 1.03;

/// A build with its audience.
struct Build {
    source: Source,
    bridge: Bridge,
    listeners: Audience,
    side: Side,
}

impl Build {
    fn start(broker: &Broker, binary: &Path) -> Build {
        let source = Source::new(broker, "compare", FLOW);
        let launch = Launch {
            binary,
            ..Launch::new(source.topic(), "live")
        };
        let bridge = launch.start(broker);
        let listeners = Audience::connect(bridge.port, PATH, CLIENTS);
        Build {
            source,
            bridge,
            listeners,
            side: Side::default(),
        }
    }

    fn round(&mut self, count: usize) {
        let (pid, listeners) = (self.bridge.pid(), &mut self.listeners);
        round(&mut self.source, pid, listeners, count, &mut self.side);
    }
}

pub fn run(broker: &Broker, options: &Options) {
    let other = options.against.as_deref().expect("checked with the arguments");
    let count = options.pick(250, 100);
    let rounds = options.pick(12, 4);
    let mut builds = [Path::new(BINARY), other].map(|binary| Build::start(broker, binary));
    // Warms everything up, and does not count.
    for build in &mut builds {
        build.round(count);
        build.side = Side::default();
    }
    for _ in 0..rounds {
        builds[0].round(count);
        builds[1].round(count);
        // The order alternates from pair to pair.
        builds.swap(0, 1);
    }
    let [ours, theirs] = builds.each_ref().map(|build| &build.side);
    let mut table = Table::new(&["", "this build", "the other", "ratio", "target"]);
    let mut row = |name: &str, of: fn(&Side) -> &Vec<f64>, most: Option<f64>| {
        table.compare(name, of(ours), of(theirs), |ratio| Some(at_most(ratio, most?)));
    };
    row("processor per delivery, µs", |side| &side.cpu, Some(MOST));
    row("latency p50, ms", |side| &side.p50, None);
    row("latency p99, ms", |side| &side.p99, None);
    row("bytes per delivery", |side| &side.bytes, None);
    table.print(&format!(
        "compare: fanout of this build and of {}, {rounds} rounds of {count} records",
        other.display()
    ));
    drop(builds);
    filtered::compare(broker, options, other);
}
