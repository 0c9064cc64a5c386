//! A base path is a prefix of all routes.

use crate::harness::daemon::Daemon;
use crate::harness::http::get;
use crate::harness::process::Signal;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::limits::config_of;
use crate::trials;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        every_route_is_below_the_base_path_and_none_beside_it,
        a_reload_changes_the_base_path_and_open_streams_stay,
    ]
}

fn every_route_is_below_the_base_path_and_none_beside_it() {
    let daemon = Daemon::start(&config_of("base_path = \"/live/v1\""));
    block_on(async {
        let page = daemon.get("/live/v1/").await;
        assert_eq!(page.status, 200);
        let text = page.text();
        let links: Vec<&str> = text
            .split(['"', '\''])
            .filter(|part| part.starts_with("assets/"))
            .collect();
        assert!(links.len() > 2, "{text}");
        for link in links {
            assert_eq!(
                daemon.get(&format!("/live/v1/{link}")).await.status,
                200,
                "{link}"
            );
        }
        for path in ["/streams", "/health/live", "/favicon.ico"] {
            assert_eq!(daemon.get(&format!("/live/v1{path}")).await.status, 200, "{path}");
        }
        let bare = daemon.get("/live/v1").await;
        assert_eq!((bare.status, bare.header("location")), (308, Some("/live/v1/")));
        let bare = daemon.get("/live/v1?x=1").await;
        assert_eq!(
            (bare.status, bare.header("location")),
            (308, Some("/live/v1/?x=1"))
        );

        let about = get(&daemon.url("/live/v1/about"), &[("accept", "application/json")])
            .await
            .json();
        let urls = about["urls"].as_array().expect("an array");
        assert!(
            urls.iter().any(|url| url["path"] == "/live/v1/events")
                && urls.iter().all(|url| url["path"]
                    .as_str()
                    .is_some_and(|path| path.starts_with("/live/v1/"))),
            "{about}"
        );
        let about = daemon.get("/live/v1/about").await.text();
        assert!(
            about.contains("<a href=\"./events\">/live/v1/events</a>"),
            "{about}"
        );

        let stream = Stream::open(daemon.url("/live/v1/events?start=earliest")).await;
        assert_eq!(stream.status, 200, "with its query");
        assert_eq!(daemon.get("/live/v1/events?strat=live").await.status, 400);

        for path in [
            "/",
            "/events",
            "/about",
            "/live",
            "/live/",
            "/live/v1x",
            "/live/v1x/events",
        ] {
            let answer = daemon.get(path).await;
            assert_eq!(answer.status, 404, "{path}");
            let message = answer.json()["error"]["message"].to_string();
            assert!(
                message.contains(&format!("nothing is served at {path};"))
                    && message.contains("verything is below /live/v1/"),
                "{message}"
            );
        }
        assert_eq!(
            daemon.get("/live//v1//about").await.status,
            200,
            "slashes are folded"
        );
        let missing = daemon.get("/live/v1/nothing").await;
        assert_eq!(missing.status, 404);
        assert!(
            missing.text().contains("nothing is served at /live/v1/nothing;"),
            "{}",
            missing.text()
        );
    });
}

fn a_reload_changes_the_base_path_and_open_streams_stay() {
    let daemon = Daemon::start(&config_of("base_path = \"/old\"\nkeepalive = \"1s\""));
    block_on(async {
        let mut stream = Stream::open(daemon.url("/old/events")).await;
        stream.next_comment(secs(20)).await.expect("it is open");
        daemon.rewrite_config(&config_of("keepalive = \"1s\""));
        daemon.signal(Signal::HUP);
        daemon.wait_log("reloaded: http.base_path", secs(20));
        assert_eq!(daemon.get("/old/health/live").await.status, 404);
        assert_eq!(daemon.get("/health/live").await.status, 200);
        stream.next_comment(secs(20)).await.expect("it stays open");
    });
}
