//! The page on a wall, and at the keyboard.

use super::tables::{order, stream_of};
use super::{picture, press, second_of, setup, wait_for, wait_for_rows};
use crate::harness::broker::{Broker, Version};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![
        on_broker(Version::V4_4, a_kiosk_shows_nothing_but_the_view_and_turns_pages),
        on_broker(Version::V4_4, a_kiosk_turns_the_pages_of_what_does_not_fit),
        on_broker(Version::V4_4, a_kiosk_goes_on_with_the_next_page_of_each_view),
        on_broker(Version::V4_4, everything_is_reached_by_the_keyboard),
        on_broker(Version::V4_4, the_page_holds_from_right_to_left_and_on_a_phone),
    ]
}

fn two_streams(broker: &Broker) -> Daemon {
    let (_, text) = setup(broker, "", "");
    let second = second_of(&text);
    Daemon::start(&format!("{text}{second}"))
}

fn a_kiosk_shows_nothing_but_the_view_and_turns_pages(broker: &Broker) {
    let daemon = two_streams(broker);
    block_on(async {
        let browser = Browser::open(&daemon, "/?kiosk=2#/topn/updates").await;
        wait_for_rows(&browser, &["Europe"]).await;
        let shown = "return ['#bar', '#strip', '#foot', '#sign'].map((id) => document.querySelector(id).checkVisibility())";
        assert_eq!(browser.run(shown).await, json!([false, false, false, true]));
        browser.screenshot(&picture("page-kiosk.png")).await;
        let mut seen: Vec<String> = Vec::new();
        eventually_async(secs(40), "every view of both streams is shown", async || {
            let now = browser.run("return location.hash").await;
            let now = now.as_str().unwrap_or_default().to_owned();
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            let all = ["/topn/updates", "/other"].into_iter().all(|path| {
                ["table", "feed", "chart"]
                    .into_iter()
                    .all(|view| seen.contains(&format!("#{path}?view={view}")))
            });
            ensure(all, format!("{seen:?}"))
        })
        .await;
        browser.close().await;
    });
}

/// More rows than a window shows, and no more than two do.
const ROWS: u32 = 30;

fn rows(broker: &Broker, views: &[&str]) -> Daemon {
    let orders: Vec<Message> = (0..ROWS)
        .map(|number| order(number, "new", f64::from(number)))
        .collect();
    let views = views
        .iter()
        .map(|kind| format!("[[stream.view]]\nkind = \"{kind}\"\n"));
    let lines: Vec<String> = views.collect();
    let (_, text) = stream_of(
        broker,
        &orders,
        &format!("key_field = \"order\"\n{}", lines.concat()),
    );
    Daemon::start(&text)
}

/// How many rows or cards were seen whole at a look so far, and where the view is scrolled to.
const WATCH: &str = "
    window.whole ??= { grid: new Set(), cards: new Set() };
    const scroller = document.querySelector('#view :is(.grid, .cards)');
    if (!scroller) return {};
    const { bottom, top } = scroller.getBoundingClientRect();
    const begin = scroller.querySelector('thead')?.getBoundingClientRect().bottom ?? top;
    for (const row of scroller.querySelectorAll('[data-key]')) {
        const own = row.getBoundingClientRect();
        if (own.top > begin - 1 && own.bottom < bottom + 1) window.whole[scroller.className].add(row.dataset.key);
    }
    return { rows: window.whole.grid.size, cards: window.whole.cards.size, top: scroller.scrollTop };";

fn a_kiosk_turns_the_pages_of_what_does_not_fit(broker: &Broker) {
    let daemon = rows(broker, &["table"]);
    block_on(async {
        let browser = Browser::open(&daemon, "/about").await;
        for is_smooth in [false, true] {
            let motion = if is_smooth { "no-preference" } else { "reduce" };
            let media = json!({ "features": [{ "name": "prefers-reduced-motion", "value": motion }] });
            let set = browser.devtools("Emulation.setEmulatedMedia", media).await;
            set.expect("another preference");
            // Nothing else to show, so a page's time is all that it sets.
            browser.goto(&daemon.url("/?kiosk=2")).await;
            browser
                .run("window.tops = new Set(); document.addEventListener('scroll', ({ target }) => tops.add(Math.round(target.scrollTop)), true)")
                .await;
            browser
                .wait_for(secs(30), WATCH, "the second page has the other rows", |seen| {
                    seen["rows"] == ROWS && seen["top"].as_f64() > Some(0.0)
                })
                .await;
            browser.screenshot(&picture("page-kiosk-second.png")).await;
            browser
                .wait_for(secs(30), WATCH, "the first page follows", |seen| seen["top"] == 0)
                .await;
            let tops = browser.run("return [...tops]").await;
            let are_many = tops.as_array().is_some_and(|tops| tops.len() > 2);
            assert_eq!(are_many, is_smooth, "on the way: {tops}, {motion}");
            browser.goto("about:blank").await;
        }
        browser.goto(&daemon.url("/?kiosk=2")).await;
        browser
            .wait_for(secs(30), WATCH, "the second page", |seen| {
                seen["top"].as_f64() > Some(0.0)
            })
            .await;
        browser
            .run("window.pressed = {}; addEventListener('keydown', () => Object.assign(pressed, { at: performance.now() }))")
            .await;
        press(&browser, "x").await;
        browser
            .wait_for(
                secs(30),
                "return performance.now() - pressed.at",
                "twice a page's time has passed since a key was pressed",
                |passed| passed.as_f64() > Some(4_500.0),
            )
            .await;
        let seen = browser.run(WATCH).await;
        assert!(seen["top"].as_f64() > Some(0.0), "it has turned the page: {seen}");
        browser.close().await;
    });
}

