//! How what is sent to a connection is written, and how much of it may wait.

use super::queue::Bounds;
use crate::{handshake::Deflate, message::Form};

/// What never changes, and so is read without the lock: in eight bytes.
#[derive(Clone, Copy)]
pub(super) struct Fixed {
    /// Eight times the messages, and what is known of compression: the bits of the window less 8, and zero where there is none.
    /// So the bound is half a billion at most.
    messages_and_window: u32,
    /// Four times the bytes, and the [`Form`]. So the bound is 1 GiB at most.
    bytes_and_form: u32,
}

impl Fixed {
    pub(super) fn new(Bounds { messages, bytes }: Bounds, Framing { form, deflate }: Framing) -> Self {
        let window = deflate.map_or(0, |deflate| u32::from(deflate.window_bits) - 8);
        Self {
            messages_and_window: 8 * messages.min(u32::MAX / 8) + window,
            bytes_and_form: 4 * bytes.min(u32::MAX / 4) + form as u32,
        }
    }

    pub(super) const fn bounds(self) -> Bounds {
        Bounds { messages: self.messages_and_window / 8, bytes: self.bytes_and_form / 4 }
    }

    pub(super) const fn form(self) -> Form {
        match self.bytes_and_form % 4 {
            form if form == Form::Multi as u32 => Form::Multi,
            form if form == Form::Positioned as u32 => Form::Positioned,
            _ => Form::Single,
        }
    }

    pub(super) const fn deflate(self) -> Option<Deflate> {
        match self.messages_and_window % 8 {
            0 => None,
            bits => Some(Deflate { window_bits: bits as u8 + 8 }),
        }
    }
}

/// How what is sent to a connection is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Framing {
    pub(crate) form: Form,
    /// Whether what is broadcast may be compressed.
    pub(crate) deflate: Option<Deflate>,
}

impl From<Form> for Framing {
    fn from(form: Form) -> Self {
        Self { form, deflate: None }
    }
}
