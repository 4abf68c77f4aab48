//! Which channels are wanted and which are had: one owner of both, so a join and a leave can't overtake each other.
//!
//! Callers say what they want. The task of a subscribing connection takes the difference in batches, asks Redis, and
//! says what came of it. Where what is wanted changes meanwhile, the next batch puts it right. There is one connection for
//! each lane; a channel that gets another lane is asked for there, and who waits for it goes on waiting.

mod calls;
mod lanes;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use rooms_core::bus::Topic;

pub(crate) use self::calls::{Outcome, Ticket};
use self::{
    calls::Goal,
    state::{Entry, Have, State},
};
use crate::{
    builder::PubSub,
    channels::Channel,
    lock::lock,
    routes::{LaneId, Routes},
};

/// The difference between what is wanted and what is had.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    state: Mutex<State>,
}

/// Channels for one command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    Subscribe(Vec<Channel>),
    Unsubscribe(Vec<Channel>),
}

impl Subscriptions {
    pub(crate) fn new(routes: Arc<Routes>, pubsub: PubSub) -> Self {
        Self { state: Mutex::new(State::new(routes, pubsub)) }
    }

    /// Wants channels; the ticket says when they are confirmed, and takes the wish back when it is dropped before.
    pub(crate) fn subscribe(&self, topics: Vec<(Channel, Topic)>) -> Ticket<'_> {
        let mut state = lock(&self.state);
        let channels = topics.iter().map(|(channel, _)| channel.clone()).collect();
        let (id, ticket) = state.open_call(self, Goal::Heard, channels);
        let mut concerned = vec![id];
        for (channel, topic) in topics {
            let entry = state.entries.entry(channel.clone()).or_insert_with(|| Entry::new(topic));
            concerned.extend_from_slice(&entry.calls);
            entry.want = true;
            entry.calls.push(id);
            if entry.have == Have::Refused {
                // Who asks anew gets a new answer.
                entry.have = Have::No;
            }
            state.settle(&channel);
        }
        state.look_at_calls(concerned);
        ticket
    }

    /// Wants channels no more; the ticket says when nothing comes from them.
    pub(crate) fn unsubscribe(&self, channels: Vec<Channel>) -> Ticket<'_> {
        let mut state = lock(&self.state);
        let (id, ticket) = state.open_call(self, Goal::Silent, channels.clone());
        let mut concerned = vec![id];
        for channel in channels {
            let Some(entry) = state.entries.get_mut(&channel) else { continue };
            // The last word counts: who still waits to hear this channel will not.
            concerned.extend_from_slice(&entry.calls);
            entry.want = false;
            entry.held = false;
            entry.calls.push(id);
            state.settle(&channel);
        }
        state.look_at_calls(concerned);
        ticket
    }

    /// The topic of a channel that somebody here wants to hear, and hears on that lane.
    pub(crate) fn topic(&self, lane: LaneId, channel: &str) -> Option<Topic> {
        let state = lock(&self.state);
        let entry = state.entries.get(channel).filter(|entry| entry.want && entry.lane == lane)?;
        Some(entry.topic.clone())
    }

    /// The number of a lane's connection, while there is one.
    pub(crate) fn connection(&self, lane: LaneId) -> Option<u64> {
        lock(&self.state).desks.get(&lane)?.connection
    }

    /// The time by which [`unheard`](Self::unheard) tells what was subscribed before a publication from what was after.
    pub(crate) fn now(&self) -> u64 {
        lock(&self.state).clock
    }

    /// The topic, and the connection, of a channel that has been subscribed on that lane since before that time: a
    /// publication after it that reached nobody there shows that the subscription is gone.
    pub(crate) fn unheard(&self, lane: LaneId, channel: &str, since: u64) -> Option<(Topic, u64)> {
        let state = lock(&self.state);
        let entry = state.entries.get(channel).filter(|entry| entry.want && entry.lane == lane)?;
        match entry.have {
            Have::Live(at) if at <= since => Some((entry.topic.clone(), state.desks.get(&lane)?.connection?)),
            _ => None,
        }
    }

    /// Whether somebody relies on some channel, or may do so any moment, as it is had.
    pub(crate) fn any_held(&self) -> bool {
        let state = lock(&self.state);
        state.entries.values().any(|entry| matches!(entry.have, Have::Live(_)) || state.is_held(entry))
    }

    /// How many channels that somebody relies on are refused.
    pub(crate) fn all_refusals(&self) -> usize {
        let state = lock(&self.state);
        state.desks.keys().map(|lane| state.refused_now(*lane).count()).sum()
    }

    /// How many channels are wanted or are being left, and how many are confirmed.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.entries.len(), state.desks.values().map(|desk| desk.live).sum())
    }
}
