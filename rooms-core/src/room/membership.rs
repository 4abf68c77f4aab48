//! Connections that enter a room, become members of it, and leave.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::Instant;

use super::{
    Effects, Facts, LastState, Member, Replay, Room, Seldom, State, Subscription, held::Held, history::Resumed,
    loss::Loss,
};
use crate::{
    bus::Position,
    join_options::JoinOptions,
    kind::{Rights, Sort},
    lock::lock,
    message::{Form, Message},
    outbox::Recipient,
    presence::{Arrival, Due, Known, Listing, Share},
    protocol::Standing,
};

/// One who is about to be told that it joined.
#[derive(Debug)]
pub(crate) struct Arriving {
    /// Where the room counts users.
    pub(crate) arrival: Option<Arrival>,
    pub(crate) listing: Listing,
    pub(crate) rights: Rights,
}

/// What one is told of the history that it is given.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    pub(super) position: Option<Position>,
    pub(super) recovered: Option<bool>,
    /// The bytes that it is given as it reads.
    pub(super) later: usize,
}

/// What a connection is told that was counted just now.
struct Counted {
    standing: Standing,
    /// The bytes of what it missed that it is given as it reads.
    later: usize,
    effects: Effects,
}

/// What a joining connection became a member with.
pub(crate) struct WentLive {
    /// How many viewers it was told that there are.
    pub(crate) viewers: usize,
    /// The bytes of the history and the state that it was given, or is as it reads.
    pub(crate) replayed: usize,
    pub(crate) effects: Effects,
}

impl Room {
    /// Adds a connection that is joining: from here on nothing is lost to it, and nothing is sent to it yet.
    pub(crate) fn enter(&self, recipient: Arc<Recipient>) -> (usize, Effects) {
        let mut state = lock(&self.state);
        state.empty_since = None;
        self.multi.fetch_add(u32::from(recipient.form() != Form::Single), Ordering::Relaxed);
        self.deflating.fetch_add(u32::from(self.deflates(&recipient)), Ordering::Relaxed);
        let head = state.log.head();
        state.ahead = head;
        let from = state.replay.as_ref().and_then(|replay| replay.head());
        let held = Box::new(Held { from, ..Held::default() });
        let seldom = Box::new(Seldom { held: Some(held), facts: None });
        let member = Member { recipient, cursor: head, seldom: Some(seldom) };
        let slot = match state.free.pop() {
            Some(slot) => slot,
            None => {
                if state.members.len() == state.members.capacity() {
                    // A quarter more: most rooms are small, and there are many.
                    let more = (state.members.len() / 4).max(2);
                    state.members.reserve_exact(more);
                }
                state.members.push(None);
                state.members.len() - 1
            }
        };
        if let Some(place) = state.members.get_mut(slot) {
            *place = Some(member);
        }
        let subscribe = matches!(state.subscription, Subscription::No | Subscription::Asked { overdue: true, .. });
        if subscribe {
            state.subscription = Subscription::Wanted;
        }
        (slot, Effects { subscribe, ..Effects::default() })
    }

    /// Makes a joining connection a member: it gets `welcome`, which is told how many viewers there are and who, then what
    /// it asks for of the room's history, then what was published since it entered, then everything else.
    pub(crate) fn go_live(
        &self,
        slot: usize,
        arriving: Arriving,
        join: &JoinOptions,
        welcome: impl FnOnce(Standing) -> Message,
    ) -> WentLive {
        let Counted { standing, later, effects } = self.count_in(slot, arriving, join);
        let viewers = standing.viewers;
        // Encoded without the lock: a snapshot and a list may be long.
        let replayed = self.welcome(slot, &welcome(standing), later);
        WentLive { viewers, replayed, effects }
    }

    /// Gives a member its welcome and what is held for it, and everything else from here on. Returns the bytes of the history
    /// and the state that it is given, `later` ones included.
    pub(super) fn welcome(&self, slot: usize, welcome: &Message, later: usize) -> usize {
        let mut state = lock(&self.state);
        let State { members, log, ahead, replay, .. } = &mut *state;
        let Some(Some(member)) = members.get_mut(slot) else { return 0 };
        // What the flusher has not come by with yet goes the same way.
        member.hold(log, &self.key, self.bounds());
        member.cursor = log.head();
        *ahead = log.head();
        let Some(held) = member.take_held() else { return 0 };
        let Held { messages, first, left_out, .. } = *held;
        let replayed = later + first.iter().map(|message| message.frame().len()).sum::<usize>();
        // Queued under the room's lock, so that no flusher comes between; written by the connection's own task, which is at
        // the join itself or is woken after it.
        member.recipient.queue(&self.key, welcome, first.into_iter());
        if !messages.is_empty() {
            member.recipient.queue_held(&self.source(), messages.into_iter());
        }
        if member.paused().is_some() {
            member.pass_by_from(log.head());
        } else if let (Some(left_out), Some(replay)) = (left_out, replay) {
            member.begin_behind(self, slot, replay, left_out);
        }
        replayed
    }

