//! A connection that is in many rooms: what its client may say, and how it is told what happens in one of them.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use super::{Command, ErrorCode, Fault, Ref, Request, is_reserved, single};
use crate::{message::Message, room_key::RoomKey};

/// The longest `ref`, in bytes: a number or a UUID, with something around it. It is repeated in each answer.
const MAX_REF: usize = 128;

/// Each field is looked at by itself, so that an error can say which one is wrong and repeat the `ref`.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ref")]
    reference: Option<&'a RawValue>,
    #[serde(borrow, default)]
    room: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

pub(crate) fn read(text: &str) -> Request {
    let refused = |fault| Request { command: Err(bad(fault)), reference: None };
    if let Err(fault) = single::check(text) {
        return refused(fault);
    }
    let envelope: Envelope<'_> = match serde_json::from_str(text) {
        Ok(envelope) => envelope,
        Err(error) if error.is_data() => return refused("a field is given twice"),
        Err(_) => return refused("not JSON"),
    };
    if envelope.reference.is_some_and(|reference| reference.get().len() > MAX_REF) {
        return refused("a `ref` has at most 128 bytes");
    }
    Request { command: envelope.command(text), reference: envelope.reference.map(|it| Ref(it.to_owned())) }
}

impl Envelope<'_> {
    fn command(&self, text: &str) -> Result<Command, Fault> {
        let kind: String = parse(self.kind).ok_or_else(|| bad("a message has a `type`, a string"))?;
        match &*kind {
            "ping" => Ok(Command::Ping),
            "join" => self.room().map(Command::Join),
            "leave" => self.room().map(Command::Leave),
            "publish" => {
                let room = self.room()?;
                // Parsed and written anew: what is read here is what every member reads, also where a field is given
                // twice, of which some parsers take the first and some the last.
                let data: Value = parse(self.data).ok_or_else(|| bad("`publish` has `data`").of(&room))?;
                if is_reserved(&data) {
                    return Err(Fault::new(ErrorCode::ReservedType, "this type is the server's own").of(&room));
                }
                Ok(Command::Publish(room, data))
            }
            _ if self.room.is_none() => Err(unknown()),
            _ => {
                let room = self.room()?;
                let message = serde_json::from_str(text).map_err(|_| bad("not JSON").of(&room))?;
                Ok(Command::Application(Some(room), message))
            }
        }
    }

    fn room(&self) -> Result<RoomKey, Fault> {
        let name: String = parse(self.room).ok_or_else(|| bad("`room` is a string"))?;
        name.parse().map_err(|_| Fault::new(ErrorCode::BadRoom, "no name of a room"))
    }
}

fn parse<T: DeserializeOwned>(field: Option<&RawValue>) -> Option<T> {
    serde_json::from_str(field?.get()).ok()
}

const fn bad(fault: &'static str) -> Fault {
    Fault::new(ErrorCode::BadMessage, fault)
}

pub(crate) const fn unknown() -> Fault {
    Fault::new(ErrorCode::UnknownType, "nothing answers to this type here")
}

/// A payload of a room. It is JSON already, and a room's name has nothing to escape, so this is a copy.
pub(crate) fn message(room: &RoomKey, payload: &Message) -> Message {
    Message::text_of(&[
        br#"{"type":"message","room":""#,
        room.as_str().as_bytes(),
        br#"","data":"#,
        payload.payload(),
        b"}",
    ])
}

/// An event of a room, which is a JSON object with some field, and the room's name in it.
pub(crate) fn with_room(room: &RoomKey, event: &Message) -> Message {
    let open = event.payload().strip_suffix(b"}").unwrap_or_default();
    Message::text_of(&[open, br#","room":""#, room.as_str().as_bytes(), br#""}"#])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::*, *};

    fn room() -> RoomKey {
        RoomKey::new("post", 42).unwrap()
    }

    #[test]
    fn commands_are_read_with_their_ref() {
        let command = |text: &str| read(text).command;
        assert_eq!(command(r#"{"type":"ping"}"#), Ok(Command::Ping));
        assert_eq!(command(r#"{"type":"join","room":"post:42","since":{}}"#), Ok(Command::Join(room())));
        assert_eq!(command(r#"{"ref":null,"room":"post:42","type":"leave"}"#), Ok(Command::Leave(room())));
        assert_eq!(
            command(r#"{"type":"publish","room":"post:42","data":{"a":1,"a":2}}"#),
            Ok(Command::Publish(room(), json!({"a": 2}))),
        );
        let typing = json!({"type": "typing", "room": "post:42"});
        assert_eq!(command(&typing.to_string()), Ok(Command::Application(Some(room()), typing)));
        for reference in ["1", "-1e5", "\"a\\n\"", "[1, {}]", "{\"type\":\"x\"}", "true"] {
            let request = read(&format!("{{\"type\":\"ping\",\"ref\":{reference}}}"));
            assert_eq!(request.reference.unwrap().0.get(), reference);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let code = |text: &str| read(text).command.unwrap_err().code;
        for bad in [
            "",
            "[]",
            "{}",
            "{",
            r#"{"type":5}"#,
            r#"{"type":"join"}"#,
            r#"{"type":"join","room":5}"#,
            r#"{"type":"join","room":null}"#,
            r#"{"type":"join","room":"a:b","room":"a:c"}"#,
            r#"{"type":"publish","room":"post:42"}"#,
            r#"{"type":"publish","room":"post:42","data":1e999}"#,
            r#"{"type":"publish","room":"post:42","data":"\ud800"}"#,
            &format!("{{\"type\":\"ping\",\"ref\":\"{}\"}}", "x".repeat(200)),
            &format!("{{\"type\":{}", "[".repeat(50_000)),
        ] {
            assert_eq!(code(bad), ErrorCode::BadMessage, "{bad:.60}");
        }
        assert_eq!(code(r#"{"type":"dance"}"#), ErrorCode::UnknownType);
        assert_eq!(code(r#"{"type":"join","room":"post:*"}"#), ErrorCode::BadRoom);
        for reserved in RESERVED {
            let publish = json!({"type": "publish", "room": "post:42", "data": {"type": reserved}});
            assert_eq!(code(&publish.to_string()), ErrorCode::ReservedType);
        }
        let twice = r#"{"type":"publish","room":"post:42","data":{"type":"x","t\u0079pe":"pong"}}"#;
        assert_eq!(code(twice), ErrorCode::ReservedType);
    }

    #[test]
    fn a_room_is_named_in_what_happens_there() {
        let event = viewers_changed(Change::Joined, 4, &[]);
        assert_eq!(with_room(&room(), &event).payload(), br#"{"type":"viewer_joined","viewers":4,"room":"post:42"}"#);
        let payload = Message::text(r#"{"a":1}"#);
        assert_eq!(message(&room(), &payload).payload(), br#"{"type":"message","room":"post:42","data":{"a":1}}"#);
    }

    proptest! {
        #[test]
        fn any_text_is_a_command_or_a_fault(text in "\\PC{0,60}|\\{(\"(type|ref|room|data)\":[\"a-z:0-9{}\\[\\],*]{0,12},?){0,4}\\}") {
            let request = read(&text);
            if let Ok(command) = request.command {
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{command:?}");
            }
        }
    }
}
