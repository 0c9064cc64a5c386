//! The rules of the settings: who a client is by its token or its proxy's headers, and what it may read.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Map, Value};

use super::identity::{Credential, Denied, Expiry, Identity, ProxyCredential, ProxyRules, unix_now};
#[cfg(feature = "jwt")]
use super::jwt::Jwt;
use super::status::AuthStatus;
use crate::config::Settings;
use crate::config::auth::{Allow, AuthSettings};
use crate::config::claims::{Claims, SUBJECT};
use crate::config::static_tokens::{self, PREFIX, StaticTokens, TokenHash};

/// The rules.
#[derive(Debug, Default)]
pub struct Policy {
    settings: AuthSettings,
    #[cfg(feature = "jwt")]
    jwt: Option<Jwt>,
    tokens: Option<StaticTokens>,
    proxy: Option<Arc<ProxyRules>>,
    allow: HashMap<String, Allow>,
}

impl Policy {
    pub(super) fn load(settings: &Settings) -> Result<Self, String> {
        let auth = &settings.auth;
        let tokens = match auth.tokens.as_ref().and_then(|tokens| tokens.file.as_ref()) {
            Some(file) => {
                let tokens = static_tokens::parse(&file.secret()?);
                Some(tokens.map_err(|why| format!("{file} {why}"))?)
            }
            None => None,
        };
        let proxy = auth.proxy.as_ref().map(|proxy| {
            // Validated settings have names of headers only.
            let headers = proxy.headers.iter().filter_map(|(claim, header)| {
                Some((claim.clone(), header.parse().ok()?, proxy.lists.contains(claim)))
            });
            Arc::new(ProxyRules {
                headers: headers.collect(),
                trusted: settings.http.trusted_proxies.clone(),
            })
        });
        let streams = settings.streams.iter();
        let allow = streams.filter_map(|stream| Some((stream.path.clone(), stream.allow.clone()?)));
        Ok(Self {
            #[cfg(feature = "jwt")]
            jwt: auth.jwt.as_ref().map(Jwt::load).transpose()?,
            tokens,
            proxy,
            allow: allow.collect(),
            settings: auth.clone(),
        })
    }

    /// Begins to fetch keys, with those of the rules before where they come from the same place.
    #[cfg_attr(
        not(feature = "jwt"),
        expect(clippy::unused_self, reason = "keys are fetched with that feature only")
    )]
    pub(super) fn begin(&mut self, status: &Arc<AuthStatus>, before: &Self) {
        #[cfg(feature = "jwt")]
        if let Some(jwt) = &mut self.jwt {
            jwt.begin(status, before.jwt.as_ref());
            return;
        }
        #[cfg(not(feature = "jwt"))]
        let _ = before;
        status.set_keys(0);
        status.forget_failure();
    }

    /// Whether clients can say who they are.
    pub fn is_configured(&self) -> bool {
        self.settings.is_configured()
    }

    /// Whether clients may send tokens.
    pub fn takes_tokens(&self) -> bool {
        self.settings.jwt.is_some() || self.settings.tokens.is_some()
    }

    /// How clients may say who they are, in words for programs; without the names of cookie, parameter and headers.
    pub fn accepts(&self) -> Vec<&'static str> {
        let takes_tokens = self.takes_tokens();
        let ways = [
            (takes_tokens, "bearer"),
            (takes_tokens && self.cookie().is_some(), "cookie"),
            (takes_tokens && self.query_parameter().is_some(), "query"),
            (self.proxy.is_some(), "proxy"),
        ];
        ways.into_iter()
            .filter(|(is_open, _)| *is_open)
            .map(|(_, way)| way)
            .collect()
    }

    /// The cookie that may hold a token.
    pub fn cookie(&self) -> Option<&str> {
        self.settings.cookie.as_deref()
    }

    /// The query parameter that may hold a token.
    pub fn query_parameter(&self) -> Option<&str> {
        self.settings.query_parameter.as_deref()
    }

    /// In seconds.
    pub(super) fn warn_before(&self) -> u64 {
        self.settings.warn_before.0.as_secs()
    }

    /// Who may read the stream at a path.
    pub fn allow(&self, path: &str) -> &Allow {
        let default = if self.is_configured() {
            &Allow::Authenticated
        } else {
            &Allow::Public
        };
        self.allow.get(path).unwrap_or(default)
    }

    /// The client that a proxy names, if it is trusted; `peer` is whether it is.
    ///
    /// # Errors
    /// For a header that could mean two clients.
    pub fn of_proxy(&self, is_trusted: bool, headers: &HeaderMap) -> Result<Option<Identity>, Denied> {
        let Some(rules) = self.proxy.as_ref().filter(|_| is_trusted) else {
            return Ok(None);
        };
        let mut claims = Map::new();
        for (claim, header, is_list) in &rules.headers {
            let mut lines = headers.get_all(header).iter();
            let Some(line) = lines.next() else { continue };
            // One of them may be the client's own.
            if lines.next().is_some() {
                return Err(Denied::ProxyHeader);
            }
            let text = std::str::from_utf8(line.as_bytes()).map_err(|_| Denied::ProxyHeader)?;
            let value = if *is_list {
                text.split(',').map(|part| Value::from(part.trim())).collect()
            } else {
                Value::from(text.trim())
            };
            claims.insert(claim.clone(), value);
        }
        if claims.get(SUBJECT).is_none_or(|subject| subject == "") {
            return Ok(None);
        }
        Ok(Some(Identity {
            claims: claims.into(),
            credential: Credential::Proxy(ProxyCredential(Arc::clone(rules))),
            expires: None,
        }))
    }

    /// The client that a token names. Waits for keys if it is signed by an unknown one.
    ///
    /// # Errors
    /// When the token is not acceptable.
    #[cfg_attr(
        not(feature = "jwt"),
        expect(clippy::unused_async, reason = "only keys of signed tokens are waited for")
    )]
    pub async fn of_token(&self, token: &str) -> Result<Identity, Denied> {
        if let Some(tokens) = &self.tokens
            && token.starts_with(PREFIX)
        {
            let hash = TokenHash::of(token);
            let entry = tokens.get(&hash).ok_or(Denied::UnknownToken)?;
            if entry.expires.is_some_and(|end| end <= unix_now()) {
                return Err(Denied::Expired);
            }
            return Ok(Identity {
                claims: entry.claims.clone(),
                credential: Credential::Token(hash),
                expires: entry.expires.map(|at| Expiry { at, leeway: 0 }),
            });
        }
        #[cfg(feature = "jwt")]
        if let Some(jwt) = &self.jwt {
            return jwt.identity(token).await;
        }
        Err(Denied::UnknownToken)
    }

    /// Whether a right that was given by earlier rules would be given by these.
    pub(super) fn still_admits(&self, credential: &Credential, path: &str, claims: &Claims) -> bool {
        let Some(allow) = self.allow.get(path) else {
            // A stream that is gone ends by itself, and says so.
            return true;
        };
        let is_known = || match credential {
            #[cfg(feature = "jwt")]
            Credential::Jwt(key, algorithm) => {
                let jwt = self.jwt.as_ref();
                jwt.is_some_and(|jwt| jwt.still_accepts(*key, *algorithm, claims))
            }
            Credential::Token(hash) => {
                let entry = self.tokens.as_ref().and_then(|tokens| tokens.get(hash));
                entry.is_some_and(|entry| entry.claims == *claims)
            }
            Credential::Proxy(ProxyCredential(rules)) => self.proxy.as_ref() == Some(rules),
        };
        allow.is_public() || allow.admits(claims) && is_known()
    }
}
