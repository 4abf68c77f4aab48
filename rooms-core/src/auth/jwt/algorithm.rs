//! The signature algorithms, and what checks a signature.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};

#[cfg(any(feature = "jwt-rust-crypto", feature = "jwt-aws-lc"))]
use super::es512;

/// A signature algorithm of JWTs (RFC 7518 section 3.1, RFC 8037 section 3.1). A key has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256, and a secret of at least 32 bytes.
    HS256,
    /// HMAC with SHA-384, and a secret of at least 48 bytes.
    HS384,
    /// HMAC with SHA-512, and a secret of at least 64 bytes.
    HS512,
    /// RSA, PKCS #1 v1.5, with SHA-256: what most OpenID providers use.
    RS256,
    /// RSA, PKCS #1 v1.5, with SHA-384.
    RS384,
    /// RSA, PKCS #1 v1.5, with SHA-512.
    RS512,
    /// RSA-PSS with SHA-256.
    PS256,
    /// RSA-PSS with SHA-384.
    PS384,
    /// RSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512. It needs one of the features `jwt-rust-crypto` and `jwt-aws-lc`, as a provider that the
    /// application installs for `jsonwebtoken` can't have it.
    ES512,
    /// Ed25519.
    EdDSA,
}

/// What sort of key an algorithm needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyType {
    Secret { least: usize },
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

impl KeyType {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Secret { .. } => "a secret",
            Self::Rsa => "an RSA key",
            Self::P256 => "an EC key on P-256",
            Self::P384 => "an EC key on P-384",
            Self::P521 => "an EC key on P-521",
            Self::Ed25519 => "an Ed25519 key",
        }
    }
}

impl JwtAlgorithm {
    const ALL: [Self; 13] = [
        Self::HS256,
        Self::HS384,
        Self::HS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
    ];

    /// Its name in a token's `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of exactly this name; `none` is not one.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(super) const fn key_type(self) -> KeyType {
        match self {
            // RFC 7518 section 3.2: a secret as long as the hash, at least.
            Self::HS256 => KeyType::Secret { least: super::MIN_SECRET },
            Self::HS384 => KeyType::Secret { least: 48 },
            Self::HS512 => KeyType::Secret { least: 64 },
            Self::RS256 | Self::RS384 | Self::RS512 | Self::PS256 | Self::PS384 | Self::PS512 => KeyType::Rsa,
            Self::ES256 => KeyType::P256,
            Self::ES384 => KeyType::P384,
            Self::ES512 => KeyType::P521,
            Self::EdDSA => KeyType::Ed25519,
        }
    }

    /// `None` for the one that it does not have.
    const fn of_jsonwebtoken(self) -> Option<Algorithm> {
        Some(match self {
            Self::HS256 => Algorithm::HS256,
            Self::HS384 => Algorithm::HS384,
            Self::HS512 => Algorithm::HS512,
            Self::RS256 => Algorithm::RS256,
            Self::RS384 => Algorithm::RS384,
            Self::RS512 => Algorithm::RS512,
            Self::PS256 => Algorithm::PS256,
            Self::PS384 => Algorithm::PS384,
            Self::PS512 => Algorithm::PS512,
            Self::ES256 => Algorithm::ES256,
            Self::ES384 => Algorithm::ES384,
            Self::ES512 => return None,
            Self::EdDSA => Algorithm::EdDSA,
        })
    }

    /// Whether a signature, in base64url, is right; `None` where the cryptography does not take the key.
    ///
    /// The provider is named here and not installed for the process. jsonwebtoken settles on one for ever at its first use:
    /// where a build has both, and another crate used it first, that is one that panics.
    #[cfg(any(feature = "jwt-rust-crypto", feature = "jwt-aws-lc"))]
    pub(super) fn verify(self, key: &DecodingKey, signed: &[u8], signature: &str) -> Option<bool> {
        #[cfg(feature = "jwt-aws-lc")]
        let provider = &crypto::aws_lc::DEFAULT_PROVIDER;
        #[cfg(not(feature = "jwt-aws-lc"))]
        let provider = &crypto::rust_crypto::DEFAULT_PROVIDER;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok();
        let Some(algorithm) = self.of_jsonwebtoken() else {
            return es512::verify(key.try_get_as_bytes().ok()?, signed, &signature.unwrap_or_default());
        };
        let verifier = (provider.verifier_factory)(&algorithm, key).ok()?;
        Some(signature.is_some_and(|signature| verifier.verify(signed, &signature).is_ok()))
    }

    /// Without one of our features: the provider that the application installed for the process.
    #[cfg(not(any(feature = "jwt-rust-crypto", feature = "jwt-aws-lc")))]
    pub(super) fn verify(self, key: &DecodingKey, signed: &[u8], signature: &str) -> Option<bool> {
        // jsonwebtoken's `Err` for a signature that is not base64url is no fault of the key's.
        if URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Some(false);
        }
        crypto::verify(signature, signed, key, self.of_jsonwebtoken()?).ok()
    }
}

/// Chooses jsonwebtoken's cryptography for the process; where the application chose before, its choice stays. For the
/// application's own calls, such as `encode`, which panic where a build has both cryptographies and none is chosen.
pub(super) fn install_cryptography() {
    #[cfg(feature = "jwt-aws-lc")]
    let _ = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    #[cfg(all(feature = "jwt-rust-crypto", not(feature = "jwt-aws-lc")))]
    let _ = crypto::rust_crypto::DEFAULT_PROVIDER.install_default();
}

impl std::fmt::Display for JwtAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
