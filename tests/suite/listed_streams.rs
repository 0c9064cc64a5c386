//! `/streams`: what a page needs to read a stream, and what a client may know where it is not exposed. No Kafka is needed.

use crate::auth::{File, make_token};
use crate::harness::daemon::Daemon;
use crate::harness::http::{self, Response, request};
use crate::harness::stream::Stream;
use crate::harness::wait::block_on;
use crate::limits::config_of;
use crate::reload::reloaded;
use crate::trials;
use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    trials![
        streams_has_what_a_page_needs_to_read_each_of_them,
        streams_lists_what_a_client_may_read_and_says_only_that_there_is_more,
        nothing_is_hidden_where_nobody_can_say_who_they_are,
        a_page_of_another_origin_learns_of_the_streams_that_it_may_read,
        changed_views_show_at_the_next_request_and_touch_no_stream,
    ]
}

/// Members of an entry in both forms.
const OF_BOTH: [&str; 20] = [
    "client_filters",
    "event",
    "format",
    "headers_field",
    "keeps_table",
    "key_field",
    "key_format",
    "loaded",
    "offset_field",
    "parameters",
    "partition_field",
    "path",
    "progress",
    "public",
    "start",
    "timestamp_field",
    "topic_field",
    "topics",
    "value_format",
    "views",
];

