//! What is wrong with a command, in a word.

use serde::Serialize;

/// The `code` of an `error` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// `bad_message`: not a JSON object with a `type` that is a string, or a field that the command needs is absent, of the
    /// wrong type, or given twice. Or what is published is no event of the type that the kind
    /// [declares](crate::Kind::events).
    BadMessage,
    /// `unknown_type`: nothing here answers to that `type`.
    UnknownType,
    /// `unsupported`: a binary message, where the kind of the room takes none.
    Unsupported,
    /// `bad_room`: the room's name is none. The message says what is wrong with it.
    BadRoom,
    /// `not_allowed`: the rule of the room said no, or there is no such room: the two look the same.
    NotAllowed,
    /// `not_joined`: the connection is not in that room.
    NotJoined,
    /// `too_many_rooms`: the connection is in as many rooms as are allowed.
    TooManyRooms,
    /// `too_big`: what is published, or is for a hook, is longer than is allowed, is nested more than 64 deep, or has more
    /// arrays and objects than are allowed.
    TooBig,
    /// `refused`: a hook of the application says no, in words of its own.
    Refused,
    /// `bad_token`: the token of a `refresh` is not good, or is another user's.
    BadToken,
    /// `unavailable`: it did not work just now, and may later.
    Unavailable,
    /// `rate_limited`: too much of it in a short time; the event has `retry_after_ms`. With a `ref` or a `room`, that command
    /// was not carried out; nor was a `refresh` without a `ref` that came too soon. In any other case the connection sends faster
    /// than it is read, and what it sent waits.
    RateLimited,
}
