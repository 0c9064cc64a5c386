//! `/streams` in the OpenAPI document.

use serde_json::{Value, json};

/// Its response: the full form where it is exposed, otherwise the reduced one.
pub(super) fn route(is_exposed: bool) -> Value {
    let (summary, schema) = if is_exposed {
        ("The streams, their positions and figures", full())
    } else {
        ("The streams that the client may read", reduced())
    };
    let mut route = json!({
        "operationId": "get-streams",
        "summary": summary,
        "responses": {
            "200": { "description": summary, "content": { "application/json": { "schema": schema } } },
        },
    });
    if !is_exposed {
        // Without a token a client gets what everybody may read.
        route["security"] = json!([{}, { "bearer": [] }]);
    }
    route
}

fn full() -> Value {
    json!({
        "type": "object",
        "properties": {
            "streams": { "type": "array", "items": { "$ref": "#/components/schemas/Stream" } },
            "http": { "type": "object" },
            "kafka": { "type": "object" },
        },
        "required": ["streams", "http", "kafka"],
    })
}

fn reduced() -> Value {
    json!({
        "type": "object",
        "properties": {
            "streams": { "type": "array", "items": { "$ref": "#/components/schemas/Stream" } },
            "hidden": { "const": true, "description": "there are streams that another client may read" },
            "accepts": {
                "type": "array",
                "items": { "type": "string", "enum": ["bearer", "cookie", "query", "proxy", "certificate"] },
                "description": "how clients may say who they are",
            },
            "error": {
                "type": "object",
                "properties": { "code": { "type": "string" }, "message": { "type": "string" } },
                "required": ["code", "message"],
                "description": "why the client's token or certificate is not accepted",
            },
        },
        "required": ["streams"],
        "additionalProperties": false,
    })
}

/// The schema `Stream`: what both forms have of a stream. The full form has more.
pub(super) fn entry() -> Value {
    let text = || json!({ "type": "string" });
    let text_or_null = || json!({ "type": ["string", "null"] });
    let mut schema = json!({
        "type": "object",
        "properties": {
            "path": text(),
            "parameters": { "type": "array", "items": text() },
            "topics": { "type": "array", "items": {
                "type": "object",
                "properties": { "topic": text() },
                "required": ["topic"],
            } },
            "format": { "type": "string", "enum": ["value", "envelope"] },
            "event": text_or_null(),
            "key_format": text(),
            "value_format": text(),
            "start": { "type": "string", "enum": ["live", "earliest", "snapshot"] },
            "keeps_table": { "type": "boolean" },
            "public": { "type": "boolean" },
            "client_filters": { "type": "boolean" },
            "loaded": { "type": "boolean" },
            "progress": { "type": ["integer", "null"], "minimum": 0, "maximum": 100 },
            "views": { "type": "array", "items": { "type": "object" } },
        },
    });
    for field in ["key", "topic", "partition", "offset", "timestamp", "headers"] {
        schema["properties"][format!("{field}_field")] = text_or_null();
    }
    let names = schema["properties"].as_object();
    let names: Vec<String> = names
        .into_iter()
        .flat_map(|names| names.keys().cloned())
        .collect();
    schema["required"] = json!(names);
    schema
}
