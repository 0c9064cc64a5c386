//! The demo: one command, live tables in a real browser, and an end that leaves nothing behind.

use crate::harness::browser::{Browser, Engine};
use crate::harness::daemon::BINARY;
use crate::harness::http;
use crate::harness::process::{Process, Signal};
use crate::harness::stream::Stream;
use crate::harness::trial;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::trials;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        the_demo_writes_the_original_records_and_ends_on_a_signal,
        the_demos_fleet_moves_and_every_view_shows_what_its_records_have,
        the_demo_keeps_up_with_a_fast_fleet,
    ];
    for (name, engine) in [("a_browser", Engine::Chromium), ("firefox", Engine::Firefox)] {
        let trial = trial(format!("the_demo_fills_tables_in_{name}"), move || {
            the_demo_fills_tables(engine);
        });
        trials.push(trial.with_ignored_flag(engine.is_missing()));
    }
    trials
}

const CONTINENTS: [&str; 8] = [
    "Africa",
    "Antarctica",
    "Asia",
    "Central America",
    "Europe",
    "North America",
    "Oceania",
    "South America",
];

/// Starts the demo with so many vehicles at any free port; gives its URL.
pub(crate) fn start(vehicles: u32) -> (Process, String) {
    start_at(vehicles, 300)
}

/// The same, with so many records of vehicles per second.
fn start_at(vehicles: u32, rate: u32) -> (Process, String) {
    let mut command = Command::new(BINARY);
    command
        .args([
            "demo",
            "--port",
            "0",
            "--rate",
            "500",
            "--vehicles",
            &vehicles.to_string(),
            "--vehicle-rate",
            &rate.to_string(),
            "--no-browser",
            "--log-level",
            "warn",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let demo = Process::spawn(&mut command).expect("it starts");
    let stdout = demo.take(|child| child.stdout.take()).expect("piped");
    let url = BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            Some(
                line.split_once("The demo is at")?
                    .1
                    .trim()
                    .trim_end_matches('/')
                    .to_owned(),
            )
        })
        .expect("it prints its URL");
    (demo, url)
}

fn the_demo_fills_tables(engine: Engine) {
    let (_demo, url) = start(60);
    block_on(async {
        let browser = Browser::of(engine).await;
        browser.goto(&format!("{url}/")).await;
        let rows = "return [...document.querySelectorAll('#view [data-key]')].map(row => [row.dataset.key, row.textContent])";
        eventually_async(
            secs(30),
            "every continent has its row, with countries",
            async || {
                let shown = browser.run(rows).await;
                let complete = CONTINENTS.iter().all(|name| {
                    shown.as_array().is_some_and(|rows| {
                        rows.iter().any(|row| {
                            row[0] == *name && row[1].as_str().is_some_and(|text| text.contains("km²"))
                        })
                    })
                });
                ensure(complete, shown.to_string())
            },
        )
        .await;
        let state = browser
            .run("return document.querySelector('#state').dataset.state")
            .await;
        assert_eq!(state, json!("live"));
        let count = "return Number(document.querySelector('#rate').dataset.total)";
        let before = browser.run(count).await.as_f64();
        eventually_async(secs(20), "the tables keep changing", async || {
            let now = browser.run(count).await;
            ensure(now.as_f64() > before, now.to_string())
        })
        .await;
        eventually_async(secs(20), "a heartbeat is shown", async || {
            let time = browser
                .run("return document.querySelector('#state').dataset.heartbeat")
                .await;
            ensure(
                time.as_str().is_some_and(|time| time.starts_with("20")),
                time.to_string(),
            )
        })
        .await;
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("demo-{engine:?}.png"));
        browser.screenshot(&picture).await;
        eprintln!("demo screenshot: {}", picture.display());
        browser.close().await;
    });
}

