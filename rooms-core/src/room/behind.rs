//! Members that take less than the room gives, of a kind whose log has what they are left out of.
//!
//! Such a member's outbox holds nothing of the log any more, and flushers pass the member by: it costs its room nothing,
//! however long it does not read. Once its socket takes something, its own task asks for what it missed, which is given to
//! it as far as its outbox has space, again and again, until it has all and is given the rest as the others are. One that
//! the log has overtaken meanwhile is told.

use std::{num::NonZeroU64, sync::Arc};

use super::{
    Effects, Member, Room, State,
    log::{Entry, Log},
    logged::Logged,
    replay::{Behind, Need, Ready, Replay, Seen},
};
use crate::{
    bus::{Missing, Position},
    lock::lock,
    message::{Form, Message},
    outbox::{About, Recipient},
    protocol::{self, Reason},
};

/// The cursor of such a member: flushers give nothing to who is past the head, and so need not look twice.
pub(super) const PASSED_BY: u64 = u64::MAX;

/// How far a member has come.
enum Way {
    /// It has all that there is, or was told that it does not.
    Through,
    /// It will ask again.
    Behind,
    /// It is told why it can't be given what it missed.
    Lost(Reason),
}

impl State {
    /// Notes that a member was not given what the log has from an offset on.
    pub(super) fn fall_behind(&mut self, room: &Room, slot: usize, recipient: &Arc<Recipient>, first: NonZeroU64) {
        let Self { members, replay: Some(replay), .. } = self else { return };
        let Some(Some(member)) = members.get_mut(slot) else { return };
        // It may have left meanwhile, and another one is in its slot.
        if !Arc::ptr_eq(&member.recipient, recipient) || member.held().is_some() {
            return;
        }
        if member.paused().is_some() {
            return member.had_before(replay, first);
        }
        member.begin_behind(room, slot, replay, first);
    }

    /// Tells the members that are behind what else happens.
    pub(super) fn tell_those_behind(&mut self, room: &Room) {
        let Self { members, log, replay: Some(replay), ahead, .. } = self else { return };
        let mut all = std::mem::take(&mut replay.behind);
        all.retain(|slot, behind| {
            *ahead = log.head();
            let Some(Some(member)) = members.get_mut(*slot) else { return false };
            let told = behind.tell(room, log, replay, member);
            if told {
                member.go_on(room, log);
            }
            !told
        });
        replay.behind = all;
    }

    /// The log was read: those who waited for that look again.
    pub(super) fn wake_those_behind(&self) {
        let Some(replay) = &self.replay else { return };
        let waiting = replay.behind.iter().filter(|(_, behind)| behind.asked.is_some());
        let members = waiting.filter_map(|(slot, _)| self.members.get(*slot)?.as_ref());
        members.for_each(|member| member.recipient.wake());
    }
}

impl Room {
    /// Gives a member that is behind what it missed, as far as it is known and there is space.
    pub(crate) fn heal(&self, slot: usize, recipient: &Arc<Recipient>) -> Effects {
        let mut state = lock(&self.state);
        let State { members, log, replay: Some(replay), ahead, .. } = &mut *state else { return Effects::default() };
        let Some(Some(member)) = members.get_mut(slot) else { return Effects::default() };
        let Some(mut behind) = replay.behind.remove(&slot) else { return Effects::default() };
        if !Arc::ptr_eq(&member.recipient, recipient) {
            replay.behind.insert(slot, behind);
            return Effects::default();
        }
        *ahead = log.head();
        let mut effects = Effects::default();
        let way = match behind.tell(self, log, replay, member) {
            true => Way::Through,
            false => behind.give(self, replay, recipient, &mut effects),
        };
        if let Way::Lost(reason) = way {
            effects.lost = Some(reason);
            self.kind.metrics.resyncs.count(reason.word());
            recipient.queue_from(&self.source(), &protocol::resync(&self.key, reason), About::Loss);
        }
        match way {
            Way::Behind => _ = replay.behind.insert(slot, behind),
            Way::Through | Way::Lost(_) => member.go_on(self, log),
        }
        effects
    }
}

