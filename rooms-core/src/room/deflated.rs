//! A message of the log as it is for members that take what is compressed.

use std::sync::OnceLock;

use crate::{
    message::{Form, Message},
    outbox::Framing,
    ws,
};

/// Compressed when the first member is given it, by whichever flusher has that member; another one that needs it meanwhile
/// waits, as to compress it again would take as long. `None` where it does not get smaller.
#[derive(Default)]
pub(super) struct Deflated {
    single: OnceLock<Option<Message>>,
    multi: OnceLock<Option<Message>>,
}

impl Deflated {
    /// What a connection is given in place of `message`, which is in its form already; `None` where that is the message.
    pub(super) fn of(&self, message: &Message, framing: Framing) -> Option<&Message> {
        framing.deflate.filter(|deflate| deflate.takes(message.payload().len()))?;
        let cell = match framing.form {
            Form::Single => &self.single,
            Form::Multi | Form::Positioned => &self.multi,
        };
        cell.get_or_init(|| ws::deflated(message)).as_ref()
    }
}
