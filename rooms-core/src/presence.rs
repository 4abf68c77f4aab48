//! Counting over nodes: how many are in a room, and who, on all nodes together.
//!
//! A node is one process in one incarnation. For each room with members on it, it owns one versioned [entry](entry): how
//! many connections, and which users. It publishes the entry when it changed, at most once a window, and adds up its own
//! and those of its peers. All of it goes over the [`Bus`](crate::Bus), so every bus has it.
//!
//! # What is where
//!
//! What can be computed is in state machines without a lock, a clock or a channel: time is an argument, and what is to be
//! done is returned.
//!
//! - [`Share`]: one room. Its [replica](replica) holds the entries, and its [audience](audience) what the members were told.
//! - [`Node`](node): one node. Its [peers](peers) with their [failure detector](failure_detector), its [queries](queries),
//!   and what it [replies](replies).
//!
//! Beside them, the [driver](driver) is the one task that owns the timers and does what they ask for, and [`Presence`] is the
//! handle that all others use. A test explores every order of a few losses, delays, crashes and returns on the same state
//! machines.
//!
//! # How it gets right again
//!
//! A node sends a heartbeat every two seconds. A peer that was silent for three of them is gone, and so is one that said
//! goodbye; its entries go with it.
//!
//! Messages between nodes may get lost without anybody noticing. So each node keeps, for each peer, two numbers over the
//! rooms in which both have members: a digest of its own entries there, and one of the peer's entries as it knows them. A
//! heartbeat carries the first, and whoever receives it compares it with its own second. Where they differ, an entry was
//! lost, and all of the peer's entries are asked for. Entries that nothing happens to cost nothing.
//!
//! The digests can't show that both lost the first entry of the other, for then neither knows of a room in which both have
//! members. So whoever published its first entry in a room [asks once more](rechecks).
//!
//! # Messages that are forged, or damaged
//!
//! Whoever may publish on the topics of the nodes can send anything in anybody's name. Signed messages keep strangers out
//! ([`NodeKeys`]); and whatever is believed for a while, it heals within ten seconds of the last such message:
//!
//! - A node that is heard for the first time is sent a query that only it can see, and is [proven](peer::Peer::is_proven) by
//!   its reply. Until then it has no entries here, is sent little, and gives its place to the next one that comes where there
//!   are as many as are allowed.
//! - A goodbye counts for one lease ([`Departed`](departed::Departed)). Whoever hears its own goes on under another id.
//! - What a node replies stands above all that was known of it when it was asked, whatever the versions say.
//! - A heartbeat whose number does not follow is ignored, but for one that the next
//!   [follows](heartbeat_numbers::HeartbeatNumbers).
//!
//! # Messages that are repeated
//!
//! Without a key nobody can sign a message, but whoever may publish can send a signed one again:
//!
//! - Old entries have old versions, and are ignored. Where their node is gone, it has to prove itself first.
//! - The query that introduces a node has the same number each time, so that nothing is kept for it. Its old reply is
//!   believed again: a node that is gone is proven once more. Replies to all other queries are ignored once the query is
//!   closed.
//! - One old heartbeat is ignored; of two in a row with numbers that follow each other the second is believed. Those of a
//!   node that is gone keep it, and the entries that are repeated with them, for one lease. Those of a node that lives are
//!   outlived by its next two.
//! - An old goodbye is that of an id that nobody has any more.
//!
//! - An [order](order) is carried out once, and not when it is more than a minute old.
//! - Old [revocations](revocation_sync) are known already, or over.
//!
//! So what a repeated message does to the counts ends one lease after the last one, at the latest.

mod allowance;
mod audience;
mod counters;
mod departed;
mod departing;
mod digest;
mod driver;
pub(crate) mod entry;
#[cfg(test)]
mod exploration;
mod failure_detector;
mod heartbeat_numbers;
mod kinds;
mod known_users;
mod ledger;
mod node;
mod occupancy;
mod order;
mod peer;
mod peers;
mod queries;
mod rechecks;
mod replica;
mod replies;
mod revocation_sync;
mod rooms;
mod searches;
mod share;
mod signature;
mod surveys;
mod viewers;
mod wire;
mod work;

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::Instant};

pub(crate) use self::{
    audience::{Event, For, Listing, MemberList, Person},
    kinds::kinds,
    known_users::Arrival,
    order::{MAX_CLAIM, MAX_CLAIM_VALUE, NodeOrder, Whom},
    rooms::Rooms,
    share::{Due, Known, Listed, Rules, Share},
    signature::NodeKeys,
    viewers::Change,
    wire::{MAX_PAYLOAD, ROOMS},
};
use self::{
    counters::Counters,
    entry::Entry,
    ledger::Ledger,
    node::{Misplaced, Node, Received},
    replica::EntrySource,
    wire::NodeMessage,
    work::Work,
};
pub use self::{occupancy::Occupancy, signature::NodeKeyError};
use crate::{
    auth::{Ending, RevocationList, Revoked},
    bus::{Bus, BusError, BusFault, GuardedBus, Topic},
    limits::Limits,
    lock::{Mutex, lock},
    metrics::LedgerMetrics,
    node::NodeId,
    reports::Search,
    room_key::RoomKey,
};

