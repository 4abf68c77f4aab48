//! The name of a room, parsed once.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{any_id, percent};

/// The longest kind, in bytes.
pub const MAX_KIND: usize = 32;
/// The longest id, in bytes.
pub const MAX_ID: usize = 200;

/// The name of a room: `kind:id`, split at the first `:`.
///
/// A kind matches `[a-z][a-z0-9_-]{0,31}`; an id is 1 to 200 of `A-Z a-z 0-9 - _ . ~ @ | + = / :`. A `RoomKey` that
/// exists is right: no control character, glob, brace, quote or space gets through it to a log line, a metric label or a
/// backplane. Cloning is a reference count. Keys are ordered as their texts are, byte by byte, so that the rooms of one
/// kind stand together.
///
/// ```
/// use rooms_core::RoomKey;
///
/// let key = RoomKey::new("post", 42)?;
/// assert_eq!((key.kind(), key.id(), key.as_str()), ("post", "42", "post:42"));
/// assert_eq!("user:auth0|5f7c".parse::<RoomKey>()?.id(), "auth0|5f7c");
/// assert!(RoomKey::try_from("post:*").is_err());
/// # Ok::<(), rooms_core::RoomKeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomKey(Arc<str>);

/// Why a text is not a [`RoomKey`].
///
/// The text itself is not repeated: it came from outside and may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomKeyError {
    /// There is no `:`.
    #[error("a room key is `kind:id`, and there is no `:` in it")]
    NoColon,
    /// The part before the first `:` is not a kind.
    #[error("the kind of a room is 1 to 32 of `a-z 0-9 _ -` and begins with a letter; byte {at} is wrong")]
    Kind {
        /// The place of the first wrong byte; the length where the kind is empty or too long.
        at: usize,
    },
    /// The part after the first `:` is not an id.
    #[error("the id of a room is 1 to 200 of `A-Z a-z 0-9 - _ . ~ @ | + = / :`; byte {at} is wrong")]
    Id {
        /// The place of the first wrong byte in the id; the length where the id is empty or too long.
        at: usize,
    },
}

impl RoomKey {
    /// Builds a key from a kind and anything that prints as an id.
    ///
    /// # Errors
    /// [`RoomKeyError`] names the part that is wrong and what is allowed there.
    pub fn new(kind: &str, id: impl fmt::Display) -> Result<Self, RoomKeyError> {
        check_kind(kind)?;
        // Most ids are numbers or UUIDs, so the text need not grow: each connection asks for a key.
        let mut text = String::with_capacity(kind.len() + 1 + 36);
        text.extend([kind, ":"]);
        write!(text, "{id}").map_err(|_| RoomKeyError::Id { at: text.len() - kind.len() - 1 })?;
        text.parse()
    }

