//! Pictures of every view, to be looked at: of the demo's streams in light and dark, on a desktop, on a phone and on a wall.
//!
//! `cargo test --test suite -- pictures_of_every_view --ignored` writes them to `pictures` in cargo's directory for files of
//! tests (`target/tmp`).

use super::{Look, picture};
use crate::demo;
use crate::harness::browser::Browser;
use crate::harness::promise;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use libtest_mimic::Trial;
use serde_json::json;
use std::fs;

pub fn trials() -> Vec<Trial> {
    vec![promise(pictures_of_every_view).with_ignored_flag(true)]
}

/// Name, link, what is done there, and what is true when there is something to see.
const VIEWS: [(&str, &str, &str, &str); 13] = [
    (
        "home",
        "#/",
        "",
        "document.querySelectorAll('.spark .line[d*=L]').length === 2",
    ),
    (
        "continents",
        "#/topn/updates?view=table",
        "",
        "document.querySelectorAll('.grid tbody li').length > 20",
    ),
    (
        "continents-open",
        "#/topn/updates?view=table&key=Europe",
        "",
        "document.querySelector('.row-panel .json')",
    ),
    (
        "table",
        "#/vehicles?view=table",
        "",
        "document.querySelectorAll('.grid tbody tr').length > 15",
    ),
    (
        "table-open",
        "#/vehicles?view=table&sort=-speed",
        "document.querySelector('.grid tbody tr td').click()",
        "document.querySelector('.row-panel .json')",
    ),
    (
        "table-menu",
        "#/vehicles?view=table&q=moving",
        "document.querySelector('.column-menu-of button').click()",
        "document.querySelector('.column-menu')?.checkVisibility()",
    ),
    (
        "table-none",
        "#/vehicles?view=table&q=nowhere",
        "",
        "document.querySelector('.table-empty')?.checkVisibility()",
    ),
    (
        "feed",
        "#/vehicles?view=feed&show=changes",
        "",
        "document.querySelectorAll('.feed-row').length > 15 && document.querySelector('.event .json')",
    ),
    (
        "feed-filter",
        "#/vehicles?view=feed&f.value.status=delayed&f.value.status=charging",
        "document.querySelector('.filter-input').focus()",
        "document.querySelectorAll('.filter-list li').length > 3",
    ),
    (
        "feed-connect",
        "#/vehicles?view=feed",
        "document.querySelector('.feed-connect').click()",
        "document.querySelector('.connect')",
    ),
    (
        "chart",
        "#/vehicles?view=chart",
        "",
        "document.querySelectorAll('.chart-line').length > 5",
    ),
    (
        "cards",
        "#/vehicles?view=cards",
        "",
        "document.querySelectorAll('.row-card').length > 1",
    ),
    ("missing", "#/nowhere", "", "document.querySelector('.panel')"),
];

const LOOKS: [(&str, Look, &str); 6] = [
    (
        "light",
        Look {
            height: 800,
            ..Look::DESKTOP
        },
        "",
    ),
    (
        "dark",
        Look {
            height: 800,
            ..Look::DESKTOP
        }
        .dark(),
        "",
    ),
    ("phone", Look::PHONE, ""),
    ("phone-dark", Look::PHONE.dark(), ""),
    (
        "wide",
        Look {
            width: 1920,
            height: 1080,
            is_dark: false,
        },
        "",
    ),
    (
        "kiosk",
        Look {
            width: 1920,
            height: 1080,
            is_dark: true,
        },
        "kiosk",
    ),
];

fn pictures_of_every_view() {
    let (_demo, url) = demo::start(120);
    let directory = picture("pictures");
    fs::create_dir_all(&directory).expect("a directory");
    block_on(async {
        let browser = Browser::start().await;
        // So that the chart has something to show.
        browser.goto(&format!("{url}/#/vehicles?view=chart")).await;
        let points = "return Number(document.querySelector('#rate').dataset.total)";
        eventually_async(secs(120), "many records", async || {
            let total = browser.run(points).await;
            ensure(total.as_f64() > Some(15_000.0), total.to_string())
        })
        .await;
        for (look, screen, query) in LOOKS {
            screen.put_on(&browser).await;
            for (name, link, act, is_shown) in VIEWS {
                if query == "kiosk"
                    && !["home", "continents", "table", "feed", "chart", "cards"].contains(&name)
                {
                    continue;
                }
                browser.goto(&format!("{url}/?{query}&shown={name}{link}")).await;
                let ready = "return document.querySelector('#state')?.dataset.state === 'live' || document.body.dataset.page !== 'stream'";
                let mut is_done = act.is_empty();
                eventually_async(secs(30), name, async || {
                    ensure(browser.run(ready).await == json!(true), "not live")?;
                    if !is_done {
                        let done = browser
                            .run(&format!("try {{ {act}; return true }} catch {{ return false }}"))
                            .await;
                        is_done = done == json!(true);
                    }
                    let shown = browser.run(&format!("return Boolean({is_shown})")).await;
                    ensure(shown == json!(true), "not shown")
                })
                .await;
                browser
                    .screenshot(&directory.join(format!("{name}-{look}.png")))
                    .await;
            }
        }
        browser.close().await;
    });
    eprintln!("{}", directory.display());
}
