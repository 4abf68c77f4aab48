//! Who waits for what.

use redis::RedisError;
use tokio::sync::oneshot;

use super::{
    Subscriptions,
    state::{Entry, Have, State},
};
use crate::{channels::Channel, give_back::GiveBack as _, lock::lock};

pub(super) type CallId = u64;

/// A call whose caller has not been told yet how it ended.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) goal: Goal,
    channels: Vec<Channel>,
    /// `None` once the answer is on its way. Until it is taken the call is here still: a caller that is dropped in
    /// between never knew that it was heard, and would never say that it wants it no more.
    answer: Option<oneshot::Sender<Outcome>>,
}

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// All of its channels are confirmed.
    Heard,
    /// Nothing comes from its channels, or somebody wants it to again.
    Silent,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    Refused(RedisError),
    /// Somebody unsubscribed a channel meanwhile.
    Overruled,
}

/// A call's place in the queue. Dropped before the end, it takes the wish back.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    subscriptions: &'a Subscriptions,
    id: CallId,
    answer: oneshot::Receiver<Outcome>,
}

impl Ticket<'_> {
    /// How the call ended. May be dropped at any time.
    pub(crate) async fn outcome(mut self) -> Outcome {
        // The sender goes only with an answer.
        let outcome = (&mut self.answer).await.unwrap_or(Outcome::Overruled);
        if let Outcome::Done = outcome {
            lock(&self.subscriptions.state).close_call(self.id);
        }
        outcome
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        lock(&self.subscriptions.state).give_up(self.id);
    }
}

impl State {
    pub(super) fn open_call<'a>(
        &mut self,
        subscriptions: &'a Subscriptions,
        goal: Goal,
        channels: Vec<Channel>,
    ) -> (CallId, Ticket<'a>) {
        let id = self.next_call;
        self.next_call += 1;
        let (sender, answer) = oneshot::channel();
        self.calls.insert(id, Call { goal, channels, answer: Some(sender) });
        (id, Ticket { subscriptions, id, answer })
    }

    /// Ends the calls among these that have what they wait for, or never will.
    pub(super) fn look_at_calls(&mut self, mut ids: Vec<CallId>) {
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let Some(call) = self.calls.get(&id) else { continue };
            let mut entries = call.channels.iter().map(|channel| self.entries.get(channel));
            match call.goal {
                Goal::Heard if entries.clone().any(|entry| entry.is_none_or(|entry| !entry.want)) => {
                    self.fail(id, Outcome::Overruled);
                }
                Goal::Heard if entries.all(|entry| entry.is_some_and(|e| matches!(e.have, Have::Live(_)))) => {
                    self.finish(id);
                }
                // A channel that was left and is had again is another entry, which does not know this call.
                Goal::Silent if entries.all(|entry| entry.is_none_or(|e| e.want || !e.calls.contains(&id))) => {
                    self.finish(id);
                }
                Goal::Heard | Goal::Silent => {}
            }
        }
    }

    fn finish(&mut self, id: CallId) {
        let Some(answer) = self.calls.get_mut(&id).and_then(|call| call.answer.take()) else { return };
        _ = answer.send(Outcome::Done);
    }

    /// The caller knows that it has what it waited for, and relies on it.
    fn close_call(&mut self, id: CallId) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.calls.give_back();
        for channel in &call.channels {
            if let Some(entry) = self.entries.get_mut(channel) {
                entry.held |= call.goal == Goal::Heard;
                entry.calls.retain(|call| *call != id);
            }
        }
    }

    /// Whether somebody was told, or is being told, that a channel is heard: what it misses from then on is a loss.
    pub(super) fn is_held(&self, entry: &Entry) -> bool {
        let heard = |call: &Call| call.goal == Goal::Heard && call.answer.is_none();
        entry.held || entry.calls.iter().filter_map(|id| self.calls.get(id)).any(heard)
    }

    pub(super) fn fail(&mut self, id: CallId, outcome: Outcome) {
        if let Some(answer) = self.give_up(id).and_then(|call| call.answer) {
            _ = answer.send(outcome);
        }
    }

    pub(super) fn waits_to_hear(&self, id: CallId) -> bool {
        self.calls.get(&id).is_some_and(|call| call.goal == Goal::Heard && call.answer.is_some())
    }

    /// Ends a call without its goal: what only it wanted is wanted no more.
    pub(super) fn give_up(&mut self, id: CallId) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        self.calls.give_back();
        for channel in &call.channels {
            let Some(entry) = self.entries.get_mut(channel) else { continue };
            entry.calls.retain(|call| *call != id);
            let others = entry.calls.iter().any(|id| self.calls.get(id).is_some_and(|call| call.goal == Goal::Heard));
            if call.goal == Goal::Heard && !entry.held && !others {
                entry.want = false;
                self.settle(channel);
            }
        }
        Some(call)
    }
}
