//! One encoded WebSocket frame, shared by every member that gets it.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use crate::{
    close::Close,
    opcode::{MAX_CONTROL, MAX_HEADER, Opcode, put_header},
};

/// What is allocated for a message that is encoded, in bytes, before it is known how long it is. 96: the events of the
/// server's own fit, and so are written without an allocation for every few bytes.
const SMALL: usize = 96;

/// The bit of a header that says that the payload is compressed.
const RSV1: u8 = 0x40;

/// One whole message as the bytes of one unmasked WebSocket frame.
///
/// A server's frames carry no mask (RFC 6455 section 5.1), so header and payload are the same bytes for every member:
/// they are encoded once, and cloning a `Message` is a reference count.
///
/// ```
/// use rooms_core::Message;
///
/// let message = Message::json(&serde_json::json!({"type": "pong"}))?;
/// assert_eq!(message.payload(), br#"{"type":"pong"}"#);
/// assert_eq!(&message.frame()[..2], [0x81, 15]); // FIN + text, 15 bytes
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    frame: Bytes,
    header: u8,
    kind: MessageKind,
}

/// How what happens in a room is written for a connection; see [`protocol`](crate::protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For a connection that is for one room: a payload travels bare.
    Single,
    /// For a connection that is in many: everything names its room.
    Multi,
    /// For a connection that is for one room and is told positions: as for one that is in many.
    Positioned,
}

/// What a [`Message`] is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageKind {
    /// A text message; the payload is UTF-8.
    Text,
    /// A binary message.
    Binary,
    /// A ping; the payload is at most 125 bytes.
    Ping,
    /// The answer to a ping.
    Pong,
    /// The last frame of a connection: two bytes of code, then the reason.
    Close,
}

