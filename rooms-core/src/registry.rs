//! The rooms of this node by key, and what happens around them.

pub(crate) mod answers;
pub(crate) mod asks;
mod history;
mod occupancy;
mod rechecks;
mod rows;
mod subscriptions;
mod windows;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::{runtime::Handle, sync::Notify, time::timeout};

use self::{
    answers::Questions, asks::Asks, rechecks::Rechecks, rows::Rows, subscriptions::Subscriptions, windows::Windows,
};
use crate::{
    bus::{Bus, BusError, Topic},
    envelope::Carried,
    hooks::Hooks,
    kind::Kind,
    limits::Limits,
    lock::{Mutex, MutexGuard, lock},
    message::Message,
    node::{ConnectionId, NodeId},
    nodes::{Nodes, wire::Say},
    outbox::Outbox,
    room::{Effects, Flusher, Linger, Logged, Room, flush},
    room_key::RoomKey,
    shrink::shrink,
};

/// Shards of the map: publishers to different rooms seldom meet at one lock, and no growth of the map moves all of it.
const SHARDS: usize = 64;

/// Why the bus did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusFault {
    #[error("{0}")]
    Answered(BusError),
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("it panicked")]
    Panicked,
}

type Shard = HashMap<RoomKey, Arc<Room>>;

pub(crate) struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    limits: Limits,
    runtime: Handle,
    pub(crate) hooks: Arc<Hooks>,
    bus: Arc<dyn Bus>,
    pub(crate) nodes: Arc<Nodes>,
    subscriptions: Subscriptions,
    windows: Windows,
    rows: Rows,
    rechecks: Rechecks,
    asks: Asks,
    questions: Questions,
    reads: history::Reads,
    /// Told when there is something for who looks after the nodes.
    pub(crate) news: Notify,
    delivered: Arc<AtomicU64>,
}

