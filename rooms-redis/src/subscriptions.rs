//! Which channels are wanted and which are had: one owner of both, so a join and a leave can't overtake each other.
//!
//! Callers say what they want. The task of the subscribing connection takes the difference in batches, asks Redis, and
//! says what came of it. Where what is wanted changes meanwhile, the next batch puts it right.

mod calls;
mod state;
#[cfg(test)]
mod tests;

use std::{mem, sync::Mutex};

use redis::RedisError;
use rooms_core::bus::Topic;
use tokio::sync::Notify;

pub(crate) use self::calls::{Outcome, Ticket};
use self::{
    calls::Goal,
    state::{Entry, Have, State},
};
use crate::{channels::Channel, lock::lock};

/// The difference between what is wanted and what is had.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    state: Mutex<State>,
    news: Notify,
}

/// Channels for one command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    Subscribe(Vec<Channel>),
    Unsubscribe(Vec<Channel>),
}

impl Subscriptions {
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
        self.news.notify_one();
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
        self.news.notify_one();
        ticket
    }

    /// The topic of a channel that somebody here wants to hear.
    pub(crate) fn topic(&self, channel: &str) -> Option<Topic> {
        lock(&self.state).entries.get(channel).filter(|entry| entry.want).map(|entry| entry.topic.clone())
    }

    /// The time by which [`unheard`](Self::unheard) tells what was subscribed before a publication from what was after.
    pub(crate) fn now(&self) -> u64 {
        lock(&self.state).clock
    }

    /// The topic, and the connection, of a channel that has been subscribed since before that time: a publication after
    /// it that reached nobody shows that the subscription is gone.
    pub(crate) fn unheard(&self, channel: &str, since: u64) -> Option<(Topic, u64)> {
        let state = lock(&self.state);
        let entry = state.entries.get(channel)?;
        match entry.have {
            Have::Live(at) if at <= since && entry.want => Some((entry.topic.clone(), state.connection?)),
            _ => None,
        }
    }

    /// Resolves when there may be something to do.
    pub(crate) async fn changed(&self) {
        self.news.notified().await;
    }

    /// A connection is there: queues all that is wanted, and gives the number of it.
    pub(crate) fn connected(&self, connection: u64) -> usize {
        let mut state = lock(&self.state);
        state.connection = Some(connection);
        let channels: Vec<Channel> = state.entries.keys().cloned().collect();
        for channel in channels {
            state.settle(&channel);
        }
        state.subscribe.len()
    }

    /// The connection is gone, and every subscription with it.
    pub(crate) fn disconnected(&self) {
        let mut state = lock(&self.state);
        state.connection = None;
        state.subscribe.clear();
        state.unsubscribe.clear();
        state.refused.clear();
        state.live = 0;
        state.entries.retain(|_, entry| {
            entry.have = Have::No;
            entry.want
        });
        let all = state.calls.keys().copied().collect();
        state.look_at_calls(all);
    }

    /// Whether somebody relies on some channel.
    pub(crate) fn any_held(&self) -> bool {
        lock(&self.state).entries.values().any(|entry| entry.held)
    }

    /// The next channels to subscribe, at most so many, and how many places of the queue they were.
    pub(crate) fn take_subscribe(&self, most: usize) -> (Vec<Channel>, usize) {
        lock(&self.state).take_subscribe(most)
    }

    /// The next command, of at most so many channels.
    pub(crate) fn take(&self, most: usize) -> Option<Batch> {
        let mut state = lock(&self.state);
        // What is left comes first: it is never more than what was subscribed before, and so keeps nobody waiting long.
        if !state.unsubscribe.is_empty() {
            return Some(Batch::Unsubscribe(state.take_unsubscribe(most)));
        }
        while !state.subscribe.is_empty() {
            let (channels, _) = state.take_subscribe(most);
            if !channels.is_empty() {
                return Some(Batch::Subscribe(channels));
            }
        }
        None
    }

    /// Redis has confirmed the subscription of these; gives the topics that somebody relied on already.
    pub(crate) fn confirmed(&self, channels: &[Channel]) -> Vec<Topic> {
        let mut state = lock(&self.state);
        state.clock += 1;
        let clock = state.clock;
        let (mut held, mut waiting) = (Vec::new(), Vec::new());
        for channel in channels {
            let Some(entry) = state.entries.get_mut(channel) else { continue };
            entry.have = Have::Live(clock);
            if entry.held {
                held.push(entry.topic.clone());
            }
            waiting.extend_from_slice(&entry.calls);
            state.live += 1;
            state.settle(channel);
        }
        state.look_at_calls(waiting);
        held
    }

    /// Redis has refused to subscribe this one.
    pub(crate) fn refused(&self, channel: &Channel, error: &RedisError) {
        let mut state = lock(&self.state);
        let Some(entry) = state.entries.get_mut(channel) else { return };
        entry.have = Have::Refused;
        let waiting = entry.calls.clone();
        state.refused.insert(channel.clone());
        for call in waiting.iter().filter(|call| state.waits_to_hear(**call)).copied().collect::<Vec<_>>() {
            state.fail(call, Outcome::Refused(error.clone()));
        }
        state.settle(channel);
        state.look_at_calls(waiting);
    }

    /// Redis has confirmed that these are unsubscribed.
    pub(crate) fn left(&self, channels: &[Channel]) {
        let mut state = lock(&self.state);
        let mut waiting = Vec::new();
        for channel in channels {
            let Some(entry) = state.entries.get_mut(channel) else { continue };
            entry.have = Have::No;
            waiting.extend_from_slice(&entry.calls);
            state.live = state.live.saturating_sub(1);
            state.settle(channel);
        }
        state.look_at_calls(waiting);
    }

    /// How many channels that somebody relies on are refused.
    pub(crate) fn refusals(&self) -> usize {
        lock(&self.state).refused_now().count()
    }

    /// Queues what was refused again, as rights may have been repaired.
    pub(crate) fn retry_refused(&self) {
        let mut state = lock(&self.state);
        for channel in mem::take(&mut state.refused) {
            if let Some(entry) = state.entries.get_mut(&channel).filter(|entry| entry.have == Have::Refused) {
                entry.have = Have::No;
                state.settle(&channel);
            }
        }
    }

    /// The topics that are live and that somebody relies on.
    pub(crate) fn held_topics(&self) -> Vec<Topic> {
        let state = lock(&self.state);
        let live = state.entries.values().filter(|entry| entry.held && matches!(entry.have, Have::Live(_)));
        live.map(|entry| entry.topic.clone()).collect()
    }

    /// How many channels are wanted or are being left, and how many are confirmed.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.entries.len(), state.live)
    }
}
