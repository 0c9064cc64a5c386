//! The page's cards: one per key, for wall displays.

use super::picture;
use super::tables::{order, stream_of};
use crate::harness::broker::{Broker, Version};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![on_broker(Version::V4_4, cards_show_one_card_per_key)]
}

/// What cards show.
const LOOK: &str = "
    return {
        keys: [...document.querySelectorAll('.cards > li')].map((card) => card.dataset.key),
        titles: [...document.querySelectorAll('.cards h2')].map((title) => title.textContent),
        figures: [...document.querySelectorAll('.cards .row-figure p')].map((figure) => figure.textContent),
        newest: [...document.querySelectorAll('.cards > li[data-newest]')].map((card) => card.dataset.key),
        state: document.querySelector('#state').dataset.state,
    };";

async fn wait_for(browser: &Browser, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    browser.wait_for(secs(30), LOOK, what, is_so).await
}

fn cards_show_one_card_per_key(broker: &Broker) {
    let view =
        "key_field = \"order\"\n[[stream.view]]\nkind = \"cards\"\ntitle = \"Orders\"\nsort = \"-total\"\n";
    let (topic, text) = stream_of(broker, &[order(1, "new", 12.0), order(2, "paid", 99.0)], view);
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/?kiosk").await;
        let seen = wait_for(&browser, "cards in the configured order", |seen| {
            seen["keys"] == json!(["2", "1"]) && seen["state"] == "live"
        })
        .await;
        assert_eq!(
            (&seen["titles"], &seen["figures"]),
            (&json!(["2", "1"]), &json!(["99", "12"]))
        );
        broker.produce(&topic, &[order(1, "new", 500.5)]);
        let seen = wait_for(&browser, "the changed card comes first, marked", |seen| {
            seen["keys"] == json!(["1", "2"])
        })
        .await;
        assert_eq!(
            (&seen["newest"], &seen["figures"][0]),
            (&json!(["1"]), &json!("500.5"))
        );
        broker.produce(&topic, &[Message::tombstone("2")]);
        wait_for(&browser, "a tombstone takes its card away", |seen| {
            seen["keys"] == json!(["1"])
        })
        .await;
        browser.screenshot(&picture("page-cards.png")).await;
        browser.close().await;
    });
}
