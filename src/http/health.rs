//! `/health/live` and `/health/ready`.
//!
//! Ready is a latch: once every stream has loaded, losing Kafka does not take it away, because a
//! balancer that answers 503 in our place would end every EventSource for good. What is wrong is
//! named in the body instead.

use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::json;
use warp::reply::Response;

use super::problem;
use super::routes::App;

/// 200 as long as the process turns its loops.
pub fn live() -> Response {
    problem::json(&json!({ "live": true }))
}

/// 200 once every stream has loaded up to the ends as of the start, 503 before and while draining.
pub fn ready(app: &App) -> Response {
    let is_draining = app.is_draining.load(Ordering::Relaxed);
    let loading: Vec<&str> = app
        .streams
        .iter()
        .filter(|stream| !stream.is_loaded() && stream.failure().is_none())
        .map(|stream| stream.settings().path.as_str())
        .collect();
    let failed = app
        .streams
        .iter()
        .filter_map(|stream| stream.failure().map(str::to_owned));
    let full = app
        .streams
        .iter()
        .filter(|stream| stream.is_table_full())
        .map(|stream| {
            format!(
                "stream {}: its table is full (max_keys, max_table_bytes)",
                stream.settings().path
            )
        });
    let kafka = app.kafka.snapshot();
    let degraded: Vec<String> = kafka.degraded.into_iter().chain(failed).chain(full).collect();
    let is_ready = loading.is_empty() && !is_draining;
    let mut response = problem::json(&json!({
        "ready": is_ready,
        "draining": is_draining,
        "loading": loading,
        "progress": kafka.progress,
        "degraded": degraded,
    }));
    if !is_ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
