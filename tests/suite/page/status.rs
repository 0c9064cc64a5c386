//! What the page says about its connection, and that it is true.

use super::{LOOK, picture, second_of, served, setup, wait_for, wait_for_rows};
use crate::common::table;
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::browser::{Browser, Engine};
use crate::harness::daemon::Daemon;
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, secs};
use crate::harness::{in_each_browser, on_broker, promise_on};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        on_broker(Version::V4_4, an_own_topic_is_shown_without_any_configured_view),
        promise_on(
            Version::V4_4,
            a_lost_broker_is_said_and_its_return_loses_and_doubles_nothing,
        ),
        on_broker(Version::V4_4, what_is_wrong_is_said_beside_the_stream),
        on_broker(Version::V4_4, a_stream_that_changes_is_opened_anew),
        on_broker(Version::V4_4, a_removed_stream_is_shown_again_once_it_is_back),
        on_broker(Version::V4_4, what_is_announced_does_not_flood),
    ];
    trials.extend(in_each_browser(
        Version::V4_4,
        the_page_resumes_where_it_was_after_an_outage,
    ));
    trials
}

fn an_own_topic_is_shown_without_any_configured_view(broker: &Broker) {
    let topic = topic_name("own");
    broker.create_topic(&topic, 2, &[]);
    let order = |key: &str, total: u32| Message::new(key, format!(r#"{{"status":"paid","total":{total}}}"#));
    broker.produce(&topic, &[order("17", 40), order("18", 12)]);
    let daemon = Daemon::start(&format!(
        "{}[[stream]]\npath = \"/orders\"\ntopics = [{topic:?}]\nstart = \"snapshot\"\nkey_field = \"order\"\n",
        served(broker)
    ));
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        let seen = wait_for_rows(&browser, &["17", "18"]).await;
        assert_eq!(seen["tabs"], json!(["Table", "Feed", "Chart"]));
        broker.produce(&topic, &[order("19", 1), Message::tombstone("17")]);
        wait_for_rows(&browser, &["18", "19"]).await;
        browser.close().await;
    });
}

fn the_page_resumes_where_it_was_after_an_outage(broker: &Broker, engine: Engine) {
    let (topic, text) = setup(broker, "", "");
    let text = text.replace("127.0.0.1:0\"", &format!("127.0.0.1:{}\"", free_port()));
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open_in(engine, &daemon, "/").await;
        let seen = wait_for_rows(&browser, &["Europe"]).await;
        assert_eq!(seen["links"], json!(["about", "streams"]));
        drop(daemon);
        wait_for(&browser, "the page says that it reconnects", |seen| {
            seen["state"] == "reconnecting" && seen["rows"] == json!(["Europe"])
        })
        .await;
        broker.produce(&topic, &[table("Asia", &["CN"])]);
        let _daemon = Daemon::start(&text);
        wait_for_rows(&browser, &["Asia", "Europe"]).await;
        // Europe was not sent again.
        wait_for(&browser, "one more, and no other", |seen| seen["total"] == 2).await;
        browser.close().await;
    });
}

