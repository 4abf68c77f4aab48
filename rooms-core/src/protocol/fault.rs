//! Why a command is not carried out, as its client is told.

use std::{borrow::Cow, time::Duration};

use super::ErrorCode;
use crate::room_key::{MAX_ID, MAX_KIND, RoomKey, RoomKeyError};

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: ErrorCode,
    pub(crate) message: Cow<'static, str>,
    pub(crate) room: Option<Box<str>>,
    /// How long to wait before it is tried again.
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    pub(crate) const fn new(code: ErrorCode, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message), room: None, retry_after: None }
    }

    /// What came can't be read, for this reason.
    pub(crate) const fn bad_message(reason: &'static str) -> Self {
        Self::new(ErrorCode::BadMessage, reason)
    }

    /// A limit is reached, and this is how long it is.
    pub(crate) fn rate_limited(message: &'static str, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(ErrorCode::RateLimited, message) }
    }

    /// In the application's words.
    pub(crate) fn refused(message: Cow<'static, str>) -> Self {
        Self { message, ..Self::new(ErrorCode::Refused, "") }
    }

    /// Names the room as the client did, unless that is longer than any room's name, and says what is wrong with it.
    pub(crate) fn bad_room(name: &str, error: RoomKeyError) -> Self {
        /// The characters of a name that are shown in words.
        const SHOWN: usize = 40;
        const LONGEST: usize = MAX_KIND + 1 + MAX_ID;

        let shown: String = name.chars().take(SHOWN).collect();
        let more = if shown.len() < name.len() { ".." } else { "" };
        let message = format!("{shown:?}{more} is no room: {error}").into();
        let room = (name.len() <= LONGEST).then(|| name.into());
        Self { message, room, ..Self::new(ErrorCode::BadRoom, "") }
    }

    pub(crate) fn of(self, room: &RoomKey) -> Self {
        Self { room: Some(room.as_str().into()), ..self }
    }
}
