//! One claim among others, and what a claim may say of rooms.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
};

use crate::room_key::RoomKey;

/// Reads one claim and looks over the others; `None` where it is absent or `null`. One that comes twice is an error: which
/// of the two holds would be a guess.
pub(crate) fn named<T: DeserializeOwned>(claims: &str, name: &str) -> Result<Option<T>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(claims);
    let claim = Named { name, of: PhantomData }.deserialize(&mut deserializer)?;
    deserializer.end().map(|()| claim)
}

struct Named<'a, T> {
    name: &'a str,
    of: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Named<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Named<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Option<T>, M::Error> {
        let mut found: Option<Option<T>> = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != self.name {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value()?).is_some() {
                return Err(M::Error::custom("the claim comes twice"));
            }
        }
        Ok(found.flatten())
    }
}

/// The rooms that a claim names: one pattern, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Patterns {
    One(String),
    Many(Vec<String>),
}

/// Whether a claim names a room: by its key, or by a beginning that has the whole kind in it and a `*` behind.
pub(super) fn names_room(claims: &str, name: &str, room: &RoomKey) -> bool {
    let matches = |pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => start.contains(':') && room.as_str().starts_with(start),
        None => room.as_str() == pattern,
    };
    match named(claims, name) {
        Ok(Some(Patterns::One(pattern))) => matches(&pattern),
        Ok(Some(Patterns::Many(patterns))) => patterns.iter().any(matches),
        Ok(None) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_room_or_the_beginning_of_some() {
        let names = |claims: &str, room: &str| names_room(claims, "rooms", &room.parse().unwrap());
        let claims = r#"{"sub":"5","rooms":["post:42","team:blue-*","chat:*"]}"#;
        for good in ["post:42", "team:blue-1", "team:blue-", "chat:1", "chat:a/b"] {
            assert!(names(claims, good), "{good}");
        }
        for bad in ["post:421", "post:4", "team:blue", "team:red", "chats:1", "user:5"] {
            assert!(!names(claims, bad), "{bad}");
        }
        assert!(names(r#"{"rooms":"post:42"}"#, "post:42") && names(r#"{"rooms":"post:*"}"#, "post:1"));
        for nothing in [
            "",
            "{}",
            "[]",
            r#"{"rooms":null}"#,
            r#"{"rooms":[]}"#,
            r#"{"rooms":5}"#,
            r#"{"rooms":{"post:42":true}}"#,
            r#"{"rooms":["post:42",5]}"#,
            r#"{"rooms":"*"}"#,
            r#"{"rooms":"po*"}"#,
            r#"{"rooms":"post*"}"#,
            r#"{"rooms":"post:**"}"#,
            r#"{"rooms":"post:*2"}"#,
            r#"{"rooms":"*:42"}"#,
            r#"{"rooms":""}"#,
            r#"{"rooms":"POST:42"}"#,
            r#"{"Rooms":"post:42"}"#,
            r#"{"other":{"rooms":"post:42"}}"#,
            r#"{"rooms":"post:42","rooms":"post:42"}"#,
            r#"{"rooms":"post:42"} {}"#,
        ] {
            assert!(!names(nothing, "post:42"), "{nothing}");
        }
    }
}
