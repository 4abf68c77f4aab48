//! What follows from a read of the log, or from one that has failed.

use super::{Behind, Place, Replay, asking::Wanted};
use crate::{
    bus::{Missing, Position, history::offset_in},
    room::logged::{Logged, Read},
};

/// What follows from a read.
#[derive(Debug, Default)]
pub(in crate::room) struct Outcome {
    /// What passes, in order.
    pub(in crate::room) passes: Vec<Logged>,
    /// The log does not have all that came after the head, so before these pass a loss is to be told.
    pub(in crate::room) lost: Option<Lost>,
    /// Where the log stood before these, which nobody knew until now.
    pub(in crate::room) begun: Option<Position>,
}

/// Why messages are lost to the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::room) enum Lost {
    Missing(Missing),
    /// Nobody can be asked.
    Unread,
}

/// Whether the bus said that it is down: then nothing is lost by waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::room) enum Down {
    Yes,
    No,
}

/// Epochs that are remembered as over. 8: as many as a log notes the ends of.
const OVER: usize = 8;

/// Failures in a row after which it is given up: with pauses of 100 ms that double, some three seconds. A bus that is down
/// is not among them.
pub(super) const ATTEMPTS: u32 = 6;

impl Replay {
    /// The log was read.
    pub(in crate::room) fn read(&mut self, read: Read) -> Outcome {
        self.reads += 1;
        self.attempts = 0;
        self.asked.under_way = false;
        let mut outcome = Outcome::default();
        self.earlier = read.earlier;
        let (known, before, newest) = (self.head().is_some(), self.head, read.head);
        let begins_at = match self.head {
            None => {
                self.start_at(read.head, read.messages);
                self.head
            }
            Some(head) => match self.missing(head, read.head, &read.messages) {
                Ok(()) => {
                    let (to, messages) = self.as_far_as_may_pass(head, read.head, read.messages);
                    outcome.passes = self.go_on(head, to, messages);
                    Some(head)
                }
                Err(missing) => {
                    outcome.lost = Some(Lost::Missing(missing));
                    self.jump(head, read.head, read.messages);
                    self.head
                }
            },
        };
        outcome.begun = begins_at.filter(|_| !known);
        self.adrift = false;
        self.note_over(before);
        let beyond = self.let_pass(&mut outcome.passes, self.asked.waiting);
        // Where something between those that waited is missing, or is on its way.
        let behind = |head: Position| head.epoch() == newest.epoch() && head.offset() < newest.offset();
        if beyond || std::mem::take(&mut self.overflowed) || self.head.is_some_and(behind) {
            (self.wanted.any, self.doubted) = (true, true);
        }
        outcome
    }

    /// A read has shown which epoch the log has now, and so that the one before is over.
    fn note_over(&mut self, before: Option<Position>) {
        let Some((before, now)) = before.zip(self.head).map(|(before, now)| (before.epoch(), now.epoch())) else {
            return;
        };
        self.over.retain(|epoch| *epoch != now);
        if before != now {
            self.over.truncate(OVER - 1);
            self.over.push_front(before);
        }
    }

    /// The log could not be read. Gives what follows, or `None` where it is to be tried again.
    pub(in crate::room) fn failed(&mut self, down: Down) -> Option<Outcome> {
        let known = self.head().is_some();
        self.asked.under_way = false;
        self.doubted |= self.asked.doubted;
        if down == Down::Yes && known {
            self.wanted = Wanted { any: true, whole: self.wanted.whole || self.asked.whole };
            return None;
        }
        self.failures += 1;
        self.attempts += 1;
        if known && self.attempts < ATTEMPTS {
            self.wanted.any = true;
            return None;
        }
        self.attempts = 0;
        self.wanted = Wanted::default();
        self.behind.values_mut().for_each(Behind::give_up);
        if !std::mem::take(&mut self.doubted) && known {
            return Some(Outcome::default());
        }
        let mut outcome = Outcome { lost: known.then_some(Lost::Unread), ..Outcome::default() };
        self.overflowed = false;
        self.adrift = self.head.is_some();
        // From here on by what comes: the first that waits passes, and what follows it is looked at as always.
        let first = self.waiting.iter().position(|logged| self.place(logged) != Place::Known);
        // Which epoch is over is not known any more.
        self.over.clear();
        if let Some(first) = first {
            let first = self.waiting.remove(first);
            self.clear();
            self.keep(first.clone());
            outcome.begun = Some(first.before()).filter(|_| !known);
            outcome.passes.push(first);
        }
        self.wanted.any = self.let_pass(&mut outcome.passes, 0);
        self.doubted = self.wanted.any;
        Some(outcome)
    }

