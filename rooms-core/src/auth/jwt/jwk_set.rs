//! JWK sets (RFC 7517): what a provider publishes its keys as.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    algorithm::{JwtAlgorithm, KeyType},
    key::JwtKey,
};

/// The public keys of a provider, from the JSON text that is found at its `jwks_uri`.
///
/// Keys that can't be used are left out: those for encryption (`use`, `key_ops`), secrets (`"kty": "oct"`: whoever can read
/// the set could make tokens), unknown types and curves, RSA keys of less than 2048 bits. A key is for its `alg`; one
/// without is for the algorithm of its type: ES256, ES384, ES512, EdDSA, and for RSA RS256, as OpenID Connect says.
///
/// ```
/// use rooms_core::{JwkSet, JwtAuthenticator};
///
/// let set = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"2026","x":"Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"}]}"#;
/// let tokens = JwtAuthenticator::new(JwkSet::parse(set)?).issuer("https://id.example");
/// # let _ = tokens;
/// # Ok::<(), rooms_core::JwkSetError>(())
/// ```
#[derive(Debug, Clone)]
pub struct JwkSet(Vec<JwtKey>);

/// Why a text gives no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwkSetError {
    /// The text is too long.
    #[error("the JWK set has {length} bytes, and at most {} are read", JwkSet::MAX_BYTES)]
    TooLong {
        /// Its bytes.
        length: usize,
    },
    /// There are too many keys.
    #[error("the JWK set has {keys} keys, and at most {} are taken", JwkSet::MAX_KEYS)]
    TooMany {
        /// Its keys.
        keys: usize,
    },
    /// It is not `{"keys": [..]}`.
    #[error("not a JWK set: it is a JSON object with an array `keys` (RFC 7517 section 5)")]
    NotASet,
    /// No key of it can be used.
    #[error("none of the {keys} keys of the JWK set can be used to check signatures")]
    NoKey {
        /// Its keys.
        keys: usize,
    },
}

#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl JwkSet {
    /// The longest text that is read, in bytes. 256 KiB: some hundred keys with their certificates.
    pub const MAX_BYTES: usize = 256 * 1024;
    /// The most keys. 100: a provider has two to ten, and each is searched for at each token.
    pub const MAX_KEYS: usize = 100;

    /// Reads a set.
    ///
    /// # Errors
    /// [`JwkSetError`]; nothing of the text is in it.
    pub fn parse(json: impl AsRef<[u8]>) -> Result<Self, JwkSetError> {
        let json = json.as_ref();
        if json.len() > Self::MAX_BYTES {
            return Err(JwkSetError::TooLong { length: json.len() });
        }
        let set: Set<'_> = serde_json::from_slice(json).map_err(|_| JwkSetError::NotASet)?;
        let all = set.keys.len();
        if all > Self::MAX_KEYS {
            return Err(JwkSetError::TooMany { keys: all });
        }
        let keys: Vec<_> = set.keys.into_iter().filter_map(|key| key_of(key.get())).collect();
        tracing::debug!(usable = keys.len(), left_out = all - keys.len(), "a JWK set was read");
        if keys.is_empty() { Err(JwkSetError::NoKey { keys: all }) } else { Ok(Self(keys)) }
    }

    pub(super) fn keys(&self) -> &[JwtKey] {
        &self.0
    }
}

impl IntoIterator for JwkSet {
    type Item = JwtKey;
    type IntoIter = std::vec::IntoIter<JwtKey>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The key, where it is one to check signatures with.
fn key_of(json: &str) -> Option<JwtKey> {
    let jwk: Jwk = serde_json::from_str(json).ok()?;
    let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
    let verifies = jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !for_signatures || !verifies {
        return None;
    }
    let number = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
    let algorithm = |otherwise| match &jwk.alg {
        None => Some(otherwise),
        // A name of RFC 9864, which says the curve too.
        Some(alg) if alg == "Ed25519" => Some(JwtAlgorithm::EdDSA),
        Some(alg) => JwtAlgorithm::named(alg),
    };
    // Both of their full length (RFC 7518 section 6.2.1.2); otherwise bytes of one could be taken for the other's.
    let point = |size: usize| {
        let (x, y) = (number(&jwk.x)?, number(&jwk.y)?);
        (x.len() == size && y.len() == size).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
    };
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => JwtKey::rsa(algorithm(JwtAlgorithm::RS256)?, &number(&jwk.n)?, &number(&jwk.e)?),
        ("EC", Some("P-256")) => JwtKey::point(algorithm(JwtAlgorithm::ES256)?, KeyType::P256, &point(32)?),
        ("EC", Some("P-384")) => JwtKey::point(algorithm(JwtAlgorithm::ES384)?, KeyType::P384, &point(48)?),
        ("EC", Some("P-521")) => JwtKey::point(algorithm(JwtAlgorithm::ES512)?, KeyType::P521, &point(66)?),
        ("OKP", Some("Ed25519")) => JwtKey::ed25519(algorithm(JwtAlgorithm::EdDSA)?, &number(&jwk.x)?),
        _ => return None,
    };
    let key = key.ok()?;
    Some(match jwk.kid {
        Some(id) => key.id(id),
        None => key,
    })
}
