//! The list of streams.

use super::{picture, second_of, served, setup, wait_for, wait_for_rows};
use crate::common::table;
use crate::harness::broker::{Broker, Version, free_port, topic_name};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, eventually_async, secs};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![
        on_broker(Version::V4_4, streams_are_cards_with_figures_and_problems),
        on_broker(Version::V4_4, a_load_is_shown_with_its_percentage_and_its_lag),
        on_broker(Version::V4_4, one_stream_alone_is_shown_at_once),
        on_broker(Version::V4_4, without_figures_the_streams_are_listed_all_the_same),
    ]
}

/// The texts of the cards' figures, by their names, and of the problems.
const CARDS: &str = "
    const facts = (card) => Object.fromEntries([...card.querySelectorAll('.card-figures > div')]
        .map((fact) => [fact.firstElementChild.textContent, fact.lastElementChild.textContent]));
    return {
        cards: [...document.querySelectorAll('.card')].map((card) => ({
            path: card.querySelector('h2').textContent,
            state: card.querySelector('.card-state').dataset.state,
            said: card.querySelector('.card-state').textContent,
            topics: card.querySelector('.card-topics').textContent,
            line: card.querySelector('.line').getAttribute('d') ?? '',
            rate: card.querySelector('.card-rate').checkVisibility() ? card.querySelector('.card-rate').textContent : null,
            ...facts(card),
        })),
        problems: [...document.querySelectorAll('.problem')].map((problem) => problem.innerText),
    };";

fn streams_are_cards_with_figures_and_problems(broker: &Broker) {
    let (topic, text) = setup(broker, "", "");
    let missing = topic_name("missing");
    let daemon = Daemon::start(&format!(
        "{text}[[stream]]\npath = \"/orders\"\ntopics = [{topic:?}, {missing:?}]\nstart = \"earliest\"\n"
    ));
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        let seen = eventually_async(secs(30), "the cards have figures", async || {
            broker.produce(&topic, &[table("Asia", &["CN"])]);
            let seen = browser.run(CARDS).await;
            let card = &seen["cards"][0];
            let rate = card["rate"].as_str().unwrap_or_default();
            let line = card["line"].as_str().unwrap_or_default();
            let is_so = card["Keys"] == "2"
                && line.matches('L').count() >= 2
                && rate.ends_with("records/s")
                && !rate.starts_with("0 ");
            if is_so { Ok(seen) } else { Err(seen) }
        })
        .await;
        let cards = &seen["cards"];
        assert_eq!(
            (&cards[0]["path"], &cards[0]["state"], &cards[0]["Clients"]),
            (&json!("/topn/updates"), &json!("live"), &json!("0"))
        );
        assert_eq!(cards[1]["topics"], format!("{topic}, {missing}"));
        browser
            .wait_for(
                secs(30),
                CARDS,
                "the missing topic is named, with what to do",
                |seen| {
                    let problem = seen["problems"][0].as_str().unwrap_or_default();
                    problem.contains(&format!("Topic {missing} does not exist"))
                        && problem.contains("Create it")
                },
            )
            .await;
        browser.screenshot(&picture("page-home.png")).await;
        // The whole card leads to its stream, and back.
        browser.run("document.querySelector('.card-link').click()").await;
        wait_for_rows(&browser, &["Asia", "Europe"]).await;
        browser.client.back().await.expect("the page before");
        wait_for(&browser, "the list is back", |seen| seen["page"] == "home").await;
        browser.close().await;
    });
}

/// N of "Loading N %".
fn percentage(said: &Value) -> Option<u64> {
    let number = said.as_str()?.strip_prefix("Loading ")?.strip_suffix('%')?;
    number.trim().parse().ok()
}

