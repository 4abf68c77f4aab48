//! The header of a frame from a client (RFC 6455 section 5.2), and its mask.

use super::WsError;
use crate::opcode::{MAX_CONTROL, Opcode};

/// The longest header that a client writes: the same and four bytes of mask.
pub(crate) const MAX_CLIENT_HEADER: usize = 14;

/// The header of a frame from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) fin: bool,
    /// The payload of its message is compressed (RFC 7692 section 6).
    pub(crate) deflated: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: [u8; 4],
    pub(crate) length: u64,
}

impl FrameHeader {
    /// Parses the header at the start of `bytes`, with its length; `None` where more bytes are needed.
    ///
    /// A fault is reported as soon as the byte that holds it is there. Whether a message is compressed is said in its first
    /// frame, and only where that was agreed on.
    pub(crate) fn parse(bytes: &[u8], may_deflate: bool) -> Result<Option<(Self, usize)>, WsError> {
        let Some(first) = bytes.first() else { return Ok(None) };
        let deflated = first & 0x40 != 0;
        if first & 0x30 != 0 || (deflated && !may_deflate) {
            return Err(WsError::Protocol("reserved bit set"));
        }
        let opcode = Opcode::of(first & 0x0F).ok_or(WsError::Protocol("reserved opcode"))?;
        let fin = first & 0x80 != 0;
        if deflated && (opcode.is_control() || opcode == Opcode::Continuation) {
            return Err(WsError::Protocol("only the first frame of a message says that it is compressed"));
        }
        if opcode.is_control() && !fin {
            return Err(WsError::Protocol("fragmented control frame"));
        }
        let Some(second) = bytes.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(WsError::Protocol("unmasked frame from a client"));
        }
        let short = second & 0x7F;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(WsError::Protocol("control frame over 125 bytes"));
        }
        let (length, at) = match short {
            126 => match bytes.get(2..4).and_then(|b| b.try_into().ok()) {
                Some(b) => (u64::from(u16::from_be_bytes(b)), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|b| b.try_into().ok()) {
                Some(b) => (u64::from_be_bytes(b), 10),
                None => return Ok(None),
            },
            _ => (u64::from(short), 2),
        };
        if (short == 126 && length < 126) || (short == 127 && length <= 0xFFFF) {
            return Err(WsError::Protocol("length not in its shortest form"));
        }
        if length > i64::MAX as u64 {
            return Err(WsError::Protocol("length over 63 bits"));
        }
        let Some(mask) = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()) else { return Ok(None) };
        Ok(Some((Self { fin, deflated, opcode, mask, length }, at + 4)))
    }
}

/// Takes the mask off `bytes` (section 5.3), which begin at place `at` of the payload.
pub(crate) fn unmask(bytes: &mut [u8], mask: [u8; 4], at: usize) {
    let mut turned = mask;
    turned.rotate_left(at % 4);
    let wide =
        u64::from_ne_bytes([turned[0], turned[1], turned[2], turned[3], turned[0], turned[1], turned[2], turned[3]]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(eight) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(turned.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn faults_are_seen_at_their_byte() {
        for (bytes, rule) in [
            (&[0xC1][..], "reserved bit set"),
            (&[0xA1], "reserved bit set"),
            (&[0x91], "reserved bit set"),
            (&[0x83], "reserved opcode"),
            (&[0x8B], "reserved opcode"),
            (&[0x09], "fragmented control frame"),
            (&[0x81, 0x05], "unmasked frame from a client"),
            (&[0x89, 0xFE], "control frame over 125 bytes"),
            (&[0x81, 0xFE, 0, 125], "length not in its shortest form"),
            (&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], "length not in its shortest form"),
            (&[0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], "length over 63 bits"),
        ] {
            assert!(
                matches!(FrameHeader::parse(bytes, false), Err(WsError::Protocol(r)) if r == rule),
                "{bytes:x?}: {rule}"
            );
        }
    }

    #[test]
    fn a_compressed_message_says_so_in_its_first_frame_where_that_was_agreed_on() {
        let parse = |first, may_deflate| FrameHeader::parse(&[first, 0x80, 0, 0, 0, 0], may_deflate);
        for first in [0xC1, 0x42, 0xC2] {
            assert!(parse(first, true).unwrap().unwrap().0.deflated);
            assert!(matches!(parse(first, false), Err(WsError::Protocol("reserved bit set"))), "{first:x}");
        }
        assert!(!parse(0x81, true).unwrap().unwrap().0.deflated);
        for bad in [0xC0, 0xC8, 0xC9, 0xCA, 0xA1, 0x91, 0xE1, 0xD1] {
            assert!(matches!(parse(bad, true), Err(WsError::Protocol(_))), "{bad:x}");
        }
    }

    proptest! {
        #[test]
        fn unmasking_in_pieces_is_unmasking(payload: Vec<u8>, mask: [u8; 4], cut: prop::sample::Index) {
            let plain: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(b, k)| b ^ k).collect();
            let mut pieces = payload.clone();
            let cut = if payload.is_empty() { 0 } else { cut.index(payload.len()) };
            let (a, b) = pieces.split_at_mut(cut);
            unmask(a, mask, 0);
            unmask(b, mask, cut);
            prop_assert_eq!(pieces, plain);
        }
    }
}
