//! Keys to verify tokens with: JWK and JWKS (RFC 7517), public keys in PEM, and secrets.
//!
//! A key has one kind, and is used with the pinned algorithms of that kind alone. Errors never contain a key.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, KeyKind};
use super::der::{self, PublicKey};
use super::strict;
use super::verify::Material;

/// Most keys of a set: providers publish two or three.
pub(crate) const MAX_KEYS: usize = 64;

/// Most keys that are tried with one token: a token without `kid` costs a verification per key.
const MAX_TRIES: usize = 8;

/// The sizes of RSA keys, in bytes: from 2048 (RFC 7518, section 3.3) to 8192 bits.
const RSA_SIZES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Where keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A file, which may hold a secret.
    File,
    /// A URL, where a secret would be none.
    Url,
}

/// Identifies a key by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 32]);

/// A key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct VerificationKey {
    kid: Option<String>,
    /// The only algorithm that it is for, where it says so.
    algorithm: Option<Algorithm>,
    kind: KeyKind,
    pub(super) id: KeyId,
    pub(super) material: Material,
}

/// Keys to verify tokens with.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySet(Vec<VerificationKey>);

// Without the keys.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({})", self.0.len())
    }
}

impl VerificationKey {
    fn new(kid: Option<String>, key_kind: KeyKind, material: Material) -> Self {
        Self {
            kid,
            algorithm: None,
            kind: key_kind,
            id: KeyId(material.fingerprint()),
            material,
        }
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.kind == algorithm.key_kind() && self.algorithm.is_none_or(|own| own == algorithm)
    }
}

impl KeySet {
    /// The keys of a file for these algorithms: PEM, a JWK, a JWKS, or, for HS, the secret.
    ///
    /// # Errors
    /// The fault, and the remedy.
    pub fn of_file(content: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        let text = content.trim_ascii();
        if text.starts_with(b"{") {
            return Self::of_json(text, algorithms, Origin::File);
        }
        let is_pem = memchr::memmem::find(text, b"-----BEGIN ").is_some();
        if algorithms.iter().copied().any(Algorithm::is_symmetric) {
            if is_pem {
                return Err(
                    "holds a key in PEM, which may be public, so that anybody could sign by it; HS needs a secret"
                        .to_owned(),
                );
            }
            let secret = content.strip_suffix(b"\n").unwrap_or(content);
            let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
            let key = VerificationKey::new(None, KeyKind::Secret, Material::Secret(secret.to_vec()));
            return Self(vec![key]).checked(algorithms);
        }
        if !is_pem {
            return Err(
                "holds neither a public key in PEM nor a JWK or JWKS; convert it (openssl pkey -pubout)"
                    .to_owned(),
            );
        }
        Self(of_pem(text)?).checked(algorithms)
    }

    /// The keys of a JWK or JWKS for these algorithms. Keys that cannot be used are passed over (RFC 7517, section 5).
    ///
    /// # Errors
    /// The fault.
    pub fn of_json(text: &[u8], algorithms: &[Algorithm], origin: Origin) -> Result<Self, String> {
        let object = strict::object(text).ok_or("holds no JSON object, or one with a member twice")?;
        let keys = match object.get("keys") {
            Some(Value::Array(keys)) if keys.len() > MAX_KEYS => {
                return Err(format!("holds more than {MAX_KEYS} keys"));
            }
            Some(Value::Array(keys)) => keys
                .iter()
                .filter_map(Value::as_object)
                .filter_map(of_jwk)
                .collect(),
            Some(_) => return Err("has \"keys\" that is not an array".to_owned()),
            None => of_jwk(&object).into_iter().collect(),
        };
        let is_allowed = |key: &VerificationKey| origin == Origin::File || key.kind != KeyKind::Secret;
        Self(Vec::into_iter(keys).filter(is_allowed).collect()).checked(algorithms)
    }

