//! Signed tokens: the rules of the settings, and the keys.

use std::sync::Arc;

use super::identity::{Credential, Denied, Expiry, unix_now};
use super::jwks::{Jwks, Newer};
use super::status::AuthStatus;
use crate::config::auth::JwtSettings;
use crate::config::claims::Claims;
use crate::jose::algorithm::Algorithm;
use crate::jose::keys::{KeyId, KeySet};
use crate::jose::token::{Refusal, TokenRules, Unverified, Verified};

/// Verifies tokens.
#[derive(Debug)]
pub(super) struct Jwt {
    settings: JwtSettings,
    rules: TokenRules,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    File(KeySet),
    /// `None` until fetching has begun.
    Url(Option<Arc<Jwks>>),
}

impl Jwt {
    pub(super) fn load(settings: &JwtSettings) -> Result<Self, String> {
        let rules = TokenRules {
            algorithms: settings.algorithms.clone(),
            issuers: settings.issuer.clone(),
            audiences: settings.audience.clone(),
            leeway: settings.leeway.0.as_secs(),
        };
        let keys = match &settings.key_file {
            Some(file) => {
                let keys = KeySet::of_file(&file.read()?, &settings.algorithms);
                Keys::File(keys.map_err(|why| format!("{file} {why}"))?)
            }
            None => Keys::Url(None),
        };
        Ok(Self {
            settings: settings.clone(),
            rules,
            keys,
        })
    }

    /// Begins to fetch keys, or goes on to.
    pub(super) fn begin(&mut self, status: &Arc<AuthStatus>, before: Option<&Self>) {
        match &mut self.keys {
            Keys::File(keys) => {
                status.set_keys(keys.len());
                status.forget_failure();
            }
            Keys::Url(jwks) => {
                let is_same = |before: &&Self| before.settings.jwks_url == self.settings.jwks_url;
                let before = before.filter(is_same).and_then(|before| match &before.keys {
                    Keys::Url(jwks) => jwks.as_ref(),
                    Keys::File(_) => None,
                });
                *jwks = Some(Jwks::begin(
                    &self.settings,
                    status,
                    before.and_then(|jwks| jwks.keys()),
                ));
            }
        }
    }

    /// The client of a token. One that is signed by an unknown key waits for newer keys.
    pub(super) async fn identity(&self, token: &str) -> Result<(Claims, Credential, Expiry), Denied> {
        let unverified = Unverified::parse(token, &self.rules).map_err(Denied::Invalid)?;
        let verify = |keys: &KeySet| unverified.verify(keys, &self.rules, unix_now());
        let verified = match &self.keys {
            Keys::File(keys) => verify(keys).map_err(Denied::Invalid)?,
            Keys::Url(None) => return Err(Denied::Unavailable),
            Keys::Url(Some(jwks)) => {
                let mut newer = Newer::Perhaps;
                loop {
                    let known = jwks.keys().map_or(Err(Refusal::UnknownKey), |keys| verify(&keys));
                    match (known, newer) {
                        (Err(Refusal::UnknownKey), Newer::Perhaps) => {
                            newer = jwks.look_for_unknown_key().await;
                        }
                        // It may be signed by a key that is not fetched yet.
                        (Err(Refusal::UnknownKey), Newer::Unknown) => return Err(Denied::Unavailable),
                        (outcome, _) => break outcome.map_err(Denied::Invalid)?,
                    }
                }
            }
        };
        let Verified {
            claims,
            expires,
            key,
            algorithm,
        } = verified;
        let expires = Expiry {
            at: expires,
            leeway: self.rules.leeway,
        };
        Ok((claims.into(), Credential::Jwt(key, algorithm), expires))
    }

    /// Whether a token with these claims would be accepted now, but for its end.
    pub(super) fn still_accepts(&self, key: KeyId, algorithm: Algorithm, claims: &Claims) -> bool {
        let has_key = match &self.keys {
            Keys::File(keys) => keys.has(key),
            // Before keys could be fetched from another URL, nothing is known of the token.
            Keys::Url(jwks) => {
                let keys = jwks.as_ref().and_then(|jwks| jwks.keys());
                keys.is_none_or(|keys| keys.has(key))
            }
        };
        has_key && self.rules.accept(algorithm, claims.as_map())
    }
}
