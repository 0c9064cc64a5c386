//! The initial load in `/health/ready` and in the log.

use crate::harness::scratch;
use crate::harness::wait::{block_on, ensure, eventually, secs};
use crate::reading::{Poll, Rig};
use crate::trials;
use hyper::body::Body;
use kafka_sse_bridge::config::LogSettings;
use kafka_sse_bridge::config::settings::Draft;
use kafka_sse_bridge::http::health;
use kafka_sse_bridge::http::state::AppState;
use kafka_sse_bridge::logging;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::fs;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use warp::reply::Response;

pub fn trials() -> Vec<Trial> {
    trials![a_load_is_shown_while_it_lasts_and_its_end_is_logged_with_its_records]
}

fn body(response: Response) -> Value {
    let mut body = response.into_body();
    let frame = block_on(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)));
    let frame = frame.expect("a body").expect("in memory");
    serde_json::from_slice(frame.data_ref().expect("its only frame")).expect("JSON")
}

/// The reading thread over a source that the test releases.
fn a_load_is_shown_while_it_lasts_and_its_end_is_logged_with_its_records() {
    // The threads of other tests write into it too, so the figures are unlike any of theirs.
    let directory = scratch::directory("loading");
    let file = directory.path().join("log");
    let settings = LogSettings {
        file: Some(file.clone()),
        ..LogSettings::default()
    };
    logging::apply(&settings).expect("a log");
    let says = |what: &str| {
        eventually(secs(60), &format!("the log says {what:?}"), || {
            let log = fs::read_to_string(&file).map_err(|error| error.to_string())?;
            let line = log.lines().find(|line| line.contains(what));
            line.map(str::to_owned).ok_or(log)
        })
    };
    let rig = Rig::start(10_000, 10_777, Vec::new());
    let app = AppState::new(&Draft::default());
    app.kafka.set(vec![Arc::clone(&rig.status)]);
    let shows = |expected: Value| {
        eventually(secs(20), "/health/ready shows it", || {
            let progress = &body(health::ready(&app, true))["progress"];
            ensure(*progress == expected, progress.to_string())
        });
    };
    shows(json!({"t": 0}));
    // Compacted: forty-two records on the first half of the way.
    rig.script(|script| {
        let offsets = (10_000..10_041).chain([10_387]).collect();
        script.polls.push_back(Poll::Records(offsets));
    });
    shows(json!({"t": 49}));
    let line = says("49 % loaded, 388 of 777 offsets");
    assert!(
        line.contains("INFO") && line.contains("topic \"t\": 49 %"),
        "{line}"
    );
    let end = "is loaded up to the end it had at the start: 43 records in ";
    assert!(!fs::read_to_string(&file).expect("the log").contains(end));
    rig.script(|script| script.polls.push_back(Poll::Records(vec![10_776])));
    shows(json!({}));
    // Progress is logged after five seconds, so the load took longer.
    let line = says(end);
    let seconds = line.rsplit(' ').next().and_then(|text| text.strip_suffix('s'));
    let seconds: f64 = seconds.and_then(|text| text.parse().ok()).expect("seconds");
    assert!(seconds >= 5.0, "{line}");
}
