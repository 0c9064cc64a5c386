//! What `check` says of `[auth]`, of `allow`, and of claims in filters.

use super::File;
use super::issuer::Issuer;
use crate::configuration::{complains, read};
use crate::harness::certificates::Certificates;
use crate::trials;
use kafka_sse_bridge::config::Flags;
use kafka_sse_bridge::config::auth::Allow;
use libtest_mimic::Trial;
use openssl::rsa::Rsa;

pub fn trials() -> Vec<Trial> {
    trials![
        nonsense_in_auth_jwt_is_refused_with_line_key_and_remedy,
        nonsense_in_auth_is_refused_with_line_key_and_remedy,
        key_files_that_cannot_be_meant_are_refused,
        rules_and_claims_need_clients_that_are_known,
        claims_of_certificates_need_certificates_and_exist,
        with_auth_a_stream_is_for_known_clients_by_default,
    ]
}

const STREAM: &str = "[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n";

fn nonsense_in_auth_jwt_is_refused_with_line_key_and_remedy() {
    let key = File::new("key.pem", Issuer::new("ES256").pem());
    let file = format!("key_file = {:?}", key.path());
    let es = "algorithms = [\"ES256\"]";
    for (text, place, pieces) in [
        (
            format!("[auth.jwt]\n{file}\n"),
            "FILE:1: auth.jwt.algorithms: ",
            &["is empty", "RS256"][..],
        ),
        (
            format!("[auth.jwt]\nalgorithms = [\"none\"]\n{file}\n"),
            "FILE:2: auth.jwt.algorithms: ",
            &["\"none\" is not an algorithm", "known: RS256"],
        ),
        (
            format!("[auth.jwt]\nalgorithms = [\"ES256\", \"HS256\"]\n{file}\n"),
            "FILE:2: auth.jwt.algorithms: ",
            &["HS beside others", "anybody could sign"],
        ),
        (
            format!("[auth.jwt]\n{es}\n"),
            "FILE:1: auth.jwt.key_file: ",
            &["is missing", "jwks_url"],
        ),
        (
            format!("[auth.jwt]\n{es}\n{file}\njwks_url = \"https://x.example/k\"\n"),
            "FILE:3: auth.jwt.key_file: ",
            &["cannot be set with jwks_url"],
        ),
        (
            format!("[auth.jwt]\n{es}\njwks_url = \"x.example\"\n"),
            "FILE:3: auth.jwt.jwks_url: ",
            &["is not a URL", "https://login.example.org/jwks.json"],
        ),
        (
            format!("[auth.jwt]\n{es}\njwks_url = \"https://me:hush@x.example/k\"\n"),
            "FILE:3: auth.jwt.jwks_url: ",
            &["holds a user"],
        ),
        (
            "[auth.jwt]\nalgorithms = [\"HS256\"]\njwks_url = \"https://x.example/k\"\n".to_owned(),
            "FILE:3: auth.jwt.jwks_url: ",
            &["cannot be used with HS"],
        ),
        (
            format!("[auth.jwt]\n{es}\n{file}\njwks_ca_file = {:?}\n", key.path()),
            "FILE:4: auth.jwt.jwks_ca_file: ",
            &["has no effect"],
        ),
        (
            format!("[auth.jwt]\n{es}\n{file}\nleeway = \"1h\"\n"),
            "FILE:4: auth.jwt.leeway: ",
            &["more than 10m", "30s is usual"],
        ),
        (
            format!("[auth.jwt]\n{es}\n{file}\njwks_min_interval = \"0s\"\n"),
            "FILE:4: auth.jwt.jwks_min_interval: ",
            &["less than 1s"],
        ),
    ] {
        complains(&format!("{text}{STREAM}"), place, pieces);
    }
}

