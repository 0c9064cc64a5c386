//! Static tokens, and the file that has their hashes.
//!
//! A token is `ksb_` and 32 random bytes in base64url. The file has its SHA-256: a password needs a slow hash because
//! it can be guessed, but nobody can try 2²⁵⁶ tokens, and a slow hash would let every request cost the daemon as much.
//! A line of the file is `sha256:` with 64 hexadecimal digits, and the claims as a JSON object.

use std::collections::HashMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::claims::{Claims, SUBJECT};
use super::units::END_OF_CALENDAR;

/// The prefix of a token, by which scanners for secrets find it.
pub(crate) const PREFIX: &str = "ksb_";

/// The prefix of a hash.
const HASH: &str = "sha256:";

/// The hash of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(HASH)?.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| !pair.contains('+'))?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(hash))
    }
}

/// The identity that a token proves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenEntry {
    /// The claims of its client.
    pub claims: Claims,
    /// When it ends, in seconds since the epoch, if it does.
    pub expires: Option<u64>,
}

/// The tokens that are accepted, by their hashes.
pub(crate) type StaticTokens = HashMap<TokenHash, TokenEntry>;

/// A token of these random bytes.
pub(crate) fn token(random: [u8; 32]) -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random))
}

/// The line of the file for a token.
pub(crate) fn line(token: &str, claims: &Map<String, Value>) -> String {
    let mut line = HASH.to_owned();
    for byte in TokenHash::of(token).0 {
        // Writing into a string cannot fail.
        let _ = write!(line, "{byte:02x}");
    }
    format!("{line} {}", Value::Object(claims.clone()))
}

/// The tokens of a file.
///
/// # Errors
/// The number of the line, what is wrong with it, and the remedy. Never the line, which may be a token by mistake.
pub(crate) fn parse(text: &str) -> Result<StaticTokens, String> {
    let mut tokens = StaticTokens::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fault = |what: &str| format!("line {number} {what}; `kafka-sse-bridge token` prints such a line");
        let (hash, claims) = line.split_once(' ').unwrap_or((line, ""));
        let hash = TokenHash::parse(hash)
            .ok_or_else(|| fault("does not begin with \"sha256:\" and 64 hexadecimal digits"))?;
        let claims: Map<String, Value> = serde_json::from_str(claims)
            .map_err(|_| fault("has no JSON object with claims behind the hash"))?;
        let subject = claims.get(SUBJECT).and_then(Value::as_str);
        if subject.is_none_or(str::is_empty) {
            return Err(fault("has no claim \"sub\" that names the client"));
        }
        let expires = match claims.get("exp") {
            None => None,
            Some(time) => Some(
                time.as_u64()
                    .filter(|seconds| *seconds < END_OF_CALENDAR)
                    .ok_or_else(|| {
                        fault("has \"exp\" that is not in seconds since 1970, up to the year 9999")
                    })?,
            ),
        };
        let entry = TokenEntry {
            claims: claims.into(),
            expires,
        };
        if tokens.insert(hash, entry).is_some() {
            return Err(fault("has the hash of a line before"));
        }
    }
    if tokens.is_empty() {
        return Err("has no token; `kafka-sse-bridge token` makes one".to_owned());
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_is_found_by_the_line_that_was_made_for_it() {
        let token = token([7; 32]);
        let claims = json!({ "sub": "reports", "tenant": ["a", "b"], "exp": 1_900_000_000 });
        let line = line(&token, claims.as_object().expect("an object"));
        assert!(!line.contains(token.trim_start_matches(PREFIX)));
        let text = format!("# reports\n\n{line}\r\n");
        let tokens = parse(&text).expect("tokens");
        let entry = &tokens[&TokenHash::of(&token)];
        assert_eq!(
            (entry.claims.subject(), entry.expires),
            (Some("reports"), Some(1_900_000_000))
        );
        assert!(!tokens.contains_key(&TokenHash::of("ksb_other")));
        // Twice.
        let error = parse(&format!("{line}\n{line}")).expect_err("a duplicate");
        assert!(
            error.starts_with("line 2 has the hash of a line before"),
            "{error}"
        );
    }

    #[test]
    fn errors_name_the_line_and_never_show_it() {
        let hash = format!("sha256:{}", "0".repeat(64));
        for (line, what) in [
            ("ksb_hush {}", "does not begin with"),
            ("sha256:00 {\"sub\":\"hush\"}", "does not begin with"),
            (&hash, "no JSON object"),
            (&format!("{hash} [\"hush\"]"), "no JSON object"),
            (&format!("{hash} {{\"a\":\"hush\"}}"), "no claim \"sub\""),
            (&format!("{hash} {{\"sub\":\"\"}}"), "no claim \"sub\""),
            (&format!("{hash} {{\"sub\":\"x\",\"exp\":\"hush\"}}"), "\"exp\""),
            // No clock can be set to it.
            (
                &format!("{hash} {{\"sub\":\"x\",\"exp\":{END_OF_CALENDAR}}}"),
                "up to the year 9999",
            ),
        ] {
            let error = parse(&format!("\n{line}")).expect_err(line);
            assert!(error.starts_with("line 2 ") && error.contains(what), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
        assert!(parse("# none\n").is_err());
    }
}
