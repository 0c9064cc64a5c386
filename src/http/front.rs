//! What stands before the routes: the path prefix that a proxy passes through (`base_path`), and what
//! pages of other sites are told (`cors`; the Fetch standard, section "HTTP CORS protocol").
//!
//! The routes know nothing of either. A reload may exchange both, for the next request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, LOCATION, ORIGIN, VARY,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use tower_service::Service;
use warp::reply::{Reply, Response};

use super::not_found;
use super::state::AppState;
use crate::config::HttpSettings;
use crate::config::cors::{ANY_ORIGIN, AllowedOrigin};

/// Headers that pages of other sites may send beside those that need no leave, whatever `allow_headers` says: what a
/// client sends that reads a stream by itself, without EventSource.
const ALLOWED_HEADERS: [&str; 3] = ["accept", "cache-control", "last-event-id"];

/// What they may read beside what they always may.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("retry-after");

/// How many seconds a browser may remember what it was told: the most that Chromium does.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// How the daemon is seen from outside.
#[derive(Debug)]
pub struct Front {
    base_path: String,
    ignored_parameters: Vec<String>,
    origins: Vec<AllowedOrigin>,
    allows_any: bool,
    allowed_headers: HeaderValue,
    allows_credentials: bool,
}

impl Default for Front {
    fn default() -> Self {
        Self::from(&HttpSettings::default())
    }
}

impl From<&HttpSettings> for Front {
    fn from(http: &HttpSettings) -> Self {
        let origins = http.cors.allow_origins.iter();
        let more = http.cors.allow_headers.iter().map(|name| name.to_lowercase());
        let mut headers: Vec<String> = ALLOWED_HEADERS
            .map(str::to_owned)
            .into_iter()
            .chain(more)
            .collect();
        headers.sort_unstable();
        headers.dedup();
        Self {
            base_path: http.base_path.clone(),
            ignored_parameters: http.ignored_parameters.clone(),
            origins: origins.map(|origin| AllowedOrigin::new(origin)).collect(),
            allows_any: http.cors.allows_any(),
            // Names of headers are a header's value.
            allowed_headers: headers.join(", ").parse().unwrap_or(HeaderValue::from_static("")),
            allows_credentials: http.cors.allow_credentials,
        }
    }
}

/// What becomes of a path.
enum Found {
    /// It is one of ours; this is what stands behind the prefix.
    Inside(PathAndQuery),
    /// It is the prefix without its slash.
    Bare,
    Outside,
}

impl Front {
    /// The path that everything is served below; empty is none.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// The query parameters that are passed over, beside those that always are.
    pub fn ignored_parameters(&self) -> &[String] {
        &self.ignored_parameters
    }

    /// Folds repeated slashes of a path to one. Joining a base URL and a path with a slash each makes them, and proxies
    /// differ in whether they fold them.
    fn fold(uri: &mut Uri) {
        if !uri.path().contains("//") {
            return;
        }
        let mut folded = String::with_capacity(uri.path().len());
        for character in uri.path().chars() {
            if character != '/' || !folded.ends_with('/') {
                folded.push(character);
            }
        }
        if let Some(query) = uri.query() {
            folded.push('?');
            folded.push_str(query);
        }
        // It was a path and query, and still is one.
        if let Ok(path) = folded.parse::<PathAndQuery>() {
            *uri = Uri::from(path);
        }
    }

    fn find(&self, uri: &Uri) -> Found {
        let Some(rest) = uri.path().strip_prefix(&self.base_path) else {
            return Found::Outside;
        };
        if rest.is_empty() {
            return Found::Bare;
        }
        if !rest.starts_with('/') {
            return Found::Outside;
        }
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        // Part of what was a path and query is one.
        format!("{rest}{query}")
            .parse()
            .map_or(Found::Outside, Found::Inside)
    }

    /// Puts what is behind the prefix in the place of the whole path, or else gives the answer.
    fn enter(&self, uri: &mut Uri, app: &AppState) -> Option<Response> {
        if self.base_path.is_empty() {
            return None;
        }
        match self.find(uri) {
            Found::Inside(path) => {
                *uri = Uri::from(path);
                None
            }
            Found::Bare => {
                // Relative links lead elsewhere from there.
                let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
                let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
                if let Ok(to) = HeaderValue::from_str(&format!("{}/{query}", self.base_path)) {
                    response.headers_mut().insert(LOCATION, to);
                }
                Some(response)
            }
            Found::Outside => Some(not_found::answer(app, uri.path()).into_response()),
        }
    }

    /// The origin that an answer may be shown to, if the request has one that is allowed.
    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN)?;
        if self.allows_any {
            return Some(HeaderValue::from_static(ANY_ORIGIN));
        }
        let text = origin.to_str().ok()?;
        let mut origins = self.origins.iter();
        origins
            .any(|allowed| allowed.covers(text))
            .then(|| origin.clone())
    }

    /// Tells the browser who may read the answer.
    fn mark(&self, response: &mut Response, allowed: Option<HeaderValue>) {
        let headers = response.headers_mut();
        // Also where nobody may: a cache must not show one site what was meant for another.
        if !self.origins.is_empty() && !self.allows_any {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
            if self.allows_credentials {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
    }
}

/// The answer to a browser that asks what it may ask.
fn preflight(allowed_headers: &HeaderValue) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD"),
    );
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers.clone());
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// The routes with what stands before them.
#[derive(Debug, Clone)]
pub struct Fronted<S> {
    routes: S,
    app: Arc<AppState>,
}

impl<S> Fronted<S> {
    /// Looks at every request before `routes` do.
    pub fn new(routes: S, app: Arc<AppState>) -> Self {
        Self { routes, app }
    }
}

impl<S, B> Service<Request<B>> for Fronted<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.routes.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let front = self.app.front();
        let allowed = front.allowed(request.headers());
        let is_preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let answer = if is_preflight && allowed.is_some() {
            Some(preflight(&front.allowed_headers))
        } else {
            Front::fold(request.uri_mut());
            front.enter(request.uri_mut(), &self.app)
        };
        if let Some(mut response) = answer {
            front.mark(&mut response, allowed);
            return Box::pin(std::future::ready(Ok(response)));
        }
        let routed = self.routes.call(request);
        Box::pin(async move {
            let mut response = routed.await?;
            front.mark(&mut response, allowed);
            Ok(response)
        })
    }
}
