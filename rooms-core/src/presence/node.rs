//! One node's part in counting over nodes, as a state machine.
//!
//! It has no lock, no clock and no channel. Time is an argument; what came in is noted at once; and what is to be done is
//! returned as [`Action`]s, which [`poll`](Node::poll) puts together and [`actions`](Node::actions) hands out. So the same
//! code runs in the [driver](super::driver) of a process, and in the test that explores every order of loss, delay and crash.

mod asking;
mod revoking;

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    mem,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    allowance::Allowance,
    digest::Digest,
    entry::Entry,
    failure_detector::{FailureDetector, lease},
    kinds::{Kinds, Strangers},
    ledger::Ledger,
    order::{MAX_PAYLOAD, NodeOrder, Seen, SeenOrders},
    peer::Peer,
    peers::Peers,
    queries::{Purpose, Queries, Reply},
    rechecks::{Recheck, Rechecks},
    replica::Applied,
    replies::{Asked, Asker, Replies},
    revocation_sync::RevocationSync,
    wire::{NodeMessage, Packet, ROOMS, Space},
};
use crate::{
    auth::{RevocationList, Revoked},
    bus::Topic,
    limits::Limits,
    node::NodeId,
    rate_limited_log::RateLimitedLog,
    reports::{Found, Search},
    room_key::RoomKey,
};

#[derive(Debug)]
pub(super) struct Node {
    times: Times,
    peers: Peers,
    detector: FailureDetector,
    queries: Queries,
    replies: Replies,
    rechecks: Rechecks,
    revocations: Arc<RevocationList>,
    revocation_sync: RevocationSync,
    revocation_replies: Allowance,
    orders: SeenOrders,
    /// The longest payload of an order.
    max_payload: usize,
    subscribed: Subscribed,
    heartbeats: Heartbeats,
    renewal: Renewal,
    /// This application's.
    kinds: Option<Kinds>,
    strangers: Strangers,
    /// Makes the numbers of queries, which nobody guesses.
    secret: RandomState,
    ledger: Arc<Ledger>,
    /// When it was polled last: a process that stood still since hears late what the others sent.
    polled: Instant,
    actions: VecDeque<Action>,
    /// There is something to do before [`Node::wake`].
    urgent: bool,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    heartbeat: Duration,
    reply: Duration,
    lease: Duration,
}

/// Whether the bus has confirmed the topics of this node.
#[derive(Debug)]
struct Subscribed {
    /// What is for every node.
    nodes: bool,
    /// What is for this one.
    own: bool,
    /// When the bus is to be told again what is wanted. A quarter of a heartbeat after the last time, whatever comes meanwhile.
    next: Instant,
    /// When this node said hello, once it had both. Whoever else is there has answered soon after.
    hello: Option<Instant>,
}

#[derive(Debug)]
struct Heartbeats {
    number: u64,
    next: Instant,
    /// Somebody asks whether this node is there. However many do, they are answered together.
    called: bool,
    next_answer: Instant,
}

/// Going on under another id, where somebody said goodbye in this node's name, so that the others take it for gone.
#[derive(Debug)]
struct Renewal {
    wanted: bool,
    /// The id to go on under, and whether the bus has confirmed its topic.
    id: Option<(NodeId, bool)>,
    /// However often somebody says goodbye, the others learn all this node has once a heartbeat at most.
    next: Instant,
    log: RateLimitedLog,
}

/// What a node wants done.
#[derive(Debug)]
pub(super) enum Action {
    Subscribe(Vec<Topic>),
    Unsubscribe(Vec<Topic>),
    /// Publish a message under an id that this node has, or had.
    Send {
        from: NodeId,
        topic: Topic,
        message: NodeMessage,
    },
    /// Take what a peer replied about these rooms: its entries, and that it has nobody in the others.
    Apply {
        peer: Arc<Peer>,
        query: u64,
        rooms: Vec<RoomKey>,
        reply: Reply,
    },
    /// Let in who waits to join these rooms.
    Open(Vec<RoomKey>),
    /// Call [`Node::sync`] with all rooms.
    Sync(NodeId),
    /// Forget the entries of a peer in all rooms, and then call [`Node::forgotten`].
    Forget(Arc<Peer>),
    /// Hand a reply to who asked from outside.
    Surveyed {
        id: u64,
        reply: Reply,
    },
    /// Tell who asked from outside that no more comes; whether every node has replied.
    SurveyEnded {
        id: u64,
        complete: bool,
    },
}

