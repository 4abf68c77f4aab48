//! ES512 (RFC 7518 section 3.4), which the crate `jsonwebtoken` does not have. The cryptographies that it uses do.

/// Whether a signature is right; `None` where the key is no point on P-521.
#[cfg(feature = "jwt-aws-lc")]
pub(super) fn verify(point: &[u8], signed: &[u8], signature: &[u8]) -> Option<bool> {
    use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, ParsedPublicKey};
    let key = ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point).ok()?;
    Some(key.verify_sig(signed, signature).is_ok())
}

/// Whether a signature is right; `None` where the key is no point on P-521.
#[cfg(not(feature = "jwt-aws-lc"))]
pub(super) fn verify(point: &[u8], signed: &[u8], signature: &[u8]) -> Option<bool> {
    use p521::ecdsa::{Signature, VerifyingKey, signature::Verifier as _};
    let key = VerifyingKey::from_sec1_bytes(point).ok()?;
    Some(Signature::from_slice(signature).is_ok_and(|signature| key.verify(signed, &signature).is_ok()))
}
