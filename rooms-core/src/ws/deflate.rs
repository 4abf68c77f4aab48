//! permessage-deflate (RFC 7692), without context takeover: each message is compressed by itself.
//!
//! That is what makes a compressed frame the same bytes for every member, so a broadcast is compressed once. The states of
//! the compressor (some 300 KiB) and of the decompressor (some 50 KiB) belong to a thread, and no connection keeps any.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::WsError;
use crate::message::Message;

/// How hard to try: 6, zlib's own default. Up to 2 KiB the levels from 4 on differ in nothing but noise; of 16 KiB level 4
/// leaves 0.25 in about three quarters of the time in which level 6 leaves 0.24, and level 1 leaves 0.37
/// (`cargo bench --bench deflate`). The time is spent once for a broadcast, and the bytes for each member.
const LEVEL: u32 = 6;

/// What ends each flush, and does not travel (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The tail, and an empty block that is the last. A decompressor reaches the end of that block only where what comes before
/// it was whole.
const TAIL_AND_END: [u8; 9] = [0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];

/// Memory that is made ready for what is unpacked, in bytes, before it is known how much that is.
const FIRST: usize = 1024;

/// The message with its payload compressed; `None` where that does not make it smaller.
pub(crate) fn deflated(message: &Message) -> Option<Message> {
    deflate(message.payload()).map(|payload| message.with_deflated(&payload))
}

/// Compresses a payload; `None` where that does not make it smaller.
fn deflate(payload: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        static STATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(LEVEL), false));
    }
    STATE.with_borrow_mut(|state| {
        state.reset();
        // As much as the message has: what needs more is not smaller.
        let mut out = Vec::with_capacity(payload.len());
        state.compress_vec(payload, &mut out, FlushCompress::Sync).ok()?;
        let whole = state.total_in() == payload.len() as u64 && out.len() < out.capacity();
        if !whole || !out.ends_with(&TAIL) {
            return None;
        }
        out.truncate(out.len() - TAIL.len());
        Some(out)
    })
}

/// Unpacks a message from a client, up to `limit` bytes and no further.
pub(super) fn inflate(payload: &[u8], limit: usize) -> Result<Vec<u8>, WsError> {
    thread_local! {
        static STATE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
    }
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    STATE.with_borrow_mut(|state| {
        state.reset(false);
        let mut out = Vec::new();
        run(state, payload, limit, &mut out)?;
        match run(state, &TAIL_AND_END, limit, &mut out)? {
            Status::StreamEnd if out.len() > limit => Err(WsError::TooBig { limit }),
            Status::StreamEnd => Ok(out),
            Status::Ok | Status::BufError => Err(BROKEN),
        }
    })
}

const BROKEN: WsError = WsError::Protocol("a compressed message that can't be unpacked");

