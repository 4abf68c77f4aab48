//! The rooms of this node by key, and what happens around them.

mod counting;
mod history;
mod occupancy;
mod states;
mod subscriptions;

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use hashbrown::HashTable;
use tokio::{runtime::Handle, time::Instant};

use self::subscriptions::Subscriptions;
use crate::{
    envelope::Carried,
    hooks::Hooks,
    incidents::Incidents,
    kind::Kind,
    limits::Limits,
    lock::{Mutex, MutexGuard, lock},
    message::Message,
    node::ConnectionId,
    outbox::Recipient,
    presence::Presence,
    reports::{Incident, IncidentKind},
    room::{Effects, Flusher, Linger, Logged, Room, flush},
    room_key::RoomKey,
    shrink::{shard_of, shrink_table},
};

/// Shards of the map: publishers to different rooms seldom meet at one lock, and no growth of the map moves all of it.
const SHARDS: usize = 64;

/// A room takes one pointer, as it knows its key. It is found by the hash that also chooses the shard.
type Shard = HashTable<Arc<Room>>;

pub(crate) struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    limits: Arc<Limits>,
    runtime: Handle,
    pub(crate) hooks: Arc<Hooks>,
    presence: Arc<Presence>,
    subscriptions: Subscriptions,
    reads: history::Reads,
    incidents: Arc<Incidents>,
    started: Instant,
}

impl Registry {
    pub(crate) fn new(
        limits: &Limits,
        runtime: Handle,
        presence: Arc<Presence>,
        incidents: Arc<Incidents>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            limits: Arc::new(limits.clone()),
            runtime,
            hooks: Arc::default(),
            presence,
            subscriptions: Subscriptions::default(),
            reads: history::Reads::default(),
            incidents,
            started: Instant::now(),
        })
    }

    /// Puts a connection into a room, which is made if need be.
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: &RoomKey,
        kind: &Arc<Kind>,
        recipient: Arc<Recipient>,
    ) -> (Arc<Room>, usize) {
        let (room, slot, effects) = {
            let hash = self.hash(key);
            let mut shard = self.shard(hash);
            let room = match shard.find(hash, |room| room.key == *key) {
                Some(room) => Arc::clone(room),
                None => {
                    let share = self.presence.share(kind.counting(&self.limits));
                    let room = Arc::new(Room::new(key.clone(), Arc::clone(kind), Arc::clone(&self.limits), share));
                    shard.insert_unique(hash, Arc::clone(&room), |room| self.hash(&room.key));
                    kind.metrics.rooms.add(1);
                    room
                }
            };
            // Under the shard's lock, so that the room is not forgotten between being found and being entered.
            let (slot, effects) = room.enter(recipient);
            (room, slot, effects)
        };
        self.act(&room, effects);
        (room, slot)
    }

    /// Does what a change in a room asks for.
    pub(crate) fn act(self: &Arc<Self>, room: &Arc<Room>, effects: Effects) {
        if effects.flush {
            self.runtime.spawn(flush(Flusher::counted(room)));
        }
        if effects.window {
            self.presence.open_window(room.key.clone());
        }
        if effects.entry {
            self.presence.publish_entry(room.key.clone());
        }
        if effects.occupancy {
            self.hooks.spawn(&self.runtime, occupancy::run_hooks(Arc::clone(room), self.limits.hook_timeout));
        }
        if effects.subscribe {
            self.subscriptions.want(self, room.key.clone());
        }
        if effects.read {
            self.runtime.spawn(history::read(Arc::clone(self), Arc::clone(room)));
        }
        if effects.read_state {
            self.runtime.spawn(states::read(Arc::clone(self), Arc::clone(room)));
        }
        if effects.linger {
            self.subscriptions.linger(self, room.key.clone());
        }
        if let Some(reason) = effects.lost {
            self.incidents.note(Incident::new(IncidentKind::Resync, reason.in_words()).in_room(&room.key));
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
        fan_out: Option<Box<tracing::Span>>,
    ) -> bool {
        let Some(room) = self.find(key) else { return true };
        let (kept, effects) = room.append(message, except, carried, fan_out);
        room.heard(self.started.elapsed());
        self.act(&room, effects);
        kept
    }

    /// Takes a message of a room's history; `false` where it was dropped for want of space.
    pub(crate) fn arrive(
        self: &Arc<Self>,
        room: &Arc<Room>,
        logged: Logged,
        fan_out: Option<Box<tracing::Span>>,
    ) -> bool {
        let (kept, effects) = room.arrive(logged, fan_out);
        room.heard(self.started.elapsed());
        self.act(room, effects);
        kept
    }

    /// Gives a connection what rooms have left out for it.
    pub(crate) fn heal(self: &Arc<Self>, recipient: &Arc<Recipient>) {
        for (key, slot) in recipient.behind() {
            if let Some(room) = self.find(&key) {
                let effects = room.heal(slot, recipient);
                self.act(&room, effects);
            }
        }
    }

    pub(crate) fn find(&self, key: &RoomKey) -> Option<Arc<Room>> {
        let hash = self.hash(key);
        self.shard(hash).find(hash, |room| room.key == *key).cloned()
    }

    /// All rooms that there are now.
    pub(crate) fn rooms(&self) -> Vec<Arc<Room>> {
        self.parts().flatten().collect()
    }

    /// Tells the members of all rooms that they may have missed something.
    ///
    /// In a task, as nobody waits for a listener of the bus: a hundred thousand rooms take many milliseconds. A shard at a
    /// time, so that broadcasts go on beside it.
    pub(crate) fn gap_everywhere(self: &Arc<Self>) {
        let registry = Arc::clone(self);
        self.runtime.spawn(async move {
            for rooms in registry.parts() {
                for room in rooms {
                    registry.act(&room, room.gap());
                }
                tokio::task::yield_now().await;
            }
        });
    }

    /// All rooms that there are now, in parts.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Vec<Arc<Room>>> + '_ {
        self.shards.iter().map(|shard| lock(shard).iter().cloned().collect())
    }

    /// How long the node runs.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Forgets a room that has been empty since `since`, at least.
    fn retire(&self, key: &RoomKey, since: tokio::time::Instant) -> Linger {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let Ok(room) = shard.find_entry(hash, |room| room.key == *key) else { return Linger::Occupied };
        let linger = room.get().linger_over(since);
        if linger == Linger::Over {
            room.get().kind.metrics.rooms.add(-1);
            room.remove();
            shrink_table(&mut shard, |room| self.hash(&room.key));
        }
        linger
    }

    fn hash(&self, key: &RoomKey) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        let [first, ..] = &self.shards;
        lock(self.shards.get(shard_of(hash, SHARDS)).unwrap_or(first))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}
