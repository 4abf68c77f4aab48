//! The claims that are checked.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
};

use crate::auth::AuthError;

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
///
/// Read apart from [`Claims`], whose names are fixed; a claim that comes twice is refused here, too.
pub(super) fn user_in(claims: &str, name: &str) -> Result<String, AuthError> {
    struct Named<'a>(&'a str);

    impl<'de> DeserializeSeed<'de> for Named<'_> {
        type Value = Subject;

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Subject, D::Error> {
            deserializer.deserialize_map(self)
        }
    }

    impl<'de> Visitor<'de> for Named<'_> {
        type Value = Subject;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object with the user's claim")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Subject, M::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<String>()? {
                if key != self.0 {
                    map.next_value::<IgnoredAny>()?;
                } else if found.replace(map.next_value()?).is_some() {
                    return Err(M::Error::custom("the user's claim comes twice"));
                }
            }
            found.ok_or_else(|| M::Error::custom("the user's claim is absent"))
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(claims);
    Named(name).deserialize(&mut deserializer).map(|user| user.0).map_err(|_| AuthError::Claims)
}
