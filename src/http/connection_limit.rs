//! The limit of connections per client address (`max_connections_per_ip`).
//!
//! A connection counts from when it is accepted until it ends, whatever is sent over it: a client that sends nothing, or
//! keeps connections open between requests, takes descriptors all the same. Trusted proxies and Unix sockets are not
//! limited. The lock is taken when a connection begins and ends, and only while there is a limit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::forwarded::{Address, is_proxy};
use super::peer::Peer;
use crate::config::HttpSettings;
use crate::config::proxies::Proxy;

#[derive(Debug, Default)]
pub(super) struct ConnectionLimit {
    rules: RwLock<AddressRules>,
    /// Of addresses that have connections.
    counts: Mutex<HashMap<Address, u64>>,
}

#[derive(Debug, Default)]
struct AddressRules {
    /// 0 is unlimited.
    most: u64,
    trusted_proxies: Vec<Proxy>,
}

/// A connection of a peer, counted until it is dropped; or one that is not limited.
#[derive(Debug)]
pub(super) struct Share {
    peer: Peer,
    /// `None` if it is not limited.
    counted_in: Option<Arc<ConnectionLimit>>,
}

impl ConnectionLimit {
    /// Applies to connections that begin from now on. Those that began without a limit are not counted.
    pub(super) fn apply(&self, http: &HttpSettings) {
        *self.rules.write() = AddressRules {
            most: http.max_connections_per_ip,
            trusted_proxies: http.trusted_proxies.clone(),
        };
    }

    /// Counts a connection.
    ///
    /// # Errors
    /// The address, if that has as many as it may have.
    pub(super) fn enter(self: &Arc<Self>, peer: Peer) -> Result<Share, Address> {
        let rules = self.rules.read();
        let Peer::Tcp(socket) = peer else {
            return Ok(Share::unlimited(peer));
        };
        if rules.most == 0 || is_proxy(peer, &rules.trusted_proxies) {
            return Ok(Share::unlimited(peer));
        }
        let address = Address::from(socket.ip());
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_insert(0);
        if *count >= rules.most {
            return Err(address);
        }
        *count += 1;
        Ok(Share {
            peer,
            counted_in: Some(Arc::clone(self)),
        })
    }
}

impl Share {
    pub(super) const fn unlimited(peer: Peer) -> Self {
        Self {
            peer,
            counted_in: None,
        }
    }

    pub(super) const fn peer(&self) -> Peer {
        self.peer
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let (Some(limit), Peer::Tcp(socket)) = (&self.counted_in, self.peer) else {
            return;
        };
        let mut counts = limit.counts.lock();
        if let Entry::Occupied(mut count) = counts.entry(socket.ip().into()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::Tcp((address.parse::<IpAddr>().expect(address), 4711).into())
    }

    fn limit(most: u64) -> Arc<ConnectionLimit> {
        let limit = ConnectionLimit::default();
        limit.apply(&HttpSettings {
            max_connections_per_ip: most,
            trusted_proxies: vec![
                "10.0.0.0/8".parse().expect("a range"),
                "unix".parse().expect("a word"),
            ],
            ..HttpSettings::default()
        });
        Arc::new(limit)
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let limit = limit(2);
        let one = limit.enter(peer("192.0.2.1")).expect("the first");
        let _two = limit.enter(peer("192.0.2.1")).expect("the second");
        assert_eq!(
            limit
                .enter(peer("192.0.2.1"))
                .expect_err("one too many")
                .to_string(),
            "192.0.2.1"
        );
        let _other = limit.enter(peer("192.0.2.2")).expect("another address");
        drop(one);
        let _again = limit.enter(peer("192.0.2.1")).expect("one has ended");
        // One network of IPv6 is one client.
        let _six =
            ["2001:db8::1", "2001:db8::2"].map(|address| limit.enter(peer(address)).expect("the first two"));
        assert!(limit.enter(peer("2001:db8::3")).is_err());
        assert_eq!(limit.counts.lock().len(), 3);
    }

    #[test]
    fn proxies_and_sockets_are_not_limited_and_nothing_is_counted_without_a_limit() {
        let limited = limit(1);
        for peer in [peer("10.1.2.3"), Peer::Unix] {
            let _all = [(); 5].map(|()| limited.enter(peer).expect("not limited"));
            assert!(limited.counts.lock().is_empty());
        }
        let unlimited = limit(0);
        let open = [(); 5].map(|()| unlimited.enter(peer("192.0.2.1")).expect("no limit"));
        assert!(unlimited.counts.lock().is_empty());
        // Their ends are not counted against those that a reload limits.
        unlimited.apply(&HttpSettings {
            max_connections_per_ip: 1,
            ..HttpSettings::default()
        });
        let _counted = unlimited.enter(peer("192.0.2.1")).expect("the first that counts");
        drop(open);
        assert!(unlimited.enter(peer("192.0.2.1")).is_err());
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let limit = limit(1);
        drop(limit.enter(peer("192.0.2.1")).expect("the first"));
        drop(limit.enter(peer("192.0.2.1")).expect("the next"));
        assert!(limit.counts.lock().is_empty());
    }
}
