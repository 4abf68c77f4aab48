//! How a member is given messages: in place where its sink takes them, else they wait.

use std::{
    num::NonZeroU64,
    task::{Context, Waker},
};

use super::{
    About, Outbox, Source, Waiting,
    queue::{Bounds, Offered, Overrun, Queue},
    state::{Phase, State},
    transport::{Broken, Full, Wrote},
};
use crate::{bus::Position, close::Close, lock::lock, message::Message, room_key::RoomKey};

/// What became of messages for one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// They were written, or wait to be.
    Taken,
    /// The outbox is closed, perhaps because they were too many.
    Closed,
}

impl Outbox {
    /// Gives the member messages that are for it alone: what the sink takes at once is gone, the rest is queued.
    pub(crate) fn deliver(&self, batch: &[Message]) -> Delivery {
        self.give(batch, |queue, at| batch.get(at).map(|message| queue.offer(message, self.fixed.bounds())))
    }

    /// [`deliver`](Self::deliver), of what answers a join of a room that the member is in.
    pub(crate) fn deliver_standing(&self, room: &RoomKey, batch: &[Message]) {
        let bounds = self.fixed.bounds();
        self.give(batch, |queue, at| batch.get(at).map(|message| queue.offer_standing(message, room, bounds)));
    }

    /// Has the sink write what it holds back for the first messages; see [`CorkedStream`](crate::ws::CorkedStream).
    pub(crate) fn uncork(&self) {
        self.deliver(&[]);
    }

    /// Gives the member messages of a room, each with what it is about; where too many wait, the room's rule decides. Gives
    /// the offset from which on it left out what the log has, if it did: it may not be called again before the member was
    /// given that.
    pub(crate) fn deliver_from(&self, source: &Source, batch: &[Message], about: &[About]) -> Option<NonZeroU64> {
        let mut behind = None;
        self.give(batch, |queue, at| {
            let (message, this) = batch.get(at).zip(about.get(at))?;
            // A later one of the batch would replace it, and to look for what is replaced costs a turn of the queue.
            let later = about.get(at + 1..).unwrap_or_default();
            let left_out = behind.is_some() && this.offset().is_some();
            if left_out || source.replaces(*this) && later.iter().any(|later| later.is_of_the_sort_of(*this)) {
                return None;
            }
            match queue.offer_from(message, *this, source, self.fixed.bounds()) {
                Ok(Offered::Queued) => Some(Ok(())),
                Ok(Offered::Behind(offset)) => {
                    behind = behind.or(Some(offset));
                    Some(Ok(()))
                }
                Err(overrun) => Some(Err(overrun)),
            }
        });
        behind
    }

