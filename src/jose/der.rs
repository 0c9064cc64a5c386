//! Public keys in DER: `SubjectPublicKeyInfo` (RFC 5280, section 4.1) and `RSAPublicKey` (RFC 8017, appendix A.1.1), as
//! far as the keys of signatures need it.

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.132.0.34
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// 1.3.101.112
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// A public key.
pub(super) enum PublicKey<'a> {
    /// Modulus and exponent, without leading zeros.
    Rsa(&'a [u8], &'a [u8]),
    /// A point on P-256, not compressed.
    P256(&'a [u8]),
    /// A point on P-384, not compressed.
    P384(&'a [u8]),
    /// 32 bytes.
    Ed25519(&'a [u8]),
}

/// Takes one value of this type from the start; returns its content.
fn take<'a>(from: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (first, rest) = from.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        // No key is that long.
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *from = rest;
    (*first == tag).then_some(content)
}

/// The only value in `content`.
fn only(mut content: &[u8], tag: u8) -> Option<&[u8]> {
    let value = take(&mut content, tag)?;
    content.is_empty().then_some(value)
}

/// A number that is not negative, without leading zeros.
fn number<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let bytes = take(from, INTEGER)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..)
}

/// The key of an `RSAPublicKey`.
pub(super) fn rsa_public_key(der: &[u8]) -> Option<PublicKey<'_>> {
    let mut key = only(der, SEQUENCE)?;
    let (modulus, exponent) = (number(&mut key)?, number(&mut key)?);
    key.is_empty().then_some(PublicKey::Rsa(modulus, exponent))
}

/// The key of a `SubjectPublicKeyInfo`; `None` where it is of another kind.
pub(super) fn public_key(der: &[u8]) -> Option<PublicKey<'_>> {
    let mut info = only(der, SEQUENCE)?;
    let mut algorithm = take(&mut info, SEQUENCE)?;
    let kind = take(&mut algorithm, OBJECT_IDENTIFIER)?;
    // The number of unused bits is first.
    let (0, key) = only(info, BIT_STRING)?
        .split_first()
        .map(|(unused, key)| (*unused, key))?
    else {
        return None;
    };
    match kind {
        RSA => rsa_public_key(key),
        EC => match only(algorithm, OBJECT_IDENTIFIER)? {
            P256 => Some(PublicKey::P256(key)),
            P384 => Some(PublicKey::P384(key)),
            _ => None,
        },
        ED25519 => Some(PublicKey::Ed25519(key)),
        _ => None,
    }
}
