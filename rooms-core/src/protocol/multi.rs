//! A connection that is in many rooms: what its client may say, and how it is told what happens in one of them.

use serde_json::value::RawValue;

use super::{
    Command, ErrorCode, Fault, Ref, Request, binary, head,
    request::{LONG_REF, MAX_REF},
};
use crate::{
    bus::Position,
    join_options::{JoinOptions, MAX_WITH},
    message::{Message, MessageKind},
    payload::Payload,
    room_key::RoomKey,
};

/// Each field is looked at by itself, so that an error can say which one is wrong and repeat the `ref`.
struct Head<'a> {
    kind: Option<&'a RawValue>,
    room: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    since: Option<&'a RawValue>,
    newest: Option<&'a RawValue>,
    with: Option<&'a RawValue>,
    observe: Option<&'a RawValue>,
    paused: Option<&'a RawValue>,
    token: Option<&'a RawValue>,
}

pub(crate) fn read(text: &str) -> Request<'_> {
    let refused = |fault| Request { command: Err(Fault::bad_message(fault)), reference: None };
    let names = ["type", "ref", "room", "data", "since", "newest", "with", "observe", "paused", "token"];
    let [kind, reference, room, data, since, newest, with, observe, paused, token] = match head::fields(text, names) {
        Ok(fields) => fields,
        Err(fault) => return refused(fault),
    };
    let reference = reference.filter(|reference| reference.get() != "null");
    if reference.is_some_and(|reference| reference.get().len() > MAX_REF) {
        return refused(LONG_REF);
    }
    Request {
        command: Head { kind, room, data, since, newest, with, observe, paused, token }.command(),
        reference: reference.map(|it| Ref(it.to_owned())),
    }
}

impl<'a> Head<'a> {
    fn command(&self) -> Result<Command<'a>, Fault> {
        let kind =
            self.kind.and_then(head::string).ok_or_else(|| Fault::bad_message("a message has a `type`, a string"))?;
        match &*kind {
            "ping" => Ok(Command::Ping),
            "refresh" => {
                let token = self
                    .token
                    .and_then(head::string)
                    .ok_or_else(|| Fault::bad_message("`refresh` has a `token`, a string"))?;
                Ok(Command::Refresh(token))
            }
            "join" => {
                let room = self.room()?;
                let options = self.options().map_err(|fault| Fault::bad_message(fault).of(&room))?;
                Ok(Command::Join(room, options))
            }
            "leave" => self.room().map(Command::Leave),
            "publish" => {
                let room = self.room()?;
                let data = self.data.ok_or_else(|| Fault::bad_message("`publish` has `data`").of(&room))?;
                Ok(Command::Publish(room, data))
            }
            _ if self.room.is_none() => Err(unknown()),
            _ => self.room().map(|room| Command::Application(Some(room))),
        }
    }

    /// What a join says besides the room. A `null` says nothing.
    fn options(&self) -> Result<JoinOptions, &'static str> {
        let given = |field: Option<&'a RawValue>| field.filter(|value| value.get() != "null");
        let mut options = JoinOptions::new();
        if let Some(since) = given(self.since) {
            options = options.since(head::string(since).ok_or("`since` is a position, a string")?);
        }
        if let Some(newest) = given(self.newest) {
            options = options.newest(newest.get().parse().map_err(|_| "`newest` is a number of messages")?);
        }
        if let Some(observe) = given(self.observe) {
            let observe = observe.get().parse().map_err(|_| "`observe` is `true` or `false`")?;
            options = if observe { options.observe() } else { options };
        }
        if let Some(paused) = given(self.paused) {
            let paused = paused.get().parse().map_err(|_| "`paused` is `true` or `false`")?;
            options = if paused { options.paused() } else { options };
        }
        if let Some(with) = given(self.with) {
            if with.get().len() > MAX_WITH {
                return Err("`with` has at most 4096 bytes");
            }
            // It has at most as many arrays and objects as bytes.
            let with =
                Payload::received(with.to_owned(), MAX_WITH).map_err(|_| "`with` is nested more than 64 deep")?;
            options = options.with(with);
        }
        Ok(options)
    }

    fn room(&self) -> Result<RoomKey, Fault> {
        let name = self.room.and_then(head::string).ok_or_else(|| Fault::bad_message("`room` is a string"))?;
        name.parse().map_err(|error| Fault::bad_room(&name, error))
    }
}

pub(crate) const fn unknown() -> Fault {
    Fault::new(ErrorCode::UnknownType, "nothing answers to this type here")
}

