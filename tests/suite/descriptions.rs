//! The descriptions of the API for tools: OpenAPI and AsyncAPI. No Kafka is needed.

use crate::harness::daemon::Daemon;
use crate::harness::followers::Runtime;
use crate::harness::wait::block_on;
use crate::trials;
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    trials![
        the_descriptions_are_valid_by_the_schemas_of_their_specifications,
        the_descriptions_have_what_each_stream_serves,
    ]
}

/// Streams of every kind.
const STREAMS: &str = r#"
[[stream]]
path = "/events"
topics = ["orders"]

[[stream]]
path = "/countries/now"
topics = ["countries"]
start = "snapshot"
key_field = "code"
partition_field = "part"
event = "country"
heartbeat = "event"

[[stream]]
path = "/all"
topics = ["orders", "countries"]
format = "envelope"
client_filters = false

[[stream]]
path = "/numbers"
topics = ["numbers"]
start = "snapshot"
key_format = "int64"
value_format = "double"

[[stream]]
path = "/users/{id}/orders/{year}"
topics = ["orders"]
filter = { key = ["{id}"], "value.year" = ["{year}"] }
"#;

fn described() -> (Value, Value) {
    let http =
        "[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\nbase_path = \"/kafka\"\n";
    let daemon = Daemon::start(&format!("{http}{STREAMS}"));
    block_on(async {
        let openapi = daemon.get("/kafka/openapi.json").await;
        let asyncapi = daemon.get("/kafka/asyncapi.json").await;
        assert_eq!((openapi.status, asyncapi.status), (200, 200));
        (openapi.json(), asyncapi.json())
    })
}

fn the_descriptions_are_valid_by_the_schemas_of_their_specifications() {
    if Runtime::Node.is_missing() {
        return;
    }
    let (openapi, asyncapi) = described();
    let documents = json!({ "openapi": openapi, "asyncapi": asyncapi }).to_string();
    assert_eq!(Runtime::Node.run("node/validate.mjs", &documents), "");
    // The validator is one.
    let wrong = documents
        .replace("\"address\"", "\"adress\"")
        .replace("\"in\":\"query\"", "\"in\":\"cookies\"");
    let found = Runtime::Node.run("node/validate.mjs", &wrong);
    assert!(
        found.contains("openapi ") && found.contains("asyncapi "),
        "{found}"
    );
}

fn the_descriptions_have_what_each_stream_serves() {
    let (openapi, asyncapi) = described();
    assert_eq!(openapi["servers"][0]["url"], json!("/kafka"));
    let parameters = |path: &str| -> Vec<String> {
        let parameters = openapi["paths"][path]["get"]["parameters"]
            .as_array()
            .expect("parameters");
        let names = parameters
            .iter()
            .filter_map(|parameter| parameter["name"].as_str());
        names.map(str::to_owned).collect()
    };
    let common = [
        "Last-Event-ID",
        "lastEventId",
        "start",
        "since",
        "format",
        "follow",
    ];
    let filters = ["key", "topic", "partition", "filters"];
    assert_eq!(parameters("/events"), [&common[..], &filters].concat());
    assert_eq!(
        parameters("/countries/now"),
        [&common[..], &["throttle", "limit", "after"], &filters].concat()
    );
    assert_eq!(parameters("/all"), common);
    let users = parameters("/users/{id}/orders/{year}");
    assert_eq!(users[..2], ["id", "year"], "{users:?}");
    let messages = |name: &str| -> Vec<String> {
        let messages = asyncapi["channels"][name]["messages"]
            .as_object()
            .expect("messages");
        messages.keys().cloned().collect()
    };
    let mut always = [
        "caught-up",
        "checkpoint",
        "delete",
        "gap",
        "goodbye",
        "record",
        "reset",
    ]
    .to_vec();
    assert_eq!(messages("events"), always);
    always.extend(["conflated", "heartbeat"]);
    always.sort_unstable();
    assert_eq!(messages("countries-now"), always);
    let countries = &asyncapi["channels"]["countries-now"];
    assert_eq!(countries["address"], json!("/kafka/countries/now"));
    assert_eq!(countries["messages"]["record"]["name"], json!("country"));
    for message in ["record", "delete"] {
        let payload = &countries["messages"][message]["payload"];
        assert_eq!(payload["required"], json!(["code", "part"]));
        assert_eq!(payload["properties"]["part"]["type"], json!("integer"));
    }
}
