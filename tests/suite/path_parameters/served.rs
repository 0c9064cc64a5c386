//! Paths with parameters as they are requested: escapes, literal paths, other origins, logs, and a real broker.

use super::PATH;
use crate::common::{config, named, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::http::get;
use crate::harness::produce::Message;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::harness::{on_broker, promise};
use crate::limits::config_of;
use kafka_sse_bridge::config::path_parameters::MAX_VALUE_BYTES;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        promise(values_that_could_mean_another_path_are_refused),
        promise(a_literal_path_takes_precedence_however_it_is_escaped),
        promise(paths_with_parameters_are_shown_as_templates_and_values_are_not_logged),
        promise(a_path_with_parameters_is_served_below_a_base_path_to_other_origins),
        on_broker(Version::V4_4, a_browser_reads_only_the_records_of_its_path),
    ]
}

/// The status of a request whose target is sent as it is, and the body unless it is a stream.
fn raw(daemon: &Daemon, target: &str) -> (u16, Value) {
    let request = |method: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", daemon.port())).expect("a connection");
        socket.set_read_timeout(Some(secs(20))).expect("a timeout");
        let head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).expect("written");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let head = request("HEAD");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{head}"));
    if status == 200 {
        return (status, Value::Null);
    }
    let answer = request("GET");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// A daemon without Kafka that serves these paths, each by key.
fn daemon(http: &str, paths: &[&str]) -> Daemon {
    let streams = paths.iter().map(|path| {
        let is_literal = !path.contains('{');
        let filter = if is_literal {
            ""
        } else {
            "filter = { key = [\"{id}\"] }\n"
        };
        format!("[[stream]]\npath = \"{path}\"\ntopics = [\"t\"]\nclient_filters = false\n{filter}")
    });
    Daemon::start(&format!("{}{}", config_of(http), streams.collect::<String>()))
}

fn values_that_could_mean_another_path_are_refused() {
    let daemon = daemon("", &[PATH]);
    let long = "x".repeat(MAX_VALUE_BYTES);
    for id in [
        "42",
        "base64:NDI=",
        "a%20b",
        "%C3%A9",
        "...",
        "%5C",
        "{id}",
        "a;b",
        &long,
    ] {
        assert_eq!(raw(&daemon, &format!("/users/{id}/orders")).0, 200, "{id}");
        assert_eq!(
            raw(&daemon, &format!("//users///{id}/orders?start=live")).0,
            200,
            "{id}"
        );
    }
    for (id, why) in [
        ("%ff", "not UTF-8"),
        ("%zz", "begins no escape"),
        ("%2f", "encoded slash"),
        ("42%2F..%2F43", "encoded slash"),
        ("..", "dot segment"),
        ("%2E%2e", "dot segment"),
        (&format!("{long}x"), "longer than 256 bytes"),
    ] {
        let (status, body) = raw(&daemon, &format!("/users/{id}/orders"));
        let error = &body["error"];
        assert_eq!(
            (status, &error["code"], &error["parameter"]),
            (400, &json!("bad_path_parameter"), &json!("id")),
            "{id}"
        );
        let message = error["message"].as_str().expect("text");
        assert!(message.contains(why), "{message}");
    }
    for target in [
        "/users/orders",
        "/users//orders",
        "/users/42/../orders",
        "/users/42/43/orders",
        "/users/../users/42/orders",
    ] {
        assert_eq!(raw(&daemon, target).0, 404, "{target}");
    }
    // A query cannot add to it, even where a stream allows filters.
    let (status, body) = raw(&daemon, "/users/42/orders?key=43");
    assert_eq!(
        (status, &body["error"]["code"]),
        (403, &json!("filters_forbidden"))
    );
}

fn a_literal_path_takes_precedence_however_it_is_escaped() {
    let daemon = daemon("", &["/users/{id}", "/users/me", PATH]);
    let hint = |target: &str| {
        let (status, body) = raw(&daemon, target);
        assert_eq!(status, 404, "{target}: {body}");
        body["error"]["message"].as_str().expect("text").to_owned()
    };
    assert_eq!(raw(&daemon, "/users/me").0, 200);
    assert_eq!(
        raw(&daemon, "/users/me?key=x").1["error"]["message"],
        json!("this stream does not allow client filters; remove \"key\"")
    );
    assert_eq!(raw(&daemon, "/users/you").0, 200);
    for target in ["/users/%6de", "/users/%6D%65"] {
        assert!(hint(target).contains("did you mean /users/me?"), "{target}");
    }
    for (target, meant) in [
        ("/users/42/orders/", "/users/42/orders"),
        ("/Users/42/Orders", "/users/42/orders"),
        ("/users/Zoë%20X/odrers", "/users/Zoë%20X/orders"),
        ("/%75sers/you", "/users/you"),
    ] {
        let said = hint(target);
        assert!(
            said.contains(&format!("did you mean {meant}?")),
            "{target}: {said}"
        );
    }
    assert!(!hint("/users/42/invoices").contains("did you mean"));
}

