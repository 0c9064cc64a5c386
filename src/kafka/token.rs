//! The token of OAUTHBEARER, as it stands in its file: how long it is valid, and whose it is.
//!
//! Reads what a JWT says of itself (RFC 7519) and judges nothing: that is the broker's to do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::config::FileName;

/// How long a token counts as valid that does not say it: its file is read again before that.
const UNSAID: Duration = Duration::from_secs(300);

/// A token, and what it says.
pub(super) struct Token {
    /// What is sent.
    pub(super) text: String,
    /// Whose it is, if it says so.
    pub(super) subject: Option<String>,
    /// Until when it is to be used.
    pub(super) until: SystemTime,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Seconds since the epoch, which may have a fraction.
    exp: Option<f64>,
}

impl Token {
    /// Reads the token that the file holds now.
    ///
    /// # Errors
    /// When there is none, or it has expired; the token itself is never told.
    pub(super) fn read(file: &FileName) -> Result<Self, String> {
        let text = file.secret()?.trim().to_owned();
        let claims = claims(&text);
        let now = SystemTime::now();
        let said = claims.as_ref().and_then(|claims| claims.exp);
        let until = match said.map(Duration::try_from_secs_f64) {
            Some(Ok(exp)) => UNIX_EPOCH.checked_add(exp),
            Some(Err(_)) => Some(UNIX_EPOCH),
            None => now.checked_add(UNSAID),
        };
        // What no calendar holds is for ever.
        let until = until.unwrap_or(now + UNSAID);
        if until <= now {
            return Err(format!(
                "the token in {file} expired at {}; put a new one there",
                humantime::format_rfc3339_seconds(until)
            ));
        }
        Ok(Self {
            text,
            subject: claims.and_then(|claims| claims.sub),
            until,
        })
    }

    /// The last moment of its use, in milliseconds since the epoch.
    pub(super) fn until_millis(&self) -> i64 {
        let since = self.until.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The second of a JWT's three parts; `None` where it is something else.
fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&claims).ok()
}
