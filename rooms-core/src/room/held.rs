//! What happens in a room while a connection joins, kept until it is told that it has joined.

use std::num::NonZeroU64;

use super::{Bounds, Member, log::Log};
use crate::{
    bus::Position,
    close::Close,
    message::{Form, Message},
    outbox::{About, Waiting},
    room_key::RoomKey,
};

#[derive(Default)]
pub(super) struct Held {
    pub(super) messages: Vec<(About, Message)>,
    pub(super) bytes: usize,
    /// What it is told and given of the history in front of them.
    pub(super) first: Vec<Message>,
    /// Where the room stood in its history when the member entered: what came after that is held.
    pub(super) from: Option<Position>,
    /// Messages of the history are not held from this offset on.
    pub(super) left_out: Option<NonZeroU64>,
    /// What it missed is all given as it reads, so that it can be left out again where it does not.
    pub(super) as_it_reads: bool,
    /// It is counted, and its `room_joined` is being made: it has to hear of every change from here on.
    pub(super) counted: bool,
}

impl Held {
    /// Keeps a message until the member has joined; one that can't be kept costs the member its connection.
    pub(super) fn keep(&mut self, message: &Message, about: About, bounds: Bounds) -> Result<(), Close> {
        let offset = about.offset();
        if offset.is_some() && self.left_out.is_some() {
            return Ok(());
        }
        let length = message.frame().len();
        if bounds.heals
            && !self.fits(length, bounds)
            && let Some(first) = self.first_logged().or(offset)
        {
            self.leave_out(first);
            if offset.is_some() {
                return Ok(());
            }
            if about.is_loss() {
                // It is told to fetch, and so has what came before.
                self.left_out = None;
            }
        }
        if !self.fits(length, bounds) {
            return Err(Close::SLOW_CONSUMER);
        }
        self.bytes += length;
        self.messages.push((about, message.clone()));
        Ok(())
    }

    fn fits(&self, length: usize, bounds: Bounds) -> bool {
        self.bytes + length <= bounds.held_bytes && self.first.len() + self.messages.len() < bounds.held_messages
    }

    /// Holds nothing more of the history from an offset on; what is held of it is after that.
    pub(super) fn leave_out(&mut self, from: NonZeroU64) {
        self.left_out = Some(from);
        self.messages.retain(|(about, _)| about.offset().is_none());
        self.count();
    }

    /// Puts messages in front of what is held, of which the member has a part already.
    pub(super) fn start_with(&mut self, first: Vec<Message>, has_up_to: u64, bounds: Bounds) {
        let had = |about: &About| about.offset().is_some_and(|offset| offset.get() <= has_up_to);
        self.messages.retain(|(about, _)| !had(about));
        self.first = first;
        let next = NonZeroU64::MIN.saturating_add(has_up_to);
        self.left_out = self.left_out.map(|left_out| left_out.max(next));
        self.count();
        let many = self.first.len() + self.messages.len() > bounds.held_messages || self.bytes > bounds.held_bytes;
        if let Some(from) = self.first_logged().filter(|_| many && bounds.heals) {
            self.leave_out(from);
        }
    }

    fn first_logged(&self) -> Option<NonZeroU64> {
        self.messages.iter().find_map(|(about, _)| about.offset())
    }

    pub(super) fn count(&mut self) {
        let all = self.messages.iter().map(|(_, message)| message).chain(&self.first);
        self.bytes = all.map(|message| message.frame().len()).sum();
    }
}

impl Member {
    /// What is kept for it while it is joining.
    pub(super) fn held(&self) -> Option<&Held> {
        self.seldom.as_ref()?.held.as_deref()
    }

    /// From here on it has joined.
    pub(super) fn take_held(&mut self) -> Option<Box<Held>> {
        let held = self.seldom.as_mut()?.held.take();
        self.seldom.take_if(|seldom| seldom.facts.is_none());
        held
    }

    /// Keeps the log's news for a member that is still joining.
    pub(super) fn hold(&mut self, log: &mut Log, room: &RoomKey, bounds: Bounds) {
        let (rights, paused) = (self.rights(), self.paused().is_some());
        let Some(held) = self.seldom.as_mut().and_then(|seldom| seldom.held.as_mut()) else { return };
        for entry in log.since_mut(self.cursor) {
            // Until it is counted, its `room_joined` will say how many there are, and who.
            // The state follows it.
            let said = !held.counted && (entry.state || matches!(entry.about, About::Viewers | About::Names));
            let silent = paused && !entry.about.is_of_viewers();
            if said || silent || entry.except == Some(self.recipient.id()) || !rights.receives(entry.to) {
                continue;
            }
            if entry.about.is_loss() {
                // It is told to fetch, and so has what came before.
                held.left_out = None;
            }
            let about = entry.about;
            let message = match self.recipient.form() {
                Form::Single => &entry.message,
                Form::Multi | Form::Positioned => entry.multi(room),
            };
            if let Err(close) = held.keep(message, about, bounds) {
                (held.messages, held.first, held.bytes) = (Vec::new(), Vec::new(), usize::MAX / 2);
                self.recipient.close(close, Waiting::Drop);
                break;
            }
        }
    }
}
