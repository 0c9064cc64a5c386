//! Tokens: parsed, verified, and their registered claims checked (RFC 7519, section 7.2; RFC 8725).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::keys::{KeyId, KeySet};
use super::strict;

/// Most bytes of a token.
pub(crate) const MAX_TOKEN: usize = 8 * 1024;

/// The last second that a time may be: the end of the year 9999.
const END_OF_CALENDAR: u64 = 253_402_300_799;

/// Types of tokens (`typ`, without `application/`) that authenticate a client. Others, such as `logout+jwt`, are for other
/// purposes (RFC 8725, section 3.11).
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More than [`MAX_TOKEN`].
    #[error("the token is larger than {MAX_TOKEN} bytes")]
    TooLarge,
    /// Not three parts in base64url, or no JSON objects in which each member occurs once.
    #[error("the token is malformed")]
    Malformed,
    /// Not one of the configured algorithms.
    #[error("the token is signed by an algorithm that is not accepted")]
    Algorithm,
    /// `crit` names an extension; none is known.
    #[error("the token has a critical header that is not understood")]
    Critical,
    /// It is for another purpose.
    #[error("the token is of another type")]
    Type,
    /// No key has its `kid`.
    #[error("the token is signed by an unknown key")]
    UnknownKey,
    /// The signature is not by the key.
    #[error("the signature of the token is invalid")]
    Signature,
    /// No `exp`.
    #[error("the token has no time at which it ends")]
    NoEnd,
    /// `exp` or `nbf` is no time.
    #[error("a time in the token is invalid")]
    Time,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// Another `iss`.
    #[error("the token is of another issuer")]
    Issuer,
    /// Another `aud`.
    #[error("the token is for another audience")]
    Audience,
}

/// The rules for tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenRules {
    /// The algorithms.
    pub algorithms: Vec<Algorithm>,
    /// Values of `iss`; empty for any.
    pub issuers: Vec<String>,
    /// Values of `aud`, of which a token must have one. Empty accepts tokens without `aud` only.
    pub audiences: Vec<String>,
    /// Seconds by which clocks may differ.
    pub leeway: u64,
}

/// A token whose signature has not been verified.
#[derive(Debug)]
pub struct Unverified<'t> {
    /// Header and payload as they are signed.
    signed: &'t str,
    payload: &'t str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<String>,
}

/// A token whose signature is by one of the keys, and whose registered claims are as they should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// All claims.
    pub claims: Map<String, Value>,
    /// `exp`, in seconds since the epoch.
    pub expires: u64,
    /// The key.
    pub key: KeyId,
    /// The algorithm that it was used with.
    pub algorithm: Algorithm,
}

impl<'t> Unverified<'t> {
    /// Parses a token.
    ///
    /// # Errors
    /// When its form or its header is not acceptable.
    pub fn parse(token: &'t str, rules: &TokenRules) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Malformed);
        let header = strict::object(&decode(header)?).ok_or(Refusal::Malformed)?;
        let name = header
            .get("alg")
            .and_then(Value::as_str)
            .ok_or(Refusal::Malformed)?;
        let algorithm = name.parse().map_err(|_| Refusal::Algorithm)?;
        if !rules.algorithms.contains(&algorithm) {
            return Err(Refusal::Algorithm);
        }
        if header.contains_key("crit") {
            return Err(Refusal::Critical);
        }
        if let Some(name) = header.get("typ") {
            let name = name.as_str().ok_or(Refusal::Malformed)?.to_ascii_lowercase();
            if !TYPES.contains(&name.strip_prefix("application/").unwrap_or(&name)) {
                return Err(Refusal::Type);
            }
        }
        let kid = match header.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().ok_or(Refusal::Malformed)?.to_owned()),
        };
        Ok(Self {
            signature: decode(signature)?,
            signed,
            payload,
            algorithm,
            kid,
        })
    }

    /// Verifies the signature, and then the claims at `now`, in seconds since the epoch.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`] where no key can be meant, so that newer keys may be fetched; otherwise what is wrong.
    pub fn verify(&self, keys: &KeySet, rules: &TokenRules, now: u64) -> Result<Verified, Refusal> {
        let mut candidates = keys.candidates(self.kid.as_deref(), self.algorithm).peekable();
        if candidates.peek().is_none() {
            return Err(Refusal::UnknownKey);
        }
        let key = candidates
            .find(|key| {
                key.material
                    .verifies(self.algorithm, self.signed.as_bytes(), &self.signature)
            })
            .ok_or(Refusal::Signature)?;
        let payload = URL_SAFE_NO_PAD
            .decode(self.payload)
            .map_err(|_| Refusal::Malformed)?;
        let claims = strict::object(&payload).ok_or(Refusal::Malformed)?;
        let expires = check(&claims, rules, now)?;
        Ok(Verified {
            claims,
            expires,
            key: key.id,
            algorithm: self.algorithm,
        })
    }
}

/// Checks the registered claims. Returns `exp`.
fn check(claims: &Map<String, Value>, rules: &TokenRules, now: u64) -> Result<u64, Refusal> {
    let expires = time(claims.get("exp").ok_or(Refusal::NoEnd)?)?;
    if now >= expires.saturating_add(rules.leeway) {
        return Err(Refusal::Expired);
    }
    if let Some(begins) = claims.get("nbf")
        && time(begins)? > now.saturating_add(rules.leeway)
    {
        return Err(Refusal::NotYet);
    }
    rules.check_names(claims)?;
    Ok(expires)
}

impl TokenRules {
    /// Whether a token that was accepted before is acceptable by these rules, but for its times.
    pub fn accept(&self, algorithm: Algorithm, claims: &Map<String, Value>) -> bool {
        self.algorithms.contains(&algorithm) && self.check_names(claims).is_ok()
    }

    fn check_names(&self, claims: &Map<String, Value>) -> Result<(), Refusal> {
        let issuer = claims.get("iss").and_then(Value::as_str);
        let is_known = |issuer| self.issuers.iter().any(|known| known == issuer);
        if !self.issuers.is_empty() && !issuer.is_some_and(is_known) {
            return Err(Refusal::Issuer);
        }
        let is_meant = |audience: &Value| self.audiences.iter().any(|own| audience == own.as_str());
        let is_for_us = match claims.get("aud") {
            None => self.audiences.is_empty(),
            Some(Value::Array(all)) => all.iter().all(Value::is_string) && all.iter().any(is_meant),
            Some(audience) => is_meant(audience),
        };
        if is_for_us { Ok(()) } else { Err(Refusal::Audience) }
    }
}

/// A time in seconds since the epoch, which may have a fraction (RFC 7519, section 2); it is rounded down.
pub(super) fn time(value: &Value) -> Result<u64, Refusal> {
    let whole = value.as_u64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| (0.0..1e12).contains(seconds))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is in this range"
        )]
        Some(seconds as u64)
    });
    whole
        .filter(|seconds| *seconds <= END_OF_CALENDAR)
        .ok_or(Refusal::Time)
}