    /// Begins with what was read: as far as messages that wait are in it, they pass by themselves.
    fn start_at(&mut self, head: Position, messages: Vec<Logged>) {
        let mut waiting = self.waiting.iter().map(|logged| logged.position);
        let first = waiting.find(|first| first.epoch() == head.epoch() && first.offset() <= head.offset());
        let offset = first.map_or(head.offset(), |first| first.offset().saturating_sub(1));
        self.replace(messages.into_iter().filter(|logged| logged.position.offset() <= offset));
        self.head = Some(Position::new(head.epoch(), offset));
    }

    /// What was read, without what is more than may pass at once: that is read again once the members have these.
    fn as_far_as_may_pass(&self, head: Position, to: Position, mut messages: Vec<Logged>) -> (Position, Vec<Logged>) {
        let (mut count, mut bytes) = (0, 0);
        let too_many = |logged: &Logged| {
            if logged.position.offset() > head.offset() {
                (count, bytes) = (count + 1, bytes + logged.size);
            }
            count > 1 && (count > self.bounds.messages / 2 || bytes > self.bounds.bytes / 2)
        };
        let Some(first) = messages.iter().position(too_many) else { return (to, messages) };
        messages.truncate(first);
        (messages.last().map_or(head, |last| last.position), messages)
    }

    /// Whether something between what has passed and what was read is missing.
    fn missing(&self, head: Position, read: Position, messages: &[Logged]) -> Result<(), Missing> {
        // While the bus was asked more may have passed than it knew then.
        let from = if head.epoch() == read.epoch() { self.asked.head.unwrap_or(head) } else { head };
        let offset = offset_in(read, &self.earlier, from).ok_or(Missing::Epoch)?;
        let first = (read.offset().saturating_add(1)).saturating_sub(messages.len() as u64);
        let from = offset.max(if head.epoch() == read.epoch() { head.offset().min(read.offset()) } else { 0 });
        if from.saturating_add(1) < first { Err(Missing::Trimmed) } else { Ok(()) }
    }

    /// Goes on from the head with what was read; gives what passes.
    fn go_on(&mut self, head: Position, read: Position, messages: Vec<Logged>) -> Vec<Logged> {
        let news = messages.iter().filter(|logged| logged.position.offset() > head.offset()).cloned().collect();
        if self.asked.whole {
            let overtook = std::mem::take(&mut self.kept).into_iter();
            let mut overtook = overtook.filter(|logged| logged.position.offset() > read.offset()).peekable();
            // More may have passed meanwhile than is kept: then what was read is older than all that is kept.
            let first = overtook.peek().map(|logged| logged.position.offset());
            let follows = match first {
                Some(first) => Some(first) == read.offset().checked_add(1),
                None => head.offset() <= read.offset(),
            };
            let messages = if follows { messages } else { Vec::new() };
            self.replace(messages.into_iter().chain(overtook));
        } else {
            for logged in &news {
                self.keep(Logged::clone(logged));
            }
        }
        self.head = Some(Position::new(read.epoch(), read.offset().max(head.offset())));
        self.trim();
        news
    }

    /// Goes on after a loss.
    fn jump(&mut self, head: Position, read: Position, messages: Vec<Logged>) {
        if head.epoch() == read.epoch() && head.offset() > read.offset() && self.asked.head != Some(head) {
            // What has passed meanwhile is newer than what was read.
            self.clear();
            return;
        }
        self.start_at(read, messages);
    }

    /// Lets pass what can. What waited when the read began and is not in it is nothing that the log ever had; of the rest
    /// something may be missing still.
    fn let_pass(&mut self, passes: &mut Vec<Logged>, read: usize) -> bool {
        self.waiting_bytes = 0;
        for (number, logged) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            match self.place(&logged) {
                Place::Known => {}
                Place::Next => {
                    self.keep(logged.clone());
                    passes.push(logged);
                }
                Place::Beyond if number < read => {}
                Place::Beyond => self.hold(logged),
            }
        }
        !self.waiting.is_empty()
    }
}
