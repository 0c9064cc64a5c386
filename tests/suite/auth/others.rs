//! Static tokens, and headers of trusted proxies.

use super::{File, ask, ask_with, make_token, text};
use crate::harness::daemon::{Daemon, run_to_end};
use crate::harness::process::Signal;
use crate::harness::raw::{exchange, exchange_unix};
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::trials;
use libtest_mimic::Trial;
use serde_json::json;

pub fn trials() -> Vec<Trial> {
    trials![
        a_static_token_is_made_accepted_and_revoked,
        only_trusted_proxies_name_clients,
        a_proxy_at_a_unix_socket_names_clients,
        a_refusal_says_how_clients_may_say_who_they_are,
    ]
}

fn a_static_token_is_made_accepted_and_revoked() {
    let (reports, reports_line) = make_token(&[
        "reports",
        "--claim",
        "tenant=a",
        "--claim",
        "tenant=b",
        "--expires",
        "1day",
    ]);
    let (other, other_line) = make_token(&["other"]);
    assert!(reports.starts_with("ksb_") && reports.len() == 47 && reports != other);
    assert!(reports_line.contains(r#""sub":"reports""#) && reports_line.contains(r#""tenant":["a","b"]"#));
    assert!(!reports_line.contains(&reports) && !other_line.contains("exp"));
    for wrong in [
        &["x", "--claim", "a"][..],
        &["x", "--claim", "sub=y"],
        &["x", "--expires", "soon"],
        &[],
    ] {
        let output = run_to_end(&[&["token"], wrong].concat(), &[]);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let (ended, ended_line) = make_token(&["ended", "--expires", "0s"]);
    let file = File::new(
        "tokens",
        format!("# two\n{reports_line}\n\n{other_line}\n{ended_line}\n"),
    );
    let config = text(
        &format!("[auth.tokens]\nfile = {:?}", file.path()),
        "[[stream]]\npath = \"/a\"\ntopics = [\"t\"]\nallow = { tenant = [\"a\"] }",
    );
    let daemon = Daemon::start(&config);
    block_on(async {
        assert_eq!(ask_with(&daemon, &reports).await.outcome(), (200, ""));
        assert_eq!(ask_with(&daemon, &other).await.outcome(), (200, ""));
        assert_eq!(ask_with(&daemon, &ended).await.outcome(), (401, "invalid_token"));
        let bearer = |token: &str| format!("Bearer {token}");
        for (token, status) in [(&reports, 200), (&other, 403)] {
            assert_eq!(
                ask(&daemon, "/a", &[("authorization", &bearer(token))])
                    .await
                    .status,
                status
            );
        }
        let hash = reports_line.split(' ').next().expect("a hash");
        for wrong in [
            "ksb_",
            reports.trim_start_matches('k'),
            &format!("{reports}x"),
            &reports.to_uppercase(),
            hash,
            "a.b.c",
        ] {
            assert_eq!(
                ask_with(&daemon, wrong).await.outcome(),
                (401, "invalid_token"),
                "{wrong}"
            );
        }
        let open = async |token: &str| {
            let request = Stream::to(daemon.url("/events")).header("authorization", bearer(token));
            request.send().await.expect("an answer")
        };
        let (mut of_reports, mut of_other) = (open(&reports).await, open(&other).await);
        file.write(&other_line);
        daemon.signal(Signal::HUP);
        let (events, _) = of_reports.collect_to_end(secs(20)).await;
        assert_eq!(
            events.last().expect("a goodbye").data,
            r#"{"reason":"unauthorized"}"#
        );
        assert_eq!(ask_with(&daemon, &reports).await.status, 401);
        // Other claims are those of another client.
        file.write(other_line.replace("{\"sub\"", "{\"role\":\"x\",\"sub\""));
        daemon.signal(Signal::HUP);
        let (events, _) = of_other.collect_to_end(secs(20)).await;
        assert_eq!(
            events.last().expect("a goodbye").data,
            r#"{"reason":"unauthorized"}"#
        );
        assert_eq!(ask_with(&daemon, &other).await.status, 200);
    });
    assert!(!daemon.log().contains(reports.trim_start_matches("ksb_")));
}

fn only_trusted_proxies_name_clients() {
    let sections = "trusted_proxies = [\"127.0.0.1\"]\n\
        [auth.proxy]\nheaders = { sub = \"X-Forwarded-User\", groups = \"X-Forwarded-Groups\" }\nlists = [\"groups\"]";
    let daemon = Daemon::start(&text(
        sections,
        "[[stream]]\npath = \"/ops\"\ntopics = [\"t\"]\nallow = { groups = [\"ops\"] }",
    ));
    block_on(async {
        let user = ("x-forwarded-user", "anne");
        for (headers, events, ops) in [
            (&[][..], 401, 401),
            (&[user], 200, 403),
            (&[user, ("x-forwarded-groups", "dev, ops")], 200, 200),
            (&[user, ("x-forwarded-groups", "dev ops")], 200, 403),
            (&[("x-forwarded-groups", "ops")], 401, 401),
            (&[("x-forwarded-user", " ")], 401, 401),
            // One of them may be the client's own.
            (&[user, ("x-forwarded-user", "root")], 401, 401),
            (
                &[user, ("x-forwarded-groups", "dev"), ("x-forwarded-groups", "ops")],
                401,
                401,
            ),
            (&[("x_forwarded_user", "anne")], 401, 401),
            (&[user, ("authorization", "Bearer a.b.c")], 200, 403),
        ] {
            assert_eq!(
                ask(&daemon, "/events", headers).await.status,
                events,
                "{headers:?}"
            );
            assert_eq!(ask(&daemon, "/ops", headers).await.status, ops, "{headers:?}");
        }
        // Another peer, whatever it says of proxies.
        let stream = Stream::to(daemon.url("/events"))
            .source("127.0.0.2")
            .header("x-forwarded-user", "anne")
            .header("x-forwarded-for", "127.0.0.1");
        assert_eq!(stream.send().await.expect("an answer").status, 401);
        let by_proxy = Stream::to(daemon.url("/events")).header("x-forwarded-user", "anne");
        let mut by_proxy = by_proxy.send().await.expect("an answer");
        // A proxy that is trusted no more takes its clients along.
        daemon.rewrite_config(&text(&sections.replace("127.0.0.1", "127.0.0.3"), ""));
        daemon.signal(Signal::HUP);
        let (events, _) = by_proxy.collect_to_end(secs(20)).await;
        assert_eq!(
            events.last().expect("a goodbye").data,
            r#"{"reason":"unauthorized"}"#
        );
        assert_eq!(ask(&daemon, "/events", &[user]).await.status, 401);
    });
}

fn a_proxy_at_a_unix_socket_names_clients() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("http.sock");
    let sections = "trusted_proxies = [\"unix\"]\n[auth.proxy]\nheaders = { sub = \"X-Forwarded-User\" }";
    let both = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", path.display());
    let daemon = Daemon::start(&text(sections, "").replace("listen = [\"127.0.0.1:0\"]", &both));
    let ask = |user: &str| {
        format!("HEAD /events HTTP/1.1\r\nHost: x\r\n{user}Connection: close\r\n\r\n").into_bytes()
    };
    let anne = ask("X-Forwarded-User: anne\r\n");
    for (answer, status) in [
        (exchange_unix(&path, &anne).expect("an answer"), 200),
        (exchange_unix(&path, &ask("")).expect("an answer"), 401),
        // Another peer is no proxy.
        (exchange(daemon.port(), &anne), 401),
    ] {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

fn a_refusal_says_how_clients_may_say_who_they_are() {
    let file = File::new("tokens", make_token(&["reports"]).1);
    let tokens = format!("[auth.tokens]\nfile = {:?}\n", file.path());
    let proxy = "[auth.proxy]\nheaders = { sub = \"X-User\" }\n";
    let trusted = "trusted_proxies = [\"192.0.2.1\"]\n";
    for (sections, accepts, says) in [
        (tokens.clone(), json!(["bearer"]), "send a token"),
        (
            format!("[auth]\ncookie = \"hush\"\nquery_parameter = \"hush\"\n{tokens}"),
            json!(["bearer", "cookie", "query"]),
            "send a token",
        ),
        (
            format!("{trusted}{tokens}{proxy}"),
            json!(["bearer", "proxy"]),
            "send a token",
        ),
        (
            format!("{trusted}{proxy}"),
            json!(["proxy"]),
            "a proxy in front of this daemon",
        ),
    ] {
        let stream = "[[stream]]\npath = \"/ops\"\ntopics = [\"t\"]\nallow = { role = [\"ops\"] }";
        let daemon = Daemon::start(&text(&sections, stream));
        block_on(async {
            let answer = daemon.get("/events").await;
            let error = answer.json()["error"].clone();
            assert_eq!((answer.status, &error["accepts"]), (401, &accepts), "{error}");
            assert!(
                error["message"].as_str().is_some_and(|text| text.contains(says)),
                "{error}"
            );
            assert!(
                answer
                    .header("www-authenticate")
                    .is_some_and(|text| text.starts_with("Bearer "))
            );
            assert!(!answer.text().contains("hush"), "no name is shown: {error}");
            // Other errors have nothing to do with it.
            assert_eq!(daemon.get("/nowhere").await.json()["error"].get("accepts"), None);
        });
    }
}
