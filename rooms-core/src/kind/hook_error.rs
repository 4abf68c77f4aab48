//! How a hook says no.

use std::borrow::Cow;

use crate::{
    close::{Close, CloseCode},
    payload::PayloadError,
};

/// How a hook says no: in words that the client is told, for now, or by closing the connection.
///
/// ```
/// use rooms_core::{Close, HookError, Kind};
/// use serde_json::json;
///
/// let channel = Kind::authenticated().allow_publish().on_publish(|_, said| async move {
///     match said.json()?["text"].as_str() {
///         Some(text) if text.len() <= 500 => Ok(json!({"text": text})),
///         Some(_) => Err(HookError::refused("a text has at most 500 bytes")),
///         None => Err(Close::NOT_ALLOWED.into()),
///     }
/// });
/// # let _ = channel;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// The client is told so by an `error` event with the code [`refused`](crate::ErrorCode::Refused) and these words,
    /// and the connection goes on. A connection that is for one room and is refused by its `on_join` is of no use: it is
    /// closed with 4403 and these words.
    #[error("{0}")]
    Refused(Cow<'static, str>),
    /// What the client sent is not what it should be: as [`Refused`](Self::Refused), with the code
    /// [`bad_message`](crate::ErrorCode::BadMessage). For what is no value of the type that a kind
    /// [declares](crate::Kind::publishes).
    #[error("{0}")]
    BadMessage(Cow<'static, str>),
    /// What the hook needs is away, such as its database: the client is told to try again later, by an `error` event with
    /// the code [`unavailable`](crate::ErrorCode::Unavailable). That join, message or publication alone has failed, and
    /// the connection goes on. A connection that is for one room and does not get into it is closed with 1013, after
    /// which its client comes back.
    #[error("it did not work just now, and may later")]
    Unavailable,
    /// The connection is closed, with all its rooms.
    #[error("the connection is closed with {0}")]
    Close(Close),
}

impl HookError {
    /// Refuses with words for the client.
    pub fn refused(words: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(words.into())
    }

    /// Says that it did not work just now, and may later.
    ///
    /// ```
    /// use rooms_core::{HookError, Kind};
    /// use serde_json::json;
    ///
    /// let post = Kind::authenticated().on_join(|member| async move {
    ///     let title = title_of(member.room().id()).await.map_err(|_| HookError::unavailable())?;
    ///     Ok(json!({ "title": title }))
    /// });
    /// # let _ = post;
    /// # async fn title_of(post: &str) -> std::io::Result<String> { Ok(format!("Post {post}")) }
    /// ```
    #[must_use]
    pub const fn unavailable() -> Self {
        Self::Unavailable
    }

    /// The close of a connection that can't go on.
    pub(crate) fn into_close(self) -> Close {
        match self {
            Self::Refused(words) | Self::BadMessage(words) => Close::new(CloseCode::NOT_ALLOWED, words),
            Self::Unavailable => Close::UNAVAILABLE,
            Self::Close(close) => close,
        }
    }
}

impl From<Close> for HookError {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

impl HookError {
    /// What a member published is not what it should be.
    pub(super) fn bad_payload(error: PayloadError) -> Self {
        match Self::from(error) {
            Self::Refused(words) => Self::BadMessage(words),
            other => other,
        }
    }
}

impl From<PayloadError> for HookError {
    fn from(error: PayloadError) -> Self {
        /// The longest words about a payload, in bytes, as they may quote all of it.
        const MAX_WORDS: usize = 200;

        match error {
            PayloadError::Parse(error) => {
                let mut words = error.to_string();
                let end = (0..=MAX_WORDS.min(words.len())).rev().find(|at| words.is_char_boundary(*at));
                words.truncate(end.unwrap_or_default());
                Self::refused(words)
            }
            PayloadError::Encode(error) => {
                tracing::error!(%error, "what a hook makes of a payload does not encode");
                Self::Close(Close::INTERNAL)
            }
        }
    }
}