fn names(entry: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = entry
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

fn paths(answer: &Response) -> Vec<String> {
    let streams = answer.json()["streams"].as_array().expect("a list").clone();
    let path = |stream: &Value| stream["path"].as_str().expect("a path").to_owned();
    streams.iter().map(path).collect()
}

const VIEWED: &str = "
[[stream]]
path = \"/users/{id}/orders\"
topics = [\"orders\", \"old-orders\"]
start = \"snapshot\"
key_field = \"user\"
topic_field = \"from\"
headers_field = \"meta\"
event = \"order\"
filter = { key = [\"{id}\"] }
view = [
    { title = \"Orders\", sort = \"-total\", columns = [{ path = \"total\", format = \"number\", unit = \"€\" }] },
    { kind = \"chart\", value = \"total\", minutes = 15 },
]
";

fn streams_has_what_a_page_needs_to_read_each_of_them() {
    let exposed = Daemon::start(&(config_of("") + VIEWED));
    let hidden = Daemon::start(&(config_of("expose = []") + VIEWED));
    block_on(async {
        let full = exposed.get("/streams").await.json();
        let reduced = hidden.get("/streams").await;
        assert_eq!(names(&reduced.json()), ["streams"]);
        let mut full_entry = full["streams"][1].clone();
        let entry = reduced.json()["streams"][1].clone();
        assert_eq!(names(&entry), OF_BOTH);
        // Nobody has answered yet.
        assert_eq!(full_entry["lag"], Value::Null);
        assert_eq!(
            (&full_entry["clients"], &full_entry["records"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(
            full_entry["topics"][0],
            json!({ "topic": "orders", "next": null })
        );
        assert_eq!(
            entry["topics"],
            json!([{ "topic": "orders" }, { "topic": "old-orders" }])
        );
        full_entry["topics"] = entry["topics"].clone();
        for name in OF_BOTH {
            assert_eq!(full_entry[name], entry[name], "{name}");
        }
        for (name, value) in [
            ("path", json!("/users/{id}/orders")),
            ("parameters", json!(["id"])),
            ("format", json!("value")),
            ("event", json!("order")),
            ("start", json!("snapshot")),
            ("keeps_table", json!(true)),
            ("client_filters", json!(true)),
            ("key_field", json!("user")),
            ("topic_field", json!("from")),
            ("headers_field", json!("meta")),
            ("partition_field", Value::Null),
            ("key_format", json!("text")),
            ("value_format", json!("json")),
            ("loaded", json!(false)),
            ("progress", Value::Null),
            (
                "views",
                json!([
                    {
                        "kind": "table",
                        "title": "Orders",
                        "sort": "-total",
                        "columns": [{ "path": "total", "format": "number", "unit": "€" }],
                    },
                    { "kind": "chart", "value": "total", "minutes": 15 },
                ]),
            ),
        ] {
            assert_eq!(entry[name], value, "{name}");
        }
        assert_eq!(reduced.json()["streams"][0]["views"], json!([]));
        let head = request(Method::HEAD, &hidden.url("/streams"), &[]).await;
        assert_eq!(head.expect("an answer").status, 200);
    });
}

fn streams_lists_what_a_client_may_read_and_says_only_that_there_is_more() {
    let clients = [
        ("nobody", &[][..]),
        ("boss", &["--claim", "role=boss"]),
        ("acme", &["--claim", "tenant=acme"]),
    ];
    let made = clients.map(|(name, more)| make_token(&[&[name], more].concat()));
    let lines = made.each_ref().map(|(_, line)| line.as_str());
    let file = File::new("tokens", lines.join("\n"));
    let streams = "
        [[stream]]
        path = \"/public\"
        topics = [\"open-topic\"]
        allow = \"public\"
        [[stream]]
        path = \"/boss\"
        topics = [\"secret-topic\"]
        allow = { role = [\"boss\"] }
        [[stream]]
        path = \"/tenants\"
        topics = [\"tenant-topic\"]
        filter = { \"header.tenant\" = [\"${claims.tenant}\"] }
        [[stream]]
        path = \"/of/{user}\"
        topics = [\"user-topic\"]
        filter = { key = [\"{user}\"] }
        ";
    let auth = format!(
        "[auth]\ncookie = \"session\"\n[auth.tokens]\nfile = {:?}\n",
        file.path()
    );
    let daemon = Daemon::start(&(config_of(&auth) + streams));
    block_on(async {
        let ask = async |headers: &[(&str, &str)]| http::get(&daemon.url("/streams"), headers).await;
        let answer = ask(&[]).await;
        assert_eq!((answer.status, paths(&answer)), (200, vec!["/public".to_owned()]));
        let body = answer.json();
        assert_eq!(names(&body), ["accepts", "hidden", "streams"]);
        assert_eq!(
            (&body["hidden"], &body["accepts"]),
            (&json!(true), &json!(["bearer", "cookie"]))
        );
        for secret in ["boss", "tenant", "user", "secret-topic", "events"] {
            assert!(!answer.text().contains(secret), "{}", answer.text());
        }
        assert_eq!(answer.header("cache-control"), Some("private, no-store"));
        assert_eq!(answer.header("vary"), Some("authorization, cookie, origin"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));

        // The streams in a client's list open, and no others do.
        for ((name, _), (token, _)) in clients.iter().zip(&made) {
            let bearer = format!("Bearer {token}");
            let listed = ask(&[("authorization", &bearer)]).await;
            let by_cookie = ask(&[("cookie", &format!("session={token}"))]).await;
            assert_eq!(listed.text(), by_cookie.text(), "{name}");
            let listed = paths(&listed);
            for (path, request) in [
                ("/public", "/public"),
                ("/boss", "/boss"),
                ("/tenants", "/tenants"),
                ("/of/{user}", "/of/anne"),
                ("/events", "/events"),
            ] {
                let opened = Stream::to(daemon.url(request)).header("authorization", &bearer);
                let opened = opened.send().await.expect("an answer");
                assert_eq!(
                    opened.status == 200,
                    listed.iter().any(|listed| listed == path),
                    "{name} {path}"
                );
            }
        }
        let whole = |index: usize| format!("Bearer {}", made[index].0);
        let of_boss = ask(&[("authorization", &whole(1))]).await;
        assert_eq!(paths(&of_boss), ["/events", "/public", "/boss", "/of/{user}"]);
        assert_eq!(
            of_boss.json()["hidden"],
            json!(true),
            "the claim of a tenant is missing"
        );

        // A token that is not accepted is no error of the list.
        for (headers, code) in [
            (&[("authorization", "Bearer ksb_unknown")][..], "invalid_token"),
            (&[("cookie", "session=x.y.z")], "invalid_token"),
        ] {
            let refused = ask(headers).await;
            assert_eq!(
                (refused.status, paths(&refused)),
                (200, vec!["/public".to_owned()])
            );
            let body = refused.json();
            assert_eq!(body["error"]["code"], json!(code));
            assert!(body["error"]["message"].is_string(), "{body}");
            assert!(!refused.text().contains("ksb_unknown"), "{}", refused.text());
        }
        // Another scheme is for a proxy in front.
        let basic = ask(&[("authorization", "Basic eDp5")]).await;
        assert_eq!(basic.json().get("error"), None);
    });
}

fn nothing_is_hidden_where_nobody_can_say_who_they_are() {
    let daemon = Daemon::start(&config_of("expose = []"));
    block_on(async {
        let answer = http::get(&daemon.url("/streams"), &[("authorization", "Bearer x.y.z")]).await;
        assert_eq!(paths(&answer), ["/events"]);
        assert_eq!(names(&answer.json()), ["streams"], "no token is looked at");
    });
}

fn a_page_of_another_origin_learns_of_the_streams_that_it_may_read() {
    const SHOP: &str = "https://shop.example.org";
    let streams = "
        [[stream]]
        path = \"/news\"
        topics = [\"t\"]
        cors.allow_origins = [\"https://news.example.org\"]
        [[stream]]
        path = \"/closed\"
        topics = [\"t\"]
        cors = {}
        ";
    let http = format!("expose = []\ncors.allow_origins = [{SHOP:?}]");
    let daemon = Daemon::start(&(config_of(&http) + streams));
    block_on(async {
        let listed = async |headers: &[(&str, &str)]| {
            let answer = http::get(&daemon.url("/streams"), headers).await;
            assert_eq!(answer.json().get("hidden"), None);
            paths(&answer)
        };
        assert_eq!(listed(&[]).await, ["/events", "/news", "/closed"]);
        assert_eq!(listed(&[("origin", SHOP)]).await, ["/events"]);
        assert_eq!(listed(&[("origin", "https://news.example.org")]).await, ["/news"]);
        assert!(listed(&[("origin", "null")]).await.is_empty());
        let own = format!("http://127.0.0.1:{}", daemon.port());
        assert_eq!(listed(&[("origin", &own)]).await, ["/events", "/news", "/closed"]);
    });
}

fn changed_views_show_at_the_next_request_and_touch_no_stream() {
    let config = |view: &str| config_of("") + view;
    let one = "key_field = \"k\"\n[[stream.view]]\ntitle = \"One\"\n";
    let daemon = Daemon::start(&config(one));
    block_on(async {
        let views = async || daemon.get("/streams").await.json()["streams"][0]["views"].clone();
        assert_eq!(views().await, json!([{ "kind": "table", "title": "One" }]));
        let _open = Stream::open(daemon.url("/events")).await;
        let two = one.replace("One", "Two");
        reloaded(&daemon, &config(&two), "stream \"/events\": view.title");
        assert_eq!(views().await, json!([{ "kind": "table", "title": "Two" }]));
        let more = format!("{two}[[stream.view]]\nkind = \"feed\"\n");
        reloaded(&daemon, &config(&more), "stream \"/events\": view");
        assert_eq!(views().await[1], json!({ "kind": "feed" }));
        reloaded(
            &daemon,
            &config("key_field = \"k\"\n"),
            "stream \"/events\": view",
        );
        assert_eq!(views().await, json!([]));
        let clients = daemon.get("/streams").await.json()["streams"][0]["clients"].clone();
        assert_eq!(clients, json!(1), "the stream is the same, with its client");
    });
}
