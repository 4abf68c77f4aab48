//! What makes a message that is published twice one message.

use std::{fmt, sync::Arc};

use super::Position;

/// Names a message, so that whoever publishes it again, as they do not know whether it was published, publishes it once:
/// 1 to 128 bytes of any text. 128: a SHA-512 in hexadecimal digits; a UUID has 36.
///
/// It counts for one room, on all nodes, for as long as the history of the room keeps the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

/// A text that is no [`IdempotencyKey`]: it is empty, or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to {max} bytes, not {0}", max = IdempotencyKey::MAX_BYTES)]
pub struct IdempotencyKeyError(usize);

impl IdempotencyKey {
    /// The most bytes.
    pub const MAX_BYTES: usize = 128;

    /// Takes a text.
    ///
    /// # Errors
    /// [`IdempotencyKeyError`].
    pub fn new(text: &str) -> Result<Self, IdempotencyKeyError> {
        match text.len() {
            1..=Self::MAX_BYTES => Ok(Self(text.into())),
            length => Err(IdempotencyKeyError(length)),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What became of a message that was to be appended once.
///
/// Exhaustive: the key was there before or it was not. Whatever else may happen is a [`BusError`](super::BusError).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It was appended and published, and has this position.
    Now(Position),
    /// One with its key is in the log already, at this position. Nothing was done.
    Before(Position),
}

impl Appended {
    /// Where the message is.
    #[must_use]
    pub const fn position(&self) -> Position {
        match self {
            Self::Now(position) | Self::Before(position) => *position,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_1_to_128_bytes() {
        for good in ["a", &"x".repeat(128), "\u{e9}\n", "4f1b54d6-9b9e-4b5e-8a5e-5b1c3f0d2a11"] {
            assert_eq!(IdempotencyKey::new(good).unwrap().as_str(), good);
        }
        assert_eq!(IdempotencyKey::new(""), Err(IdempotencyKeyError(0)));
        let long = IdempotencyKey::new(&"\u{e9}".repeat(65)).unwrap_err();
        assert_eq!(long.to_string(), "an idempotency key has 1 to 128 bytes, not 130");
    }
}
