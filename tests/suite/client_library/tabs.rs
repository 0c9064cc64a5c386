//! Five tabs share one connection, and each sees every record once, while its leader is closed, crashes, is killed, is frozen and
//! sleeps, and the daemon is killed and ends.

use super::{FILES, config};
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::browser::{Browser, Engine};
use crate::harness::daemon::Daemon;
use crate::harness::process::Signal;
use crate::harness::produce::Message;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use crate::harness::{in_each_browser, on_broker};
use fantoccini::wd::WindowHandle;
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        on_broker(
            Version::V4_4,
            tabs_share_one_connection_whose_leader_is_closed_dies_and_is_frozen,
        ),
        on_broker(
            Version::V4_4,
            a_leader_that_sleeps_is_replaced_and_doubles_nothing_when_it_wakes,
        ),
    ];
    trials.extend(in_each_browser(Version::V4_4, tabs_that_share_outlive_the_daemon));
    trials
}

/// Tabs of one browser that share the connection of `/events`.
struct Tabs<'a> {
    browser: Browser,
    broker: &'a Broker,
    topic: &'a str,
    windows: Vec<WindowHandle>,
    /// How many records were written.
    written: usize,
}

impl<'a> Tabs<'a> {
    /// Opens five, one after the other, while records are written.
    async fn open(engine: Engine, broker: &'a Broker, topic: &'a str, daemon: &Daemon) -> Tabs<'a> {
        daemon.wait_ready(secs(30)).await;
        let mut tabs = Tabs {
            browser: Browser::of(engine).await,
            broker,
            topic,
            windows: Vec::new(),
            written: 0,
        };
        tabs.write();
        for _ in 0..5 {
            tabs.add(daemon).await;
            tabs.write();
        }
        tabs.settle(daemon).await;
        tabs
    }

    async fn add(&mut self, daemon: &Daemon) {
        let window = self.browser.client.new_window(true).await.expect("a tab").handle;
        self.windows.push(window.clone());
        self.switch(&window).await;
        self.browser
            .goto(&daemon.url("/?stream=events&silence=1500"))
            .await;
    }

    async fn switch(&self, window: &WindowHandle) {
        let client = &self.browser.client;
        client.switch_to_window(window.clone()).await.expect("the tab");
    }

    /// Freezes the browser's tab, or has it go on.
    async fn set_state(&self, state: &str) {
        let parameters = json!({ "state": state });
        let set = self
            .browser
            .devtools("Page.setWebLifecycleState", parameters)
            .await;
        set.expect("another state");
    }

    /// Ten more records.
    fn write(&mut self) {
        let records: Vec<Message> = (self.written..self.written + 10)
            .map(|number| Message::value(number.to_string()))
            .collect();
        self.broker.produce(self.topic, &records);
        self.written += 10;
    }

    /// Every tab but those has seen every record once, in order.
    async fn have_everything(&self, but: &[&WindowHandle]) {
        let wanted: Vec<Value> = (0..self.written)
            .map(|number| json!(number.to_string()))
            .collect();
        for window in self.windows.iter().filter(|window| !but.contains(window)) {
            self.switch(window).await;
            eventually_async(secs(60), "a tab has seen every record", async || {
                let seen = self.browser.run("return seen").await;
                let seen = seen.as_array().expect("a list");
                let differs = seen.iter().zip(&wanted).position(|(seen, wanted)| seen != wanted);
                assert_eq!(differs, None, "of {seen:?}");
                assert!(seen.len() <= wanted.len(), "more than were written: {seen:?}");
                ensure(
                    seen.len() == wanted.len(),
                    format!("{} of {}", seen.len(), wanted.len()),
                )
            })
            .await;
        }
    }

    async fn share_one_connection(&self, daemon: &Daemon) {
        eventually_async(secs(30), "the tabs share a connection", async || {
            let streams = daemon.get("/streams").await.json();
            let clients = &streams["streams"][0]["clients"];
            ensure(clients == 1, clients.to_string())
        })
        .await;
    }

    /// All tabs have everything, by one connection.
    async fn settle(&self, daemon: &Daemon) {
        self.have_everything(&[]).await;
        self.share_one_connection(daemon).await;
    }

    /// The tab that leads, which is then the browser's.
    async fn leader(&self) -> WindowHandle {
        eventually_async(secs(30), "a tab leads", async || {
            for window in &self.windows {
                self.switch(window).await;
                let script = "const [done] = arguments; leads().then(done, (error) => done(String(error)))";
                let leads = self.browser.client.execute_async(script, Vec::new()).await;
                if leads.expect("a result") == json!(true) {
                    return Ok(window.clone());
                }
            }
            Err("none does")
        })
        .await
    }

    /// Ends the leader between records.
    async fn lose_leader(&mut self, end: impl AsyncFnOnce(&Browser)) {
        let leader = self.leader().await;
        self.write();
        end(&self.browser).await;
        self.windows.retain(|window| *window != leader);
        self.write();
    }
}

