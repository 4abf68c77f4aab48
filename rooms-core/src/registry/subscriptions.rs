//! Which rooms this node hears of: one task asks the bus, so a join and a leave can't overtake each other.

use std::{collections::VecDeque, mem, sync::Arc};

use futures::future::join_all;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{BusFault, Registry, asks::ROOMS};
use crate::{
    bus::{BusError, Topic},
    lock::{Mutex, lock},
    room::{Linger, Subscription},
    room_key::RoomKey,
};

/// Rooms in one call of the bus, and in one question to the nodes: a mass of reconnecting members becomes few commands,
/// and none of them is long.
const BATCH: usize = ROOMS;

/// What the task is to do; it is started on demand and ends when there is nothing.
pub(super) struct Subscriptions {
    queue: Mutex<Queue>,
    news: Notify,
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
    pub(super) fn new() -> Self {
        Self { queue: Mutex::default(), news: Notify::new() }
    }

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
            // At the same time, so that the last of many waits no longer than the first.
            Work::Subscribe(keys) => _ = join_all(keys.chunks(BATCH).map(|keys| registry.subscribe(keys))).await,
            Work::Retire(due) => registry.unsubscribe(due).await,
            Work::Wait(until) => tokio::select! {
                () = sleep_until(until) => {}
                () = registry.subscriptions.news.notified() => {}
            },
            Work::Over => return,
        }
    }
}

impl Registry {
    async fn subscribe(self: &Arc<Self>, keys: &[RoomKey]) {
        match self.subscribe_together(keys).await {
            // One may be refused for all, so each is asked for by itself.
            Err(BusFault::Answered(BusError::Refused(_))) if keys.len() > 1 => {
                join_all(keys.iter().map(|key| async move {
                    let key = std::slice::from_ref(key);
                    let subscribed = self.subscribe_together(key).await;
                    self.subscribed(key, subscribed);
                }))
                .await;
            }
            subscribed => self.subscribed(keys, subscribed),
        }
    }

    async fn subscribe_together(&self, keys: &[RoomKey]) -> Result<(), BusFault> {
        // Its messages, and what other nodes have in it.
        let topics: Vec<Topic> = keys.iter().flat_map(both).collect();
        self.of_bus(async { self.bus.subscribe(&topics).await }).await
    }

    fn subscribed(self: &Arc<Self>, keys: &[RoomKey], subscribed: Result<(), BusFault>) {
        let rooms: Vec<_> = keys.iter().filter_map(|key| self.find(key)).collect();
        match subscribed {
            Ok(()) if self.nodes.is_alone() => rooms.iter().for_each(|room| room.set_subscription(Subscription::Live)),
            // On the side, so that a node that does not answer holds up only who waits for its answer.
            Ok(()) => _ = self.runtime.spawn(Arc::clone(self).begin(rooms)),
            Err(fault) => {
                tracing::warn!(rooms = keys.len(), %fault, "the bus did not subscribe");
                rooms.iter().for_each(|room| room.set_subscription(Subscription::Failed));
            }
        }
    }

    fn linger_again(&self, since: Instant, key: RoomKey) {
        lock(&self.subscriptions.queue).lingering.push_back((since, key));
    }

    async fn unsubscribe(self: &Arc<Self>, due: Vec<(Instant, RoomKey)>) {
        let mut topics = Vec::new();
        for (since, key) in due {
            match self.retire(&key, since) {
                Linger::Over => topics.extend(both(&key)),
                Linger::Since(later) => self.linger_again(later, key),
                Linger::Uncounted => {
                    // Told, where it was not worth it before; looked at again when that may have been done.
                    if let Some(room) = self.find(&key) {
                        let (_, effects) = room.row();
                        self.act(&room, effects);
                    }
                    self.linger_again(Instant::now() + self.limits.viewer_window, key);
                }
                Linger::Occupied => {}
            }
        }
        if topics.is_empty() {
            return;
        }
        // What still comes for a room that is not here is ignored.
        if let Err(fault) = self.of_bus(async { self.bus.unsubscribe(&topics).await }).await {
            tracing::warn!(rooms = topics.len() / 2, %fault, "the bus did not unsubscribe");
        }
    }
}

/// The topics of a room.
fn both(room: &RoomKey) -> [Topic; 2] {
    [Topic::Room(room.clone()), Topic::Control(room.clone())]
}
