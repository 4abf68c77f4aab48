//! Members that are in the room without being given its messages, as their pages are hidden.
//!
//! Such a member is counted, and hears who comes and goes. Flushers pass it by as they do members that have everything, except
//! in a round that has such news. When it goes on, it is given what it missed from the history, or is told once that it missed something. The node knows how
//! far it was given the messages, so nothing of what the client says decides that.

use std::{num::NonZeroU64, sync::Arc};

use tokio::sync::futures::OwnedNotified;

use super::{
    Facts, Member, Room, State, behind::PASSED_BY, flush::Progress, held::Held, loss::Loss, membership::Given,
    replay::Replay,
};
use crate::{
    bus::Position,
    join_options::{JoinOptions, Since},
    kind::Rights,
    lock::lock,
    message::Message,
    outbox::{About, Recipient},
    presence::{Listing, entry::Name},
    protocol::Standing,
};

/// A bit in the cursor of a paused member, beside the position from which on it is to be told the news. With it the cursor lies
/// past the head of every log, so that flushers pass the member by without a look at anything else.
const PASSED_BY_FROM: u64 = 1 << 63;

/// How far a paused member was given the messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paused {
    /// In the history, where there is one; or what its join said.
    since: Option<Since>,
    /// How much had come that no history gives again.
    fleeting: u32,
    /// The goal of the last round in which a flusher may have had it in hand.
    goal: u64,
}

impl Paused {
    /// Everything that comes after it is missed.
    pub(super) fn position(self) -> Option<Position> {
        self.since?.position()
    }

    /// Whether a flusher may be about to give it something from before: what it missed has to come after that.
    fn is_in_hand(self, progress: &Progress) -> bool {
        progress.is_delivering_up_to(self.goal)
    }

    /// From where on it is given what it missed; `None` where it missed nothing, and there is no history.
    fn since(self, loss: &Loss, has_history: bool) -> Option<Since> {
        match self.since {
            _ if self.fleeting != loss.fleeting() => Some(Since::Lost),
            None if has_history => Some(Since::Lost),
            since => since,
        }
    }
}

/// What becomes of a member that goes on.
#[derive(Debug)]
pub(crate) enum Again {
    /// It is given everything: so many bytes of the history and the state.
    Resumed { replayed: usize },
    /// A flusher has it in hand still: it is to be tried again once [`round_over`](Room::round_over) is told.
    InHand,
    /// It is not paused, or is not in the room.
    NotPaused,
}

impl Room {
    pub(crate) fn is_paused(&self, slot: usize) -> bool {
        let state = lock(&self.state);
        state.members.get(slot).and_then(Option::as_ref).is_some_and(|member| member.paused().is_some())
    }

    /// Gives a member nothing more of the messages. One that is joining or paused stays what it is.
    pub(crate) fn pause(&self, slot: usize) {
        let mut state = lock(&self.state);
        let State { members, log, replay, progress, loss, .. } = &mut *state;
        let Some(Some(member)) = members.get_mut(slot) else { return };
        if member.held().is_some() || member.paused().is_some() {
            return;
        }
        let behind = replay.as_mut().and_then(|replay| replay.behind.remove(&slot));
        if behind.is_some() {
            member.recipient.caught_up(&self.key);
        }
        let cursor = behind.as_ref().map_or(member.cursor, |behind| behind.cursor);
        // What it was not handed yet it misses.
        let (mut first, mut misses) = (None, false);
        for entry in log.since(cursor) {
            match entry.about {
                About::Logged(_) => first = first.or(entry.about.offset()),
                About::Loss(_) => (first, misses) = (None, true),
                About::Content => misses |= !entry.state && entry.except != Some(member.recipient.id()),
                About::Viewers | About::Names | About::Standing | About::Replayed => {}
            }
        }
        let replay = replay.as_deref();
        let first = first.and_then(|first: NonZeroU64| replay?.at(first.get() - 1));
        let since = behind.map(|behind| behind.since).or(first).or_else(|| replay?.head());
        let fleeting = loss.fleeting().wrapping_sub(u32::from(misses));
        let paused = Paused { since: since.map(Since::Position), fleeting, goal: progress.goal() };
        member.pause(Some(paused));
        member.pass_by_from(cursor);
    }

    /// A join as that of a member which goes on: with what is to be read of the history for it.
    pub(crate) fn as_resumed(&self, slot: usize, join: &JoinOptions) -> JoinOptions {
        let state = lock(&self.state);
        let paused = state.members.get(slot).and_then(Option::as_ref).and_then(Member::paused);
        let since = paused.and_then(|paused| paused.since(&state.loss, self.has_history()));
        JoinOptions { since, ..join.clone() }
    }

