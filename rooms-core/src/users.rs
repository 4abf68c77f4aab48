//! The connections of this node, by user.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::{BuildHasher as _, Hash, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{
    lock::{Mutex, MutexGuard, lock},
    outbox::Recipient,
    shrink::shrink_set,
};

const SHARDS: usize = 64;

/// By user. A set and no map, because the connections know their user; this makes a place in it less than half as large.
type Shard = HashSet<Connections>;

/// A user's connections, at least one. Most users have one, which then needs no memory of its own.
enum Connections {
    One(Arc<Recipient>),
    Many(Box<Several>),
}

/// Behind a thin pointer, as every place of the set is as large as the largest variant.
struct Several {
    first: Arc<Recipient>,
    others: Vec<Arc<Recipient>>,
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
    pub(crate) fn enter(&self, recipient: &Arc<Recipient>, most: usize) -> Result<(), TooMany> {
        let user = recipient.identity().user();
        let mut shard = self.shard(user);
        if shard.get(user).map_or(0, Connections::count) >= most {
            return Err(TooMany);
        }
        let connections = Connections::with(shard.take(user), Arc::clone(recipient));
        shard.insert(connections);
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Counts a connection out; one that is out already stays so.
    pub(crate) fn leave(&self, recipient: &Arc<Recipient>) {
        {
            let user = recipient.identity().user();
            let mut shard = self.shard(user);
            if !shard.get(user).is_some_and(|connections| connections.have(recipient)) {
                return;
            }
            if let Some(left) = shard.take(user).and_then(|connections| connections.without(recipient)) {
                shard.insert(left);
            } else {
                shrink_set(&mut shard);
            }
        }
        if self.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// All connections that there are now.
    pub(crate) fn all(&self) -> Vec<Arc<Recipient>> {
        let of = |shard: &Mutex<Shard>| -> Vec<_> { lock(shard).iter().flat_map(Connections::all).cloned().collect() };
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

impl Connections {
    fn with(connections: Option<Self>, one_more: Arc<Recipient>) -> Self {
        match connections {
            None => Self::One(one_more),
            Some(Self::One(first)) => Self::Many(Box::new(Several { first, others: vec![one_more] })),
            Some(Self::Many(mut several)) => {
                several.others.push(one_more);
                Self::Many(several)
            }
        }
    }

    /// What is left of them; `None` where it was the only one.
    fn without(self, recipient: &Arc<Recipient>) -> Option<Self> {
        let Self::Many(mut several) = self else { return None };
        let Several { first, others } = &mut *several;
        if Arc::ptr_eq(first, recipient) {
            *first = others.pop()?;
        } else {
            others.retain(|other| !Arc::ptr_eq(other, recipient));
        }
        Some(if others.is_empty() { Self::One(Arc::clone(first)) } else { Self::Many(several) })
    }

    fn first(&self) -> &Arc<Recipient> {
        match self {
            Self::One(first) => first,
            Self::Many(several) => &several.first,
        }
    }

    fn others(&self) -> &[Arc<Recipient>] {
        match self {
            Self::One(_) => &[],
            Self::Many(several) => &several.others,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Recipient>> {
        std::iter::once(self.first()).chain(self.others())
    }

    fn count(&self) -> usize {
        1 + self.others().len()
    }

    fn have(&self, recipient: &Arc<Recipient>) -> bool {
        self.all().any(|other| Arc::ptr_eq(other, recipient))
    }
}

impl Borrow<str> for Connections {
    fn borrow(&self) -> &str {
        self.first().identity().user()
    }
}

impl Hash for Connections {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrow::<str>::borrow(self).hash(state);
    }
}

impl PartialEq for Connections {
    fn eq(&self, other: &Self) -> bool {
        Borrow::<str>::borrow(self) == Borrow::<str>::borrow(other)
    }
}

impl Eq for Connections {}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_small() {
        assert_eq!(size_of::<Connections>(), 16, "every connection has one");
    }
}