fn the_demo_writes_the_original_records_and_ends_on_a_signal() {
    let (demo, url) = start(60);
    block_on(async {
        let mut stream = Stream::open(format!("{url}/topn/updates")).await;
        // Two rounds of 249 countries: the second starts the tables over.
        let mut seen = 0;
        let events = stream
            .collect_until(
                |_| {
                    seen += 1;
                    seen > 600
                },
                secs(60),
            )
            .await;
        let mut restarts = 0;
        for event in events.iter().filter(|event| event.name == "message") {
            let table = event.json();
            let nrs = table["nrs"].as_array().expect("a list");
            assert_eq!(nrs.len(), 4, "padded with null: {table}");
            assert_eq!(nrs[3], Value::Null);
            let countries: Vec<&Value> = nrs.iter().filter(|country| !country.is_null()).collect();
            let sizes: Vec<u64> = countries
                .iter()
                .filter_map(|country| country["size"].as_u64())
                .collect();
            assert_eq!(sizes.len(), countries.len());
            assert!(sizes.is_sorted_by(|larger, smaller| larger >= smaller), "{table}");
            for country in &countries {
                assert_eq!(country["continent"], table["continent"]);
                let fields: Vec<&str> = country
                    .as_object()
                    .expect("an object")
                    .keys()
                    .map(String::as_str)
                    .collect();
                assert_eq!(fields.len(), 5, "{fields:?}");
                assert!(
                    country["code"].is_string()
                        && country["name"].is_string()
                        && country["population"].is_u64()
                );
            }
            restarts += usize::from(countries.len() == 1);
        }
        assert!(
            restarts > CONTINENTS.len(),
            "tables start again in each round: {restarts}"
        );
        assert_eq!(http::get(&format!("{url}/health/ready"), &[]).await.status, 200);
    });
    demo.signal(Signal::INT);
    let status = demo.wait(secs(15)).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

/// Whether a record has a member at a path of names.
fn has(record: &Value, path: &str) -> bool {
    let found = path.split('.').try_fold(record, |value, name| value.get(name));
    found.is_some()
}

fn the_demos_fleet_moves_and_every_view_shows_what_its_records_have() {
    let (_demo, url) = start(60);
    block_on(async {
        let mut stream = Stream::open(format!("{url}/vehicles")).await;
        // Each has 5 records per second.
        let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let events = stream
            .collect_until(
                |event| {
                    if event.name == "message" {
                        let vehicle = event.json();
                        let place = format!("{} {}", vehicle["latitude"], vehicle["longitude"]);
                        let name = vehicle["vehicle"].as_str().expect("a name").to_owned();
                        places.entry(name).or_default().insert(place);
                    }
                    places.len() == 60 && places.values().filter(|places| places.len() > 3).count() > 30
                },
                secs(60),
            )
            .await;
        let vehicle = events.iter().find(|event| event.name == "message");
        let vehicle = vehicle.expect("a record").json();
        assert!(
            vehicle["updated"]
                .as_u64()
                .is_some_and(|at| at > 1_600_000_000_000)
        );

        let mut stream = Stream::open(format!("{url}/topn/updates")).await;
        let continent = stream
            .collect_until(|event| event.name == "message", secs(60))
            .await;
        let continent = continent.last().expect("a record").json();
        let listed = http::get(&format!("{url}/streams"), &[]).await.json();
        let mut kinds = BTreeSet::new();
        for (stream, record) in [(0, &continent), (1, &vehicle)] {
            let views = listed["streams"][stream]["views"]
                .as_array()
                .expect("a list")
                .clone();
            for view in &views {
                kinds.insert(view["kind"].as_str().expect("a kind").to_owned());
                let of_view = ["value", "group", "sort"].map(|name| view[name].as_str());
                for path in of_view.into_iter().flatten() {
                    assert!(has(record, path.trim_start_matches('-')), "{path}: {record}");
                }
                for column in view["columns"].as_array().into_iter().flatten() {
                    let path = column["path"].as_str().expect("a path");
                    assert!(has(record, path), "{path}: {record}");
                    for item in column["items"].as_array().into_iter().flatten() {
                        let inner = item["path"].as_str().expect("a path");
                        assert!(has(&record[path][0], inner), "{inner}: {record}");
                    }
                }
            }
        }
        assert_eq!(kinds.len(), 4, "of every kind: {kinds:?}");
    });
}

/// At the highest rate, which no reader could follow by a request per record.
fn the_demo_keeps_up_with_a_fast_fleet() {
    const RATE: u32 = 10_000;
    let (_demo, url) = start_at(300, RATE);
    block_on(async {
        eventually_async(secs(60), "it has read much, and all but the newest", async || {
            let streams = http::get(&format!("{url}/streams"), &[]).await.json();
            let fleet = &streams["streams"][1];
            let number = |member: &str| fleet[member].as_u64().unwrap_or_default();
            let is_so = fleet["lag"].is_u64()
                && number("records") > u64::from(4 * RATE)
                && number("lag") < u64::from(RATE / 2);
            ensure(is_so, format!("{}: {} behind", fleet["records"], fleet["lag"]))
        })
        .await;
    });
}
