//! A token's header, and its signature.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{algorithm::JwtAlgorithm, key::JwtKey};
use crate::auth::AuthError;

/// The most keys that one token is tried with. 4: a token without `kid`, and a provider that is between two keys; a bad
/// token costs no more than that many checks, and where they are fetched and have just changed, twice that.
const MAX_TRIED: usize = 4;

/// A token whose header is read. Nothing in it is to be believed yet; `kid` chooses among the keys that there are.
pub(super) struct Token<'a> {
    /// What is signed: header and claims as they came.
    signed: &'a str,
    claims: &'a str,
    signature: &'a str,
    pub(super) algorithm: JwtAlgorithm,
    pub(super) key_id: Option<String>,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    kid: Option<String>,
    /// Any JSON: where it is not asked for, it is nothing to stumble over.
    #[serde(borrow)]
    typ: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

impl<'a> Token<'a> {
    /// Reads the header, and checks it against a wanted `typ`.
    pub(super) fn read(token: &'a str, wanted: Option<&str>) -> Result<Self, AuthError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(AuthError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(AuthError::Malformed)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| AuthError::Malformed)?;
        let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| AuthError::Malformed)?;
        let algorithm = JwtAlgorithm::named(&header.alg).ok_or(AuthError::Algorithm)?;
        if header.crit {
            return Err(AuthError::Critical);
        }
        if let Some(wanted) = wanted
            && !header.typ.and_then(text).is_some_and(|typ| same_media_type(&typ, wanted))
        {
            return Err(AuthError::Type);
        }
        Ok(Self { signed, claims, signature, algorithm, key_id: header.kid })
    }

    /// Whether its `kid` is that of one of the keys, and does not only fit one that has no id.
    pub(super) fn names_one_of(&self, keys: &[JwtKey]) -> bool {
        self.key_id.as_deref().is_some_and(|id| keys.iter().any(|key| key.is_named(id)))
    }

    /// The claims' text, where one of the keys made the signature.
    pub(super) fn verified(&self, keys: &[JwtKey]) -> Result<String, AuthError> {
        let id = self.key_id.as_deref();
        let mut named = keys.iter().filter(|key| key.has_id(id)).peekable();
        if named.peek().is_none() {
            return Err(AuthError::UnknownKey);
        }
        // The key says which algorithm, and never the token.
        let mut keys = named.filter(|key| key.algorithm() == self.algorithm).peekable();
        if keys.peek().is_none() {
            return Err(AuthError::Algorithm);
        }
        let verifies = |key: &JwtKey| {
            #[cfg(test)]
            super::tests::TRIED.set(super::tests::TRIED.get() + 1);
            key.verifies(self.signed.as_bytes(), self.signature)
        };
        if !keys.take(MAX_TRIED).any(verifies) {
            return Err(AuthError::Signature);
        }
        let claims = URL_SAFE_NO_PAD.decode(self.claims).map_err(|_| AuthError::Malformed)?;
        String::from_utf8(claims).map_err(|_| AuthError::Malformed)
    }
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Whether two values of `typ` are the same media type: without a `/` they have `application/` in front (RFC 7515 section
/// 4.1.9), and the case does not matter (RFC 2045 section 5.1).
fn same_media_type(one: &str, other: &str) -> bool {
    fn short(typ: &str) -> &str {
        match typ.split_once('/') {
            Some((top, rest)) if top.eq_ignore_ascii_case("application") && !rest.contains('/') => rest,
            _ => typ,
        }
    }
    short(one).eq_ignore_ascii_case(short(other))
}

/// A member that is there, whatever its value: `"crit": null` is no way round the rule.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}
