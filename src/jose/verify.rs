//! Verification of one signature with one key, by ring.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{digest, hmac};

use super::algorithm::Algorithm;

/// The content of a key.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Material {
    /// Modulus and exponent, big endian, without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A point on P-256 (65 bytes) or P-384 (97 bytes), not compressed.
    Point(Vec<u8>),
    /// 32 bytes.
    Ed25519(Vec<u8>),
    /// A secret.
    Secret(Vec<u8>),
}

impl Material {
    /// Identifies the key, and does not reveal a secret of enough bytes.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let (kind, parts): (u8, [&[u8]; 2]) = match self {
            Self::Rsa { n, e } => (0, [n, e]),
            Self::Point(point) => (1, [point, &[]]),
            Self::Ed25519(key) => (2, [key, &[]]),
            Self::Secret(secret) => (3, [secret, &[]]),
        };
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&[kind]);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    /// Whether the signature of a message is this key's by this algorithm. False for a key of another kind.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Rsa { n, e }, algorithm) => rsa(algorithm).is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }
                    .verify(parameters, message, signature)
                    .is_ok()
            }),
            (Self::Point(point), Algorithm::Es256) => {
                plain(&ECDSA_P256_SHA256_FIXED, point, message, signature)
            }
            (Self::Point(point), Algorithm::Es384) => {
                plain(&ECDSA_P384_SHA384_FIXED, point, message, signature)
            }
            (Self::Ed25519(key), Algorithm::EdDsa | Algorithm::Ed25519) => {
                plain(&ED25519, key, message, signature)
            }
            (Self::Secret(secret), algorithm) => hash(algorithm)
                .is_some_and(|hash| hmac::verify(&hmac::Key::new(hash, secret), message, signature).is_ok()),
            _ => false,
        }
    }
}

fn plain(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .is_ok()
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn hash(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    Some(match algorithm {
        Algorithm::Hs256 => hmac::HMAC_SHA256,
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        _ => return None,
    })
}
