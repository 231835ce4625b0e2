//! Who sent it: somebody who knows the webhook's secret.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::Secret;

/// Why nothing proves that GitHub sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    #[error("the request has no X-Hub-Signature-256")]
    Missing,
    #[error("X-Hub-Signature-256 is not `sha256=` and 64 hexadecimal digits")]
    Malformed,
    #[error("the signature does not fit the body: it was made with another secret, or the body was changed")]
    Wrong,
}

/// Checks the value of `X-Hub-Signature-256` over the body as it came. It may have been made with any of
/// the secrets: while one is changed there are two. Takes the same time whichever fits, and however much
/// of a signature is right.
pub fn verify(secrets: &[Secret], signature: Option<&[u8]>, body: &[u8]) -> Result<(), Unsigned> {
    let digits = signature.ok_or(Unsigned::Missing)?.strip_prefix(b"sha256=").ok_or(Unsigned::Malformed)?;
    let expected = digest(digits).ok_or(Unsigned::Malformed)?;
    let mut signed = false;
    for secret in secrets {
        // A key of any length will do (RFC 2104).
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else { continue };
        mac.update(body);
        signed |= mac.verify_slice(&expected).is_ok();
    }
    if signed { Ok(()) } else { Err(Unsigned::Wrong) }
}

fn digest(digits: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits: &[u8; 64] = digits.try_into().ok()?;
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(bytes)
}
