//! One key, and the one algorithm that it is for.

use std::fmt;

use jsonwebtoken::DecodingKey;
use spki::{
    Document, ObjectIdentifier, SubjectPublicKeyInfoRef,
    der::{Decode as _, Reader as _, SliceReader, asn1::UintRef},
};

use super::algorithm::{JwtAlgorithm, KeyType, install_cryptography};

/// The sizes of an RSA modulus, in bits: at least what RFC 7518 section 3.3 asks for, at most what both cryptographies take.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// The longest RSA exponent, in bytes. 4: everybody uses 65537, and a long one makes each check slow.
const RSA_EXPONENT: usize = 4;

// RFC 8017 appendix C, RFC 5480 section 2.1.1, RFC 8410 section 3.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key that tokens are checked with, and the one algorithm that it is for: a token that names another is refused.
///
/// Only public keys and shared secrets: whoever checks tokens has no use for a private key, and is given none.
///
/// ```
/// use rooms_core::{JwtAlgorithm, JwtAuthenticator, JwtKey};
///
/// const KEY: &str = "-----BEGIN PUBLIC KEY-----
/// MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
/// -----END PUBLIC KEY-----
/// ";
/// let tokens = JwtAuthenticator::new([JwtKey::pem(JwtAlgorithm::EdDSA, KEY)?]);
/// assert!(JwtKey::pem(JwtAlgorithm::ES256, KEY).is_err());
/// # let _ = tokens;
/// # Ok::<(), rooms_core::JwtConfigError>(())
/// ```
#[derive(Clone)]
pub struct JwtKey {
    algorithm: JwtAlgorithm,
    key: DecodingKey,
    #[cfg(all(feature = "jwt-rust-crypto", not(feature = "jwt-aws-lc")))]
    keyed: Option<Box<super::hs256::Keyed>>,
    id: Option<Box<str>>,
}

/// Why a key can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtConfigError {
    /// The secret is shorter than the hash, so it could be found by trying.
    #[error("the secret has {length} bytes, and {algorithm} needs at least {least} (RFC 7518 section 3.2)")]
    ShortSecret {
        /// The algorithm's name.
        algorithm: &'static str,
        /// The bytes there are.
        length: usize,
        /// The bytes there must be.
        least: usize,
    },
    /// The algorithm is for another sort of key.
    #[error("{algorithm} needs {needed}, and this is {found}")]
    OtherKey {
        /// The algorithm's name.
        algorithm: &'static str,
        /// The sort of key that it needs.
        needed: &'static str,
        /// The sort that was given.
        found: &'static str,
    },
    /// It can't be read as a public key.
    #[error(
        "this is no public key: PEM begins with `-----BEGIN PUBLIC KEY-----` (of a certificate it is what `openssl x509 \
         -pubkey -noout` prints), and DER is the same without base64"
    )]
    NotAKey,
    /// The RSA key is too short to be safe, or too long.
    #[error("the RSA key has {bits} bits, and 2048 to 4096 are taken, with an odd exponent from 3 to 4294967295")]
    RsaSize {
        /// The bits of its modulus.
        bits: usize,
    },
    /// The cryptography does not work: the build has none of jsonwebtoken's features, or the application installed a
    /// provider that does not know the algorithm.
    #[error("the JWT cryptography does not work: enable `jwt-rust-crypto` or `jwt-aws-lc`")]
    SelfTest,
}

impl JwtKey {
    /// A secret that is shared with whoever makes the tokens, for HS256, HS384 or HS512. Such a key can make tokens, too.
    ///
    /// # Errors
    /// [`JwtConfigError::ShortSecret`]; [`JwtConfigError::OtherKey`] for other algorithms.
    pub fn secret(algorithm: JwtAlgorithm, secret: impl AsRef<[u8]>) -> Result<Self, JwtConfigError> {
        let secret = secret.as_ref();
        let KeyType::Secret { least } = algorithm.key_type() else {
            return Err(other(algorithm, "a secret"));
        };
        if secret.len() < least {
            return Err(JwtConfigError::ShortSecret { algorithm: algorithm.name(), length: secret.len(), least });
        }
        Self::of(algorithm, DecodingKey::from_secret(secret)).keyed(secret).tested()
    }

