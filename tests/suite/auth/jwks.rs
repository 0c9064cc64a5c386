//! Keys of a URL: rotation, outages, answers that cannot be keys, and what unknown keys cost the provider.

use super::issuer::{Issuer, claims};
use super::{File, ask, ask_with, daemon, metric, text};
use crate::harness::daemon::Daemon;
use crate::harness::http::get;
use crate::harness::memory::{mebibytes, peak, reset_peak};
use crate::harness::process::Signal;
use crate::harness::scripted_registry::{Answer, ScriptedRegistry};
use crate::harness::secured::Authority;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::trials;
use libtest_mimic::Trial;
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub fn trials() -> Vec<Trial> {
    trials![
        a_rotated_key_is_fetched_for_the_first_token_that_it_signs,
        unknown_keys_are_fetched_for_no_more_often_than_configured,
        a_token_of_a_key_that_was_added_just_now_is_not_refused_for_good,
        a_removed_key_ends_what_was_opened_with_it,
        an_outage_is_tolerated_with_the_last_keys_and_shown,
        without_any_keys_clients_are_asked_to_retry,
        answers_that_are_no_keys_are_refused,
        keys_are_fetched_over_tls,
    ]
}

/// A provider of keys that answers as the test says at the time.
struct Provider {
    server: ScriptedRegistry,
    answer: Arc<Mutex<Box<dyn Fn() -> Answer + Send>>>,
}

impl Provider {
    fn start(answer: impl Fn() -> Answer + Send + 'static) -> Provider {
        let answer: Arc<Mutex<Box<dyn Fn() -> Answer + Send>>> = Arc::new(Mutex::new(Box::new(answer)));
        let shared = Arc::clone(&answer);
        let server = ScriptedRegistry::start(move |_| (*shared.lock().unwrap())());
        Provider { server, answer }
    }

    fn now_answers(&self, answer: impl Fn() -> Answer + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn requests(&self) -> usize {
        self.server.requests().len()
    }

    fn section(&self, lines: &str) -> String {
        format!(
            "[auth.jwt]\nalgorithms = [\"ES256\"]\njwks_url = \"{}/jwks.json?x=1\"\n{lines}\n",
            self.server.url()
        )
    }
}

/// An answer with the keys of these issuers.
fn keys(issuers: &[&Issuer]) -> impl Fn() -> Answer + Send + 'static {
    let set = json!({ "keys": issuers.iter().map(|issuer| issuer.jwk()).collect::<Vec<_>>() }).to_string();
    move || Answer::Json(200, set.clone())
}

async fn degraded(daemon: &Daemon) -> String {
    daemon.get("/health/ready").await.json()["degraded"].to_string()
}

async fn wait_degraded(daemon: &Daemon, piece: &str) {
    eventually_async(secs(20), &format!("health names {piece:?}"), async || {
        let found = degraded(daemon).await;
        ensure(found.contains(piece), found)
    })
    .await;
}

/// A client that is no EventSource gets a status, and a time to retry.
async fn assert_unavailable(daemon: &Daemon, token: &str) {
    let answer = get(
        &daemon.url("/events"),
        &[("authorization", &format!("Bearer {token}"))],
    )
    .await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].clone()),
        (503, json!("keys_unavailable"))
    );
    assert!(answer.header("retry-after").is_some());
}

/// An EventSource would give up for good after a status, so it gets a stream that asks it to retry, from where it was.
async fn assert_asked_to_retry(daemon: &Daemon, token: &str) {
    let stream = Stream::to(daemon.url("/events"))
        .header("authorization", format!("Bearer {token}"))
        .header("accept", "text/event-stream")
        .last_event_id("AeUv_e4AAAAAAwysAgc");
    let mut stream = stream.send().await.expect("an answer");
    let (events, _) = stream.collect_to_end(secs(20)).await;
    let [goodbye] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (stream.status, goodbye.name.as_str(), goodbye.data.as_str()),
        (200, "goodbye", r#"{"reason":"unavailable"}"#)
    );
    assert_eq!(stream.last_event_id(), "AeUv_e4AAAAAAwysAgc");
    assert!(stream.retry().is_some_and(|retry| retry >= 15_000));
}

