//! Which channels are wanted and which are had: one owner of both, so a join and a leave can't overtake each other.
//!
//! The manager states what it wants. The task of a subscribing connection takes the difference in batches, asks Redis, and
//! the manager is answered when a channel is confirmed or refused. Where what is wanted changes meanwhile, the next batch
//! puts it right. There is one connection for each link; a channel that gets another link is asked for there.
//!
//! Answers are given under the lock of the table: once `unsubscribe` has returned, none to an earlier `subscribe` is.

mod links;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use rooms_core::bus::Topic;

use self::state::{Entry, Have, State};
use crate::{
    channels::Channel,
    lock::lock,
    pubsub::PubSub,
    routes::{LinkId, Routes},
    status::Status,
};

/// The difference between what is wanted and what is had.
pub(crate) struct Subscriptions {
    state: Mutex<State>,
    status: Arc<Status>,
}

/// Channels for one command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    Subscribe(Vec<Channel>),
    Unsubscribe(Vec<Channel>),
}

/// How many channels are refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusals {
    pub(crate) all: usize,
    /// Those on which the manager was told that messages will arrive: without them not all is well. What was refused from
    /// the start keeps nobody else waiting.
    pub(crate) relied_on: usize,
}

impl Subscriptions {
    pub(crate) fn new(routes: Arc<Routes>, pubsub: PubSub, status: Arc<Status>) -> Self {
        Self { state: Mutex::new(State::new(routes, pubsub)), status }
    }

    /// Wants channels. Those that are confirmed already are answered at once.
    pub(crate) fn subscribe(&self, topics: Vec<(Channel, Topic)>) {
        let mut state = lock(&self.state);
        let mut confirmed = Vec::new();
        for (channel, topic) in topics {
            let entry = state.entries.entry(channel.clone()).or_insert_with(|| Entry::new(topic.clone()));
            entry.want = true;
            match entry.have {
                Have::Live(_) => {
                    entry.told = true;
                    confirmed.push(topic);
                }
                // Whoever asks anew gets a new answer.
                Have::Refused => (entry.have, entry.told_refused) = (Have::No, false),
                _ => entry.told_refused = false,
            }
            state.reconcile(&channel);
        }
        self.status.subscribed(confirmed);
    }

    /// Wants channels no more.
    pub(crate) fn unsubscribe(&self, channels: Vec<Channel>) {
        let mut state = lock(&self.state);
        for channel in channels {
            let Some(entry) = state.entries.get_mut(&channel) else { continue };
            (entry.want, entry.told) = (false, false);
            state.reconcile(&channel);
        }
    }

    /// The topic of a channel that somebody here wants to hear, and hears on that link.
    pub(crate) fn topic(&self, link: LinkId, channel: &str) -> Option<Topic> {
        let state = lock(&self.state);
        let entry = state.entries.get(channel).filter(|entry| entry.want && entry.link == link)?;
        Some(entry.topic.clone())
    }

    /// The number of a link's connection, while there is one.
    pub(crate) fn connection(&self, link: LinkId) -> Option<u64> {
        lock(&self.state).queues.get(&link)?.connection
    }

    /// The time by which [`subscribed_before`](Self::subscribed_before) tells what was subscribed before a publication from what was after.
    pub(crate) fn now(&self) -> u64 {
        lock(&self.state).clock
    }

    /// The topic, and the connection, of a channel that has been subscribed on that link since before that time: a
    /// publication after it that reached nobody there shows that the subscription is gone.
    pub(crate) fn subscribed_before(&self, link: LinkId, channel: &str, since: u64) -> Option<(Topic, u64)> {
        let state = lock(&self.state);
        let entry = state.entries.get(channel).filter(|entry| entry.want && entry.link == link)?;
        match entry.have {
            Have::Live(at) if at <= since => Some((entry.topic.clone(), state.queues.get(&link)?.connection?)),
            _ => None,
        }
    }

    /// Whether the manager relies on some channel: it was told that messages will arrive.
    pub(crate) fn any_told(&self) -> bool {
        let state = lock(&self.state);
        state.entries.values().any(|entry| entry.told)
    }

    /// How many channels that are wanted are refused.
    pub(crate) fn all_refusals(&self) -> usize {
        let state = lock(&self.state);
        state.queues.keys().map(|link| state.refused_now(*link).count()).sum()
    }

    /// How many channels a link has confirmed.
    pub(crate) fn live(&self, link: LinkId) -> usize {
        lock(&self.state).queues.get(&link).map_or(0, |queues| queues.live)
    }

    /// How many channels are wanted or are being left, and how many are confirmed.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.entries.len(), state.queues.values().map(|queues| queues.live).sum())
    }
}
