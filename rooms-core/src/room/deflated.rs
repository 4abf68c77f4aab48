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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::handshake::Deflate;

    #[test]
    fn members_on_all_threads_share_what_was_compressed_once_for_their_form() {
        let message = Message::text("so it is, ".repeat(200));
        let (deflated, plain) = (Deflated::default(), Framing::from(Form::Single));
        let framing = |form| Framing { form, deflate: Some(Deflate { window_bits: 15 }) };
        let bytes = |form| deflated.of(&message, framing(form)).map(|message| message.frame().as_ptr() as usize);
        let first = bytes(Form::Single);
        assert!(first.is_some() && deflated.of(&message, plain).is_none());
        thread::scope(|scope| {
            for other in [(); 4].map(|()| scope.spawn(|| bytes(Form::Single))) {
                assert_eq!(other.join().unwrap(), first);
            }
        });
        assert_eq!(bytes(Form::Multi), bytes(Form::Positioned));
        assert_ne!(bytes(Form::Multi), first, "which names the room");
    }

    #[test]
    fn what_gets_no_smaller_is_tried_once_and_travels_as_it_is() {
        let (deflated, message) = (Deflated::default(), Message::text("x7Q"));
        let framing = Framing { form: Form::Single, deflate: Some(Deflate { window_bits: 15 }) };
        assert!(deflated.of(&message, framing).is_none());
        assert_eq!(deflated.single.get(), Some(&None));
    }
}
