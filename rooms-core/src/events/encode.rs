//! From messages to the lines of an event stream (HTML standard, section "Interpreting an event stream").

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    bus::Position,
    close::CloseCode,
    handshake::MAX_ROOMS,
    message::{Message, MessageKind},
    protocol::binary,
    room_key::RoomKey,
};

/// When a client comes back that must not come back soon: browsers always do, and after this they find the page closed.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// When a client comes back whose user, or whose address, has too many connections (4430). A minute: within it the server has
/// noticed which of them are gone without a word.
const WHEN_ANOTHER_HAS_ENDED: Duration = Duration::from_secs(60);

/// What the `id` of an event says.
#[derive(Debug)]
pub(crate) enum Ids {
    /// The position in the one room.
    One,
    /// The positions in all rooms, 16 at most: `post:42=2a.7,post:43=1b.3`. An empty one keeps the place of a room that was
    /// asked for.
    Many(BTreeMap<Box<str>, Box<str>>),
}

impl Ids {
    /// For these rooms, each with what its client gave as its position. It replaces the id that the client has, so what is
    /// known of the rooms that are not joined yet, or can't be now, has to stay in it.
    pub(crate) fn many<'a>(asked: impl IntoIterator<Item = (&'a RoomKey, &'a str)>) -> Self {
        let known = asked.into_iter().map(|(room, given)| {
            // Written anew, as what a URL gives may hold a line end.
            let position = given.parse::<Position>().map(|position| position.to_string()).unwrap_or_default();
            (Box::from(room.as_str()), position.into_boxed_str())
        });
        Self::Many(known.collect())
    }
}

/// The `id` of the last event that a client has had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastId<'a>(pub(crate) &'a str);

impl<'a> LastId<'a> {
    /// Where it stood in this room, among several. One that is not named there is at no position of any log, unless the
    /// client comes for the first time.
    pub(crate) fn position(self, room: &RoomKey) -> &'a str {
        if self.0.is_empty() {
            return "";
        }
        let mut entries = self.0.split(',').filter_map(|entry| entry.rsplit_once('='));
        entries
            .find(|(name, position)| *name == room.as_str() && !position.is_empty())
            .map_or("none", |(_, position)| position)
    }

    /// The same for the only room, which need not be named. It is where the client was in several rooms before.
    pub(crate) fn position_in_only(self, room: &RoomKey) -> &'a str {
        if self.0.contains('=') { self.position(room) } else { self.0 }
    }
}

/// Writes messages as events, and remembers the positions.
#[derive(Debug)]
pub(super) struct Encoder(Ids);

#[derive(Serialize)]
struct Closed<'a> {
    code: u16,
    reason: &'a str,
}

#[derive(Deserialize)]
struct Left<'a> {
    room: &'a str,
}

#[derive(Deserialize)]
struct Reconnect {
    in_ms: u64,
}

impl Encoder {
    pub(super) const fn new(ids: Ids) -> Self {
        Self(ids)
    }

    pub(super) fn encode(&mut self, message: &Message, out: &mut Vec<u8>) {
        match message.kind() {
            MessageKind::Text => {
                let text = message.as_text().unwrap_or_default();
                self.note(text, out);
                data(text, out);
                out.push(b'\n');
            }
            // A comment: proxies see that the connection is in use.
            MessageKind::Ping => out.extend_from_slice(b":\n\n"),
            MessageKind::Close => close(message.payload(), out),
            MessageKind::Binary => self.bytes(message.payload(), out),
            // Nobody can have sent a ping.
            MessageKind::Pong => {}
        }
    }

