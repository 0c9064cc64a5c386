//! The examples of the standards, and every algorithm with keys of OpenSSL in every form.

use super::issuer::{Issuer, base64, claims, now};
use crate::trials;
use kafka_sse_bridge::jose::algorithm::Algorithm;
use kafka_sse_bridge::jose::keys::{KeySet, Origin};
use kafka_sse_bridge::jose::token::{Refusal, TokenRules, Unverified, Verified};
use libtest_mimic::Trial;
use serde_json::json;

pub fn trials() -> Vec<Trial> {
    trials![
        tokens_of_the_standards_are_verified,
        every_algorithm_verifies_with_keys_in_every_form,
        a_key_is_used_with_its_own_kind_of_algorithm_only,
        keys_that_cannot_be_meant_are_passed_over,
        no_changed_byte_of_a_token_is_accepted,
    ]
}

/// The payload of RFC 7515, appendix A.
const PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
/// Its `exp`.
const END: u64 = 1_300_819_380;

fn rules(algorithms: &[&str]) -> TokenRules {
    TokenRules {
        algorithms: algorithms
            .iter()
            .map(|name| name.parse::<Algorithm>().expect("known"))
            .collect(),
        ..TokenRules::default()
    }
}

fn verify(token: &str, keys: &KeySet, rules: &TokenRules, now: u64) -> Result<Verified, Refusal> {
    Unverified::parse(token, rules)?.verify(keys, rules, now)
}

