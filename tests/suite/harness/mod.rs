//! What every test stands on: brokers, the daemon, an SSE client, a browser, and waiting for things.
//!
//! Nothing in here knows what the daemon promises beyond the wire contract's house rules (`sse`).
//! Everything that runs outside this process is a [`process::Process`], so that nothing survives
//! the suite, not even one killed half-way.

#![expect(dead_code, reason = "a harness offers more than one day's tests use")]

pub mod acl;
pub mod between;
pub mod broker;
pub mod browser;
pub mod cluster;
pub mod confined;

pub mod connection;
pub mod consume;
pub mod crowd;
pub mod daemon;
pub mod damage;
pub mod figures;
pub mod followers;
pub mod hang;
pub mod http;
pub mod kafka_home;
pub mod memory;
pub mod open;
pub mod process;
pub mod produce;
pub mod proxy;
pub mod scratch;
pub mod secured;
pub mod sse;
pub mod stream;
pub mod systemd;
pub mod wait;

use broker::{Broker, Version};
use libtest_mimic::Trial;
use std::sync::Arc;

/// A test that passes unless it panics.
pub fn trial(name: impl Into<String>, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// The same test once per Kafka version, each on the suite's shared broker: `name@3.9.2`, `name@4.4.0`.
pub fn on_each_broker(name: &str, test: impl Fn(Arc<Broker>) + Clone + Send + 'static) -> Vec<Trial> {
    Version::ALL
        .into_iter()
        .map(|version| {
            let test = test.clone();
            trial(format!("{name}@{version}"), move || test(Broker::shared(version)))
        })
        .collect()
}

/// The same test once per Kafka version, for those that start, kill or freeze a broker of their own.
pub fn on_each_version(name: &str, test: impl Fn(Version) + Clone + Send + 'static) -> Vec<Trial> {
    Version::ALL
        .into_iter()
        .map(|version| {
            let test = test.clone();
            trial(format!("{name}@{version}"), move || test(version))
        })
        .collect()
}

/// Stops all that tests share and removes what they left on disk. Called once, after the last test.
pub fn teardown() {
    secured::stop_shared();
    broker::stop_shared();
    scratch::remove();
}