    /// Only the keys that one of the algorithms can use.
    fn checked(mut self, algorithms: &[Algorithm]) -> Result<Self, String> {
        for key in &self.0 {
            let least = algorithms.iter().filter(|algorithm| key.is_for(**algorithm));
            let least = least.map(|algorithm| algorithm.least_secret()).max();
            if let (Material::Secret(secret), Some(least)) = (&key.material, least)
                && secret.len() < least
            {
                return Err(format!(
                    "holds a secret of {} bytes, which can be guessed; these algorithms need at least {least} (openssl rand \
                     -base64 {least})",
                    secret.len()
                ));
            }
        }
        self.0
            .retain(|key| algorithms.iter().any(|algorithm| key.is_for(*algorithm)));
        if self.0.is_empty() {
            let named: Vec<_> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
            return Err(format!(
                "holds no key that can be used with {}; keys of RSA have 2048 to 8192 bits",
                named.join(", ")
            ));
        }
        Ok(self)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key is among them.
    pub fn has(&self, id: KeyId) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// Whether one of them is for an algorithm.
    pub(crate) fn has_for(&self, algorithm: Algorithm) -> bool {
        self.0.iter().any(|key| key.is_for(algorithm))
    }

    /// The keys that may have signed a token: those of its `kid`, and those without one; without a `kid` all.
    pub(super) fn candidates(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &VerificationKey> {
        let is_meant = move |key: &&VerificationKey| match (kid, &key.kid) {
            (Some(kid), Some(own)) => kid == own,
            _ => true,
        };
        let fitting = self.0.iter().filter(is_meant);
        fitting.filter(move |key| key.is_for(algorithm)).take(MAX_TRIES)
    }
}

/// The key of a JWK, unless it is for something else, or malformed.
fn of_jwk(jwk: &Map<String, Value>) -> Option<VerificationKey> {
    let text = |name: &str| jwk.get(name)?.as_str();
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let is_to_verify = jwk.get("use").is_none_or(|usage| usage == "sig")
        && jwk.get("key_ops").is_none_or(|operations| {
            operations
                .as_array()
                .is_some_and(|all| all.iter().any(|operation| operation == "verify"))
        });
    if !is_to_verify {
        return None;
    }
    let (key_kind, material) = match (text("kty")?, text("crv")) {
        ("RSA", _) => (KeyKind::Rsa, rsa(&bytes("n")?, &bytes("e")?)?),
        ("EC", Some("P-256")) => (KeyKind::P256, point(&bytes("x")?, &bytes("y")?, 32)?),
        ("EC", Some("P-384")) => (KeyKind::P384, point(&bytes("x")?, &bytes("y")?, 48)?),
        ("OKP", Some("Ed25519")) => (
            KeyKind::Ed25519,
            Material::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
        ),
        ("oct", _) => (KeyKind::Secret, Material::Secret(bytes("k")?)),
        _ => return None,
    };
    let algorithm = match jwk.get("alg") {
        None => None,
        // A key for an unknown algorithm is for no known one.
        Some(name) => Some(name.as_str()?.parse().ok()?),
    };
    let kid = match jwk.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str()?.to_owned()),
    };
    Some(VerificationKey {
        algorithm,
        ..VerificationKey::new(kid, key_kind, material)
    })
}

fn rsa(n: &[u8], e: &[u8]) -> Option<Material> {
    let trimmed = |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().skip_while(|byte| *byte == 0).collect() };
    let (n, e) = (trimmed(n), trimmed(e));
    RSA_SIZES.contains(&n.len()).then_some(Material::Rsa { n, e })
}

fn point(x: &[u8], y: &[u8], size: usize) -> Option<Material> {
    // SEC 1, section 2.3.3: not compressed.
    let is_whole = x.len() == size && y.len() == size;
    is_whole.then(|| Material::Point([&[4], x, y].concat()))
}

/// All public keys of a text in PEM (RFC 7468).
fn of_pem(text: &[u8]) -> Result<Vec<VerificationKey>, String> {
    let text = String::from_utf8_lossy(text);
    let mut keys = Vec::new();
    for block in text.split("-----BEGIN ").skip(1) {
        let (label, rest) = block.split_once("-----").unwrap_or_default();
        let body = rest.split("-----END ").next().unwrap_or_default();
        let body: String = body.split_whitespace().collect();
        let parse: fn(&[u8]) -> Option<PublicKey<'_>> = match label {
            "PUBLIC KEY" => der::public_key,
            "RSA PUBLIC KEY" => der::rsa_public_key,
            "CERTIFICATE" => {
                return Err("holds a certificate; take its key (openssl x509 -pubkey -noout)".to_owned());
            }
            label if label.ends_with("PRIVATE KEY") => {
                return Err(
                    "holds a private key, which only the issuer should have; name the public one (openssl pkey -pubout)"
                        .to_owned(),
                );
            }
            _ => continue,
        };
        let der = STANDARD
            .decode(&body)
            .map_err(|_| "holds PEM with invalid base64")?;
        let key = parse(&der).and_then(|key| {
            Some(match key {
                PublicKey::Rsa(n, e) => (KeyKind::Rsa, rsa(n, e)?),
                PublicKey::P256(point) => (KeyKind::P256, Material::Point(whole(point, 65)?)),
                PublicKey::P384(point) => (KeyKind::P384, Material::Point(whole(point, 97)?)),
                PublicKey::Ed25519(key) => (KeyKind::Ed25519, Material::Ed25519(whole(key, 32)?)),
            })
        });
        if let Some((kind, material)) = key {
            keys.push(VerificationKey::new(None, kind, material));
        }
        if keys.len() > MAX_KEYS {
            return Err(format!("holds more than {MAX_KEYS} keys"));
        }
    }
    Ok(keys)
}

fn whole(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    (bytes.len() == size).then(|| bytes.to_vec())
}
