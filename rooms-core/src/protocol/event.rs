//! The events of the server's own, as JSON.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Departure, ErrorCode, Fault, Reason, Ref};
use crate::{
    bus::Position,
    message::Message,
    presence::{Change, MemberList, Person},
    receipt::{Reach, Receipt},
    room_key::RoomKey,
};

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    /// `RoomJoined` of a room that has nothing else to tell, as most: serde writes it without the two maps, in a third of the
    /// time.
    #[serde(rename = "room_joined")]
    PlainRoomJoined {
        room: &'a RoomKey,
        viewers: usize,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a Ref>,
    },
    RoomJoined {
        room: &'a RoomKey,
        /// Right behind the room, where no field of a snapshot stands: so who writes an event stream knows it from an
        /// application's own `position`, which a room without a history may have.
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
        viewers: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<bool>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        observer: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        paused: bool,
        #[serde(flatten)]
        list: Option<MemberList>,
        #[serde(flatten)]
        snapshot: Map<String, Value>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a Ref>,
    },
    RoomLeft {
        room: &'a RoomKey,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a Ref>,
    },
    Published {
        room: &'a RoomKey,
        #[serde(skip_serializing_if = "Option::is_none")]
        reach: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a Ref>,
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
    Pong {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a Ref>,
    },
    Resync {
        room: &'a RoomKey,
        reason: Reason,
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
    },
    Refresh {
        room: &'a RoomKey,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<Position>,
    },
    Reconnect {
        in_ms: u64,
    },
    TokenExpiring {
        in_ms: u64,
    },
    Refreshed {
        #[serde(skip_serializing_if = "Option::is_none")]
        in_ms: Option<u64>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a Ref>,
    },
    Error {
        code: ErrorCode,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a Ref>,
    },
}

