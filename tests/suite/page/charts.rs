//! The chart: numbers of the last minutes, by group, and events per second where there are no numbers.

use super::{picture, served};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::followers::Runtime;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use crate::harness::{on_broker, promise};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn trials() -> Vec<Trial> {
    vec![
        on_broker(Version::V4_4, a_chart_draws_the_values_that_were_sent),
        on_broker(Version::V4_4, a_chart_has_a_line_per_group),
        on_broker(Version::V4_4, a_chart_without_numbers_shows_the_rate),
        on_broker(Version::V4_4, a_configured_title_is_that_of_the_configured_chart),
        promise(what_draws_the_chart_is_that_of_its_package).with_ignored_flag(Runtime::Node.is_missing()),
    ]
}

fn now() -> i64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(passed.as_millis()).expect("milliseconds")
}

fn stream(broker: &Broker, lines: &str) -> (String, Daemon) {
    let topic = topic_name("chart");
    broker.create_topic(&topic, 1, &[]);
    let text = format!(
        "{}[[stream]]\npath = \"/prices\"\ntopics = [{topic:?}]\nstart = \"earliest\"\nkey_field = \"item\"\n{lines}\n",
        served(broker)
    );
    (topic, Daemon::start(&text))
}

/// What is drawn, and what is said of it.
const LOOK: &str = "
    const place = document.querySelector('.chart-plot');
    const plot = place?.plot;
    const values = (data) => [...data].flatMap((value, index) => value === null ? [] : [[plot.data[0][index], value]]);
    return {
        lines: plot ? plot.series.slice(1).filter(({ width }) => width > 0).map((series) => [series.label, values(plot.data[plot.series.indexOf(series)])]) : [],
        all: plot ? plot.data.slice(1).map(values) : [],
        range: plot ? [plot.scales.x.min, plot.scales.x.max] : null,
        legend: [...document.querySelectorAll('.chart-line')].map((line) => [line.querySelector('.chart-name').textContent, line.querySelector('.chart-last').textContent]),
        note: document.querySelector('.chart-note')?.textContent ?? null,
        caption: document.querySelector('.chart-caption')?.textContent ?? null,
        chosen: [...document.querySelectorAll('.chart .feed-tools select')].map((select) => select.value),
        offered: [...document.querySelectorAll('.chart .feed-tools select')].map((select) => [...select.options].map((option) => option.value)),
        painted: [...document.querySelectorAll('.chart canvas')].map((canvas) => [canvas.width, canvas.height]),
        violations: window.violations ?? [],
        hash: location.hash,
    };";

async fn wait_for(browser: &Browser, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    browser.wait_for(secs(30), LOOK, what, is_so).await
}

