//! Tables whose rows have lists in them, and so heights of their own.

use super::picture;
use super::tables::{stream_of, wait_for};
use crate::harness::broker::{Broker, Version};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![on_broker(
        Version::V4_4,
        lists_beside_many_columns_can_be_read_and_reached,
    )]
}

const VIEW: &str = r#"key_field = "order"
[[stream.view]]
columns = [
    { path = "order" }, { path = "status", format = "badge" }, { path = "total", format = "number", unit = "EUR" },
    { path = "city" }, { path = "at", format = "date" }, { path = "url", format = "link" },
    { path = "items", format = "list", limit = 3, items = [{ path = "sku" }, { path = "qty", format = "number" }] },
    { path = "customer", format = "json" }, { path = "note" }, { path = "@topic" },
]
"#;

/// The lowest number of characters in a line of a cell with text, the height of the highest row, whether the document is wider than the window, and how much
/// of the table's last cell is seen once the view is scrolled to its end.
const MEASURE: &str = "
    const rows = [...document.querySelectorAll('.grid tbody tr')];
    const view = document.querySelector('.table-view');
    const lines = (cell) => {
        const range = document.createRange();
        const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
        const tops = [];
        while (texts.nextNode()) {
            range.selectNodeContents(texts.currentNode);
            for (const { top } of range.getClientRects()) tops.push(top);
        }
        return 1 + tops.sort((one, other) => one - other).filter((top, index) => top - tops[index - 1] > 8).length;
    };
    const dense = rows.flatMap((row) => [...row.cells]).filter((cell) => cell.textContent.length > 3 && cell.dataset.kind !== 'items')
        .map((cell) => cell.textContent.length / lines(cell));
    for (const box of [view, document.querySelector('.grid')]) box.scrollLeft = box.scrollWidth;
    const last = rows[0].cells[rows[0].cells.length - 1].getBoundingClientRect();
    return {
        characters: Math.min(...dense),
        height: Math.max(...rows.map((row) => row.getBoundingClientRect().height)),
        overflows: document.documentElement.scrollWidth > innerWidth,
        isReached: last.right <= innerWidth + 1 && last.left >= 0,
    };";

fn lists_beside_many_columns_can_be_read_and_reached(broker: &Broker) {
    let order = |number: u32| {
        let value = json!({
            "status": "shipped", "total": 1738.04, "city": "Z\u{fc}rich", "at": "2026-10-29T12:00:00Z",
            "url": "https://shop.example.org/orders/17", "note": "as soon as possible, please",
            "items": [{ "sku": "SKU-611", "qty": 1 }, { "sku": "SKU-359", "qty": 5 }],
            "customer": { "name": "Customer 22", "city": "Z\u{fc}rich", "address": { "street": "Main St 58", "zip": "19956" } },
        });
        Message::new(number.to_string(), value.to_string())
    };
    // A few rows are all in the document, many are not.
    for count in [3, 200] {
        let messages: Vec<Message> = (1..=count).map(order).collect();
        let (_, text) = stream_of(broker, &messages, VIEW);
        let daemon = Daemon::start(&text);
        block_on(async {
            daemon.wait_ready(secs(30)).await;
            let browser = Browser::start().await;
            browser.goto(&daemon.url("/")).await;
            let all = json!(format!("{count} rows"));
            wait_for(&browser, "the table is complete", |seen| {
                seen["count"] == all && seen["state"] == "live"
            })
            .await;
            for (width, name) in [(1280, "wide"), (390, "phone")] {
                let size = browser.client.set_window_size(width, 800);
                size.await.expect("the window has another size");
                let seen: Value = browser.run(MEASURE).await;
                assert!(seen["characters"].as_f64().is_some_and(|few| few > 5.0), "{seen}");
                assert!(seen["height"].as_f64().is_some_and(|high| high < 400.0), "{seen}");
                assert_eq!(
                    (&seen["overflows"], &seen["isReached"]),
                    (&json!(false), &json!(true)),
                    "{seen}"
                );
                browser
                    .screenshot(&picture(&format!("page-lists-{name}-{count}.png")))
                    .await;
            }
            browser.close().await;
        });
    }
}