fn a_rotated_key_is_fetched_for_the_first_token_that_it_signs() {
    let (old, new) = (Issuer::new("ES256").kid("1"), Issuer::new("ES256").kid("2"));
    let provider = Provider::start(keys(&[&old]));
    let daemon = daemon(&provider.section("jwks_min_interval = \"1s\""), "");
    block_on(async {
        assert_eq!(
            ask_with(&daemon, &old.token(&claims("anne"))).await.outcome(),
            (200, "")
        );
        let requests = provider.requests();
        assert_eq!(provider.server.paths()[0], "/jwks.json?x=1");
        for _ in 0..5 {
            ask_with(&daemon, &old.token(&claims("anne"))).await;
        }
        assert_eq!(provider.requests(), requests, "known keys are not fetched again");
        provider.now_answers(keys(&[&old, &new]));
        eventually_async(secs(20), "the new key is fetched", async || {
            let answer = ask_with(&daemon, &new.token(&claims("anne"))).await;
            ensure(answer.status == 200, format!("{answer:?}"))
        })
        .await;
        assert_eq!(ask_with(&daemon, &old.token(&claims("anne"))).await.status, 200);
        assert_eq!(metric::<u64>(&daemon, "kafka_sse_bridge_auth_keys ").await, 2);
        // A key under a name that is taken.
        let twin = Issuer::new("ES256").kid("2");
        provider.now_answers(keys(&[&new, &twin]));
        daemon.signal(Signal::HUP);
        eventually_async(secs(20), "both keys of a name are tried", async || {
            let answer = ask_with(&daemon, &twin.token(&claims("anne"))).await;
            ensure(answer.status == 200, format!("{answer:?}"))
        })
        .await;
        assert_eq!(ask_with(&daemon, &new.token(&claims("anne"))).await.status, 200);
    });
}

fn unknown_keys_are_fetched_for_no_more_often_than_configured() {
    let known = Issuer::new("ES256").kid("known");
    let provider = Provider::start(keys(&[&known]));
    let daemon = daemon(&provider.section("jwks_min_interval = \"1h\""), "");
    block_on(async {
        assert_eq!(ask_with(&daemon, &known.token(&claims("anne"))).await.status, 200);
        let asking: Vec<_> = (0..50)
            .map(|number| {
                let token = Issuer::new("ES256")
                    .kid(&format!("k{number}"))
                    .token(&claims("x"));
                let url = daemon.url("/events");
                tokio::spawn(async move {
                    let bearer = format!("Bearer {token}");
                    get(&url, &[("authorization", &*bearer)]).await.status
                })
            })
            .collect();
        let mut statuses = Vec::new();
        for asked in asking {
            statuses.push(asked.await.expect("no panic"));
        }
        // Those that came after the fetch began cannot know whether their key was added since.
        assert!(statuses.contains(&401), "{statuses:?}");
        assert!(
            statuses.iter().all(|status| [401, 503].contains(status)),
            "{statuses:?}"
        );
        assert_eq!(
            provider.requests(),
            2,
            "one at the start, and one for all of them"
        );
    });
}

fn a_token_of_a_key_that_was_added_just_now_is_not_refused_for_good() {
    let (old, new) = (Issuer::new("ES256").kid("1"), Issuer::new("ES256").kid("2"));
    let provider = Provider::start(keys(&[&old]));
    let daemon = daemon(&provider.section("jwks_min_interval = \"1h\""), "");
    let token = new.token(&claims("anne"));
    block_on(async {
        assert_eq!(ask_with(&daemon, &token).await.status, 401, "nobody has its key");
        provider.now_answers(keys(&[&old, &new]));
        assert_unavailable(&daemon, &token).await;
        assert_asked_to_retry(&daemon, &token).await;
        assert_eq!(ask_with(&daemon, &old.token(&claims("anne"))).await.status, 200);
        assert_eq!(provider.requests(), 2);
        daemon.signal(Signal::HUP);
        eventually_async(secs(20), "the new key is fetched", async || {
            let answer = ask_with(&daemon, &token).await;
            ensure(answer.status == 200, format!("{answer:?}"))
        })
        .await;
    });
}