async fn open(daemon: &Daemon, link: &str) -> Browser {
    let browser = Browser::open(daemon, "/#/").await;
    browser
        .run(&format!(
            "window.violations = [];
            document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${{event.violatedDirective}} ${{event.blockedURI}}`));
            location.hash = {};",
            json!(link)
        ))
        .await;
    browser
}

async fn set(browser: &Browser, index: usize, value: &str) {
    let script = format!(
        "const select = document.querySelectorAll('.chart .feed-tools select')[{index}];
        select.value = {};
        select.dispatchEvent(new Event('change', {{ bubbles: true }}));",
        json!(value)
    );
    browser.run(&script).await;
}

/// The values of a line, without their times.
fn values(line: &Value) -> Vec<f64> {
    let points = line.as_array().expect("points");
    points
        .iter()
        .map(|point| point[1].as_f64().expect("a number"))
        .collect()
}

fn a_chart_draws_the_values_that_were_sent(broker: &Broker) {
    let (topic, daemon) = stream(broker, "timestamp_field = \"time\"");
    let begin = now() - 60_000;
    let sent: Vec<(i64, f64)> = (0..10)
        .map(|step: i32| (begin + i64::from(step) * 5_000, f64::from(step * step) + 0.5))
        .collect();
    let records: Vec<Message> = sent
        .iter()
        .map(|(time, value)| Message::new("a", format!("{{\"price\":{value},\"id\":7}}")).timestamp(*time))
        .collect();
    broker.produce(&topic, &records);
    block_on(async {
        let browser = open(&daemon, "#/prices?view=chart").await;
        // Until a number is found, the rate is drawn, which has a point at each of these times too.
        let seen = wait_for(&browser, "all values of the number, found by itself", |seen| {
            let points = seen["lines"][0][1].as_array();
            seen["chosen"] == json!(["value.price", "key", "5"])
                && points.is_some_and(|points| points.len() == sent.len())
        })
        .await;
        let points = seen["lines"][0][1].as_array().expect("points");
        for (point, (time, value)) in points.iter().zip(&sent) {
            assert_eq!(point[1].as_f64(), Some(*value), "{seen}");
            let at = point[0].as_f64().expect("a time") * 1000.0;
            #[expect(clippy::cast_precision_loss, reason = "a time in milliseconds is exact")]
            let away = (at - *time as f64).abs();
            assert!(away <= 500.0, "{at} is not {time}");
        }
        assert_eq!(seen["legend"], json!([["a", "81.5"]]));
        // It moves on, and what comes is drawn.
        let before = seen["range"][1].as_f64().expect("a time");
        broker.produce(
            &topic,
            &[
                Message::new("a", r#"{"price":-3}"#),
                Message::new("b", r#"{"price":"12.50"}"#),
                Message::new("c", r#"{"price":null}"#),
            ],
        );
        let seen = wait_for(&browser, "the new values", |seen| {
            seen["legend"] == json!([["a", "-3"], ["b", "12.5"]])
        })
        .await;
        assert!(seen["range"][1].as_f64() > Some(before), "{seen}");
        assert!(
            seen["note"]
                .as_str()
                .is_some_and(|note| note.contains("1\u{a0}event had no such number")),
            "{seen}"
        );
        assert!(seen["painted"][0][0].as_u64() > Some(300), "{seen}");
        // Where a line is not wanted, it is not drawn.
        browser
            .run("document.querySelector('.chart-line').click();")
            .await;
        let shown =
            "return document.querySelector('.chart-plot').plot.series.slice(1).map((series) => series.show);";
        browser
            .wait_for(secs(10), shown, "the line is gone", |seen| {
                *seen == json!([false, true])
            })
            .await;
        let is_blank = "const canvas = document.querySelector('.chart canvas');
            return !canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value !== 0);";
        assert_eq!(browser.run(is_blank).await, false);
        browser.screenshot(&picture("chart.png")).await;
        assert_eq!(
            browser.run(LOOK).await["violations"],
            json!([]),
            "all of it is within the page's policy"
        );
        browser.close().await;
    });
}

fn a_chart_has_a_line_per_group(broker: &Broker) {
    let (topic, daemon) = stream(broker, "");
    let records: Vec<Message> = (0..300)
        .map(|number| {
            let kind = ["bus", "tram", "<b>"][number % 3];
            Message::new(
                format!("k{}", number % 30),
                format!(
                    r#"{{"speed":{},"kind":"{kind}","other":{number}}}"#,
                    number % 3 * 10
                ),
            )
        })
        .collect();
    broker.produce(&topic, &records);
    block_on(async {
        let browser = open(&daemon, "#/prices?view=chart").await;
        let names = |seen: &Value| -> Vec<String> {
            seen["legend"]
                .as_array()
                .map(|legend| {
                    legend
                        .iter()
                        .filter_map(|line| line[0].as_str().map(str::to_owned))
                        .collect()
                })
                .unwrap_or_default()
        };
        // More keys than lines: by the member that has few values.
        let seen = wait_for(&browser, "a line per kind", |seen| names(seen).len() == 3).await;
        assert_eq!(
            seen["chosen"],
            json!(["value.speed", "value.kind", "5"]),
            "{seen}"
        );
        for (name, value) in [("bus", 0.0), ("tram", 10.0), ("<b>", 20.0)] {
            let lines = seen["lines"].as_array().expect("lines");
            let line = lines
                .iter()
                .find(|line| line[0] == name)
                .unwrap_or_else(|| panic!("{name}: {seen}"));
            assert!(
                values(&line[1]).iter().all(|mean| (mean - value).abs() < 1e-9),
                "{seen}"
            );
        }
        // By key there are too many, which is said.
        set(&browser, 1, "key").await;
        let seen = wait_for(&browser, "twelve lines", |seen| names(seen).len() == 12).await;
        assert!(
            seen["note"]
                .as_str()
                .is_some_and(|note| note.contains("12 of 30 groups")),
            "{seen}"
        );
        assert!(
            seen["hash"]
                .as_str()
                .is_some_and(|hash| hash.contains("group=key")),
            "{seen}"
        );
        // All together: the mean, and the band around it.
        set(&browser, 1, "none").await;
        let seen = wait_for(&browser, "one line", |seen| {
            names(seen) == ["All"] && seen["all"].as_array().is_some_and(|all| all.len() == 3)
        })
        .await;
        let (high, low) = (values(&seen["all"][1]), values(&seen["all"][2]));
        assert!(
            high.iter().all(|value| *value <= 20.0) && low.iter().all(|value| *value >= 0.0),
            "{seen}"
        );
        assert!(high.iter().zip(&low).any(|(high, low)| high > low), "{seen}");
        set(&browser, 0, "value.other").await;
        set(&browser, 2, "15").await;
        let seen = wait_for(&browser, "another member", |seen| {
            seen["caption"]
                .as_str()
                .is_some_and(|caption| caption.starts_with("other,"))
        })
        .await;
        let hash = seen["hash"].as_str().expect("a link").to_owned();
        for part in ["field=value.other", "group=none", "minutes=15"] {
            assert!(hash.contains(part), "{hash}");
        }
        browser.screenshot(&picture("chart-band.png")).await;
        // The link leads to the same chart.
        let link = hash.clone();
        browser.goto(&daemon.url("/#/")).await;
        browser.run(&format!("location.hash = {};", json!(link))).await;
        let seen = wait_for(&browser, "the same chart", |seen| names(seen) == ["All"]).await;
        assert_eq!(seen["chosen"], json!(["value.other", "none", "15"]), "{seen}");
        browser.close().await;
    });
}

fn a_chart_without_numbers_shows_the_rate(broker: &Broker) {
    let (topic, daemon) = stream(broker, "");
    block_on(async {
        let browser = open(&daemon, "#/prices?view=chart").await;
        let seen = wait_for(&browser, "a chart of nothing yet", |seen| {
            seen["chosen"] == json!(["rate", "none", "5"])
        })
        .await;
        assert_eq!(seen["legend"], json!([]), "{seen}");
        let records: Vec<Message> = (0..60)
            .map(|number| Message::new(format!("k{number}"), r#"{"name":"text"}"#))
            .collect();
        broker.produce(&topic, &records);
        let sum = |seen: &Value| -> f64 {
            seen["all"][0]
                .as_array()
                .map_or(0.0, |_| values(&seen["all"][0]).iter().sum())
        };
        // A bucket is a second, and shown when it is over.
        let seen = wait_for(&browser, "all events, in events per second", |seen| {
            (sum(seen) - 60.0).abs() < 1e-9
        })
        .await;
        assert!(
            seen["caption"]
                .as_str()
                .is_some_and(|caption| caption.starts_with("Events per second")),
            "{seen}"
        );
        // A second without events is a zero.
        wait_for(&browser, "the rate falls to zero", |seen| {
            values(&seen["all"][0]).last() == Some(&0.0)
        })
        .await;
        // Once there are numbers, they are offered, and shown unless something was chosen.
        broker.produce(&topic, &[Message::new("n", r#"{"price":5}"#)]);
        wait_for(&browser, "the number is shown", |seen| {
            seen["chosen"][0] == "value.price"
        })
        .await;
        browser.close().await;
    });
}

fn a_configured_title_is_that_of_the_configured_chart(broker: &Broker) {
    let view = "[[stream.view]]\nkind = \"chart\"\ntitle = \"What it costs\"\nvalue = \"price\"\n";
    let (topic, daemon) = stream(broker, view);
    broker.produce(&topic, &[Message::new("a", r#"{"price":5,"weight":1}"#)]);
    block_on(async {
        let browser = open(&daemon, "#/prices?view=chart").await;
        let is_titled = |title: &'static str| move |seen: &Value| seen["caption"] == title;
        let is_drawn = |seen: &Value| seen["legend"] == json!([["a", "5"]]);
        let seen = wait_for(&browser, "its line", is_drawn).await;
        assert_eq!(seen["caption"], "What it costs");
        // As somebody who reaches for them, for whom they are filled with what there is by now.
        browser
            .run("document.querySelector('.chart .feed-tools').dispatchEvent(new Event('pointerenter'))")
            .await;
        set(&browser, 0, "value.weight").await;
        let other = "weight by key, last 5\u{a0}minutes";
        wait_for(&browser, "what is shown instead", is_titled(other)).await;
        set(&browser, 0, "value.price").await;
        wait_for(&browser, "its title again", is_titled("What it costs")).await;
        browser.close().await;
    });
}

fn what_draws_the_chart_is_that_of_its_package() {
    let package = Runtime::Node.home().join("node_modules/uplot");
    let vendor = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/page/vendor");
    let read = |file: &Path| fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut files: Vec<String> = Vec::new();
    for (name, original) in [
        ("uPlot.iife.min.js", "dist/uPlot.iife.min.js"),
        ("uPlot.min.css", "dist/uPlot.min.css"),
        ("uPlot.LICENSE", "LICENSE"),
    ] {
        assert!(
            read(&vendor.join(name)) == read(&package.join(original)),
            "assets/page/vendor/{name} is not uplot's {original}: copy it from the package pinned in tests/clients/node"
        );
        files.push(name.to_owned());
    }
    let mut there: Vec<String> = fs::read_dir(&vendor)
        .expect("the vendored files")
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    there.sort();
    assert_eq!(there, files, "nothing else is vendored");
}
