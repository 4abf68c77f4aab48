//! What travels as JSON: the events of a room, and what a client may say.
//!
//! | direction | message |
//! |---|---|
//! | out | `{"type":"room_joined","room":"post:42","viewers":3}` and the fields that `on_join` returned |
//! | out | `{"type":"viewer_joined","viewers":4}`, `{"type":"viewer_left","viewers":3}`: over all nodes |
//! | out | for a kind with members, `room_joined` has `"users":2,"members":[{"user":"5","info":{..}},..]`, at most 100 of them, and `viewer_joined` and `viewer_left` have `"users":[{"user":"6"}]` where somebody came or went |
//! | in, out | `{"type":"ping"}`, `{"type":"pong"}` |
//! | out | `{"type":"resync","room":"post:42","reason":"bus_gap"}`: messages may have been lost, fetch what you show again |
//! | out | `{"type":"error","code":"bad_message","message":".."}` with an [`ErrorCode`]; the connection goes on |
//!
//! A payload that the application broadcasts travels as it is.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{json, message::Message, nodes::wire::Name, room_key::RoomKey};

/// The `code` of an `error` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// `bad_message`: not a JSON object with a `type` that is a string, or nested more than 64 deep.
    BadMessage,
    /// `unknown_type`: nothing here answers to that `type`.
    UnknownType,
    /// `unsupported`: a binary message, where only text is spoken.
    Unsupported,
}

/// Which way the number of viewers went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Joined,
    Left,
}

/// Why a member may have missed messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    BusGap,
    SlowConsumer,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    RoomJoined {
        room: &'a RoomKey,
        viewers: usize,
        #[serde(flatten)]
        roll: Option<Roll>,
        #[serde(flatten)]
        snapshot: Map<String, Value>,
    },
    ViewerJoined {
        viewers: usize,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        users: &'a [Person],
    },
    ViewerLeft {
        viewers: usize,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        users: &'a [Person],
    },
    Pong,
    Resync {
        room: &'a RoomKey,
        reason: Reason,
    },
    Error {
        code: ErrorCode,
        message: &'a str,
    },
}

impl Event<'_> {
    fn message(&self) -> Message {
        // An event holds strings, numbers and JSON values only, which always encode.
        Message::json(self).unwrap_or_else(|_| Message::text(r#"{"type":"error","code":"internal"}"#))
    }
}

/// A user, as the members of a room are told.
#[derive(Debug, Serialize)]
pub(crate) struct Person {
    pub(crate) user: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) info: Option<Value>,
}

/// Who is in a room, as one who joins is told.
#[derive(Debug, Serialize)]
pub(crate) struct Roll {
    /// How many there are.
    pub(crate) users: usize,
    /// At most [`ROLL`] of them.
    pub(crate) members: Vec<Person>,
}

/// The users that `room_joined` names. A hundred: a page shows no more, and a join costs the same in a large room.
pub(crate) const ROLL: usize = 100;

/// The first event of a member. The snapshot's fields stand beside ours; ours win.
pub(crate) fn room_joined(room: &RoomKey, viewers: usize, roll: Option<Roll>, snapshot: Value) -> Message {
    let mut snapshot = match snapshot {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        other => Map::from_iter([("snapshot".to_owned(), other)]),
    };
    let named: &[_] = if roll.is_some() { &["users", "members"] } else { &[] };
    for ours in ["type", "room", "viewers"].iter().chain(named) {
        snapshot.remove(*ours);
    }
    Event::RoomJoined { room, viewers, roll, snapshot }.message()
}

pub(crate) fn viewers_changed(change: Change, viewers: usize, users: &[Person]) -> Message {
    match change {
        Change::Joined => Event::ViewerJoined { viewers, users }.message(),
        Change::Left => Event::ViewerLeft { viewers, users }.message(),
    }
}

pub(crate) fn resync(room: &RoomKey, reason: Reason) -> Message {
    Event::Resync { room, reason }.message()
}

pub(crate) fn pong() -> Message {
    Event::Pong.message()
}

pub(crate) fn error(code: ErrorCode, message: &str) -> Message {
    Event::Error { code, message }.message()
}

/// What a client said.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Ping,
    /// Any other type: the application's.
    Application(Value),
}

/// The answer to a text that is no command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadMessage(pub(crate) &'static str);

impl Command {
    pub(crate) fn parse(text: &str) -> Result<Self, BadMessage> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
        }

        json::check_depth(text).map_err(|_| BadMessage("nested too deep"))?;
        if !text.trim_ascii_start().starts_with('{') {
            return Err(BadMessage("a message is a JSON object"));
        }
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => BadMessage("a message has one `type`, a string"),
            _ => BadMessage("not JSON"),
        })?;
        if envelope.kind == "ping" {
            return Ok(Self::Ping);
        }
        serde_json::from_str(text).map(Self::Application).map_err(|_| BadMessage("not JSON"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_as_documented() {
        let room = RoomKey::new("post", 42).unwrap();
        let text = |message: Message| message.as_text().unwrap().to_owned();
        assert_eq!(
            text(room_joined(&room, 3, None, json!({"post_id": 42, "viewers": "mine", "type": "x", "room": 1}))),
            r#"{"type":"room_joined","room":"post:42","viewers":3,"post_id":42}"#,
        );
        assert_eq!(
            text(room_joined(&room, 1, None, Value::Null)),
            r#"{"type":"room_joined","room":"post:42","viewers":1}"#
        );
        assert_eq!(text(viewers_changed(Change::Joined, 4, &[])), r#"{"type":"viewer_joined","viewers":4}"#);
        assert_eq!(text(viewers_changed(Change::Left, 3, &[])), r#"{"type":"viewer_left","viewers":3}"#);
        assert_eq!(text(resync(&room, Reason::BusGap)), r#"{"type":"resync","room":"post:42","reason":"bus_gap"}"#);
        assert_eq!(text(pong()), r#"{"type":"pong"}"#);
        assert_eq!(
            text(error(ErrorCode::BadMessage, "not JSON")),
            r#"{"type":"error","code":"bad_message","message":"not JSON"}"#,
        );
    }

    #[test]
    fn commands_are_parsed_strictly() {
        assert_eq!(Command::parse(r#" {"type":"ping","extra":[1]}"#), Ok(Command::Ping));
        assert_eq!(Command::parse(r#"{"type":"p\u0069ng"}"#), Ok(Command::Ping));
        let vote = json!({"type": "vote", "for": 1});
        assert_eq!(Command::parse(&vote.to_string()), Ok(Command::Application(vote)));
        for bad in [
            "",
            "ping",
            "1",
            "null",
            "[]",
            "[\"ping\"]",
            "{",
            "{}",
            r#"{"type":5}"#,
            r#"{"type":null}"#,
            r#"{"type":"ping"} x"#,
            r#"{"type":"ping","type":"ping"}"#,
            &format!("{{\"type\":{}", "[".repeat(50_000)),
        ] {
            assert!(Command::parse(bad).is_err(), "{bad:.40}");
        }
    }
}
