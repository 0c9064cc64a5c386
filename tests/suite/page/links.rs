//! Where the page leads, and what leads to it.

use super::{second_of, served, setup, wait_for, wait_for_rows};
use crate::common::table;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{on_broker, promise};
use crate::pages;
use libtest_mimic::Trial;
use serde_json::json;
use std::fs;

pub fn trials() -> Vec<Trial> {
    vec![
        promise(the_page_links_only_to_what_is_served_beside_it),
        on_broker(Version::V4_4, a_link_leads_to_a_view_and_its_filters),
        on_broker(Version::V4_4, a_path_with_parameters_asks_for_them),
        on_broker(Version::V4_4, the_page_works_below_a_path_prefix),
        on_broker(Version::V4_4, the_configured_view_is_shown_first),
    ]
}

fn the_page_links_only_to_what_is_served_beside_it() {
    let about = "<a href=\"about\">About</a>";
    let streams = "<a href=\"streams\">Streams</a>";
    let config = |lines: &str| pages::config("").replacen("[http]\n", &format!("[http]\n{lines}\n"), 1);
    let daemon = Daemon::start(&config(""));
    block_on(async {
        let mut before = String::new();
        for (lines, shown) in [
            ("", [true, true]),
            ("expose = [\"about\"]", [true, false]),
            ("expose = [\"streams\", \"health\"]", [false, true]),
            ("admin.listen = [\"127.0.0.1:0\"]", [false, false]),
        ] {
            daemon.rewrite_config(&config(lines));
            daemon.signal(Signal::HUP);
            eventually_async(secs(20), lines, async || {
                let page = daemon.get("/").await;
                let text = page.text();
                ensure([about, streams].map(|link| text.contains(link)) == shown, text)
            })
            .await;
            assert_eq!(daemon.get("/about").await.status == 200, shown[0]);
            let streams = daemon.get("/streams").await.json();
            assert_eq!(streams.get("http").is_some(), shown[1], "{streams}");
            let page = daemon.get("/").await;
            let etag = page.header("etag").expect("an ETag").to_owned();
            assert_ne!(etag, before, "a browser must not keep the other page");
            before = etag;
        }
    });
    // A page of one's own may have them too, and where to log in.
    let page = tempfile::tempdir().expect("a directory");
    fs::write(
        page.path().join("index.html"),
        "{{links}} <a href=\"{{login_url}}\">",
    )
    .expect("written");
    let ui = "[ui]\nlogin_url = \"https://login.example.org/?a=1&b='2'\"\n";
    let daemon = Daemon::with(&(config("expose = [\"about\"]") + ui))
        .arg("--assets")
        .arg(page.path())
        .start();
    let text = block_on(daemon.get("/")).text();
    assert_eq!(
        text,
        format!("{about} <a href=\"https://login.example.org/?a=1&amp;b=&#39;2&#39;\">")
    );
}

fn a_link_leads_to_a_view_and_its_filters(broker: &Broker) {
    let (topic, text) = setup(broker, "", "");
    broker.produce(&topic, &[table("Asia", &["CN"]), table("Africa", &["DZ"])]);
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/#/topn/updates?view=table&f.key=Asia&f.key=Africa").await;
        let seen = wait_for_rows(&browser, &["Africa", "Asia"]).await;
        assert_eq!(seen["heading"], "/topn/updates");
        assert!(
            seen["curl"]
                .as_str()
                .is_some_and(|curl| curl.contains("?key=Asia&key=Africa'")),
            "{seen}"
        );
        let filtered = browser
            .run("return document.querySelector('.filtered').textContent")
            .await;
        assert_eq!(filtered, "Filtered by key=Asia, key=Africa Show all");
        // Another view of the same, and back.
        browser
            .run("document.querySelector('#tabs a[href*=\"view=feed\"]').click()")
            .await;
        let seen = wait_for(&browser, "the feed is shown", |seen| {
            seen["view"] == "Feed" && seen["state"] == "live"
        })
        .await;
        assert!(
            seen["hash"]
                .as_str()
                .is_some_and(|hash| hash.contains("f.key=Asia&f.key=Africa")),
            "{seen}"
        );
        browser.client.back().await.expect("the page before");
        wait_for_rows(&browser, &["Africa", "Asia"]).await;
        // A link that is changed by hand.
        browser.run("location.hash = '#/topn/updates'").await;
        wait_for_rows(&browser, &["Africa", "Asia", "Europe"]).await;
        // Browsers make /topn/updates of the second one.
        for path in ["/no/such", "/no/%2e%2e/topn/updates"] {
            browser.run(&format!("location.hash = '#{path}'")).await;
            wait_for(&browser, "the page says that there is none", |seen| {
                seen["page"] == "missing" && seen["heading"] == "Not found"
            })
            .await;
            browser.run("location.hash = '#/topn/updates?f.key=Mars'").await;
            wait_for(&browser, "no row passes", |seen| {
                seen["state"] == "live" && seen["rows"] == json!([])
            })
            .await;
        }
        let why = browser.run("return document.querySelector('.table-empty').textContent");
        assert_eq!(why.await, "No row passes the filters so far.");
        browser
            .run("document.querySelector('.filtered button').click()")
            .await;
        wait_for_rows(&browser, &["Africa", "Asia", "Europe"]).await;
        browser.close().await;
    });
}

