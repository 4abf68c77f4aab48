//! Who waits for what.

use redis::RedisError;
use tokio::sync::oneshot;

use super::{
    Subscriptions,
    state::{Have, State},
};
use crate::{channels::Channel, lock::lock};

pub(super) type CallId = u64;

/// A call that is not answered yet.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) goal: Goal,
    channels: Vec<Channel>,
    answer: oneshot::Sender<Outcome>,
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
        (&mut self.answer).await.unwrap_or(Outcome::Overruled)
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
        self.calls.insert(id, Call { goal, channels, answer: sender });
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
                Goal::Silent if entries.all(|entry| entry.is_none_or(|entry| entry.want)) => self.finish(id),
                Goal::Heard | Goal::Silent => {}
            }
        }
    }

    fn finish(&mut self, id: CallId) {
        let Some(call) = self.calls.remove(&id) else { return };
        for channel in &call.channels {
            if let Some(entry) = self.entries.get_mut(channel) {
                entry.held |= call.goal == Goal::Heard;
                entry.calls.retain(|call| *call != id);
            }
        }
        _ = call.answer.send(Outcome::Done);
    }

    pub(super) fn fail(&mut self, id: CallId, outcome: Outcome) {
        if let Some(call) = self.give_up(id) {
            _ = call.answer.send(outcome);
        }
    }

    pub(super) fn waits_to_hear(&self, id: CallId) -> bool {
        self.calls.get(&id).is_some_and(|call| call.goal == Goal::Heard)
    }

    /// Ends a call without its goal: what only it wanted is wanted no more.
    pub(super) fn give_up(&mut self, id: CallId) -> Option<Call> {
        let call = self.calls.remove(&id)?;
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
