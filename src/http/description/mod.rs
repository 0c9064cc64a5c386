//! `/openapi.json` and `/asyncapi.json`: what this configuration serves, for tools that generate clients and pages.
//!
//! OpenAPI describes requests and responses, AsyncAPI the events of the streams. Both are made from the settings of the
//! streams that are served, so a reload changes them.

mod asyncapi;
mod common;
mod openapi;
mod schemas;

use warp::reply::Response;

use super::response;
use super::state::AppState;

/// `GET /openapi.json`.
pub(super) fn openapi(state: &AppState) -> Response {
    response::json(&openapi::document(
        &state.shown().streams,
        state.requests().base_path.as_str(),
    ))
}

/// `GET /asyncapi.json`.
pub(super) fn asyncapi(state: &AppState) -> Response {
    response::json(&asyncapi::document(
        &state.shown().streams,
        state.requests().base_path.as_str(),
    ))
}