    /// Tries the sink with the batch, and has `offer` queue what it did not take, by its place in the batch.
    fn give(
        &self,
        batch: &[Message],
        mut offer: impl FnMut(&mut Queue, usize) -> Option<Result<(), Overrun>>,
    ) -> Delivery {
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return Delivery::Closed;
        }
        let taken = match state.full {
            Full::No => self.write_now(&mut state, batch),
            Full::Yes => 0,
        };
        for at in taken..batch.len() {
            if let Some(Err(Overrun)) = offer(state.queue(), at) {
                state.close(Close::SLOW_CONSUMER, Waiting::Drop);
                return Delivery::Closed;
            }
        }
        if state.phase == Phase::Open { Delivery::Taken } else { Delivery::Closed }
    }

    /// Queues a welcome and what follows it without touching the sink; the connection's task writes it with its next
    /// [`drive`](Self::drive), and is not woken for that. What follows is bounded by who gives it, and so is not too much
    /// because the welcome is long.
    ///
    /// For callers that hold a lock of their own, under which nothing may be written.
    pub(crate) fn queue(&self, room: &RoomKey, welcome: &Message, rest: impl Iterator<Item = Message>) {
        self.queue_by(|queue, bounds| {
            queue.part_with(room);
            queue.offer_standing(welcome, room, bounds)?;
            rest.for_each(|message| queue.append_replayed(message, room));
            Ok(())
        });
    }

    /// Queues what a room has held for the member, after its welcome: not too much either, and from here on the room may drop
    /// it as its rule says.
    pub(crate) fn queue_held(&self, source: &Source, held: impl Iterator<Item = (About, Message)>) {
        self.queue_by(|queue, _| {
            held.for_each(|(about, message)| queue.append_from(message, about, source));
            Ok(())
        });
    }

    /// [`queue`](Self::queue) with one message of a room, by the room's rule; wakes the connection's task. Gives what
    /// [`deliver_from`](Self::deliver_from) does.
    pub(crate) fn queue_from(&self, source: &Source, message: &Message, about: About) -> Option<NonZeroU64> {
        let offered = self.queue_by(|queue, bounds| queue.offer_from(message, about, source, bounds));
        self.wake();
        match offered? {
            Offered::Queued => None,
            Offered::Behind(offset) => Some(offset),
        }
    }

    /// Queues what a room has left out, in order, as far as there is space. What is `None` is not for this member, and has
    /// its place. Gives the position of the last that it has now, if it was given any.
    pub(crate) fn refill(
        &self,
        source: &Source,
        missed: impl Iterator<Item = (Position, Option<Message>)>,
    ) -> Option<Position> {
        let last = self.queue_by(|queue, bounds| {
            let (mut last, mut one) = (None, true);
            for (position, message) in missed {
                if let Some(message) = message {
                    let fits =
                        queue.refill(&message, About::Logged(position), source, bounds, std::mem::take(&mut one));
                    if !fits {
                        break;
                    }
                }
                last = Some(position);
            }
            Ok(last)
        });
        self.wake();
        last?
    }

    fn queue_by<T>(&self, offer: impl FnOnce(&mut Queue, Bounds) -> Result<T, Overrun>) -> Option<T> {
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return None;
        }
        // From here on the order is the queue's, until the task has written it.
        state.full = Full::Yes;
        let offered = offer(state.queue(), self.fixed.bounds());
        if offered.is_err() {
            state.close(Close::SLOW_CONSUMER, Waiting::Drop);
        }
        offered.ok()
    }

    /// A room has left out messages for the member in this slot of it. The connection's task asks for them once the sink
    /// takes something.
    pub(crate) fn falls_behind(&self, room: &RoomKey, slot: usize) {
        let mut state = lock(&self.state);
        let behind = &mut state.seldom.get_or_insert_default().behind;
        if behind.iter().all(|(other, _)| other != room) {
            behind.push((room.clone(), slot));
        }
        // It may take something already.
        state.wake();
    }

    /// The member has what that room left out, or was told that it can't be given it, or has left.
    pub(crate) fn caught_up(&self, room: &RoomKey) {
        if let Some(seldom) = &mut lock(&self.state).seldom {
            seldom.behind.retain(|(other, _)| other != room);
        }
    }

    /// The rooms that have left messages out, each with the member's slot in it.
    pub(crate) fn behind(&self) -> Vec<(RoomKey, usize)> {
        lock(&self.state).seldom.as_ref().map(|seldom| seldom.behind.clone()).unwrap_or_default()
    }

    fn write_now(&self, state: &mut State, batch: &[Message]) -> usize {
        debug_assert!(!state.has_waiting(), "messages wait only behind a full sink");
        let State { sink, task, .. } = state;
        let mut cx = Context::from_waker(task.as_ref().unwrap_or(Waker::noop()));
        match sink.as_mut().map_or(Err(Broken), |sink| sink.write(&mut cx, batch)) {
            Ok(Wrote { taken, full, .. }) => {
                // Where nobody drives the connection yet, its task tries again with its first turn.
                state.full = full;
                taken
            }
            Err(Broken) => {
                state.fail();
                batch.len()
            }
        }
    }
}
