//! Which channels are wanted and which are had: one owner of both, so a join and a leave can't overtake each other.
//!
//! Callers say what they want. The task of the subscribing connection takes the difference in batches, asks Redis, and
//! says what came of it. Where what is wanted changes meanwhile, the next batch puts it right.

mod calls;

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Mutex,
};

use redis::RedisError;
use rooms_core::bus::Topic;
use tokio::sync::Notify;

use self::calls::{Call, CallId, Goal};
pub(crate) use self::calls::{Outcome, Ticket};
use crate::{channels::Channel, lock::lock};

/// The difference between what is wanted and what is had.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Channel, Entry>,
    /// Channels to subscribe, oldest first.
    subscribe: VecDeque<Channel>,
    /// Channels to unsubscribe.
    unsubscribe: VecDeque<Channel>,
    /// Channels that were had before and are refused now.
    refused: Vec<Channel>,
    calls: HashMap<CallId, Call>,
    next_call: CallId,
    /// The number of the connection, while there is one.
    connection: Option<u64>,
    /// Grows with every confirmation; see [`Subscriptions::now`].
    clock: u64,
    live: usize,
}

#[derive(Debug)]
struct Entry {
    topic: Topic,
    want: bool,
    have: Have,
    /// Somebody was told that messages will arrive, so one that does not is a loss.
    held: bool,
    /// The calls that wait for this channel.
    calls: Vec<CallId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Have {
    No,
    /// In the queue to be subscribed.
    Queued,
    /// Redis was asked to subscribe.
    Asked,
    /// Confirmed at this time of the clock.
    Live(u64),
    /// In the queue to be unsubscribed, or Redis was asked to.
    Leaving,
    Refused,
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
        while !state.unsubscribe.is_empty() {
            let channels = state.take_unsubscribe(most);
            if !channels.is_empty() {
                return Some(Batch::Unsubscribe(channels));
            }
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
        state.refused.push(channel.clone());
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

    /// How many channels are wanted, and how many of those are confirmed.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.entries.values().filter(|entry| entry.want).count(), state.live)
    }
}

impl State {
    /// Does what follows from what is wanted and what is had.
    fn settle(&mut self, channel: &Channel) {
        let Some(entry) = self.entries.get_mut(channel) else { return };
        match (entry.want, entry.have) {
            (true, Have::No) if self.connection.is_some() => {
                entry.have = Have::Queued;
                self.subscribe.push_back(channel.clone());
            }
            (false, Have::Live(_)) => {
                entry.have = Have::Leaving;
                self.unsubscribe.push_back(channel.clone());
            }
            (false, Have::No | Have::Refused) => {
                self.entries.remove(channel);
            }
            // The rest is as it should be, or is put right by the answer that is under way.
            _ => {}
        }
    }

    fn take_subscribe(&mut self, most: usize) -> (Vec<Channel>, usize) {
        let count = self.subscribe.len().min(most);
        let taken: Vec<Channel> = self.subscribe.drain(..count).collect();
        let channels = taken.into_iter().filter(|channel| self.ask(channel)).collect();
        (channels, count)
    }

    /// Whether to ask for a channel out of the queue.
    fn ask(&mut self, channel: &Channel) -> bool {
        let Some(entry) = self.entries.get_mut(channel).filter(|entry| entry.have == Have::Queued) else {
            return false;
        };
        entry.have = if entry.want { Have::Asked } else { Have::No };
        let ask = entry.want;
        self.settle(channel);
        ask
    }

    fn take_unsubscribe(&mut self, most: usize) -> Vec<Channel> {
        let count = self.unsubscribe.len().min(most);
        let taken: Vec<Channel> = self.unsubscribe.drain(..count).collect();
        taken.into_iter().filter(|channel| self.entries.contains_key(channel)).collect()
    }

    fn refused_now(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.refused.iter().filter_map(|channel| self.entries.get(channel));
        entries.filter(|entry| entry.have == Have::Refused)
    }
}

impl Entry {
    fn new(topic: Topic) -> Self {
        Self { topic, want: false, have: Have::No, held: false, calls: Vec::new() }
    }
}
