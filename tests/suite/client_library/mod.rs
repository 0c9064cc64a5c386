//! The client library of assets/client: in Node and in a browser, against servers that fail, a real daemon and real brokers,
//! and as a package. `sse_clients` has it read everything that the other clients read.

mod cuts;
mod cutter;
mod examples;
mod package;
mod tabs;

use crate::harness::broker::{Broker, free_port};
use libtest_mimic::Trial;

/// The files of its tests.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/library");

pub fn trials() -> Vec<Trial> {
    let mut trials = package::trials();
    trials.extend(examples::trials());
    trials.extend(cuts::trials());
    trials.extend(tabs::trials());
    trials
}

/// A daemon on a port of its own, so that it can be started again, that serves `topic` at `path` and the pages in `assets`.
fn config(broker: &Broker, topic: &str, path: &str, stream: &str, assets: &str) -> String {
    format!(
        "[kafka]\nbrokers = [\"{}\"]\n[http]\nlisten = [\"127.0.0.1:{}\"]\nretry = \"100ms\"\nkeepalive = \"1s\"\n\
         max_clients = 5000\n[ui]\nassets = {assets:?}\n[[stream]]\npath = \"{path}\"\ntopics = [{topic:?}]\n{stream}\n",
        broker.bootstrap(),
        free_port(),
    )
}
