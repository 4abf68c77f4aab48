//! What the task of one lane's subscribing connection asks for and tells.

use std::{mem, sync::Arc};

use redis::RedisError;
use rooms_core::bus::{BusError, Topic};
use tokio::sync::Notify;

use super::{
    Batch, Refusals, Subscriptions,
    state::{Desk, Have, State},
};
use crate::{
    channels::Channel,
    give_back::GiveBack as _,
    lock::lock,
    routes::{LaneId, Routes},
};

impl Subscriptions {
    /// Takes up a lane; gives what resolves when there may be something to do for it.
    pub(crate) fn open_lane(&self, lane: LaneId) -> Arc<Notify> {
        Arc::clone(&lock(&self.state).desks.entry(lane).or_default().news)
    }

    /// Channels go by other lanes from now on. What was had on another is asked for where it belongs.
    pub(crate) fn reroute(&self, routes: Arc<Routes>) {
        let mut state = lock(&self.state);
        state.routes = routes;
        let channels: Vec<Channel> = state.entries.keys().cloned().collect();
        for channel in channels {
            let right = state.routes.lane(&channel);
            let Some(entry) = state.entries.get(&channel) else { continue };
            let (have, lane) = (entry.have, entry.lane);
            if right.is_some_and(|right| right != lane) {
                state.lose(&channel);
                if matches!(have, Have::Live(_) | Have::Leaving) {
                    state.orphan(lane, &channel);
                }
            }
            state.reconcile(&channel);
        }
    }

    /// A lane is given up for good.
    pub(crate) fn close_lane(&self, lane: LaneId) {
        let mut state = lock(&self.state);
        state.desks.remove(&lane);
        state.lose_all(lane);
    }

    /// A connection is there: queues all that is wanted on it, and gives the number of that.
    pub(crate) fn connected(&self, lane: LaneId, connection: u64) -> usize {
        let mut state = lock(&self.state);
        let Some(desk) = state.desks.get_mut(&lane) else { return 0 };
        desk.connection = Some(connection);
        let channels: Vec<Channel> = state.entries.keys().cloned().collect();
        for channel in channels {
            state.reconcile(&channel);
        }
        state.desks.get(&lane).map_or(0, |desk| desk.subscribe.len())
    }

    /// The connection is gone, and every subscription with it.
    pub(crate) fn disconnected(&self, lane: LaneId) {
        let mut state = lock(&self.state);
        if let Some(desk) = state.desks.get_mut(&lane) {
            // Nothing is kept, and no memory either, but for who waits for news.
            *desk = Desk { news: Arc::clone(&desk.news), ..Desk::default() };
        }
        state.lose_all(lane);
    }

    /// The next channels to subscribe, at most so many, and how many places of the queue they were.
    pub(crate) fn take_subscribe(&self, lane: LaneId, most: usize) -> (Vec<Channel>, usize) {
        lock(&self.state).take_subscribe(lane, most)
    }

    /// The next command, of at most so many channels.
    pub(crate) fn take(&self, lane: LaneId, most: usize) -> Option<Batch> {
        let mut state = lock(&self.state);
        // What is left comes first: it is never more than what was subscribed before, and so keeps nobody waiting long.
        let leaving = skip_stale(|| state.take_unsubscribe(lane, most));
        let batch = leaving.map(Batch::Unsubscribe);
        batch.or_else(|| skip_stale(|| state.take_subscribe(lane, most)).map(Batch::Subscribe))
    }

    /// Redis has confirmed the subscription of these; gives the topics that the manager relied on already.
    pub(crate) fn confirmed(&self, lane: LaneId, channels: &[Channel]) -> Vec<Topic> {
        let mut state = lock(&self.state);
        state.clock += 1;
        let clock = state.clock;
        let (mut again, mut wanted) = (Vec::new(), Vec::new());
        for channel in channels {
            // It may have been lost again, or got another lane, while the answer was on its way.
            let Some(entry) = state.entry_on(lane, channel, |have| have == Have::Asked) else {
                state.orphan(lane, channel);
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
            if let Some(desk) = state.desks.get_mut(&lane) {
                desk.live += 1;
            }
            state.reconcile(channel);
        }
        self.status.subscribed(wanted);
        again
    }

    /// Redis has refused to subscribe this one.
    pub(crate) fn refused(&self, lane: LaneId, channel: &Channel, error: &RedisError) {
        let mut state = lock(&self.state);
        if let Some(topic) = state.refuse(lane, channel) {
            self.status.refused(topic, BusError::Refused(error.clone().into()));
        }
        state.reconcile(channel);
    }

    /// Redis can't subscribe this one for the moment: it is tried again, and nobody is told.
    pub(crate) fn postponed(&self, lane: LaneId, channel: &Channel) {
        let mut state = lock(&self.state);
        if let Some(entry) = state.entry_on(lane, channel, |have| have == Have::Asked) {
            entry.told_refused = true;
        }
        _ = state.refuse(lane, channel);
        state.reconcile(channel);
    }

    /// The server of this lane does not serve the channel any more; `false` if nothing was expected of it there.
    ///
    /// It is asked for again with the next routes, be they the same.
    pub(crate) fn moved(&self, lane: LaneId, channel: &str) -> bool {
        let mut state = lock(&self.state);
        let expected = |have: Have| matches!(have, Have::Asked | Have::Live(_));
        if state.entry_on(lane, channel, expected).is_none() {
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
    pub(crate) fn left(&self, lane: LaneId, channels: &[Channel]) {
        let mut state = lock(&self.state);
        for channel in channels {
            if state.entry_on(lane, channel, |have| have == Have::Leaving).is_some() {
                state.lose(channel);
                state.reconcile(channel);
            }
        }
    }

    /// The channels of this lane that are refused.
    pub(crate) fn refusals(&self, lane: LaneId) -> Refusals {
        let state = lock(&self.state);
        let told = |channel: &&Channel| state.entries.get(*channel).is_some_and(|entry| entry.told);
        Refusals { all: state.refused_now(lane).count(), relied_on: state.refused_now(lane).filter(told).count() }
    }

    /// Queues what was refused again, as rights may have been repaired.
    pub(crate) fn retry_refused(&self, lane: LaneId) {
        let mut state = lock(&self.state);
        let refused = state.desks.get_mut(&lane).map(|desk| mem::take(&mut desk.refused));
        for channel in refused.into_iter().flatten() {
            if let Some(entry) = state.entry_on(lane, &channel, |have| have == Have::Refused) {
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
    /// Everything that was had on this lane is not had any more; what is wanted stays.
    fn lose_all(&mut self, lane: LaneId) {
        self.entries.retain(|_, entry| {
            if entry.lane == lane {
                entry.have = Have::No;
            }
            entry.want || entry.have != Have::No
        });
        self.entries.give_back();
    }

    /// Notes that a channel was not subscribed; gives its topic where the manager is to be told.
    fn refuse(&mut self, lane: LaneId, channel: &Channel) -> Option<Topic> {
        let entry = self.entry_on(lane, channel, |have| have == Have::Asked)?;
        entry.have = Have::Refused;
        let news = entry.want && !std::mem::replace(&mut entry.told_refused, true);
        let topic = news.then(|| entry.topic.clone());
        if let Some(desk) = self.desks.get_mut(&lane) {
            desk.refused.insert(channel.clone());
        }
        topic
    }
}
