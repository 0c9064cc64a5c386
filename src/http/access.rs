//! Finds the token or the proxy's headers of a request, and asks [`auth`](crate::auth) whether its client may read a
//! stream.
//!
//! A token never appears in a log line, an error or a figure. Errors of a client that may not read say nothing of the
//! stream.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, StatusCode};
use log::debug;
use warp::reply::{Reply, Response};

use super::connections::Connection;
use super::error::{ApiError, ErrorCode};
use super::forwarded::Address;
use super::over_limit;
use super::state::AppState;
use crate::auth::certificate::ClientCertificate;
use crate::auth::identity::{Denied, Identity, name_for_log};
use crate::auth::policy::Policy;
use crate::auth::status::Reason;
use crate::config::bound_filter::Unbound;
use crate::config::path_parameters::PathValues;
use crate::kafka::history::fair_queue::Flow;
use crate::stream::Stream;
use crate::stream::access::Access;
use crate::stream::control::Goodbye;

/// The scheme of `Authorization` (RFC 6750, section 2.1), and the space behind it.
const BEARER: &str = "bearer ";

/// The right of the client of a request to a stream; `None` where everybody may read it.
///
/// # Errors
/// The response to a client that may not.
pub(super) async fn authorize(
    state: &AppState,
    stream: &Stream,
    query: &str,
    headers: &HeaderMap,
    connection: Option<&Arc<Connection>>,
) -> Result<Option<Access>, Box<Response>> {
    let policy = state.auth.policy();
    let path = &stream.settings().path;
    if policy.allow(path).is_public() {
        return Ok(None);
    }
    let identity = identity_of(state, &policy, query, headers, connection).await;
    let granted = identity.and_then(|identity| state.auth.grant(&policy, identity, path));
    match granted {
        Ok(access) => Ok(Some(access)),
        Err(denied) => {
            state.auth.status.count(denied.reason());
            let peer = connection.map(|connection| connection.peer().to_string());
            if let Some(connection) = connection.filter(|_| denied.is_of_connection()) {
                connection.retire();
            }
            debug!("{}: refused from {path}: {denied}", peer.unwrap_or_default());
            Err(Box::new(refusal(denied, &policy, headers)))
        }
    }
}

/// The client of a request.
async fn identity_of(
    state: &AppState,
    policy: &Policy,
    query: &str,
    headers: &HeaderMap,
    connection: Option<&Arc<Connection>>,
) -> Result<Identity, Denied> {
    let is_trusted = connection.is_some_and(|connection| state.limits.trusts(connection.peer()));
    // The certificate of a proxy does not identify its clients.
    let certificate = connection.filter(|_| !is_trusted);
    let certificate = certificate.and_then(|connection| connection.client_certificate());
    let client = Client {
        is_trusted,
        certificate: certificate.map(Arc::as_ref),
        query,
        headers,
    };
    identify(policy, &client).await
}

/// The client of a request that asks what it may read.
pub(super) struct Reader {
    policy: Arc<Policy>,
    identity: Result<Identity, Denied>,
}

impl Reader {
    /// Authenticates it. A credential that is not accepted counts as it does when a stream is opened.
    pub(super) async fn of(
        state: &AppState,
        policy: &Arc<Policy>,
        query: &str,
        headers: &HeaderMap,
        connection: Option<&Arc<Connection>>,
    ) -> Self {
        let identity = identity_of(state, policy, query, headers, connection).await;
        if let Err(denied) = identity
            && !denied.is_of_nobody()
        {
            state.auth.status.count(denied.reason());
            if let Some(connection) = connection.filter(|_| denied.is_of_connection()) {
                connection.retire();
            }
        }
        Self {
            policy: Arc::clone(policy),
            identity,
        }
    }

