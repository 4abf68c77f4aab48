//! What the task of one link's subscribing connection asks for and tells.

use std::{mem, sync::Arc};

use redis::RedisError;
use rooms_core::bus::{BusError, Topic};
use tokio::sync::Notify;

use super::{
    Batch, Refusals, Subscriptions,
    state::{Have, Queues, State},
};
use crate::{
    channels::Channel,
    lock::lock,
    routes::{LinkId, Routes},
    shrink::Shrink as _,
};

impl Subscriptions {
    /// Takes up a link; gives what resolves when there may be something to do for it.
    pub(crate) fn open_link(&self, link: LinkId) -> Arc<Notify> {
        Arc::clone(&lock(&self.state).queues.entry(link).or_default().news)
    }

    /// Channels go by other links from now on. What was had on another is asked for where it belongs.
    pub(crate) fn reroute(&self, routes: Arc<Routes>) {
        let mut state = lock(&self.state);
        state.routes = routes;
        let channels: Vec<Channel> = state.entries.keys().cloned().collect();
        for channel in channels {
            let right = state.routes.link(&channel);
            let Some(entry) = state.entries.get(&channel) else { continue };
            let (have, link) = (entry.have, entry.link);
            if right.is_some_and(|right| right != link) {
                state.lose(&channel);
                if matches!(have, Have::Live(_) | Have::Leaving) {
                    state.orphan(link, &channel);
                }
            }
            state.reconcile(&channel);
        }
    }

    /// A link is given up for good.
    pub(crate) fn close_link(&self, link: LinkId) {
        let mut state = lock(&self.state);
        state.queues.remove(&link);
        state.lose_all(link);
    }

    /// A connection is there: queues all that is wanted on it, and gives the number of that.
    pub(crate) fn connected(&self, link: LinkId, connection: u64) -> usize {
        let mut state = lock(&self.state);
        let Some(queues) = state.queues.get_mut(&link) else { return 0 };
        queues.connection = Some(connection);
        let channels: Vec<Channel> = state.entries.keys().cloned().collect();
        for channel in channels {
            state.reconcile(&channel);
        }
        state.queues.get(&link).map_or(0, |queues| queues.subscribe.len())
    }

    /// The connection is gone, and every subscription with it.
    pub(crate) fn disconnected(&self, link: LinkId) {
        let mut state = lock(&self.state);
        if let Some(queues) = state.queues.get_mut(&link) {
            // Nothing is kept, and no memory either, but for who waits for news.
            *queues = Queues { news: Arc::clone(&queues.news), ..Queues::default() };
        }
        state.lose_all(link);
    }

    /// The next channels to subscribe, at most so many, and how many places of the queue they were.
    pub(crate) fn take_subscribe(&self, link: LinkId, most: usize) -> (Vec<Channel>, usize) {
        lock(&self.state).take_subscribe(link, most)
    }

    /// The next command, of at most so many channels.
    pub(crate) fn take(&self, link: LinkId, most: usize) -> Option<Batch> {
        let mut state = lock(&self.state);
        // What is left comes first: it is never more than what was subscribed before, and so keeps nobody waiting long.
        let leaving = skip_stale(|| state.take_unsubscribe(link, most));
        let batch = leaving.map(Batch::Unsubscribe);
        batch.or_else(|| skip_stale(|| state.take_subscribe(link, most)).map(Batch::Subscribe))
    }

    /// Redis has confirmed the subscription of these; gives the topics that the manager relied on already.
    pub(crate) fn confirmed(&self, link: LinkId, channels: &[Channel]) -> Vec<Topic> {
        let mut state = lock(&self.state);
        state.clock += 1;
        let clock = state.clock;
        let (mut again, mut wanted) = (Vec::new(), Vec::new());
        for channel in channels {
            // It may have been lost again, or got another link, while the answer was on its way.
            let Some(entry) = state.entry_on(link, channel, |have| have == Have::Asked) else {
                state.orphan(link, channel);
                continue;
            };
            entry.have = Have::Live(clock);
            if entry.want {
                if std::mem::replace(&mut entry.told, true) {
                    again.push(entry.topic.clone());
                }
                entry.told_refused = false;
                wanted.push(entry.topic.clone());
            }
            if let Some(queues) = state.queues.get_mut(&link) {
                queues.live += 1;
            }
            state.reconcile(channel);
        }
        self.status.subscribed(wanted);
        again
    }

