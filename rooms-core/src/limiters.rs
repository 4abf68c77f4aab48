//! What one address or one user may do in a second, over all its connections on this node.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hashbrown::HashTable;
use tokio::{runtime::Handle, time::sleep};

use crate::{
    limits::Limits,
    lock::{Mutex, MutexGuard, lock},
    metrics::{NodeMetrics, Total},
    network::Network,
    outbox::Recipient,
    shrink::{shard_of, shrink_table},
    timers::{Moment, Timers},
};

/// Publishers of different users seldom meet at one lock.
const SHARDS: usize = 16;

/// The clients that a shard knows at most, so 131,072 in all: 4.3 MiB for each of the limits, and 6.3 MiB for publishes, where
/// two times are kept of each. A client is known only until its bucket is full again, seconds after it did something. Who
/// comes when a shard is full of those is let through: an attacker with so many addresses is held by the limits of the node.
const MOST: usize = 8192;

/// How often a full shard is looked through for room.
const ROOM_EVERY: Duration = Duration::from_millis(100);

/// How often it is looked for clients whose buckets are full again, while there are any: about the time that a bucket takes.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// The limits that count over connections.
pub(crate) struct Limiters {
    /// Upgrades of an address.
    connects: Buckets<1>,
    /// What a user publishes: how much, and how many bytes.
    publishes: Buckets<2>,
    /// Rooms that were not on this node before a user came.
    new_rooms: Buckets<1>,
    /// What was refused by one of them, or by a limit on connections.
    refused: Total,
    timers: Arc<Timers>,
    sweeping: AtomicBool,
}

impl Limiters {
    pub(crate) fn new(limits: &Limits, timers: Arc<Timers>) -> Self {
        Self {
            connects: Buckets::new([Rate::new(limits.connects_per_second_per_ip, limits.connect_burst_per_ip)]),
            publishes: Buckets::new([
                Rate::new(limits.publishes_per_second_per_user, limits.publish_burst_per_user),
                Rate::BYTES,
            ]),
            new_rooms: Buckets::new([Rate::new(limits.new_rooms_per_second_per_user, limits.new_room_burst_per_user)]),
            refused: NodeMetrics::limited(),
            timers,
            sweeping: AtomicBool::new(false),
        }
    }

    /// Counts an upgrade; where it is one too many, says when the next one is taken.
    pub(crate) fn connect(self: &Arc<Self>, runtime: &Handle, from: Network) -> Result<(), Duration> {
        self.take(runtime, &self.connects, from, [Duration::ZERO])
    }

    /// Counts what a user publishes, whose bytes take a connection this time.
    pub(crate) fn publish(
        self: &Arc<Self>,
        runtime: &Handle,
        user: Client<'_>,
        time: Duration,
    ) -> Result<(), Duration> {
        self.take(runtime, &self.publishes, user, [Duration::ZERO, time])
    }

    /// Counts a room that a user's join makes.
    pub(crate) fn new_room(self: &Arc<Self>, runtime: &Handle, user: Client<'_>) -> Result<(), Duration> {
        self.take(runtime, &self.new_rooms, user, [Duration::ZERO])
    }

    /// Notes that a limit refused something.
    pub(crate) fn note_refusal(&self) {
        self.refused.add(1);
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.get()
    }

    fn take<const N: usize>(
        self: &Arc<Self>,
        runtime: &Handle,
        buckets: &Buckets<N>,
        client: impl Hash,
        more: [Duration; N],
    ) -> Result<(), Duration> {
        let taken = buckets.take(client, self.timers.now(), more).inspect_err(|_| self.note_refusal());
        if taken.is_ok() && !self.sweeping.swap(true, Ordering::Relaxed) {
            runtime.spawn(Arc::clone(self).sweep());
        }
        taken
    }