fn a_lost_broker_is_said_and_its_return_loses_and_doubles_nothing() {
    let broker = Broker::start(Version::V4_4);
    let topic = topic_name("dies");
    broker.create_topic(&topic, 1, &[]);
    let numbered = |from: usize, count: usize| -> Vec<Message> {
        (from..from + count)
            .map(|number| Message::new("k", format!(r#"{{"number":{number}}}"#)))
            .collect()
    };
    broker.produce(&topic, &numbered(0, 10));
    let daemon = Daemon::start(&format!(
        "{}[[stream]]\npath = \"/orders\"\ntopics = [{topic:?}]\nstart = \"earliest\"\nkey_field = \"order\"\n",
        served(&broker)
    ));
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        wait_for(&browser, "all records are there", |seen| {
            seen["state"] == "live" && seen["total"] == 10
        })
        .await;
        broker.kill9();
        let seen = wait_for(&browser, "the page says that Kafka is away", |seen| {
            seen["state"] == "stale" && seen["said"] == "Outdated"
        })
        .await;
        let notice = seen["notices"][0].as_str().unwrap_or_default();
        assert!(
            notice.contains("Kafka cannot be reached") && notice.contains("as of"),
            "{seen}"
        );
        browser.screenshot(&picture("page-stale.png")).await;
        broker.restart();
        broker.produce(&topic, &numbered(10, 5));
        wait_for(&browser, "the page continues", |seen| {
            seen["state"] == "live" && seen["total"] == 15 && seen["notices"] == json!([])
        })
        .await;
        // A last record that comes at once shows that nothing doubled came before it.
        broker.produce(&topic, &numbered(15, 1));
        wait_for(&browser, "one more, and no other", |seen| seen["total"] == 16).await;
        browser.close().await;
    });
}

fn what_is_wrong_is_said_beside_the_stream(broker: &Broker) {
    let topic = topic_name("mistyped");
    let text = format!(
        "{}[[stream]]\npath = \"/orders\"\ntopics = [{topic:?}]\nstart = \"snapshot\"\nkey_field = \"order\"\n",
        served(broker)
    );
    let nowhere = text.replace(&broker.bootstrap(), &format!("127.0.0.1:{}", free_port()));
    let daemons = [Daemon::start(&text), Daemon::start(&nowhere)];
    block_on(async {
        daemons[0].wait_ready(secs(30)).await;
        let browser = Browser::start().await;
        let says = |seen: &Value, words: [&str; 2]| {
            let notice = seen["notices"][0].as_str().unwrap_or_default();
            words.iter().all(|word| notice.contains(word))
        };
        browser.goto(&daemons[0].url("/")).await;
        wait_for(&browser, "the topic is missing", |seen| {
            seen["state"] == "live" && says(seen, ["does not exist", "Create it, or correct topics"])
        })
        .await;
        browser
            .run("document.querySelector('#notices [aria-label=Dismiss]').click()")
            .await;
        wait_for(&browser, "the notice is dismissed", |seen| {
            seen["notices"] == json!([])
        })
        .await;
        browser.goto(&daemons[1].url("/")).await;
        wait_for(&browser, "Kafka is away", |seen| {
            seen["state"] == "loading" && says(seen, ["Kafka", "brokers"])
        })
        .await;
        browser.close().await;
    });
}

fn a_stream_that_changes_is_opened_anew(broker: &Broker) {
    let (_, text) = setup(broker, "", "");
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        wait_for_rows(&browser, &["Europe"]).await;
        // The page needs to know where the key is.
        daemon.rewrite_config(&text.replace("key_field = \"continent\"", "format = \"envelope\""));
        daemon.signal(Signal::HUP);
        wait_for(&browser, "the rows are those of envelopes", |seen| {
            seen["state"] == "live"
                && seen["rows"] == json!(["Europe"])
                && seen["total"] == 1
                && seen["notices"] == json!([])
        })
        .await;
        browser.close().await;
    });
}

fn a_removed_stream_is_shown_again_once_it_is_back(broker: &Broker) {
    let (_, text) = setup(broker, "", "");
    let both = format!("{text}{}", second_of(&text));
    let daemon = Daemon::start(&both);
    block_on(async {
        let browser = Browser::open(&daemon, "/#/other").await;
        wait_for_rows(&browser, &["Europe"]).await;
        daemon.rewrite_config(&text);
        daemon.signal(Signal::HUP);
        wait_for(&browser, "there is no such stream", |seen| {
            seen["page"] == "missing" && seen["heading"] == "Not found"
        })
        .await;
        daemon.rewrite_config(&both);
        daemon.signal(Signal::HUP);
        wait_for_rows(&browser, &["Europe"]).await;
        browser.close().await;
    });
}

fn what_is_announced_does_not_flood(broker: &Broker) {
    let (topic, text) = setup(broker, "", "");
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        wait_for_rows(&browser, &["Europe"]).await;
        browser
            .run(
                "window.heard = [];
                 new MutationObserver(() => window.heard.push(document.querySelector('#announcer').textContent))
                     .observe(document.querySelector('#announcer'), { childList: true, characterData: true, subtree: true });",
            )
            .await;
        let changes: Vec<Message> = (0..500).map(|_| table("Asia", &["CN"])).collect();
        broker.produce(&topic, &changes);
        let seen = wait_for(&browser, "all changes are there", |seen| seen["total"] == 501).await;
        assert_eq!(seen["rows"], json!(["Asia", "Europe"]));
        let heard = browser.run("return window.heard").await;
        assert!(heard.as_array().is_some_and(|heard| heard.len() <= 2), "{heard}");
        drop(daemon);
        wait_for(&browser, "the page says that it reconnects", |seen| {
            seen["state"] == "reconnecting"
        })
        .await;
        wait_for(&browser, "the notice is shown", |seen| {
            seen["notices"][0]
                .as_str()
                .is_some_and(|notice| notice.contains("continues where it was"))
        })
        .await;
        let shown = browser.run(LOOK).await;
        assert_eq!(shown["rows"], json!(["Asia", "Europe"]), "rows stay: {shown}");
        browser.close().await;
    });
}
