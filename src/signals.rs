//! Signals as requests.
//!
//! SIGTERM and SIGINT request a shutdown; the second one ends the process at once, from within the handler, so that it
//! works even where the daemon hangs. SIGHUP requests a reload.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

/// Exit status when a second signal cuts a shutdown short.
pub(crate) const EXIT_FORCED: i32 = 1;

/// Most pending signals; more of them carry no information.
const PENDING: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Reload,
    Shutdown,
}

/// Watches for signals on a thread of its own. SIGHUP requests `on_hangup`: a daemon reloads, and a command in a
/// terminal shuts down with it.
pub(crate) fn watch(on_hangup: Request) -> io::Result<mpsc::Receiver<Request>> {
    let is_ending = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag unset and sets it, the second finds it set.
        flag::register_conditional_shutdown(signal, EXIT_FORCED, Arc::clone(&is_ending))?;
        flag::register(signal, Arc::clone(&is_ending))?;
    }
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT])?;
    let (sender, requests) = mpsc::channel(PENDING);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let request = if signal == SIGHUP {
                    on_hangup
                } else {
                    Request::Shutdown
                };
                if sender.blocking_send(request).is_err() {
                    break;
                }
            }
        })?;
    Ok(requests)
}