    /// Counts a joining connection: what it is to be told, while what changes from here on is kept for it.
    fn count_in(&self, slot: usize, arriving: Arriving, join: &JoinOptions) -> Counted {
        let mut state = lock(&self.state);
        let State { members, log, share, ahead, replay, last_state, loss, .. } = &mut *state;
        let viewers = share.viewers();
        let standing = Standing { viewers, ..Standing::default() };
        let nothing = Counted { standing, later: 0, effects: Effects::default() };
        let Some(Some(member)) = members.get_mut(slot) else { return nothing };
        // With what the flusher has not come by with yet, so that no old count follows the new one.
        member.hold(log, &self.key, self.bounds());
        member.cursor = log.head();
        *ahead = log.head();
        let Some(Seldom { held: Some(held), .. }) = member.seldom.as_deref_mut() else { return nothing };
        held.counted = true;
        let paused = join.paused.then(|| held.pause(replay.as_deref(), loss, join.since));
        let Given { position, recovered, later } = match paused {
            // What it missed before is said when it goes on.
            Some(paused) => {
                let recovered = join.since.is_some().then_some(true);
                Given { position: paused.position(), recovered, later: 0 }
            }
            None => self.give(held, replay.as_deref(), last_state.as_deref(), &member.recipient, join),
        };
        let Arriving { arrival, listing, rights } = arriving;
        let (arrived, due) = match rights.sort {
            Sort::Member => share.arrive(member.recipient.id(), arrival, listing),
            Sort::Observer | Sort::Server => share.observe(member.recipient.id(), listing),
        };
        member.know(Facts { known: arrived.known, rights, paused });
        let effects = state.take_due(due);
        let observer = !rights.sort.is_counted();
        let (viewers, list, paused) = (arrived.viewers, arrived.list, join.paused);
        let standing = Standing { viewers, list, observer, paused, position, recovered };
        Counted { standing, later, effects }
    }

    /// Puts what one is given of the history and the state in front of what is held for it.
    pub(super) fn give(
        &self,
        held: &mut Held,
        replay: Option<&Replay>,
        last_state: Option<&LastState>,
        to: &Recipient,
        join: &JoinOptions,
    ) -> Given {
        let Resumed { position, recovered, reason, first, has_up_to, left_out, later } =
            self.resume(replay, held, to, join);
        self.note_resumed(recovered, reason);
        // Before the messages: what a page makes of one may depend on the state.
        let whole = last_state.and_then(LastState::whole);
        held.start_with(whole.into_iter().chain(first).collect(), has_up_to, self.bounds());
        if let Some(left_out) = left_out {
            held.leave_out(left_out);
        }
        Given { position, recovered, later }
    }

    /// Takes a member out, joined or joining.
    pub(crate) fn leave(&self, slot: usize) -> Effects {
        self.take_out(slot, |share, known| share.leave(known, Instant::now()))
    }

    /// [`leave`](Self::leave), of one who is put out, and is not shown any more.
    pub(crate) fn remove(&self, slot: usize) -> Effects {
        self.take_out(slot, Share::remove)
    }

    /// The connections of all members, joined or joining.
    pub(crate) fn recipients(&self) -> Vec<Arc<Recipient>> {
        lock(&self.state).members.iter().flatten().map(|member| Arc::clone(&member.recipient)).collect()
    }

    /// Whether what is broadcast may be compressed for this connection.
    fn deflates(&self, recipient: &Recipient) -> bool {
        !self.kind.uncompressed && recipient.deflate().is_some()
    }

    fn take_out(&self, slot: usize, count_out: impl FnOnce(&mut Share, Option<&Known>) -> Due) -> Effects {
        // Dropped after the lock.
        let mut given = Vec::new();
        let mut state = lock(&self.state);
        let Some(member) = state.members.get_mut(slot).and_then(Option::take) else { return Effects::default() };
        state.free.push(slot);
        state.progress.part(slot, member.recipient.id());
        if state.replay.as_mut().is_some_and(|replay| replay.behind.remove(&slot).is_some()) {
            member.recipient.caught_up(&self.key);
        }
        self.multi.fetch_sub(u32::from(member.recipient.form() != Form::Single), Ordering::Relaxed);
        self.deflating.fetch_sub(u32::from(self.deflates(&member.recipient)), Ordering::Relaxed);
        let empty = state.free.len() == state.members.len();
        if empty {
            state.members = Vec::new();
            state.free = Vec::new();
            state.log.clear(&mut given);
            state.loss = Loss::default();
            state.empty_since = Some(Instant::now());
            // Nobody is left to be told of it, but publishers may wait for space.
            state.for_space.take().wake();
        }
        let mut effects = Effects::default();
        if member.held().is_none_or(|held| held.counted) {
            let facts = member.facts();
            let due = match facts.map(|facts| facts.rights.sort) {
                Some(Sort::Observer | Sort::Server) => state.share.stop_observing(),
                _ => count_out(&mut state.share, facts.and_then(|facts| facts.known.as_ref())),
            };
            effects = state.take_due(due);
        }
        effects.linger = empty && !std::mem::replace(&mut state.lingering, true);
        effects
    }
}
