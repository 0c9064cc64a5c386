//! A reload every second under a thousand clients: its effect on their latency.

use crate::Options;
use crate::audience::Audience;
use crate::bridge::{Launch, PATH};
use crate::fanout::{CLIENTS, FLOW, Side, round};
use crate::harness::broker::Broker;
use crate::measure::{median, median_ratio};
use crate::produce::Source;
use crate::report::{Table, at_most, figure};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const PAUSE: Duration = Duration::from_secs(1);

/// Most latency, as a multiple of that without reloads.
const MOST: f64 = 2.0;

pub fn run(broker: &Broker, options: &Options) {
    let count = options.pick(500, 150);
    let rounds = options.pick(7, 3);
    let mut source = Source::new(broker, "reload", FLOW);
    let bridge = Launch::new(source.topic(), "live").start(broker);
    let mut audience = Audience::connect(bridge.port, PATH, CLIENTS);
    let (mut with, mut without) = (Side::default(), Side::default());
    let mut reloads = 0;
    for number in 0..=rounds {
        // The first pair warms everything up.
        if number == 1 {
            (with, without) = (Side::default(), Side::default());
        }
        round(&mut source, bridge.pid(), &mut audience, count, &mut without);
        reloads = thread::scope(|scope| {
            let (end, ended) = mpsc::channel::<()>();
            let bridge = &bridge;
            let reloading = scope.spawn(move || {
                let mut reloads = reloads;
                while ended.recv_timeout(PAUSE) == Err(mpsc::RecvTimeoutError::Timeout) {
                    reloads += 1;
                    bridge.reload(&title(reloads));
                }
                reloads
            });
            round(&mut source, bridge.pid(), &mut audience, count, &mut with);
            drop(end);
            reloading.join().expect("the daemon is signalled")
        });
    }
    bridge.wait_for_text("/", &title(reloads));

    let mut table = Table::new(&["", "with reloads", "without", "ratio", "target"]);
    let mut row = |name: &str, of: fn(&Side) -> &Vec<f64>, most: Option<f64>| {
        let ratio = median_ratio(of(&with), of(&without));
        let target = most.map_or_else(String::new, |most| at_most(ratio, most));
        table.row(&[
            name.to_owned(),
            figure(median(of(&with))),
            figure(median(of(&without))),
            figure(ratio),
            target,
        ]);
    };
    row("latency p50, ms", |side| &side.p50, None);
    row("latency p99, ms", |side| &side.p99, Some(MOST));
    row("processor per delivery, µs", |side| &side.cpu, None);
    table.print(&format!(
        "reload: every second under {CLIENTS} clients, {rounds} rounds of {count} records, {reloads} reloads"
    ));
}

fn title(number: u32) -> String {
    format!("reload {number}")
}
