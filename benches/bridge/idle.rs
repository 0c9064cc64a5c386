//! The cost of an idle connection: resident memory with ten thousand of them, also of another build of
//! the daemon (`--against`).

use crate::audience::Audience;
use crate::bridge::{Launch, PATH};
use crate::harness::broker::Broker;
use crate::harness::daemon::BINARY;
use crate::measure::{Memory, memory};
use crate::produce::{Flow, Source};
use crate::report::{Table, at_most, figure};
use crate::{Options, Target};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Most KiB per connection more than another build's.
const MOST_MORE_THAN_OTHER: f64 = 0.2;

/// Long enough for pages that were freed to be given back, or not: the allocator keeps them for ten seconds. In a quick run
/// it is not.
const SETTLE: Duration = Duration::from_secs(12);
const SETTLE_QUICKLY: Duration = Duration::from_secs(2);

/// Memory of a daemon before its clients came, with them, after records, and when they were gone.
struct Stages {
    before: Memory,
    opened: Memory,
    delivered: Memory,
    closed: Memory,
}

pub fn run(broker: &Broker, options: &Options) {
    let count = options.pick(10_000, 2000);
    let settle = options.pick(SETTLE, SETTLE_QUICKLY);
    let most = options.target(&Target::by_driver(16.0, 0.4, 0.4));
    let ours = measure(broker, Path::new(BINARY), count, settle);
    let mut table = Table::new(&["", "RSS, MiB", "KiB each", "PSS, MiB", "KiB each", "target"]);
    let each = |now: u64, then: u64| (now as f64 - then as f64) / count as f64;
    let mut row = |name: &str, now: Memory, before: Memory, most: Option<f64>| {
        let (rss, pss) = (each(now.rss, before.rss), each(now.pss, before.pss));
        let mebibytes = |kibibytes: u64| figure(kibibytes as f64 / 1024.0);
        table.row(&[
            name.to_owned(),
            mebibytes(now.rss),
            figure(rss),
            mebibytes(now.pss),
            figure(pss),
            most.map_or_else(String::new, |most| at_most(rss, most)),
        ]);
    };
    row("before", ours.before, ours.before, None);
    row("connected, opening read", ours.opened, ours.before, most);
    row("after 20 records to each", ours.delivered, ours.before, most);
    row("all gone", ours.closed, ours.before, None);
    if let Some(other) = &options.against {
        let other = measure(broker, other, count, settle);
        let most = each(other.opened.rss, other.before.rss) + MOST_MORE_THAN_OTHER;
        row("connected, the other build", other.opened, other.before, None);
        row(
            "connected, this build again",
            ours.opened,
            ours.before,
            Some(most),
        );
        let most = each(other.delivered.rss, other.before.rss) + MOST_MORE_THAN_OTHER;
        row(
            "after 20 records, the other build",
            other.delivered,
            other.before,
            None,
        );
        row(
            "after 20 records, this build again",
            ours.delivered,
            ours.before,
            Some(most),
        );
    }
    table.print(&format!("idle: {count} connections on one stream"));
}

fn measure(broker: &Broker, binary: &Path, count: usize, settle: Duration) -> Stages {
    let flow = Flow {
        length: 100,
        pause: Duration::from_millis(200),
        keys: None,
    };
    let mut source = Source::new(broker, "idle", flow);
    let launch = Launch {
        binary,
        ..Launch::new(source.topic(), "live")
    };
    let bridge = launch.start(broker);
    // A few clients that come and go have every thread set up what it needs.
    drop(Audience::connect(bridge.port, PATH, 100));
    thread::sleep(settle);
    let before = memory(bridge.pid());

    let mut audience = Audience::connect(bridge.port, PATH, count);
    thread::sleep(settle);
    let opened = memory(bridge.pid());

    source.round(20, [&mut audience]);
    thread::sleep(settle);
    let delivered = memory(bridge.pid());

    drop(audience);
    thread::sleep(settle);
    Stages {
        before,
        opened,
        delivered,
        closed: memory(bridge.pid()),
    }
}
