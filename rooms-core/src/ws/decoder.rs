//! From bytes to messages: the state that a connection keeps between two reads.

use bytes::Bytes;

use super::{
    WsError,
    deflate::inflate,
    frame::{FrameHeader, MAX_CLIENT_HEADER, unmask},
};
use crate::{
    close::{Close, CloseCode},
    limits::Inbound,
    opcode::{MAX_CONTROL, Opcode},
};

/// How often each byte of a compressed message counts at least. A client can make blocks that unpack to nothing, of which a byte
/// takes 15 times as long as one of JSON does to parse (`cargo bench --bench deflate`). 2: text gets smaller by more than that, so
/// what is unpacked is what counts.
const DEFLATED_COUNTS: usize = 2;

/// One message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incoming {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// A ping; it wants a pong with the same payload.
    Ping(Bytes),
    /// A pong.
    Pong,
    /// The client closes; `None` where it gave no code. Nothing comes after it.
    Close(Option<Close>),
}

/// Reads frames from bytes as they come: the state between two reads. Its owner keeps none where it
/// [is empty](Self::is_empty), as between two messages, and so while the connection is idle.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The bytes of a header that has not come whole.
    header: [u8; MAX_CLIENT_HEADER],
    header_length: u8,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// The data message that is being put together: its kind, its payload so far, its frames so far.
    message: Option<Unfinished>,
    /// For how many bytes more than came on its way the message that was yielded last counts; its owner takes it from here.
    pub(super) unpacked: u32,
}

#[derive(Debug)]
struct Frame {
    header: FrameHeader,
    read: u64,
    /// The payload of a control frame; data goes to the message.
    control: Vec<u8>,
}

#[derive(Debug)]
struct Unfinished {
    text: bool,
    deflated: bool,
    payload: Vec<u8>,
    /// How much of a text's payload is known to be UTF-8; at most three bytes of a character that is not whole follow.
    valid: usize,
    frames: u32,
}

impl Unfinished {
    /// Checks the bytes that came since the last look, so that bad text ends where it breaks (RFC 6455 section 8.1).
    fn check(&mut self) -> Result<(), WsError> {
        match std::str::from_utf8(self.payload.get(self.valid..).unwrap_or_default()) {
            Ok(_) => self.valid = self.payload.len(),
            Err(fault) if fault.error_len().is_some() => return Err(WsError::InvalidText),
            Err(fault) => self.valid += fault.valid_up_to(),
        }
        Ok(())
    }

    /// The whole message, unpacked if need be, within the same bound, and for how many bytes more it counts for that.
    fn end(self, limits: Inbound) -> Result<(Incoming, u32), WsError> {
        let came = self.payload.len();
        let payload = if self.deflated { inflate(&self.payload, limits.message as usize)? } else { self.payload };
        let least = if self.deflated { DEFLATED_COUNTS * came } else { came };
        let more = u32::try_from(payload.len().max(least) - came).unwrap_or(u32::MAX);
        let message = match self.text {
            true => String::from_utf8(payload).map(Incoming::Text).map_err(|_| WsError::InvalidText)?,
            false => Incoming::Binary(payload),
        };
        Ok((message, more))
    }
}

