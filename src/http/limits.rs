//! Limits on how many streams are open and on how fast they are opened, in all and per client address.
//!
//! A stream has a [`Permit`] from before it opens until it ends. Counting and deciding are one step under one lock, so a
//! limit is exact; the lock is taken when a stream opens and when it ends, never by a delivery. Addresses are always
//! counted, so that a reload can add a limit; an address without streams is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::{debug, warn};
use parking_lot::{Mutex, RwLock};

use super::forwarded::{Address, client, is_proxy};
use super::peer::Peer;
use crate::config::HttpSettings;
use crate::config::proxies::Proxy;
use crate::logging::Seldom;
use crate::stream::filter_index::OverLimit;

/// Shortest time between two log lines about refused clients: thousands may come at once.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A bucket holds the tokens of this time: a client that opened nothing may open that many streams at once.
const BURST: Duration = Duration::from_secs(1);

/// Shortest time between two sweeps of addresses that have no stream and a bucket that was not full. After this time it
/// is.
const SWEEP_EVERY: Duration = BURST;

/// Capacity for this many addresses is never freed.
const LEAST_ROOM: usize = 64;

const LIMITS: usize = 6;

/// The limits in force; 0 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRules {
    /// Streams open at once.
    pub max_clients: u64,
    /// Streams open at once for one address.
    pub max_clients_per_ip: u64,
    /// Streams opened in a second.
    pub max_opens_per_second: u32,
    /// Streams opened in a second by one address.
    pub max_opens_per_second_per_ip: u32,
    /// Proxies whose headers name the client address.
    pub trusted_proxies: Vec<Proxy>,
}