/// A payload of a room, which is JSON or bytes as its message is text or binary.
pub(crate) fn payload(room: &RoomKey, bare: &Message) -> Message {
    match bare.kind() {
        MessageKind::Binary => binary::message(room, None, bare.payload()),
        _ => message(room, bare.payload()),
    }
}

/// A payload of a room. It is JSON already, and a room's name has nothing to escape, so this is a copy.
pub(crate) fn message(room: &RoomKey, payload: &[u8]) -> Message {
    Message::text_of(&[br#"{"type":"message","room":""#, room.as_str().as_bytes(), br#"","data":"#, payload, b"}"])
}

/// A payload for one connection, of no room.
pub(crate) fn to_connection(payload: &[u8]) -> Message {
    Message::text_of(&[br#"{"type":"message","data":"#, payload, b"}"])
}

/// A payload of a room with a history, and its position there.
pub(crate) fn message_at(room: &RoomKey, position: Position, payload: &[u8]) -> Message {
    let position = position.to_string();
    let room = room.as_str().as_bytes();
    let parts = [
        br#"{"type":"message","room":""#,
        room,
        br#"","offset":""#,
        position.as_bytes(),
        br#"","data":"#,
        payload,
        b"}",
    ];
    Message::text_of(&parts)
}

/// An event of a room, which is a JSON object with some field, and the room's name in it.
pub(crate) fn with_room(room: &RoomKey, event: &Message) -> Message {
    let open = event.payload().strip_suffix(b"}").unwrap_or_default();
    Message::text_of(&[open, br#","room":""#, room.as_str().as_bytes(), br#""}"#])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{
        super::{is_reserved, reserved::RESERVED, viewers_changed},
        *,
    };
    use crate::{
        join_options::Since,
        presence::Change,
        room_key::{MAX_ID, MAX_KIND},
    };

    fn room() -> RoomKey {
        RoomKey::new("post", 42).unwrap()
    }

    #[test]
    fn commands_are_read_with_their_ref() {
        let command = |text: &str| format!("{:?}", read(text).command.unwrap());
        assert_eq!(command(r#"{"type":"ping"}"#), "Ping");
        let join = |more: &str| match read(&format!(r#"{{"type":"join","room":"post:42"{more}}}"#)).command {
            Ok(Command::Join(key, options)) => (key, options),
            other => panic!("{more:.60}: {other:?}"),
        };
        let (key, options) = join(r#","since":"2a.7","with":{"seen":[1]},"newest":50"#);
        assert_eq!((key, options.since, options.newest), (room(), Some(Since::Position(Position::new(42, 7))), 50));
        assert_eq!(options.with.unwrap().as_str(), r#"{"seen":[1]}"#);
        for nothing in ["", r#","since":null,"newest":null,"with":null"#, r#","since":"""#] {
            let (_, options) = join(nothing);
            assert!(options.since.is_none() && options.newest == 0 && options.with.is_none(), "{nothing}");
        }
        for (more, observes) in [(r#","observe":true"#, true), (r#","observe":false"#, false), ("", false)] {
            assert_eq!(join(more).1.observes, observes, "{more}");
        }
        for broken in ["x", "-1.1", "2a.-7", "2a.7 ", &"1".repeat(10_000)] {
            let (_, options) = join(&format!(r#","since":"{broken}""#));
            assert_eq!(options.since, Some(Since::Nowhere), "{broken:.20}");
        }
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
            r#"{"type":"join","room":"post:42","since":{}}"#,
            r#"{"type":"join","room":"post:42","since":7}"#,
            r#"{"type":"join","room":"post:42","since":"\ud800"}"#,
            r#"{"type":"join","room":"post:42","since":"1.1","since":"1.1"}"#,
            r#"{"type":"join","room":"post:42","newest":-1}"#,
            r#"{"type":"join","room":"post:42","newest":"1"}"#,
            r#"{"type":"join","room":"post:42","observe":"true"}"#,
            r#"{"type":"join","room":"post:42","observe":1}"#,
            r#"{"type":"join","room":"post:42","observe":true,"observe":false}"#,
            &format!("{{\"type\":\"join\",\"room\":\"post:42\",\"with\":\"{}\"}}", "x".repeat(4_095)),
            &format!("{{\"type\":\"join\",\"room\":\"post:42\",\"with\":{}1{}}}", "[".repeat(65), "]".repeat(65)),
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
        let at = message_at(&room(), Position::new(42, 7), br#"{"a":1}"#);
        assert_eq!(at.payload(), br#"{"type":"message","room":"post:42","offset":"2a.7","data":{"a":1}}"#);
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
