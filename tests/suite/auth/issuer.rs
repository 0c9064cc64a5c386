//! An issuer of tokens that signs whatever a test asks for, by OpenSSL: other code than that which verifies.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Signer};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Who may sign, and by which algorithm.
pub struct Issuer {
    pub algorithm: &'static str,
    pub kid: Option<String>,
    pub key: PKey<Private>,
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

/// The claims of a client whose token lasts for an hour.
pub fn claims(sub: &str) -> Value {
    json!({ "sub": sub, "exp": now() + 3600 })
}

fn on_curve(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).expect("a curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
}

impl Issuer {
    /// With a key of its own.
    pub fn new(algorithm: &'static str) -> Issuer {
        let key = match algorithm {
            "ES256" => on_curve(Nid::X9_62_PRIME256V1),
            "ES384" => on_curve(Nid::SECP384R1),
            "EdDSA" | "Ed25519" => PKey::generate_ed25519().expect("a key"),
            name if name.starts_with("HS") => {
                PKey::hmac(&[name.as_bytes(), &[7; 64]].concat()).expect("a secret")
            }
            _ => PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key"),
        };
        Issuer {
            algorithm,
            kid: None,
            key,
        }
    }

    pub fn kid(mut self, kid: &str) -> Issuer {
        self.kid = Some(kid.to_owned());
        self
    }

    /// The secret of an HS issuer.
    pub fn secret(&self) -> Vec<u8> {
        [self.algorithm.as_bytes(), &[7; 64]].concat()
    }

    /// The public key in PEM.
    pub fn pem(&self) -> String {
        String::from_utf8(self.key.public_key_to_pem().expect("a public key")).expect("ASCII")
    }

    /// The public key as a JWK.
    pub fn jwk(&self) -> Value {
        let mut jwk = if let Ok(rsa) = self.key.rsa() {
            json!({ "kty": "RSA", "n": base64(rsa.n().to_vec()), "e": base64(rsa.e().to_vec()) })
        } else if let Ok(ec) = self.key.ec_key() {
            let (name, size) = if self.algorithm == "ES256" {
                ("P-256", 32)
            } else {
                ("P-384", 48)
            };
            let mut context = BigNumContext::new().expect("OpenSSL");
            let (mut x, mut y) = (BigNum::new().expect("zero"), BigNum::new().expect("zero"));
            ec.public_key()
                .affine_coordinates(ec.group(), &mut x, &mut y, &mut context)
                .expect("coordinates");
            let whole = |number: &BigNum| base64(number.to_vec_padded(size).expect("it fits"));
            json!({ "kty": "EC", "crv": name, "x": whole(&x), "y": whole(&y) })
        } else if self.algorithm.starts_with("HS") {
            json!({ "kty": "oct", "k": base64(self.secret()) })
        } else {
            json!({ "kty": "OKP", "crv": "Ed25519", "x": base64(self.key.raw_public_key().expect("32 bytes")) })
        };
        if let Some(kid) = &self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        let mut header = json!({ "alg": self.algorithm });
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        self.sign(&header.to_string(), &claims.to_string())
    }

    /// A token of this header and payload, signed by the issuer's own algorithm whatever they say.
    pub fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", base64(header), base64(payload));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", base64(signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let hash = match self.algorithm.get(2..) {
            Some("384") => MessageDigest::sha384(),
            Some("512") => MessageDigest::sha512(),
            _ => MessageDigest::sha256(),
        };
        if self.algorithm.starts_with("Ed") {
            let mut signer = Signer::new_without_digest(&self.key).expect("a signer");
            return signer.sign_oneshot_to_vec(message).expect("signed");
        }
        let mut signer = Signer::new(hash, &self.key).expect("a signer");
        if self.algorithm.starts_with("PS") {
            signer.set_rsa_padding(Padding::PKCS1_PSS).expect("PSS");
            signer
                .set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)
                .expect("a length");
        }
        let signature = signer.sign_oneshot_to_vec(message).expect("signed");
        if !self.algorithm.starts_with("ES") {
            return signature;
        }
        // JWS has both numbers at their full size (RFC 7518, section 3.4).
        let size = if self.algorithm == "ES256" { 32 } else { 48 };
        let signature = EcdsaSig::from_der(&signature).expect("two numbers");
        let whole = |number: &openssl::bn::BigNumRef| number.to_vec_padded(size).expect("it fits");
        [whole(signature.r()), whole(signature.s())].concat()
    }
}
