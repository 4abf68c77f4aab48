//! The connections of this node, by user.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{
    lock::{Mutex, MutexGuard, lock},
    outbox::Outbox,
    shrink::shrink,
};

const SHARDS: usize = 64;

type Shard = HashMap<Arc<str>, Connections>;

/// A user's connections. Most users have one, which then needs no memory of its own.
enum Connections {
    One(Arc<Outbox>),
    Many(Vec<Arc<Outbox>>),
}

pub(crate) struct Users {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    connections: AtomicUsize,
    /// Told when the last connection is gone.
    emptied: Notify,
}

/// The user has as many connections on this node as are allowed.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Users {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            connections: AtomicUsize::new(0),
            emptied: Notify::new(),
        }
    }

    /// Counts a connection in. Whoever called counts it out again with [`leave`](Self::leave).
    pub(crate) fn enter(&self, user: &Arc<str>, outbox: &Arc<Outbox>, most: usize) -> Result<(), TooMany> {
        match self.shard(user).entry(Arc::clone(user)) {
            Entry::Vacant(_) if most == 0 => return Err(TooMany),
            Entry::Vacant(place) => {
                place.insert(Connections::One(Arc::clone(outbox)));
            }
            Entry::Occupied(place) if place.get().all().len() >= most => return Err(TooMany),
            Entry::Occupied(mut place) => place.get_mut().add(Arc::clone(outbox)),
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Counts a connection out; one that is out already stays so.
    pub(crate) fn leave(&self, user: &str, outbox: &Arc<Outbox>) {
        {
            let mut shard = self.shard(user);
            match shard.get_mut(user).map(|connections| connections.remove(outbox)) {
                None | Some(Left::Unchanged) => return,
                Some(Left::Somebody) => {}
                Some(Left::Nobody) => {
                    shard.remove(user);
                    shrink(&mut shard);
                }
            }
        }
        if self.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The outboxes of all connections that there are now.
    pub(crate) fn outboxes(&self) -> Vec<Arc<Outbox>> {
        let of = |shard: &Mutex<Shard>| -> Vec<_> {
            lock(shard).values().flat_map(|connections| connections.all().iter().cloned()).collect()
        };
        self.shards.iter().flat_map(of).collect()
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

    fn shard(&self, user: &str) -> MutexGuard<'_, Shard> {
        let [first, ..] = &self.shards;
        lock(self.shards.get(self.hasher.hash_one(user) as usize % SHARDS).unwrap_or(first))
    }
}

/// What is left of a user's connections without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// All, as it was none of them.
    Unchanged,
    Somebody,
    Nobody,
}

impl Connections {
    fn all(&self) -> &[Arc<Outbox>] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    fn add(&mut self, outbox: Arc<Outbox>) {
        match self {
            Self::One(one) => *self = Self::Many(vec![Arc::clone(one), outbox]),
            Self::Many(many) => many.push(outbox),
        }
    }

    fn remove(&mut self, outbox: &Arc<Outbox>) -> Left {
        let is_it = |other: &Arc<Outbox>| Arc::ptr_eq(other, outbox);
        match self {
            Self::One(one) => return if is_it(one) { Left::Nobody } else { Left::Unchanged },
            Self::Many(many) => {
                let Some(at) = many.iter().position(is_it) else { return Left::Unchanged };
                many.remove(at);
            }
        }
        if self.all().is_empty() { Left::Nobody } else { Left::Somebody }
    }
}
