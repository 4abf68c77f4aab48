//! The claims that are checked.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::auth::{AuthError, claim};

/// The registered claims (RFC 7519 section 4.1). A struct, because it refuses a claim that comes twice. An optional one that
/// is `null` is absent: many libraries write a field that was not set so.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) exp: Seconds,
    /// Required, unless another claim names the user.
    pub(super) sub: Option<Subject>,
    pub(super) nbf: Option<Seconds>,
    pub(super) iat: Option<Seconds>,
    pub(super) iss: Option<String>,
    pub(super) aud: Option<Audience>,
}

/// A NumericDate (RFC 7519 section 2): seconds since 1970, perhaps with a fraction.
#[derive(Clone, Copy)]
pub(super) struct Seconds(pub(super) Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `serde_json`'s own types, because another crate in the build may change how its numbers reach other ones
        // (`arbitrary_precision`).
        let number = serde_json::Number::deserialize(deserializer)?;
        match (number.as_u64(), number.as_f64()) {
            (Some(seconds), _) => Ok(Self(Duration::from_secs(seconds))),
            (None, Some(seconds)) => Duration::try_from_secs_f64(seconds).map(Self).map_err(D::Error::custom),
            (None, None) => Err(D::Error::custom("not a number of seconds")),
        }
    }
}

/// Who it is: a string, or the integer that many services put there.
pub(super) struct Subject(pub(super) String);

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) if number.is_u64() || number.is_i64() => Ok(Self(number.to_string())),
            _ => Err(D::Error::custom("neither a string nor an integer")),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub(super) fn names_one_of(&self, audiences: &[String]) -> bool {
        match self {
            Self::One(one) => audiences.contains(one),
            Self::Many(many) => many.iter().any(|one| audiences.contains(one)),
        }
    }
}

/// The user that a claim of another name than `sub` names.
pub(super) fn user_in(claims: &str, name: &str) -> Result<String, AuthError> {
    match claim::named::<Subject>(claims, name) {
        Ok(Some(user)) => Ok(user.0),
        Ok(None) | Err(_) => Err(AuthError::Claims),
    }
}
