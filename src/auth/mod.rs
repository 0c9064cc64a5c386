//! Authentication and authorisation of clients: signed tokens, static tokens, headers of trusted proxies, and certificates.
//!
//! [`policy`] has the rules of the settings and decides; [`identity`] is a client, or why it is none; `jwt` verifies
//! signed tokens with keys of a file or of `jwks`, which fetches them; [`certificate`] makes claims of a client's
//! certificate; [`status`] counts and shows. [`Auth`] holds the rules in force, and hands out the right to a stream, which
//! is asked again whenever the rules, the keys or the CAs change.
//! Must not know requests: where a token comes from is the job of [`http`](crate::http).
#![forbid(unsafe_code)]

pub(crate) mod certificate;
pub(crate) mod identity;
#[cfg(feature = "jwt")]
mod jwks;
#[cfg(feature = "jwt")]
mod jwt;
pub(crate) mod policy;
pub(crate) mod status;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use self::certificate::Authorities;
use self::identity::{Basis, Denied, Identity, since_epoch};
use self::policy::Policy;
use self::status::AuthStatus;
use crate::config::Settings;
#[cfg(feature = "jwt")]
use crate::config::auth::JwtSettings;
use crate::config::claims::Claims;
#[cfg(feature = "jwt")]
use crate::jose::algorithm::Algorithm;
#[cfg(feature = "jwt")]
use crate::jose::keys::KeySet;
use crate::stream::access::{Access, Deadline, Grant};

/// The rules in force.
#[derive(Debug)]
pub struct Auth {
    policy: RwLock<Arc<Policy>>,
    /// The CAs that certificates of clients are verified by now.
    authorities: RwLock<Arc<Authorities>>,
    /// Its counters and faults.
    pub status: Arc<AuthStatus>,
}

/// Rules that are ready to take effect.
#[derive(Debug)]
pub struct Prepared(Policy);

impl Prepared {
    /// Reads the files of the settings.
    ///
    /// # Errors
    /// Names a file that cannot be used.
    pub fn load(settings: &Settings) -> Result<Self, String> {
        Policy::load(settings).map(Self)
    }
}

impl Auth {
    /// No rules: everybody may read.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            policy: RwLock::default(),
            authorities: RwLock::default(),
            status: Arc::default(),
        })
    }

    /// Puts rules into force, and begins to fetch keys where they come from a URL. To be called within the runtime that
    /// has sockets; the owner of the streams has their readers check their rights afterwards.
    pub fn apply(&self, Prepared(mut policy): Prepared) {
        let before = self.policy();
        policy.begin(&self.status, &before);
        *self.policy.write() = Arc::new(policy);
    }

    /// Notes the CAs that certificates of clients are verified by from now on. What rests on another one ends.
    #[cfg(feature = "rustls")]
    pub fn set_authorities(&self, authorities: &Arc<Authorities>) {
        let before = std::mem::replace(&mut *self.authorities.write(), Arc::clone(authorities));
        if !authorities.contain(&before) {
            self.status.rights_changed();
        }
    }

    fn trusts(&self, basis: &Basis) -> bool {
        let verified_by = basis.authorities.as_ref();
        verified_by.is_none_or(|before| {
            let now = self.authorities.read();
            Arc::ptr_eq(&now, before) || now.contain(before)
        })
    }

    /// The rules in force.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read())
    }

    /// Whether a client may read the stream at this path.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, policy: &Policy, identity: &Identity, path: &str) -> Result<(), Denied> {
        if !self.trusts(&identity.basis) {
            return Err(Denied::CertificateUntrusted);
        }
        if !policy.allow(path).admits(&identity.claims) {
            return Err(Denied::NotAllowed);
        }
        Ok(())
    }

    /// The right of a client to the stream at this path.
    ///
    /// # Errors
    /// When it may not read the stream.
    pub fn grant(
        self: &Arc<Self>,
        policy: &Policy,
        identity: Identity,
        path: &str,
    ) -> Result<Access, Denied> {
        self.check(policy, &identity, path)?;
        let Identity {
            claims,
            basis,
            expires,
        } = identity;
        let deadline = expires.map(|expires| {
            // In this order: no client whose right has ended returns before the token is removed.
            let (since_epoch, now) = (since_epoch(), Instant::now());
            let at = |seconds| instant_of(seconds, now, since_epoch);
            let warn_before = policy.warn_before();
            Deadline {
                warns_at: (warn_before > 0).then(|| at(expires.at.saturating_sub(warn_before))),
                ends_at: at(expires.end()),
            }
        });
        let right = Right {
            auth: Arc::downgrade(self),
            basis,
        };
        Ok(Access::new(claims, deadline, Box::new(right)))
    }
}

/// The instant of a time in seconds since the epoch; `now` and `since_epoch` are the same moment by two clocks. A time that
/// is over is now.
fn instant_of(seconds: u64, now: Instant, since_epoch: Duration) -> Instant {
    now + Duration::from_secs(seconds).saturating_sub(since_epoch)
}

/// Whether the keys of signed tokens can be had now, and which, in words.
///
/// # Errors
/// Why not; the text completes a sentence that begins with the URL or the file.
#[cfg(feature = "jwt")]
pub(crate) async fn check_keys(settings: &JwtSettings) -> Result<Keys, String> {
    let keys = match &settings.key_file {
        Some(file) => KeySet::of_file(&file.read()?, &settings.algorithms)?,
        None => jwks::fetch(settings).await?,
    };
    let (used, unused) = settings
        .algorithms
        .iter()
        .partition(|algorithm| keys.has_for(**algorithm));
    Ok(Keys {
        count: keys.len(),
        used,
        unused,
    })
}

/// Keys of signed tokens.
#[cfg(feature = "jwt")]
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) count: usize,
    /// The configured algorithms that one of them is for.
    pub(crate) used: Vec<Algorithm>,
    /// The others.
    pub(crate) unused: Vec<Algorithm>,
}

/// A right that rests on a credential.
#[derive(Debug)]
struct Right {
    auth: Weak<Auth>,
    basis: Basis,
}

impl Grant for Right {
    fn holds(&self, path: &str, claims: &Claims) -> bool {
        // Without rules the daemon ends.
        self.auth.upgrade().is_some_and(|auth| {
            let is_trusted = auth.trusts(&self.basis);
            auth.policy().still_admits(&self.basis, is_trusted, path, claims)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_ends_with_its_token_and_not_up_to_a_second_later() {
        let now = Instant::now();
        let at = |seconds| instant_of(seconds, now, Duration::from_millis(10_999)) - now;
        assert_eq!(at(11), Duration::from_millis(1));
        assert_eq!(at(14), Duration::from_millis(3001));
        assert_eq!(at(10), Duration::ZERO);
    }
}