/// What another node asks for of the connections here.
#[derive(Debug)]
pub(crate) enum Told {
    Order(NodeOrder),
    /// What is revoked since just now.
    Revoked(Vec<Revoked>),
    /// The node wants to know something of this one.
    Search(NodeId, u64, Search),
}

/// A node's handle to counting.
#[derive(Debug)]
pub(crate) struct Presence {
    node: Mutex<Node>,
    revocations: Arc<RevocationList>,
    ledger: Arc<Ledger>,
    keys: NodeKeys,
    /// Tells an entry from another with the same version.
    secret: RandomState,
    bus: GuardedBus,
    work: Mutex<Work>,
    window: Duration,
    surveys: Mutex<surveys::Surveys>,
    searches: searches::Searches,
    /// Told when the driver has something to do.
    wake: Notify,
    ended: AtomicBool,
    counters: Counters,
}

impl Presence {
    /// Sends and receives nothing until it is [started](Self::start).
    pub(crate) fn new(
        me: NodeId,
        limits: &Limits,
        bus: Arc<dyn Bus>,
        keys: NodeKeys,
        kinds: Option<kinds::Kinds>,
        revocations: Arc<RevocationList>,
    ) -> Arc<Self> {
        let ledger = Arc::new(Ledger::new(LedgerMetrics::new()));
        let (secret, of_node) = (RandomState::new(), Arc::clone(&revocations));
        let node = Node::new(me, limits, kinds, secret, Arc::clone(&ledger), of_node, Instant::now());
        Arc::new(Self {
            node: Mutex::new(node),
            revocations,
            ledger,
            keys,
            secret: RandomState::new(),
            bus: GuardedBus::new(bus, limits.subscribe_timeout),
            work: Mutex::default(),
            window: limits.viewer_window,
            surveys: Mutex::default(),
            searches: searches::Searches::default(),
            wake: Notify::new(),
            ended: AtomicBool::new(false),
            counters: Counters::new(),
        })
    }

    /// Starts the driver. It ends after what is returned is dropped, once all that was to be published is.
    pub(crate) fn start(self: &Arc<Self>, runtime: &Handle, rooms: impl Rooms + Send + Sync + 'static) -> Driving {
        runtime.spawn(driver::run(Arc::clone(self), rooms));
        Driving(Arc::clone(self))
    }

    /// The share of a room that begins.
    pub(crate) fn share(&self, rules: Rules) -> Share {
        Share::new(rules, Arc::clone(&self.ledger))
    }

    /// A room's entry is to be published. A room is here once, however often it changes.
    pub(crate) fn publish_entry(&self, room: RoomKey) {
        if lock(&self.work).add_entry(room) {
            self.wake.notify_one();
        }
    }

    /// A room's window is open.
    pub(crate) fn open_window(&self, room: RoomKey) {
        if lock(&self.work).add_window(Instant::now() + self.window, room) {
            self.wake.notify_one();
        }
    }

    /// Lets the members of rooms in that were subscribed to just now, once it is known what the others have there.
    pub(crate) fn open(&self, rooms: &[RoomKey]) {
        let now = Instant::now();
        self.with_node(|node| {
            for rooms in rooms.chunks(ROOMS) {
                node.opened(rooms.to_vec(), now);
            }
        });
    }

    /// Takes what came on a topic of the nodes; returns what it asks for of the connections here.
    pub(crate) fn receive(&self, rooms: &impl Rooms, topic: &Topic, payload: &[u8]) -> Option<Told> {
        if self.keys.check(payload).is_err() {
            self.counters.note_unsigned();
            return None;
        }
        let packet = match wire::decode(payload) {
            Ok(packet) => packet,
            Err(error) => {
                self.counters.note_undecodable(payload.len(), &error.to_string());
                return None;
            }
        };
        let now = Instant::now();
        match self.with_node(|node| node.receive(topic, packet, now)) {
            Ok(Received::Nothing) => {}
            Ok(Received::Order(order)) => return Some(Told::Order(order)),
            Ok(Received::TooOld(node, by)) => self.counters.note_too_old(node, by),
            Ok(Received::Revoked(revoked)) => return Some(Told::Revoked(revoked)),
            Ok(Received::Search(node, id, search)) => return Some(Told::Search(node, id, search)),
            Ok(Received::Found(node, id, found)) => self.searches.found(node, id, found),
            Ok(Received::Entry(peer, entry)) => {
                let (room, source) = (entry.room.clone(), EntrySource::Published { checksum: self.checksum(&entry) });
                if let Some(applied) = rooms.change(&room, |share| share.apply(&peer, entry, source)) {
                    self.with_node(|node| node.applied(&peer, applied));
                }
            }
            Err(Misplaced(why)) => self.counters.note_undecodable(payload.len(), why),
        }
        None
    }

