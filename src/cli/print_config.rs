//! `kafka-sse-bridge print-config`: the effective settings, and the origin of each.

use super::common::{Configured, Failure, say};
use crate::config::print;

pub(super) fn run(configured: &Configured) -> Result<(), Failure> {
    say(&print::print(&configured.sources().load()?))
}