/// Unpacks one piece of the input. A block that says that it is the last may come before the end (RFC 7692 section 7.2.3.4):
/// what follows it begins anew.
fn run(state: &mut Decompress, mut input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<Status, WsError> {
    loop {
        make_room(out, limit)?;
        let before = (state.total_in(), out.len());
        let status = state.decompress_vec(input, out, FlushDecompress::Sync).map_err(|_| BROKEN)?;
        let taken = usize::try_from(state.total_in() - before.0).unwrap_or(usize::MAX);
        input = input.get(taken..).unwrap_or_default();
        match status {
            Status::StreamEnd if !input.is_empty() => state.reset(false),
            // There may be more to come than there was room for.
            Status::Ok | Status::BufError if out.len() == out.capacity() => {}
            Status::Ok if !input.is_empty() && (taken > 0 || out.len() > before.1) => {}
            status if input.is_empty() => return Ok(status),
            _ => return Err(BROKEN),
        }
    }
}

/// Makes room for at least a byte, at most for one more than the limit, which then is exceeded.
fn make_room(out: &mut Vec<u8>, limit: usize) -> Result<(), WsError> {
    if out.len() > limit {
        return Err(WsError::TooBig { limit });
    }
    if out.len() == out.capacity() {
        out.reserve_exact(out.len().max(FIRST).min(limit + 1 - out.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use proptest::prelude::*;

    use super::*;

    fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, WsError> {
        inflate(bytes, 1_000)
    }

    fn is_broken(bytes: &[u8]) -> bool {
        matches!(unpacked(bytes), Err(WsError::Protocol(_)))
    }

    #[test]
    fn the_examples_of_the_rfc_are_unpacked() {
        for (section, bytes) in [
            ("7.2.3.1", &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00][..]),
            (
                "7.2.3.3, a block without compression",
                &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00],
            ),
            ("7.2.3.4, a block that says it is the last", &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00]),
            ("7.2.3.5, two blocks", &[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00]),
        ] {
            assert_eq!(unpacked(bytes).unwrap(), b"Hello", "{section}");
        }
        assert_eq!(unpacked(&[0x00]).unwrap(), b"", "7.2.3.6");
        assert_eq!(unpacked(&[]).unwrap(), b"");
    }

    #[test]
    fn what_is_cut_padded_or_no_stream_is_an_error() {
        let whole = deflate("{\"a\":1},".repeat(50).as_bytes()).unwrap();
        for end in 1..whole.len() {
            assert!(is_broken(&whole[..end]), "cut at {end} of {}", whole.len());
        }
        for padding in [&b"\xff"[..], b"\x07", b"garbage"] {
            assert!(is_broken(&[&whole, padding].concat()), "{padding:?}");
        }
        assert!(is_broken(b"\xff") && is_broken(&[0x06]) && is_broken(&[0x00, 0x05, 0x00]));
    }

    #[test]
    fn a_bomb_is_not_unpacked_beyond_the_limit() {
        let bomb = deflate(&vec![0; 10_000_000]).unwrap();
        assert!(bomb.len() < 20_000);
        assert!(matches!(inflate(&bomb, 64 * 1024), Err(WsError::TooBig { limit: 65_536 })));
        let mut out = Vec::new();
        assert!(run(&mut Decompress::new(false), &bomb, 64 * 1024, &mut out).is_err());
        assert!(out.capacity() <= 64 * 1024 + 1, "{}", out.capacity());
        let fits = deflate(&vec![7; 1_000]).unwrap();
        assert_eq!(inflate(&fits, 1_000).unwrap().len(), 1_000, "at the limit");
        assert!(matches!(inflate(&fits, 999), Err(WsError::TooBig { limit: 999 })));
        // Thousands of blocks that unpack to nothing.
        let empty: Vec<u8> = repeat_n([0x00, 0x00, 0x00, 0xFF, 0xFF], 10_000).flatten().chain([0x00]).collect();
        assert_eq!(unpacked(&empty).unwrap(), b"");
        let ended: Vec<u8> = repeat_n([0x01, 0x00, 0x00, 0xFF, 0xFF], 10_000).flatten().chain([0x00]).collect();
        assert_eq!(unpacked(&ended).unwrap(), b"", "each says that it is the last");
    }

    #[test]
    fn what_gets_no_smaller_is_left_alone() {
        assert!(deflate(b"").is_none() && deflate(b"{}").is_none());
        let noise: Vec<u8> = (0..1_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        assert!(deflate(&noise).is_none());
    }

    proptest! {
        #[test]
        fn what_is_compressed_is_unpacked_as_it_was(
            words in prop::collection::vec("[a-z]{1,6}|[0-9]{1,3}|\\PC{0,3}", 0..300)
        ) {
            let text = words.join(" ");
            if let Some(packed) = deflate(text.as_bytes()) {
                prop_assert!(packed.len() < text.len());
                prop_assert_eq!(inflate(&packed, text.len()).unwrap(), text.as_bytes());
            }
        }

        #[test]
        fn no_bytes_panic_or_pass_the_limit(bytes: Vec<u8>, limit in 0..2_000_usize) {
            if let Ok(out) = inflate(&bytes, limit) {
                prop_assert!(out.len() <= limit);
            }
        }
    }
}
