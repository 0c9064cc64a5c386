//! How many streams may be open and how quickly they may be opened, in all and for one address.
//!
//! A stream takes a [`Slot`] before it opens, which is given back when it ends, in whatever way. Counting
//! and deciding are one step under one lock, so a limit is exact; the lock is taken when a stream opens
//! and when it ends, never by a delivery. Addresses are counted whether they are limited or not, so that a
//! reload can begin to; one that has left is forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::forwarded::{Address, client};
use super::peer::Peer;
use crate::config::HttpSettings;
use crate::config::proxies::Proxy;
use crate::logging::Seldom;
use crate::stream::groups::OverLimit;

/// Least time between two lines about clients that are turned away: they come by thousands.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// A bucket holds the tokens of so long: who opened nothing may open that many at once.
const BURST: Duration = Duration::from_secs(1);

/// Least time between two looks for addresses that have left and only had a bucket to fill. By then it is
/// full.
const SWEEP_EVERY: Duration = BURST;

/// Room for so many addresses is never given back.
const LEAST_ROOM: usize = 64;

/// How many limits there are.
const LIMITS: usize = 6;

/// What is limited. Of numbers, 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Streams open at once.
    pub max_clients: u64,
    /// Streams open at once for one address.
    pub max_clients_per_ip: u64,
    /// Streams opened in a second.
    pub max_opens_per_second: u32,
    /// Streams opened in a second by one address.
    pub max_opens_per_second_per_ip: u32,
    /// Who may say for whom a request is.
    pub trusted_proxies: Vec<Proxy>,
}

impl From<&HttpSettings> for Rules {
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

/// The limit that a client met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
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
    /// All of them, in the order of [`Figures::refused`].
    pub const ALL: [Self; LIMITS] = [
        Self::Clients,
        Self::ClientsPerIp,
        Self::Opens,
        Self::OpensPerIp,
        Self::FilterPaths,
        Self::UnindexedFilters,
    ];

    /// The key of the configuration that sets it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
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

/// The figures of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Streams open.
    pub clients: u64,
    /// Addresses that are remembered: of streams that are open, and of those that opened one just before.
    pub addresses: u64,
    /// Requests turned away since the start, by the limit they met.
    pub refused: [(Limit, u64); LIMITS],
}

/// The streams that are open, and what limits them.
#[derive(Debug)]
pub struct Limits {
    rules: RwLock<Arc<Rules>>,
    open: Mutex<Open>,
    refused: [AtomicU64; LIMITS],
    /// Locked for a line about a client that was turned away, and by nothing else.
    told: Mutex<Seldom>,
}

impl Limits {
    /// None is open yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules: RwLock::new(Arc::new(rules)),
            open: Mutex::default(),
            refused: Default::default(),
            told: Mutex::new(Seldom::new(TOLD_EVERY)),
        }
    }

    /// Other limits from now on. Streams that are open stay, and stay counted as what they were, also
    /// where there are too many of them now.
    pub fn set(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// The limits in force.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// For whom a request of this peer is.
    #[must_use]
    pub fn client(&self, peer: Peer, headers: &http::HeaderMap) -> Address {
        client(peer, headers, &self.rules().trusted_proxies)
    }

    /// Takes a place for a stream.
    ///
    /// # Errors
    /// The limit that stands against it; it is counted and logged.
    pub fn admit(self: &Arc<Self>, address: Address) -> Result<Slot, Limit> {
        let rules = self.rules();
        let outcome = self.open().enter(address, &rules, Instant::now());
        match outcome {
            Ok(()) => Ok(Slot {
                limits: Arc::clone(self),
                address,
            }),
            Err(limit) => {
                self.turned_away(limit, address);
                Err(limit)
            }
        }
    }

    /// How many streams are open, for how many addresses, and how many were turned away.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let (clients, addresses) = {
            let mut open = self.open();
            // Where nobody comes or goes, who looks forgets them.
            open.sweep(Instant::now());
            (open.clients, open.shares.len() as u64)
        };
        let mut counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        Figures {
            clients,
            addresses,
            refused: Limit::ALL.map(|limit| (limit, counts.next().unwrap_or_default())),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing in there panics half-way.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and logs a client that met a limit.
    pub fn turned_away(&self, limit: Limit, address: Address) {
        self.refused[limit as usize].fetch_add(1, Ordering::Relaxed);
        let key = limit.as_str();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.admit() {
            Some(unsaid) => warn!("{address}: turned away, {key} is reached{unsaid}"),
            None => debug!("{address}: turned away, {key} is reached"),
        }
    }
}

/// The place of one open stream; dropped, it is free.
#[derive(Debug)]
pub struct Slot {
    limits: Arc<Limits>,
    address: Address,
}

impl Slot {
    /// Whom it is counted for.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.limits.open().leave(self.address, Instant::now());
    }
}

#[derive(Debug, Default)]
struct Open {
    clients: u64,
    bucket: Bucket,
    shares: HashMap<Address, Share>,
    /// How many of them have no stream any more.
    left: usize,
    swept_at: Option<Instant>,
}

/// What one address has.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    clients: u64,
    bucket: Bucket,
}

impl Open {
    fn enter(&mut self, address: Address, rules: &Rules, now: Instant) -> Result<(), Limit> {
        let is_reached = |count: u64, limit: u64| limit > 0 && count >= limit;
        if is_reached(self.clients, rules.max_clients) {
            return Err(Limit::Clients);
        }
        let share = self.shares.get(&address).copied().unwrap_or_default();
        if is_reached(share.clients, rules.max_clients_per_ip) {
            return Err(Limit::ClientsPerIp);
        }
        // A token is taken only where the other bucket has one too.
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

    /// Forgets addresses that left with an empty bucket, which has been filled since.
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

    /// Gives memory back where most of it is unused; seldom enough to cost nothing.
    fn shrink(&mut self) {
        let wanted = self.shares.len() + LEAST_ROOM;
        if self.shares.capacity() / 4 > wanted {
            self.shares.shrink_to(wanted * 2);
        }
    }
}

impl Share {
    /// Whether there is nothing to remember.
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
    /// The bucket with a token less, or nothing if there is none. `rate` is in tokens per second, 0 for as
    /// many as you like.
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

    fn rules(max_opens_per_second_per_ip: u32) -> Rules {
        Rules {
            max_opens_per_second_per_ip,
            ..(&HttpSettings::default()).into()
        }
    }

    #[test]
    fn addresses_without_streams_are_forgotten_at_once_where_their_rate_is_unlimited() {
        let (mut open, now) = (Open::default(), Instant::now());
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
        let (mut open, now) = (Open::default(), Instant::now());
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
