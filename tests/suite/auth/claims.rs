//! Claims in the filter of a stream: each client gets what its claims select, and learns of nothing else.

use super::File;
use super::issuer::{Issuer, claims as claims_of};
use super::refused::jwt;
use crate::common::{config, named, records};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::Daemon;
use crate::harness::http::get;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::harness::{on_broker, promise};
use crate::rig::{Client, Rec, Rig, filter, rec, tombstone};
use kafka_sse_bridge::config::claims::Claims;
use kafka_sse_bridge::config::path_parameters::PathTemplate;
use kafka_sse_bridge::config::{Start, StreamSettings};
use kafka_sse_bridge::stream::access::{Access, Grant};
use kafka_sse_bridge::stream::document::Rows;
use kafka_sse_bridge::stream::start_position::Opening;
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![
        promise(each_client_gets_the_records_that_its_claims_select),
        promise(values_of_a_claim_are_alternatives_and_are_literal),
        promise(a_missing_claim_lets_nothing_through),
        promise(claims_and_path_parameters_are_combined_and_queries_narrow_them),
        promise(a_delete_of_a_row_is_sent_to_those_who_had_it),
        on_broker(
            Version::V4_4,
            clients_of_a_daemon_read_only_what_their_claims_select,
        ),
    ]
}

#[derive(Debug)]
pub struct Always;

impl Grant for Always {
    fn holds(&self, _: &str, _: &Claims) -> bool {
        true
    }
}

/// The right of a client with these claims.
pub fn access(claims: Value) -> Access {
    let Value::Object(claims) = claims else {
        panic!("{claims} is no object")
    };
    Access::new(claims.into(), None, Box::new(Always))
}

pub fn opening(claims: Value) -> Opening {
    Opening {
        access: Some(access(claims)),
        ..Opening::default()
    }
}

pub fn by(settings: &mut StreamSettings, terms: &[(&str, &str)]) {
    for (name, value) in terms {
        let values = settings.filter.entry((*name).to_owned()).or_default();
        values.push((*value).to_owned());
    }
}

/// A record of a tenant, by header and value.
pub fn of(tenant: &str, key: &str, number: i64) -> Rec {
    let value = json!({ "tenant": tenant, "key": key, "n": number });
    rec(key, value.to_string()).header("tenant", tenant)
}

/// The numbers of the records among what a client is shown, and `-1` for a delete.
fn numbers(client: &mut Client) -> Vec<i64> {
    let events = client.events();
    let shown = events
        .iter()
        .filter(|event| event.is("message") || event.is("delete"));
    shown
        .map(|event| event.json()["n"].as_i64().unwrap_or(-1))
        .collect()
}

fn each_client_gets_the_records_that_its_claims_select() {
    for name in ["key", "header.tenant", "value.tenant"] {
        for start in [Start::Earliest, Start::Snapshot] {
            let mut rig = Rig::with(&[1], true, |settings| {
                settings.start = start;
                by(settings, &[(name, "${claims.sub}")]);
            });
            let client = |rig: &Rig, sub: &str| rig.open(opening(json!({ "sub": sub })));
            let mut live = client(&rig, "a");
            live.items();
            rig.records(&[of("a", "a", 1), of("b", "b", 2), of("c", "c", 3)]);
            assert_eq!(numbers(&mut live), [1], "{name} {start:?}");
            assert_eq!(numbers(&mut client(&rig, "b")), [2], "{name} {start:?}");
            assert_eq!(numbers(&mut client(&rig, "x")), [0; 0], "{name} {start:?}");
            // By the id of another client.
            let id = live.last_event_id().to_owned();
            let mut resumed = rig.open(Opening {
                last_event_id: Some(id),
                ..opening(json!({ "sub": "b" }))
            });
            let shown = numbers(&mut resumed);
            assert!(
                shown.iter().all(|number| *number == 2),
                "{name} {start:?}: {shown:?}"
            );
            rig.records(&[of("b", "b", 4)]);
            assert_eq!(numbers(&mut resumed), [4], "{name} {start:?}");
            assert_eq!(numbers(&mut live), [0; 0], "{name} {start:?}");
            assert_eq!(rig.stream.figures().clients, 2, "one log and one table for all");
        }
    }
}

