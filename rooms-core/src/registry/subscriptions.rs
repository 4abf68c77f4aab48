//! Which rooms this node wants to hear: one task tells the bus, so a join and a leave can't overtake each other.
//!
//! The bus answers with events. A room that it does not answer for holds up those who want to join that room, and nobody
//! else.

use std::{collections::VecDeque, mem, sync::Arc};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::Registry;
use crate::{
    bus::{BusError, Topic},
    lock::{Mutex, lock},
    presence::ROOMS,
    rate_limited_log::RateLimitedLog,
    room::{Linger, Room, RoomTopic},
    room_key::RoomKey,
};

/// Rooms in one call of the bus, and in one query to the nodes: a mass of reconnecting members becomes few commands,
/// and none of them is long.
const BATCH: usize = ROOMS;

/// What the task is to do; it is started on demand and ends when there is nothing.
///
/// The bus keeps what is wanted, and this only what is not yet stated to it: so rooms are stated in batches, and a join
/// takes no lock of the bus and does not wait for its call.
#[derive(Default)]
pub(super) struct Subscriptions {
    queue: Mutex<Queue>,
    news: Notify,
    refusals: RateLimitedLog,
}

#[derive(Default)]
struct Queue {
    /// Rooms whose first member waits for the bus.
    wanted: Vec<RoomKey>,
    /// Empty rooms, by the time since when. Each is in it at most once.
    lingering: VecDeque<(Instant, RoomKey)>,
    running: bool,
}

enum Work {
    Subscribe(Vec<RoomKey>),
    Retire(Vec<(Instant, RoomKey)>),
    Wait(Instant),
    Over,
}

impl Subscriptions {
    pub(super) fn want(&self, registry: &Arc<Registry>, key: RoomKey) {
        self.change(registry, |queue| queue.wanted.push(key));
    }

    pub(super) fn linger(&self, registry: &Arc<Registry>, key: RoomKey) {
        self.change(registry, |queue| queue.lingering.push_back((Instant::now(), key)));
    }

    fn change(&self, registry: &Arc<Registry>, change: impl FnOnce(&mut Queue)) {
        let mut queue = lock(&self.queue);
        change(&mut queue);
        if !mem::replace(&mut queue.running, true) {
            registry.runtime.spawn(run(Arc::clone(registry)));
        }
        self.news.notify_one();
    }

    fn work(&self, linger: std::time::Duration) -> Work {
        let mut queue = lock(&self.queue);
        if !queue.wanted.is_empty() {
            return Work::Subscribe(mem::take(&mut queue.wanted));
        }
        let now = Instant::now();
        let due = queue.lingering.iter().take_while(|(since, _)| *since + linger <= now).take(BATCH).count();
        if due > 0 {
            return Work::Retire(queue.lingering.drain(..due).collect());
        }
        match queue.lingering.front() {
            Some((since, _)) => Work::Wait(*since + linger),
            None => {
                *queue = Queue::default();
                Work::Over
            }
        }
    }
}

async fn run(registry: Arc<Registry>) {
    loop {
        match registry.subscriptions.work(registry.limits.linger) {
            Work::Subscribe(keys) => keys.chunks(BATCH).for_each(|keys| registry.subscribe(keys)),
            Work::Retire(due) => registry.unsubscribe(due),
            Work::Wait(until) => tokio::select! {
                () = sleep_until(until) => {}
                () = registry.subscriptions.news.notified() => {}
            },
            Work::Over => return,
        }
        // A hundred thousand rooms at once are many milliseconds.
        tokio::task::yield_now().await;
    }
}

impl Registry {
    fn subscribe(self: &Arc<Self>, keys: &[RoomKey]) {
        // A room that is gone meanwhile is not asked for: what ended it comes behind this in the queue.
        let rooms: Vec<_> = keys.iter().filter_map(|key| self.find(key)).filter(|room| room.ask()).collect();
        let topics: Vec<Topic> = rooms.iter().flat_map(|room| both(&room.key)).collect();
        if !topics.is_empty() && !self.presence.bus().state(|bus| bus.subscribe(&topics)) {
            rooms.iter().for_each(|room| room.refuse());
        }
    }

    /// The bus has subscribed topics, perhaps anew after a reconnect.
    pub(crate) fn subscribed(self: &Arc<Self>, topics: &[Topic]) {
        let confirmed = |topic: &Topic| {
            let (key, part) = match topic {
                Topic::Room(key) => (key, RoomTopic::Messages),
                Topic::Control(key) => (key, RoomTopic::Control),
                Topic::Nodes | Topic::Node(_) => return None,
            };
            self.find(key).filter(|room| room.confirm(part))
        };
        let rooms: Vec<Arc<Room>> = topics.iter().filter_map(confirmed).collect();
        if self.presence.is_alone() {
            rooms.iter().for_each(|room| room.open_alone());
        } else if !rooms.is_empty() {
            self.presence.open(&rooms.iter().map(|room| room.key.clone()).collect::<Vec<_>>());
        }
    }

    /// The bus has refused a topic.
    pub(crate) fn refused(&self, topic: &Topic, error: &BusError) {
        // Clients decide how many rooms there are to be refused.
        let left_out = self.subscriptions.refusals.line();
        match topic {
            Topic::Room(key) | Topic::Control(key) => {
                if let Some(left_out) = left_out {
                    tracing::warn!(room = %key, %error, left_out, "the bus did not subscribe a room");
                }
                if let Some(room) = self.find(key) {
                    room.refuse();
                }
            }
            Topic::Nodes | Topic::Node(_) => {
                if let Some(left_out) = left_out {
                    tracing::warn!(%error, left_out, "the bus did not subscribe to the other nodes: this one counts alone");
                }
            }
        }
    }

    fn linger_again(&self, since: Instant, key: RoomKey) {
        lock(&self.subscriptions.queue).lingering.push_back((since, key));
    }

    fn unsubscribe(self: &Arc<Self>, due: Vec<(Instant, RoomKey)>) {
        let mut topics = Vec::new();
        for (since, key) in due {
            match self.retire(&key, since) {
                Linger::Over => topics.extend(both(&key)),
                Linger::Since(later) => self.linger_again(later, key),
                Linger::Uncounted => {
                    // Told, where it was not worth it before; looked at again when that may have been done.
                    if let Some(room) = self.find(&key) {
                        let (_, effects) = room.change_share(|share| share.entry(&key));
                        self.act(&room, effects);
                    }
                    self.linger_again(Instant::now() + self.limits.viewer_window, key);
                }
                Linger::Occupied => {}
            }
        }
        // What still comes for a room that is not here is ignored.
        if !topics.is_empty() {
            self.presence.bus().state(|bus| bus.unsubscribe(&topics));
        }
    }
}

/// The topics of a room.
fn both(room: &RoomKey) -> [Topic; 2] {
    [Topic::Room(room.clone()), Topic::Control(room.clone())]
}