fn nonsense_in_auth_is_refused_with_line_key_and_remedy() {
    let key = File::new("key.pem", Issuer::new("ES256").pem());
    let file = format!("key_file = {:?}", key.path());
    let es = "algorithms = [\"ES256\"]";
    for (text, place, pieces) in [
        ("[auth.tokens]\n".to_owned(), "FILE:1: auth.tokens.file: ", &["is missing"][..]),
        (
            format!("[auth.tokens]\nfile = {:?}\n", key.path()),
            "FILE:2: auth.tokens.file: ",
            &["line 1 does not begin with", "kafka-sse-bridge token"],
        ),
        (
            "[auth.proxy]\nheaders = { sub = \"X-User\" }\n".to_owned(),
            "FILE:2: auth.proxy.headers: ",
            &["without trusted_proxies"],
        ),
        (
            "[http]\ntrusted_proxies = [\"unix\"]\n[auth.proxy]\nheaders = { email = \"X-Mail\" }\n".to_owned(),
            "FILE:4: auth.proxy.headers: ",
            &["which header names the client"],
        ),
        (
            "[http]\ntrusted_proxies = [\"unix\"]\n[auth.proxy]\nheaders = { sub = \"X User\" }\n".to_owned(),
            "FILE:4: auth.proxy.headers.\"sub\": ",
            &["cannot be a header's name"],
        ),
        (
            "[http]\ntrusted_proxies = [\"unix\"]\n[auth.proxy]\nheaders = { sub = \"X-User\" }\nlists = [\"sub\"]\n"
                .to_owned(),
            "FILE:5: auth.proxy.lists: ",
            &["\"sub\" is not among the claims in headers"],
        ),
        ("[auth]\ncookie = \"session\"\n".to_owned(), "FILE:2: auth.cookie: ", &["has no effect"]),
        (
            format!("[auth]\ncookie = \"a b\"\n[auth.jwt]\n{es}\n{file}\n"),
            "FILE:2: auth.cookie: ",
            &["cannot be a cookie's name"],
        ),
        (
            format!("[auth]\nwarn_before = \"2days\"\n[auth.jwt]\n{es}\n{file}\n"),
            "FILE:2: auth.warn_before: ",
            &["longer than 1day"],
        ),
        (
            format!(
                "[http]\nignored_parameters = [\"tk\"]\n[auth]\nquery_parameter = \"tk\"\n[auth.jwt]\n{es}\n{file}\n"
            ),
            "FILE:4: auth.query_parameter: ",
            &["ignored_parameters"],
        ),
    ] {
        complains(&format!("{text}{STREAM}"), place, pieces);
    }
    for name in [
        "key",
        "start",
        "throttle",
        "format",
        "Last-Event-ID",
        "header.x",
        "value.token",
    ] {
        let text = format!("[auth]\nquery_parameter = {name:?}\n[auth.jwt]\n{es}\n{file}\n{STREAM}");
        complains(
            &text,
            "FILE:2: auth.query_parameter: ",
            &["means something to streams"],
        );
    }
}

fn key_files_that_cannot_be_meant_are_refused() {
    let es = Issuer::new("ES256");
    let small = Rsa::generate(1024)
        .expect("a key")
        .public_key_to_pem()
        .expect("PEM");
    let private = String::from_utf8(es.key.private_key_to_pem_pkcs8().expect("PEM")).expect("ASCII");
    for (algorithm, content, piece) in [
        ("ES256", private, "private key"),
        (
            "ES256",
            "-----BEGIN CERTIFICATE-----\n".to_owned(),
            "openssl x509",
        ),
        ("ES256", "hush".to_owned(), "neither a public key in PEM"),
        (
            "ES256",
            "{\"keys\":[]}".to_owned(),
            "no key that can be used with ES256",
        ),
        ("ES384", es.pem(), "no key that can be used with ES384"),
        ("RS256", es.pem(), "no key that can be used with RS256"),
        ("RS256", String::from_utf8(small).expect("ASCII"), "2048"),
        ("HS256", es.pem(), "anybody could sign"),
        ("HS256", "hush".to_owned(), "4 bytes, which can be guessed"),
        ("HS512", "x".repeat(63), "at least 64"),
        (
            "HS256",
            es.jwk().to_string(),
            "no key that can be used with HS256",
        ),
    ] {
        let file = File::new("key", &content);
        let text = format!(
            "[auth.jwt]\nalgorithms = [{algorithm:?}]\nkey_file = {:?}\n{STREAM}",
            file.path()
        );
        let said = complains(&text, "FILE:3: auth.jwt.key_file: ", &[piece]);
        assert!(!said.contains("hush"), "{said}");
    }
}

