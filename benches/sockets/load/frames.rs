//! Server frames in a byte stream: their first bytes, and how long they are.

use std::{cell::RefCell, collections::VecDeque};

use flate2::{Decompress, FlushDecompress};

use crate::Result;

/// As many bytes of a payload as are looked at: `{"at":<19 digits>,"seq":<10 digits>,"room":<10 digits>`.
const HEAD: usize = 60;

/// What is left over between two reads.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The rest of a payload that is not looked at.
    skip: usize,
    /// The beginning of a frame that is not whole enough.
    pending: Vec<u8>,
}

/// The beginning of a compressed payload.
fn unpack(payload: &[u8]) -> Result<Vec<u8>> {
    thread_local! {
        /// The newest, as each comes a thousand times.
        static NEWEST: RefCell<VecDeque<(Vec<u8>, Vec<u8>)>> = const { RefCell::new(VecDeque::new()) };
    }
    NEWEST.with_borrow_mut(|newest| {
        if let Some((_, head)) = newest.iter().find(|(packed, _)| packed == payload) {
            return Ok(head.clone());
        }
        let mut head = Vec::with_capacity(HEAD);
        Decompress::new(false).decompress_vec(payload, &mut head, FlushDecompress::Sync)?;
        newest.push_front((payload.to_vec(), head.clone()));
        newest.truncate(16);
        Ok(head)
    })
}

impl Frames {
    /// Calls `each` with the beginning of each text message, at most [`HEAD`] bytes.
    pub(crate) fn feed(&mut self, input: &[u8], mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if self.pending.is_empty() {
            return self.scan(input, &mut each);
        }
        let mut joined = std::mem::take(&mut self.pending);
        joined.extend_from_slice(input);
        self.scan(&joined, &mut each)
    }

    fn scan(&mut self, mut input: &[u8], each: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        loop {
            let skipped = self.skip.min(input.len());
            self.skip -= skipped;
            input = input.get(skipped..).unwrap_or_default();
            if input.is_empty() {
                return Ok(());
            }
            let Some((first, payload, header)) = header(input) else { break };
            let compressed = first & 0x40 != 0;
            let head = header + if compressed { payload } else { payload.min(HEAD) };
            let Some(head) = input.get(header..head) else { break };
            match first & 0x0f {
                0x1 if compressed => each(&unpack(head)?)?,
                0x1 => each(head)?,
                0x8 => return Err("the server sent a close frame".into()),
                _ => {}
            }
            self.skip = header + payload;
        }
        self.pending = input.to_vec();
        Ok(())
    }
}

/// The first byte, the payload's length and the header's (RFC 6455 section 5.2, unmasked).
fn header(input: &[u8]) -> Option<(u8, usize, usize)> {
    let [first, length, rest @ ..] = input else { return None };
    let (payload, header) = match (length, rest) {
        (126, [a, b, ..]) => (usize::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize, 10),
        (126 | 127, _) => return None,
        _ => (usize::from(*length), 2),
    };
    Some((*first, payload, header))
}