impl Registry {
    pub(crate) fn new(limits: &Limits, runtime: Handle, bus: Arc<dyn Bus>, nodes: Arc<Nodes>) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            limits: limits.clone(),
            runtime,
            hooks: Arc::default(),
            bus,
            nodes,
            subscriptions: Subscriptions::default(),
            windows: Windows::default(),
            rows: Rows::default(),
            rechecks: Rechecks::default(),
            asks: Asks::default(),
            questions: Questions::default(),
            reads: history::Reads::default(),
            news: Notify::new(),
            delivered: Arc::default(),
        })
    }

    /// Puts a connection into a room, which is made if need be.
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: &RoomKey,
        kind: &Arc<Kind>,
        connection: ConnectionId,
        outbox: Arc<Outbox>,
    ) -> (Arc<Room>, usize) {
        let (room, slot, effects) = {
            let mut shard = self.shard(key);
            let room = match shard.get(key) {
                Some(room) => Arc::clone(room),
                None => {
                    let room =
                        Arc::new(Room::new(key.clone(), Arc::clone(kind), &self.limits, Arc::clone(&self.nodes)));
                    shard.insert(key.clone(), Arc::clone(&room));
                    room
                }
            };
            // Under the shard's lock, so that the room is not forgotten between being found and being entered.
            let (slot, effects) = room.enter(connection, outbox);
            (room, slot, effects)
        };
        self.act(&room, effects);
        (room, slot)
    }

    /// Does what a change in a room asks for.
    pub(crate) fn act(self: &Arc<Self>, room: &Arc<Room>, effects: Effects) {
        if effects.flush {
            self.runtime.spawn(flush(Flusher::counted(room), Arc::clone(&self.delivered)));
        }
        if effects.window {
            self.windows.open(self, room);
        }
        if effects.row {
            self.rows.publish(self, room);
        }
        if effects.occupancy {
            self.hooks.spawn(&self.runtime, occupancy::tell(Arc::clone(room), self.limits.hook_timeout));
        }
        if effects.subscribe {
            self.subscriptions.want(self, room.key.clone());
        }
        if effects.read {
            self.runtime.spawn(history::read(Arc::clone(self), Arc::clone(room)));
        }
        if effects.linger {
            self.subscriptions.linger(self, room.key.clone());
        }
    }

    /// Appends a message to a room; nothing happens where the room is not here.
    ///
    /// `false` where it was dropped for want of space.
    pub(crate) fn append(
        self: &Arc<Self>,
        key: &RoomKey,
        message: Message,
        except: Option<ConnectionId>,
        carried: Carried,
    ) -> bool {
        let Some(room) = self.find(key) else { return true };
        let (kept, effects) = room.append(message, except, carried);
        self.act(&room, effects);
        kept
    }

    /// Takes a message of a room's history; `false` where it was dropped for want of space.
    pub(crate) fn arrive(self: &Arc<Self>, room: &Arc<Room>, logged: Logged) -> bool {
        let (kept, effects) = room.arrive(logged);
        self.act(room, effects);
        kept
    }

    pub(crate) fn find(&self, key: &RoomKey) -> Option<Arc<Room>> {
        self.shard(key).get(key).cloned()
    }

    /// All rooms that there are now.
    pub(crate) fn rooms(&self) -> Vec<Arc<Room>> {
        self.shards.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Tells the members of all rooms that they may have missed something.
    ///
    /// In a task, as nobody waits for a listener of the bus: a hundred thousand rooms take many milliseconds. A shard at a
    /// time, so that broadcasts go on beside it.
    pub(crate) fn gap_everywhere(self: &Arc<Self>) {
        let registry = Arc::clone(self);
        self.runtime.spawn(async move {
            for shard in &registry.shards {
                let rooms: Vec<_> = lock(shard).values().cloned().collect();
                for room in rooms {
                    registry.act(&room, room.gap());
                }
                tokio::task::yield_now().await;
            }
        });
    }

    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// States something to the bus, which may be the application's code; `false` where it panicked.
    pub(crate) fn tell_bus(&self, statement: impl FnOnce(&dyn Bus)) -> bool {
        let told = catch_unwind(AssertUnwindSafe(|| statement(&*self.bus))).is_ok();
        if !told {
            tracing::error!("the bus panicked");
        }
        told
    }

    /// Rows that were published.
    pub(crate) fn entries_published(&self) -> u64 {
        self.rows.published()
    }

    /// Says something to other nodes, as well as the bus can: whoever needs to know asks again.
    pub(crate) async fn say(&self, topic: &Topic, say: Say) {
        self.say_as(self.nodes.me(), topic, say).await;
    }

    /// Says something under an id that this node has, or had.
    pub(crate) async fn say_as(&self, node: NodeId, topic: &Topic, say: Say) {
        let payload = self.nodes.encode(node, say);
        if let Err(fault) = self.of_bus(async { self.bus.publish(topic, payload).await }).await {
            tracing::debug!(%fault, "a node message was not published");
        }
    }

    /// Whether a question is open. Its number can't be guessed, so whoever answers it has heard it.
    pub(crate) fn is_open(&self, ask: u64) -> bool {
        self.asks.is_open(ask)
    }

    /// Hands an answer of another node to who asked.
    pub(crate) fn answered(&self, ask: u64, answer: asks::Answer) {
        self.asks.answer(ask, answer);
    }

    /// Waits for an answer of the bus, which may be the application's code: no hang and no panic of it ends the tasks on
    /// which every later join, and every count, waits.
    pub(crate) async fn of_bus<T>(
        &self,
        question: impl Future<Output = Result<T, BusError>> + Send,
    ) -> Result<T, BusFault> {
        // In a block that drops what took too long, as that may panic too.
        let in_time = async move { timeout(self.limits.subscribe_timeout, question).await };
        match AssertUnwindSafe(in_time).catch_unwind().await {
            Ok(Ok(answer)) => answer.map_err(BusFault::Answered),
            Ok(Err(_)) => Err(BusFault::NoAnswer(self.limits.subscribe_timeout)),
            Err(_) => Err(BusFault::Panicked),
        }
    }

    pub(crate) fn delivered(&self) -> &AtomicU64 {
        &self.delivered
    }

    /// Forgets a room that has been empty since `since`, at least.
    fn retire(&self, key: &RoomKey, since: tokio::time::Instant) -> Linger {
        let mut shard = self.shard(key);
        let Some(room) = shard.get(key) else { return Linger::Occupied };
        let linger = room.linger_over(since);
        if linger == Linger::Over {
            shard.remove(key);
            shrink(&mut shard);
        }
        linger
    }

    fn shard(&self, key: &RoomKey) -> MutexGuard<'_, Shard> {
        let [first, ..] = &self.shards;
        lock(self.shards.get(self.hasher.hash_one(key) as usize % SHARDS).unwrap_or(first))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}