    /// Forgets clients until there are none.
    async fn sweep(self: Arc<Self>) {
        loop {
            sleep(SWEEP_EVERY).await;
            // Before it is looked, so that a client that comes meanwhile begins another.
            self.sweeping.store(false, Ordering::Relaxed);
            let now = self.timers.now();
            let left = self.connects.sweep(now) + self.publishes.sweep(now) + self.new_rooms.sweep(now);
            if left == 0 || self.sweeping.swap(true, Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Who is counted where it is by user: a guest has another id with each connection, so an address, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Client<'a> {
    User(&'a str),
    Guest(Network),
}

impl Recipient {
    /// Whom the limits by user count this connection for.
    pub(crate) fn client(&self) -> Client<'_> {
        match self.network() {
            Some(network) if self.is_guest() => Client::Guest(network),
            _ => Client::User(self.user()),
        }
    }
}

/// What may be taken out of a bucket.
#[derive(Clone, Copy)]
struct Rate {
    /// The time that one takes.
    each: Duration,
    /// What a bucket holds.
    depth: Duration,
}

impl Rate {
    /// Of bytes, which take time by their number. 4 s of `bytes_per_second`, as a connection has.
    const BYTES: Self = Self { each: Duration::ZERO, depth: Duration::from_secs(4) };

    /// With `u32::MAX` one takes no time, so that there is no limit.
    fn new(per_second: u32, burst: u32) -> Self {
        let each = Duration::from_secs(1) / per_second;
        Self { each, depth: each.saturating_mul(burst) }
    }
}

/// Token buckets for each client (the "generic cell rate algorithm"): the times at which they would be full again. Nothing is
/// kept of a client whose buckets are full.
struct Buckets<const N: usize> {
    /// By a keyed hash of the client, so that a name takes no more than an address, and nobody can choose a shard.
    shards: [Mutex<Shard<N>>; SHARDS],
    hasher: RandomState,
    rates: [Rate; N],
}

#[derive(Default)]
struct Shard<const N: usize> {
    /// By that hash, which is not hashed once more.
    clients: HashTable<(u64, [Moment; N])>,
    /// When it was last looked for clients that can be forgotten to make room for another. Not for each that comes: that would
    /// be the work of thousands.
    made_room: Option<Moment>,
}

impl<const N: usize> Shard<N> {
    /// Whether there is room for one more client.
    fn has_room(&mut self, now: Moment) -> bool {
        if self.clients.len() >= MOST && self.made_room.is_none_or(|last| now.since(last) >= ROOM_EVERY) {
            self.made_room = Some(now);
            self.forget(now);
        }
        self.clients.len() < MOST
    }

    /// Forgets clients whose buckets are full.
    fn forget(&mut self, now: Moment) {
        self.clients.retain(|(_, full_at)| full_at.iter().any(|full_at| *full_at > now));
    }
}

impl<const N: usize> Buckets<N> {
    fn new(rates: [Rate; N]) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new(), rates }
    }

    /// Takes one, and so much time more, out of each of a client's buckets. Where that is not in one of them, takes nothing,
    /// and says when it is in all.
    fn take(&self, client: impl Hash, now: Moment, more: [Duration; N]) -> Result<(), Duration> {
        let client = self.hasher.hash_one(client);
        let mut shard = self.shard(client);
        let known = shard.clients.find_mut(client, |(known, _)| *known == client);
        let mut full_at = known.as_ref().map_or([now; N], |(_, full_at)| *full_at);
        let mut over = Duration::ZERO;
        for ((full_at, rate), more) in full_at.iter_mut().zip(self.rates).zip(more) {
            let time = rate.each + more;
            *full_at = now.max(*full_at).after(time);
            // One of the longest is let through by a full bucket, however shallow that is.
            over = over.max(full_at.since(now).saturating_sub(rate.depth.max(time)));
        }
        if !over.is_zero() {
            return Err(over);
        }
        if let Some(known) = known {
            known.1 = full_at;
        } else if shard.has_room(now) {
            shard.clients.insert_unique(client, (client, full_at), |(known, _)| *known);
        }
        Ok(())
    }

    /// Forgets clients whose buckets are full; returns how many are left.
    fn sweep(&self, now: Moment) -> usize {
        let left = self.shards.iter().map(|shard| {
            let shard = &mut lock(shard);
            shard.forget(now);
            shrink_table(&mut shard.clients, |(known, _)| *known);
            shard.clients.len()
        });
        left.sum()
    }

    fn shard(&self, client: u64) -> MutexGuard<'_, Shard<N>> {
        let [first, ..] = &self.shards;
        lock(self.shards.get(shard_of(client, SHARDS)).unwrap_or(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(limiters: &Limiters) -> (usize, usize) {
        let shards = limiters.connects.shards.iter().map(lock);
        shards.fold((0, 0), |(len, capacity), shard| (len + shard.clients.len(), capacity + shard.clients.capacity()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_the_rate_and_each_client_for_itself() {
        let buckets = Buckets::new([Rate::new(10, 3)]);
        let clock = Timers::new();
        let taken =
            |client: u32| (0..20).take_while(|_| buckets.take(client, clock.now(), [Duration::ZERO]).is_ok()).count();
        assert_eq!((taken(1), taken(2)), (3, 3));
        assert_eq!(buckets.take(1, clock.now(), [Duration::ZERO]), Err(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(taken(1), 2);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(taken(1), 3);
    }

    /// `-- --nocapture` shows the figure.
    #[tokio::test(start_paused = true)]
    async fn a_million_addresses_are_known_within_the_bound_and_forgotten_soon() {
        // A bucket that takes a minute to be full again, so that none is while they come.
        let limits = Limits { connects_per_second_per_ip: 1, connect_burst_per_ip: 60, ..Limits::default() };
        let limiters = Arc::new(Limiters::new(&limits, Arc::new(Timers::new())));
        for n in 0..1_000_000_u32 {
            let address = Network::of(std::net::Ipv4Addr::from(n).into());
            assert_eq!(limiters.connect(&Handle::current(), address), Ok(()));
        }
        let (len, capacity) = known(&limiters);
        assert_eq!(len, SHARDS * MOST);
        println!("{len} clients in {} KiB", capacity * (size_of::<(u64, Moment)>() + 1) * 8 / 7 / 1024);
        sleep(Duration::from_secs(1) + SWEEP_EVERY).await;
        let (len, capacity) = known(&limiters);
        assert_eq!(len, 0);
        assert!(capacity <= SHARDS * 128, "{capacity}");
        sleep(2 * SWEEP_EVERY).await;
        assert!(!limiters.sweeping.load(Ordering::Relaxed), "its task has ended");
        assert_eq!(Arc::strong_count(&limiters), 1);
    }
}
