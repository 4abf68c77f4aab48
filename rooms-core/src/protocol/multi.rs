//! A connection that is in many rooms: what its client may say, and how it is told what happens in one of them.

use serde_json::value::RawValue;

use super::{Command, ErrorCode, Fault, Ref, Request, head};
use crate::{message::Message, room_key::RoomKey};

/// The longest `ref`, in bytes: a number or a UUID, with something around it. It is repeated in each answer.
const MAX_REF: usize = 128;

/// Each field is looked at by itself, so that an error can say which one is wrong and repeat the `ref`.
struct Head<'a> {
    kind: Option<&'a RawValue>,
    room: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
}

pub(crate) fn read(text: &str) -> Request<'_> {
    let refused = |fault| Request { command: Err(bad(fault)), reference: None };
    let [kind, reference, room, data] = match head::fields(text, ["type", "ref", "room", "data"]) {
        Ok(fields) => fields,
        Err(fault) => return refused(fault),
    };
    let reference = reference.filter(|reference| reference.get() != "null");
    if reference.is_some_and(|reference| reference.get().len() > MAX_REF) {
        return refused("a `ref` has at most 128 bytes");
    }
    Request { command: Head { kind, room, data }.command(), reference: reference.map(|it| Ref(it.to_owned())) }
}

impl<'a> Head<'a> {
    fn command(&self) -> Result<Command<'a>, Fault> {
        let kind = self.kind.and_then(head::string).ok_or_else(|| bad("a message has a `type`, a string"))?;
        match &*kind {
            "ping" => Ok(Command::Ping),
            "join" => self.room().map(Command::Join),
            "leave" => self.room().map(Command::Leave),
            "publish" => {
                let room = self.room()?;
                let data = self.data.ok_or_else(|| bad("`publish` has `data`").of(&room))?;
                Ok(Command::Publish(room, data))
            }
            _ if self.room.is_none() => Err(unknown()),
            _ => self.room().map(|room| Command::Application(Some(room))),
        }
    }

    fn room(&self) -> Result<RoomKey, Fault> {
        let name = self.room.and_then(head::string).ok_or_else(|| bad("`room` is a string"))?;
        name.parse().map_err(|error| Fault::bad_room(&name, error))
    }
}

pub(crate) const fn bad(fault: &'static str) -> Fault {
    Fault::new(ErrorCode::BadMessage, fault)
}

pub(crate) const fn unknown() -> Fault {
    Fault::new(ErrorCode::UnknownType, "nothing answers to this type here")
}

/// A payload of a room. It is JSON already, and a room's name has nothing to escape, so this is a copy.
pub(crate) fn message(room: &RoomKey, payload: &[u8]) -> Message {
    Message::text_of(&[br#"{"type":"message","room":""#, room.as_str().as_bytes(), br#"","data":"#, payload, b"}"])
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
        let command = |text: &str| format!("{:?}", read(text).command.unwrap());
        assert_eq!(command(r#"{"type":"ping"}"#), "Ping");
        assert_eq!(command(r#"{"type":"join","room":"post:42","since":{}}"#), "Join(RoomKey(post:42))");
        assert_eq!(command(r#"{"ref":null,"room":"post:42","type":"leave"}"#), "Leave(RoomKey(post:42))");
        assert_eq!(command(r#"{"type":"x","room":"post:42","x":1,"x":2}"#), "Application(Some(RoomKey(post:42)))");
        for data in ["null", "1e999", "-0", r#""\ud800""#, r#"{"b":1,"a":1, "b":2}"#, r#"{"type":"error"}"#] {
            let publish = format!(r#"{{"type":"publish","room":"post:42","data": {data} }}"#);
            let Ok(Command::Publish(key, came)) = read(&publish).command else { panic!("{data}") };
            assert_eq!((key, came.get()), (room(), data));
        }
        for reference in ["1", "-1e5", "\"a\\n\"", "[1, {}]", "{\"type\":\"x\"}", "true"] {
            let ping = format!("{{\"type\":\"ping\",\"ref\":{reference}}}");
            assert_eq!(read(&ping).reference.unwrap().0.get(), reference);
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
            r#"{"type":"publish","room":"post:42","data":01}"#,
            &format!("{{\"type\":\"ping\",\"ref\":\"{}\"}}", "x".repeat(200)),
            &format!("{{\"type\":{}", "[".repeat(50_000)),
        ] {
            assert_eq!(code(bad), ErrorCode::BadMessage, "{bad:.60}");
        }
        assert_eq!(code(r#"{"type":"dance"}"#), ErrorCode::UnknownType);
        assert_eq!(code(r#"{"type":"join","room":"post:*"}"#), ErrorCode::BadRoom);
    }

    #[test]
    fn a_bad_room_is_named_with_what_is_wrong() {
        let fault = |name: &str| read(&json!({"type": "join", "room": name}).to_string()).command.unwrap_err();
        let star = fault("post:a*");
        assert_eq!(star.room.as_deref(), Some("post:a*"));
        assert!(
            star.message.starts_with("\"post:a*\" is no room: the id") && star.message.contains("byte 1"),
            "{star:?}"
        );
        let control = fault("post:\u{1b}[31m\u{202e}");
        assert!(control.message.starts_with(r#""post:\u{1b}[31m\u{202e}" is no room"#), "{control:?}");
        let long = fault(&"\u{1f600}".repeat(10_000));
        assert_eq!(long.room, None);
        assert!(long.message.len() < 400, "{long:?}");
        let longest = format!("p:{}", "x".repeat(MAX_KIND + MAX_ID - 1));
        assert_eq!(fault(&longest).room.as_deref(), Some(&*longest));
        assert_eq!(fault(&format!("{longest}x")).room, None);
    }

    #[test]
    fn what_has_the_type_of_an_event_is_told_from_what_has_not() {
        for name in RESERVED {
            assert!(is_reserved(&json!({"n": [{}], "type": name}).to_string()), "{name}");
        }
        for text in [
            r#" {"type":"x","t\u0079pe":"pong"}"#,
            r#"{"type":"p\u006fng","type":"x"}"#,
            r#"{"\ud800":1,"type":"\ud800","type":"error"}"#,
        ] {
            assert!(is_reserved(text), "{text}");
        }
        for text in
            [r#"{"type":"pongs"}"#, r#"{"type":["pong"]}"#, r#"[{"type":"pong"}]"#, r#"{"a":{"type":"pong"}}"#, "1"]
        {
            assert!(!is_reserved(text), "{text}");
        }
    }

    #[test]
    fn a_room_is_named_in_what_happens_there() {
        let event = viewers_changed(Change::Joined, 4, &[]);
        assert_eq!(with_room(&room(), &event).payload(), br#"{"type":"viewer_joined","viewers":4,"room":"post:42"}"#);
        assert_eq!(message(&room(), br#"{"a":1}"#).payload(), br#"{"type":"message","room":"post:42","data":{"a":1}}"#);
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
