//! A right lasts as long as what it rests on: until its token ends, or a reload takes it away.

use super::claims::Always;
use super::issuer::{Issuer, claims, now};
use super::refused::jwt;
use super::{File, HEARTBEATS, ask_with, is_open, metric, text};
use crate::common::config;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use crate::harness::stream::{NoEvent, Stream};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{on_broker, promise};
use crate::rig::{Rig, rec};
use kafka_sse_bridge::config::claims::Claims;
use kafka_sse_bridge::stream::access::{Access, Deadline};
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::Step;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    vec![
        promise(a_client_is_warned_once_and_its_stream_ends_with_its_token),
        promise(streams_and_lines_end_when_their_token_does),
        promise(a_reload_ends_what_may_no_longer_be_read_and_nothing_else),
        promise(an_event_source_comes_back_with_the_renewed_cookie),
        on_broker(Version::V4_4, a_document_is_cut_off_when_its_token_ends),
    ]
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

fn a_client_is_warned_once_and_its_stream_ends_with_its_token() {
    let mut rig = Rig::ready(|_| {});
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let open = |warns_at: Option<Instant>| {
        let deadline = Deadline {
            warns_at,
            ends_at: at(300),
        };
        let access = Access::new(Claims::default(), Some(deadline), Box::new(Always));
        let mut client = rig.open(Opening {
            access: Some(access),
            ..Opening::default()
        });
        client.now = start;
        client
    };
    let (mut warned, mut unwarned) = (open(Some(at(240))), open(None));
    warned.items();
    unwarned.items();
    rig.records(&[rec("k", "1")]);
    // A keepalive is due earlier, and the warning in between two of them.
    warned.now = at(230);
    warned.events();
    let (_, step) = warned.items();
    assert_eq!(step, Step::Wait(at(240)));
    warned.now = at(240);
    let events = warned.events();
    assert_eq!(names(&events), ["reauthenticate"]);
    assert_eq!(events[0].json(), json!({ "seconds": 60 }));
    assert!(events[0].own_id, "a client that reconnects now continues here");
    warned.now = at(299);
    assert_eq!(names(&warned.events()), [""; 0]);
    assert_eq!(warned.items().1, Step::Wait(at(300)));
    // Also while there is something to send.
    rig.records(&[rec("k", "2")]);
    for client in [&mut warned, &mut unwarned] {
        client.now = at(300);
        let (items, step) = client.items();
        let events: Vec<Event> = items.into_iter().filter_map(crate::rig::event).collect();
        let last = events.last().expect("a goodbye");
        assert_eq!(
            (last.name.as_str(), last.data.as_str()),
            ("goodbye", r#"{"reason":"unauthorized"}"#)
        );
        assert!(
            !events.iter().any(|event| event.data == "2"),
            "its token has ended"
        );
        assert_eq!(step, Step::End);
    }
}

/// A token that ends so many seconds from now.
fn short(issuer: &Issuer, seconds: u64) -> String {
    issuer.token(&json!({ "sub": "anne", "exp": now() + seconds }))
}

fn streams_and_lines_end_when_their_token_does() {
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let sections = format!(
        "[auth]\nwarn_before = \"2s\"\n{}",
        jwt(&issuer, &key, "leeway = \"1s\"")
    );
    let daemon = Daemon::start(&text(&sections, ""));
    block_on(async {
        let begun = Instant::now();
        let bearer = format!("Bearer {}", short(&issuer, 4));
        let open = async |path: &str| {
            let request = Stream::to(daemon.url(path)).header("authorization", bearer.as_str());
            let stream = request.send().await.expect("an answer");
            assert_eq!(stream.status, 200);
            stream
        };
        let (mut events, mut lines) = (open("/events").await, open("/events?format=ndjson").await);
        let (all, end) = events.collect_to_end(secs(30)).await;
        assert_eq!(names(&all), ["reauthenticate", "goodbye"], "{end:?}");
        assert_eq!(all[1].data, r#"{"reason":"unauthorized"}"#);
        // The end, which is up to a second earlier by the whole seconds of a token, and the leeway.
        let lasted = begun.elapsed();
        assert!(
            (Duration::from_secs(3)..Duration::from_secs(15)).contains(&lasted),
            "{lasted:?}"
        );
        let seconds = all[0].json()["seconds"].as_u64().expect("a number");
        assert!((1..=3).contains(&seconds), "{seconds}");
        let text = String::from_utf8(lines.body(secs(30)).await.expect("lines")).expect("UTF-8");
        let lines: Vec<Value> = text
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let named: Vec<_> = lines.iter().map(|line| line["event"].clone()).collect();
        assert_eq!(named, ["reauthenticate", "goodbye"]);
        assert_eq!(
            ask_with(&daemon, bearer.trim_start_matches("Bearer "))
                .await
                .status,
            401
        );
        let closed = "kafka_sse_bridge_clients_closed_total{stream=\"/events\",reason=\"unauthorized\"}";
        eventually_async(secs(20), "both are counted", async || {
            let count: u64 = metric(&daemon, closed).await;
            ensure(count == 2, count.to_string())
        })
        .await;
    });
}

fn a_reload_ends_what_may_no_longer_be_read_and_nothing_else() {
    let issuers = [Issuer::new("EdDSA").kid("a"), Issuer::new("EdDSA").kid("b")];
    let set = |issuers: &[&Issuer]| {
        json!({ "keys": issuers.iter().map(|issuer| issuer.jwk()).collect::<Vec<_>>() }).to_string()
    };
    let key = File::new("keys.json", set(&[&issuers[0], &issuers[1]]));
    let base = |lines: &str, streams: &str| text(&jwt(&issuers[0], &key, lines), streams);
    let stream = |path: &str, lines: &str| {
        format!("[[stream]]\npath = {path:?}\ntopics = [\"t\"]\n{lines}\n{HEARTBEATS}")
    };
    let streams = [
        HEARTBEATS.to_owned(),
        stream("/open", "allow = \"public\""),
        stream("/role", "allow = { role = [\"admin\"] }"),
        stream("/mine", "filter = { key = [\"${claims.sub}\"] }"),
    ];
    let before = base("", &streams.concat());
    let daemon = Daemon::start(&before);
    block_on(async {
        let open = async |path: &str, issuer: Option<&Issuer>| {
            let mut request = Stream::to(daemon.url(path));
            if let Some(issuer) = issuer {
                let mut all = claims("anne");
                all["role"] = json!("admin");
                request = request.header("authorization", format!("Bearer {}", issuer.token(&all)));
            }
            let stream = request.send().await.expect("an answer");
            assert_eq!(stream.status, 200, "{path}");
            stream
        };
        let [a, b] = &issuers;
        let mut reloads = 0;
        let mut reload = async |config: &str| {
            daemon.rewrite_config(config);
            daemon.signal(Signal::HUP);
            reloads += 1;
            eventually_async(secs(20), "it is reloaded", async || {
                let lines = daemon.log().matches("reloaded: ").count();
                ensure(lines == reloads, lines.to_string())
            })
            .await;
        };
        let mut of_a = open("/events", Some(a)).await;
        let mut of_b = open("/events", Some(b)).await;
        let mut public = open("/open", None).await;
        let mut role = open("/role", Some(b)).await;
        let mut mine = open("/mine", Some(b)).await;
        // Nothing that concerns them.
        reload(&before.replace("[http]", "[http]\nkeepalive = \"14s\"")).await;
        for stream in [&mut of_a, &mut of_b, &mut public, &mut role, &mut mine] {
            is_open(stream).await;
        }
        let is_over = async |stream: &mut Stream| {
            let (events, _) = stream.collect_to_end(secs(20)).await;
            let last = events.last().expect("a goodbye");
            assert_eq!(
                (last.name.as_str(), last.data.as_str()),
                ("goodbye", r#"{"reason":"unauthorized"}"#)
            );
        };
        // A key that is gone.
        key.write(set(&[b]));
        reload(&before).await;
        is_over(&mut of_a).await;
        for stream in [&mut of_b, &mut public, &mut role, &mut mine] {
            is_open(stream).await;
        }
        // A rule that admits it no longer; a public stream that asks who reads it; a filter by another claim.
        let changed = before
            .replace("allow = \"public\"", "allow = \"authenticated\"")
            .replace("[\"admin\"]", "[\"root\"]")
            .replace("${claims.sub}", "${claims.role}");
        reload(&changed).await;
        is_over(&mut public).await;
        is_over(&mut role).await;
        is_open(&mut of_b).await;
        // It moves to the stream that replaced its own.
        is_open(&mut mine).await;
        // An issuer is required that it does not have.
        reload(&base("issuer = \"https://login.example\"", "")).await;
        is_over(&mut of_b).await;
        let (events, _) = mine.collect_to_end(secs(20)).await;
        assert_eq!(
            events.last().expect("a goodbye").data,
            r#"{"reason":"stream-removed"}"#
        );
        // Nobody is asked any more, and then everybody again.
        let plain = text("", HEARTBEATS);
        reload(&plain).await;
        let mut anybody = open("/events", None).await;
        is_open(&mut anybody).await;
        key.write(set(&[a, b]));
        reload(&before).await;
        is_over(&mut anybody).await;
        // A file that cannot be used changes nothing.
        key.write("{}");
        daemon.signal(Signal::HUP);
        daemon.wait_log("reload failed", secs(20));
        assert_eq!(ask_with(&daemon, &a.token(&claims("anne"))).await.status, 200);
    });
}

fn an_event_source_comes_back_with_the_renewed_cookie() {
    let page = tempfile::tempdir().expect("a directory");
    fs::write(
        page.path().join("index.html"),
        "<!doctype html><title>p</title><script src=\"assets/p.js\"></script>",
    )
    .expect("written");
    let script = "window.seen = []; window.opens = 0;\n\
         window.begin = () => { const source = window.source = new EventSource('events');\n\
         source.onopen = () => window.opens++;\n\
         for (const name of ['reauthenticate', 'goodbye']) source.addEventListener(name, (e) => window.seen.push(name + e.data)); };";
    fs::write(page.path().join("p.js"), script).expect("written");
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let sections = format!(
        "retry = \"100ms\"\n[ui]\nassets = {:?}\n[auth]\ncookie = \"session\"\nwarn_before = \"3s\"\n{}",
        page.path().display().to_string(),
        jwt(&issuer, &key, "leeway = \"0s\"")
    );
    let daemon = Daemon::start(&text(&sections, ""));
    block_on(async {
        let browser = Browser::start().await;
        browser.goto(&daemon.url("/")).await;
        let set = |seconds: u64| {
            format!(
                "document.cookie = 'session={}; SameSite=Strict';",
                short(&issuer, seconds)
            )
        };
        browser.run(&format!("{} window.begin();", set(6))).await;
        let wait = async |what: &str, condition: &str| {
            eventually_async(secs(30), what, async || {
                let found = browser
                    .run(&format!("return [{condition}, window.seen, window.opens]"))
                    .await;
                ensure(found[0] == json!(true), found.to_string())
            })
            .await;
        };
        wait(
            "it is warned",
            "window.seen.some((seen) => seen.startsWith('reauthenticate'))",
        )
        .await;
        // What an application does on this event.
        browser.run(&set(12)).await;
        wait(
            "it is back",
            "window.opens === 2 && window.source.readyState === 1",
        )
        .await;
        let seen = browser.run("return window.seen").await;
        assert_eq!(seen[1], json!("goodbye{\"reason\":\"unauthorized\"}"), "{seen}");
        // Without a new cookie it ends for good.
        wait(
            "it gives up",
            "window.opens === 2 && window.source.readyState === 2",
        )
        .await;
        browser.close().await;
    });
}

fn a_document_is_cut_off_when_its_token_ends(broker: &Broker) {
    let topic = topic_name("large");
    broker.create_topic(&topic, 1, &[]);
    let pad = "x".repeat(8 * 1024);
    let rows: Vec<Message> = (0..2000)
        .map(|number| Message::new(format!("k{number}"), json!({ "pad": pad }).to_string()))
        .collect();
    broker.produce(&topic, &rows);
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let table = config(broker, &[&topic], "start = \"snapshot\"");
    let daemon = Daemon::start(&format!("{table}{}", jwt(&issuer, &key, "leeway = \"0s\"")));
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let token = short(&issuer, 4);
        let request = |token: &str| {
            Stream::to(daemon.url("/events?format=json")).header("authorization", format!("Bearer {token}"))
        };
        let mut lasting = request(&short(&issuer, 600)).send().await.expect("an answer");
        let mut cut = request(&token).send().await.expect("an answer");
        assert_eq!((lasting.status, cut.status), (200, 200));
        // Neither is read until the token has ended.
        eventually_async(secs(30), "the token has ended", async || {
            let answer = ask_with(&daemon, &token).await;
            ensure(answer.status == 401, format!("{answer:?}"))
        })
        .await;
        let read = cut.body(secs(60)).await.map(|body| body.len());
        assert!(matches!(read, Err(NoEvent::Broken(_))), "{read:?}");
        let whole = lasting.body(secs(60)).await.expect("the whole document");
        assert!(whole.len() > 2000 * 8 * 1024 && whole.ends_with(b"]}\n"));
    });
}
