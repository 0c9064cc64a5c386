//! The cost of an idle connection: resident memory with ten thousand of them.

use crate::Options;
use crate::audience::Audience;
use crate::bridge::{Launch, PATH};
use crate::harness::broker::Broker;
use crate::measure::{Memory, memory};
use crate::produce::{Flow, Source};
use crate::report::{Table, at_most, figure};
use std::thread;
use std::time::Duration;

/// Most KiB per connection.
const MOST: f64 = 16.0;

/// Long enough for pages that were freed to be given back, or not.
const SETTLE: Duration = Duration::from_secs(2);

pub fn run(broker: &Broker, options: &Options) {
    let count = options.pick(10_000, 2000);
    let flow = Flow {
        length: 100,
        pause: Duration::from_millis(200),
        keys: None,
    };
    let mut source = Source::new(broker, "idle", flow);
    let bridge = Launch::new(&source.topic, "live").start(broker);
    // A few clients that come and go have every thread set up what it needs.
    drop(Audience::connect(bridge.port, PATH, 100));
    thread::sleep(SETTLE);
    let before = memory(bridge.pid());

    let mut audience = Audience::connect(bridge.port, PATH, count);
    thread::sleep(SETTLE);
    let opened = memory(bridge.pid());

    source.round(20, [&mut audience]);
    thread::sleep(SETTLE);
    let delivered = memory(bridge.pid());

    drop(audience);
    thread::sleep(SETTLE);
    let closed = memory(bridge.pid());

    let mut table = Table::new(&["", "RSS, MiB", "KiB each", "PSS, MiB", "KiB each", "target"]);
    let each = |now: u64, then: u64| (now as f64 - then as f64) / count as f64;
    let mut row = |name: &str, now: Memory, target: bool| {
        let (rss, pss) = (each(now.rss, before.rss), each(now.pss, before.pss));
        let mebibytes = |kibibytes: u64| figure(kibibytes as f64 / 1024.0);
        let target = if target { at_most(rss, MOST) } else { String::new() };
        table.row(&[
            name.to_owned(),
            mebibytes(now.rss),
            figure(rss),
            mebibytes(now.pss),
            figure(pss),
            target,
        ]);
    };
    row("before", before, false);
    row("connected, opening read", opened, true);
    row("after 20 records to each", delivered, true);
    row("all gone", closed, false);
    table.print(&format!("idle: {count} connections on one stream"));
}
