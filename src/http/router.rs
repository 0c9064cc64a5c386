//! The warp filters of all features, put together.

use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderMap, Method};
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use super::assets::Assets;
use super::error::ApiError;
use super::peer::Peer;
use super::state::AppState;
use super::write_timeout::TimedOut;
use super::{about, event_stream, health, metrics, not_found, streams};
use crate::stream::stream::Stream;

/// Everything that is served. Never rejects: what nothing answers is a 404 in JSON.
pub fn routes(
    app: Arc<AppState>,
) -> impl Filter<Extract = (impl Reply + use<>,), Error = Infallible> + Clone + Send + Sync + 'static {
    let app = warp::any().map(move || Arc::clone(&app));

    let events = stream(app.clone())
        .and(get_or_head())
        .and(query())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Peer>())
        .and(warp::ext::optional::<TimedOut>())
        .and(app.clone())
        .map(
            |stream: Arc<Stream>, method, query: String, headers, peer, timed_out, app: Arc<AppState>| {
                let front = app.front();
                let query = (&*query, front.ignored_parameters());
                event_stream::answer(&stream, &app.limits, &method, query, &headers, (peer, timed_out))
            },
        );
    let about = at("/about")
        .and(get_or_head())
        .and(app.clone())
        .and(warp::header::headers_cloned())
        .map(|_method, app: Arc<AppState>, headers: HeaderMap| about::answer(&app, &headers));
    let streams = at("/streams")
        .and(get_or_head())
        .and(app.clone())
        .map(|_method, app: Arc<AppState>| streams::answer(&app));
    let metrics = at("/metrics")
        .and(get_or_head())
        .and(app.clone())
        .and(warp::header::headers_cloned())
        .then(|_method, app: Arc<AppState>, headers: HeaderMap| metrics::answer(app, headers));
    let live = at("/health/live")
        .and(get_or_head())
        .map(|_method| health::live());
    let ready = at("/health/ready")
        .and(get_or_head())
        .and(app.clone())
        .map(|_method, app: Arc<AppState>| health::ready(&app));
    let page = warp::path::full()
        .and(app.clone())
        .and_then(|path: FullPath, app: Arc<AppState>| async move {
            let page = app.page();
            page.holds(path.as_str())
                .then_some((path, page))
                .ok_or_else(warp::reject::not_found)
        })
        .and(get_or_head())
        .and(warp::header::headers_cloned())
        .and_then(
            |(path, page): (FullPath, Arc<Assets>), method: Method, headers: HeaderMap| async move {
                let answer = page.answer(path.as_str(), &method, &headers).await;
                answer.ok_or_else(warp::reject::not_found)
            },
        );

    events
        .or(about)
        .unify()
        .or(streams)
        .unify()
        .or(metrics)
        .unify()
        .or(live)
        .unify()
        .or(ready)
        .unify()
        .or(page)
        .unify()
        .or(not_found(app))
        .unify()
        .recover(recover)
        .unify()
}

/// The stream at the request's path.
fn stream(
    app: impl Filter<Extract = (Arc<AppState>,), Error = Infallible> + Clone + Send,
) -> impl Filter<Extract = (Arc<Stream>,), Error = Rejection> + Clone {
    warp::path::full()
        .and(app)
        .and_then(|path: FullPath, app: Arc<AppState>| async move {
            app.stream(path.as_str()).ok_or_else(warp::reject::not_found)
        })
}

/// Just this path, without a slash behind it: relative links would lead elsewhere from there.
fn at(wanted: &'static str) -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::path::full()
        .and_then(move |path: FullPath| async move {
            if path.as_str() == wanted {
                Ok(())
            } else {
                Err(warp::reject::not_found())
            }
        })
        .untuple_one()
}

/// The method, if it is one that is served.
fn get_or_head() -> impl Filter<Extract = (Method,), Error = Rejection> + Copy {
    warp::method().and_then(|method: Method| async move {
        if matches!(method, Method::GET | Method::HEAD) {
            Ok(method)
        } else {
            Err(warp::reject::custom(ApiError::method_not_allowed()))
        }
    })
}

/// The query as it was written; empty where there is none.
fn query() -> impl Filter<Extract = (String,), Error = Infallible> + Copy {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// No filter knew the path. A type of its own: what a filter that knew it has against the request goes first.
#[derive(Debug)]
struct Unknown(ApiError);

impl warp::reject::Reject for Unknown {}

fn not_found(
    app: impl Filter<Extract = (Arc<AppState>,), Error = Infallible> + Clone + Send,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path::full()
        .and(app)
        .and_then(|path: FullPath, app: Arc<AppState>| async move {
            let path = format!("{}{}", app.front().base_path(), path.as_str());
            Err(warp::reject::custom(Unknown(not_found::answer(&app, &path))))
        })
}

/// What a filter that knew the path has against the request, or else that none did.
async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    let unknown = || rejection.find::<Unknown>().map(|unknown| unknown.0.clone());
    let problem = rejection.find::<ApiError>().cloned().or_else(unknown);
    let problem = problem.unwrap_or_else(|| ApiError::not_found("this path"));
    Ok(problem.into_response())
}