fn values_of_a_claim_are_alternatives_and_are_literal() {
    let mut rig = Rig::ready(|settings| {
        settings.start = Start::Earliest;
        by(settings, &[("key", "${claims.keys}"), ("key", "all")]);
    });
    rig.records(&[
        of("t", "a", 1),
        of("t", "base64:YQ", 2),
        of("t", "7", 3),
        of("t", "true", 4),
        of("t", "all", 5),
        of("t", "${claims.keys}", 6),
        of("t", "", 7),
    ]);
    let many: Vec<String> = (0..256).map(|number| format!("k{number}")).collect();
    for (keys, expected) in [
        (json!("a"), &[1, 5][..]),
        (json!(["a", 7]), &[1, 3, 5]),
        (json!([true, "b"]), &[4, 5]),
        // What is base64 to a filter is text in a claim.
        (json!("base64:YQ"), &[2, 5]),
        (json!("${claims.keys}"), &[5, 6]),
        (json!("*"), &[5]),
        (json!(many), &[5]),
        // Nothing that can be compared: not even what all get.
        (json!([]), &[]),
        (json!(""), &[]),
        (json!({ "a": "a" }), &[]),
        (json!(0.5), &[]),
        (json!(null), &[]),
        (json!([&many[..], &["one more".to_owned()][..]].concat()), &[]),
    ] {
        let shown = numbers(&mut rig.open(opening(json!({ "keys": keys }))));
        assert_eq!(shown, expected, "{keys}");
    }
}

fn a_missing_claim_lets_nothing_through() {
    for start in [Start::Earliest, Start::Snapshot] {
        let mut rig = Rig::ready(|settings| {
            settings.start = start;
            by(
                settings,
                &[("key", "${claims.sub}"), ("header.tenant", "${claims.tenant}")],
            );
        });
        rig.records(&[of("t", "a", 1), of("", "", 2), of("t", "", 3), of("", "a", 4)]);
        for opening in [
            Opening::default(),
            opening(json!({})),
            opening(json!({ "sub": "a" })),
            opening(json!({ "tenant": "t" })),
            opening(json!({ "sub": "a", "tenant": [] })),
            Opening {
                filter: Some(filter(&[("key", "a")], &rig.stream.settings().topics).expect("a filter")),
                ..opening(json!({ "tenant": "t" }))
            },
        ] {
            if start == Start::Snapshot {
                let document = rig.stream.document(&opening, None, None);
                let mut document = document.expect("no position").expect("loaded");
                let mut rows = 0;
                while document.read(usize::MAX, |_| rows += 1) == Rows::More {}
                assert_eq!(rows, 0);
            }
            assert_eq!(numbers(&mut rig.open(opening)), [0; 0], "{start:?}");
        }
        // Topics and partitions that a stream does not have select nothing.
        let mut partitions = Rig::ready(|settings| {
            settings.start = start;
            by(
                settings,
                &[("partition", "${claims.p}"), ("topic", "${claims.t}")],
            );
        });
        partitions.records(&[of("t", "a", 1)]);
        for (p, t, expected) in [
            (json!(0), json!("t"), &[1][..]),
            (json!(["x", "0"]), json!(["other", "t"]), &[1]),
            (json!("x"), json!("t"), &[]),
            (json!(0), json!("other"), &[]),
            (json!(-1), json!("t"), &[]),
        ] {
            let shown = numbers(&mut partitions.open(opening(json!({ "p": p, "t": t }))));
            assert_eq!(shown, expected, "{p} {t}");
        }
    }
}

