//! The OpenAPI 3.1 document.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::common::{info, name_of};
use super::described::{DescribedStream, describe};
use super::streams as streams_route;
use crate::config::StreamSettings;
use crate::config::exposure::Exposed;
use crate::config::path_parameters::parameters as parameters_of;
use crate::http::state::RequestSettings;
use crate::stream::Stream;

/// The paths that listeners for clients serve: the streams, and the routes for operators that are exposed.
pub(super) fn document(streams: &[Arc<Stream>], requests: &RequestSettings) -> Value {
    let (base_path, exposed) = (requests.base_path.as_str(), &requests.exposed);
    let mut paths = Map::new();
    let mut components = Map::new();
    for stream in describe(streams, &mut components) {
        paths.insert(stream.settings().path.clone(), stream_path(&stream));
    }
    components.insert("Error".to_owned(), error());
    components.insert("Stream".to_owned(), streams_route::entry());
    let is_exposed = |route| exposed.contains(&route);
    let of_streams = streams_route::route(is_exposed(Exposed::Streams));
    paths.insert("/streams".to_owned(), json!({ "get": of_streams }));
    for (route, path, summary, media_type) in [
        (
            Exposed::About,
            "/about",
            "The product, its URLs, and the headers that have arrived",
            "application/json",
        ),
        (
            Exposed::Metrics,
            "/metrics",
            "Metrics for Prometheus",
            "text/plain",
        ),
        (
            Exposed::Health,
            "/health/live",
            "Whether the process serves requests",
            "application/json",
        ),
        (
            Exposed::Descriptions,
            "/openapi.json",
            "This document",
            "application/json",
        ),
        (
            Exposed::Descriptions,
            "/asyncapi.json",
            "The events of the streams",
            "application/json",
        ),
    ] {
        if !is_exposed(route) {
            continue;
        }
        paths.insert(
            path.to_owned(),
            json!({ "get": plain(path, summary, media_type) }),
        );
    }
    let mut ready = plain(
        "/health/ready",
        "Whether every stream has been loaded, and what is wrong",
        "application/json",
    );
    ready["responses"]["503"] =
        json!({ "description": "a stream is being loaded, or the daemon shuts down" });
    if is_exposed(Exposed::Health) {
        paths.insert("/health/ready".to_owned(), json!({ "get": ready }));
    }
    let server = if base_path.is_empty() { "/" } else { base_path };
    json!({
        "openapi": "3.1.0",
        "info": info("Kafka topics as Server-Sent Events. /asyncapi.json has the events."),
        "servers": [{ "url": server }],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
            "responses": {
                "Error": { "description": "what is wrong", "content": {
                    "application/json": { "schema": { "$ref": "#/components/schemas/Error" } },
                } },
                "Later": {
                    "description": "a limit is reached, or the table is not loaded",
                    "headers": { "Retry-After": { "schema": { "type": "integer" }, "description": "in seconds" } },
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
                },
            },
        },
    })
}

fn plain(path: &str, summary: &str, media_type: &str) -> Value {
    json!({
        "operationId": format!("get-{}", name_of(path)),
        "summary": summary,
        "responses": { "200": { "description": summary, "content": { media_type: {} } } },
    })
}

fn error() -> Value {
    json!({
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "code": { "type": "string", "description": "for programs; stable" },
                    "message": { "type": "string", "description": "for people" },
                    "parameter": { "type": "string" },
                },
                "required": ["code", "message"],
            },
        },
        "required": ["error"],
    })
}

