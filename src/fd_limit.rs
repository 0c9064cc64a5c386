//! The limit of file descriptors, and how many of them are left for clients.
#![forbid(unsafe_code)]

use crate::config::settings::DEFAULT_MAX_CLIENTS;
use log::{Level, debug, info, log};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for all but clients and Kafka: listeners, log, runtime, answers to `/metrics`, files of the page.
const BASE: u64 = 64;

/// Descriptors of a librdkafka handle per broker: a connection, and a pipe that wakes its thread.
const PER_BROKER: u64 = 3;

/// Brokers of a handle in addition to those of the cluster: the bootstrap broker, and a group's coordinator.
const OWN_BROKERS: u64 = 2;

/// Descriptors that are reserved for the daemon itself, where `handles` of Kafka clients may be connected to `brokers`
/// each. The `kafka` crate needs fewer than librdkafka.
pub const fn reserve(brokers: usize, handles: usize) -> u64 {
    let per_handle = (brokers as u64)
        .saturating_add(OWN_BROKERS)
        .saturating_mul(PER_BROKER);
    per_handle.saturating_mul(handles as u64).saturating_add(BASE)
}

/// How many connections a limit allows beside the reserve, which takes half of the limit at most.
pub const fn left_for_clients(limit: u64, reserve: u64) -> u64 {
    limit.saturating_sub(if reserve < limit / 2 { reserve } else { limit / 2 })
}

/// The limit in force; `None` where there is none.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

pub(crate) fn hard_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let wanted = Rlimit {
            current: maximum,
            maximum,
        };
        match setrlimit(Resource::Nofile, wanted) {
            Ok(()) => debug!("descriptors: at most {}, were {}", shown(maximum), shown(current)),
            // A sandbox may forbid it; the daemon runs with the limit that it has.
            Err(error) => info!("descriptors: at most {}, not more: {error}", shown(current)),
        }
    }
}

/// Logs where the limit less the reserve is too low for `max_clients`: as a warning where the operator has set it.
pub(crate) fn warn_if_short(max_clients: u64, reserve: u64) {
    if let Some(limit) = limit()
        && left_for_clients(limit, reserve) < max_clients
    {
        let is_chosen = max_clients != DEFAULT_MAX_CLIENTS;
        log!(
            if is_chosen { Level::Warn } else { Level::Info },
            "max_clients is {max_clients}, but {limit} descriptors are enough for {} connections, as reading Kafka \
             takes up to {reserve}; further connections wait to be accepted: lower max_clients, or raise \
             the limit (LimitNOFILE in the unit, ulimit -n)",
            left_for_clients(limit, reserve)
        );
    }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "any number".to_owned(), |limit| limit.to_string())
}
