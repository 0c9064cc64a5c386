//! Delivery proven by counting: every record of every client, under load and under attack.
//!
//! The same code runs short in the suite (`under_load`) and at full length in `scripts/soak`; a plan
//! says how much. A run ends with a report of its faults and its figures.
//!
//! - [`busy`]: too little processor time, beside busy loops and hundreds of value filters.
//! - [`endurance`]: clients cut off and moved between daemons that are killed.
//! - [`hostile`]: everything at once that has killed or stalled a daemon, while one audience behaves well.
//! - [`leaders`]: three brokers, of which one after the other dies, freezes or is restarted.
//! - [`slow_readers`]: half of the clients stop reading for a while.
//! - [`joining`]: an audience takes the snapshot of a large table all at once.

pub mod busy;
pub mod endurance;
pub mod hostile;
pub mod joining;
pub mod leaders;
pub mod readers;
pub mod slow_readers;
pub mod watch;
pub mod writer;

use crate::harness::daemon::{Daemon, Launch};
use std::fmt;
use std::time::Duration;

/// How long no client may receive anything while records are missing, before the run fails:
/// longer than the daemon takes to notice a broker that hangs and to try again.
pub const SILENCE: Duration = Duration::from_secs(60);

/// A daemon whose event streams are written by `delivery`, a value of `http.delivery`.
fn launch(config: &str, delivery: &str) -> Launch {
    Daemon::with(config).env("KAFKA_SSE_BRIDGE__HTTP__DELIVERY", delivery)
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// Broken promises; empty if all were kept.
    pub wrong: Vec<String>,
    /// Figures, each with its name.
    pub figures: Vec<(&'static str, String)>,
}

impl Report {
    fn figure(&mut self, name: &'static str, value: impl fmt::Display) {
        self.figures.push((name, value.to_string()));
    }

    fn demand(&mut self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            self.wrong.push(otherwise.into());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.figures {
            writeln!(out, "{name:>34}  {value}")?;
        }
        for wrong in &self.wrong {
            writeln!(out, "{:>34}  {wrong}", "WRONG")?;
        }
        Ok(())
    }
}