impl Member {
    /// Is given what the log has from an offset on once its socket takes what waits for it.
    pub(super) fn begin_behind(&mut self, room: &Room, slot: usize, replay: &mut Replay, first: NonZeroU64) {
        let Some(since) = replay.at(first.get() - 1) else { return };
        replay.behind.insert(slot, Behind { cursor: self.cursor, since, asked: None, given_up: false });
        self.cursor = PASSED_BY;
        self.recipient.falls_behind(&room.key, slot);
    }

    /// Is given from here on what the others are.
    fn go_on(&mut self, room: &Room, log: &Log) {
        self.cursor = log.head();
        self.recipient.caught_up(&room.key);
    }
}

impl Behind {
    /// Tells the member what the room's log has that its history does not; `true` where that is a loss, after which it is
    /// given everything.
    fn tell(&mut self, room: &Room, log: &mut Log, replay: &Replay, member: &Member) -> bool {
        let (recipient, rights) = (&*member.recipient, member.rights());
        let (source, mut told) = (room.source(), false);
        for entry in log.since_mut(self.cursor) {
            let owed = entry.about.offset().is_some() && !told;
            if owed || entry.except == Some(recipient.id()) || !rights.receives(entry.to) {
                continue;
            }
            told |= entry.about == About::Loss;
            let about = entry.about;
            if let Some(since) = recipient
                .queue_from(&source, in_form(entry, room, recipient.form()), about)
                .and_then(|first| replay.at(first.get() - 1))
            {
                (self.since, told) = (since, false);
            }
        }
        self.cursor = log.head();
        told
    }

    fn give(&mut self, room: &Room, replay: &mut Replay, recipient: &Recipient, effects: &mut Effects) -> Way {
        replay.trim();
        let need = Need { since: Some(self.since), newest: 0 };
        let now = Seen { reads: replay.reads(), failures: replay.failures() };
        let [first, last] = self.asked.unwrap_or([now, Seen { reads: u64::MAX, ..now }]);
        // A read that fails is tried again, until it is given up.
        let (ready, wants) = replay.look(need, Seen { failures: u64::MAX, ..first });
        if ready != Ready::Yes {
            if self.given_up {
                return Way::Lost(Reason::BusGap);
            }
            // Once for each read that ends, as its task looks more often.
            if last != now {
                effects.read = replay.want_what(wants);
                self.asked = Some([first, now]);
            }
            return Way::Behind;
        }
        self.asked = None;
        let Some(head) = replay.head() else { return Way::Lost(Reason::HistoryGap) };
        let missed = match replay.since(self.since, head) {
            Ok(missed) => missed,
            Err(missing) => return Way::Lost(Missing::into(missing)),
        };
        let offset = |logged: &Logged| NonZeroU64::new(logged.position.offset());
        let missed = missed.filter_map(|logged| Some((offset(logged)?, logged.for_one(recipient))));
        if let Some(last) = recipient.refill(&room.source(), missed) {
            self.since = Position::new(head.epoch(), last.get());
        }
        if self.since.offset() == head.offset() { Way::Through } else { Way::Behind }
    }
}

impl Logged {
    /// It, as a member is given it; `None` where it is not.
    pub(super) fn for_one(&self, recipient: &Recipient) -> Option<Message> {
        let content = self.content.as_ref().filter(|content| content.except != Some(recipient.id()))?;
        Some(if recipient.form() == Form::Single { content.bare.clone() } else { content.positioned.clone() })
    }
}

fn in_form<'a>(entry: &'a mut Entry, room: &Room, form: Form) -> &'a Message {
    match form {
        Form::Single => &entry.message,
        Form::Multi | Form::Positioned => entry.multi(&room.key),
    }
}

#[cfg(test)]
mod tests;