/// What a message of another node asks for at once.
#[derive(Debug)]
pub(super) enum Received {
    Nothing,
    /// An entry, for the room of it.
    Entry(Arc<Peer>, Entry),
    /// For the connections of this node.
    Order(NodeOrder),
    /// An order or a search of a node whose clock differs from this one's by so many milliseconds, or that took so long.
    TooOld(NodeId, u64),
    /// What is revoked since just now.
    Revoked(Vec<Revoked>),
    /// Something to look for, for the node that asks.
    Search(NodeId, u64, Search),
    /// What a node found that was asked for.
    Found(NodeId, u64, Found),
}

/// A node message that can be decoded, and makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misplaced(pub(super) &'static str);

impl Node {
    pub(super) fn new(
        me: NodeId,
        limits: &Limits,
        kinds: Option<Kinds>,
        secret: RandomState,
        ledger: Arc<Ledger>,
        revocations: Arc<RevocationList>,
        now: Instant,
    ) -> Self {
        let times = Times {
            heartbeat: limits.heartbeat_interval,
            reply: limits.answer_timeout,
            lease: lease(limits.heartbeat_interval),
        };
        Self {
            times,
            peers: Peers::new(me, limits.max_nodes, times.lease, Arc::clone(&ledger)),
            detector: FailureDetector::default(),
            queries: Queries::default(),
            replies: Replies::default(),
            rechecks: Rechecks::default(),
            revocations,
            revocation_sync: RevocationSync::new(times.reply, times.heartbeat / 4),
            revocation_replies: revoking::replies(),
            orders: SeenOrders::default(),
            max_payload: limits.max_broadcast_bytes.min(MAX_PAYLOAD),
            subscribed: Subscribed { nodes: false, own: false, next: now, hello: None },
            heartbeats: Heartbeats { number: 0, next: now, called: false, next_answer: now },
            renewal: Renewal { wanted: false, id: None, next: now, log: RateLimitedLog::default() },
            kinds,
            strangers: Strangers::default(),
            secret,
            ledger,
            polled: now,
            actions: VecDeque::new(),
            urgent: true,
        }
    }

    /// Whether a node is live, as far as is known.
    pub(super) fn has_peer(&self, node: NodeId) -> bool {
        self.peers.find(node).is_some()
    }

    /// The live peers.
    pub(super) fn peers(&self) -> impl Iterator<Item = (&Peer, Instant)> {
        self.peers.heard()
    }

    pub(super) const fn me(&self) -> NodeId {
        self.peers.me()
    }

