//! Makes tokens with every algorithm.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rooms_core::{JwtAlgorithm, JwtConfigError, JwtKey};
use serde_json::{Value, json};

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const RSA: &str = include_str!("../keys/rsa.pub.pem");
pub(crate) const P256: &str = include_str!("../keys/p256.pub.pem");
pub(crate) const P384: &str = include_str!("../keys/p384.pub.pem");
pub(crate) const ED25519: &str = include_str!("../keys/ed25519.pub.pem");

pub(crate) const P521: &str = include_str!("../keys/p521.pub.pem");

/// `{"alg":"ES512"}`, `{"sub":"5","exp":4000000000}`, signed by `openssl`, as `jsonwebtoken` can't.
pub(crate) const ES512: &str = "eyJhbGciOiJFUzUxMiJ9.eyJzdWIiOiI1IiwiZXhwIjo0MDAwMDAwMDAwfQ.AZ7sA5Tai1nC_fm3UA9WICNZorhzpFsP9N8a\
    ku46s7b55Ml8QyPgui2AJ6vsJeasC_9_a98-PJtB2xvgWEmZcdAvALnqnDkEvv6ZV56Kt1gMCWuUfDbwJyI3HfSRgvJx-HS6UFUwT1o3ud7HxIM1kV3tf5ckMjfJ7X-gFHIntPOo2HtR";

pub(crate) const ALL: [(JwtAlgorithm, Algorithm); 12] = [
    (JwtAlgorithm::HS256, Algorithm::HS256),
    (JwtAlgorithm::HS384, Algorithm::HS384),
    (JwtAlgorithm::HS512, Algorithm::HS512),
    (JwtAlgorithm::RS256, Algorithm::RS256),
    (JwtAlgorithm::RS384, Algorithm::RS384),
    (JwtAlgorithm::RS512, Algorithm::RS512),
    (JwtAlgorithm::PS256, Algorithm::PS256),
    (JwtAlgorithm::PS384, Algorithm::PS384),
    (JwtAlgorithm::PS512, Algorithm::PS512),
    (JwtAlgorithm::ES256, Algorithm::ES256),
    (JwtAlgorithm::ES384, Algorithm::ES384),
    (JwtAlgorithm::EdDSA, Algorithm::EdDSA),
];

/// The public key of the tests for an algorithm, as PEM; `None` where it is a secret.
pub(crate) fn public(algorithm: JwtAlgorithm) -> Option<&'static str> {
    match algorithm {
        JwtAlgorithm::ES256 => Some(P256),
        JwtAlgorithm::ES384 => Some(P384),
        JwtAlgorithm::EdDSA => Some(ED25519),
        JwtAlgorithm::HS256 | JwtAlgorithm::HS384 | JwtAlgorithm::HS512 => None,
        _ => Some(RSA),
    }
}

pub(crate) fn key(algorithm: JwtAlgorithm) -> Result<JwtKey, JwtConfigError> {
    match public(algorithm) {
        Some(pem) => JwtKey::pem(algorithm, pem),
        None => JwtKey::secret(algorithm, SECRET),
    }
}

/// The bytes inside of a PEM.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(base64).unwrap()
}

fn private(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => EncodingKey::from_secret(SECRET.as_bytes()),
        Algorithm::ES256 => EncodingKey::from_ec_der(&der(include_str!("../keys/p256.pem"))),
        Algorithm::ES384 => EncodingKey::from_ec_der(&der(include_str!("../keys/p384.pem"))),
        Algorithm::EdDSA => EncodingKey::from_ed_der(&der(include_str!("../keys/ed25519.pem"))),
        _ => EncodingKey::from_rsa_der(&der(include_str!("../keys/rsa.pem"))),
    }
}

/// Signs with a key of its own choice, so that the header may say another algorithm.
pub(crate) fn sign_with(key: &EncodingKey, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
    // The pure one where there are both: then one checks what the other signed.
    #[cfg(feature = "jwt-rust-crypto")]
    let provider = &crypto::rust_crypto::DEFAULT_PROVIDER;
    #[cfg(not(feature = "jwt-rust-crypto"))]
    let provider = &crypto::aws_lc::DEFAULT_PROVIDER;
    let encode = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = (provider.signer_factory)(&algorithm, key).unwrap().try_sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub(crate) fn sign(algorithm: Algorithm, header: &Value, claims: &Value) -> String {
    sign_with(&private(algorithm), algorithm, header, claims)
}

/// A token of user 5 that is good for long.
pub(crate) fn good(algorithm: (JwtAlgorithm, Algorithm), kid: Option<&str>) -> String {
    let mut header = json!({"alg": algorithm.0.name()});
    if let Some(kid) = kid {
        header["kid"] = json!(kid);
    }
    sign(algorithm.1, &header, &json!({"sub": "5", "exp": 4_000_000_000_u64}))
}

/// A public key of the tests as a JWK without `alg`.
pub(crate) fn jwk(algorithm: JwtAlgorithm, kid: &str) -> Value {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let der = der(public(algorithm).unwrap());
    match algorithm {
        JwtAlgorithm::ES256 => {
            let point = &der[der.len() - 64..];
            json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": part(&point[..32]), "y": part(&point[32..])})
        }
        JwtAlgorithm::ES384 => {
            let point = &der[der.len() - 96..];
            json!({"kty": "EC", "crv": "P-384", "kid": kid, "x": part(&point[..48]), "y": part(&point[48..])})
        }
        JwtAlgorithm::EdDSA => {
            json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": part(&der[der.len() - 32..])})
        }
        // 2048 bits, and behind them the exponent 65537 as an INTEGER of five bytes.
        _ => {
            let modulus = &der[der.len() - 5 - 256..der.len() - 5];
            json!({"kty": "RSA", "kid": kid, "n": part(modulus), "e": "AQAB"})
        }
    }
}
