//! The AsyncAPI 3.0 document.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::common::info;
use super::described::{DescribedStream, describe};
use super::schemas;
use crate::config::Heartbeat;
use crate::config::path_parameters::parameters as parameters_of;
use crate::http::state::RequestSettings;
use crate::sse::control::ControlEvent;
use crate::stream::Stream;

pub(super) fn document(streams: &[Arc<Stream>], requests: &RequestSettings) -> Value {
    let base_path = requests.base_path.as_str();
    let mut channels = Map::new();
    let mut operations = Map::new();
    let mut components = Map::new();
    for stream in describe(streams, &mut components) {
        let name = stream.name.clone();
        operations.insert(
            format!("send-{name}"),
            json!({
                "action": "send",
                "channel": { "$ref": format!("#/channels/{name}") },
                "bindings": { "http": { "method": "GET", "bindingVersion": "0.3.0" } },
            }),
        );
        channels.insert(name, channel(&stream, base_path));
    }
    let control: Map<String, Value> = ControlEvent::ALL
        .into_iter()
        .filter_map(|event| {
            let (when, data) = schemas::control(event)?;
            let message = json!({
                "name": event.as_str(),
                "summary": when,
                "contentType": "application/json",
                "payload": data,
            });
            Some((event.as_str().to_owned(), message))
        })
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": info("Server-Sent Events (text/event-stream): the name of a message is its event, its payload the data."),
        "channels": channels,
        "operations": operations,
        "components": { "messages": control, "schemas": components },
    })
}

fn channel(stream: &DescribedStream<'_>, base_path: &str) -> Value {
    let settings = stream.settings();
    let mut messages = Map::new();
    let topics = settings.topics.join(", ");
    messages.insert(
        "record".to_owned(),
        json!({
            "name": settings.event.as_deref().unwrap_or("message"),
            "summary": format!("A record of {topics}"),
            "contentType": "application/json",
            "payload": stream.record,
        }),
    );
    messages.insert(
        ControlEvent::Delete.as_str().to_owned(),
        json!({
            "name": ControlEvent::Delete.as_str(),
            "summary": "A key was deleted.",
            "contentType": "application/json",
            "payload": stream.delete,
        }),
    );
    for event in ControlEvent::ALL {
        let is_sent = match event {
            ControlEvent::Delete => false,
            ControlEvent::Conflated => settings.has_table(),
            ControlEvent::Reauthenticate => !stream.stream.live_settings().is_public,
            ControlEvent::Heartbeat => settings.heartbeat == Heartbeat::Event,
            _ => true,
        };
        if is_sent {
            let reference = json!({ "$ref": format!("#/components/messages/{}", event.as_str()) });
            messages.insert(event.as_str().to_owned(), reference);
        }
    }
    let mut channel = json!({
        "address": format!("{base_path}{}", settings.path),
        "summary": format!("The topics {topics}"),
        "messages": messages,
    });
    let parameters: Map<String, Value> = parameters_of(&settings.path)
        .map(|name| {
            (
                name.to_owned(),
                json!({ "description": "what the records are filtered by" }),
            )
        })
        .collect();
    if !parameters.is_empty() {
        channel["parameters"] = Value::Object(parameters);
    }
    channel
}