    /// Takes a message of another node. What is not the node's own is handed back.
    pub(super) fn receive(&mut self, topic: &Topic, packet: Packet, now: Instant) -> Result<Received, Misplaced> {
        let Packet { node, message, .. } = packet;
        if let NodeMessage::Goodbye {} = message {
            // Elsewhere, the one that it is about can't hear it.
            let heard_by_all = *topic == Topic::Nodes;
            if !heard_by_all {
                return Err(Misplaced("a goodbye that is not for all nodes"));
            }
            self.departs(node, now);
            return Ok(Received::Nothing);
        }
        let Some(peer) = self.peers.hear(node, now) else { return Ok(Received::Nothing) };
        match message {
            NodeMessage::Hello {} => self.call(),
            NodeMessage::Heartbeat { number, digests, kinds, revoked } => {
                self.compare(&peer, number, &digests, kinds, now);
                self.compare_revocations(node, revoked, now);
            }
            NodeMessage::Goodbye {} => {}
            NodeMessage::Query { rooms, .. } if rooms.len() > ROOMS => {
                return Err(Misplaced("a query for too many rooms"));
            }
            NodeMessage::Query { id, rooms } => {
                let asker = if peer.is_proven() { Asker::Proven } else { Asker::New };
                self.replies.add(Asked { from: node, id, rooms, asker });
                self.urgent = true;
            }
            NodeMessage::Reply { id, version, entries, left_out } => {
                self.replied(&peer, id, Reply { version, entries, left_out }, now);
            }
            NodeMessage::Entry(entry) if matches!(topic, Topic::Control(room) if *room == entry.room) => {
                self.urgent |= self.peers.is_urgent(node);
                return Ok(Received::Entry(peer, entry));
            }
            NodeMessage::Entry(_) => return Err(Misplaced("an entry on another room's topic")),
            NodeMessage::Order { .. }
            | NodeMessage::RevocationQuery { .. }
            | NodeMessage::Revocations { .. }
            | NodeMessage::Search { .. }
            | NodeMessage::Found { .. }
                if !matches!(topic, Topic::Nodes | Topic::Node(_)) =>
            {
                return Err(Misplaced("what concerns all of a node, on a room's topic"));
            }
            NodeMessage::Order { id, at, order } => {
                order.check(self.max_payload).map_err(Misplaced)?;
                self.urgent |= self.peers.is_urgent(node);
                return Ok(match self.orders.see(id, at, self.revocations.now()) {
                    Seen::New => Received::Order(order),
                    Seen::Before => Received::Nothing,
                    Seen::TooOld(by) => Received::TooOld(node, by),
                });
            }
            // An answer is longer than the question, so it is sent to nobody who may be an invention, and once.
            NodeMessage::Search { id, at, search } => {
                self.urgent |= self.peers.is_urgent(node);
                if !peer.is_proven() {
                    return Ok(Received::Nothing);
                }
                return Ok(match self.orders.see(id, at, self.revocations.now()) {
                    Seen::New => Received::Search(node, id, search),
                    Seen::Before => Received::Nothing,
                    Seen::TooOld(by) => Received::TooOld(node, by),
                });
            }
            NodeMessage::Found { id, found } => {
                self.urgent |= self.peers.is_urgent(node);
                return Ok(Received::Found(node, id, *found));
            }
            NodeMessage::RevocationQuery { digest } => self.revocations_asked(&peer, digest, now),
            NodeMessage::Revocations { entries, parts_left } => {
                self.urgent |= self.peers.is_urgent(node);
                return self.revocations_told(node, entries, parts_left, now);
            }
        }
        self.urgent |= self.peers.is_urgent(node);
        Ok(Received::Nothing)
    }

    fn compare(
        &mut self,
        peer: &Peer,
        number: u64,
        digests: &BTreeMap<NodeId, Digest>,
        kinds: Option<Kinds>,
        now: Instant,
    ) {
        let digest = digests.get(&self.me()).copied().unwrap_or_default();
        if let Some(contact) = self.peers.contact(peer.id()) {
            contact.compare(number, digest, peer.theirs());
        }
        if peer.is_proven() && self.strangers.meet(self.kinds, kinds, now) {
            tracing::warn!(
                node = %peer.id(),
                "another node has other kinds of rooms: unless this is an update that adds one, two applications share a \
                 bus, and each takes the other for a part of itself; give them prefixes of their own"
            );
        }
    }

    /// A node said goodbye, or somebody in its name.
    fn departs(&mut self, node: NodeId, now: Instant) {
        if node == self.me() {
            // What this node says itself, when it goes, comes back to it too.
            self.renewal.wanted = !self.detector.is_stopped();
        } else if let Some(peer) = self.peers.depart(node, now) {
            self.revocation_sync.forget(node);
            self.actions.push_back(Action::Forget(peer));
        }
        self.urgent = true;
    }

    fn replied(&mut self, peer: &Arc<Peer>, id: u64, reply: Reply, now: Instant) {
        // Nobody guesses the number of a query, so whoever replies to it has heard it.
        if id == self.introduction(peer.id()) || self.queries.is_open(id) {
            peer.prove();
        }
        let Some(query) = self.queries.replied(id, peer.id()) else { return };
        self.urgent = true;
        if let Purpose::Survey { .. } = query.purpose {
            self.actions.push_back(Action::Surveyed { id, reply });
        } else {
            let (rooms, left) = query.divide(&reply);
            let number = query.number();
            if let Purpose::Sync(_) = query.purpose {
                let Some(query) = self.queries.take_answered(id) else { return };
                self.apply(peer, number, rooms, reply);
                return self.go_on(query, left, now);
            }
            if !left.is_empty() {
                self.want(peer.id());
            }
            self.apply(peer, number, rooms, reply);
        }
        if let Some(query) = self.queries.take_answered(id) {
            self.end(id, query, now);
        }
    }

    fn apply(&mut self, peer: &Arc<Peer>, query: u64, rooms: Vec<RoomKey>, reply: Reply) {
        self.actions.push_back(Action::Apply { peer: Arc::clone(peer), query, rooms, reply });
    }