    /// Has all other nodes carry out an order; for one connection, where it is known to be, that node alone.
    pub(crate) async fn order(&self, order: NodeOrder, at: Option<NodeId>) -> Result<(), BusError> {
        let (me, id, topic) = self.with_node(|node| {
            let topic = at.filter(|at| node.has_peer(*at)).map_or(Topic::Nodes, Topic::Node);
            (node.me(), node.next_order(), topic)
        });
        self.publish_by(me, &topic, NodeMessage::Order { id, at: self.revocations.now(), order }).await
    }

    /// Publishes to all other nodes what is revoked. Who does not hear it finds out by this node's heartbeats.
    pub(crate) async fn publish_revocation(&self, revocation: Ending) -> Result<(), BusError> {
        let me = lock(&self.node).me();
        let message = NodeMessage::Revocations { entries: vec![revocation], parts_left: None };
        self.publish_by(me, &Topic::Nodes, message).await
    }

    /// Publishes a message under an id of this node, and waits until the bus has taken it.
    async fn publish_by(&self, from: NodeId, topic: &Topic, message: NodeMessage) -> Result<(), BusError> {
        let payload = self.keys.sign(wire::encode(from, message));
        self.bus.publish(topic, payload).await.map_err(|fault| match fault {
            BusFault::Refused(error) => error,
            fault @ (BusFault::NoAnswer(_) | BusFault::Panicked) => BusError::Unknown(Box::new(fault)),
        })
    }

    /// An entry's content, to be told from another content under the same version.
    fn checksum(&self, entry: &Entry) -> u32 {
        self.secret.hash_one(entry) as u32
    }

    /// The bus has subscribed topics, perhaps anew after a reconnect.
    pub(crate) fn subscribed(&self, topics: &[Topic]) {
        self.with_node(|node| node.subscribed(topics));
    }

    /// Node messages may have been lost.
    pub(crate) fn gap(&self) {
        self.with_node(Node::gap);
    }

    pub(crate) fn bus_down(&self) {
        self.with_node(Node::bus_down);
    }

    pub(crate) fn bus_up(&self) {
        self.with_node(|node| node.bus_up(Instant::now()));
    }

    fn with_node<T>(&self, change: impl FnOnce(&mut Node) -> T) -> T {
        let mut node = lock(&self.node);
        let result = change(&mut node);
        if node.is_urgent() {
            self.wake.notify_one();
        }
        result
    }

    /// Whether what is known of the other nodes is all there is to know.
    pub(crate) fn is_settled(&self) -> bool {
        lock(&self.node).is_settled(Instant::now())
    }

    /// How many other nodes are live.
    pub(crate) fn peers(&self) -> usize {
        self.ledger.peers()
    }

    /// Whether no other node is known.
    pub(crate) fn is_alone(&self) -> bool {
        self.ledger.is_alone()
    }

    /// Says goodbye. Nothing is sent after it.
    pub(crate) async fn goodbye(&self) {
        let me = self.with_node(|node| {
            node.stop();
            node.me()
        });
        self.publish(me, Topic::Nodes, NodeMessage::Goodbye {}).await;
    }

    /// Publishes best effort: receivers detect what they missed, and ask for it. Returns whether it was a reply.
    async fn publish(&self, from: NodeId, topic: Topic, message: NodeMessage) -> bool {
        let is_reply = matches!(message, NodeMessage::Reply { .. });
        let payload = self.keys.sign(wire::encode(from, message));
        if let Err(fault) = self.bus.publish(&topic, payload).await {
            tracing::debug!(%fault, "a node message was not published");
        }
        is_reply
    }

    fn entry_published(&self, room: &RoomKey, first: bool, now: Instant) {
        self.counters.entries_published.add(1);
        lock(&self.node).published(room.clone(), first, now);
    }

    pub(crate) const fn bus(&self) -> &GuardedBus {
        &self.bus
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Entries that were published.
    pub(crate) fn entries_published(&self) -> u64 {
        self.counters.entries_published.get()
    }

    /// Node messages that were dropped: not to be decoded, or of another version.
    pub(crate) fn undecodable_count(&self) -> u64 {
        self.counters.undecodable.get()
    }

    /// Messages that were dropped because they were not signed with the fleet's key.
    pub(crate) fn unsigned_count(&self) -> u64 {
        self.counters.unsigned.get()
    }

    /// Orders and searches of other nodes that were dropped because of their age.
    pub(crate) fn too_old_count(&self) -> u64 {
        self.counters.too_old.get()
    }
}

/// While it is there the driver runs.
#[derive(Debug)]
pub(crate) struct Driving(Arc<Presence>);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.wake.notify_one();
    }
}