fn setup(broker: &Broker, hint: &str) -> (String, String) {
    let topic = topic_name(hint);
    broker.create_topic(&topic, 1, &[]);
    let assets = format!("{FILES}/tabs");
    let text = config(broker, &topic, "/events", "start = \"earliest\"", &assets);
    (topic, text)
}

async fn close_window(browser: &Browser) {
    browser.client.close_window().await.expect("closed");
}

fn tabs_share_one_connection_whose_leader_is_closed_dies_and_is_frozen(broker: &Broker) {
    let (topic, text) = setup(broker, "tabs");
    let daemon = Daemon::start(&text);
    block_on(async {
        let mut tabs = Tabs::open(Engine::Chromium, broker, &topic, &daemon).await;
        tabs.lose_leader(close_window).await;
        tabs.settle(&daemon).await;
        tabs.lose_leader(async |browser| {
            // A renderer that is gone answers nothing.
            let crashed = browser.devtools("Page.crash", json!({})).await;
            crashed.expect_err("it crashes");
        })
        .await;
        tabs.settle(&daemon).await;
        // With no moment to say so, to the browser's process either.
        tabs.lose_leader(async |browser| browser.kill_renderer("assets/idle.js").await)
            .await;
        tabs.settle(&daemon).await;

        tabs.add(&daemon).await;
        let leader = tabs.leader().await;
        tabs.write();
        tabs.set_state("frozen").await;
        tabs.write();
        tabs.have_everything(&[&leader]).await;
        tabs.share_one_connection(&daemon).await;
        assert_ne!(tabs.leader().await, leader, "a frozen tab leads");
        tabs.switch(&leader).await;
        tabs.set_state("active").await;
        tabs.write();
        tabs.settle(&daemon).await;

        // One that is reloaded begins with the past.
        tabs.browser.client.refresh().await.expect("loaded again");
        tabs.write();
        tabs.settle(&daemon).await;
        tabs.browser.close().await;
    });
}

fn a_leader_that_sleeps_is_replaced_and_doubles_nothing_when_it_wakes(broker: &Broker) {
    let (topic, text) = setup(broker, "asleep");
    let daemon = Daemon::start(&text);
    block_on(async {
        let mut tabs = Tabs::open(Engine::Chromium, broker, &topic, &daemon).await;
        let leader = tabs.leader().await;
        // Without notice: nothing runs in this tab for a while.
        tabs.browser.run("sleep(15)").await;
        let other = tabs.windows.iter().find(|window| **window != leader);
        tabs.switch(other.expect("there are five")).await;
        let asleep = "return window.asleep ?? false";
        tabs.browser
            .wait_for(secs(10), asleep, "the leader is asleep", |asleep| *asleep == true)
            .await;
        for _ in 0..2 {
            tabs.write();
            tabs.have_everything(&[&leader]).await;
        }
        // It wakes, and has slept through all of it.
        tabs.have_everything(&[]).await;
        tabs.switch(&leader).await;
        let has_slept = tabs.browser.run("return window.hasSlept ?? false").await;
        assert_eq!(has_slept, true);
        tabs.write();
        tabs.settle(&daemon).await;
        assert_ne!(tabs.leader().await, leader, "it leads again");
        tabs.browser.close().await;
    });
}

fn tabs_that_share_outlive_the_daemon(broker: &Broker, engine: Engine) {
    let (topic, text) = setup(broker, "outlive");
    let daemon = Daemon::start(&text);
    block_on(async {
        let mut tabs = Tabs::open(engine, broker, &topic, &daemon).await;
        tabs.write();
        // Killed.
        drop(daemon);
        tabs.write();
        let mut daemon = Daemon::start(&text);
        tabs.write();
        tabs.settle(&daemon).await;
        // Shut down, while the leader goes too.
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait_exit(secs(20)).code(), Some(0));
        tabs.lose_leader(close_window).await;
        let daemon = Daemon::start(&text);
        tabs.settle(&daemon).await;
        tabs.browser.close().await;
    });
}
