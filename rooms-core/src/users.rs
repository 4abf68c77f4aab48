//! The connections of this node, by user.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hashbrown::{HashTable, hash_table::Entry};
use tokio::sync::Notify;

use crate::{
    counts::Counts,
    limits::Limits,
    lock::{Mutex, MutexGuard, lock},
    message::Form,
    metrics::{ConnectionMetrics, Level},
    network::Network,
    node::{ConnectionId, MARKS},
    outbox::Recipient,
    shrink::{shard_of, shrink, shrink_table},
};

const SHARDS: usize = MARKS;

/// The connections of some users. Most users have one, which takes one pointer, as it knows its user. It is found by the hash
/// that also chooses the shard.
#[derive(Default)]
struct Shard {
    /// One connection of each user.
    first: HashTable<Arc<Recipient>>,
    /// The others, of users who have several.
    others: HashMap<Box<str>, Vec<Arc<Recipient>>>,
}

pub(crate) struct Users {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    connections: AtomicUsize,
    recorded: ConnectionMetrics,
    by_address: Counts,
    /// Told when the last connection is gone.
    emptied: Notify,
}

/// Of what there are as many as are allowed on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMany {
    Connections,
    OfUser,
    FromAddress,
}

impl Users {
    pub(crate) fn new(recorded: ConnectionMetrics) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            connections: AtomicUsize::new(0),
            recorded,
            by_address: Counts::default(),
            emptied: Notify::new(),
        }
    }

    /// Counts a connection in. Whoever called counts it out again with [`leave`](Self::leave).
    pub(crate) fn enter(&self, recipient: &Arc<Recipient>, limits: &Limits) -> Result<(), TooMany> {
        let (user, from) = (recipient.user(), recipient.network());
        let hash = self.hash(user);
        let mut shard = self.shard(hash);
        if shard.of(hash, user).count() >= limits.max_connections_per_user {
            return Err(TooMany::OfUser);
        }
        if from.is_some_and(|from| !self.by_address.enter(from, limits.max_connections_per_ip)) {
            return Err(TooMany::FromAddress);
        }
        if self.connections.fetch_add(1, Ordering::Relaxed) >= limits.max_connections {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            from.inspect(|from| self.by_address.leave(*from));
            return Err(TooMany::Connections);
        }
        shard.add(hash, recipient, |user| self.hash(user));
        self.recorded.of(recipient.form()).add(1);
        Ok(())
    }

    /// Counts a connection out; one that is out already stays so.
    pub(crate) fn leave(&self, recipient: &Arc<Recipient>) {
        let hash = self.hash(recipient.user());
        if !self.shard(hash).remove(hash, recipient, |user| self.hash(user)) {
            return;
        }
        self.recorded.of(recipient.form()).add(-1);
        recipient.network().inspect(|from| self.by_address.leave(*from));
        if self.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.emptied.notify_waiters();
        }
    }

    /// How many connections come from an address.
    pub(crate) fn from(&self, network: Network) -> usize {
        self.by_address.count(network)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Those of one user.
    pub(crate) fn of(&self, user: &str) -> Vec<Arc<Recipient>> {
        let hash = self.hash(user);
        self.shard(hash).of(hash, user).cloned().collect()
    }

    /// The connection of this id.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<Arc<Recipient>> {
        lock(self.shards.get(id.mark())?).all().find(|recipient| recipient.id() == id).cloned()
    }

    /// What an id of a connection is marked with, so that [`find`](Self::find) looks through a part of the users alone.
    pub(crate) fn mark(&self, user: &str) -> usize {
        shard_of(self.hash(user), SHARDS)
    }

    /// All connections that there are now, in parts.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Vec<Arc<Recipient>>> + '_ {
        self.shards.iter().map(|shard| lock(shard).all().cloned().collect())
    }

    /// All connections that there are now.
    pub(crate) fn all(&self) -> Vec<Arc<Recipient>> {
        self.parts().flatten().collect()
    }

    /// Resolves when there is no connection.
    pub(crate) async fn gone(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.connections() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn hash(&self, user: &str) -> u64 {
        self.hasher.hash_one(user)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        let [first, ..] = &self.shards;
        lock(self.shards.get(shard_of(hash, SHARDS)).unwrap_or(first))
    }
}

impl ConnectionMetrics {
    const fn of(&self, form: Form) -> &Level {
        match form {
            Form::Single | Form::Positioned => &self.for_one_room,
            Form::Multi => &self.for_many_rooms,
        }
    }
}

impl Shard {
    fn of<'a>(&'a self, hash: u64, user: &'a str) -> impl Iterator<Item = &'a Arc<Recipient>> {
        let first = self.first.find(hash, |first| first.user() == user);
        first.into_iter().chain(self.others.get(user).into_iter().flatten())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Recipient>> {
        self.first.iter().chain(self.others.values().flatten())
    }

    fn add(&mut self, hash: u64, recipient: &Arc<Recipient>, rehash: impl Fn(&str) -> u64) {
        let user = recipient.user();
        match self.first.entry(hash, |first| first.user() == user, |first| rehash(first.user())) {
            Entry::Vacant(first) => _ = first.insert(Arc::clone(recipient)),
            // One that is there stays.
            Entry::Occupied(_) => match self.others.get_mut(user) {
                Some(others) => others.push(Arc::clone(recipient)),
                None => _ = self.others.insert(user.into(), vec![Arc::clone(recipient)]),
            },
        }
    }

    /// Whether it was there.
    fn remove(&mut self, hash: u64, recipient: &Arc<Recipient>, rehash: impl Fn(&str) -> u64) -> bool {
        let user = recipient.user();
        let Ok(mut first) = self.first.find_entry(hash, |first| first.user() == user) else { return false };
        if Arc::ptr_eq(first.get(), recipient) {
            // Another one takes its place.
            match self.others.get_mut(user).and_then(Vec::pop) {
                Some(next) => *first.get_mut() = next,
                None => {
                    first.remove();
                    shrink_table(&mut self.first, |first| rehash(first.user()));
                }
            }
        } else {
            let Some(others) = self.others.get_mut(user) else { return false };
            let Some(at) = others.iter().position(|other| Arc::ptr_eq(other, recipient)) else { return false };
            others.swap_remove(at);
        }
        if self.others.get(user).is_some_and(Vec::is_empty) {
            self.others.remove(user);
            shrink(&mut self.others);
        }
        true
    }
}
