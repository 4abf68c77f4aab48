//! The bus of one process.

mod logs;
mod states;
mod subscribers;

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use self::{
    logs::Logs,
    subscribers::{Subscriber, Subscribers, Subscriptions},
};
use super::{
    Appended, Bus, BusError, BusEvent, BusReceiver, Excerpt, History, IdempotencyKey, KeptState, NewState, Outcome,
    Position, ReadFrom, Retention, StatePatch, States, Topic,
};
use crate::lock::{Mutex, lock};

/// A bus inside one process: never down, loses nothing.
///
/// A message is handed over in the publisher's own call. Histories and states are kept in memory, and gone with the process. One `LocalBus` is the bus of one manager; [`peer`](Self::peer)
/// makes another on the same hub, so that several managers in one process are nodes of each other.
///
/// ```
/// use rooms_core::{LocalBus, RoomManager};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let bus = LocalBus::new();
/// let second: RoomManager = RoomManager::builder().bus(bus.peer()).build().unwrap();
/// let first: RoomManager = RoomManager::builder().bus(bus).build().unwrap();
/// assert_ne!(first.node(), second.node());
/// # }
/// ```
#[derive(Debug)]
pub struct LocalBus {
    hub: Arc<Hub>,
    port: u64,
    /// This one as the only subscriber: what most topics have, so they share it.
    alone: OnceLock<Subscribers>,
}

struct Receiver(Arc<dyn BusReceiver>);

/// Who is subscribed to what, in shards by room so that publishers to different rooms seldom meet.
///
/// A shard stays locked while its receivers are called: that is what gives every port the same order. A receiver only
/// queues, or looks at what nodes say to each other, so the time is short.
#[derive(Debug)]
struct Hub {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    ports: AtomicU64,
}

const SHARDS: usize = 16;

#[derive(Debug, Default)]
struct Shard {
    subscriptions: Subscriptions,
    logs: Logs,
    states: states::States,
}

impl LocalBus {
    /// A bus of its own.
    #[must_use]
    pub fn new() -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        let hub = Hub { shards, hasher: RandomState::new(), ports: AtomicU64::new(1) };
        Self { hub: Arc::new(hub), port: 0, alone: OnceLock::new() }
    }

    /// Forgets all histories and states, as a process that ends does: what is published from then on is in other logs. For tests of
    /// what happens to members that come back.
    pub fn forget_histories(&self) {
        for shard in &self.hub.shards {
            let mut shard = lock(shard);
            shard.logs.forget_all();
            shard.states.forget_all();
        }
    }

    /// Another bus on the same hub: what is published on one is heard on both.
    #[must_use]
    pub fn peer(&self) -> Self {
        let port = self.hub.ports.fetch_add(1, Ordering::Relaxed);
        Self { hub: Arc::clone(&self.hub), port, alone: OnceLock::new() }
    }
}

impl Default for LocalBus {
    fn default() -> Self {
        Self::new()
    }
}

impl Hub {
    fn shard(&self, topic: &Topic) -> &Mutex<Shard> {
        let hash = match topic {
            Topic::Room(room) | Topic::Control(room) => self.hasher.hash_one(room),
            Topic::Nodes | Topic::Node(_) => self.hasher.hash_one(topic),
        };
        let [first, ..] = &self.shards;
        self.shards.get(hash as usize % SHARDS).unwrap_or(first)
    }

    fn remove_all(&self, port: u64) {
        for shard in &self.shards {
            lock(shard).subscriptions.remove_all(port);
        }
    }
}

impl Shard {
    /// Hands an event to everybody who is subscribed to a topic.
    fn hand_over(&self, topic: &Topic, event: impl Fn() -> BusEvent) {
        for Subscriber { receiver, .. } in self.subscriptions.of(topic) {
            receiver.0.event(event());
        }
    }
}

