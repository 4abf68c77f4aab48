//! Tokens of users, and what is made of them to spoil them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header};
use rooms::JwtAuthenticator;
use serde_json::{Map, Value, json};

pub(crate) const SECRET: &[u8] = b"a secret for tests of at least 32 bytes";

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a good token, to be spoiled.
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    pub(crate) fn of(user: &str) -> Self {
        Self(Map::from_iter([("sub".to_owned(), json!(user)), ("exp".to_owned(), json!(now() + 3600))]))
    }

    pub(crate) fn set(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    pub(crate) fn build(self) -> Value {
        Value::Object(self.0)
    }
}

pub(crate) fn token(user: &str) -> String {
    token_with(Claims::of(user))
}

pub(crate) fn token_with(claims: Claims) -> String {
    sign(&claims.build(), SECRET)
}

pub(crate) fn sign(claims: &Value, secret: &[u8]) -> String {
    // Installs the cryptography that signing needs, too.
    _ = JwtAuthenticator::hs256(SECRET).unwrap();
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// A good token whose header is another one.
pub(crate) fn with_header(header: &str, claims: &Value) -> String {
    let good = sign(claims, SECRET);
    let (_, rest) = good.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}