impl Message {
    /// Encodes a value as a JSON text message.
    ///
    /// # Errors
    /// Those of the value's `Serialize`: a map whose keys are not strings, or an error of its own.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        // Room for the longest header is kept free in front, so that the payload is written in its last place at once.
        let mut buffer = Vec::with_capacity(SMALL);
        buffer.resize(MAX_HEADER, 0);
        serde_json::to_writer(&mut buffer, value)?;
        let length = buffer.len() - MAX_HEADER;
        let mut header = [0; MAX_HEADER];
        let header_length = put_header(&mut header, Opcode::Text, length);
        let start = MAX_HEADER - header_length;
        for (slot, byte) in buffer.iter_mut().skip(start).zip(header.iter().take(header_length)) {
            *slot = *byte;
        }
        let frame = Bytes::from(buffer).slice(start..);
        Ok(Self { frame, header: header_length as u8, kind: MessageKind::Text })
    }

    /// A text message.
    #[must_use]
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::encode(MessageKind::Text, text.as_ref().as_bytes())
    }

    /// A binary message.
    #[must_use]
    pub fn binary(payload: impl AsRef<[u8]>) -> Self {
        Self::encode(MessageKind::Binary, payload.as_ref())
    }

    /// A ping, without a payload: that an answer comes is all it is for.
    ///
    /// A connection that a [`RoomManager`](crate::RoomManager) serves is pinged by it. This one, [`pong`](Self::pong) and
    /// [`close`](Self::close) are for whoever speaks over a [`FrameSink`](crate::ws::FrameSink) alone.
    #[must_use]
    pub fn ping() -> Self {
        Self { frame: Bytes::from_static(&[0x89, 0]), header: 2, kind: MessageKind::Ping }
    }

    /// What stands where a message was. No message is empty: each has a header.
    pub(crate) const fn gone() -> Self {
        Self { frame: Bytes::new(), header: 0, kind: MessageKind::Text }
    }

    pub(crate) const fn is_gone(&self) -> bool {
        self.frame.is_empty()
    }

    /// The answer to a ping, with the ping's payload (RFC 6455 section 5.5.3). A control frame carries at most 125 bytes,
    /// so what is longer is cut there; the payload of a received ping never is.
    #[must_use]
    pub fn pong(payload: &[u8]) -> Self {
        Self::encode(MessageKind::Pong, payload.get(..MAX_CONTROL).unwrap_or(payload))
    }

    /// A close frame, with its code and its reason: the last frame that may be sent (RFC 6455 section 5.5.1).
    ///
    /// ```
    /// use rooms_core::{Close, Message};
    ///
    /// assert_eq!(Message::close(&Close::RESTART).frame()[..], *b"\x88\x09\x03\xf4restart");
    /// ```
    #[must_use]
    pub fn close(close: &Close) -> Self {
        let mut payload = close.code().get().to_be_bytes().to_vec();
        payload.extend_from_slice(close.reason().as_bytes());
        Self::encode(MessageKind::Close, &payload)
    }

    /// A text message in parts, which together are UTF-8.
    pub(crate) fn text_of(parts: &[&[u8]]) -> Self {
        Self::encode_parts(MessageKind::Text, parts)
    }

    /// A binary message in parts.
    pub(crate) fn binary_of(parts: &[&[u8]]) -> Self {
        Self::encode_parts(MessageKind::Binary, parts)
    }

    fn encode(kind: MessageKind, payload: &[u8]) -> Self {
        Self::encode_parts(kind, &[payload])
    }

    fn encode_parts(kind: MessageKind, parts: &[&[u8]]) -> Self {
        Self::encode_with(0, kind, parts)
    }

    /// The same message with its payload compressed, for sockets that agreed on permessage-deflate (RFC 7692 section 6).
    pub(crate) fn with_deflated(&self, payload: &[u8]) -> Self {
        Self::encode_with(RSV1, self.kind, &[payload])
    }

    fn encode_with(reserved: u8, kind: MessageKind, parts: &[&[u8]]) -> Self {
        let length = parts.iter().map(|part| part.len()).sum();
        let mut header = [0; MAX_HEADER];
        let header_length = put_header(&mut header, kind.opcode(), length);
        header[0] |= reserved;
        let mut frame = BytesMut::with_capacity(header_length + length);
        frame.put_slice(header.get(..header_length).unwrap_or_default());
        for part in parts {
            frame.put_slice(part);
        }
        Self { frame: frame.freeze(), header: header_length as u8, kind }
    }

    /// What it is on the wire.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The payload, without the frame's header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.frame.get(usize::from(self.header)..).unwrap_or_default()
    }

    /// The payload, sharing the frame's memory.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        self.frame.slice(usize::from(self.header)..)
    }

    /// The whole frame: what a raw socket writes.
    #[must_use]
    pub const fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The payload as text; `None` for a binary message.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self.kind {
            MessageKind::Text => std::str::from_utf8(self.payload()).ok(),
            _ => None,
        }
    }
}

impl MessageKind {
    fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
            Self::Ping => Opcode::Ping,
            Self::Pong => Opcode::Pong,
            Self::Close => Opcode::Close,
        }
    }
}

/// The kind and the length only: a payload is the application's and has no place in a log.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({:?}, {} bytes)", self.kind, self.payload().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_text_encode_alike_at_every_length_form() {
        for length in [0, 1, 123, 124, 125, 126, 65_533, 65_534, 70_000] {
            let value = "x".repeat(length);
            let json = Message::json(&value).unwrap();
            assert_eq!(json, Message::text(format!("\"{value}\"")), "{length}");
        }
    }

    #[test]
    fn a_clone_shares_the_bytes() {
        let message = Message::text("hello");
        assert_eq!(message.frame().as_ptr(), message.clone().frame().as_ptr());
        assert_eq!(message.payload_bytes(), "hello");
    }

    #[test]
    fn a_close_carries_code_and_reason() {
        let message = Message::close(&Close::INVALID_TOKEN);
        assert_eq!(message.payload(), b"\x03\xf0Invalid token");
        assert_eq!(message.frame().first(), Some(&0x88));
    }

    #[test]
    fn a_pong_is_no_longer_than_a_control_frame_may_be() {
        for (length, sent) in [(0, 0), (124, 124), (125, 125), (126, 125), (70_000, 125)] {
            let pong = Message::pong(&vec![7; length]);
            assert_eq!((pong.payload().len(), pong.frame().len()), (sent, sent + 2), "{length}");
        }
    }
}