    /// Somebody asks whether this node is there.
    fn call(&mut self) {
        self.heartbeats.called = true;
        self.urgent = true;
    }

    /// Node messages may have been lost.
    pub(super) fn gap(&mut self) {
        // Whatever it was, the entries of everybody tell it.
        self.peers.want_all();
        self.call();
        self.revocation_sync.begin_anew(self.polled);
    }

    pub(super) fn bus_down(&mut self) {
        self.detector.pause();
    }

    pub(super) fn bus_up(&mut self, now: Instant) {
        self.detector.resume(now);
        self.call();
        self.revocation_sync.begin_anew(now);
    }

    /// This node says goodbye, and nothing more.
    pub(super) fn stop(&mut self) {
        self.detector.stop();
    }

    /// The bus has subscribed topics.
    pub(super) fn subscribed(&mut self, topics: &[Topic]) {
        for topic in topics {
            match topic {
                Topic::Nodes => self.subscribed.nodes = true,
                Topic::Node(node) if *node == self.me() => self.subscribed.own = true,
                Topic::Node(node) => match &mut self.renewal.id {
                    Some((id, confirmed)) if id == node => *confirmed = true,
                    _ => continue,
                },
                Topic::Room(_) | Topic::Control(_) => continue,
            }
            self.urgent = true;
        }
    }