    /// A public key in PEM: `-----BEGIN PUBLIC KEY-----`, or for RSA also `-----BEGIN RSA PUBLIC KEY-----`.
    ///
    /// # Errors
    /// [`JwtConfigError`], also for certificates and private keys.
    pub fn pem(algorithm: JwtAlgorithm, pem: impl AsRef<[u8]>) -> Result<Self, JwtConfigError> {
        let text = std::str::from_utf8(pem.as_ref()).map_err(|_| JwtConfigError::NotAKey)?;
        let (label, der) = Document::from_pem(text.trim()).map_err(|_| JwtConfigError::NotAKey)?;
        match label {
            "PUBLIC KEY" => Self::der(algorithm, der.as_bytes()),
            "RSA PUBLIC KEY" => Self::pkcs1(algorithm, der.as_bytes()),
            _ => Err(JwtConfigError::NotAKey),
        }
    }

    /// A public key in DER: a `SubjectPublicKeyInfo` (RFC 5280 section 4.1), which is what PEM has inside.
    ///
    /// # Errors
    /// [`JwtConfigError`].
    pub fn der(algorithm: JwtAlgorithm, der: impl AsRef<[u8]>) -> Result<Self, JwtConfigError> {
        let info = SubjectPublicKeyInfoRef::from_der(der.as_ref()).map_err(|_| JwtConfigError::NotAKey)?;
        let key = info.subject_public_key.as_bytes().ok_or(JwtConfigError::NotAKey)?;
        match info.algorithm.oid {
            RSA => Self::pkcs1(algorithm, key),
            EC => match info.algorithm.parameters_oid() {
                Ok(P256) => Self::point(algorithm, KeyType::P256, key),
                Ok(P384) => Self::point(algorithm, KeyType::P384, key),
                Ok(P521) => Self::point(algorithm, KeyType::P521, key),
                _ => Err(other(algorithm, "an EC key on another curve")),
            },
            ED25519 => Self::ed25519(algorithm, key),
            _ => Err(other(algorithm, "a key of another type")),
        }
    }

