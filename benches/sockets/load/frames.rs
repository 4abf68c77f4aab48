//! Server frames in a byte stream: their first bytes, and how long they are.

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
            let Some((opcode, payload, header)) = header(input) else { break };
            let head = header + payload.min(HEAD);
            let Some(head) = input.get(header..head) else { break };
            match opcode {
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

/// The opcode, the payload's length and the header's (RFC 6455 section 5.2, unmasked).
fn header(input: &[u8]) -> Option<(u8, usize, usize)> {
    let [first, length, rest @ ..] = input else { return None };
    let (payload, header) = match (length, rest) {
        (126, [a, b, ..]) => (usize::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize, 10),
        (126 | 127, _) => return None,
        _ => (usize::from(*length), 2),
    };
    Some((first & 0x0f, payload, header))
}
