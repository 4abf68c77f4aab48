//! A room's share in counting over nodes, under its lock.

use super::{Effects, Facts, Member, Room, State, log::Entry};
use crate::{
    kind::Rights,
    lock::lock,
    outbox::About,
    presence::{Due, Event, Share},
    protocol,
};

impl Room {
    /// Looks at the share.
    pub(crate) fn share<T>(&self, look: impl FnOnce(&Share) -> T) -> T {
        look(&lock(&self.state).share)
    }

    /// Changes the share. The members are told of it; all else that is due is to be done outside.
    pub(crate) fn change_share<T>(&self, change: impl FnOnce(&mut Share) -> (T, Due)) -> (T, Effects) {
        let mut state = lock(&self.state);
        let (result, due) = change(&mut state.share);
        (result, state.take_due(due))
    }

    /// What a member was let in for.
    pub(crate) fn rights(&self, slot: usize) -> Rights {
        let state = lock(&self.state);
        let member = state.members.get(slot).and_then(Option::as_ref);
        member.map_or(Rights::MEMBER, Member::rights)
    }

    /// Changes that; whether there is something to change.
    pub(crate) fn change_rights(&self, slot: usize, rights: Rights) -> bool {
        let mut state = lock(&self.state);
        let seldom = state.members.get_mut(slot).and_then(Option::as_mut).and_then(|member| member.seldom.as_mut());
        let facts = seldom.and_then(|seldom| seldom.facts.as_mut());
        // Who has no facts is a member of a kind without such rules.
        facts.is_some_and(|facts| std::mem::replace(&mut facts.rights, rights) != rights)
    }
}

impl Member {
    pub(super) fn facts(&self) -> Option<&Facts> {
        self.seldom.as_ref()?.facts.as_ref()
    }

    pub(super) fn rights(&self) -> Rights {
        self.facts().map_or(Rights::MEMBER, |facts| facts.rights)
    }
}

impl State {
    /// Puts the events for the members into the log.
    pub(super) fn take_due(&mut self, due: Due) -> Effects {
        let Due { events, entry, timer, occupancy } = due;
        let mut effects = Effects { entry, window: timer, occupancy, ..Effects::default() };
        self.viewers_changed |= !events.is_empty();
        for Event { change, viewers, users, except, to } in events {
            let about = if users.is_empty() { About::Viewers } else { About::Names };
            let message = protocol::viewers_changed(change, viewers, &users);
            effects.flush |= self.push(Entry { to, ..Entry::new(message, except, about) }).flush;
        }
        effects
    }
}
