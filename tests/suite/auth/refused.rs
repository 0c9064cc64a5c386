//! Tokens that are refused, where tokens may be, and that no token is shown anywhere.

use super::issuer::{Issuer, base64, claims, now};
use super::{Answer, File, ask, ask_with, daemon, metric};
use crate::harness::daemon::Daemon;
use crate::harness::http;
use crate::harness::stream::Stream;
use crate::harness::wait::{block_on, secs};
use crate::limits::config_of;
use crate::trials;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    trials![
        tokens_that_keep_rfc_7519_are_accepted,
        tokens_against_rfc_7519_and_rfc_8725_are_refused,
        a_client_without_a_token_gets_a_challenge_and_learns_nothing,
        a_token_may_be_in_a_header_a_cookie_or_a_configured_parameter,
        no_token_is_in_a_log_an_error_or_a_figure,
        a_rule_of_claims_decides_who_may_read,
        other_routes_need_no_token,
    ]
}

/// `[auth.jwt]` for an issuer, with these lines.
pub fn jwt(issuer: &Issuer, key: &File, lines: &str) -> String {
    format!(
        "[auth.jwt]\nalgorithms = [{:?}]\nkey_file = {:?}\n{lines}\n",
        issuer.algorithm,
        key.path()
    )
}

/// What every token of these tests has.
const USUAL: &str = r#"{"alg":"ES256"}"#;

/// A daemon that accepts the tokens of an issuer with [`good`] claims.
fn strict(issuer: &Issuer, key: &File) -> Daemon {
    let names = "issuer = \"https://login.example\"\naudience = [\"orders\", \"other\"]\nleeway = \"30s\"";
    daemon(&jwt(issuer, key, names), "")
}

fn good() -> Value {
    let mut all = claims("anne");
    all["iss"] = json!("https://login.example");
    all["aud"] = json!("orders");
    all
}

fn with(name: &str, value: Value) -> Value {
    let mut all = good();
    all[name] = value;
    all
}

fn without(name: &str) -> Value {
    let mut all = good();
    all.as_object_mut().expect("an object").remove(name);
    all
}