    /// Writes the fields that come from what the server says itself. Everything that is said in a room stands inside an
    /// event that begins with the server's own words.
    fn note(&mut self, text: &str, out: &mut Vec<u8>) {
        if let Some((room, position)) = positioned(text) {
            self.at(room, position, out);
        } else if text.starts_with(r#"{"type":"room_left","#) {
            if let (Ok(Left { room }), Ids::Many(positions)) = (serde_json::from_str(text), &mut self.0) {
                positions.remove(room);
            }
        } else if text.starts_with(r#"{"type":"reconnect","#)
            && let Ok(Reconnect { in_ms }) = serde_json::from_str(text)
        {
            retry(Duration::from_millis(in_ms), out);
        }
    }

    /// Writes a payload of bytes, which names its room and its position as it does on a connection for many rooms. An event
    /// stream is text, so it comes as base64 (RFC 4648 section 4), a third longer.
    fn bytes(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let Ok(parts) = binary::split(message) else { return };
        // Both are the server's own words, with nothing to escape.
        let (Ok(room), Ok(position)) = (std::str::from_utf8(parts.room), std::str::from_utf8(parts.beside)) else {
            return;
        };
        out.reserve(64 + message.len() / 3 * 4);
        if !position.is_empty() {
            self.at(room, position, out);
        }
        // Writing into memory does not fail.
        _ = write!(out, r#"data: {{"type":"binary","room":"{room}","#);
        if !position.is_empty() {
            _ = write!(out, r#""offset":"{position}","#);
        }
        _ = write!(out, "\"base64\":\"{}\"}}\n\n", Base64Display::new(parts.payload, &STANDARD));
    }

    fn at(&mut self, room: &str, position: &str, out: &mut Vec<u8>) {
        // Writing into memory does not fail.
        match &mut self.0 {
            Ids::One => _ = writeln!(out, "id: {position}"),
            Ids::Many(positions) => {
                // The application may have it enter rooms that it did not ask for, and will not ask for when it comes back.
                if positions.len() == MAX_ROOMS && !positions.contains_key(room) {
                    return;
                }
                positions.insert(room.into(), position.into());
                let known = positions.iter().filter(|(_, position)| !position.is_empty());
                for (at, (room, position)) in known.enumerate() {
                    _ = write!(out, "{}{room}={position}", if at == 0 { "id: " } else { "," });
                }
                out.push(b'\n');
            }
        }
    }
}

/// The room and the position of an event that says where its client now stands. They are looked for in the place where the
/// server writes them: a field of the same name may be the application's.
fn positioned(text: &str) -> Option<(&str, &str)> {
    let (event, rest) = text.strip_prefix(r#"{"type":""#)?.split_once(r#"","room":""#)?;
    let field = match event {
        "message" | "refresh" => r#","offset":""#,
        "room_joined" | "resync" => r#","position":""#,
        _ => return None,
    };
    let (room, mut rest) = rest.split_once('"')?;
    if event == "resync" {
        (_, rest) = rest.strip_prefix(r#","reason":""#)?.split_once('"')?;
    }
    let (position, _) = rest.strip_prefix(field)?.split_once('"')?;
    Some((room, position))
}

/// A line for each line of the text. A payload may have line ends between its tokens, and CR alone is one.
fn data(text: &str, out: &mut Vec<u8>) {
    for line in text.split(['\n', '\r']) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
}

fn close(payload: &[u8], out: &mut Vec<u8>) {
    let code = payload.first_chunk().and_then(|code| CloseCode::new(u16::from_be_bytes(*code)));
    let code = code.unwrap_or(CloseCode::NORMAL);
    let reason = payload.get(2..).and_then(|reason| std::str::from_utf8(reason).ok()).unwrap_or_default();
    out.extend_from_slice(b"event: close\n");
    if code.is_final() {
        retry(NEVER, out);
    } else if code == CloseCode::TOO_MANY_CONNECTIONS {
        retry(WHEN_ANOTHER_HAS_ENDED, out);
    }
    data(&serde_json::to_string(&Closed { code: code.get(), reason }).unwrap_or_default(), out);
    out.push(b'\n');
}

fn retry(after: Duration, out: &mut Vec<u8>) {
    _ = writeln!(out, "retry: {}", after.as_millis());
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{close::Close, protocol, protocol::multi};

    fn encode(encoder: &mut Encoder, message: &Message) -> String {
        let mut out = Vec::new();
        encoder.encode(message, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn room(id: u64) -> RoomKey {
        RoomKey::new("post", id).unwrap()
    }

    fn joined(id: u64, offset: u64) -> Message {
        let standing = protocol::Standing { position: Some(Position::new(0x2a, offset)), ..Default::default() };
        protocol::room_joined(&room(id), standing, Value::Null, None)
    }

    fn message(id: u64, offset: u64) -> Message {
        multi::message_at(&room(id), Position::new(0x2a, offset), b"1")
    }

    #[test]
    fn a_message_has_its_position_as_its_id() {
        let mut one = Encoder::new(Ids::One);
        let event = encode(&mut one, &message(42, 7));
        assert_eq!(
            event,
            "id: 2a.7\ndata: {\"type\":\"message\",\"room\":\"post:42\",\"offset\":\"2a.7\",\"data\":1}\n\n"
        );
        assert!(encode(&mut one, &joined(42, 7)).starts_with("id: 2a.7\ndata: {\"type\":\"room_joined\""));
        let without = encode(&mut one, &multi::message(&room(42), br#"{"offset":"2a.9"}"#));
        assert!(without.starts_with("data: "), "what a member says is no position: {without}");
    }

    #[test]
    fn a_resync_has_the_position_from_which_it_goes_on() {
        let mut many = Encoder::new(Ids::many([]));
        encode(&mut many, &joined(42, 7));
        let resync = |position| protocol::resync(&room(42), protocol::Reason::BusGap, position);
        let told = encode(&mut many, &resync(Some(Position::new(0x2a, 9))));
        assert!(told.starts_with("id: post:42=2a.9\ndata: {\"type\":\"resync\""), "{told}");
        assert!(encode(&mut many, &resync(None)).starts_with("data: {"));
    }

    #[test]
    fn a_refresh_has_the_position_of_the_message_in_whose_place_it_comes() {
        let at = Some(Position::new(0x2a, 8));
        assert!(
            encode(&mut Encoder::new(Ids::One), &protocol::refresh(&room(42), at)).starts_with("id: 2a.8\ndata: {")
        );
        let mut many = Encoder::new(Ids::many([]));
        encode(&mut many, &joined(42, 7));
        assert!(encode(&mut many, &protocol::refresh(&room(42), at)).starts_with("id: post:42=2a.8\ndata: {"));
        assert!(encode(&mut many, &protocol::refresh(&room(42), None)).starts_with("data: {"));
    }

    #[test]
    fn bytes_are_base64_with_the_room_and_the_position() {
        let mut one = Encoder::new(Ids::One);
        let at = encode(&mut one, &binary::message(&room(42), Some(Position::new(0x2a, 7)), b"\0\xff\n"));
        let data = r#"{"type":"binary","room":"post:42","offset":"2a.7","base64":"AP8K"}"#;
        assert_eq!(at, format!("id: 2a.7\ndata: {data}\n\n"));
        let without = encode(&mut one, &binary::message(&room(42), None, b""));
        assert_eq!(without, "data: {\"type\":\"binary\",\"room\":\"post:42\",\"base64\":\"\"}\n\n");
    }

    #[test]
    fn among_several_rooms_an_id_has_all_positions() {
        let mut many = Encoder::new(Ids::many([]));
        let id = |event: String| event.lines().next().unwrap().to_owned();
        assert_eq!(id(encode(&mut many, &joined(42, 7))), "id: post:42=2a.7");
        assert_eq!(id(encode(&mut many, &message(43, 1))), "id: post:42=2a.7,post:43=2a.1");
        let last = id(encode(&mut many, &message(42, 8)));
        assert_eq!(last, "id: post:42=2a.8,post:43=2a.1");
        let last = LastId(last.strip_prefix("id: ").unwrap());
        assert_eq!((last.position(&room(42)), last.position(&room(43))), ("2a.8", "2a.1"));
        assert_eq!(last.position(&room(44)), "none", "it may have missed anything there");
        assert_eq!(LastId("").position(&room(42)), "", "it comes for the first time");
        assert_eq!((last.position_in_only(&room(43)), last.position_in_only(&room(44))), ("2a.1", "none"));
        assert_eq!((LastId("2a.7").position_in_only(&room(42)), LastId("").position_in_only(&room(42))), ("2a.7", ""));
        for broken in ["=", ",,,", "post:42", "post:42=", &"x".repeat(10_000)] {
            assert_eq!(LastId(broken).position(&room(42)), "none");
        }
        encode(&mut many, &protocol::room_left(&room(42), None));
        assert_eq!(id(encode(&mut many, &message(43, 2))), "id: post:43=2a.2");
    }

    #[test]
    fn a_position_of_the_applications_own_is_no_id() {
        let snapshot = json!({"position": "lobby,post:43=1.1", "offset": "2a.9"});
        for ids in [Ids::One, Ids::many([])] {
            let standing = || protocol::Standing { viewers: 1, ..Default::default() };
            let event =
                encode(&mut Encoder::new(ids), &protocol::room_joined(&room(42), standing(), snapshot.clone(), None));
            assert!(event.starts_with("data: ") && event.contains("lobby"), "{event}");
        }
    }

    #[test]
    fn an_id_keeps_the_positions_that_were_given_of_rooms_that_are_not_joined_yet() {
        let (a, b, c) = (room(42), room(43), room(44));
        let mut many = Encoder::new(Ids::many([(&a, "2a.7"), (&b, "2a.1\ndata: 1"), (&c, "")]));
        assert!(encode(&mut many, &joined(44, 5)).starts_with("id: post:42=2a.7,post:44=2a.5\n"));
        assert!(encode(&mut many, &joined(42, 8)).starts_with("id: post:42=2a.8,post:44=2a.5\n"));
    }

    #[test]
    fn rooms_that_the_application_has_it_enter_do_not_lengthen_the_id_beyond_its_bound() {
        let mut many = Encoder::new(Ids::many([(&room(99), "")]));
        for number in 10..100 {
            let id = encode(&mut many, &joined(number, 1)).lines().next().unwrap().to_owned();
            let rooms = id.strip_prefix("id: ").map(|id| id.split(',').count());
            let known = match number {
                // One place is that of the room which was asked for.
                10..25 => Some(number as usize - 9),
                25..99 => None,
                _ => Some(MAX_ROOMS),
            };
            assert_eq!(rooms, known, "{number}: {id}");
        }
        assert!(encode(&mut many, &message(10, 2)).starts_with("id: post:10=2a.2,post:11=2a.1,"));
    }

    #[test]
    fn no_payload_ends_its_event_early() {
        let payload = multi::message(&room(42), b"{\n\n\"a\":\r\n1}");
        let event = encode(&mut Encoder::new(Ids::One), &payload);
        let lines: Vec<&str> = event.lines().collect();
        let (last, data) = lines.split_last().unwrap();
        assert_eq!(*last, "");
        let text: Vec<&str> = data.iter().map(|line| line.strip_prefix("data: ").unwrap()).collect();
        let value: Value = serde_json::from_str(&text.join("\n")).unwrap();
        assert_eq!(value["data"], json!({"a": 1}));
    }

    #[test]
    fn a_browser_comes_back_when_it_should() {
        let mut encoder = Encoder::new(Ids::One);
        let reconnect = encode(&mut encoder, &protocol::reconnect(Duration::from_millis(1_234)));
        assert!(reconnect.starts_with("retry: 1234\ndata: {"), "{reconnect}");
        let refused = encode(&mut encoder, &Message::close(&Close::NOT_ALLOWED));
        assert_eq!(refused, "event: close\nretry: 86400000\ndata: {\"code\":4403,\"reason\":\"not allowed\"}\n\n");
        let too_many = encode(&mut encoder, &Message::close(&Close::TOO_MANY_CONNECTIONS));
        assert!(too_many.starts_with("event: close\nretry: 60000\n"), "{too_many}");
        assert!(!encode(&mut encoder, &Message::close(&Close::SLOW_CONSUMER)).contains("retry"));
    }
}
