//! The part of a round that members have who are paused: the news of who comes and goes.
//!
//! Most rounds have none, and pass them by as they do those who have had everything.

use std::{num::NonZeroU64, slice, sync::Arc};

use super::{CHUNK, Chunk, Due, Given};
use crate::{
    kind::Rights,
    message::Form,
    outbox::Recipient,
    room::{Member, log::Log},
};

impl Chunk {
    /// Takes a member, if it is paused and was not told all news; whether the chunk is full then.
    pub(super) fn take_paused(&mut self, slot: usize, member: &mut Member, log: &Log, goal: u64, hides: bool) -> bool {
        let head = log.head();
        let Some(cursor) = member.passed_by_from().filter(|from| *from < head) else { return false };
        // What lies before the log was none of its news.
        let cursor = cursor.max(log.first());
        self.first = self.first.min(cursor);
        let rights = if hides { member.rights() } else { Rights::MEMBER };
        self.paused.push(Due { recipient: Arc::clone(&member.recipient), slot, cursor, rights });
        member.pass_by_from(head);
        member.in_hand_until(goal);
        self.paused.len() == CHUNK
    }

    /// Tells those who are paused the news.
    pub(super) fn tell_paused(&self, mut given: Given, behind: &mut Vec<(usize, Arc<Recipient>, NonZeroU64)>) -> Given {
        for due in &self.paused {
            let messages = match due.recipient.form() {
                Form::Single => &self.messages,
                Form::Multi | Form::Positioned => &self.multi,
            };
            let from = usize::try_from(due.cursor - self.first).unwrap_or(usize::MAX);
            for (at, (message, about)) in messages.iter().zip(&self.about).enumerate().skip(from) {
                let excepted = self.excepts.iter().any(|(index, except)| *index == at && except.is(due));
                if excepted || !about.is_of_viewers() {
                    continue;
                }
                let message = slice::from_ref(message);
                let left_out = due.recipient.deliver_from(&self.source, message, slice::from_ref(about));
                given.messages += 1;
                given.bytes += Self::bytes(message);
                behind.extend(left_out.map(|offset| (due.slot, Arc::clone(&due.recipient), offset)));
            }
        }
        given
    }
}