fn claims_and_path_parameters_are_combined_and_queries_narrow_them() {
    const PATH: &str = "/orders/{id}";
    for start in [Start::Earliest, Start::Snapshot] {
        let mut rig = Rig::ready(|settings| {
            settings.start = start;
            PATH.clone_into(&mut settings.path);
            by(
                settings,
                &[("key", "{id}"), ("header.tenant", "${claims.tenant}")],
            );
        });
        rig.records(&[of("a", "1", 1), of("b", "2", 2), of("a", "3", 3)]);
        let client = |rig: &Rig, id: &str, tenant: &str, terms: &[(&str, &str)]| {
            let template = PathTemplate::parse(PATH).expect("a path").expect("parameters");
            let values = template.values(&format!("/orders/{id}")).expect("it matches");
            let asked = filter(terms, &rig.stream.settings().topics).expect("a filter");
            rig.open(Opening {
                path_values: Some(values.expect("a value")),
                filter: Some(asked),
                ..opening(json!({ "tenant": tenant }))
            })
        };
        for (id, tenant, terms, expected) in [
            ("1", "a", &[][..], &[1][..]),
            ("1", "b", &[], &[]),
            ("2", "a", &[], &[]),
            ("2", "b", &[], &[2]),
            ("1", "a", &[("header.tenant", "b")], &[]),
            ("2", "a", &[("header.tenant", "b")], &[]),
            ("1", "a", &[("key", "3")], &[]),
            ("1", "a", &[("value.n", "1")], &[1]),
        ] {
            let shown = numbers(&mut client(&rig, id, tenant, terms));
            assert_eq!(shown, expected, "{start:?} {id} {tenant} {terms:?}");
        }
    }
}

fn a_delete_of_a_row_is_sent_to_those_who_had_it() {
    for name in ["header.tenant", "value.tenant", "key"] {
        let mut rig = Rig::ready(|settings| {
            settings.start = Start::Snapshot;
            by(settings, &[(name, "${claims.tenant}")]);
        });
        let keys = if name == "key" { ["a", "b"] } else { ["1", "2"] };
        rig.records(&[of("a", keys[0], 1), of("b", keys[1], 2)]);
        let client = |rig: &Rig, tenant: &str| rig.open(opening(json!({ "tenant": tenant })));
        let (mut a, mut b) = (client(&rig, "a"), client(&rig, "b"));
        assert_eq!((numbers(&mut a), numbers(&mut b)), (vec![1], vec![2]));
        rig.records(&[tombstone(keys[0])]);
        assert_eq!((numbers(&mut a), numbers(&mut b)), (vec![-1], vec![]), "{name}");
        // A row that changes hands.
        rig.records(&[of("a", keys[1], 3)]);
        if name != "key" {
            assert_eq!((numbers(&mut a), numbers(&mut b)), (vec![3], vec![-1]), "{name}");
        }
        rig.records(&[tombstone(keys[1]), tombstone("neither"), tombstone(keys[1])]);
        let expected = if name == "key" {
            (vec![], vec![3, -1, -1])
        } else {
            (vec![-1], vec![])
        };
        assert_eq!((numbers(&mut a), numbers(&mut b)), expected, "{name}");
    }
}