fn paths_with_parameters_are_shown_as_templates_and_values_are_not_logged() {
    let daemon = daemon("max_clients = 2\n[log]\nlevel = \"trace\"", &[PATH]);
    block_on(async {
        let one = Stream::open(daemon.url("/users/hush-1/orders")).await;
        let _other = Stream::open(daemon.url("/users/hush-2/orders")).await;
        assert_eq!(one.status, 200);
        let over = get(&daemon.url("/users/hush-3/orders"), &[]).await;
        assert_eq!(
            (over.status, over.json()["error"]["code"].clone()),
            (503, json!("too_many_clients"))
        );
        let streams = daemon.get("/streams").await.json();
        assert_eq!(streams["streams"][1]["path"], json!(PATH));
        assert_eq!(
            (
                &streams["streams"][1]["clients"],
                &streams["streams"][1]["filters"]["count"]
            ),
            (&json!(2), &json!(2))
        );
        let metrics = daemon.get("/metrics").await.text();
        assert!(metrics.contains(&format!("stream=\"{PATH}\"")), "{metrics}");
        let about = daemon.get("/about").await.text();
        assert!(
            about.contains(PATH) && !about.contains(&format!("href=\".{PATH}")),
            "{about}"
        );
        drop(one);
        daemon.wait_log(&format!("{PATH}: "), secs(20));
        let shown = [streams.to_string(), metrics, daemon.log()];
        assert!(shown.iter().all(|text| !text.contains("hush")), "{shown:?}");
    });
}

fn a_path_with_parameters_is_served_below_a_base_path_to_other_origins() {
    let http = "base_path = \"/live\"\n[http.cors]\nallow_origins = [\"https://a.example\"]";
    let daemon = daemon(http, &[PATH]);
    let origin = [("origin", "https://a.example")];
    block_on(async {
        let answer = get(&daemon.url("/live/users/%2e%2e%2f/orders"), &origin).await;
        assert_eq!(answer.status, 400);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://a.example")
        );
    });
    assert_eq!(raw(&daemon, "/live/users/42/orders").0, 200);
    let (status, body) = raw(&daemon, "/users/42/orders");
    let message = body["error"]["message"].as_str().expect("text");
    assert!(
        status == 404 && message.contains("did you mean /live/users/42/orders?"),
        "{message}"
    );
}

fn a_browser_reads_only_the_records_of_its_path(broker: &Broker) {
    let topic = topic_name("owned");
    broker.create_topic(&topic, 2, &[]);
    let message = |owner: &str, number: u32| {
        Message::new(owner, json!({ "owner": owner, "n": number }).to_string()).header("owner", owner)
    };
    let first: Vec<Message> = (0..12)
        .map(|number| message(["a/b", "c", "base64:Yw"][number as usize % 3], number))
        .collect();
    broker.produce(&topic, &first);
    let table = format!(
        "[[stream]]\npath = \"/owners/{{owner}}/{{key}}\"\ntopics = [{topic:?}]\nstart = \"snapshot\"\n\
         filter = {{ \"header.owner\" = [\"{{owner}}\"], key = [\"{{key}}\"] }}\n"
    );
    let one = "start = \"earliest\"\ncheckpoint_interval = \"1s\"\nfilter = { \"value.owner\" = [\"{id}\"] }";
    let all = config(broker, &[&topic], one).replace("/events", "/by/{id}");
    let daemon = Daemon::start(&format!("{all}{table}"));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let numbers = |events: &[crate::harness::sse::Event]| -> Vec<i64> {
            let number = |data: String| {
                serde_json::from_str::<Value>(&data).expect("JSON")["n"]
                    .as_i64()
                    .expect("n")
            };
            records(events).into_iter().map(number).collect()
        };
        let mut c = Stream::open(daemon.url("/by/c")).await;
        let mut encoded = Stream::open(daemon.url("/by/base64%3AYw")).await;
        let mut row = Stream::open(daemon.url("/owners/c/c")).await;
        let mut nothing = Stream::open(daemon.url("/owners/c/base64:Yw")).await;
        for (stream, expected) in [
            (&mut c, &[1, 4, 7, 10][..]),
            (&mut encoded, &[2, 5, 8, 11]),
            (&mut row, &[10]),
            (&mut nothing, &[]),
        ] {
            let events = stream.collect_until(named("caught-up"), secs(30)).await;
            let mut shown = numbers(&events);
            shown.sort_unstable();
            assert_eq!(shown, expected);
        }
        for (path, count) in [("/owners/c/c", 1), ("/owners/c/base64:Yw", 0)] {
            let document = get(&daemon.url(&format!("{path}?format=json")), &[]).await.json();
            assert_eq!(document["rows"].as_array().map(Vec::len), Some(count), "{path}");
        }
        let id = c.last_event_id().to_owned();
        drop(c);
        broker.produce(
            &topic,
            &[
                message("c", 20),
                message("base64:Yw", 21),
                Message::tombstone("c"),
            ],
        );
        let mut back = Stream::open(daemon.url(&format!("/by/c?lastEventId={id}"))).await;
        let events = back.collect_until(named("caught-up"), secs(30)).await;
        assert_eq!(numbers(&events), [20]);
        let deleted = row.collect_until(named("delete"), secs(30)).await;
        assert_eq!(numbers(&deleted), [20]);
    });
}