fn tokens_that_keep_rfc_7519_are_accepted() {
    let issuer = Issuer::new("ES256");
    let key = File::new("key.pem", issuer.pem());
    let daemon = strict(&issuer, &key);
    let (usual, time) = (USUAL, now());
    block_on(async {
        for (header, all) in [
            (usual, good()),
            (r#"{"typ":"JWT","alg":"ES256","kid":"any"}"#, good()),
            (
                r#"{"typ":"application/AT+JWT","alg":"ES256","jku":"https://evil.example"}"#,
                good(),
            ),
            (usual, with("aud", json!(["elsewhere", "orders"]))),
            (usual, with("exp", json!(time as f64 + 600.5))),
            (usual, with("exp", json!(253_402_300_799_u64))),
            (usual, with("nbf", json!(time))),
            // Within the leeway.
            (usual, with("exp", json!(time - 10))),
            (usual, with("nbf", json!(time + 15))),
        ] {
            let answer = ask_with(&daemon, &issuer.sign(header, &all.to_string())).await;
            assert_eq!(answer.outcome(), (200, ""), "{header} {all}");
        }
    });
}

/// Payloads that are not acceptable.
fn bad_payloads(issuer: &Issuer) -> Vec<String> {
    let time = now();
    vec![
        without("exp").to_string(),
        with("exp", json!(time - 30)).to_string(),
        with("exp", json!(0)).to_string(),
        with("exp", json!(-1)).to_string(),
        with("exp", json!("never")).to_string(),
        with("exp", json!((time + 600).to_string())).to_string(),
        with("exp", json!(1e300)).to_string(),
        with("exp", json!(u64::MAX)).to_string(),
        with("exp", json!(253_402_300_800_u64)).to_string(),
        with("exp", json!(null)).to_string(),
        with("exp", json!([time + 600])).to_string(),
        r#"{"sub":"a","exp":1e400,"aud":"orders","iss":"https://login.example"}"#.to_owned(),
        with("nbf", json!(time + 120)).to_string(),
        with("nbf", json!("now")).to_string(),
        without("aud").to_string(),
        with("aud", json!("order")).to_string(),
        with("aud", json!([])).to_string(),
        with("aud", json!(["orders", 7])).to_string(),
        with("aud", json!({ "orders": true })).to_string(),
        without("iss").to_string(),
        with("iss", json!("https://login.example/")).to_string(),
        with("iss", json!(["https://login.example"])).to_string(),
        // The first would be expired.
        good().to_string().replace("\"exp\"", "\"exp\":1,\"exp\""),
        good().to_string().replace("\"sub\"", "\"sub\":\"admin\",\"sub\""),
        "[]".to_owned(),
        "\"text\"".to_owned(),
        String::new(),
        issuer.token(&good()),
        with("pad", json!("x".repeat(8 * 1024))).to_string(),
    ]
}

fn tokens_against_rfc_7519_and_rfc_8725_are_refused() {
    let issuer = Issuer::new("ES256");
    let key = File::new("key.pem", issuer.pem());
    let daemon = strict(&issuer, &key);
    let headers = [
        r#"{"alg":"none"}"#,
        r#"{"alg":"NONE"}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"ES384"}"#,
        r#"{"alg":"es256"}"#,
        r#"{"alg":["ES256"]}"#,
        "{}",
        "",
        r#"{"alg":"none","alg":"ES256"}"#,
        r#"{"alg":"ES256","crit":["exp"],"exp":1}"#,
        r#"{"alg":"ES256","crit":[]}"#,
        r#"{"alg":"ES256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"ES256","typ":"logout+jwt"}"#,
        r#"{"alg":"ES256","typ":"dpop+jwt"}"#,
        r#"{"alg":"ES256","kid":7}"#,
    ];
    let by_header = headers.map(|header| issuer.sign(header, &good().to_string()));
    let payloads = bad_payloads(&issuer);
    let by_payload = payloads.iter().map(|payload| issuer.sign(USUAL, payload));
    let tokens: Vec<String> = by_header.into_iter().chain(by_payload).collect();
    block_on(async {
        for token in &tokens {
            let answer = ask_with(&daemon, token).await;
            let parts = token
                .split('.')
                .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap_or_default());
            let parts: Vec<_> = parts
                .map(|part| String::from_utf8_lossy(&part).into_owned())
                .collect();
            assert_eq!(answer.outcome(), (401, "invalid_token"), "{parts:?}");
            let challenge = answer.challenge.expect("a challenge");
            let start = "Bearer realm=\"kafka-sse-bridge\", error=\"invalid_token\", error_description=\"";
            assert!(challenge.starts_with(start), "{challenge}");
        }
        // Another key, and what is no token.
        let forged = Issuer::new("ES256").token(&good());
        let unsigned = format!("{}.{}.", base64(r#"{"alg":"none"}"#), base64(good().to_string()));
        for token in [
            forged.as_str(),
            unsigned.as_str(),
            "a.b.c",
            "..",
            "abc",
            "a.b.c.d",
            "ksb_abc",
            "%00",
        ] {
            let answer = ask_with(&daemon, token).await;
            assert_eq!(answer.outcome(), (401, "invalid_token"), "{token}");
        }
        let mut refusals = 0;
        for reason in ["invalid-token", "expired-token", "unknown-token"] {
            refusals += metric::<usize>(
                &daemon,
                &format!("kafka_sse_bridge_auth_refused_total{{reason=\"{reason}\"}}"),
            )
            .await;
        }
        assert_eq!(refusals, tokens.len() + 8);
    });
}

fn a_client_without_a_token_gets_a_challenge_and_learns_nothing() {
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let daemon = daemon(
        &jwt(&issuer, &key, ""),
        "[[stream]]\npath = \"/of/{topic}\"\ntopics = [\"hush\"]\nfilter = { topic = [\"{topic}\"] }",
    );
    block_on(async {
        let unknown = Answer {
            status: 401,
            code: Some("unauthorized".to_owned()),
            challenge: Some("Bearer realm=\"kafka-sse-bridge\"".to_owned()),
        };
        // No parameter and no value of a path is looked at before.
        for path in [
            "/events",
            "/events?strat=live",
            "/events?since=x",
            "/of/other",
            "/of/%ff",
            "/of/hush",
        ] {
            assert_eq!(ask(&daemon, path, &[]).await, unknown, "{path}");
            let accept = [("accept", "text/event-stream")];
            assert_eq!(ask(&daemon, path, &accept).await, unknown, "{path}");
        }
        for headers in [
            &[("authorization", "Basic YTpi")][..],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer")],
            &[("cookie", "session=x"), ("x-forwarded-user", "root")],
        ] {
            assert_eq!(ask(&daemon, "/events", headers).await, unknown, "{headers:?}");
        }
        let head = http::request(reqwest::Method::HEAD, &daemon.url("/events"), &[]).await;
        assert_eq!(head.expect("an answer").status, 401);
        let body = daemon.get("/of/other").await.text();
        assert!(!body.contains("hush"), "{body}");
        let token = [(
            "authorization",
            &*format!("bearer {}", issuer.token(&claims("anne"))),
        )];
        assert_eq!(
            ask(&daemon, "/of/other", &token).await.outcome(),
            (400, "bad_path_parameter")
        );
        assert_eq!(
            ask(&daemon, "/events?strat=live", &token).await.outcome(),
            (400, "unknown_parameter")
        );
        assert_eq!(ask(&daemon, "/events", &token).await.outcome(), (200, ""));
        let head = http::request(reqwest::Method::HEAD, &daemon.url("/events"), &token).await;
        assert_eq!(head.expect("an answer").status, 200);
    });
}

fn a_token_may_be_in_a_header_a_cookie_or_a_configured_parameter() {
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let token = issuer.token(&claims("anne"));
    let other = issuer.token(&claims("bob"));
    let bearer = format!("Bearer {token}");
    let cookie = format!("theme=dark; __Host-session={token}; x=y");
    let by_query = format!("/events?access_token={token}&start=live");
    let without = daemon(&jwt(&issuer, &key, ""), "");
    let with = daemon(
        &format!(
            "[auth]\ncookie = \"__Host-session\"\nquery_parameter = \"access_token\"\n{}",
            jwt(&issuer, &key, "")
        ),
        "",
    );
    block_on(async {
        let headers = [("authorization", &*bearer)];
        assert_eq!(ask(&without, "/events", &headers).await.status, 200);
        assert_eq!(
            ask(&without, "/events", &[("cookie", &*cookie)]).await.status,
            401
        );
        assert_eq!(ask(&without, &by_query, &[]).await.status, 401);
        assert_eq!(ask(&with, "/events", &headers).await.status, 200);
        assert_eq!(ask(&with, "/events", &[("cookie", &*cookie)]).await.status, 200);
        assert_eq!(ask(&with, &by_query, &[]).await.status, 200);
        // An escaped dot is the same token.
        assert_eq!(ask(&with, &by_query.replace('.', "%2e"), &[]).await.status, 200);
        // Another scheme is not for the daemon.
        let basic = [("authorization", "Basic YTpi"), ("cookie", &*cookie)];
        assert_eq!(ask(&with, "/events", &basic).await.status, 200);
        // A header decides, whatever else is there.
        let both = [("authorization", "Bearer x.y.z"), ("cookie", &*cookie)];
        assert_eq!(
            ask(&with, &by_query, &both).await.outcome(),
            (401, "invalid_token")
        );
        for (path, headers) in [
            (
                "/events".to_owned(),
                vec![
                    ("authorization", bearer.clone()),
                    ("authorization", format!("Bearer {other}")),
                ],
            ),
            (format!("{by_query}&access_token={other}"), vec![]),
            (
                "/events".to_owned(),
                vec![("cookie", format!("{cookie}; __Host-session={other}"))],
            ),
            (
                "/events".to_owned(),
                vec![
                    ("cookie", cookie.clone()),
                    ("cookie", format!("__Host-session={other}")),
                ],
            ),
        ] {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let answer = ask(&with, &path, &headers).await;
            assert_eq!(answer.outcome(), (401, "invalid_token"), "{path} {headers:?}");
        }
        let health = with.get("/health/live").await;
        assert_eq!(
            (health.status, health.header("referrer-policy")),
            (200, Some("no-referrer"))
        );
        let stream = Stream::to(with.url(&by_query)).send().await.expect("an answer");
        assert_eq!(stream.header("referrer-policy"), Some("no-referrer"));
        let health = without.get("/health/live").await;
        assert_eq!(health.header("referrer-policy"), None);
    });
}

fn no_token_is_in_a_log_an_error_or_a_figure() {
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let carriers = "[auth]\ncookie = \"session\"\nquery_parameter = \"access_token\"\n";
    let daemon = daemon(&format!("{carriers}{}", jwt(&issuer, &key, "")), "");
    let token = issuer.token(&claims("anne\u{1b}[31m\n2026 ERROR forged"));
    let bad = format!("{token}x");
    let mut shown = String::new();
    block_on(async {
        for token in [&token, &bad] {
            let bearer = format!("Bearer {token}");
            for (path, name, value) in [
                ("/events".to_owned(), "authorization", bearer),
                ("/events".to_owned(), "cookie", format!("session={token}")),
                (
                    format!("/events?access_token={token}"),
                    "accept",
                    "*/*".to_owned(),
                ),
                (
                    format!("/events?access_token={token}&strat=x"),
                    "accept",
                    "*/*".to_owned(),
                ),
                (
                    format!("/nothing?access_token={token}"),
                    "accept",
                    "*/*".to_owned(),
                ),
                (
                    format!("/about?access_token={token}"),
                    "cookie",
                    format!("session={token}"),
                ),
                (
                    "/about".to_owned(),
                    "referer",
                    format!("http://x/?access_token={token}"),
                ),
            ] {
                let stream = Stream::to(daemon.url(&path)).header(name, value).send().await;
                let mut stream = stream.expect("an answer");
                let is_open = stream.status == 200 && path.starts_with("/events");
                if is_open {
                    continue;
                }
                let body = stream.body(secs(10)).await.expect("a body");
                shown += &String::from_utf8_lossy(&body);
                shown.extend(
                    stream
                        .headers
                        .iter()
                        .map(|(name, value)| format!("{name}: {value}\n")),
                );
            }
        }
        for path in ["/metrics", "/streams", "/health/ready", "/openapi.json"] {
            shown += &daemon.get(path).await.text();
        }
    });
    daemon.wait_log("/events: ", secs(20));
    let log = daemon.log();
    let signature = token.rsplit('.').next().expect("a signature");
    for secret in [signature, token.split('.').nth(1).expect("a payload")] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!log.contains(secret), "{log}");
    }
    // The client is named, on one line.
    assert!(
        log.contains(r#", as "anne\u{1b}[31m\n2026 ERROR forged""#),
        "{log}"
    );
    assert!(
        !log.lines().any(|line| line.starts_with("2026 ERROR forged")),
        "{log}"
    );
}

fn a_rule_of_claims_decides_who_may_read() {
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    let stream =
        |path: &str, allow: &str| format!("[[stream]]\npath = {path:?}\ntopics = [\"t\"]\nallow = {allow}\n");
    let streams = [
        stream("/public", "\"public\""),
        stream("/known", "\"authenticated\""),
        stream("/admin", "{ role = [\"admin\", \"root\"] }"),
        stream(
            "/both",
            "{ \"realm.roles\" = [\"x\"], scope = [\"read:orders\"] }",
        ),
    ];
    let daemon = daemon(&jwt(&issuer, &key, ""), &streams.concat());
    let token = |more: Value| {
        let mut all = claims("anne");
        for (name, value) in more.as_object().expect("an object") {
            all[name] = value.clone();
        }
        format!("Bearer {}", issuer.token(&all))
    };
    block_on(async {
        for (more, expected) in [
            (json!({}), [200, 200, 403, 403]),
            (json!({ "role": "admin" }), [200, 200, 200, 403]),
            (json!({ "role": ["user", "root"] }), [200, 200, 200, 403]),
            (json!({ "role": "admin root" }), [200, 200, 403, 403]),
            (json!({ "role": { "admin": true } }), [200, 200, 403, 403]),
            (
                json!({ "realm": { "roles": ["y", "x"] }, "scope": "write read:orders" }),
                [200, 200, 403, 200],
            ),
            (
                json!({ "realm": { "roles": ["x"] }, "scope": "read:orders:all" }),
                [200, 200, 403, 403],
            ),
            (json!({ "scope": "read:orders" }), [200, 200, 403, 403]),
        ] {
            let headers = [("authorization", &*token(more.clone()))];
            for (path, status) in ["/public", "/known", "/admin", "/both"].into_iter().zip(expected) {
                let answer = ask(&daemon, path, &headers).await;
                assert_eq!(answer.status, status, "{path} {more}");
                if status == 403 {
                    assert_eq!(answer.code.as_deref(), Some("forbidden"));
                    let challenge = answer.challenge.expect("a challenge");
                    assert!(challenge.ends_with("error=\"insufficient_scope\""), "{challenge}");
                }
            }
        }
        // Nobody asks who reads what is public.
        assert_eq!(
            ask(&daemon, "/public", &[("authorization", "Bearer x.y.z")])
                .await
                .status,
            200
        );
        assert_eq!(ask(&daemon, "/public", &[]).await.status, 200);
        let api = daemon.get("/openapi.json").await.json();
        let of = |path: &str| api["paths"][path]["get"].clone();
        assert_eq!(of("/known")["security"], json!([{ "bearer": [] }]));
        assert!(of("/known")["responses"]["401"].is_object());
        assert_eq!(of("/public")["security"], Value::Null);
    });
}

fn other_routes_need_no_token() {
    let issuer = Issuer::new("EdDSA");
    let key = File::new("key.pem", issuer.pem());
    // As it is by default.
    let daemon = Daemon::start(&config_of(&jwt(&issuer, &key, "")));
    block_on(async {
        for path in ["/", "/assets/style.css", "/health/live"] {
            assert_eq!(daemon.get(path).await.status, 200, "{path}");
        }
        for path in ["/nothing", "/metrics", "/about", "/openapi.json"] {
            assert_eq!(daemon.get(path).await.status, 404, "{path}");
        }
        // Without a token it has the streams that are for everybody: none.
        assert_eq!(daemon.get("/streams").await.json()["streams"], json!([]));
        let post = http::request(reqwest::Method::POST, &daemon.url("/events"), &[]).await;
        assert_eq!(post.expect("an answer").status, 405);
    });
}
