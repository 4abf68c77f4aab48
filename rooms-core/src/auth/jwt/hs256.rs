//! HMAC with SHA-256 for many tokens and one secret.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// A secret that is hashed already, where jsonwebtoken hashes it anew with each token: two blocks less of six or seven. By
/// the same crates that jsonwebtoken uses.
#[derive(Clone)]
pub(super) struct Keyed(Hmac<Sha256>);

impl Keyed {
    pub(super) fn new(secret: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(secret).ok().map(Self)
    }

    /// Whether a signature, in base64url, is right; compared in constant time.
    pub(super) fn verifies(&self, signed: &[u8], signature: &str) -> bool {
        // Some bytes more, as the space that base64 asks for is estimated.
        let mut space = [0; 48];
        let of_token = URL_SAFE_NO_PAD.decode_slice(signature, &mut space).ok().and_then(|length| space.get(..length));
        of_token.is_some_and(|of_token| self.0.clone().chain_update(signed).verify_slice(of_token).is_ok())
    }
}