impl From<&HttpSettings> for LimitRules {
    fn from(http: &HttpSettings) -> Self {
        Self {
            max_clients: http.max_clients,
            max_clients_per_ip: http.max_clients_per_ip,
            max_opens_per_second: http.max_opens_per_second,
            max_opens_per_second_per_ip: http.max_opens_per_second_per_ip,
            trusted_proxies: http.trusted_proxies.clone(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `max_clients`
    Clients,
    /// `max_clients_per_ip`
    ClientsPerIp,
    /// `max_opens_per_second`
    Opens,
    /// `max_opens_per_second_per_ip`
    OpensPerIp,
    /// A stream's `max_filter_paths`
    FilterPaths,
    /// A stream's `max_unindexed_filters`
    UnindexedFilters,
}

impl Limit {
    /// All of them, in the order of [`Counts::refused`].
    pub(crate) const ALL: [Self; LIMITS] = [
        Self::Clients,
        Self::ClientsPerIp,
        Self::Opens,
        Self::OpensPerIp,
        Self::FilterPaths,
        Self::UnindexedFilters,
    ];

    /// The key of the configuration that sets it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "max_clients",
            Self::ClientsPerIp => "max_clients_per_ip",
            Self::Opens => "max_opens_per_second",
            Self::OpensPerIp => "max_opens_per_second_per_ip",
            Self::FilterPaths => "max_filter_paths",
            Self::UnindexedFilters => "max_unindexed_filters",
        }
    }
}

impl From<OverLimit> for Limit {
    fn from(limit: OverLimit) -> Self {
        match limit {
            OverLimit::Paths => Self::FilterPaths,
            OverLimit::Unindexed => Self::UnindexedFilters,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Streams open.
    pub clients: u64,
    /// Addresses that are kept: those with open streams, and those that have just opened one.
    pub addresses: u64,
    /// Requests refused since the start, by limit.
    pub refused: [(Limit, u64); LIMITS],
}

/// The open streams, and their limits.
#[derive(Debug)]
pub struct Limits {
    rules: RwLock<Arc<LimitRules>>,
    open: Mutex<OpenStreams>,
    refused: [AtomicU64; LIMITS],
    /// By limit. Locked only to log a refused client.
    log_rates: [Mutex<Seldom>; LIMITS],
    /// By the path of the stream. Locked for refused clients and metrics.
    by_stream: Mutex<BTreeMap<String, OfStream>>,
}

#[derive(Debug)]
struct OfStream {
    paths: (u64, Seldom),
    unindexed: (u64, Seldom),
}

impl Default for OfStream {
    fn default() -> Self {
        let none = || (0, Seldom::new(LOG_EVERY));
        Self {
            paths: none(),
            unindexed: none(),
        }
    }
}

impl Limits {
    /// No stream is open.
    pub fn new(rules: LimitRules) -> Self {
        Self {
            rules: RwLock::new(Arc::new(rules)),
            open: Mutex::default(),
            refused: Default::default(),
            log_rates: [const { Mutex::new(Seldom::new(LOG_EVERY)) }; LIMITS],
            by_stream: Mutex::default(),
        }
    }

    /// Changes the limits. Open streams stay open and counted, even if they exceed a new limit.
    pub fn set(&self, rules: LimitRules) {
        *self.rules.write() = Arc::new(rules);
    }

    pub(crate) fn rules(&self) -> Arc<LimitRules> {
        Arc::clone(&self.rules.read())
    }

    /// The client address of a request of this peer.
    pub fn client(&self, peer: Peer, headers: &http::HeaderMap) -> Address {
        client(peer, headers, &self.rules().trusted_proxies)
    }

    /// Whether the peer is a trusted proxy.
    pub(crate) fn trusts(&self, peer: Peer) -> bool {
        is_proxy(peer, &self.rules().trusted_proxies)
    }

    /// Admits a stream. Counts and logs a refusal.
    pub(crate) fn admit(self: &Arc<Self>, address: Address) -> Result<Permit, Limit> {
        let rules = self.rules();
        let outcome = self.open.lock().enter(address, &rules, Instant::now());
        match outcome {
            Ok(()) => Ok(Permit {
                limits: Arc::clone(self),
                address,
            }),
            Err(limit) => {
                self.refuse(limit, address);
                Err(limit)
            }
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let (clients, addresses) = {
            let mut open = self.open.lock();
            // Where no stream opens or ends, this call forgets addresses.
            open.sweep(Instant::now());
            (open.clients, open.shares.len() as u64)
        };
        let mut counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        Counts {
            clients,
            addresses,
            refused: Limit::ALL.map(|limit| (limit, counts.next().unwrap_or_default())),
        }
    }

    /// Counts and logs a client over a limit of all streams.
    fn refuse(&self, limit: Limit, address: Address) {
        self.refused[limit as usize].fetch_add(1, Ordering::Relaxed);
        let mut rate = self.log_rates[limit as usize].lock();
        log_refusal(&mut rate, address, "", limit);
    }

    /// Counts and logs a client over a limit of the stream at `path`.
    pub(crate) fn refuse_by(&self, path: &str, limit: OverLimit, address: Address) {
        self.refused[Limit::from(limit) as usize].fetch_add(1, Ordering::Relaxed);
        let mut by_stream = self.by_stream.lock();
        let of_stream = by_stream.entry(path.to_owned()).or_default();
        let (count, rate) = match limit {
            OverLimit::Paths => &mut of_stream.paths,
            OverLimit::Unindexed => &mut of_stream.unindexed,
        };
        *count += 1;
        log_refusal(rate, address, &format!(" from {path}"), limit.into());
    }

    /// Clients refused by limits of the stream at `path` since the start.
    pub(crate) fn refused_by(&self, path: &str) -> [(Limit, u64); 2] {
        let by_stream = self.by_stream.lock();
        let of_stream = by_stream.get(path);
        [
            (Limit::FilterPaths, of_stream.map_or(0, |refused| refused.paths.0)),
            (
                Limit::UnindexedFilters,
                of_stream.map_or(0, |refused| refused.unindexed.0),
            ),
        ]
    }
}

/// Logs each limit at its own rate, so that one that is reached all the time does not hide another.
fn log_refusal(rate: &mut Seldom, address: Address, from: &str, limit: Limit) {
    let key = limit.as_str();
    match rate.admit() {
        Some(held_back) => warn!("{address}: refused{from}, {key} reached{held_back}"),
        None => debug!("{address}: refused{from}, {key} reached"),
    }
}

/// Counts one open stream until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Arc<Limits>,
    address: Address,
}

impl Permit {
    pub(crate) fn address(&self) -> Address {
        self.address
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.open.lock().leave(self.address, Instant::now());
    }
}

#[derive(Debug, Default)]
struct OpenStreams {
    clients: u64,
    bucket: Bucket,
    shares: HashMap<Address, Share>,
    /// How many of them have no open stream.
    left: usize,
    swept_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Share {
    clients: u64,
    bucket: Bucket,
}

impl OpenStreams {
    fn enter(&mut self, address: Address, rules: &LimitRules, now: Instant) -> Result<(), Limit> {
        let is_reached = |count: u64, limit: u64| limit > 0 && count >= limit;
        if is_reached(self.clients, rules.max_clients) {
            return Err(Limit::Clients);
        }
        let share = self.shares.get(&address).copied().unwrap_or_default();
        if is_reached(share.clients, rules.max_clients_per_ip) {
            return Err(Limit::ClientsPerIp);
        }
        // A token is taken only if the other bucket has one too.
        let bucket = share.bucket.take(rules.max_opens_per_second_per_ip, now);
        let bucket = bucket.ok_or(Limit::OpensPerIp)?;
        let all = self.bucket.take(rules.max_opens_per_second, now);
        self.bucket = all.ok_or(Limit::Opens)?;
        let clients = share.clients + 1;
        let before = self.shares.insert(address, Share { clients, bucket });
        if before.is_some_and(|before| before.clients == 0) {
            self.left -= 1;
        }
        self.clients += 1;
        self.sweep(now);
        Ok(())
    }

    fn leave(&mut self, address: Address, now: Instant) {
        self.clients -= 1;
        let Some(share) = self.shares.get_mut(&address) else {
            return;
        };
        share.clients -= 1;
        if share.is_idle(now) {
            self.shares.remove(&address);
            self.shrink();
        } else if share.clients == 0 {
            self.left += 1;
        }
        self.sweep(now);
    }

    /// Forgets addresses without streams whose buckets are full again.
    fn sweep(&mut self, now: Instant) {
        let is_due = self.swept_at.is_none_or(|before| now - before >= SWEEP_EVERY);
        if self.left == 0 || !is_due {
            return;
        }
        self.swept_at = Some(now);
        let before = self.shares.len();
        self.shares.retain(|_, share| !share.is_idle(now));
        self.left -= before - self.shares.len();
        self.shrink();
    }

    /// Frees memory if most of it is unused; seldom enough to cost nothing.
    fn shrink(&mut self) {
        let wanted = self.shares.len() + LEAST_ROOM;
        if self.shares.capacity() / 4 > wanted {
            self.shares.shrink_to(wanted * 2);
        }
    }
}

impl Share {
    fn is_idle(&self, now: Instant) -> bool {
        self.clients == 0 && self.bucket.is_full(now)
    }
}

/// A bucket of tokens, as the time at which it will be full again (the generic cell rate algorithm).
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// The bucket with one token less, or `None` if it is empty. `rate` is in tokens per second, 0 for unlimited.
    fn take(self, rate: u32, now: Instant) -> Option<Self> {
        let Some(token) = BURST.checked_div(rate) else {
            return Some(Self::default());
        };
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + token;
        (full_at - now <= BURST).then_some(Self {
            full_at: Some(full_at),
        })
    }

    fn is_full(self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const MANY: u32 = 5000;

    fn address(number: u32) -> Address {
        IpAddr::V4(number.into()).into()
    }

    fn rules(max_opens_per_second_per_ip: u32) -> LimitRules {
        LimitRules {
            max_opens_per_second_per_ip,
            ..(&HttpSettings::default()).into()
        }
    }

    #[test]
    fn addresses_without_streams_are_forgotten_at_once_where_their_rate_is_unlimited() {
        let (mut open, now) = (OpenStreams::default(), Instant::now());
        for number in 0..MANY {
            assert_eq!(open.enter(address(number), &rules(0), now), Ok(()));
        }
        assert_eq!(open.shares.len(), MANY as usize);
        (0..MANY).for_each(|number| open.leave(address(number), now));
        assert_eq!((open.clients, open.shares.len()), (0, 0));
        assert!(
            open.shares.capacity() < 4 * LEAST_ROOM,
            "its memory is given back"
        );
    }

    #[test]
    fn addresses_without_streams_are_forgotten_once_they_may_open_one_again() {
        let (mut open, now) = (OpenStreams::default(), Instant::now());
        for number in 0..MANY {
            assert_eq!(open.enter(address(number), &rules(1), now), Ok(()));
            open.leave(address(number), now);
        }
        let just_before = now + BURST.mul_f64(0.9);
        assert_eq!(
            open.enter(address(7), &rules(1), just_before),
            Err(Limit::OpensPerIp)
        );
        open.sweep(just_before);
        assert_eq!(open.shares.len(), MANY as usize);
        open.sweep(now + BURST);
        assert_eq!((open.left, open.shares.len()), (0, 0));
    }
}
