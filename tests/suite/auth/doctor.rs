//! `doctor` checks the keys of signed tokens, the way that tokens take, and who may name clients.

use super::issuer::Issuer;
use super::{File, make_token};
use crate::doctor::Report;
use crate::harness::scripted_registry::{Answer, ScriptedRegistry};
use crate::harness::secured::Authority;
use crate::limits::config_of;
use crate::trials;
use libtest_mimic::Trial;
use serde_json::json;

pub fn trials() -> Vec<Trial> {
    trials![
        doctor_fetches_the_keys_of_tokens,
        doctor_reads_the_keys_of_tokens_in_a_file,
        doctor_warns_of_tokens_without_tls_and_of_proxies_that_are_everybody,
    ]
}

/// `[auth.jwt]` with the keys of a URL.
fn section(algorithms: &str, url: &str, lines: &str) -> String {
    format!(
        "[auth.jwt]\nalgorithms = [{algorithms}]\njwks_url = \"{url}/keys\"\njwks_timeout = \"2s\"\n{lines}\n"
    )
}

fn doctor_fetches_the_keys_of_tokens() {
    let issuer = Issuer::new("ES256").kid("1");
    let set = json!({ "keys": [issuer.jwk()] }).to_string();
    let (of_plain, of_tls) = (set.clone(), set);
    let plain = ScriptedRegistry::start(move |request| match request.path.as_str() {
        "/keys" => Answer::Json(200, of_plain.clone()),
        _ => Answer::Json(404, "{}".to_owned()),
    });
    let authority = Authority::new("the provider's CA");
    let pair = authority.sign("provider", Some("127.0.0.1"));
    let tls = ScriptedRegistry::with_tls(&pair, None, move |_| Answer::Json(200, of_tls.clone()));
    let ca = File::new("ca.pem", authority.pem());
    let trusting = format!("jwks_ca_file = {:?}", ca.path());
    // On no loopback address, and still this machine.
    let far = plain.url().replace("127.0.0.1", "0.0.0.0");
    let nobody = format!("http://127.0.0.1:{}", crate::harness::broker::free_port());
    for (algorithms, url, lines, finding, parts) in [
        (
            "\"ES256\"",
            tls.url(),
            trusting.as_str(),
            "ok    token keys",
            &["1 key for ES256"][..],
        ),
        (
            "\"ES256\"",
            plain.url(),
            "",
            "ok    token keys",
            &["1 key for ES256"],
        ),
        (
            "\"ES256\"",
            tls.url(),
            "",
            "fail  token keys",
            &[
                "is not reached",
                "certificate",
                "remedy: correct jwks_url, jwks_ca_file",
            ],
        ),
        (
            "\"ES256\"",
            far,
            "",
            "warn  token keys",
            &[
                "1 key for ES256, fetched without TLS",
                "remedy: write https in jwks_url",
            ],
        ),
        (
            "\"ES256\", \"RS256\"",
            plain.url(),
            "",
            "warn  token keys",
            &[
                "1 key for ES256, and none for RS256",
                "remedy: remove what the issuer does not sign with",
            ],
        ),
        (
            "\"RS256\"",
            plain.url(),
            "",
            "fail  token keys",
            &[
                "holds no key that can be used with RS256",
                "algorithms in [auth.jwt]",
            ],
        ),
        (
            "\"ES256\"",
            format!("{}/other", plain.url()),
            "",
            "fail  token keys",
            &["answers 404", "remedy: correct jwks_url"],
        ),
        (
            "\"ES256\"",
            nobody,
            "",
            "fail  token keys",
            &["is not reached", "refused", "or open the firewall"],
        ),
    ] {
        let report = Report::of(&config_of(&section(algorithms, &url, lines)));
        report.assert_says(
            finding,
            &[&[&*format!("token keys {url}/keys: ")][..], parts].concat(),
        );
    }
}

fn doctor_reads_the_keys_of_tokens_in_a_file() {
    let issuer = Issuer::new("ES256");
    let secret = "hush".repeat(8);
    let (key, hidden) = (File::new("key.pem", issuer.pem()), File::new("secret", &secret));
    for (algorithm, file) in [("ES256", &key), ("HS256", &hidden)] {
        let text = config_of(&format!(
            "[auth.jwt]\nalgorithms = [{algorithm:?}]\nkey_file = {:?}\n",
            file.path()
        ));
        let report = Report::of(&text);
        report.assert_says(
            &format!("ok    token keys {}: 1 key for {algorithm}", file.path()),
            &[],
        );
        assert!(!report.text.contains("hush"), "{}", report.text);
    }
}

fn doctor_warns_of_tokens_without_tls_and_of_proxies_that_are_everybody() {
    let (token, line) = make_token(&["reports"]);
    let tokens = File::new("tokens", line);
    let tokens = format!("[auth.tokens]\nfile = {:?}\n", tokens.path());
    let listening = |listen: &str, rest: &str| {
        config_of(rest).replacen("listen = [\"127.0.0.1:0\"]", &format!("listen = [{listen}]"), 1)
    };
    for (listen, is_readable) in [
        (
            "\"127.0.0.1:0\", \"[::1]:0\", \"localhost:0\", \"unix:/tmp/never-made\", \"systemd\"",
            false,
        ),
        ("\"0.0.0.0:0\"", true),
        ("\"*:0\"", true),
        ("\"[::]:0\"", true),
        ("\"127.0.0.1:0\", \"192.0.2.7:0\"", true),
    ] {
        let report = Report::of(&listening(listen, &tokens));
        if is_readable {
            let address = listen.rsplit('"').nth(1).expect("an address");
            report.assert_says(
                "warn  token transport: ",
                &[
                    &format!("without TLS at {address}: "),
                    "as good as a password",
                    "remedy: serve clients by [http.tls]",
                ],
            );
        } else {
            report.assert_says("ok    token transport: ", &[]);
        }
        assert!(!report.text.contains(&token), "{}", report.text);
    }
    let proxy = "[auth.proxy]\nheaders = { sub = \"X-User\" }\n";
    for (trusted, start, parts) in [
        (
            "\"10.0.0.1\", \"unix\"",
            "ok    identity proxies: 10.0.0.1",
            &["unix may say who a client is"][..],
        ),
        (
            "\"10.0.0.1\", \"0.0.0.0/0\"",
            "warn  identity proxies: ",
            &[
                "every client can say that it is somebody else",
                "remedy: name the addresses of the proxies alone",
            ],
        ),
        ("\"::/0\"", "warn  identity proxies: ", &[]),
    ] {
        let report = Report::of(&listening(
            "\"0.0.0.0:0\"",
            &format!("trusted_proxies = [{trusted}]\n{proxy}"),
        ));
        report.assert_says(start, parts);
        assert!(
            !report.text.contains("token transport"),
            "there are none: {}",
            report.text
        );
    }
    let report = Report::of(&config_of(""));
    for check in ["token", "identity"] {
        assert!(!report.text.contains(check), "{}", report.text);
    }
}
