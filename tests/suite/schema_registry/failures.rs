//! A registry that fails is waited for, and named.

use super::{SCHEMA, SEVEN, count, kind, registry, settings, unusable};
use crate::harness::broker::free_port;
use crate::harness::scripted_registry::{Answer, ScriptedRegistry};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::trials;
use kafka_sse_bridge::decode::{SchemaId, SchemaKind};
use kafka_sse_bridge::schema_registry::{Outcome, RegistryStatus};
use libtest_mimic::Trial;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

pub fn trials() -> Vec<Trial> {
    trials![
        a_registry_that_is_down_at_the_start_is_waited_for_and_named,
        a_registry_that_comes_back_serves_all_that_wait_at_once,
        another_url_answers_while_one_fails,
        a_registry_that_does_not_answer_is_named_after_the_timeout,
        an_answer_that_comes_late_or_slowly_within_the_timeout_is_taken,
        an_answer_that_drips_beyond_the_timeout_is_given_up,
        nobody_is_asked_for_a_schema_that_nobody_waits_for_any_more,
        an_answer_of_50_megabytes_is_refused_without_reading_it,
        an_answer_that_is_no_schema_is_named_and_waited_for,
        a_404_that_is_not_a_registrys_passes_over_no_schema,
        redirects_are_not_followed,
        a_reload_requests_at_once_what_waits,
    ]
}

/// Waits until health says this.
async fn until_degraded(status: &RegistryStatus, text: &str) -> String {
    eventually_async(secs(20), "health names it", async || {
        let degraded = status.degraded().join("\n");
        ensure(degraded.contains(text), format!("no {text:?} in {degraded:?}")).map(|()| degraded)
    })
    .await
}

fn a_registry_that_is_down_at_the_start_is_waited_for_and_named() {
    let port = free_port();
    block_on(async {
        let (registry, status) = registry(&[&format!("http://127.0.0.1:{port}")], "");
        let need = {
            let registry = registry.clone();
            tokio::spawn(async move { registry.schema(SEVEN).await })
        };
        let degraded = until_degraded(&status, "Connection refused").await;
        for text in [
            &format!("http://127.0.0.1:{port} is not reached"),
            "records with schema 7 wait",
            "correct urls in [kafka.schema_registry]",
        ] {
            assert!(degraded.contains(text), "no {text:?} in {degraded}");
        }
        assert!(count(&status, Outcome::Unreachable) > 0);
        let figures = status.figures();
        assert!(figures.waiting == 1 && !figures.failing.is_zero(), "{figures:?}");

        let _server = ScriptedRegistry::at(port, |_| Answer::schema(SCHEMA));
        assert_eq!(kind(&need.await.expect("no panic")), SchemaKind::Avro);
        assert_eq!(status.degraded(), Vec::<String>::new());
        assert!(status.figures().failing.is_zero());
    });
}