fn tokens_of_the_standards_are_verified() {
    for (algorithm, header, signature, jwk) in [
        (
            "HS256",
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            json!({
                "kty": "oct",
                "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            }),
        ),
        (
            "RS256",
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
            json!({
                "kty": "RSA",
                "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
                "e": "AQAB",
            }),
        ),
        (
            "ES256",
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            json!({
                "kty": "EC",
                "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
        ),
    ] {
        let rules = rules(&[algorithm]);
        let keys = KeySet::of_json(jwk.to_string().as_bytes(), &rules.algorithms, Origin::File);
        let keys = keys.expect("a key");
        let token = format!("{header}.{PAYLOAD}.{signature}");
        let verified = verify(&token, &keys, &rules, END - 1).expect(algorithm);
        assert_eq!(
            (verified.claims["iss"].as_str(), verified.expires),
            (Some("joe"), END)
        );
        assert_eq!(
            verify(&token, &keys, &rules, END),
            Err(Refusal::Expired),
            "{algorithm}"
        );
        let other = format!(
            "{header}.{}.{signature}",
            base64("{\"iss\":\"joe\",\"exp\":1300819381}")
        );
        assert_eq!(
            verify(&other, &keys, &rules, END - 1),
            Err(Refusal::Signature),
            "{algorithm}"
        );
    }
    // RFC 7515, appendix A.5: without a signature.
    let (rules, keys) = hs256();
    let none = format!("eyJhbGciOiJub25lIn0.{PAYLOAD}.");
    assert_eq!(verify(&none, &keys, &rules, END - 1), Err(Refusal::Algorithm));
}

/// The rules and the secret of an issuer.
fn hs256() -> (TokenRules, KeySet) {
    let rules = rules(&["HS256"]);
    let secret = Issuer::new("HS256").secret();
    let keys = KeySet::of_file(&secret, &rules.algorithms).expect("a secret");
    (rules, keys)
}

fn every_algorithm_verifies_with_keys_in_every_form() {
    for algorithm in Algorithm::ALL {
        let name = algorithm.as_str();
        let issuer = Issuer::new(name);
        let rules = rules(&[name]);
        let token = issuer.token(&claims("anne"));
        let set = json!({ "keys": [issuer.jwk()] }).to_string();
        let key = if algorithm.is_symmetric() {
            issuer.secret()
        } else {
            issuer.pem().into_bytes()
        };
        for content in [key, issuer.jwk().to_string().into_bytes(), set.into_bytes()] {
            let keys = KeySet::of_file(&content, &rules.algorithms).expect(name);
            let verified = verify(&token, &keys, &rules, now());
            assert_eq!(verified.expect(name).claims["sub"], json!("anne"), "{name}");
            let other = Issuer::new(name).kid("other");
            if !algorithm.is_symmetric() {
                let forged = other.token(&claims("anne"));
                assert_eq!(
                    verify(&forged, &keys, &rules, now()),
                    Err(Refusal::Signature),
                    "{name}"
                );
            }
        }
    }
    // The older form of an RSA key.
    let issuer = Issuer::new("RS256");
    let pem = issuer
        .key
        .rsa()
        .expect("RSA")
        .public_key_to_pem_pkcs1()
        .expect("PEM");
    let rules = rules(&["RS256", "PS256"]);
    let keys = KeySet::of_file(&pem, &rules.algorithms).expect("a key");
    assert!(verify(&issuer.token(&claims("anne")), &keys, &rules, now()).is_ok());
}

fn a_key_is_used_with_its_own_kind_of_algorithm_only() {
    // The classic: a public key taken for the secret of HS.
    let issuer = Issuer::new("RS256");
    let both = rules(&["RS256", "HS256"]);
    let keys = KeySet::of_json(issuer.jwk().to_string().as_bytes(), &both.algorithms, Origin::Url);
    let keys = keys.expect("a key");
    for secret in [
        issuer.pem().into_bytes(),
        issuer.key.rsa().expect("RSA").n().to_vec(),
        issuer.key.public_key_to_der().expect("DER"),
    ] {
        let forger = Issuer {
            algorithm: "HS256",
            kid: None,
            key: openssl::pkey::PKey::hmac(&secret).expect("a secret"),
        };
        let token = forger.token(&claims("admin"));
        assert_eq!(verify(&token, &keys, &both, now()), Err(Refusal::UnknownKey));
    }
    for content in [issuer.pem(), format!("\n  {}", issuer.pem())] {
        let error = KeySet::of_file(content.as_bytes(), &rules(&["HS256"]).algorithms).expect_err("refused");
        assert!(error.contains("anybody could sign"), "{error}");
    }
    // A header that names another algorithm than the signature's.
    let keys = KeySet::of_file(issuer.pem().as_bytes(), &both.algorithms[..1]).expect("a key");
    let rs_and_ps = rules(&["RS256", "PS256", "RS512"]);
    for other in ["PS256", "RS512"] {
        let token = issuer.sign(&json!({ "alg": other }).to_string(), &claims("x").to_string());
        assert_eq!(
            verify(&token, &keys, &rs_and_ps, now()),
            Err(Refusal::Signature),
            "{other}"
        );
    }
}

fn keys_that_cannot_be_meant_are_passed_over() {
    let rs = rules(&["RS256"]);
    let issuer = Issuer::new("RS256").kid("a");
    let with = |name: &str, value: serde_json::Value| {
        let mut jwk = issuer.jwk();
        jwk[name] = value;
        jwk
    };
    let of = |keys: serde_json::Value, origin| {
        KeySet::of_json(
            json!({ "keys": keys }).to_string().as_bytes(),
            &rs.algorithms,
            origin,
        )
    };
    for jwk in [
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("PS256")),
        with("alg", json!("RSA-OAEP")),
        with("kty", json!("EC")),
        with("n", json!(base64([1; 128]))),
        with("n", json!("not base64!")),
        with("kid", json!(7)),
        json!({ "kty": "unknown" }),
        json!("text"),
    ] {
        let error = of(json!([jwk]), Origin::Url).expect_err("no key");
        assert!(
            error.contains("no key that can be used with RS256"),
            "{jwk}: {error}"
        );
        let keys = of(json!([jwk, issuer.jwk()]), Origin::Url).expect("one key");
        assert_eq!(keys.len(), 1, "{jwk}");
    }
    // Two keys of one `kid`, as when a provider replaces a key under its name.
    let other = Issuer::new("RS256").kid("a");
    let keys = of(json!([other.jwk(), issuer.jwk()]), Origin::Url).expect("two keys");
    for issuer in [&issuer, &other] {
        assert!(verify(&issuer.token(&claims("x")), &keys, &rs, now()).is_ok());
    }
    let unknown = Issuer::new("RS256").kid("b").token(&claims("x"));
    assert_eq!(verify(&unknown, &keys, &rs, now()), Err(Refusal::UnknownKey));
    // A secret is one in a file only.
    let hs = Issuer::new("HS256");
    let algorithms = rules(&["HS256"]).algorithms;
    let jwk = hs.jwk().to_string();
    assert!(KeySet::of_json(jwk.as_bytes(), &algorithms, Origin::Url).is_err());
    assert!(KeySet::of_json(jwk.as_bytes(), &algorithms, Origin::File).is_ok());
    let many: Vec<_> = (0..65).map(|_| issuer.jwk()).collect();
    assert!(
        of(json!(many), Origin::Url)
            .expect_err("too many")
            .contains("more than 64")
    );
    for text in ["{\"keys\":7}", "[]", "{\"keys\":[],\"keys\":[]}", "<html>"] {
        assert!(
            KeySet::of_json(text.as_bytes(), &algorithms, Origin::Url).is_err(),
            "{text}"
        );
    }
}

fn no_changed_byte_of_a_token_is_accepted() {
    for name in ["ES256", "EdDSA", "HS256"] {
        let issuer = Issuer::new(name);
        let rules = rules(&[name]);
        let content = issuer.jwk().to_string();
        let keys = KeySet::of_file(content.as_bytes(), &rules.algorithms).expect("a key");
        let token = issuer.token(&claims("anne"));
        assert!(verify(&token, &keys, &rules, now()).is_ok());
        for place in 0..token.len() {
            for other in ["A", "_", ".", "=", " ", "\u{e9}"] {
                let (before, after) = token.split_at(place);
                let (byte, after) = after.split_at(1);
                if byte == other {
                    continue;
                }
                let changed = format!("{before}{other}{after}");
                let outcome = verify(&changed, &keys, &rules, now());
                assert!(outcome.is_err(), "{name}: byte {place} as {other:?}: {changed}");
            }
        }
        for longer in [
            format!("{token}."),
            format!("{token}="),
            format!(".{token}"),
            format!("{token}\n"),
        ] {
            assert!(verify(&longer, &keys, &rules, now()).is_err(), "{longer:?}");
        }
    }
}
