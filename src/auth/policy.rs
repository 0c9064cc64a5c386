//! The rules of the settings: how a token or a proxy's headers identify a client, and what it may read.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Map, Value};

use super::certificate::ClientCertificate;
use super::identity::{Basis, Credential, Denied, Expiry, Identity, ProxyCredential, ProxyRules, unix_now};
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

    /// Whether clients can authenticate.
    pub fn is_configured(&self) -> bool {
        self.settings.is_configured()
    }

    /// Whether clients may send tokens.
    pub fn takes_tokens(&self) -> bool {
        self.settings.takes_tokens()
    }

    /// The ways in which clients may authenticate, in words for programs; without the names of cookie, parameter and headers.
    pub fn accepts(&self) -> Vec<&'static str> {
        let takes_tokens = self.takes_tokens();
        let ways = [
            (takes_tokens, "bearer"),
            (takes_tokens && self.cookie().is_some(), "cookie"),
            (takes_tokens && self.query_parameter().is_some(), "query"),
            (self.proxy.is_some(), "proxy"),
            (self.settings.certificate.is_some(), "certificate"),
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

    /// The clients that may read the stream at a path.
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
        let credential = Credential::Proxy(ProxyCredential(Arc::clone(rules)));
        // Its certificate, if there is one, is the proxy's own.
        self.identity(claims.into(), credential, None, None).map(Some)
    }

    /// The client that its certificate names, if certificates identify clients.
    ///
    /// # Errors
    /// When the certificate has ended since it was verified.
    pub fn of_certificate(&self, certificate: &ClientCertificate) -> Result<Option<Identity>, Denied> {
        let Some(rules) = self.settings.certificate else {
            return Ok(None);
        };
        let claims = certificate.claims(rules.sub);
        self.identity(claims, Credential::Certificate, None, Some(certificate))
            .map(Some)
    }

    /// Why a client that has sent nothing may not read.
    pub fn denial_of_nobody(&self) -> Denied {
        if self.takes_tokens() {
            Denied::NoToken
        } else if self.settings.certificate.is_some() {
            Denied::NoCertificate
        } else {
            Denied::NotByProxy
        }
    }

    /// A client with these claims, and those of its certificate: until the first of both ends. Nothing but a certificate
    /// makes those.
    fn identity(
        &self,
        claims: Claims,
        credential: Credential,
        expires: Option<Expiry>,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Identity, Denied> {
        let rules = self.settings.certificate;
        let mut identity = Identity {
            claims,
            basis: Basis {
                credential,
                rules,
                authorities: None,
            },
            expires,
        };
        if rules.is_none() {
            return Ok(identity);
        }
        let mut claims = identity.claims.without_certificate();
        if let Some(certificate) = certificate {
            let expiry = Expiry {
                at: certificate.not_after,
                leeway: 0,
            };
            if expiry.end() <= unix_now() {
                return Err(Denied::CertificateExpired);
            }
            let is_first = |other: &Expiry| other.end() < expiry.end();
            identity.expires = Some(expires.filter(is_first).unwrap_or(expiry));
            identity.basis.authorities = Some(Arc::clone(&certificate.authorities));
            certificate.add_to(&mut claims);
        }
        identity.claims = claims.into();
        Ok(identity)
    }

    /// The client that a token names, with this certificate. Waits for keys if it is signed by an unknown one.
    ///
    /// # Errors
    /// When the token is not acceptable.
    #[cfg_attr(
        not(feature = "jwt"),
        expect(clippy::unused_async, reason = "only keys of signed tokens are waited for")
    )]
    pub async fn of_token(
        &self,
        token: &str,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Identity, Denied> {
        if let Some(tokens) = &self.tokens
            && token.starts_with(PREFIX)
        {
            let hash = TokenHash::of(token);
            let entry = tokens.get(&hash).ok_or(Denied::UnknownToken)?;
            if entry.expires.is_some_and(|end| end <= unix_now()) {
                return Err(Denied::Expired);
            }
            let expires = entry.expires.map(|at| Expiry { at, leeway: 0 });
            return self.identity(
                entry.claims.clone(),
                Credential::Token(hash),
                expires,
                certificate,
            );
        }
        #[cfg(feature = "jwt")]
        if let Some(jwt) = &self.jwt {
            let (claims, credential, expires) = jwt.identity(token).await?;
            return self.identity(claims, credential, Some(expires), certificate);
        }
        Err(Denied::UnknownToken)
    }

    /// Whether a right that was given by earlier rules would be given by these; `is_trusted` is whether the CAs still are
    /// that it rests on.
    pub(super) fn still_admits(&self, basis: &Basis, is_trusted: bool, path: &str, claims: &Claims) -> bool {
        let Some(allow) = self.allow.get(path) else {
            // A stream that is gone ends by itself, and says so.
            return true;
        };
        // Other rules may make other claims of a certificate, or take those of a token for them.
        let is_as_before = || basis.rules == self.settings.certificate || !claims.have_certificate();
        let is_known = || match &basis.credential {
            #[cfg(feature = "jwt")]
            Credential::Jwt(key, algorithm) => {
                let jwt = self.jwt.as_ref();
                jwt.is_some_and(|jwt| jwt.still_accepts(*key, *algorithm, claims))
            }
            Credential::Token(hash) => {
                let entry = self.tokens.as_ref().and_then(|tokens| tokens.get(hash));
                entry.is_some_and(|entry| match basis.rules {
                    Some(_) => entry.claims.equal_but_for_certificate(claims),
                    None => entry.claims == *claims,
                })
            }
            Credential::Proxy(ProxyCredential(rules)) => self.proxy.as_ref() == Some(rules),
            Credential::Certificate => true,
        };
        allow.is_public() || is_trusted && allow.admits(claims) && is_known() && is_as_before()
    }
}
