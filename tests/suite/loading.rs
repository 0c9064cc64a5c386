//! How loading is told: in percent, offsets, rate and time left; seldom, and not at all when it is quick.

use crate::harness::scratch;
use crate::harness::trial;
use crate::harness::wait::{block_on, ensure, eventually, millis, secs};
use crate::reading::{Poll, Rig};
use hyper::body::Body;
use kafka_sse_bridge::config::settings::UiSettings;
use kafka_sse_bridge::config::{HttpSettings, LogSettings};
use kafka_sse_bridge::http::health;
use kafka_sse_bridge::http::state::AppState;
use kafka_sse_bridge::kafka::progress::{Loading, TOLD_EVERY};
use kafka_sse_bridge::logging;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::fs;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use warp::reply::Response;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("loading_is_told_in_percent_offsets_rate_and_time_left", told),
        trial("loading_is_told_seldom_and_not_when_it_is_quick", seldom),
        trial("the_rate_is_that_since_the_last_line", rates),
        trial(
            "percents_are_of_all_partitions_and_reach_100_only_at_the_end",
            percents,
        ),
        trial("loading_is_shown_while_it_lasts_and_its_end_says_how_many", shown),
    ]
}

/// What is said of a way after `elapsed`, at `next`.
fn line(from: &[i64], until: &[i64], next: &[i64], elapsed: Duration) -> String {
    let begun = Instant::now();
    let mut loading = Loading::new(from.to_vec(), until.to_vec(), begun);
    let progress = loading.tell(next, begun + elapsed).expect("it is time");
    progress.to_string()
}

fn told() {
    for (from, until, next, elapsed, expected) in [
        // One partition, from its beginning; from amid it.
        (
            &[0][..],
            &[29_000][..],
            &[12_345][..],
            secs(5),
            "42 % loaded, 12345 of 29000 offsets, 2469/s, about 7s left",
        ),
        (
            &[1_000],
            &[2_000],
            &[1_500],
            secs(10),
            "50 % loaded, 500 of 1000 offsets, 50/s, about 10s left",
        ),
        // Several: what is beyond the end of one does not make up for another.
        (
            &[0, 100, 7],
            &[1_000, 1_100, 7],
            &[5_000, 350, 9],
            secs(5),
            "62 % loaded, 1250 of 2000 offsets, 250/s, about 3s left",
        ),
        // A partition that came later is not of this way.
        (
            &[0],
            &[100],
            &[50, 1_000],
            secs(5),
            "50 % loaded, 50 of 100 offsets, 10/s, about 5s left",
        ),
        // A compacted topic: one record far behind the first is a long way.
        (
            &[0],
            &[1_000_000],
            &[999_999],
            secs(5),
            "99 % loaded, 999999 of 1000000 offsets, 199999/s, about 1s left",
        ),
        // It stands still, or nearly: there is no telling how long.
        (&[0], &[100], &[0], secs(5), "0 % loaded, 0 of 100 offsets, 0/s"),
        (&[0], &[100], &[4], secs(5), "4 % loaded, 4 of 100 offsets, 0/s"),
        // Put back behind where it began: the topic was made anew.
        (&[50], &[100], &[0], secs(5), "0 % loaded, 0 of 50 offsets, 0/s"),
        // At the end, of which the thread says that it is loaded instead.
        (
            &[0],
            &[100],
            &[100],
            secs(5),
            "100 % loaded, 100 of 100 offsets, 20/s, about 0s left",
        ),
        (&[5], &[5], &[5], secs(5), "100 % loaded, 0 of 0 offsets, 0/s"),
        (&[], &[], &[], secs(5), "100 % loaded, 0 of 0 offsets, 0/s"),
        // Long ways.
        (
            &[0],
            &[10_000_000],
            &[10_000],
            secs(10),
            "0 % loaded, 10000 of 10000000 offsets, 1000/s, about 2h 46m 30s left",
        ),
        (
            &[0],
            &[i64::MAX],
            &[i64::MAX / 2],
            millis(5_001),
            "49 % loaded, 4611686018427387903 of 9223372036854775807 offsets, 922152773130851410/s, \
             about 6s left",
        ),
    ] {
        assert_eq!(line(from, until, next, elapsed), expected);
    }
}

fn seldom() {
    let begun = Instant::now();
    let mut loading = Loading::new(vec![0], vec![1_000], begun);
    let just_before = TOLD_EVERY.saturating_sub(Duration::from_nanos(1));
    assert_eq!(loading.tell(&[0], begun), None);
    assert_eq!(loading.tell(&[900], begun + just_before), None);
    assert!(loading.tell(&[900], begun + TOLD_EVERY).is_some());
    assert_eq!(loading.tell(&[990], begun + TOLD_EVERY + just_before), None);
    assert!(loading.tell(&[990], begun + 2 * TOLD_EVERY).is_some());
    assert_eq!(loading.elapsed(begun + 2 * TOLD_EVERY), 2 * TOLD_EVERY);
}

fn rates() {
    let begun = Instant::now();
    let mut loading = Loading::new(vec![0], vec![10_000], begun);
    let mut rate = |next, after| {
        let progress = loading.tell(&[next], begun + after).expect("it is time");
        (progress.rate, progress.left)
    };
    assert_eq!(rate(5_000, secs(5)), (1_000, Some(secs(5))));
    assert_eq!(rate(5_000, secs(10)), (0, None), "it stalled");
    assert_eq!(rate(6_000, secs(20)), (100, Some(secs(40))), "it goes on");
    assert_eq!(rate(2_000, secs(25)), (0, None), "it was put back");
    assert_eq!(rate(4_000, secs(30)), (400, Some(secs(15))));
}

fn percents() {
    let loading = Loading::new(vec![0, 0], vec![100, 900], Instant::now());
    for (next, percent) in [
        ([0, 0], 0),
        ([9, 0], 0),
        ([10, 0], 1),
        ([100, 0], 10),
        ([0, 900], 90),
        ([100, 899], 99),
        ([100, 900], 100),
        ([200, 900], 100),
    ] {
        assert_eq!(loading.percent(&next), percent, "{next:?}");
    }
    assert_eq!(loading.until(), [100, 900]);
}

fn body(response: Response) -> Value {
    let mut body = response.into_body();
    let frame = block_on(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)));
    let frame = frame.expect("a body").expect("in memory");
    serde_json::from_slice(frame.data_ref().expect("its only frame")).expect("JSON")
}

/// The reading thread over a source that goes on when it is told to.
fn shown() {
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
    let app = AppState::new(&HttpSettings::default(), &UiSettings::default());
    app.kafka.set(vec![Arc::clone(&rig.status)]);
    let shows = |expected: Value| {
        eventually(secs(20), "/health/ready shows it", || {
            let progress = &body(health::ready(&app))["progress"];
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
    // It took until that line at least.
    let line = says(end);
    let seconds = line.rsplit(' ').next().and_then(|text| text.strip_suffix('s'));
    let seconds: f64 = seconds.and_then(|text| text.parse().ok()).expect("seconds");
    assert!(seconds >= TOLD_EVERY.as_secs_f64(), "{line}");
}