    /// Gives a paused member everything again: `welcome`, then what it missed, as one who joins.
    pub(crate) fn resume_paused(
        &self,
        slot: usize,
        recipient: &Arc<Recipient>,
        join: &JoinOptions,
        (who, listing): (&Name, Listing),
        welcome: impl FnOnce(Standing) -> Message,
    ) -> Again {
        let (standing, later) = {
            let mut state = lock(&self.state);
            let State { members, log, share, ahead, replay, last_state, progress, loss, .. } = &mut *state;
            let member = members.get_mut(slot).and_then(Option::as_mut);
            let member = member.filter(|member| Arc::ptr_eq(&member.recipient, recipient));
            let Some(member) = member.filter(|member| member.paused().is_some()) else { return Again::NotPaused };
            if member.paused().is_some_and(|paused| paused.is_in_hand(progress)) {
                return Again::InHand;
            }
            // What waits from before the pause might be left out later, behind the welcome that says where the member stands.
            let waits = if self.heals() { member.recipient.leave_out(&self.key) } else { None };
            if let Some((first, replay)) = waits.zip(replay.as_deref()) {
                member.had_before(replay, first);
            }
            let Some(paused) = member.paused() else { return Again::NotPaused };
            member.pause(None);
            // Held from here on, until the welcome is made.
            member.cursor = log.head();
            *ahead = log.head();
            let held = Box::new(Held { counted: true, as_it_reads: self.heals(), ..Held::default() });
            let held = member.seldom.get_or_insert_default().held.insert(held);
            let since = paused.since(loss, self.has_history());
            let join = JoinOptions { since, ..join.clone() };
            let Given { position, recovered, later } =
                self.give(held, replay.as_deref(), last_state.as_deref(), &member.recipient, &join);
            let (viewers, list) = share.standing(who, listing);
            let observer = !member.rights().sort.is_counted();
            // Where nothing was missed there is nothing to recover.
            let recovered = recovered.or(Some(true));
            (Standing { viewers, list, observer, paused: false, position, recovered }, later)
        };
        Again::Resumed { replayed: self.welcome(slot, &welcome(standing), later) }
    }

    /// Told at the end of each round.
    pub(crate) fn round_over(&self) -> OwnedNotified {
        lock(&self.state).for_space.wait()
    }
}

impl Member {
    pub(super) fn paused(&self) -> Option<Paused> {
        self.facts()?.paused
    }

    fn paused_mut(&mut self) -> Option<&mut Paused> {
        self.seldom.as_mut()?.facts.as_mut()?.paused.as_mut()
    }

    /// Keeps what is known of it, if that is more than of most.
    pub(super) fn know(&mut self, facts: Facts) {
        let ordinary = facts.known.is_none() && facts.rights == Rights::MEMBER && facts.paused.is_none();
        if !ordinary {
            self.seldom.get_or_insert_default().facts = Some(facts);
        } else if let Some(seldom) = &mut self.seldom {
            seldom.facts = None;
            self.seldom.take_if(|seldom| seldom.held.is_none());
        }
    }

    fn pause(&mut self, paused: Option<Paused>) {
        let facts = self.seldom.as_mut().and_then(|seldom| seldom.facts.take()).unwrap_or_default();
        self.know(Facts { paused, ..facts });
    }

    /// Is given nothing but the news, from this position on.
    pub(super) const fn pass_by_from(&mut self, position: u64) {
        self.cursor = PASSED_BY_FROM | position;
    }

    /// From where on it is given the news; `None` where it is not passed by, or is told by others.
    pub(super) const fn passed_by_from(&self) -> Option<u64> {
        if self.cursor & PASSED_BY_FROM == 0 || self.cursor == PASSED_BY {
            return None;
        }
        Some(self.cursor & !PASSED_BY_FROM)
    }

    /// A flusher has it in hand, until the round with this goal is over.
    pub(super) fn in_hand_until(&mut self, goal: u64) {
        if let Some(paused) = self.paused_mut() {
            paused.goal = goal;
        }
    }

    /// It was not given what the log has from an offset on, which a flusher had in hand.
    pub(super) fn had_before(&mut self, replay: &Replay, first: NonZeroU64) {
        let Some(paused) = self.paused_mut() else { return };
        let Some(had) = replay.at(first.get() - 1) else { return };
        if paused.position().is_none_or(|since| had.epoch() == since.epoch() && had.offset() < since.offset()) {
            paused.since = Some(Since::Position(had));
        }
    }
}

impl Default for Facts {
    fn default() -> Self {
        Self { known: None, rights: Rights::MEMBER, paused: None }
    }
}

impl Held {
    /// Keeps nothing but the news, for one who joins as paused.
    pub(super) fn pause(&mut self, replay: Option<&Replay>, loss: &Loss, since: Option<Since>) -> Paused {
        let misses = self.messages.iter().any(|(about, _)| matches!(about, About::Content | About::Loss(_)));
        self.messages.retain(|(about, _)| about.is_of_viewers());
        self.left_out = None;
        self.count();
        let stands = self.from.or_else(|| replay?.head()).map(Since::Position);
        // Nobody can have it in hand.
        Paused { since: since.or(stands), fleeting: loss.fleeting().wrapping_sub(u32::from(misses)), goal: u64::MAX }
    }
}
