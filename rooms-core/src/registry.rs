//! The rooms of this node by key, and what happens around them.

mod subscriptions;
mod windows;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, atomic::AtomicU64},
};

use futures::Sink;
use tokio::runtime::Handle;

use self::{subscriptions::Subscriptions, windows::Windows};
use crate::{
    bus::Bus,
    limits::Limits,
    lock::{Mutex, MutexGuard, lock},
    message::Message,
    node::ConnectionId,
    outbox::{Outbox, Overflow},
    room::{Effects, Flusher, Linger, Room, flush},
    room_key::RoomKey,
};

/// Shards of the map: publishers to different rooms seldom meet at one lock, and no growth of the map moves all of it.
const SHARDS: usize = 64;

type Shard<S> = HashMap<RoomKey, Arc<Room<S>>>;

pub(crate) struct Registry<S> {
    shards: [Mutex<Shard<S>>; SHARDS],
    hasher: RandomState,
    limits: Limits,
    runtime: Handle,
    subscriptions: Subscriptions<S>,
    windows: Windows<S>,
    delivered: Arc<AtomicU64>,
}

impl<S: Sink<Message> + Unpin + Send + 'static> Registry<S> {
    pub(crate) fn new(limits: &Limits, runtime: Handle, bus: Arc<dyn Bus>) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            limits: limits.clone(),
            runtime,
            subscriptions: Subscriptions::new(bus),
            windows: Windows::default(),
            delivered: Arc::default(),
        })
    }

    /// Puts a connection into a room, which is made if need be.
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: &RoomKey,
        overflow: Overflow,
        connection: ConnectionId,
        outbox: Arc<Outbox<S>>,
    ) -> (Arc<Room<S>>, usize) {
        let (room, slot, effects) = {
            let mut shard = self.shard(key);
            let room = match shard.get(key) {
                Some(room) => Arc::clone(room),
                None => {
                    let room = Arc::new(Room::new(key.clone(), overflow, &self.limits));
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
    pub(crate) fn act(self: &Arc<Self>, room: &Arc<Room<S>>, effects: Effects) {
        if effects.flush {
            self.runtime.spawn(flush(Flusher::counted(room), Arc::clone(&self.delivered)));
        }
        if effects.window {
            self.windows.open(self, room);
        }
        if effects.subscribe {
            self.subscriptions.want(self, room.key.clone());
        }
        if effects.linger {
            self.subscriptions.linger(self, room.key.clone());
        }
    }

    /// Appends a message to a room; nothing happens where the room is not here.
    ///
    /// `false` where it was dropped for want of space.
    pub(crate) fn append(self: &Arc<Self>, key: &RoomKey, message: Message, except: Option<ConnectionId>) -> bool {
        let Some(room) = self.find(key) else { return true };
        let (kept, effects) = room.append(message, except);
        self.act(&room, effects);
        kept
    }

    pub(crate) fn find(&self, key: &RoomKey) -> Option<Arc<Room<S>>> {
        self.shard(key).get(key).cloned()
    }

    /// All rooms that there are now.
    pub(crate) fn rooms(&self) -> Vec<Arc<Room<S>>> {
        self.shards.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
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
        }
        linger
    }

    fn shard(&self, key: &RoomKey) -> MutexGuard<'_, Shard<S>> {
        let [first, ..] = &self.shards;
        lock(self.shards.get(self.hasher.hash_one(key) as usize % SHARDS).unwrap_or(first))
    }
}

impl<S> fmt::Debug for Registry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}
