//! Targets of the fuzzer: tokens, and keys to verify them with.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::Ed25519KeyPair;
use serde_json::{Map, Value, json};

use super::algorithm::Algorithm;
use super::keys::{KeySet, Origin};
use super::token::{Refusal, TokenRules, Unverified, Verified};

const SECRET: &[u8; 64] = b"a secret of the target's own, of 64 bytes, which HS512 asks for.";

/// The time at which tokens are verified.
const NOW: u64 = 1_700_000_000;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "orders";

/// The token of RFC 8037, appendix A.4, whose payload is no claims; with its key.
const ED25519_KEY: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// Its private part, of appendix A.1.
const ED25519_SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

/// The public keys of RFC 7515, appendixes A.2 and A.3.
const RSA_KEY: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const P256_KEY: (&str, &str) = (
    "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
);

static RULES: LazyLock<TokenRules> = LazyLock::new(|| TokenRules {
    algorithms: Algorithm::ALL.to_vec(),
    issuers: vec![ISSUER.to_owned()],
    audiences: vec![AUDIENCE.to_owned()],
    leeway: 60,
});

/// A key of every kind, all of which a token without `kid` may mean.
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let keys = json!({"keys": [
        {"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "kid": "h"},
        {"kty": "OKP", "crv": "Ed25519", "x": ED25519_KEY, "kid": "e"},
        {"kty": "EC", "crv": "P-256", "x": P256_KEY.0, "y": P256_KEY.1, "kid": "p"},
        {"kty": "RSA", "n": RSA_KEY, "e": "AQAB", "kid": "r"},
    ]});
    KeySet::of_json(keys.to_string().as_bytes(), &Algorithm::ALL, Origin::File).expect("keys")
});

/// Names of an algorithm, the `kid` of a key, and how it signs.
type Signer = (&'static [&'static str], &'static str, fn(&[u8]) -> Vec<u8>);

/// Those who sign here.
const SIGNERS: [Signer; 2] = [
    (&["HS256"], "h", |message| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        hmac::sign(&key, message).as_ref().to_vec()
    }),
    (&["EdDSA", "Ed25519"], "e", |message| {
        let [seed, public] =
            [ED25519_SEED, ED25519_KEY].map(|text| URL_SAFE_NO_PAD.decode(text).expect("base64url"));
        let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public).expect("a pair");
        pair.sign(message).as_ref().to_vec()
    }),
];

fn verify(token: &str) -> Result<Verified, Refusal> {
    Unverified::parse(token, &RULES)?.verify(&KEYS, &RULES, NOW)
}

/// No token that was not signed by one of the keys is verified, nor is one that was changed after that; of signed ones only
/// those whose claims are as the rules say.
///
/// Input of two lines is a header and a payload, which are signed here: by HS256 and by EdDSA, because the other keys have no
/// private part here. All other input is a token.
pub(crate) fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some((header, payload)) = text.split_once('\n') else {
        assert_eq!(verify(text).ok(), None, "nobody has signed it");
        return;
    };
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    for (algorithms, kid, sign) in SIGNERS {
        let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
        check(
            (header, payload),
            &format!("{signed}.{signature}"),
            (algorithms, kid),
        );
    }
}

/// Checks a token that was signed by a key under one of these names, if it is verified.
fn check((header, payload): (&str, &str), token: &str, (algorithms, kid): (&[&str], &str)) {
    let Ok(verified) = verify(token) else {
        return;
    };
    // Whatever the parser thinks of them, these are what any other parser finds.
    let header: Map<String, Value> = serde_json::from_str(header).expect("an object");
    let claims: Map<String, Value> = serde_json::from_str(payload).expect("an object");
    let algorithm = header["alg"].as_str().expect("a name");
    assert!(algorithms.contains(&algorithm), "{algorithm} was not used");
    assert!(!header.contains_key("crit"));
    assert!(header.get("kid").is_none_or(|named| named == kid));
    assert_eq!(claims, verified.claims);
    assert_eq!(claims["iss"], ISSUER);
    let audience = &claims["aud"];
    let mut audiences = audience.as_array().into_iter().flatten();
    assert!(audience == AUDIENCE || audiences.any(|audience| audience == AUDIENCE));
    assert!(claims["exp"].as_f64().expect("a number") > (NOW - RULES.leeway) as f64);
    let begins = claims.get("nbf").map(|nbf| nbf.as_f64().expect("a number"));
    assert!(begins.is_none_or(|begins| begins < (NOW + RULES.leeway + 1) as f64));
    // Any changed character, at a place that differs from input to input.
    let mut changed = token.as_bytes().to_vec();
    let place = payload.len() * 31 % changed.len();
    for byte in [b'A', b'_', b'.', b'='] {
        let before = std::mem::replace(&mut changed[place], byte);
        if before != byte {
            let token = std::str::from_utf8(&changed).expect("ASCII");
            assert_eq!(verify(token).ok(), None, "changed at {place}");
        }
        changed[place] = before;
    }
}

/// Any text is a set of usable keys or an error that does not show it; a URL supplies no secrets, and no key accepts a
/// signature of zeros. The first byte says where the keys come from.
pub(crate) fn keys(data: &[u8]) {
    let Some((&source, text)) = data.split_first() else {
        return;
    };
    let algorithms = match source % 4 {
        0 => &[Algorithm::Hs256][..],
        1 => &[Algorithm::Rs256, Algorithm::Es256],
        _ => &Algorithm::ALL,
    };
    let (parsed, is_url) = match source / 4 % 3 {
        0 => (KeySet::of_file(text, algorithms), false),
        1 => (KeySet::of_json(text, algorithms, Origin::File), false),
        _ => (KeySet::of_json(text, algorithms, Origin::Url), true),
    };
    let Ok(keys) = parsed else {
        return;
    };
    assert!((1..=64).contains(&keys.len()));
    for algorithm in Algorithm::ALL {
        for key in keys.candidates(None, algorithm) {
            assert!(
                algorithms
                    .iter()
                    .any(|pinned| pinned.key_kind() == algorithm.key_kind())
            );
            assert!(!is_url || !algorithm.is_symmetric(), "a secret that is public");
            assert!(keys.has(key.id));
            for length in [0, 32, 64, 256] {
                assert!(!key.material.verifies(algorithm, b"message", &vec![0; length]));
            }
        }
    }
}