    /// Builds a key from a kind and an id as they stand in the path of a URL: both are percent-decoded, once (RFC 3986
    /// section 2.1), and `+` stays `+`.
    ///
    /// Some routers hand out the segments of a path as they were written, and others decode them; what is decoded already is
    /// for [`new`](Self::new).
    ///
    /// ```
    /// use rooms_core::RoomKey;
    ///
    /// assert_eq!(RoomKey::from_url("user", "auth0%7C5f7c")?.as_str(), "user:auth0|5f7c");
    /// assert!(RoomKey::from_url("user", "%2A").is_err(), "`*` is in no id");
    /// assert!(RoomKey::from_url("user", "5%").is_err(), "no escape");
    /// # Ok::<(), rooms_core::RoomKeyError>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new). In text that can't be decoded to UTF-8 the `%` is what is wrong.
    pub fn from_url(kind: &str, id: impl fmt::Display) -> Result<Self, RoomKeyError> {
        // No key has a `%`, so `new` refuses what can't be decoded.
        fn decoded(text: &str) -> Cow<'_, str> {
            percent::decode(text).unwrap_or(Cow::Borrowed(text))
        }
        Self::new(&decoded(kind), decoded(&id.to_string()))
    }

    /// Builds a key from a kind and an id of any text, which [`decode_id`](Self::decode_id) gives back. What is not allowed in
    /// an id, and `=`, is written as `=` and two hexadecimal digits for each byte of its UTF-8, as in quoted-printable; so an
    /// id that is only of letters, digits and `- _ . ~ @ | + / :` stays as it is.
    ///
    /// Use it for all rooms of a kind or for none. A text that looks the same and has other bytes is another room: bring it
    /// into one form first (NFC, lower case) where users write it. The client names the room by the encoded id.
    ///
    /// ```
    /// use rooms_core::RoomKey;
    ///
    /// let key = RoomKey::encode("mailbox", "o'brien@example.com")?;
    /// assert_eq!(key.as_str(), "mailbox:o=27brien@example.com");
    /// assert_eq!(key.decode_id().as_deref(), Some("o'brien@example.com"));
    /// assert_eq!(RoomKey::encode("post", 42)?, RoomKey::new("post", 42)?);
    /// # Ok::<(), rooms_core::RoomKeyError>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new): the id is empty, or too long once it is encoded, where each byte that is escaped is three.
    pub fn encode(kind: &str, id: impl fmt::Display) -> Result<Self, RoomKeyError> {
        Self::new(kind, any_id::encode(&id.to_string()))
    }

    /// The id that [`encode`](Self::encode) was given; `None` where the key was not made by it, as a client may write any.
    #[must_use]
    pub fn decode_id(&self) -> Option<Cow<'_, str>> {
        any_id::decode(self.id())
    }

    /// The part before the first `:`; rules and options hang on it.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.parts().0
    }

    /// The part after the first `:`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.parts().1
    }

    /// The whole key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Looked for each time, as it is among the first bytes: a key is kept in many places, and is two words so. Byte by byte,
    /// as the search of a text for a character takes longer to begin than these few take.
    fn parts(&self) -> (&str, &str) {
        let colon = self.0.bytes().position(|byte| byte == b':').unwrap_or(self.0.len());
        (self.0.get(..colon).unwrap_or_default(), self.0.get(colon + 1..).unwrap_or_default())
    }
}

/// Checks a text against the rule for ids, which is also the rule for the `sub` of a user.
pub(crate) fn check_id(id: &str) -> Result<(), RoomKeyError> {
    let wrong = id.bytes().position(|b| !any_id::is_allowed(b));
    match wrong {
        Some(at) => Err(RoomKeyError::Id { at }),
        None if id.is_empty() || id.len() > MAX_ID => Err(RoomKeyError::Id { at: id.len() }),
        None => Ok(()),
    }
}

pub(crate) fn check_kind(kind: &str) -> Result<(), RoomKeyError> {
    let allowed =
        |at: usize, b: u8| b.is_ascii_lowercase() || (at > 0 && (b.is_ascii_digit() || b == b'_' || b == b'-'));
    match kind.bytes().enumerate().find(|(at, b)| !allowed(*at, *b)) {
        Some((at, _)) => Err(RoomKeyError::Kind { at }),
        None if kind.is_empty() || kind.len() > MAX_KIND => Err(RoomKeyError::Kind { at: kind.len() }),
        None => Ok(()),
    }
}

impl FromStr for RoomKey {
    type Err = RoomKeyError;

    fn from_str(text: &str) -> Result<Self, RoomKeyError> {
        let (kind, id) = text.split_once(':').ok_or(RoomKeyError::NoColon)?;
        check_kind(kind)?;
        check_id(id)?;
        Ok(Self(text.into()))
    }
}

impl TryFrom<&str> for RoomKey {
    type Error = RoomKeyError;

    fn try_from(text: &str) -> Result<Self, RoomKeyError> {
        text.parse()
    }
}

impl TryFrom<String> for RoomKey {
    type Error = RoomKeyError;

    fn try_from(text: String) -> Result<Self, RoomKeyError> {
        text.parse()
    }
}

impl AsRef<str> for RoomKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomKey({})", self.0)
    }
}

