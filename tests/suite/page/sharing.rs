//! Tabs of the page share the connection of a stream that anybody may read, and of no other: another tab may be another client's.

use super::{setup, wait_for_rows};
use crate::auth::{File, make_token};
use crate::common::table;
use crate::harness::broker::{Broker, Version};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::wait::{block_on, ensure, eventually_async, secs};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    vec![on_broker(
        Version::V4_4,
        tabs_of_the_page_share_the_connection_of_a_public_stream_alone,
    )]
}

fn tabs_of_the_page_share_the_connection_of_a_public_stream_alone(broker: &Broker) {
    let (reader, line) = make_token(&["reader"]);
    let tokens = File::new("tokens", line);
    let auth = format!(
        "[auth]\ncookie = \"session\"\n[auth.tokens]\nfile = {:?}\n",
        tokens.path()
    );
    for (allow, connections) in [("public", 1), ("authenticated", 2)] {
        let (topic, text) = setup(
            broker,
            "expose = [\"streams\", \"about\", \"health\"]",
            &format!("allow = {allow:?}"),
        );
        let daemon = Daemon::start(&format!("{text}{auth}"));
        block_on(async {
            let browser = Browser::open(&daemon, "/about").await;
            browser
                .run(&format!("document.cookie = 'session={reader}; Path=/'"))
                .await;
            let first = browser.client.window().await.expect("a window");
            browser.goto(&daemon.url("/")).await;
            wait_for_rows(&browser, &["Europe"]).await;
            // A window: the page draws nothing in a tab that is hidden.
            let second = browser.client.new_window(false).await.expect("a window").handle;
            let switch = async |window| {
                let switched = browser.client.switch_to_window(window).await;
                switched.expect("it is there");
            };
            switch(second).await;
            browser.goto(&daemon.url("/")).await;
            wait_for_rows(&browser, &["Europe"]).await;
            let are_so_many = async || {
                let streams = daemon.get("/streams").await.json();
                let clients = &streams["streams"][0]["clients"];
                ensure(*clients == connections, format!("{clients}, {allow}"))
            };
            eventually_async(secs(30), "the connections of two tabs", are_so_many).await;
            broker.produce(&topic, &[table("Asia", &["CN"])]);
            wait_for_rows(&browser, &["Asia", "Europe"]).await;
            switch(first).await;
            wait_for_rows(&browser, &["Asia", "Europe"]).await;
            are_so_many().await.expect("as many as before");
            browser.close().await;
        });
    }
}
