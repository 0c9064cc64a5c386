//! An id that the registry does not know is waited for, then passed over, and asked for again later.

use super::{SCHEMA, SEVEN, count, kind, registry, settings};
use crate::harness::scripted_registry::{Answer, ScriptedRegistry};
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::trials;
use kafka_sse_bridge::decode::Supplied;
use kafka_sse_bridge::schema_registry::Outcome;
use libtest_mimic::Trial;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub fn trials() -> Vec<Trial> {
    trials![
        an_unknown_schema_is_waited_for_until_it_is_registered,
        a_schema_that_stays_unknown_is_passed_over_after_the_time_and_requested_again_later,
    ]
}

fn an_unknown_schema_is_waited_for_until_it_is_registered() {
    let is_registered = Arc::new(AtomicBool::new(false));
    let registered = Arc::clone(&is_registered);
    let server = ScriptedRegistry::start(move |_| {
        if registered.load(Ordering::SeqCst) {
            Answer::schema(SCHEMA)
        } else {
            Answer::unknown_schema()
        }
    });
    block_on(async {
        let (registry, status) = registry(&[&server.url()], "unknown_schema_timeout = \"1h\"");
        let need = tokio::spawn(async move { registry.schema(SEVEN).await });
        eventually_async(secs(20), "it is asked for again", async || {
            ensure(server.paths().len() > 3, format!("{:?}", server.paths()))
        })
        .await;
        let degraded = status.degraded().join("\n");
        assert!(
            degraded.contains("it does not know schema 7; records with schema 7 wait for it, for 1h at most"),
            "{degraded}"
        );
        is_registered.store(true, Ordering::SeqCst);
        kind(&need.await.expect("no panic"));
        assert_eq!(status.degraded(), Vec::<String>::new());
        assert!(count(&status, Outcome::NotFound) > 3);
    });
}

fn a_schema_that_stays_unknown_is_passed_over_after_the_time_and_requested_again_later() {
    let is_registered = Arc::new(AtomicBool::new(false));
    let registered = Arc::clone(&is_registered);
    let server = ScriptedRegistry::start(move |_| {
        if registered.load(Ordering::SeqCst) {
            Answer::schema(SCHEMA)
        } else {
            Answer::unknown_schema()
        }
    });
    block_on(async {
        let lines = "unknown_schema_timeout = \"500ms\"";
        let (registry, status) = registry(&[&server.url()], lines);
        let started = Instant::now();
        let supplied = registry.schema(SEVEN).await;
        assert!(matches!(supplied, Supplied::Unknown), "{supplied:?}");
        assert!(started.elapsed().as_millis() >= 500, "{:?}", started.elapsed());
        let degraded = status.degraded().join("\n");
        assert!(
            degraded.contains("it does not know schema 7; records with it are passed over: register it"),
            "{degraded}"
        );
        // The records behind it do not wait again, and cost no request.
        let requests = server.paths().len();
        for _ in 0..1000 {
            assert!(matches!(registry.schema(SEVEN).await, Supplied::Unknown));
        }
        assert_eq!(server.paths().len(), requests);
        is_registered.store(true, Ordering::SeqCst);
        // A reload requests it again; so does time, which the cache's own test moves on.
        registry.apply(&settings(&format!("urls = [{:?}]\n{lines}", server.url())));
        kind(&registry.schema(SEVEN).await);
        assert_eq!(status.degraded(), Vec::<String>::new());
    });
}
