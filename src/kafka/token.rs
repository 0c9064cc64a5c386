//! Reads the OAUTHBEARER token from its file, with its expiry and its subject.
//!
//! Decodes the claims of a JWT (RFC 7519) and verifies nothing: the broker verifies the token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use log::warn;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::config::{FileName, units};
use crate::logging::Seldom;

/// How long a token without a plausible `exp` counts as valid: its file is read again before that.
const UNSAID: Duration = Duration::from_secs(300);

/// A later `exp` is implausible (100 years): it is in milliseconds, or a placeholder for "never".
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Shortest time between two warnings about such an `exp`: several handles read the token every few minutes.
static DISBELIEF: Mutex<Seldom> = Mutex::new(Seldom::new(Duration::from_secs(3600)));

pub(super) struct Token {
    pub(super) text: String,
    pub(super) subject: Option<String>,
    /// When it expires, or its file must be read again.
    pub(super) until: SystemTime,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Seconds since the epoch, which may have a fraction.
    exp: Option<f64>,
}

impl Token {
    /// Reads the token that the file holds now. Errors never contain the token.
    pub(super) fn read(file: &FileName) -> Result<Self, String> {
        let text = file.secret()?.trim().to_owned();
        let claims = claims(&text);
        let now = SystemTime::now();
        let until = match claims.as_ref().and_then(|claims| claims.exp) {
            Some(exp) => instant(exp, now + LONGEST).unwrap_or_else(|| {
                let mut seldom = DISBELIEF.lock();
                if let Some(held_back) = seldom.admit() {
                    warn!(
                        "the token in {file} has exp = {exp}, which is not a time in seconds since 1970 (RFC 7519, \
                         section 4.1.4); its file is read again every {UNSAID:?} instead: correct the issuer{held_back}"
                    );
                }
                now + UNSAID
            }),
            None => now + UNSAID,
        };
        if until <= now {
            return Err(format!(
                "the token in {file} expired at {}; put a new one there",
                units::Instant::seconds(until)
            ));
        }
        Ok(Self {
            text,
            subject: claims.and_then(|claims| claims.sub),
            until,
        })
    }

    pub(super) fn until_millis(&self) -> i64 {
        let since = self.until.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The instant of an `exp`, in seconds since the epoch; `None` beyond `latest`.
fn instant(exp: f64, latest: SystemTime) -> Option<SystemTime> {
    if exp <= 0.0 {
        return Some(UNIX_EPOCH);
    }
    let since = Duration::try_from_secs_f64(exp).ok()?;
    UNIX_EPOCH.checked_add(since).filter(|until| *until <= latest)
}

/// The payload of a JWT, its second part; `None` for a token that is not a JWT.
fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&claims).ok()
}