fn stream_path(stream: &DescribedStream<'_>) -> Value {
    let settings = stream.settings();
    let is_filtered = stream.stream.live_settings().client_filters;
    let is_public = stream.stream.live_settings().is_public;
    let has_table = settings.has_table();
    let mut content = json!({
        "text/event-stream": { "schema": { "type": "string" } },
        "application/x-ndjson": { "schema": line(stream) },
    });
    if has_table {
        content["application/json"] = json!({ "schema": document_schema(stream) });
    }
    let failed = json!({ "$ref": "#/components/responses/Error" });
    let later = json!({ "$ref": "#/components/responses/Later" });
    let mut responses = json!({
        "200": { "description": format!("the topics {}", settings.topics.join(", ")), "content": content },
        "400": failed,
        "429": later,
        "500": failed,
        "503": later,
    });
    if has_table {
        responses["304"] =
            json!({ "description": "the table has not changed since the ETag in If-None-Match" });
    }
    if !is_filtered || !is_public {
        responses["403"] = failed.clone();
    }
    let mut described = json!({
        "get": {
            "operationId": format!("stream-{}", stream.name),
            "summary": format!("Reads {}", settings.topics.join(", ")),
            "parameters": parameters(settings, is_filtered),
            "responses": responses,
        },
    });
    if !is_public {
        described["get"]["responses"]["401"] = failed;
        described["get"]["security"] = json!([{ "bearer": [] }]);
    }
    described
}

/// A line of `application/x-ndjson`.
fn line(stream: &DescribedStream<'_>) -> Value {
    json!({
        "type": "object",
        "properties": {
            "id": { "type": ["string", "null"] },
            "event": { "type": "string" },
            "data": { "anyOf": [stream.record, stream.delete, true] },
        },
        "required": ["id", "event", "data"],
    })
}

/// The table as a document.
fn document_schema(stream: &DescribedStream<'_>) -> Value {
    json!({
        "type": "object",
        "properties": {
            "position": { "type": "string", "description": "the id to open the event stream with" },
            "rows": { "type": "array", "items": stream.record },
            "next": { "type": "string", "description": "the value of after for the next page" },
        },
        "required": ["position", "rows"],
    })
}

fn parameters(settings: &StreamSettings, is_filtered: bool) -> Vec<Value> {
    let query = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "query", "description": description, "schema": schema });
    let text = || json!({ "type": "string" });
    let mut parameters: Vec<Value> = parameters_of(&settings.path)
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    parameters.push(json!({
        "name": "Last-Event-ID",
        "in": "header",
        "description": "the id of the last event, to continue behind it",
        "schema": text(),
    }));
    let (starts, formats) = if settings.has_table() {
        (
            json!(["live", "earliest", "snapshot"]),
            json!(["events", "ndjson", "json"]),
        )
    } else {
        (json!(["live", "earliest"]), json!(["events", "ndjson"]))
    };
    let follow = json!({ "type": "boolean", "default": true });
    let start = json!({ "type": "string", "enum": starts, "default": settings.start });
    parameters.extend([
        query(
            "lastEventId",
            "as Last-Event-ID, for a client that cannot set headers",
            text(),
        ),
        query("start", "where to begin", start),
        query(
            "since",
            "begin at a time: RFC 3339, milliseconds since 1970, or how long ago (15m)",
            text(),
        ),
        query(
            "format",
            "the form of the response; otherwise Accept decides",
            json!({ "type": "string", "enum": formats }),
        ),
        query(
            "follow",
            "format=ndjson: false ends the response at the present",
            follow,
        ),
    ]);
    if settings.has_table() {
        let limit = json!({ "type": "integer", "minimum": 1 });
        parameters.push(query(
            "throttle",
            "the shortest time between two values of a key, such as 1s",
            text(),
        ));
        parameters.push(query("limit", "format=json: most rows of a page", limit));
        parameters.push(query("after", "format=json: the next of the page before", text()));
    }
    if is_filtered {
        let topics = json!({ "type": "array", "items": { "type": "string", "enum": settings.topics } });
        let keys = json!({ "type": "array", "items": text() });
        let partitions = json!({ "type": "array", "items": { "type": "integer", "minimum": 0 } });
        parameters.push(query("key", "only records with one of these keys", keys));
        parameters.push(query("topic", "only records of these topics", topics));
        parameters.push(query("partition", "only records of these partitions", partitions));
        parameters.push(json!({
            "name": "filters",
            "in": "query",
            "description": "header.NAME and value.PATH: only records with this header, or with this scalar in their value",
            "style": "form",
            "explode": true,
            "schema": {
                "type": "object",
                "patternProperties": { "^(header|value)\\..+$": { "type": "string" } },
                "additionalProperties": false,
            },
        }));
    }
    parameters
}
