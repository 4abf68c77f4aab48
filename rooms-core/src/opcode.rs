//! What frames are, and the header of one that a server writes (RFC 6455 section 5.2).

/// The longest header that a server writes: two bytes and eight of length.
pub(crate) const MAX_HEADER: usize = 10;
/// The longest payload of a control frame (section 5.5).
pub(crate) const MAX_CONTROL: usize = 125;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    pub(crate) fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    /// The opcode of these four bits; `None` for one that is reserved.
    pub(crate) const fn of(nibble: u8) -> Option<Self> {
        Some(match nibble {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }
}

/// Writes the header of an unmasked, final frame and returns its length.
pub(crate) fn put_header(out: &mut [u8; MAX_HEADER], opcode: Opcode, payload: usize) -> usize {
    out[0] = 0x80 | opcode as u8;
    match payload {
        0..=125 => {
            out[1] = payload as u8;
            2
        }
        126..=0xFFFF => {
            out[1] = 126;
            out[2..4].copy_from_slice(&(payload as u16).to_be_bytes());
            4
        }
        _ => {
            out[1] = 127;
            out[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
            10
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_take_the_shortest_form() {
        let header = |payload| {
            let mut out = [0; MAX_HEADER];
            let n = put_header(&mut out, Opcode::Text, payload);
            out[..n].to_vec()
        };
        assert_eq!(header(0), [0x81, 0]);
        assert_eq!(header(125), [0x81, 125]);
        assert_eq!(header(126), [0x81, 126, 0, 126]);
        assert_eq!(header(65_535), [0x81, 126, 0xFF, 0xFF]);
        assert_eq!(header(65_536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