    /// Whether it may open a stream that is not for everybody, and has the claims that its filter compares.
    pub(super) fn may_read(&self, state: &AppState, stream: &Stream) -> bool {
        let path = &stream.settings().path;
        self.identity.as_ref().is_ok_and(|identity| {
            let bound = stream.bound_filter();
            state.auth.check(&self.policy, identity, path).is_ok()
                && bound.is_none_or(|bound| bound.has_claims(identity.claims()))
        })
    }

    /// Why what it has sent is not accepted, if it is not.
    pub(super) fn refusal(&self) -> Option<ApiError> {
        let denied = self
            .identity
            .as_ref()
            .err()
            .filter(|denied| !denied.is_of_nobody())?;
        let (status, code) = status_of(*denied);
        Some(ApiError::new(status, code, denied.to_string()))
    }
}

/// Checks that the values of the path and the claims of the client select something.
///
/// # Errors
/// Names the parameter or the claim that is missing, or that the filter cannot have.
pub(super) fn check_selection(
    state: &AppState,
    stream: &Stream,
    path: Option<&PathValues>,
    access: Option<&Access>,
) -> Result<(), ApiError> {
    let Some(bound) = stream.bound_filter() else {
        return Ok(());
    };
    match bound.filter(path, access.map(Access::claims)) {
        Ok(_) => Ok(()),
        Err(Unbound::Path(bad)) => Err(super::stream_path::error(&bad)),
        Err(unbound) => {
            state.auth.status.count(Reason::MissingClaim);
            let message = format!("{unbound}, and this stream shows each client what belongs to it");
            let error = ApiError::new(StatusCode::FORBIDDEN, ErrorCode::MissingClaim, message);
            Err(error.with_accepts(state.auth.policy().accepts()))
        }
    }
}

/// The identity of a client, for log lines.
pub(super) fn name(access: Option<&Access>) -> Cow<'static, str> {
    access.map_or(Cow::Borrowed(""), |access| {
        Cow::Owned(format!(", as {}", name_for_log(access.claims())))
    })
}

/// The flow by which the replays of a client take turns and are limited: its identity if known, otherwise its address.
pub(super) fn flow(access: Option<&Access>, address: Address) -> Flow {
    let subject = access.and_then(|access| access.claims().subject());
    subject.map_or_else(
        || address.into(),
        |subject| {
            let mut hasher = DefaultHasher::new();
            subject.hash(&mut hasher);
            Flow(hasher.finish())
        },
    )
}

/// The parts of a request that identify its client.
struct Client<'r> {
    /// Whether its proxy is believed.
    is_trusted: bool,
    certificate: Option<&'r ClientCertificate>,
    query: &'r str,
    headers: &'r HeaderMap,
}

/// The client, by its proxy, otherwise by its token, to which its certificate adds, otherwise by its certificate alone.
async fn identify(policy: &Policy, client: &Client<'_>) -> Result<Identity, Denied> {
    if let Some(identity) = policy.of_proxy(client.is_trusted, client.headers)? {
        return Ok(identity);
    }
    if let Some(token) = token(policy, client.query, client.headers)? {
        return policy.of_token(&token, client.certificate).await;
    }
    let named = client
        .certificate
        .map(|certificate| policy.of_certificate(certificate));
    named
        .transpose()?
        .flatten()
        .ok_or_else(|| policy.denial_of_nobody())
}

