//! A JSON value as the text that it came in.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::json::{self, JsonFault};

/// What a client sent, or what is published for it: JSON, as text.
///
/// What comes from a client is checked to be JSON, at most 64 levels deep, and with at most
/// [`Limits::max_containers`](crate::Limits::max_containers) arrays and objects. It is kept as the text that came, so what is
/// passed on is passed on unchanged: every digit of a number, the order of keys, `1E400`, `"\ud800"`. A hook parses it
/// where it needs to, with [`json`](Self::json) or, into a type of its own, with [`parse`](Self::parse).
///
/// A key may be given twice. [`json`](Self::json) keeps the last value of such a key, while a receiver of the same text may
/// take the first. A hook that decides by a field should publish what it read, written anew, and not the text that came.
///
/// Cloning is a reference count.
///
/// ```
/// use rooms_core::{HookError, Kind, Payload};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Said {
///     text: String,
/// }
///
/// #[derive(Serialize)]
/// struct Signed<'a> {
///     from: &'a str,
///     text: &'a str,
/// }
///
/// let channel = Kind::authenticated().allow_publish().on_publish(|member, data| async move {
///     let said: Said = data.parse()?;
///     Ok(Payload::encode(&Signed { from: member.identity().user(), text: &said.text })?)
/// });
/// # let _ = channel;
///
/// let payload = Payload::encode(&[31.25, 7.0])?;
/// assert_eq!(payload.as_str(), "[31.25,7.0]");
/// assert_eq!(payload.parse::<Vec<f64>>()?, [31.25, 7.0]);
/// # Ok::<(), rooms_core::PayloadError>(())
/// ```
#[derive(Clone)]
pub struct Payload(Arc<RawValue>);

/// Why a [`Payload`] was not read or not written.
///
/// As a [`HookError`](crate::HookError), which `?` makes of it, one that was not read is refused with the cause as its
/// words, and one that was not written closes the connection with 1011.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The text does not fit the type: a field is absent or of another type; or it is JSON that `serde_json` can't hold, as
    /// half a surrogate pair in a string and a number past the range of `f64` are.
    #[error("the payload does not parse as what is expected")]
    Parse(#[source] serde_json::Error),
    /// The value does not encode as JSON.
    #[error("the payload does not encode as JSON")]
    Encode(#[source] serde_json::Error),
}

impl Payload {
    /// Writes a value as JSON.
    ///
    /// # Errors
    /// [`PayloadError::Encode`], for a map whose keys are not strings, or an error of the value's own `Serialize`.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        let text = serde_json::value::to_raw_value(value).map_err(PayloadError::Encode)?;
        Ok(Self(text.into()))
    }

    /// JSON that was checked before.
    pub(crate) fn of(text: &RawValue) -> Self {
        Self(text.to_owned().into())
    }

    /// What a client sent, once its depth is looked at and its arrays and objects are counted.
    pub(crate) fn received(text: Box<RawValue>, containers: usize) -> Result<Self, JsonFault> {
        json::check_received(text.get().as_bytes(), containers)?;
        Ok(Self(text.into()))
    }

    /// The text, as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The text as a field of something that is serialized, where it stands as it came.
    ///
    /// `json!` builds a [`Value`], so it panics on what [`json`](Self::json) is an error for: use a struct that derives
    /// `Serialize`.
    #[must_use]
    pub fn raw(&self) -> &RawValue {
        &self.0
    }

    /// Parses it into a type, which may borrow from the text.
    ///
    /// # Errors
    /// [`PayloadError::Parse`].
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, PayloadError> {
        serde_json::from_str(self.as_str()).map_err(PayloadError::Parse)
    }

    /// Parses it into a tree, which may take thirty times the memory of the text. A type of your own, with
    /// [`parse`](Self::parse), takes less.
    ///
    /// # Errors
    /// [`PayloadError::Parse`], for what a [`Value`] can't hold.
    pub fn json(&self) -> Result<Value, PayloadError> {
        self.parse()
    }

    /// The text, sharing its memory.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(Text(self.0))
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        // A `Value` has no map with other keys than strings, and so always encodes.
        Self::encode(&value).unwrap_or_else(|_| Self(RawValue::NULL.to_owned().into()))
    }
}

/// The length only: what clients send has no place in a log.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.as_str().len())
    }
}

struct Text(Arc<RawValue>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.get().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn received(text: &str) -> Payload {
        Payload::received(RawValue::from_string(text.to_owned()).unwrap(), 8).unwrap()
    }

    #[test]
    fn the_text_is_as_it_came() {
        for text in
            ["31.245270191439438", "18446744073709551616", "-0", "1E400", r#""\ud800""#, r#"{"b":1,"a":2,"b":3}"#]
        {
            let payload = received(text);
            assert_eq!((payload.as_str(), payload.raw().get()), (text, text));
            assert_eq!(serde_json::to_string(&[payload.raw()]).unwrap(), format!("[{text}]"));
            assert_eq!(payload.into_bytes(), text);
        }
    }

    #[test]
    fn what_can_not_be_held_is_an_error_where_it_is_asked_for() {
        assert_eq!(received(r#"{"a":1,"a":2}"#).json().unwrap(), json!({"a": 2}));
        for text in ["1E400", r#""\ud800""#] {
            assert!(matches!(received(text).json(), Err(PayloadError::Parse(_))), "{text}");
        }
        assert!(matches!(received("[1]").parse::<String>(), Err(PayloadError::Parse(_))));
        let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(matches!(Payload::encode(&no_json), Err(PayloadError::Encode(_))));
    }

    #[test]
    fn no_content_is_in_what_is_logged() {
        assert_eq!(format!("{:?}", received(r#""secret""#)), "Payload(8 bytes)");
    }
}
