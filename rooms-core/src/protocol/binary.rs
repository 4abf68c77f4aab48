//! Binary messages that name their room: from the server to a client and from a client to the server in one shape, which
//! [`protocol`](super) specifies.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    Fault, Ref,
    request::{LONG_REF, MAX_REF},
};
use crate::{bus::Position, message::Message, room_key::RoomKey};

/// The first byte: a payload that is published in the room.
const PUBLISHED: u8 = 1;
/// The first byte: a message for the application, which only clients send.
const FOR_THE_APPLICATION: u8 = 2;

/// What a client says in a binary message, and what its answer repeats.
#[derive(Debug)]
pub(crate) struct BinaryRequest {
    pub(crate) command: Result<BinaryCommand, Fault>,
    pub(crate) reference: Option<Ref>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BinaryCommand {
    Publish(RoomKey, Bytes),
    /// For the room's `on_binary_message`.
    Application(RoomKey, Bytes),
}

/// A binary message in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    what: u8,
    pub(crate) room: &'a [u8],
    /// From the server the position, from a client the `ref`; empty where there is none.
    pub(crate) beside: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// A payload of a room, with its position where the room has a history.
pub(crate) fn message(room: &RoomKey, position: Option<Position>, payload: &[u8]) -> Message {
    let position = position.map(|position| position.to_string()).unwrap_or_default();
    let (room, position) = (room.as_str().as_bytes(), position.as_bytes());
    // A room's name has at most 233 bytes and a position 37.
    let [room_length, position_length] = [room, position].map(|part| part.len() as u8);
    Message::binary_of(&[&[PUBLISHED, room_length], room, &[position_length], position, payload])
}

/// Reads what a client sent. The payload shares the memory of the frame.
pub(crate) fn read(frame: &Bytes) -> BinaryRequest {
    let refused = |fault| BinaryRequest { command: Err(Fault::bad_message(fault)), reference: None };
    let parts = match split(frame) {
        Ok(parts) => parts,
        Err(fault) => return refused(fault),
    };
    match reference(parts.beside) {
        Ok(reference) => BinaryRequest { command: command(parts, frame), reference },
        Err(fault) => refused(fault),
    }
}

fn command(parts: Parts<'_>, frame: &Bytes) -> Result<BinaryCommand, Fault> {
    let name = std::str::from_utf8(parts.room).map_err(|_| Fault::bad_message("the name of a room is UTF-8"))?;
    let room: RoomKey = name.parse().map_err(|error| Fault::bad_room(name, error))?;
    let payload = frame.slice_ref(parts.payload);
    match parts.what {
        PUBLISHED => Ok(BinaryCommand::Publish(room, payload)),
        FOR_THE_APPLICATION => Ok(BinaryCommand::Application(room, payload)),
        _ => {
            Err(Fault::bad_message("a binary message begins with byte 1, to publish, or 2, for the application")
                .of(&room))
        }
    }
}

fn reference(text: &[u8]) -> Result<Option<Ref>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > MAX_REF {
        return Err(LONG_REF);
    }
    let reference: Box<RawValue> = serde_json::from_slice(text).map_err(|_| "a `ref` is JSON")?;
    Ok((reference.get() != "null").then_some(Ref(reference)))
}

/// Finds the parts of a message, whoever sent it.
pub(crate) fn split(frame: &[u8]) -> Result<Parts<'_>, &'static str> {
    const NO_ROOM: &str = "a binary message names its room: a byte, its length, and as many bytes";
    const CUT: &str = "a binary message ends inside its head";

    let (what, rest) = frame.split_first().ok_or("a binary message has a head")?;
    let (room, rest) = counted(rest).ok_or(NO_ROOM)?;
    if room.is_empty() {
        return Err(NO_ROOM);
    }
    let (beside, payload) = counted(rest).ok_or(CUT)?;
    Ok(Parts { what: *what, room, beside, payload })
}

