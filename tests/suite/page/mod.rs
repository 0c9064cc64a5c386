//! The built-in page in a browser.

mod access;
mod accessibility;
mod cards;
mod charts;
mod feed_figures;
mod feeds;
mod figures;
mod filter_bars;
mod frames;
mod home;
mod hostile;
mod kiosk;
mod links;
mod lists;
mod modules;
mod pictures;
mod sharing;
mod sizes;
mod snippets;
mod status;
mod tables;

use crate::common::table;
use crate::harness::broker::{Broker, topic_name};
use crate::harness::browser::Browser;
use crate::harness::wait::secs;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<Trial> {
    [
        access::trials(),
        accessibility::trials(),
        cards::trials(),
        charts::trials(),
        feed_figures::trials(),
        feeds::trials(),
        figures::trials(),
        filter_bars::trials(),
        frames::trials(),
        home::trials(),
        hostile::trials(),
        kiosk::trials(),
        links::trials(),
        lists::trials(),
        modules::trials(),
        pictures::trials(),
        sharing::trials(),
        sizes::trials(),
        snippets::trials(),
        status::trials(),
        tables::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A topic with a row for Europe, and a configuration of a stream of it, with these lines of `[http]` and of the stream,
/// and sections behind it.
fn setup(broker: &Broker, http: &str, stream: &str) -> (String, String) {
    let topic = topic_name("page");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &[table("Europe", &["NL"])]);
    let text = format!(
        "{}{http}\n[[stream]]\npath = \"/topn/updates\"\ntopics = [{topic:?}]\nstart = \"snapshot\"\n\
         key_field = \"continent\"\n{stream}\n",
        served(broker)
    );
    (topic, text)
}

/// The stream of a configuration once more, at another path.
fn second_of(text: &str) -> String {
    let (_, stream) = text.split_once("[[stream]]").expect("a stream");
    format!("[[stream]]{stream}").replace("/topn/updates", "/other")
}

/// The sections before the streams, up to lines of `[http]`.
fn served(broker: &Broker) -> String {
    format!(
        "[kafka]\nbrokers = [\"{}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\nretry = \"100ms\"\n",
        broker.bootstrap()
    )
}

/// What somebody who looks at the page sees.
const LOOK: &str = "
    const shown = (id) => { const found = document.querySelector(id); return found?.checkVisibility() ? found : null; };
    const texts = (all) => [...document.querySelectorAll(all)].filter((each) => each.checkVisibility()).map((each) => each.textContent);
    return {
        page: document.body.dataset.page,
        state: (shown('#state') ?? shown('.sign-state'))?.dataset.state ?? null,
        said: (shown('#state') ?? shown('.sign-state'))?.textContent ?? null,
        heading: document.querySelector('#heading').textContent,
        total: Number(document.querySelector('#rate').dataset.total ?? 0),
        rows: [...document.querySelectorAll('#view [data-key]')].filter((row) => row.checkVisibility()).map((row) => row.dataset.key).sort(),
        tabs: texts('#tabs a'),
        view: document.querySelector('#tabs [aria-current]')?.textContent ?? null,
        notices: texts('#notices .notice-text'),
        cards: texts('.card h2'),
        title: shown('#access-title')?.textContent ?? null,
        why: shown('#access-why')?.textContent ?? null,
        asks: shown('#token-form') !== null,
        login: shown('#login')?.getAttribute('href') ?? null,
        links: [...document.querySelectorAll('#foot nav a')].map((link) => link.getAttribute('href')),
        curl: document.querySelector('#curl').textContent,
        hash: location.hash,
    };";

async fn wait_for(browser: &Browser, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    browser.wait_for(secs(30), LOOK, what, is_so).await
}

async fn wait_for_rows(browser: &Browser, rows: &[&str]) -> Value {
    let is_so =
        |seen: &Value| seen["state"] == "live" && seen["rows"] == json!(rows) && seen["title"] == Value::Null;
    wait_for(browser, "the page shows the rows and asks for nothing", is_so).await
}

/// Presses keys in the page, as somebody at the keyboard does.
async fn press(browser: &Browser, keys: &str) {
    let element = browser
        .client
        .active_element()
        .await
        .expect("something has the focus");
    element.send_keys(keys).await.expect("keys are pressed");
}

/// How somebody looks at the page.
#[derive(Clone, Copy, Debug)]
struct Look {
    is_dark: bool,
    width: u32,
    height: u32,
}

impl Look {
    /// The window that a browser begins with.
    const DESKTOP: Look = Look {
        is_dark: false,
        width: 1280,
        height: 900,
    };
    const PHONE: Look = Look {
        is_dark: false,
        width: 390,
        height: 844,
    };
    const ALL: [Look; 4] = [
        Look::DESKTOP,
        Look::DESKTOP.dark(),
        Look::PHONE.dark(),
        Look::PHONE,
    ];

    const fn dark(self) -> Look {
        Look {
            is_dark: true,
            ..self
        }
    }

    /// Changes what the page is told of its screen, without loading it again. Nothing moves, so that what is seen is not half-way.
    async fn put_on(self, browser: &Browser) {
        let is_phone = self.width < 500;
        let scheme = if self.is_dark { "dark" } else { "light" };
        for (command, parameters) in [
            (
                "Emulation.setEmulatedMedia",
                json!({ "features": [
                    { "name": "prefers-color-scheme", "value": scheme },
                    { "name": "prefers-reduced-motion", "value": "reduce" },
                ] }),
            ),
            (
                "Emulation.setDeviceMetricsOverride",
                json!({ "width": self.width, "height": self.height, "deviceScaleFactor": 0, "mobile": is_phone }),
            ),
            (
                "Emulation.setTouchEmulationEnabled",
                json!({ "enabled": is_phone }),
            ),
        ] {
            let answer = browser.devtools(command, parameters).await;
            answer.unwrap_or_else(|error| panic!("{command}: {error}"));
        }
        // The page hears of another scheme when it is next drawn, before this callback (HTML standard, "update the
        // rendering").
        let drawn = "const [done] = arguments; requestAnimationFrame(() => done())";
        let answer = browser.client.execute_async(drawn, Vec::new()).await;
        answer.unwrap_or_else(|error| panic!("{drawn}: {error}"));
    }
}

fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}
