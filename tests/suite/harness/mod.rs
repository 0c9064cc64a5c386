//! The base of every test: brokers, the daemon, an SSE client, a browser, and waits with deadlines.
//!
//! The harness knows no promise of the daemon except the rules of the wire contract (`sse`).
//! Everything that runs outside this process is a [`process::Process`], so that nothing survives
//! the suite, not even one killed half-way.

#![expect(dead_code, reason = "a harness offers more than one day's tests use")]

pub mod acl;
pub mod apicurio;
pub mod between;
pub mod broker;
pub mod browser;
pub mod certificates;
pub mod cluster;
pub mod confined;

pub mod connection;
pub mod consume;
pub mod crowd;
pub mod daemon;
pub mod damage;
pub mod figures;
pub mod followers;
pub mod gateway;
pub mod hang;
pub mod http;
pub mod kafka_home;
pub mod memory;
pub mod open;
pub mod process;
pub mod produce;
pub mod proxy;
pub mod quota;
pub mod raw;
pub mod scratch;
pub mod scripted_registry;
pub mod secured;
pub mod sse;
pub mod stream;
pub mod systemd;
pub mod wait;

use broker::{Broker, Version};
use browser::Engine;
use libtest_mimic::Trial;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long each trial has taken.
static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// How many of the slowest trials are named, and after how many it is worth it.
const SLOWEST: usize = 20;
const MANY: usize = 200;

/// A trial that passes unless the test panics.
pub fn trial(name: impl Into<String>, test: impl FnOnce() + Send + 'static) -> Trial {
    let name = name.into();
    Trial::test(name.clone(), move || {
        let start = Instant::now();
        test();
        let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
        times.push((start.elapsed(), name));
        Ok(())
    })
}

/// Trials named after the functions that they run: `trials![a_promise, another_promise]`.
#[macro_export]
macro_rules! trials {
    ($($test:expr),+ $(,)?) => { vec![$($crate::harness::promise($test)),+] };
}

/// A trial named after the function that it runs.
pub fn promise(test: impl FnOnce() + Send + 'static) -> Trial {
    trial(name_of(&test), test)
}

/// A trial named after the function that it runs and the Kafka version that the function uses: `name@4.4.0`.
pub fn promise_on(version: Version, test: impl FnOnce() + Send + 'static) -> Trial {
    trial(format!("{}@{version}", name_of(&test)), test)
}

/// A test on the suite's shared broker of one Kafka version.
pub fn on_broker(version: Version, test: impl FnOnce(&Broker) + Send + 'static) -> Trial {
    let name = format!("{}@{version}", name_of(&test));
    trial(name, move || test(&Broker::shared(version)))
}

/// The same test once per Kafka version, each on the suite's shared broker: `name@3.9.2`, `name@4.4.0`.
pub fn on_each_broker(test: impl Fn(&Broker) + Copy + Send + 'static) -> Vec<Trial> {
    Version::ALL.map(|version| on_broker(version, test)).into()
}

/// The same test once per Kafka version, for tests that start, kill or freeze a broker of their own.
pub fn on_each_version(test: impl Fn(Version) + Copy + Send + 'static) -> Vec<Trial> {
    let on = |version| trial(format!("{}@{version}", name_of(&test)), move || test(version));
    Version::ALL.map(on).into()
}

/// The same test in Chromium and in Firefox, on the suite's shared broker of one Kafka version: `name@4.4.0`,
/// `name_in_firefox@4.4.0`.
pub fn in_each_browser(
    version: Version,
    test: impl Fn(&Broker, Engine) + Copy + Send + 'static,
) -> [Trial; 2] {
    let named = |name: String, engine: Engine| {
        trial(format!("{name}@{version}"), move || {
            test(&Broker::shared(version), engine);
        })
        .with_ignored_flag(engine.is_missing())
    };
    let name = name_of(&test);
    [
        named(name.to_owned(), Engine::Chromium),
        named(format!("{name}_in_firefox"), Engine::Firefox),
    ]
}

/// The name of a function, which a closure does not have.
pub fn name_of<T>(test: &T) -> &'static str {
    let name = std::any::type_name_of_val(test).rsplit("::").next();
    name.filter(|name| !name.contains('{'))
        .expect("a test is a function with a name")
}

/// Names the trials that a long run spent most of its time on.
pub fn report_slowest() {
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    if times.len() < MANY {
        return;
    }
    times.sort_unstable();
    let total: Duration = times.iter().map(|(time, _)| *time).sum();
    println!(
        "slowest of {} trials, which took {:.0} s one by one:",
        times.len(),
        total.as_secs_f64()
    );
    for (time, name) in times.iter().rev().take(SLOWEST) {
        println!("{:6.1} s  {name}", time.as_secs_f64());
    }
}

/// Stops all that tests share and removes what they left on disk. Called once, after the last test.
pub fn teardown() {
    secured::stop_shared();
    apicurio::stop_shared();
    broker::stop_shared();
    scratch::remove();
}
