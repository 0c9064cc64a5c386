//! Rules for pages of other origins that one stream has for itself, and the headers that follow these rules. No Kafka
//! is needed.

use crate::configuration::complains;
use crate::harness::daemon::Daemon;
use crate::harness::http::{Response, get, request};
use crate::harness::stream::Stream;
use crate::harness::wait::block_on;
use crate::limits::config_of;
use crate::reload::reloaded;
use crate::trials;
use libtest_mimic::Trial;
use reqwest::Method;

pub fn trials() -> Vec<Trial> {
    trials![
        the_rules_of_a_stream_replace_those_of_all,
        private_networks_are_entered_only_where_a_key_allows_it,
        resources_are_loaded_and_timed_by_the_pages_that_may_read_them,
        errors_of_a_streams_origins_name_line_key_and_remedy,
    ]
}

const SHOP: &str = "https://shop.example.org";
const NEWS: &str = "https://news.example.org";

/// Three streams more: one for the news alone, one of each user for all, one for nobody.
const STREAMS: &str = "[[stream]]\npath = \"/news\"\ntopics = [\"t\"]\ncors.allow_origins = [\"https://news.example.org\"]\n\
    cors.allow_headers = [\"X-Edition\"]\n\
    [[stream]]\npath = \"/users/{id}\"\ntopics = [\"t\"]\nfilter = { key = [\"{id}\"] }\ncors.allow_origins = [\"*\"]\n\
    [[stream]]\npath = \"/users/closed\"\ntopics = [\"t\"]\ncors = {}\n";

fn config(http: &str) -> String {
    format!("{}{STREAMS}", config_of(http))
}

const OF_SHOP: &str = "cors.allow_origins = [\"https://shop.example.org\"]";

/// The origin that may read an answer.
fn allowed(answer: &Response) -> Option<&str> {
    answer.header("access-control-allow-origin")
}

async fn asked(daemon: &Daemon, path: &str, origin: &str) -> Response {
    get(&daemon.url(path), &[("origin", origin)]).await
}

async fn preflight(daemon: &Daemon, path: &str, origin: &str, more: &[(&str, &str)]) -> Response {
    let usual = [("origin", origin), ("access-control-request-method", "GET")];
    let headers = [&usual[..], more].concat();
    let answer = request(Method::OPTIONS, &daemon.url(path), &headers).await;
    answer.expect("an answer")
}

fn the_rules_of_a_stream_replace_those_of_all() {
    let daemon = Daemon::start(&config(OF_SHOP));
    block_on(async {
        // A parameter that is unknown: an answer that ends, and that a page has to read too.
        for (path, of_shop, of_news, varies) in [
            ("/events?x=1", Some(SHOP), None, true),
            ("/streams", Some(SHOP), None, true),
            ("/news?x=1", None, Some(NEWS), true),
            ("/news/", Some(SHOP), None, true),
            ("/users/7?x=1", Some("*"), Some("*"), false),
            // A value that the path cannot have, on the stream of the path.
            ("/users/a%2fb?x=1", Some("*"), Some("*"), false),
            ("/users/closed?x=1", None, None, false),
        ] {
            for (origin, expected) in [(SHOP, of_shop), (NEWS, of_news)] {
                let answer = asked(&daemon, path, origin).await;
                assert_eq!(allowed(&answer), expected, "{path} {origin}");
                let vary = answer
                    .headers
                    .get_all("vary")
                    .iter()
                    .any(|value| value == "origin");
                assert_eq!(vary, varies, "{path} {origin}");
            }
            let without = daemon.get(path).await;
            let vary = without
                .headers
                .get_all("vary")
                .iter()
                .any(|value| value == "origin");
            assert_eq!((allowed(&without), vary), (None, varies), "{path}");
        }
        let stream = Stream::to(daemon.url("/news"))
            .header("Origin", NEWS)
            .send()
            .await;
        let stream = stream.expect("it opens");
        assert_eq!(stream.header("access-control-allow-origin"), Some(NEWS));

        let answer = preflight(&daemon, "/news", NEWS, &[]).await;
        assert_eq!(answer.status, 204);
        let names = answer.header("access-control-allow-headers").expect("names");
        assert!(names.contains("x-edition"), "{names}");
        assert_eq!(preflight(&daemon, "/news", SHOP, &[]).await.status, 405);
        let answer = preflight(&daemon, "/events", SHOP, &[]).await;
        let names = answer.header("access-control-allow-headers").expect("names");
        assert!(!names.contains("x-edition"), "{names}");

        // The next request has the new rules.
        let text = config(OF_SHOP).replace("cors = {}\n", "");
        reloaded(&daemon, &text, "stream \"/users/closed\": cors");
        let answer = asked(&daemon, "/users/closed?x=1", SHOP).await;
        assert_eq!(allowed(&answer), Some(SHOP));
    });
}

fn private_networks_are_entered_only_where_a_key_allows_it() {
    let text = config(OF_SHOP).replace(
        "cors.allow_headers",
        "cors.allow_private_network = true\ncors.allow_headers",
    );
    let daemon = Daemon::start(&text);
    let border = [("access-control-request-private-network", "true")];
    block_on(async {
        for (path, origin, more, expected) in [
            ("/news", NEWS, &border[..], Some("true")),
            ("/news", NEWS, &[], None),
            ("/news", SHOP, &border, None),
            ("/events", SHOP, &border, None),
        ] {
            let answer = preflight(&daemon, path, origin, more).await;
            let answered = answer.header("access-control-allow-private-network");
            assert_eq!(answered, expected, "{path} {origin} {more:?}");
        }
    });
}

fn resources_are_loaded_and_timed_by_the_pages_that_may_read_them() {
    let daemon = Daemon::start(&config(OF_SHOP));
    block_on(async {
        for (path, policy) in [
            ("/events?x=1", Some("same-origin")),
            ("/streams", Some("same-origin")),
            ("/nothing", Some("same-origin")),
            ("/users/7?x=1", Some("cross-origin")),
            ("/users/closed?x=1", Some("same-origin")),
            ("/", None),
            ("/assets/style.css", None),
        ] {
            let answer = daemon.get(path).await;
            assert_eq!(answer.header("cross-origin-resource-policy"), policy, "{path}");
            assert_eq!(answer.header("timing-allow-origin"), None, "{path}");
        }
        for (path, origin, timed) in [
            ("/events?x=1", SHOP, Some(SHOP)),
            ("/events?x=1", NEWS, None),
            ("/users/7?x=1", NEWS, Some("*")),
            ("/news?x=1", NEWS, Some(NEWS)),
        ] {
            let answer = asked(&daemon, path, origin).await;
            assert_eq!(answer.header("timing-allow-origin"), timed, "{path} {origin}");
        }
    });
}

fn errors_of_a_streams_origins_name_line_key_and_remedy() {
    complains(
        "[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\ncors.allow_origins = [\"shop\"]\n",
        "FILE:4: stream[0].cors.allow_origins: ",
        &["has no scheme"],
    );
    complains(
        "[http]\ncors.allow_private_network = true\n",
        "FILE:2: http.cors.allow_private_network: ",
        &["has no effect without allow_origins"],
    );
}