    /// Redis has refused to subscribe this one.
    pub(crate) fn refused(&self, link: LinkId, channel: &Channel, error: &RedisError) {
        let mut state = lock(&self.state);
        if let Some(topic) = state.refuse(link, channel) {
            self.status.refused(topic, BusError::Refused(error.clone().into()));
        }
        state.reconcile(channel);
    }

    /// Redis can't subscribe this one for the moment: it is tried again, and nobody is told.
    pub(crate) fn postponed(&self, link: LinkId, channel: &Channel) {
        let mut state = lock(&self.state);
        if let Some(entry) = state.entry_on(link, channel, |have| have == Have::Asked) {
            entry.told_refused = true;
        }
        _ = state.refuse(link, channel);
        state.reconcile(channel);
    }

    /// The server of this link does not serve the channel any more; `false` if nothing was expected of it there.
    ///
    /// It is asked for again with the next routes, be they the same.
    pub(crate) fn moved(&self, link: LinkId, channel: &str) -> bool {
        let mut state = lock(&self.state);
        let expected = |have: Have| matches!(have, Have::Asked | Have::Live(_));
        if state.entry_on(link, channel, expected).is_none() {
            return false;
        }
        let channel = Channel::from(channel);
        state.lose(&channel);
        if state.entries.get(&channel).is_some_and(|entry| !entry.want) {
            state.reconcile(&channel);
        }
        true
    }

    /// Redis has confirmed that these are unsubscribed.
    pub(crate) fn left(&self, link: LinkId, channels: &[Channel]) {
        let mut state = lock(&self.state);
        for channel in channels {
            if state.entry_on(link, channel, |have| have == Have::Leaving).is_some() {
                state.lose(channel);
                state.reconcile(channel);
            }
        }
    }

    /// The channels of this link that are refused.
    pub(crate) fn refusals(&self, link: LinkId) -> Refusals {
        let state = lock(&self.state);
        let told = |channel: &&Channel| state.entries.get(*channel).is_some_and(|entry| entry.told);
        Refusals { all: state.refused_now(link).count(), relied_on: state.refused_now(link).filter(told).count() }
    }

    /// Queues what was refused again, as rights may have been repaired.
    pub(crate) fn retry_refused(&self, link: LinkId) {
        let mut state = lock(&self.state);
        let refused = state.queues.get_mut(&link).map(|queues| mem::take(&mut queues.refused));
        for channel in refused.into_iter().flatten() {
            if let Some(entry) = state.entry_on(link, &channel, |have| have == Have::Refused) {
                entry.have = Have::No;
                state.reconcile(&channel);
            }
        }
    }
}

/// The next channels of a queue of which some may have become pointless since; `None` at its end.
fn skip_stale(mut take: impl FnMut() -> (Vec<Channel>, usize)) -> Option<Vec<Channel>> {
    loop {
        match take() {
            (_, 0) => return None,
            (channels, _) if channels.is_empty() => {}
            (channels, _) => return Some(channels),
        }
    }
}

impl State {
    /// Everything that was had on this link is not had any more; what is wanted stays.
    fn lose_all(&mut self, link: LinkId) {
        self.entries.retain(|_, entry| {
            if entry.link == link {
                entry.have = Have::No;
            }
            entry.want || entry.have != Have::No
        });
        self.entries.shrink_to_use();
    }

    /// Notes that a channel was not subscribed; gives its topic where the manager is to be told.
    fn refuse(&mut self, link: LinkId, channel: &Channel) -> Option<Topic> {
        let entry = self.entry_on(link, channel, |have| have == Have::Asked)?;
        entry.have = Have::Refused;
        let news = entry.want && !std::mem::replace(&mut entry.told_refused, true);
        let topic = news.then(|| entry.topic.clone());
        if let Some(queues) = self.queues.get_mut(&link) {
            queues.refused.insert(channel.clone());
        }
        topic
    }
}
