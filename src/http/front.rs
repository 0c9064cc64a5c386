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

use super::problem::Problem;
use super::routes::App;
use crate::config::HttpSettings;
use crate::config::public::ANY_ORIGIN;

/// What pages of other sites may send beside what they always may: what a client sends that reads a
/// stream by itself, without EventSource.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static("accept, cache-control, last-event-id");

/// What they may read beside what they always may.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("retry-after");

/// How many seconds a browser may remember what it was told: the most that Chromium does.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// How the daemon is seen from outside.
#[derive(Debug, Default)]
pub struct Front {
    base_path: String,
    origins: Vec<HeaderValue>,
    allows_any: bool,
    allows_credentials: bool,
}

impl From<&HttpSettings> for Front {
    fn from(http: &HttpSettings) -> Self {
        let origins = http.cors.allow_origins.iter();
        Self {
            base_path: http.base_path.clone(),
            // Checked settings hold nothing that is no header's value.
            origins: origins.filter_map(|origin| origin.parse().ok()).collect(),
            allows_any: http.cors.allows_any(),
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
    fn enter(&self, uri: &mut Uri) -> Option<Response> {
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
            Found::Outside => {
                let (path, base) = (uri.path(), &self.base_path);
                let message = format!("nothing is served at {path}; everything is below {base}/");
                Some(Problem::new(StatusCode::NOT_FOUND, "not_found", message).into_response())
            }
        }
    }

    /// The origin that an answer may be shown to, if the request has one that is allowed.
    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN)?;
        if self.allows_any {
            return Some(HeaderValue::from_static(ANY_ORIGIN));
        }
        self.origins.iter().find(|allowed| *allowed == origin).cloned()
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
fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD"),
    );
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// The routes with what stands before them.
#[derive(Debug, Clone)]
pub struct Fronted<S> {
    routes: S,
    app: Arc<App>,
}

impl<S> Fronted<S> {
    /// Looks at every request before `routes` do.
    pub fn new(routes: S, app: Arc<App>) -> Self {
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
            Some(preflight())
        } else {
            front.enter(request.uri_mut())
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