fn a_removed_key_ends_what_was_opened_with_it() {
    let (old, new) = (Issuer::new("ES256").kid("1"), Issuer::new("ES256").kid("2"));
    let provider = Provider::start(keys(&[&old, &new]));
    let daemon = daemon(&provider.section("jwks_refresh = \"1s\""), "");
    block_on(async {
        let open = async |issuer: &Issuer| {
            let bearer = format!("Bearer {}", issuer.token(&claims("anne")));
            let request = Stream::to(daemon.url("/events")).header("authorization", bearer);
            let stream = request.send().await.expect("an answer");
            assert_eq!(stream.status, 200);
            stream
        };
        let (mut by_old, mut by_new) = (open(&old).await, open(&new).await);
        provider.now_answers(keys(&[&new]));
        let (events, _) = by_old.collect_to_end(secs(20)).await;
        let last = events.last().expect("a goodbye");
        assert_eq!(
            (last.name.as_str(), last.data.as_str()),
            ("goodbye", r#"{"reason":"unauthorized"}"#)
        );
        assert_eq!(ask_with(&daemon, &old.token(&claims("anne"))).await.status, 401);
        provider.now_answers(keys(&[]));
        wait_degraded(&daemon, "no key that can be used").await;
        assert!(
            by_new
                .try_next(secs(1))
                .await
                .is_err_and(|error| matches!(error, crate::harness::stream::NoEvent::Timeout))
        );
        assert_eq!(
            ask_with(&daemon, &new.token(&claims("anne"))).await.status,
            200,
            "the last good keys"
        );
    });
}

fn an_outage_is_tolerated_with_the_last_keys_and_shown() {
    let (known, unknown) = (Issuer::new("ES256").kid("1"), Issuer::new("ES256").kid("2"));
    let provider = Provider::start(keys(&[&known]));
    let config = text(
        &provider.section("jwks_refresh = \"1s\"\njwks_min_interval = \"1s\"\njwks_timeout = \"1s\""),
        "",
    );
    let daemon = Daemon::start(&config);
    block_on(async {
        assert_eq!(ask_with(&daemon, &known.token(&claims("anne"))).await.status, 200);
        assert!(!degraded(&daemon).await.contains("auth:"));
        for (answer, piece) in [
            (
                Box::new(|| Answer::HangUp) as Box<dyn Fn() -> Answer + Send>,
                "is not reached",
            ),
            (Box::new(|| Answer::Silence), "does not answer within 1s"),
            (Box::new(|| Answer::Json(503, "{}".to_owned())), "answers 503"),
        ] {
            provider.now_answers(answer);
            wait_degraded(&daemon, piece).await;
            assert!(degraded(&daemon).await.contains("the last keys are used"));
            assert_eq!(ask_with(&daemon, &known.token(&claims("anne"))).await.status, 200);
        }
        assert!(metric::<f64>(&daemon, "kafka_sse_bridge_auth_keys_failing_seconds ").await > 0.0);
        assert!(
            metric::<u64>(
                &daemon,
                "kafka_sse_bridge_auth_key_fetches_total{result=\"failed\"}"
            )
            .await
                > 0
        );
        // It may be a new key, so the client is not turned away for good.
        assert_unavailable(&daemon, &unknown.token(&claims("anne"))).await;
        // A reload keeps them.
        daemon.rewrite_config(&config.replace("[http]", "[http]\nkeepalive = \"14s\""));
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: http.keepalive", secs(20));
        assert_eq!(ask_with(&daemon, &known.token(&claims("anne"))).await.status, 200);
        provider.now_answers(keys(&[&known, &unknown]));
        eventually_async(secs(20), "it recovers", async || {
            let found = degraded(&daemon).await;
            ensure(!found.contains("auth:"), found)
        })
        .await;
        assert_eq!(
            ask_with(&daemon, &unknown.token(&claims("anne"))).await.status,
            200
        );
    });
}

fn without_any_keys_clients_are_asked_to_retry() {
    let issuer = Issuer::new("ES256").kid("1");
    let provider = Provider::start(|| Answer::Json(500, "{}".to_owned()));
    let daemon = daemon(&provider.section("jwks_min_interval = \"1s\""), "");
    let token = issuer.token(&claims("anne"));
    let bearer = format!("Bearer {token}");
    block_on(async {
        wait_degraded(&daemon, "clients with tokens are asked to retry").await;
        assert_unavailable(&daemon, &token).await;
        assert_asked_to_retry(&daemon, &token).await;
        // What is no token of any issuer is refused all the same.
        assert_eq!(ask_with(&daemon, "a.b.c").await.status, 401);
        assert_eq!(ask(&daemon, "/events", &[]).await.status, 401);
        provider.now_answers(keys(&[&issuer]));
        eventually_async(secs(20), "the keys are fetched", async || {
            let answer = ask(&daemon, "/events", &[("authorization", &*bearer)]).await;
            ensure(answer.status == 200, format!("{answer:?}"))
        })
        .await;
    });
}

fn answers_that_are_no_keys_are_refused() {
    const LARGE: u64 = 50 << 20;
    /// What may be on its way to a daemon that reads 1 MiB.
    const ON_ITS_WAY: u64 = 16 << 20;
    let provider = Provider::start(|| Answer::Json(200, "<html>".to_owned()));
    let lines = "jwks_refresh = \"1s\"\njwks_min_interval = \"1s\"";
    let daemon = daemon(&provider.section(lines), "");
    let url = provider.server.url();
    let large = Arc::new(AtomicU64::new(0));
    let answer_large = |has_length| {
        let large = Arc::clone(&large);
        let answer = move || {
            large.fetch_add(1, Ordering::Relaxed);
            Answer::Large {
                bytes: LARGE,
                has_length,
            }
        };
        Box::new(answer) as Box<dyn Fn() -> Answer + Send>
    };
    block_on(async {
        wait_degraded(&daemon, "no JSON object").await;
        reset_peak(daemon.pid());
        let before = peak(daemon.pid());
        for (answer, piece) in [
            (
                Box::new(|| Answer::Json(200, r#"{"keys":[],"keys":[]}"#.to_owned()))
                    as Box<dyn Fn() -> Answer + Send>,
                "a member twice",
            ),
            (
                Box::new(|| Answer::Json(200, r#"{"keys":{}}"#.to_owned())),
                "is not an array",
            ),
            (
                Box::new(|| Answer::Json(200, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#.to_owned())),
                "no key that can be used",
            ),
            (
                Box::new(move || Answer::Redirect(format!("{url}/other"))),
                "answers 302",
            ),
            (answer_large(true), "more than 1048576 bytes"),
            (answer_large(false), "more than 1048576 bytes"),
        ] {
            provider.now_answers(Box::new(|| Answer::HangUp));
            wait_degraded(&daemon, "is not reached").await;
            provider.now_answers(answer);
            wait_degraded(&daemon, piece).await;
        }
        let cost = mebibytes(peak(daemon.pid()).saturating_sub(before));
        assert!(cost < 16.0, "{cost} MiB");
    });
    let (written, answers) = (provider.server.written(), large.load(Ordering::Relaxed));
    assert!(written <= answers * ON_ITS_WAY, "{written} in {answers}");
    assert!(
        provider
            .server
            .paths()
            .iter()
            .all(|path| path == "/jwks.json?x=1")
    );
}

fn keys_are_fetched_over_tls() {
    let issuer = Issuer::new("ES256").kid("1");
    let authority = Authority::new("the provider's CA");
    let set = json!({ "keys": [issuer.jwk()] }).to_string();
    let pair = authority.sign("provider", Some("127.0.0.1"));
    let server = ScriptedRegistry::with_tls(&pair, None, move |_| Answer::Json(200, set.clone()));
    let url = server.url();
    let section =
        |lines: &str| format!("[auth.jwt]\nalgorithms = [\"ES256\"]\njwks_url = \"{url}/jwks\"\n{lines}\n");
    let file = File::new("ca.pem", authority.pem());
    let trusted = daemon(&section(&format!("jwks_ca_file = {:?}", file.path())), "");
    let untrusted = daemon(&section(""), "");
    block_on(async {
        assert_eq!(
            ask_with(&trusted, &issuer.token(&claims("anne"))).await.status,
            200
        );
        wait_degraded(&untrusted, "certificate").await;
        assert_unavailable(&untrusted, &issuer.token(&claims("anne"))).await;
    });
}