    /// Whether what is known of the other nodes is all there is to know.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.knows_nodes(now) && self.peers.are_synced()
    }

    /// Whether every node has had the time to be heard.
    fn knows_nodes(&self, now: Instant) -> bool {
        let answered = |hello: Instant| now >= hello + self.times.reply;
        self.detector.is_listening() && self.subscribed.hello.is_some_and(answered)
    }

    /// An entry is published; `first` where nobody was in the room before.
    pub(super) fn published(&mut self, room: RoomKey, first: bool, now: Instant) {
        if first {
            self.rechecks.add(room, now, self.times.heartbeat);
        }
    }

    /// A peer's entry was looked at by its room.
    pub(super) fn applied(&mut self, peer: &Peer, applied: Applied) {
        if matches!(applied, Applied::Missing | Applied::Doubted) {
            // Something between was lost, or forged: its heartbeats may show it too, but this is known now.
            self.want(peer.id());
        }
    }

    fn want(&mut self, peer: NodeId) {
        if let Some(contact) = self.peers.contact(peer) {
            contact.want();
            self.urgent = true;
        }
    }

    /// The number of the query by whose reply a node proves that it is there: it hears what is for it alone, and nobody else
    /// does. The same each time, so nothing is kept for a node that somebody invented.
    fn introduction(&self, node: NodeId) -> u64 {
        self.secret.hash_one((node, "introduction"))
    }

    /// No room has an entry of a peer any more.
    pub(super) fn forgotten(&mut self, peer: &Peer) {
        self.peers.forget(peer);
    }

    fn send(&mut self, topic: Topic, message: NodeMessage) {
        self.actions.push_back(Action::Send { from: self.me(), topic, message });
    }

    /// Does what the time asks for.
    pub(super) fn poll(&mut self, now: Instant) {
        self.urgent = false;
        if now > self.polled + self.times.heartbeat * 2 {
            // It was this process that stood still: what the others sent meanwhile is still to be read.
            self.detector.forgive(now);
        }
        self.polled = now;
        self.expire_queries(now);
        if self.detector.is_stopped() {
            return;
        }
        if let Some(since) = self.detector.silent_since(now, self.times.lease) {
            let gone = self.peers.expire(since);
            gone.iter().for_each(|peer| self.revocation_sync.forget(peer.id()));
            self.actions.extend(gone.into_iter().map(Action::Forget));
        }
        if self.begin(now) {
            self.renew(now);
            self.beat(now);
            for node in self.peers.introduce(now, self.times.heartbeat / 2) {
                let id = self.introduction(node);
                self.send(Topic::Node(node), NodeMessage::Query { id, rooms: Vec::new() });
            }
        }
        let syncs = self.peers.begin_syncs();
        self.actions.extend(syncs.into_iter().map(Action::Sync));
        self.recheck(now);
        self.ask_for_revocations(now);
    }

    /// Asks for what is said to every node and to this one, again until the bus has both; then says hello.
    fn begin(&mut self, now: Instant) -> bool {
        if self.subscribed.hello.is_some() {
            return true;
        }
        let begins = self.subscribed.nodes && self.subscribed.own;
        if begins {
            self.subscribed.hello = Some(now);
            self.heartbeats.next = now;
            self.send(Topic::Nodes, NodeMessage::Hello {});
        } else if now >= self.subscribed.next {
            self.subscribed.next = now + self.times.heartbeat / 4;
            self.actions.push_back(Action::Subscribe(vec![Topic::Nodes, Topic::Node(self.me())]));
        }
        begins
    }

    /// Goes on under another id, once the bus has it: another node, to the others, that they ask for all it has.
    fn renew(&mut self, now: Instant) {
        let is_confirmed = self.renewal.id.is_some_and(|(_, confirmed)| confirmed);
        if !self.renewal.wanted || !is_confirmed && now < self.renewal.next {
            return;
        }
        let Some((me, _)) = self.renewal.id.take_if(|_| is_confirmed) else {
            let (me, _) = *self.renewal.id.get_or_insert_with(|| (NodeId::random(), false));
            self.renewal.next = now + self.times.heartbeat / 4;
            return self.actions.push_back(Action::Subscribe(vec![Topic::Node(me)]));
        };
        let before = self.peers.renew(me, now);
        self.renewal.wanted = false;
        self.renewal.next = now + self.times.heartbeat;
        self.heartbeats.next = now;
        if let Some(left_out) = self.renewal.log.line() {
            tracing::warn!(%before, now = %me, left_out, "somebody said goodbye in the name of this node, which goes on under another id");
        }
        // For those that did not hear the other one, so that nobody is counted twice.
        self.actions.push_back(Action::Send { from: before, topic: Topic::Nodes, message: NodeMessage::Goodbye {} });
        self.send(Topic::Nodes, NodeMessage::Hello {});
        self.actions.push_back(Action::Unsubscribe(vec![Topic::Node(before)]));
    }

    fn beat(&mut self, now: Instant) {
        let Heartbeats { next, called, next_answer, .. } = self.heartbeats;
        if now < next && !(called && now >= next_answer) {
            return;
        }
        // A tenth, so that a crowd of callers costs half of what the heartbeats of ten nodes do.
        let next_answer = now + self.times.heartbeat / 10;
        let number = self.heartbeats.number + 1;
        self.heartbeats = Heartbeats { number, next: now + self.times.heartbeat, called: false, next_answer };
        let (digests, revoked) = (self.peers.digests(), self.revocations.digest());
        self.send(Topic::Nodes, NodeMessage::Heartbeat { number, digests, kinds: self.kinds, revoked });
    }

    fn recheck(&mut self, now: Instant) {
        match self.rechecks.take(now) {
            Some(Recheck::Rooms(rooms)) => {
                for rooms in rooms.chunks(ROOMS) {
                    self.learn(rooms.to_vec(), Purpose::Recheck, now);
                }
            }
            Some(Recheck::All) => self.peers.want_all(),
            None => {}
        }
    }

    /// What is to be done, in this order.
    pub(super) fn actions(&mut self) -> VecDeque<Action> {
        mem::take(&mut self.actions)
    }

    /// The next query to reply to, and the space for the entries.
    pub(super) fn next_reply(&mut self, now: Instant) -> Option<(Asked, Space)> {
        if self.detector.is_stopped() { None } else { self.replies.next(now) }
    }

    /// Whether there is something to do before [`wake`](Self::wake).
    pub(super) const fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// When to call [`poll`](Self::poll) again.
    pub(super) fn wake(&self) -> Instant {
        // A quarter of a heartbeat is how exactly the end of a lease is noticed.
        let quarter = self.polled + self.times.heartbeat / 4;
        let wake = self.queries.next_deadline().map_or(quarter, |deadline| deadline.min(quarter));
        if self.detector.is_stopped() || self.subscribed.hello.is_none() {
            return wake;
        }
        let Heartbeats { next, called, next_answer, .. } = self.heartbeats;
        let beat = if called { next.min(next_answer) } else { next };
        let wake = wake.min(beat);
        let wake = self.revocation_sync.due().map_or(wake, |due| due.min(wake));
        self.rechecks.due().map_or(wake, |due| due.min(wake))
    }
}
