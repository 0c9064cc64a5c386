//! `kafka-sse-bridge check`: reads the configuration as `run` does, and prints the sum of its bounds on memory.

use super::common::{Configured, Failure, say};
use crate::http::tls::Prepared;
use crate::logging;

/// Fails where the configuration is wrong.
pub(super) fn run(configured: &Configured) -> Result<(), Failure> {
    let loaded = configured.sources().load()?;
    Prepared::read(&loaded.settings.http).map_err(Failure::Certificates)?;
    let streams = loaded.settings.streams.len();
    say(&format!(
        "{}: ok, {streams} stream{}\nmemory: {}\n",
        configured.config().display(),
        if streams == 1 { "" } else { "s" },
        loaded.memory.describe(&loaded.settings)
    ))?;
    if let Some(remedy) = loaded.memory.remedy(&loaded.settings) {
        logging::complain(&format!(
            "warning: bounds and clients together exceed the memory available: {remedy}"
        ));
    }
    Ok(())
}
