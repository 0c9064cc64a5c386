//! `kafka-sse-bridge run`: serves the configured streams until a signal ends it.

use log::{error, info};

use super::common::{Configured, Failure};
use crate::config::{LogSettings, Settings};
use crate::daemon::{self, Bound, Sources};
use crate::http::listener;
use crate::http::tls::Prepared;
use crate::{logging, signals};

/// Serves the configured streams until a signal ends the process.
pub(super) fn run(configured: &Configured) -> Result<(), Failure> {
    logging::apply(&LogSettings::default())?;
    let sources = configured.sources();
    let loaded = sources.load()?;
    logging::apply(&loaded.settings.log)?;
    info!(
        "kafka-sse-bridge {} with {}",
        env!("CARGO_PKG_VERSION"),
        configured.config().display()
    );
    daemon::warn_of_memory(&loaded);
    let settings = loaded.settings;
    let certificates = Prepared::read(&settings.http).map_err(Failure::Certificates)?;
    let endpoints = settings.http.endpoints();
    let listeners = daemon::bind(&endpoints, &settings.http, &[])?;
    listener::warn_of_unserved(&endpoints);
    serve(
        settings,
        sources,
        listeners,
        certificates,
        signals::Request::Reload,
    )
}

/// Runs the daemon with these settings until a signal ends it.
pub(super) fn serve(
    settings: Settings,
    sources: Sources,
    listeners: Vec<Bound>,
    certificates: Option<Prepared>,
    on_hangup: signals::Request,
) -> Result<(), Failure> {
    die_of_panics();
    let requests = signals::watch(on_hangup)?;
    let runtime = daemon::runtime()?;
    let outcome = runtime.block_on(daemon::run(settings, listeners, certificates, requests, sources));
    runtime.shutdown_timeout(daemon::RUNTIME_SHUTDOWN);
    Ok(outcome?)
}

/// A panic in any thread ends the process: half a daemon would look alive and deliver nothing.
pub fn die_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        error!("{panic}\n{}", std::backtrace::Backtrace::capture());
        logging::flush();
        std::process::abort();
    }));
}