fn a_registry_that_comes_back_serves_all_that_wait_at_once() {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let server = ScriptedRegistry::start(move |_| {
        if up.load(Ordering::SeqCst) {
            Answer::schema(SCHEMA)
        } else {
            Answer::Json(503, r#"{"error_code":50301,"message":"no leader"}"#.to_owned())
        }
    });
    block_on(async {
        let (registry, status) = registry(&[&server.url()], "");
        let needs: Vec<_> = (0..20)
            .map(|number| {
                let registry = registry.clone();
                tokio::spawn(async move { registry.schema(SchemaId::Number(number)).await })
            })
            .collect();
        let degraded = until_degraded(&status, "17 more wait").await;
        assert!(
            degraded.contains("answers 503") && degraded.contains("no leader"),
            "{degraded}"
        );
        assert_eq!(status.degraded().len(), 1, "a line per reason: {degraded}");
        is_up.store(true, Ordering::SeqCst);
        for need in needs {
            kind(&need.await.expect("no panic"));
        }
        assert_eq!(status.figures().waiting, 0);
    });
}

fn another_url_answers_while_one_fails() {
    let failing = ScriptedRegistry::start(|_| Answer::HangUp);
    let working = ScriptedRegistry::start(|_| Answer::schema(SCHEMA));
    block_on(async {
        let (registry, status) = registry(&[&failing.url(), &working.url()], "");
        for number in 1..=3 {
            kind(&registry.schema(SchemaId::Number(number)).await);
        }
        assert_eq!(working.paths().len(), 3);
        let tried = failing.paths().len();
        assert_eq!(tried, 1, "the URL that answered last is tried first");
        assert_eq!(status.degraded(), Vec::<String>::new());
    });
}

fn a_registry_that_does_not_answer_is_named_after_the_timeout() {
    let server = ScriptedRegistry::start(|_| Answer::Silence);
    let url = server.url();
    block_on(async {
        let (registry, status) = registry(&[&url], "timeout = \"200ms\"");
        let need = tokio::spawn(async move { registry.schema(SEVEN).await });
        let degraded = until_degraded(&status, "does not answer within 200ms").await;
        assert!(
            degraded.contains(&url) && degraded.contains("set a longer timeout"),
            "{degraded}"
        );
        assert!(count(&status, Outcome::Timeout) > 0);
        need.abort();
    });
}

fn an_answer_that_comes_late_or_slowly_within_the_timeout_is_taken() {
    let is_due = Arc::new(Barrier::new(2));
    let due = Arc::clone(&is_due);
    let body = json!({ "schema": SCHEMA }).to_string();
    let server = ScriptedRegistry::start(move |_| {
        due.wait();
        Answer::Dripping(body.clone())
    });
    block_on(async {
        let (registry, status) = registry(&[&server.url()], "timeout = \"60s\"");
        let need = tokio::spawn(async move { registry.schema(SEVEN).await });
        eventually_async(secs(20), "it is asked", async || {
            ensure(server.paths().len() == 1, format!("{:?}", server.paths()))
        })
        .await;
        let figures = status.figures();
        assert!(figures.waiting == 1 && figures.failing.is_zero(), "{figures:?}");
        assert_eq!(status.degraded(), Vec::<String>::new(), "it only takes its time");
        is_due.wait();
        kind(&need.await.expect("no panic"));
        assert_eq!(server.paths().len(), 1, "it is asked once");
        assert_eq!(count(&status, Outcome::Timeout), 0);
    });
}

fn an_answer_that_drips_beyond_the_timeout_is_given_up() {
    // Bytes come all the time, and would for more than a minute.
    let slow = format!("{}{}", " ".repeat(20_000), json!({ "schema": SCHEMA }));
    let is_slow = Arc::new(AtomicBool::new(true));
    let slow_now = Arc::clone(&is_slow);
    let server = ScriptedRegistry::start(move |_| {
        if slow_now.load(Ordering::SeqCst) {
            Answer::Dripping(slow.clone())
        } else {
            Answer::schema(SCHEMA)
        }
    });
    block_on(async {
        let (registry, status) = registry(&[&server.url()], "timeout = \"300ms\"");
        let need = tokio::spawn(async move { registry.schema(SEVEN).await });
        until_degraded(&status, "does not answer within 300ms").await;
        assert!(server.written() > 1, "it has begun to");
        is_slow.store(false, Ordering::SeqCst);
        kind(&need.await.expect("no panic"));
        assert_eq!(status.degraded(), Vec::<String>::new());
    });
}

fn nobody_is_asked_for_a_schema_that_nobody_waits_for_any_more() {
    let server = ScriptedRegistry::start(|_| Answer::Json(500, String::new()));
    block_on(async {
        let (registry, status) = registry(&[&server.url()], "");
        let need = tokio::spawn(async move { registry.schema(SEVEN).await });
        until_degraded(&status, "answers 500").await;
        need.abort();
        eventually_async(secs(20), "nothing is waited for", async || {
            let figures = status.figures();
            ensure(figures.waiting == 0, format!("{figures:?}"))
        })
        .await;
        assert_eq!(status.degraded(), Vec::<String>::new());
    });
}

fn an_answer_of_50_megabytes_is_refused_without_reading_it() {
    const SIZE: u64 = 50_000_000;
    for has_length in [true, false] {
        let server = ScriptedRegistry::start(move |_| Answer::Large {
            bytes: SIZE,
            has_length,
        });
        block_on(async {
            let (registry, status) = registry(&[&server.url()], "");
            let reason = unusable(registry.schema(SEVEN).await);
            assert!(reason.contains("larger than 8 MiB"), "{reason}");
            assert_eq!(count(&status, Outcome::TooLarge), 1);
            let degraded = status.degraded().join("\n");
            assert!(degraded.contains("schema 7 cannot be used"), "{degraded}");
            // It is remembered, and not requested for every record.
            unusable(registry.schema(SEVEN).await);
            assert_eq!(server.paths().len(), 1);
        });
        // Buffers of sockets take some megabytes beyond those that are read.
        let written = server.written();
        assert!(written < SIZE / 2, "{written} bytes were sent");
    }
}

fn an_answer_that_is_no_schema_is_named_and_waited_for() {
    let server = ScriptedRegistry::start(|_| Answer::Json(200, "<html>log in".to_owned()));
    block_on(async {
        let (registry, status) = registry(&[&server.url()], "");
        let need = tokio::spawn(async move { registry.schema(SEVEN).await });
        let degraded = until_degraded(&status, "a response is not a schema").await;
        assert!(degraded.contains("begins with \"<html>log in\""), "{degraded}");
        assert!(!need.is_finished());
        need.abort();
    });
}

fn a_404_that_is_not_a_registrys_passes_over_no_schema() {
    let server = ScriptedRegistry::start(|_| Answer::Json(404, r#"{"detail":"no such page"}"#.to_owned()));
    block_on(async {
        let (registry, status) = registry(&[&server.url()], "unknown_schema_timeout = \"0s\"");
        let need = tokio::spawn(async move { registry.schema(SEVEN).await });
        let degraded = until_degraded(&status, "has no schema registry").await;
        assert!(degraded.contains("correct the path in urls"), "{degraded}");
        assert!(!need.is_finished());
        need.abort();
    });
}

fn redirects_are_not_followed() {
    let elsewhere = ScriptedRegistry::start(|_| Answer::schema(SCHEMA));
    let target = format!("{}/schemas/ids/7?token=not-to-be-told", elsewhere.url());
    let server = ScriptedRegistry::start(move |_| Answer::Redirect(target.clone()));
    block_on(async {
        let (registry, status) = registry(&[&server.url()], "");
        let need = tokio::spawn(async move { registry.schema(SEVEN).await });
        let degraded = until_degraded(&status, "redirects (302)").await;
        assert!(degraded.contains(&elsewhere.url()), "{degraded}");
        assert!(!degraded.contains("not-to-be-told"), "{degraded}");
        assert_eq!(elsewhere.requests(), []);
        need.abort();
    });
}

fn a_reload_requests_at_once_what_waits() {
    let failing = ScriptedRegistry::start(|_| Answer::Json(500, String::new()));
    let working = ScriptedRegistry::start(|_| Answer::schema(SCHEMA));
    block_on(async {
        let (registry, status) = registry(&[&failing.url()], "");
        let need = {
            let registry = registry.clone();
            tokio::spawn(async move { registry.schema(SEVEN).await })
        };
        until_degraded(&status, "answers 500").await;
        // A registry that is removed from the settings is waited for, and brings no answer.
        registry.apply(&settings(""));
        registry.apply(&settings(&format!("urls = [{:?}]", working.url())));
        kind(&need.await.expect("no panic"));
    });
}
