//! How many descriptors the process may have, and what that leaves for clients: each takes one.
#![forbid(unsafe_code)]

use crate::config::settings::DEFAULT_MAX_CLIENTS;
use log::{Level, debug, info, log};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept for the daemon itself, which clients must not take from it: listeners, log,
/// runtime, and what librdkafka opens for brokers, also for replays and after a reload.
pub const RESERVE: u64 = 128;

/// How many connections a limit leaves room for: half of one that is smaller than twice the reserve.
#[must_use]
pub const fn room(limit: u64) -> u64 {
    limit.saturating_sub(if RESERVE < limit / 2 { RESERVE } else { limit / 2 })
}

/// The limit in force; `None` where there is none.
#[must_use]
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The limit up to which a process may raise its own.
#[must_use]
pub fn hard_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Raises the limit as far as it goes, and says so where it is still too low for `max_clients`.
pub fn raise(max_clients: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let wanted = Rlimit {
            current: maximum,
            maximum,
        };
        match setrlimit(Resource::Nofile, wanted) {
            Ok(()) => debug!("descriptors: at most {}, were {}", shown(maximum), shown(current)),
            // A sandbox may forbid it; what is there is then what there is.
            Err(error) => info!("descriptors: at most {}, not more: {error}", shown(current)),
        }
    }
    warn_if_short(max_clients);
}

/// Says so where the limit is too low for `max_clients`: a warning where somebody has chosen that.
pub fn warn_if_short(max_clients: u64) {
    if let Some(limit) = limit()
        && room(limit) < max_clients
    {
        let is_chosen = max_clients != DEFAULT_MAX_CLIENTS;
        log!(
            if is_chosen { Level::Warn } else { Level::Info },
            "max_clients is {max_clients}, but {limit} descriptors are enough for {} connections; while these are \
             open, others wait to be accepted: lower max_clients, or raise the limit (LimitNOFILE in the unit, \
             ulimit -n)",
            room(limit)
        );
    }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "any number".to_owned(), |limit| limit.to_string())
}
