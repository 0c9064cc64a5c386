//! `/openapi.json` and `/asyncapi.json`: what this configuration serves, for tools that generate clients and pages.
//!
//! OpenAPI describes requests and responses, AsyncAPI the events of the streams. Both are made from the settings of the
//! streams that are served, so a reload changes them.

mod asyncapi;
mod openapi;
mod schemas;

use serde_json::{Value, json};
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

/// The product, in both documents.
fn info(what: &str) -> Value {
    json!({
        "title": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "description": what,
        "license": { "name": env!("CARGO_PKG_LICENSE") },
    })
}

/// The names of the parameters in a path such as `/users/{id}/orders`.
fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// A path as part of a name: letters, digits and dashes.
fn name_of(path: &str) -> String {
    let plain: String = path
        .trim_matches('/')
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() {
                character
            } else {
                '-'
            }
        })
        .collect();
    if plain.is_empty() {
        "root".to_owned()
    } else {
        plain
    }
}