#[async_trait]
impl Bus for LocalBus {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        let alone = vec![Subscriber { port: self.port, receiver: Receiver(receiver) }];
        if self.alone.set(Arc::new(alone)).is_err() {
            tracing::error!("a bus belongs to one manager, and this one has one already: make a `peer`");
        }
    }

    fn subscribe(&self, topics: &[Topic]) {
        let Some(alone) = self.alone.get() else { return };
        for topic in topics {
            lock(self.hub.shard(topic)).subscriptions.add(topic, alone);
        }
        if !topics.is_empty() {
            for Subscriber { receiver, .. } in &**alone {
                receiver.0.event(BusEvent::subscribed(topics.to_vec()));
            }
        }
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        for topic in topics {
            lock(self.hub.shard(topic)).subscriptions.remove(topic, self.port);
        }
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        lock(self.hub.shard(topic)).hand_over(topic, || BusEvent::message(topic.clone(), payload.clone()));
        Ok(())
    }

    fn history(&self) -> Option<&dyn History> {
        Some(self)
    }

    fn states(&self) -> Option<&dyn States> {
        Some(self)
    }

    async fn close(&self) {
        self.hub.remove_all(self.port);
    }
}

#[async_trait]
impl History for LocalBus {
    async fn append(&self, topic: &Topic, payload: Bytes, retention: Retention) -> Result<Position, BusError> {
        Ok(self.append_with(topic, &payload, retention, None).position())
    }

    async fn append_once(
        &self,
        topic: &Topic,
        payload: Bytes,
        retention: Retention,
        key: &IdempotencyKey,
    ) -> Result<Appended, BusError> {
        Ok(self.append_with(topic, &payload, retention, Some(key)))
    }

    async fn read(&self, topic: &Topic, from: ReadFrom, retention: Retention) -> Result<Excerpt, BusError> {
        let mut shard = lock(self.hub.shard(topic));
        let Shard { subscriptions, logs, .. } = &mut *shard;
        Ok(logs.read(topic, from, retention, |topic| subscriptions.has(topic)))
    }
}

#[async_trait]
impl States for LocalBus {
    async fn set_state(&self, topic: &Topic, new: NewState) -> Result<Outcome, BusError> {
        let mut shard = lock(self.hub.shard(topic));
        let Shard { subscriptions, states, .. } = &mut *shard;
        let outcome = states.set(topic, &new, |topic| subscriptions.has(topic));
        if let Outcome::Set(revision) = outcome {
            let patch = new.after.zip(new.patch).map(|(since, patch)| StatePatch::new(since, patch));
            let state = KeptState::new(revision, new.state);
            // Under the shard's lock, so that the order of what is heard is that of the revisions.
            shard.hand_over(topic, || BusEvent::state(topic.clone(), state.clone(), patch.clone()));
        }
        Ok(outcome)
    }

    async fn state(&self, topic: &Topic, keep: Duration) -> Result<Option<KeptState>, BusError> {
        let mut shard = lock(self.hub.shard(topic));
        let Shard { subscriptions, states, .. } = &mut *shard;
        Ok(states.read(topic, keep, |topic| subscriptions.has(topic)))
    }
}

impl LocalBus {
    fn append_with(
        &self,
        topic: &Topic,
        payload: &Bytes,
        retention: Retention,
        key: Option<&IdempotencyKey>,
    ) -> Appended {
        let mut shard = lock(self.hub.shard(topic));
        let Shard { subscriptions, logs, .. } = &mut *shard;
        let subscribed = |topic: &Topic| subscriptions.has(topic);
        let appended = logs.append(topic, payload, retention, key, subscribed);
        if let Appended::Now(position) = appended {
            // Under the shard's lock, so that the order of what is heard is that of the offsets.
            shard.hand_over(topic, || BusEvent::message_at(topic.clone(), payload.clone(), position));
        }
        appended
    }
}

impl Drop for LocalBus {
    fn drop(&mut self) {
        self.hub.remove_all(self.port);
    }
}

impl Clone for Receiver {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}
