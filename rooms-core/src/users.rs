//! The connections of this node, by user.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{lock::lock, node::ConnectionId, outbox::Outbox};

const SHARDS: usize = 64;

type Shard<S> = HashMap<Arc<str>, Vec<(ConnectionId, Arc<Outbox<S>>)>>;

pub(crate) struct Users<S> {
    shards: [Mutex<Shard<S>>; SHARDS],
    hasher: RandomState,
    connections: AtomicUsize,
    /// Told when the last connection is gone.
    emptied: Notify,
}

/// The user has as many connections on this node as are allowed.
#[derive(Debug)]
pub(crate) struct TooMany;

/// A connection's place among its user's. Dropping it gives the place back.
pub(crate) struct Seat<S> {
    users: Arc<Users<S>>,
    user: Arc<str>,
    connection: ConnectionId,
}

impl<S> Users<S> {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            connections: AtomicUsize::new(0),
            emptied: Notify::new(),
        }
    }

    pub(crate) fn seat(
        self: &Arc<Self>,
        user: Arc<str>,
        connection: ConnectionId,
        outbox: &Arc<Outbox<S>>,
        most: usize,
    ) -> Result<Seat<S>, TooMany> {
        {
            let mut shard = self.shard(&user);
            let places = shard.entry(Arc::clone(&user)).or_insert_with(|| Vec::with_capacity(1));
            if places.len() >= most {
                return Err(TooMany);
            }
            places.push((connection, Arc::clone(outbox)));
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Seat { users: Arc::clone(self), user, connection })
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The outboxes of all connections that there are now.
    pub(crate) fn outboxes(&self) -> Vec<Arc<Outbox<S>>> {
        let of = |shard: &Mutex<Shard<S>>| -> Vec<_> {
            lock(shard).values().flatten().map(|(_, outbox)| Arc::clone(outbox)).collect()
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

    fn shard(&self, user: &Arc<str>) -> MutexGuard<'_, Shard<S>> {
        let [first, ..] = &self.shards;
        lock(self.shards.get(self.hasher.hash_one(user) as usize % SHARDS).unwrap_or(first))
    }
}

impl<S> Drop for Seat<S> {
    fn drop(&mut self) {
        {
            let mut shard = self.users.shard(&self.user);
            if let Some(places) = shard.get_mut(&self.user) {
                places.retain(|(connection, _)| *connection != self.connection);
                if places.is_empty() {
                    shard.remove(&self.user);
                }
            }
        }
        if self.users.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.users.emptied.notify_waiters();
        }
    }
}