fn a_load_is_shown_with_its_percentage_and_its_lag(broker: &Broker) {
    const RECORDS: usize = 3_000;
    let (topic, text) = setup(broker, "", "");
    let filling = "x".repeat(1_000);
    let records: Vec<Message> = (0..RECORDS)
        .map(|number| Message::new(format!("k{}", number % 10), format!(r#"{{"text":"{filling}"}}"#)))
        .collect();
    // In batches that the quota lets through.
    for batch in records.chunks(100) {
        broker.produce(&topic, batch);
    }
    // The first ten seconds' bytes at once, then the others in more than half a minute.
    let client = topic_name("client");
    broker.bound_reads(&client, Some(60_000));
    let daemon = Daemon::start(&format!(
        "{text}{}[kafka.librdkafka]\n\"client.id\" = {client:?}\n\"fetch.message.max.bytes\" = \"262144\"\n",
        second_of(&text)
    ));
    block_on(async {
        let browser = Browser::start().await;
        browser.goto(&daemon.url("/")).await;
        let seen = browser
            .wait_for(secs(30), CARDS, "a card says how much is loaded", |seen| {
                percentage(&seen["cards"][0]["said"]).is_some_and(|percent| percent > 0)
            })
            .await;
        let card = &seen["cards"][0];
        assert_eq!(card["state"], "loading", "{seen}");
        assert!(card["Lag"].is_string() && card["Lag"] != "0", "{seen}");
        browser.screenshot(&picture("page-home-loading.png")).await;
        browser.run("document.querySelector('.card-link').click()").await;
        let seen = wait_for(&browser, "the stream says how much is loaded", |seen| {
            percentage(&seen["said"]).is_some()
        })
        .await;
        let shown = percentage(&seen["said"]);
        let streams = daemon.get("/streams").await.json();
        let is_loading = streams["streams"][0]["loaded"] == false;
        assert!(
            is_loading && shown <= streams["streams"][0]["progress"].as_u64(),
            "{seen}: {streams}"
        );
        assert_eq!(seen["state"], "loading", "{seen}");
        broker.bound_reads(&client, None);
        wait_for(&browser, "everything is loaded", |seen| {
            seen["state"] == "live" && seen["rows"].as_array().is_some_and(|rows| rows.len() == 11)
        })
        .await;
        browser.run("document.querySelector('#brand').click()").await;
        browser
            .wait_for(secs(30), CARDS, "nothing is behind any more", |seen| {
                seen["cards"][0]["said"] == "Live" && seen["cards"][0]["Lag"] == "0"
            })
            .await;
        browser.close().await;
    });
}

fn one_stream_alone_is_shown_at_once(broker: &Broker) {
    let (_, text) = setup(broker, "", "");
    let daemon = Daemon::start(&text);
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        let seen = wait_for_rows(&browser, &["Europe"]).await;
        assert_eq!(seen["hash"], "#/topn/updates");
        // Going back does not end in a circle.
        browser.goto(&daemon.url("/about")).await;
        browser.client.back().await.expect("the page before");
        wait_for_rows(&browser, &["Europe"]).await;
        browser.close().await;
    });
}

fn without_figures_the_streams_are_listed_all_the_same(broker: &Broker) {
    let topic = topic_name("plain");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, &[table("Europe", &["NL"])]);
    let stream = |path: &str| {
        format!(
            "[[stream]]\npath = \"{path}\"\ntopics = [{topic:?}]\nstart = \"snapshot\"\nkey_field = \"continent\"\n"
        )
    };
    let daemon = Daemon::start(&format!(
        "{}admin.listen = [\"127.0.0.1:{}\"]\n{}{}",
        served(broker),
        free_port(),
        stream("/one"),
        stream("/two")
    ));
    block_on(async {
        let browser = Browser::open(&daemon, "/").await;
        let seen = wait_for(&browser, "both are listed", |seen| {
            seen["cards"] == json!(["/one", "/two"])
        })
        .await;
        assert_eq!(
            (&seen["links"], &seen["title"]),
            (&json!([]), &Value::Null),
            "{seen}"
        );
        let cards = browser.run(CARDS).await;
        assert_eq!(
            (&cards["cards"][0]["rate"], &cards["cards"][0]["Clients"]),
            (&Value::Null, &Value::Null)
        );
        browser
            .run("document.querySelectorAll('.card-link')[1].click()")
            .await;
        wait_for_rows(&browser, &["Europe"]).await;
        browser.close().await;
    });
}
