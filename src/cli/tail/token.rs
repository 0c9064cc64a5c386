//! The token that a client sends: from a file or the environment, because others see the arguments of a process.

use http::HeaderValue;

use crate::config::FileName;

/// The variable that may hold the token.
pub(super) const VARIABLE: &str = "KAFKA_SSE_BRIDGE_TOKEN";

/// Where the token comes from.
#[derive(Debug, Clone)]
pub(super) enum Token {
    None,
    /// Read for each connection, because tokens are renewed.
    File(FileName),
    Environment(HeaderValue),
}

impl Token {
    /// The token of the file, otherwise of the environment.
    ///
    /// # Errors
    /// When the variable cannot be a token.
    pub(super) fn new(file: Option<FileName>) -> Result<Self, String> {
        if let Some(file) = file {
            return Ok(Self::File(file));
        }
        match std::env::var(VARIABLE) {
            Ok(text) if text.is_empty() => Ok(Self::None),
            Ok(text) => bearer(&text, VARIABLE).map(Self::Environment),
            Err(std::env::VarError::NotPresent) => Ok(Self::None),
            Err(std::env::VarError::NotUnicode(_)) => Err(no_token(VARIABLE)),
        }
    }

    pub(super) fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The value of `Authorization`.
    ///
    /// # Errors
    /// When the file has no token.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, String> {
        match self {
            Self::None => Ok(None),
            Self::File(file) => bearer(&file.secret()?, &file.to_string()).map(Some),
            Self::Environment(value) => Ok(Some(value.clone())),
        }
    }

    /// The remedy for a token that is missing or not accepted.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::None => {
                format!("name the file of a token by --token-file, or put the token into {VARIABLE}")
            }
            Self::File(file) => format!("put a token that is accepted into {file}"),
            Self::Environment(_) => format!("put a token that is accepted into {VARIABLE}"),
        }
    }
}

/// RFC 6750, section 2.1. Errors never contain the token.
fn bearer(token: &str, place: &str) -> Result<HeaderValue, String> {
    let token = token.trim();
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.ok().filter(|_| is_token).ok_or_else(|| no_token(place))?;
    value.set_sensitive(true);
    Ok(value)
}

fn no_token(place: &str) -> String {
    format!("{place} holds no token, which is one line without spaces")
}
