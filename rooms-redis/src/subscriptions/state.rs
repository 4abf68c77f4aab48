//! Channel by channel: what is wanted, what is had, and what follows.

use std::collections::{HashMap, HashSet, VecDeque};

use rooms_core::bus::Topic;

use super::calls::{Call, CallId};
use crate::channels::Channel;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) entries: HashMap<Channel, Entry>,
    /// Channels to subscribe, oldest first.
    pub(super) subscribe: VecDeque<Channel>,
    /// Channels to unsubscribe.
    pub(super) unsubscribe: VecDeque<Channel>,
    /// Channels that were had before and are refused now.
    pub(super) refused: HashSet<Channel>,
    pub(super) calls: HashMap<CallId, Call>,
    pub(super) next_call: CallId,
    /// The number of the connection, while there is one.
    pub(super) connection: Option<u64>,
    /// Grows with every confirmation; see [`Subscriptions::now`].
    pub(super) clock: u64,
    pub(super) live: usize,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) topic: Topic,
    pub(super) want: bool,
    pub(super) have: Have,
    /// Somebody was told that messages will arrive, so one that does not is a loss.
    pub(super) held: bool,
    /// The calls that wait for this channel.
    pub(super) calls: Vec<CallId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Have {
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

impl State {
    /// Does what follows from what is wanted and what is had.
    pub(super) fn settle(&mut self, channel: &Channel) {
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
            // Its place in the queue is passed over, or is that of a later wish.
            (false, Have::No | Have::Queued | Have::Refused) => {
                self.entries.remove(channel);
            }
            // The rest is as it should be, or is put right by the answer that is under way.
            _ => {}
        }
    }

    pub(super) fn take_subscribe(&mut self, most: usize) -> (Vec<Channel>, usize) {
        let count = self.subscribe.len().min(most);
        let taken: Vec<Channel> = self.subscribe.drain(..count).collect();
        let asked = taken.into_iter().filter(|channel| {
            let queued = self.entries.get_mut(channel).filter(|entry| entry.have == Have::Queued);
            queued.map(|entry| entry.have = Have::Asked).is_some()
        });
        (asked.collect(), count)
    }

    pub(super) fn take_unsubscribe(&mut self, most: usize) -> Vec<Channel> {
        let count = self.unsubscribe.len().min(most);
        self.unsubscribe.drain(..count).collect()
    }

    pub(super) fn refused_now(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.refused.iter().filter_map(|channel| self.entries.get(channel));
        entries.filter(|entry| entry.have == Have::Refused)
    }
}

impl Entry {
    pub(super) fn new(topic: Topic) -> Self {
        Self { topic, want: false, have: Have::No, held: false, calls: Vec::new() }
    }
}
