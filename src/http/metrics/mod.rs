//! `GET /metrics`: all metrics, in the formats of Prometheus.
//!
//! Stores nothing: every scrape reads counters and state of other modules, so a metric costs nothing between scrapes.
//! [`server`] has the HTTP service, [`streams`] each stream, [`kafka`] reading, [`schema_registry`] schemas, [`auth`]
//! authentication, [`process`] the operating system's figures; [`families`] writes them. docs/operations.md describes
//! each metric; a test compares that table with a scrape.

mod auth;
mod families;
mod kafka;
mod process;
mod schema_registry;
mod server;
mod streams;

use std::fmt;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue};
use log::error;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;
use warp::reply::{Reply, Response};

use self::families::Families;
use super::accept;
use super::error::ApiError;
use super::state::AppState;

/// The media type of OpenMetrics, which Prometheus prefers where it is offered.
const OPEN_METRICS: &str = "application/openmetrics-text";
/// The media type of Prometheus' own text format.
const PLAIN: &str = "text/plain";
const OPEN_METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PREFIX: &str = "kafka_sse_bridge";

/// The metrics in the format that the request prefers. Written on a blocking thread, because `/proc` is read.
pub(super) async fn answer(state: Arc<AppState>, headers: HeaderMap) -> Response {
    let open = accept::media_type(&headers, OPEN_METRICS);
    let is_open = open.is_named() && open >= accept::media_type(&headers, PLAIN);
    let written = tokio::task::spawn_blocking(move || write(state, is_open)).await;
    let Ok(Ok(body)) = written else {
        error!("/metrics could not be written");
        return ApiError::internal("not written").into_response();
    };
    let content_type = if is_open {
        OPEN_METRICS_TYPE
    } else {
        prometheus_text::CONTENT_TYPE
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}

fn write(state: Arc<AppState>, is_open: bool) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry
        .sub_registry_with_prefix(PREFIX)
        .register_collector(Box::new(Bridge(state)));
    registry.register_collector(Box::new(Process));
    let mut body = String::new();
    if is_open {
        text::encode(&mut body, &registry)?;
    } else {
        prometheus_text::encode(&mut body, &registry)?;
    }
    Ok(body)
}

#[derive(Debug)]
struct Bridge(Arc<AppState>);

impl Collector for Bridge {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        server::write(&self.0, &mut families)?;
        streams::write(&self.0, &mut families)?;
        kafka::write(&self.0, &mut families)?;
        schema_registry::write(&self.0.schema_registry, &mut families)?;
        auth::write(&self.0.auth.status, &mut families)
    }
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        process::write(&mut Families::new(encoder))
    }
}
