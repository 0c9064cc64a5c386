//! The page in a frame of another site: of one that `frame_ancestors` names, and of no other.

use super::{setup, wait_for_rows};
use crate::common::table;
use crate::harness::broker::{Broker, Version};
use crate::harness::browser::Browser;
use crate::harness::daemon::Daemon;
use crate::harness::on_broker;
use crate::harness::wait::{block_on, secs};
use libtest_mimic::Trial;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

pub fn trials() -> Vec<Trial> {
    vec![on_broker(
        Version::V4_4,
        only_a_named_site_has_the_page_in_a_frame,
    )]
}

/// Has what its query names in a frame.
const PAGE: &str = "<!doctype html><title>Another site</title><iframe width=\"1200\" height=\"800\"></iframe>\
    <script>document.querySelector('iframe').src = location.search.slice(1)</script>";

/// Starts a site that serves [`PAGE`]; returns its origin.
fn site() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A browser also opens connections that it does not use.
            thread::spawn(move || drop(answer(client)));
        }
    });
    format!("http://127.0.0.1:{port}")
}

fn answer(mut client: TcpStream) -> io::Result<()> {
    // A request without a body comes in one piece.
    if client.read(&mut [0; 16 * 1024])? == 0 {
        return Ok(());
    }
    let length = PAGE.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all(format!("{head}{PAGE}").as_bytes())
}

fn only_a_named_site_has_the_page_in_a_frame(broker: &Broker) {
    let [named, other] = [site(), site()];
    let (topic, text) = setup(broker, "", "");
    let daemon = Daemon::start(&format!("{text}[ui]\nframe_ancestors = [{named:?}]\n"));
    let with_frame = |site: &str| format!("{site}/?{}", daemon.url("/"));
    block_on(async {
        let browser = Browser::open(&daemon, &with_frame(&named)).await;
        browser.client.enter_frame(0).await.expect("its frame");
        wait_for_rows(&browser, &["Europe"]).await;
        broker.produce(&topic, &[table("Asia", &["CN"])]);
        wait_for_rows(&browser, &["Asia", "Europe"]).await;
        browser.client.enter_parent_frame().await.expect("the site");
        browser.goto(&with_frame(&other)).await;
        browser.client.enter_frame(0).await.expect("its frame");
        // Chromium's own page, in place of one that it may not show.
        browser
            .wait_for(secs(10), "return location.href", "the frame has nothing", |at| {
                *at == "chrome-error://chromewebdata/"
            })
            .await;
        browser.close().await;
    });
}