    /// Gives it an id: then it is for tokens with this `kid`, and for those that have none.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: Some(id.into().into_boxed_str()), ..self }
    }

    /// The algorithm that it is for.
    #[must_use]
    pub const fn algorithm(&self) -> JwtAlgorithm {
        self.algorithm
    }

    pub(super) fn has_id(&self, id: Option<&str>) -> bool {
        match (self.id.as_deref(), id) {
            (Some(own), Some(id)) => own == id,
            _ => true,
        }
    }

    const fn of(algorithm: JwtAlgorithm, key: DecodingKey) -> Self {
        Self {
            algorithm,
            key,
            #[cfg(all(feature = "jwt-rust-crypto", not(feature = "jwt-aws-lc")))]
            keyed: None,
            id: None,
        }
    }

    /// Where the cryptography lets it, with the secret hashed already, as most tokens are checked by it.
    #[cfg(all(feature = "jwt-rust-crypto", not(feature = "jwt-aws-lc")))]
    fn keyed(self, secret: &[u8]) -> Self {
        let keyed = (self.algorithm == JwtAlgorithm::HS256).then(|| super::hs256::Keyed::new(secret));
        Self { keyed: keyed.flatten().map(Box::new), ..self }
    }

    #[cfg(not(all(feature = "jwt-rust-crypto", not(feature = "jwt-aws-lc"))))]
    fn keyed(self, _: &[u8]) -> Self {
        self
    }

    pub(super) fn is_named(&self, id: &str) -> bool {
        self.id.as_deref() == Some(id)
    }

    pub(super) fn verifies(&self, signed: &[u8], signature: &str) -> bool {
        #[cfg(all(feature = "jwt-rust-crypto", not(feature = "jwt-aws-lc")))]
        if let Some(keyed) = &self.keyed {
            return keyed.verifies(signed, signature);
        }
        self.algorithm.verify(&self.key, signed, signature) == Some(true)
    }

    /// An RSA key as PKCS #1 has it (RFC 8017 appendix A.1.1).
    fn pkcs1(algorithm: JwtAlgorithm, der: &[u8]) -> Result<Self, JwtConfigError> {
        let numbers = || {
            let mut reader = SliceReader::new(der)?;
            let numbers = reader.sequence(|r| Ok((UintRef::decode(r)?, UintRef::decode(r)?)))?;
            reader.finish(numbers)
        };
        let (modulus, exponent) = numbers().map_err(|_| JwtConfigError::NotAKey)?;
        Self::rsa(algorithm, modulus.as_bytes(), exponent.as_bytes())
    }

    pub(super) fn rsa(algorithm: JwtAlgorithm, modulus: &[u8], exponent: &[u8]) -> Result<Self, JwtConfigError> {
        if algorithm.key_type() != KeyType::Rsa {
            return Err(other(algorithm, KeyType::Rsa.name()));
        }
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
        let odd = exponent.last().is_some_and(|last| last % 2 == 1) && exponent != [1];
        if !RSA_BITS.contains(&bits) || exponent.len() > RSA_EXPONENT || !odd {
            return Err(JwtConfigError::RsaSize { bits });
        }
        Self::of(algorithm, DecodingKey::from_rsa_raw_components(modulus, exponent)).tested()
    }

    /// An EC key as an uncompressed point (SEC 1 section 2.3.3). Its length is checked here: the cryptographies do not
    /// agree about it.
    pub(super) fn point(algorithm: JwtAlgorithm, found: KeyType, point: &[u8]) -> Result<Self, JwtConfigError> {
        if algorithm.key_type() != found {
            return Err(other(algorithm, found.name()));
        }
        let length = match found {
            KeyType::P256 => 65,
            KeyType::P384 => 97,
            _ => 133,
        };
        if point.len() != length || point.first() != Some(&4) {
            return Err(JwtConfigError::NotAKey);
        }
        Self::of(algorithm, DecodingKey::from_ec_der(point)).tested()
    }

    /// An Ed25519 key, which is 32 bytes; one of the cryptographies panics for fewer.
    pub(super) fn ed25519(algorithm: JwtAlgorithm, key: &[u8]) -> Result<Self, JwtConfigError> {
        if algorithm.key_type() != KeyType::Ed25519 {
            return Err(other(algorithm, KeyType::Ed25519.name()));
        }
        if key.len() != 32 {
            return Err(JwtConfigError::NotAKey);
        }
        Self::of(algorithm, DecodingKey::from_ed_der(key)).tested()
    }

    /// Checks a signature once, so that a cryptography which is missing, or does not take the key, shows at the start.
    fn tested(self) -> Result<Self, JwtConfigError> {
        install_cryptography();
        if self.algorithm == JwtAlgorithm::ES512 && cfg!(not(any(feature = "jwt-rust-crypto", feature = "jwt-aws-lc")))
        {
            return Err(JwtConfigError::SelfTest);
        }
        let once = std::panic::catch_unwind(|| self.algorithm.verify(&self.key, b"self-test", "AAAA"));
        match once {
            Ok(Some(_)) => Ok(self),
            Ok(None) => Err(JwtConfigError::NotAKey),
            Err(_) => Err(JwtConfigError::SelfTest),
        }
    }
}

fn other(algorithm: JwtAlgorithm, found: &'static str) -> JwtConfigError {
    JwtConfigError::OtherKey { algorithm: algorithm.name(), needed: algorithm.key_type().name(), found }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Without the key.
impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey").field("algorithm", &self.algorithm).field("id", &self.id).finish_non_exhaustive()
    }
}