/// Takes a byte and as many bytes as it says off the front.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::ErrorCode, *};

    fn room() -> RoomKey {
        RoomKey::new("post", 42).unwrap()
    }

    /// A message with a room's name and a `ref` of any length that fits a byte.
    fn frame(what: u8, room: &[u8], reference: &[u8], payload: &[u8]) -> Bytes {
        let [room_length, length] = [room, reference].map(|part| u8::try_from(part.len()).unwrap());
        [&[what, room_length], room, &[length], reference, payload].concat().into()
    }

    #[test]
    fn a_payload_is_written_as_the_protocol_says() {
        let at = message(&room(), Some(Position::new(42, 7)), b"\0\xff");
        assert_eq!(at.payload(), b"\x01\x07post:42\x042a.7\0\xff");
        assert_eq!(message(&room(), None, b"").payload(), b"\x01\x07post:42\0");
        let longest: RoomKey = format!("{}:{}", "k".repeat(32), "i".repeat(200)).parse().unwrap();
        let last = message(&longest, Some(Position::new(u64::MAX, u64::MAX)), b"x");
        let parts = split(last.payload()).unwrap();
        assert_eq!((parts.room, parts.payload), (longest.as_str().as_bytes(), &b"x"[..]));
        assert_eq!(parts.beside, b"ffffffffffffffff.18446744073709551615");
    }

    #[test]
    fn commands_are_read_with_their_ref() {
        let BinaryRequest { command, reference } = read(&frame(1, b"post:42", b" {\"n\":1} ", b"\x01\x02"));
        assert_eq!(command.unwrap(), BinaryCommand::Publish(room(), Bytes::from_static(b"\x01\x02")));
        assert_eq!(reference.unwrap().0.get(), r#"{"n":1}"#);
        for none in [&b""[..], b"null"] {
            let BinaryRequest { command, reference } = read(&frame(2, b"post:42", none, b""));
            assert_eq!(command.unwrap(), BinaryCommand::Application(room(), Bytes::new()), "no bytes are bytes too");
            assert!(reference.is_none());
        }
        let longest = format!("\"{}\"", "x".repeat(MAX_REF - 2));
        assert_eq!(read(&frame(1, b"post:42", longest.as_bytes(), b"")).reference.unwrap().0.get(), longest);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long_room = format!("post:{}", "1".repeat(201));
        let long_ref = "1".repeat(MAX_REF + 1);
        for (broken, code, words) in [
            (Bytes::new(), ErrorCode::BadMessage, "has a head"),
            (Bytes::from_static(b"\x01"), ErrorCode::BadMessage, "names its room"),
            (Bytes::from_static(b"\x01\0\0x"), ErrorCode::BadMessage, "names its room"),
            (Bytes::from_static(b"\x01\xe9post:42"), ErrorCode::BadMessage, "names its room"),
            (Bytes::from_static(b"\x01\x08post:42"), ErrorCode::BadMessage, "names its room"),
            (Bytes::from_static(b"\x01\x07post:42"), ErrorCode::BadMessage, "inside its head"),
            (Bytes::from_static(b"\x01\x07post:42\x031"), ErrorCode::BadMessage, "inside its head"),
            (frame(1, b"post:\xff", b"", b""), ErrorCode::BadMessage, "UTF-8"),
            (frame(1, b"post:*", b"", b""), ErrorCode::BadRoom, "\"post:*\" is no room"),
            (frame(1, b"post", b"", b""), ErrorCode::BadRoom, "is no room"),
            (frame(1, &[0; 233], b"", b""), ErrorCode::BadRoom, "is no room"),
            (frame(1, long_room.as_bytes(), b"", b""), ErrorCode::BadRoom, "is no room"),
            (frame(0, b"post:42", b"", b""), ErrorCode::BadMessage, "begins with byte 1"),
            (frame(3, b"post:42", b"", b""), ErrorCode::BadMessage, "begins with byte 1"),
            (frame(b'{', b"post:42", b"", b""), ErrorCode::BadMessage, "begins with byte 1"),
            (frame(1, b"post:42", long_ref.as_bytes(), b""), ErrorCode::BadMessage, LONG_REF),
            (frame(1, b"post:42", b"{", b""), ErrorCode::BadMessage, "a `ref` is JSON"),
            (frame(1, b"post:42", b"1 2", b""), ErrorCode::BadMessage, "a `ref` is JSON"),
            (frame(1, b"post:42", b"\"\xff\"", b""), ErrorCode::BadMessage, "a `ref` is JSON"),
            (frame(1, b"post:42", b" ", b""), ErrorCode::BadMessage, "a `ref` is JSON"),
        ] {
            let fault = read(&broken).command.unwrap_err();
            assert_eq!(fault.code, code, "{broken:?}");
            assert!(fault.message.contains(words), "{broken:?}: {fault:?}");
        }
        let known = read(&frame(9, b"post:*", b"7", b""));
        assert_eq!(known.reference.unwrap().0.get(), "7", "an error repeats it");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_command_or_a_fault(bytes: Vec<u8>, room in "[a-z:0-9*]{0,12}", beside in "[0-9\"{}]{0,4}") {
            let frame = frame(bytes.first().copied().unwrap_or(1) % 4, room.as_bytes(), beside.as_bytes(), &bytes);
            for bytes in [Bytes::from(bytes), frame] {
                if let Ok(BinaryCommand::Publish(room, payload)) = read(&bytes).command {
                    prop_assert!(bytes.ends_with(&payload) && bytes.get(2..).unwrap().starts_with(room.as_str().as_bytes()));
                }
            }
        }
    }
}