impl Serialize for RoomKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RoomKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<RoomKey>(), size_of::<&str>(), "a connection and a room have it in many places");
    }

    #[test]
    fn the_first_colon_splits() {
        let key: RoomKey = "file:a:b:c".parse().unwrap();
        assert_eq!((key.kind(), key.id()), ("file", "a:b:c"));
    }

    #[test]
    fn errors_name_the_part_and_the_place() {
        let parse = |text: &str| text.parse::<RoomKey>().unwrap_err();
        assert_eq!(parse("post"), RoomKeyError::NoColon);
        assert_eq!(parse(":42"), RoomKeyError::Kind { at: 0 });
        assert_eq!(parse("9post:42"), RoomKeyError::Kind { at: 0 });
        assert_eq!(parse("poSt:42"), RoomKeyError::Kind { at: 2 });
        assert_eq!(parse("post:"), RoomKeyError::Id { at: 0 });
        assert_eq!(parse("post:4*2"), RoomKeyError::Id { at: 1 });
        assert_eq!(parse(&format!("{}:1", "k".repeat(33))), RoomKeyError::Kind { at: 33 });
        assert_eq!(parse(&format!("post:{}", "i".repeat(201))), RoomKeyError::Id { at: 201 });
        assert_eq!(RoomKey::new("post:x", 1), Err(RoomKeyError::Kind { at: 4 }));
    }

    #[test]
    fn the_longest_key_is_allowed() {
        let key = RoomKey::new(&"k".repeat(MAX_KIND), "i".repeat(MAX_ID)).unwrap();
        assert_eq!((key.kind().len(), key.id().len()), (MAX_KIND, MAX_ID));
    }

    #[test]
    fn what_is_escaped_in_a_url_is_decoded_once() {
        let key = |id: &str| RoomKey::from_url("post", id).map(|key| key.id().to_owned());
        assert_eq!(key("a%7cb%2Fc").as_deref(), Ok("a|b/c"));
        assert_eq!(key("a+b%2B").as_deref(), Ok("a+b+"));
        assert_eq!(RoomKey::from_url("p%6Fst", 42), RoomKey::new("post", 42));
        assert_eq!(key("a%2541"), Err(RoomKeyError::Id { at: 1 }));
        for malformed in ["a%", "a%4", "a%zz", "a%FF"] {
            assert_eq!(key(malformed), Err(RoomKeyError::Id { at: 1 }), "{malformed}");
        }
        assert!(key("%0A").is_err() && key("%00").is_err() && key("%2A").is_err());
    }

    #[test]
    fn nothing_hostile_is_an_id() {
        for hostile in
            ["*", "?", "[a]", "{x}", "a b", "a\n", "a\0", "\u{1b}[31m", "\"", "'", "\\", "é", "\u{202e}", "a%2f", "<b>"]
        {
            assert!(RoomKey::new("post", hostile).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn serde_is_the_string() {
        let key = RoomKey::new("post", 42).unwrap();
        assert_eq!(serde_json::to_string(&key).unwrap(), "\"post:42\"");
        assert_eq!(serde_json::from_str::<RoomKey>("\"post:42\"").unwrap(), key);
        assert!(serde_json::from_str::<RoomKey>("\"post:\\u0000\"").is_err());
    }

    #[test]
    fn keys_are_made_of_texts_and_ordered_as_these() {
        let mut keys = ["post:9", "user:1", "post:10", "a:z"].map(|text| RoomKey::try_from(text).unwrap());
        keys.sort();
        assert_eq!(keys.each_ref().map(AsRef::<str>::as_ref), ["a:z", "post:10", "post:9", "user:1"]);
        assert_eq!(RoomKey::try_from("post:42".to_owned()), RoomKey::new("post", 42));
        assert_eq!(RoomKey::try_from("post:*".to_owned()), Err(RoomKeyError::Id { at: 0 }));
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "\\PC{0,40}|[a-z]{1,5}:[a-zA-Z0-9:|@.]{1,20}") {
            prop_assert_eq!(RoomKey::try_from(text.as_str()), text.parse());
            if let Ok(key) = text.parse::<RoomKey>() {
                prop_assert_eq!(key.to_string(), text);
                prop_assert_eq!(RoomKey::new(key.kind(), key.id()).unwrap(), key);
            }
        }
    }
}
