//! `/openapi.json` and `/asyncapi.json`: what this configuration serves, for tools that generate clients and pages.
//!
//! OpenAPI describes requests and responses, AsyncAPI the events of the streams. Both are made from the settings of the
//! streams that are served, so a reload changes them, and from the registered schemas of the records that these have
//! read.

mod asyncapi;
mod common;
mod described;
mod openapi;
mod schemas;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use log::error;
use serde_json::Value;
use tokio::time::timeout;
use warp::reply::{Reply, Response};

use super::error::ApiError;
use super::response;
use super::state::{AppState, RequestSettings};
use crate::stream::Stream;

/// How long a document waits for the schema registry.
const PATIENCE: Duration = Duration::from_secs(1);

/// `GET /openapi.json`.
pub(super) async fn openapi(state: &AppState) -> Response {
    answer(state, openapi::document).await
}

/// `GET /asyncapi.json`.
pub(super) async fn asyncapi(state: &AppState) -> Response {
    answer(state, asyncapi::document).await
}

/// Fetches the schemas of JSON whose ids records have had, because such records are shown without them.
async fn complete(state: &AppState, streams: &[Arc<Stream>]) {
    let Some(registry) = state.schemas.get() else {
        return;
    };
    for stream in streams {
        for id in stream.schemas().missing() {
            if let Some(schema) = registry.look(id).await {
                stream.schemas().supply(id, &schema);
            }
        }
    }
}

/// Answers with a document. Written on a blocking thread, because large schemas take milliseconds.
async fn answer(state: &AppState, write: fn(&[Arc<Stream>], &RequestSettings) -> Value) -> Response {
    let (streams, requests) = (state.shown().streams.clone(), state.requests());
    // A schema that takes longer is in the next document.
    let _ = timeout(PATIENCE, complete(state, &streams)).await;
    let written = tokio::task::spawn_blocking(move || write(&streams, &requests)).await;
    match written {
        Ok(document) => response::json(&document),
        Err(error) => {
            error!("a description of the API could not be written: {error}");
            ApiError::internal("not written").into_response()
        }
    }
}