fn rules_and_claims_need_clients_that_are_known() {
    let key = File::new("key.pem", Issuer::new("ES256").pem());
    let jwt = format!(
        "[auth.jwt]\nalgorithms = [\"ES256\"]\nkey_file = {:?}\n",
        key.path()
    );
    let by = "filter = { key = [\"${claims.sub}\"] }";
    for (text, place, pieces) in [
        (
            format!("{STREAM}allow = \"authenticated\"\n"),
            "FILE:4: stream[0].allow: ",
            &["needs [auth.jwt], [auth.tokens], [auth.proxy] or [auth.certificate]"][..],
        ),
        (
            format!("{STREAM}allow = {{ role = [\"admin\"] }}\n"),
            "FILE:4: stream[0].allow: ",
            &["needs [auth.jwt]"],
        ),
        (
            format!("{STREAM}allow = \"everybody\"\n"),
            "FILE:4: stream[0].allow: ",
            &["unknown value \"everybody\"", "public, authenticated"],
        ),
        (
            format!("{STREAM}allow = 7\n"),
            "FILE:4: stream[0].allow: ",
            &["\"public\", \"authenticated\", or claims like"],
        ),
        (
            format!("{STREAM}{by}\n"),
            "FILE:4: stream[0].filter: ",
            &["uses claims"],
        ),
        (
            format!("{jwt}{STREAM}allow = \"public\"\n{by}\n"),
            "FILE:8: stream[0].filter: ",
            &["allow = \"public\" does not ask for"],
        ),
        (
            format!("{jwt}{STREAM}allow = {{}}\n"),
            "FILE:7: stream[0].allow: ",
            &["names no claim"],
        ),
        (
            format!("{jwt}{STREAM}allow = {{ role = [] }}\n"),
            "FILE:7: stream[0].allow: ",
            &["has no value for \"role\""],
        ),
        (
            format!("{jwt}{STREAM}filter = {{ key = [\"u-${{claims.sub}}\"] }}\n"),
            "FILE:7: stream[0].filter.\"key\": ",
            &["a claim beside other text", "${claims.sub}"],
        ),
        (
            format!("{jwt}{STREAM}filter = {{ keys = [\"${{claims.sub}}\"] }}\n"),
            "FILE:7: stream[0].filter.\"keys\": ",
            &["is nothing to filter by"],
        ),
        (
            format!(
                "{jwt}{STREAM}max_filter_paths = 1\nfilter = {{ \"header.a\" = [\"${{claims.a}}\"], \"header.b\" = [\"${{claims.b}}\"] }}\n"
            ),
            "FILE:7: stream[0].max_filter_paths: ",
            &["less than the 2 headers and values"],
        ),
    ] {
        complains(&text, place, pieces);
    }
}

fn claims_of_certificates_need_certificates_and_exist() {
    let certificates = Certificates::new();
    let tls = |lines: &str| certificates.section(lines);
    let ca = format!(
        "client_auth = \"request\"\nclient_ca_file = {:?}",
        certificates.path("ca.pem")
    );
    let auth = "[auth.certificate]\n";
    let good = format!("{auth}{STREAM}{}", tls(&ca));
    read(&good, &[], &Flags::default()).expect("valid");
    for (text, place, pieces) in [
        (
            format!("{auth}{STREAM}"),
            "FILE:1: auth.certificate: ",
            &["needs certificates of clients", "client_auth"][..],
        ),
        (
            format!("{auth}{STREAM}{}", tls("")),
            "FILE:1: auth.certificate: ",
            &["needs certificates of clients"],
        ),
        (
            good.replace(auth, "[auth.certificate]\nsub = \"cn\"\n"),
            "FILE:2: auth.certificate.sub: ",
            &["subject, subject_cn, dns, email, uri"],
        ),
        (
            good.replace(
                STREAM,
                &format!("{STREAM}allow = {{ \"certificate.cn\" = [\"a\"] }}\n"),
            ),
            "FILE:5: stream[0].allow: ",
            &[
                "\"certificate.cn\", which no certificate has",
                "certificate.subject_cn",
            ],
        ),
        (
            good.replace(
                STREAM,
                &format!("{STREAM}filter = {{ key = [\"${{claims.certificate.san}}\"] }}\n"),
            ),
            "FILE:5: stream[0].filter: ",
            &["\"certificate.san\", which no certificate has"],
        ),
        (
            format!(
                "[http]\ntrusted_proxies = [\"unix\"]\n[auth.proxy]\nheaders = {{ sub = \"X-User\", \"certificate.dns\" = \"X-Name\" }}\n{good}"
            ),
            "FILE:4: auth.proxy.headers.\"certificate.dns\": ",
            &["is a claim of certificates"],
        ),
    ] {
        complains(&text, place, pieces);
    }
}

fn with_auth_a_stream_is_for_known_clients_by_default() {
    let key = File::new("key.pem", Issuer::new("ES256").pem());
    let jwt = format!(
        "[auth.jwt]\nalgorithms = [\"ES256\"]\nkey_file = {:?}\n",
        key.path()
    );
    let allow = |text: &str| {
        let loaded = read(text, &[], &Flags::default()).expect(text);
        loaded.settings.streams[0].allow.clone()
    };
    assert_eq!(allow(STREAM), None);
    assert_eq!(allow(&format!("{jwt}{STREAM}")), Some(Allow::Authenticated));
    assert_eq!(
        allow(&format!("{jwt}{STREAM}allow = \"public\"\n")),
        Some(Allow::Public)
    );
    // A claim in double dollars is text, for everybody.
    assert_eq!(
        allow(&format!("{STREAM}filter = {{ key = [\"$${{claims.sub}}\"] }}\n")),
        None
    );
}
