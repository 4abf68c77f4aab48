//! Channel by channel: what is wanted, what is had, and what follows.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use rooms_core::bus::Topic;
use tokio::sync::Notify;

use crate::{
    channels::Channel,
    pubsub::PubSub,
    routes::{LinkId, Routes},
    shrink::Shrink as _,
};

#[derive(Debug)]
pub(super) struct State {
    pub(super) entries: HashMap<Channel, Entry>,
    pub(super) routes: Arc<Routes>,
    pub(super) pubsub: PubSub,
    pub(super) queues: HashMap<LinkId, Queues>,
    /// Grows with every confirmation; see [`Subscriptions::now`].
    pub(super) clock: u64,
}

/// What one subscribing connection is to do.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// The number of the connection, while there is one.
    pub(super) connection: Option<u64>,
    /// Channels to subscribe, oldest first.
    pub(super) subscribe: VecDeque<Channel>,
    /// Channels to unsubscribe.
    pub(super) unsubscribe: VecDeque<Channel>,
    /// Channels that have another link now, and are subscribed here still.
    pub(super) orphans: VecDeque<Channel>,
    /// Channels that were had before and are refused now, or that can't be had for the moment.
    pub(super) refused: HashSet<Channel>,
    pub(super) live: usize,
    pub(super) news: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) topic: Topic,
    pub(super) want: bool,
    pub(super) have: Have,
    /// Whose connection that is about.
    pub(super) link: LinkId,
    /// The manager was told that messages will arrive, so one that does not is a loss.
    pub(super) told: bool,
    /// The manager was told that it is refused. That is tried again and again, and told once.
    pub(super) told_refused: bool,
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
    pub(super) fn new(routes: Arc<Routes>, pubsub: PubSub) -> Self {
        Self { entries: HashMap::new(), routes, pubsub, queues: HashMap::new(), clock: 0 }
    }

    /// Does what follows from what is wanted and what is had.
    pub(super) fn reconcile(&mut self, channel: &Channel) {
        let Some(entry) = self.entries.get_mut(channel) else { return };
        match (entry.want, entry.have) {
            (true, Have::No) => {
                let Some(link) = self.routes.link(channel) else { return };
                let Some(queues) = self.queues.get_mut(&link).filter(|queues| queues.connection.is_some()) else {
                    return;
                };
                (entry.have, entry.link) = (Have::Queued, link);
                queues.subscribe.push_back(channel.clone());
                queues.news.notify_one();
            }
            (false, Have::Live(_)) => {
                entry.have = Have::Leaving;
                let Some(queues) = self.queues.get_mut(&entry.link) else { return };
                queues.unsubscribe.push_back(channel.clone());
                queues.news.notify_one();
            }
            // Its place in the queue is passed over, or is that of a later wish.
            (false, Have::No | Have::Queued | Have::Refused) => {
                if let Some(queues) = self.queues.get_mut(&entry.link) {
                    queues.refused.remove(channel);
                    queues.refused.shrink_to_use();
                }
                self.entries.remove(channel);
                self.entries.shrink_to_use();
            }
            // The rest is as it should be, or is put right by the answer that is under way.
            _ => {}
        }
    }

    /// The channel is not had any more, on whatever link it was.
    pub(super) fn lose(&mut self, channel: &Channel) {
        let Some(entry) = self.entries.get_mut(channel) else { return };
        if let (Have::Live(_) | Have::Leaving, Some(queues)) = (entry.have, self.queues.get_mut(&entry.link)) {
            queues.live = queues.live.saturating_sub(1);
        }
        entry.have = Have::No;
    }

    /// A subscription that is another link's business now. Of a sharded one the server rids itself.
    pub(super) fn orphan(&mut self, link: LinkId, channel: &Channel) {
        if let (PubSub::Classic, Some(queues)) = (self.pubsub, self.queues.get_mut(&link)) {
            queues.orphans.push_back(channel.clone());
            queues.news.notify_one();
        }
    }

    /// The entry of a channel, if it is so on that link.
    pub(super) fn entry_on(&mut self, link: LinkId, channel: &str, is: fn(Have) -> bool) -> Option<&mut Entry> {
        self.entries.get_mut(channel).filter(|entry| entry.link == link && is(entry.have))
    }

    pub(super) fn take_subscribe(&mut self, link: LinkId, most: usize) -> (Vec<Channel>, usize) {
        let Some(queues) = self.queues.get_mut(&link) else { return (Vec::new(), 0) };
        let count = queues.subscribe.len().min(most);
        let taken: Vec<Channel> = queues.subscribe.drain(..count).collect();
        queues.subscribe.shrink_to_use();
        let asked = taken.into_iter().filter(|channel| {
            let queued = self.entry_on(link, channel, |have| have == Have::Queued);
            queued.map(|entry| entry.have = Have::Asked).is_some()
        });
        (asked.collect(), count)
    }

    pub(super) fn take_unsubscribe(&mut self, link: LinkId, most: usize) -> (Vec<Channel>, usize) {
        let Some(queues) = self.queues.get_mut(&link) else { return (Vec::new(), 0) };
        let count = queues.orphans.len().min(most);
        let orphans: Vec<Channel> = queues.orphans.drain(..count).collect();
        let count = queues.unsubscribe.len().min(most - count);
        let leaving: Vec<Channel> = queues.unsubscribe.drain(..count).collect();
        queues.orphans.shrink_to_use();
        queues.unsubscribe.shrink_to_use();
        let count = orphans.len() + leaving.len();
        let mut all = Vec::new();
        for channel in orphans {
            // It may have come back meanwhile.
            if self.entry_on(link, &channel, |have| matches!(have, Have::Asked | Have::Live(_))).is_none() {
                all.push(channel);
            }
        }
        for channel in leaving {
            if self.entry_on(link, &channel, |have| have == Have::Leaving).is_some() {
                all.push(channel);
            }
        }
        (all, count)
    }

    /// The channels of a link that are refused, and still are.
    pub(super) fn refused_now(&self, link: LinkId) -> impl Iterator<Item = &Channel> {
        let refused = self.queues.get(&link).into_iter().flat_map(|queues| &queues.refused);
        refused.filter(move |channel| {
            self.entries.get(*channel).is_some_and(|entry| entry.link == link && entry.have == Have::Refused)
        })
    }
}

impl Entry {
    pub(super) fn new(topic: Topic) -> Self {
        Self { topic, want: false, have: Have::No, link: 0, told: false, told_refused: false }
    }
}