fn a_kiosk_goes_on_with_the_next_page_of_each_view(broker: &Broker) {
    let daemon = rows(broker, &["table", "cards"]);
    block_on(async {
        let browser = Browser::open(&daemon, "/?kiosk=2").await;
        browser
            .wait_for(secs(60), WATCH, "all rows and cards are seen in turn", |seen| {
                seen["rows"] == ROWS && seen["cards"] == ROWS
            })
            .await;
        browser.close().await;
    });
}

/// The accessible name of the focused element.
const FOCUS: &str = "
    const { activeElement: at } = document;
    return at.id || at.getAttribute('aria-label') || at.textContent.trim();";

fn everything_is_reached_by_the_keyboard(broker: &Broker) {
    let daemon = two_streams(broker);
    block_on(async {
        let browser = Browser::open(&daemon, "/#/topn/updates").await;
        wait_for_rows(&browser, &["Europe"]).await;
        let mut reached: Vec<String> = Vec::new();
        for _ in 0..7 {
            press(&browser, "\u{e004}").await;
            let at = browser.run(FOCUS).await;
            reached.push(at.as_str().unwrap_or_default().to_owned());
        }
        for wanted in ["skip", "brand", "streams", "help", "Table", "Feed", "Chart"] {
            assert!(reached.iter().any(|at| at == wanted), "{wanted}: {reached:?}");
        }
        // The map of single keys, and some of them.
        browser.run("document.querySelector('#main').focus()").await;
        press(&browser, "?").await;
        let open = "return document.querySelector('#keys')?.open === true";
        browser
            .wait_for(secs(10), open, "the map is shown", |open| *open == true)
            .await;
        browser.screenshot(&picture("page-keys.png")).await;
        press(&browser, "\u{e00c}").await;
        assert_eq!(browser.run(open).await, json!(false));
        press(&browser, "2").await;
        wait_for(&browser, "the second view", |seen| seen["view"] == "Feed").await;
        press(&browser, "]").await;
        wait_for(&browser, "the next stream", |seen| seen["heading"] == "/other").await;
        press(&browser, "h").await;
        wait_for(&browser, "the list", |seen| seen["page"] == "home").await;
        // They can be turned off.
        press(&browser, "?").await;
        browser
            .run("document.querySelector('#keys-on').click(); document.querySelector('#keys').close();")
            .await;
        browser.run("location.hash = '#/other'").await;
        wait_for_rows(&browser, &["Europe"]).await;
        press(&browser, "h").await;
        press(&browser, "2").await;
        let seen = wait_for_rows(&browser, &["Europe"]).await;
        assert_eq!(seen["view"], "Table");
        browser.close().await;
    });
}

fn the_page_holds_from_right_to_left_and_on_a_phone(broker: &Broker) {
    let daemon = two_streams(broker);
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        for (width, height) in [(390, 844), (1280, 900), (2560, 1440)] {
            browser
                .client
                .set_window_size(width, height)
                .await
                .expect("a window of this size");
            for page in ["#/", "#/topn/updates"] {
                browser.goto(&daemon.url(&format!("/{page}"))).await;
                wait_for(&browser, "something is shown", |seen| {
                    seen["cards"] != json!([]) || seen["rows"] != json!([])
                })
                .await;
                for direction in ["ltr", "rtl"] {
                    let overflow = browser
                        .run(&format!(
                            "document.documentElement.dir = '{direction}';
                             const wide = [document.documentElement, document.body, document.querySelector('#bar')];
                             return wide.filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.outerHTML.slice(0, 80));"
                        ))
                        .await;
                    assert_eq!(overflow, json!([]), "{width} {page} {direction}");
                    if direction == "rtl" {
                        let name = format!("page-rtl-{width}.png");
                        browser.screenshot(&picture(&name)).await;
                    }
                }
            }
        }
        assert_ne!(browser.run("return innerWidth").await, Value::Null);
        browser.close().await;
    });
}
