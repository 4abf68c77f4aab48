//! Tokens are checked whatever another crate has done to the cryptography of `jsonwebtoken` before.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rooms_core::{AuthError, JwtAuthenticator};

/// One test in a file of its own: what it does holds for its process.
#[tokio::test]
async fn a_provider_that_panics_for_the_rest_of_the_process_is_not_ours() {
    // The first use settles it for ever; where a build has both cryptographies, on one that panics.
    let first = std::panic::catch_unwind(|| {
        crypto::sign(b"text", &EncodingKey::from_secret(b"another crate's secret"), Algorithm::HS256).is_ok()
    });
    assert_eq!(first.is_err(), cfg!(all(feature = "jwt-rust-crypto", feature = "jwt-aws-lc")));
    let tokens = JwtAuthenticator::hs256("a secret of at least 32 bytes....").unwrap();
    // `{"alg":"HS256"}`, `{"sub":"5","exp":4000000000}`.
    let token =
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI1IiwiZXhwIjo0MDAwMDAwMDAwfQ.mO8RwL0D78ZAiqXseoZyEKe-zFFG_f2wEHbTj2aEL90";
    assert_eq!(tokens.verify(token).await.unwrap().user(), "5");
    let broken = token.replace(".ey", ".eY");
    assert_eq!(tokens.verify(&broken).await, Err(AuthError::Signature));
}
