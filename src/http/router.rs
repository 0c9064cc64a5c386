//! The routes: which handler answers a path.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::header::REFERRER_POLICY;
use http::{HeaderMap, HeaderValue, Method, Request};
use hyper::body::Incoming;
use tower_service::Service;
use warp::Filter;
use warp::path::FullPath;
use warp::reply::{Reply, Response};

use super::assets::Assets;
use super::connections::Connection;
use super::error::ApiError;
use super::exposure::Surface;
use super::state::AppState;
use super::stream_path::FoundStream;
use super::{about, description, event_stream, health, metrics, not_found, stream_path, streams};
use crate::config::exposure::Exposed;

/// Answers requests. One type, so that connections are compiled once and tests can answer by a closure.
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> ResponseFuture + Send + Sync>;

/// A response that is being made.
pub type ResponseFuture = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Answers by the route of the path, for listeners of this kind.
pub fn routes(state: Arc<AppState>, surface: Surface) -> Handler {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let routes = warp::path::full()
        .and(warp::method())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Arc<Connection>>())
        .and(warp::any().map(move || (surface, Arc::clone(&state))))
        .then(answer);
    let routes = warp::service(routes);
    Arc::new(move |request| {
        // A clone per request: tower's services are called by `&mut self`.
        let response = routes.clone().call(request);
        Box::pin(async {
            match response.await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    })
}

/// A path that is served.
enum Route {
    Stream(FoundStream),
    About,
    Streams,
    /// The streams that the client may read.
    ReadableStreams,
    Metrics,
    Live,
    Ready,
    OpenApi,
    AsyncApi,
    Asset(Arc<Assets>),
}

impl Route {
    /// The route of just this path, without a slash behind it: relative links would lead elsewhere from there. `None`
    /// where nothing is served at it, or not by listeners of this kind.
    fn find(state: &AppState, surface: Surface, path: &str) -> Option<Self> {
        if surface == Surface::Public
            && let Some(found) = stream_path::find(&state.shown().streams, path)
        {
            return Some(Self::Stream(found));
        }
        let (exposed, route) = match path {
            "/about" => (Exposed::About, Self::About),
            "/streams" if surface.serves(state, Exposed::Streams) => (Exposed::Streams, Self::Streams),
            "/streams" => return Some(Self::ReadableStreams),
            "/metrics" => (Exposed::Metrics, Self::Metrics),
            "/health/live" => (Exposed::Health, Self::Live),
            "/health/ready" => (Exposed::Health, Self::Ready),
            "/openapi.json" => (Exposed::Descriptions, Self::OpenApi),
            "/asyncapi.json" => (Exposed::Descriptions, Self::AsyncApi),
            _ => {
                let assets = Some(state.assets()).filter(|_| surface == Surface::Public);
                return assets.filter(|assets| assets.holds(path)).map(Self::Asset);
            }
        };
        Some(route).filter(|_| surface.serves(state, exposed))
    }
}

async fn answer(
    path: FullPath,
    method: Method,
    query: String,
    headers: HeaderMap,
    connection: Option<Arc<Connection>>,
    (surface, state): (Surface, Arc<AppState>),
) -> Response {
    let path = path.as_str();
    let not_found = || {
        let path = format!("{}{path}", surface.base_path(&state));
        not_found::error(&state, surface, &path).into_response()
    };
    let Some(route) = Route::find(&state, surface, path) else {
        return not_found();
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        return ApiError::method_not_allowed().into_response();
    }
    // The URL of a document or a page may have a token in its query.
    let hides_referrer = state.auth.policy().query_parameter().is_some();
    let mut response = match route {
        Route::Stream(found) => {
            let answer = event_stream::answer(&state, found, &method, &query, &headers, connection).await;
            answer.unwrap_or_else(Reply::into_response)
        }
        Route::About => about::answer(&state, surface, &headers).await,
        Route::Streams => streams::answer(&state),
        Route::ReadableStreams => {
            streams::answer_reduced(&state, &query, &headers, connection.as_ref()).await
        }
        Route::Metrics => metrics::answer(state, headers).await,
        Route::Live => health::live(),
        Route::Ready => health::ready(&state, surface.serves(&state, Exposed::Streams)),
        Route::OpenApi => description::openapi(&state).await,
        Route::AsyncApi => description::asyncapi(&state).await,
        Route::Asset(assets) => {
            let answer = assets.answer(path, &method, &headers).await;
            answer.unwrap_or_else(|| {
                if assets.lacks_page(path) {
                    not_found::no_page(&state, surface).into_response()
                } else {
                    not_found()
                }
            })
        }
    };
    if hides_referrer {
        response
            .headers_mut()
            .insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    response
}