impl Decoder {
    /// Whether nothing is unfinished.
    pub(super) const fn is_empty(&self) -> bool {
        self.header_length == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Takes bytes off the front of `input`, up to the end of the first message.
    ///
    /// `None` means that all of `input` was taken and no message ended in it. After an error the decoder is done with.
    pub(super) fn decode(&mut self, input: &mut &[u8], limits: Inbound) -> Result<Option<Incoming>, WsError> {
        loop {
            if self.frame.is_none() && !self.read_header(input, limits)? {
                return Ok(None);
            }
            if let Some(message) = self.read_payload(input, limits)? {
                return Ok(Some(message));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Takes a header's bytes; `false` where it needs more than there are.
    fn read_header(&mut self, input: &mut &[u8], limits: Inbound) -> Result<bool, WsError> {
        let had = usize::from(self.header_length);
        let take = (MAX_CLIENT_HEADER - had).min(input.len());
        for (slot, byte) in self.header.iter_mut().skip(had).zip(input.iter().take(take)) {
            *slot = *byte;
        }
        let known = self.header.get(..had + take).unwrap_or_default();
        let Some((header, length)) = FrameHeader::parse(known, limits.may_deflate())? else {
            self.header_length = (had + take) as u8;
            *input = input.get(take..).unwrap_or_default();
            return Ok(false);
        };
        // Only what is new came from this input; the rest of the header was taken earlier.
        *input = input.get(length - had..).unwrap_or_default();
        self.header_length = 0;
        self.begin(header, limits)?;
        Ok(true)
    }

    /// Checks a frame's place in its message, and its length before a byte of it is kept.
    fn begin(&mut self, header: FrameHeader, limits: Inbound) -> Result<(), WsError> {
        if !header.opcode.is_control() {
            let message = match (header.opcode, self.message.is_some()) {
                (Opcode::Continuation, false) => return Err(WsError::Protocol("continuation of nothing")),
                (Opcode::Text | Opcode::Binary, true) => return Err(WsError::Protocol("message inside a message")),
                (opcode, _) => self.message.get_or_insert_with(|| Unfinished {
                    text: opcode == Opcode::Text,
                    deflated: header.deflated,
                    payload: Vec::new(),
                    valid: 0,
                    frames: 0,
                }),
            };
            message.frames += 1;
            let (most, fragments) = (limits.message, limits.fragments());
            let on_the_wire = if message.deflated { most_deflated(most) } else { u64::from(most) };
            if header.length > on_the_wire - message.payload.len() as u64 {
                return Err(WsError::TooBig { limit: most as usize });
            }
            if message.frames > fragments {
                return Err(WsError::TooManyFragments { limit: fragments as usize });
            }
        }
        self.frame = Some(Frame { header, read: 0, control: Vec::new() });
        Ok(())
    }

    fn read_payload(&mut self, input: &mut &[u8], limits: Inbound) -> Result<Option<Incoming>, WsError> {
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let target = match &mut self.message {
            Some(message) if !frame.header.opcode.is_control() => &mut message.payload,
            _ => &mut frame.control,
        };
        let left = usize::try_from(frame.header.length - frame.read).unwrap_or(usize::MAX);
        let (now, later) = input.split_at(left.min(input.len()));
        let start = target.len();
        // Memory grows with what has come, never with what a header announces.
        target.extend_from_slice(now);
        unmask(target.get_mut(start..).unwrap_or_default(), frame.header.mask, frame.read as usize);
        frame.read += now.len() as u64;
        *input = later;
        let whole = frame.read == frame.header.length;
        if let Some(message) = &mut self.message
            && message.text
            && !message.deflated
            && !frame.header.opcode.is_control()
            // The last bytes of a message are looked at with all of it, once: most messages come in one piece.
            && !(whole && frame.header.fin)
        {
            message.check()?;
        }
        if !whole {
            return Ok(None);
        }
        match self.frame.take() {
            Some(frame) => self.end(frame, limits),
            None => Ok(None),
        }
    }

    fn end(&mut self, frame: Frame, limits: Inbound) -> Result<Option<Incoming>, WsError> {
        debug_assert!(frame.control.len() <= MAX_CONTROL, "checked when the header was parsed");
        match frame.header.opcode {
            Opcode::Ping => Ok(Some(Incoming::Ping(frame.control.into()))),
            Opcode::Pong => Ok(Some(Incoming::Pong)),
            Opcode::Close => parse_close(&frame.control).map(|close| Some(Incoming::Close(close))),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => match self.message.take_if(|_| frame.header.fin) {
                None => Ok(None),
                Some(message) => {
                    let (message, unpacked) = message.end(limits)?;
                    self.unpacked = unpacked;
                    Ok(Some(message))
                }
            },
        }
    }
}

/// How long a message of at most so many bytes may be when it comes compressed: what gets no smaller gets longer, by five
/// bytes for each stored block (RFC 1951 section 3.2.4). zlib's are 16 KiB with its usual memory and 127 bytes with the least,
/// a twenty-fifth (its `deflateBound`). So a sixteenth more, and some bytes for short messages and for the ends of fragments.
const fn most_deflated(most: u32) -> u64 {
    most as u64 + most as u64 / 16 + 64
}

/// RFC 6455 section 5.5.1: nothing, or a code that may travel and a reason in UTF-8.
fn parse_close(payload: &[u8]) -> Result<Option<Close>, WsError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(WsError::Protocol("close of one byte")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    let code = CloseCode::new(code).ok_or(WsError::Protocol("close code that must not be sent"))?;
    let reason = std::str::from_utf8(reason).map_err(|_| WsError::InvalidText)?;
    Ok(Some(Close::new(code, reason.to_owned())))
}