fn clients_of_a_daemon_read_only_what_their_claims_select(broker: &Broker) {
    let topic = topic_name("tenants");
    broker.create_topic(&topic, 2, &[]);
    let message = |tenant: &str, key: &str, number: u32| {
        let value = json!({ "tenant": tenant, "n": number }).to_string();
        Message::new(key, value).header("tenant", tenant)
    };
    let first: Vec<Message> = (0..12)
        .map(|number| {
            message(
                ["a", "b", "c"][number as usize % 3],
                &format!("k{number}"),
                number,
            )
        })
        .collect();
    broker.produce(&topic, &first);
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let by = "filter = { \"header.tenant\" = [\"${claims.tenant}\"] }";
    let log = config(
        broker,
        &[&topic],
        &format!("start = \"earliest\"\npreload = 0\n{by}"),
    );
    let table = format!("[[stream]]\npath = \"/table\"\ntopics = [{topic:?}]\nstart = \"snapshot\"\n{by}\n");
    let daemon = Daemon::start(&format!("{log}{table}{}", jwt(&issuer, &key, "")));
    let bearer = |tenant: Value| {
        let mut all = claims_of("anne");
        all["tenant"] = tenant;
        format!("Bearer {}", issuer.token(&all))
    };
    let [a, b, both, none] = [json!("a"), json!("b"), json!(["a", "b"]), json!(null)].map(bearer);
    let numbers = |events: &[Event]| -> Vec<i64> {
        let number = |data: String| {
            let data: Value = serde_json::from_str(&data).expect("JSON");
            data["n"].as_i64().expect("n")
        };
        let mut numbers: Vec<i64> = records(events).into_iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    };
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let open = async |path: &str, bearer: &str| {
            let request = Stream::to(daemon.url(path)).header("authorization", bearer);
            request.send().await.expect("an answer")
        };
        let mut ids = Vec::new();
        for path in ["/events", "/table"] {
            for (bearer, expected) in [(&a, &[0, 3, 6, 9][..]), (&both, &[0, 1, 3, 4, 6, 7, 9, 10])] {
                let mut stream = open(path, bearer).await;
                let events = stream.collect_until(named("caught-up"), secs(30)).await;
                assert_eq!(numbers(&events), expected, "{path}");
                ids.push(events[0].id.clone());
            }
            let refused = open(path, &none).await;
            assert_eq!(refused.status, 403);
        }
        // Resumed by an id of another user, from Kafka and from the table.
        for (path, id) in [("/events", &ids[0]), ("/table", &ids[2])] {
            let mut stream = open(&format!("{path}?lastEventId={id}"), &b).await;
            let events = stream.collect_until(named("caught-up"), secs(30)).await;
            assert!(!events.iter().any(|event| event.is("delete")), "{events:?}");
            let shown = numbers(&events);
            assert!(
                !shown.is_empty() && shown.iter().all(|number| number % 3 == 1),
                "{path}: {shown:?}"
            );
        }
        let lines = get(
            &daemon.url("/events?format=ndjson&follow=false"),
            &[("authorization", &a)],
        )
        .await;
        let shown = lines
            .text()
            .lines()
            .filter(|line| line.contains("\"event\":\"message\""))
            .count();
        assert_eq!(shown, 4, "{}", lines.text());
        documents_differ(&daemon, [&a, &b, &none]).await;
        // A row that is taken from one tenant and given to another.
        let mut before = open("/table?start=live", &a).await;
        broker.produce(&topic, &[message("b", "k3", 100)]);
        let events = before.collect_until(named("delete"), secs(30)).await;
        assert_eq!(events.last().expect("a delete").json()["key"], json!("k3"));
    });
}

/// Documents of two tenants and of a client without one: each has its own tag, and no cache mixes them up.
async fn documents_differ(daemon: &Daemon, [a, b, none]: [&str; 3]) {
    let url = daemon.url("/table?format=json");
    let of_a = get(&url, &[("authorization", a)]).await;
    let of_b = get(&url, &[("authorization", b)]).await;
    let rows = |document: &Value| document["rows"].as_array().map(Vec::len);
    assert_eq!((rows(&of_a.json()), rows(&of_b.json())), (Some(4), Some(4)));
    assert_ne!(of_a.body, of_b.body);
    let tag = of_a.header("etag").expect("a tag").to_owned();
    assert_ne!(of_b.header("etag"), Some(&*tag));
    assert_eq!(of_a.header("cache-control"), Some("private, no-cache"));
    assert!(
        of_a.header("vary")
            .is_some_and(|vary| vary.contains("authorization, cookie"))
    );
    let again = get(&url, &[("authorization", a), ("if-none-match", &tag)]).await;
    assert_eq!(again.status, 304);
    let other = get(&url, &[("authorization", b), ("if-none-match", &tag)]).await;
    assert_eq!(other.status, 200);
    assert_eq!(get(&url, &[("authorization", none)]).await.status, 403);
    assert_eq!(get(&url, &[]).await.status, 401);
}