impl Event<'_> {
    pub(super) fn message(&self) -> Message {
        // An event holds strings, numbers and JSON values only, which always encode.
        Message::json(self).unwrap_or_else(|_| Message::text(r#"{"type":"error","code":"internal"}"#))
    }
}

pub(crate) fn room_left(room: &RoomKey, reference: Option<&Ref>) -> Message {
    Event::RoomLeft { room, reason: None, message: None, reference }.message()
}

/// A member is in a room no more, and did not ask for that.
pub(crate) fn put_out(room: &RoomKey, departure: &Departure) -> Message {
    let (reason, message) = match departure {
        Departure::Kicked(words) => ("kicked", Some(&**words).filter(|words| !words.is_empty())),
        Departure::NotAllowed => ("not_allowed", None),
        Departure::Left => ("left", None),
    };
    Event::RoomLeft { room, reason: Some(reason), message, reference: None }.message()
}

pub(crate) fn token_expiring(left: Duration) -> Message {
    Event::TokenExpiring { in_ms: millis(left) }.message()
}

pub(crate) fn refreshed(left: Option<Duration>, reference: Option<&Ref>) -> Message {
    Event::Refreshed { in_ms: left.map(millis), reference }.message()
}

pub(crate) fn published(room: &RoomKey, receipt: Receipt, reference: &Ref) -> Message {
    let reach = match receipt.reach {
        Reach::AllNodes => None,
        Reach::LocalOnly => Some("local_only"),
    };
    Event::Published { room, reach, position: receipt.position, reference: Some(reference) }.message()
}

pub(crate) fn viewers_changed(change: Change, viewers: usize, users: &[Person]) -> Message {
    match change {
        Change::Joined => Event::ViewerJoined { viewers, users }.message(),
        Change::Left => Event::ViewerLeft { viewers, users }.message(),
    }
}

/// That something may be missing. With the position after which everything is given, where the room has a history.
pub(crate) fn resync(room: &RoomKey, reason: Reason, position: Option<Position>) -> Message {
    Event::Resync { room, reason, position }.message()
}

/// In place of a broadcast that is too long. With its position where the room has a history.
pub(crate) fn refresh(room: &RoomKey, offset: Option<Position>) -> Message {
    Event::Refresh { room, offset }.message()
}

/// All of a room's state, which is JSON already.
pub(crate) fn room_state(room: &RoomKey, revision: Position, state: &[u8]) -> Message {
    state_event(room, &format!(r#""revision":"{revision}","state":"#), state)
}

/// What has changed in a room's state.
pub(crate) fn room_state_patch(room: &RoomKey, since: Position, revision: Position, patch: &[u8]) -> Message {
    state_event(room, &format!(r#""revision":"{revision}","since":"{since}","patch":"#), patch)
}

fn state_event(room: &RoomKey, fields: &str, json: &[u8]) -> Message {
    let room = room.as_str().as_bytes();
    Message::text_of(&[br#"{"type":"room_state","room":""#, room, br#"","#, fields.as_bytes(), json, b"}"])
}

pub(crate) fn reconnect(after: Duration) -> Message {
    Event::Reconnect { in_ms: millis(after) }.message()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn pong(reference: Option<&Ref>) -> Message {
    Event::Pong { reference }.message()
}

pub(crate) fn error(fault: &Fault, reference: Option<&Ref>) -> Message {
    // Rounded up, so that who comes then is not refused again.
    let millis = |time: Duration| u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Event::Error {
        code: fault.code,
        message: &fault.message,
        retry_after_ms: fault.retry_after.map(millis),
        room: fault.room.as_deref(),
        reference,
    }
    .message()
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::RawValue};

    use super::{
        super::{Standing, room_joined},
        *,
    };

    #[test]
    fn events_are_as_documented() {
        let room = RoomKey::new("post", 42).unwrap();
        let text = |message: Message| message.as_text().unwrap().to_owned();
        let snapshot = json!({"post_id": 42, "viewers": "mine", "type": "x", "room": 1, "ref": 5});
        assert_eq!(
            text(room_joined(&room, Standing { viewers: 3, ..Standing::default() }, snapshot, None)),
            r#"{"type":"room_joined","room":"post:42","viewers":3,"post_id":42}"#,
        );
        let observer = Standing { viewers: 3, observer: true, ..Standing::default() };
        assert_eq!(
            text(room_joined(&room, observer, json!({"observer": "mine"}), None)),
            r#"{"type":"room_joined","room":"post:42","viewers":3,"observer":true}"#,
        );
        let one = || Standing { viewers: 1, ..Standing::default() };
        let welcome = |reference| text(room_joined(&room, one(), Value::Null, reference));
        assert_eq!(welcome(None), r#"{"type":"room_joined","room":"post:42","viewers":1}"#);
        let reference = Ref(RawValue::from_string("[1, 2]".to_owned()).unwrap());
        assert_eq!(welcome(Some(&reference)), r#"{"type":"room_joined","room":"post:42","viewers":1,"ref":[1, 2]}"#);
        assert_eq!(text(room_left(&room, None)), r#"{"type":"room_left","room":"post:42"}"#);
        let out = |departure| text(put_out(&room, &departure));
        let kicked = r#"{"type":"room_left","room":"post:42","reason":"kicked","message":"spam"}"#;
        assert_eq!(out(Departure::Kicked("spam".into())), kicked);
        assert_eq!(out(Departure::Kicked("".into())), r#"{"type":"room_left","room":"post:42","reason":"kicked"}"#);
        assert_eq!(out(Departure::NotAllowed), r#"{"type":"room_left","room":"post:42","reason":"not_allowed"}"#);
        assert_eq!(out(Departure::Left), r#"{"type":"room_left","room":"post:42","reason":"left"}"#);
        assert_eq!(text(token_expiring(Duration::from_secs(60))), r#"{"type":"token_expiring","in_ms":60000}"#);
        assert_eq!(text(refreshed(Some(Duration::from_secs(1)), None)), r#"{"type":"refreshed","in_ms":1000}"#);
        assert_eq!(text(refreshed(None, None)), r#"{"type":"refreshed"}"#);
        assert_eq!(text(viewers_changed(Change::Joined, 4, &[])), r#"{"type":"viewer_joined","viewers":4}"#);
        assert_eq!(text(viewers_changed(Change::Left, 3, &[])), r#"{"type":"viewer_left","viewers":3}"#);
        let lost = |position| text(resync(&room, Reason::BusGap, position));
        assert_eq!(lost(None), r#"{"type":"resync","room":"post:42","reason":"bus_gap"}"#);
        assert_eq!(
            lost(Some(Position::new(42, 7))),
            r#"{"type":"resync","room":"post:42","reason":"bus_gap","position":"2a.7"}"#,
        );
        assert_eq!(text(refresh(&room, None)), r#"{"type":"refresh","room":"post:42"}"#);
        let [before, at] = [Position::new(42, 7), Position::new(42, 8)];
        assert_eq!(text(refresh(&room, Some(at))), r#"{"type":"refresh","room":"post:42","offset":"2a.8"}"#);
        assert_eq!(
            text(room_state(&room, at, br#"{"a":1}"#)),
            r#"{"type":"room_state","room":"post:42","revision":"2a.8","state":{"a":1}}"#,
        );
        assert_eq!(
            text(room_state_patch(&room, before, at, br#"{"a":1}"#)),
            r#"{"type":"room_state","room":"post:42","revision":"2a.8","since":"2a.7","patch":{"a":1}}"#,
        );
        assert_eq!(text(reconnect(Duration::from_millis(1_234))), r#"{"type":"reconnect","in_ms":1234}"#);
        assert_eq!(text(pong(None)), r#"{"type":"pong"}"#);
        let fault = Fault::new(ErrorCode::BadMessage, "not JSON");
        assert_eq!(text(error(&fault, None)), r#"{"type":"error","code":"bad_message","message":"not JSON"}"#);
        assert_eq!(
            text(error(&fault.of(&room), Some(&reference))),
            r#"{"type":"error","code":"bad_message","message":"not JSON","room":"post:42","ref":[1, 2]}"#,
        );
    }
}