fn a_path_with_parameters_asks_for_them(broker: &Broker) {
    let topic = topic_name("users");
    broker.create_topic(&topic, 1, &[]);
    let record = |user: &str| Message::new(user, format!(r#"{{"name":"{user}"}}"#));
    broker.produce(&topic, &[record("anne"), record("bo b")]);
    let daemon = Daemon::start(&format!(
        "{}[[stream]]\npath = \"/users/{{id}}\"\ntopics = [{topic:?}]\nstart = \"snapshot\"\nkey_field = \"user\"\n\
         filter = {{ key = [\"{{id}}\"] }}\n",
        served(broker)
    ));
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        wait_for(&browser, "the page asks", |seen| seen["page"] == "parameters").await;
        browser
            .run(
                "document.querySelector('#parameter-0').value = 'bo b';
                 document.querySelector('.parameters').requestSubmit();",
            )
            .await;
        let seen = wait_for_rows(&browser, &["bo b"]).await;
        assert_eq!(
            (&seen["heading"], &seen["hash"]),
            (&json!("/users/bo%20b"), &json!("#/users/bo%20b"))
        );
        browser.goto(&daemon.url("/#/users/anne")).await;
        wait_for_rows(&browser, &["anne"]).await;
        browser.close().await;
    });
}

fn the_page_works_below_a_path_prefix(broker: &Broker) {
    let (_, text) = setup(broker, "base_path = \"/live/data\"", "");
    let daemon = Daemon::start(&text);
    block_on(async {
        eventually_async(secs(30), "the daemon is ready", async || {
            let ready = daemon.get("/live/data/health/ready").await;
            ensure(ready.status == 200, ready.text())
        })
        .await;
        let browser = Browser::start().await;
        browser.goto(&daemon.url("/live/data/")).await;
        wait_for_rows(&browser, &["Europe"]).await;
        browser.close().await;
    });
}

fn the_configured_view_is_shown_first(broker: &Broker) {
    let (_, text) = setup(broker, "", "");
    let second = second_of(&text);
    let daemon = Daemon::start(&format!(
        "{text}{second}[ui]\ntitle = \"Tables\"\naccent = \"RebeccaPurple\"\ndefault_view = \"/other?view=feed\"\n"
    ));
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        let seen = wait_for(&browser, "the default view is shown", |seen| {
            seen["heading"] == "/other" && seen["view"] == "Feed" && seen["state"] == "live"
        })
        .await;
        assert_eq!(seen["hash"], "#/other?view=feed");
        let looks = browser
            .run(
                "return [document.title, document.querySelector('#brand').textContent,
                    getComputedStyle(document.documentElement).getPropertyValue('--accent')]",
            )
            .await;
        assert_eq!(looks, json!(["Feed · /other – Tables", "Tables", "#663399"]));
        // From there the list of all is one step away.
        browser.run("document.querySelector('#brand').click()").await;
        wait_for(&browser, "all streams are shown", |seen| {
            seen["cards"] == json!(["/topn/updates", "/other"])
        })
        .await;
        browser.close().await;
    });
}