/// The token of a request: of `Authorization`, otherwise of the query, otherwise of the cookie.
fn token<'r>(
    policy: &Policy,
    query: &'r str,
    headers: &'r HeaderMap,
) -> Result<Option<Cow<'r, str>>, Denied> {
    let texts = |name| {
        let lines = headers.get_all(name).iter();
        lines.map(|line| std::str::from_utf8(line.as_bytes()).map_err(|_| Denied::Ambiguous))
    };
    let mut found = Vec::new();
    for line in texts(AUTHORIZATION) {
        // Another scheme is for a proxy in front.
        if let Some((scheme, token)) = line?.split_at_checked(BEARER.len())
            && scheme.eq_ignore_ascii_case(BEARER)
        {
            found.push(Cow::Borrowed(token.trim()));
        }
    }
    if found.is_empty()
        && let Some(parameter) = policy.query_parameter()
    {
        let all = form_urlencoded::parse(query.as_bytes());
        found.extend(all.filter(|(name, _)| name == parameter).map(|(_, value)| value));
    }
    if found.is_empty()
        && let Some(cookie) = policy.cookie()
    {
        for line in texts(COOKIE) {
            // RFC 6265, section 4.2.1.
            let pairs = line?.split(';').filter_map(|pair| pair.trim().split_once('='));
            let values = pairs.filter(|(name, _)| *name == cookie);
            found.extend(values.map(|(_, value)| Cow::Borrowed(value.trim_matches('"'))));
        }
    }
    // The same cookie may come for two paths; another one may be someone else's.
    found.dedup();
    match found.len() {
        0 | 1 => Ok(found.pop().filter(|token| !token.is_empty())),
        _ => Err(Denied::Ambiguous),
    }
}

/// The status and the code of a refusal.
fn status_of(denied: Denied) -> (StatusCode, ErrorCode) {
    match denied {
        Denied::NotAllowed => (StatusCode::FORBIDDEN, ErrorCode::Forbidden),
        Denied::NoToken | Denied::NotByProxy | Denied::NoCertificate => {
            (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized)
        }
        Denied::CertificateExpired | Denied::CertificateUntrusted => {
            (StatusCode::UNAUTHORIZED, ErrorCode::InvalidCertificate)
        }
        Denied::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::KeysUnavailable),
        _ => (StatusCode::UNAUTHORIZED, ErrorCode::InvalidToken),
    }
}

/// The response to a client that may not read.
fn refusal(denied: Denied, policy: &Policy, headers: &HeaderMap) -> Response {
    let message = denied.to_string();
    let (status, code) = status_of(denied);
    if matches!(denied, Denied::Unavailable) {
        let error = ApiError::new(status, code, message);
        let id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        return over_limit::later(Goodbye::Unavailable, error, id, headers);
    }
    let challenge = match code {
        // RFC 6750, section 3.1: no error for a client that sends nothing.
        ErrorCode::Unauthorized | ErrorCode::InvalidCertificate => {
            "Bearer realm=\"kafka-sse-bridge\"".to_owned()
        }
        ErrorCode::Forbidden => "Bearer realm=\"kafka-sse-bridge\", error=\"insufficient_scope\"".to_owned(),
        code => format!(
            "Bearer realm=\"kafka-sse-bridge\", error=\"{}\", error_description=\"{message}\"",
            code.as_str()
        ),
    };
    ApiError::new(status, code, message)
        .with_challenge(challenge)
        .with_accepts(policy.accepts())
        .into_response()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::claims::Claims;
    use crate::stream::access::Grant;

    #[derive(Debug)]
    struct Always;

    impl Grant for Always {
        fn holds(&self, _path: &str, _claims: &Claims) -> bool {
            true
        }
    }

    fn access(claims: &serde_json::Value) -> Access {
        let claims = claims.as_object().expect("an object").clone();
        Access::new(claims.into(), None, Box::new(Always))
    }

    #[test]
    fn replays_take_turns_by_identity_where_it_is_known_otherwise_by_address() {
        let [here, there] = [1, 2].map(|last| Address::V4(Ipv4Addr::new(192, 0, 2, last)));
        let alice = access(&serde_json::json!({ "sub": "alice" }));
        let bob = access(&serde_json::json!({ "sub": "bob" }));
        let nameless = access(&serde_json::json!({ "tenant": "alice" }));
        assert_eq!(
            flow(Some(&alice), here),
            flow(Some(&alice), there),
            "from everywhere"
        );
        assert_ne!(
            flow(Some(&alice), here),
            flow(Some(&bob), here),
            "also behind one address"
        );
        for access in [None, Some(&nameless)] {
            assert_eq!(flow(access, here), here.into());
            assert_ne!(flow(access, here), flow(access, there));
        }
    }
}
