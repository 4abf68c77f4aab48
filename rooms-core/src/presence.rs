//! Looking after the other nodes: heartbeats, good-byes, and what they say.
//!
//! The counts themselves are the rooms' business, and travel between their rows. Here is what keeps them right whatever
//! gets lost: who is there at all, and whose rows are to be asked for. All of it goes over the [`Bus`](crate::Bus), so
//! every bus has it.

mod failure_detector;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use tokio::time::Instant;

use self::failure_detector::FailureDetector;
use crate::{
    bus::Topic,
    lock::{Mutex, lock},
    node::NodeId,
    nodes::{
        DecodeError, Kinds, Peer,
        wire::{Row, Say},
    },
    rate_limited_log::RateLimitedLog,
    registry::{
        Registry,
        answers::Asker,
        asks::{Answer, ROOMS},
    },
    room_key::RoomKey,
};

/// Newcomers asked at once. 128, as with rows: enough to hide a round trip to the backplane.
const AT_ONCE: usize = 128;

/// One manager's part among the nodes.
pub(crate) struct Presence {
    registry: Arc<Registry>,
    failure_detector: Arc<FailureDetector>,
    /// Peers that said good-bye, whose rows are to be forgotten.
    departed: Mutex<Vec<Arc<Peer>>>,
    beats: AtomicU64,
    /// Node messages that could not be decoded.
    undecodable: AtomicU64,
    /// Messages without a signature of this fleet.
    unsigned: AtomicU64,
    /// Warnings about them.
    unsigned_warnings: RateLimitedLog,
    /// Somebody said good-bye in this node's name.
    disowned: AtomicBool,
    /// Somebody asked whether this node is there.
    called: AtomicBool,
    /// Warnings about good-byes in this node's name.
    renewals: RateLimitedLog,
    /// The id under which this node is to go on, and whether the bus has confirmed its topic.
    next_id: Mutex<Option<(NodeId, bool)>>,
    /// Whether the bus has confirmed what is said to every node, and what is said to this one.
    confirmed: [AtomicBool; 2],
    /// When this node said that it is there. Whoever else is has answered soon after.
    introduced: OnceLock<Instant>,
}

impl Presence {
    /// Says and hears nothing until it is started.
    pub(crate) fn new(registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self {
            registry,
            failure_detector: Arc::default(),
            departed: Mutex::default(),
            beats: AtomicU64::new(0),
            undecodable: AtomicU64::new(0),
            unsigned: AtomicU64::new(0),
            unsigned_warnings: RateLimitedLog::default(),
            disowned: AtomicBool::new(false),
            called: AtomicBool::new(false),
            renewals: RateLimitedLog::default(),
            next_id: Mutex::default(),
            confirmed: Default::default(),
            introduced: OnceLock::new(),
        })
    }

    /// Begins. The task that beats ends with the manager.
    pub(crate) fn start(self: &Arc<Self>) {
        let beats = failure_detector::run(Arc::downgrade(self), Arc::clone(&self.failure_detector));
        self.registry.runtime().spawn(beats);
    }

    /// What came on a topic of the nodes.
    pub(crate) fn receive(&self, topic: &Topic, payload: &[u8]) {
        let registry = &self.registry;
        let said = match registry.nodes.decode(payload) {
            Ok(said) => said,
            Err(DecodeError::NotSigned(_)) => return self.unsigned(),
            Err(fault) => return self.undecodable(payload.len(), &fault.to_string()),
        };
        let now = Instant::now();
        if let Say::Bye {} = said.say {
            match topic {
                Topic::Nodes => self.departs(said.node, now),
                // Where the one that it is about can't hear it.
                _ => self.undecodable(payload.len(), "a good-bye that is not for all nodes"),
            }
            return;
        }
        let Some(peer) = registry.nodes.heard(said.node, now) else { return };
        match said.say {
            Say::Hello {} => self.called.store(true, Ordering::Relaxed),
            Say::Beat { number, digests, kinds } => {
                peer.compare(number, digests.get(&registry.nodes.me()).copied().unwrap_or_default());
                self.look_at_kinds(&peer, kinds, now);
            }
            Say::Bye {} => {}
            Say::Ask { rooms, .. } if rooms.len() > ROOMS => {
                self.undecodable(payload.len(), "a question for too many rooms");
            }
            Say::Ask { ask, rooms } => {
                let asker = if peer.is_proven() { Asker::Proven } else { Asker::New };
                registry.answer(said.node, asker, ask, rooms);
            }
            Say::Answer { ask, version, rows, left_out } => {
                if ask == registry.nodes.introduction(said.node) || registry.is_open(ask) {
                    peer.prove();
                }
                registry.answered(ask, Answer { from: said.node, version, rows, left_out });
            }
            Say::Row(row) if matches!(topic, Topic::Control(room) if *room == row.room) => {
                registry.take_row(&peer, row);
            }
            Say::Row(_) => self.undecodable(payload.len(), "a row on another room's topic"),
        }
        // One that was asked to prove itself is asked again by the clock, however much comes in its name.
        if peer.wants_asking() || peer.is_new() && !peer.was_introduced() || self.called.load(Ordering::Relaxed) {
            registry.news.notify_one();
        }
    }

    /// A node said good-bye, or somebody in its name.
    fn departs(&self, node: NodeId, now: Instant) {
        if node == self.registry.nodes.me() {
            // What this node says itself, when it goes, comes back to it too.
            self.disowned.store(self.failure_detector.is_on(), Ordering::Relaxed);
        } else {
            lock(&self.departed).extend(self.registry.nodes.depart(node, now));
        }
        self.registry.news.notify_one();
    }

    fn look_at_kinds(&self, peer: &Peer, kinds: Option<Kinds>, now: Instant) {
        if peer.is_proven() && self.registry.nodes.is_stranger(kinds, now) {
            tracing::warn!(
                node = %peer.id(),
                "another node has other kinds of rooms: unless this is an update that adds one, two applications share a \
                 bus, and each takes the other for a part of itself; give them prefixes of their own"
            );
        }
    }

    /// Words on a topic may have been lost.
    pub(crate) fn missed(&self, topic: &Topic) {
        // Whatever it was, the rows of everybody tell it.
        if !matches!(topic, Topic::Room(_)) {
            self.missed_all();
        }
    }

    /// Words on any topic may have been lost.
    pub(crate) fn missed_all(&self) {
        for peer in self.registry.nodes.live() {
            peer.want_rows();
        }
        self.called.store(true, Ordering::Relaxed);
        self.registry.news.notify_one();
    }

    /// The bus is down: nobody can be heard, so nobody is gone.
    pub(crate) fn bus_down(&self) {
        self.failure_detector.pause();
    }

    /// The bus is back: everybody has the time of a new lease to be heard.
    pub(crate) fn bus_up(&self) {
        self.failure_detector.resume(Instant::now());
        self.called.store(true, Ordering::Relaxed);
        self.registry.news.notify_one();
    }

    /// Node messages that were dropped: not to be decoded, or of another version.
    pub(crate) fn undecodable_count(&self) -> u64 {
        self.undecodable.load(Ordering::Relaxed)
    }

    /// Whether what is known of the other nodes is all there is to know.
    pub(crate) fn is_settled(&self) -> bool {
        self.knows_nodes() && self.registry.nodes.live().iter().all(|peer| peer.is_settled())
    }

    /// Whether every node has had the time to be heard.
    fn knows_nodes(&self) -> bool {
        let answered = |introduced: &Instant| introduced.elapsed() >= self.registry.limits().answer_timeout;
        self.failure_detector.is_listening() && self.introduced.get().is_some_and(answered)
    }

    /// Says good-bye.
    pub(crate) async fn bye(&self) {
        self.failure_detector.stop();
        self.registry.news.notify_one();
        self.registry.say(&Topic::Nodes, Say::Bye {}).await;
    }

    /// Messages that were dropped because they were not signed with the fleet's key.
    pub(crate) fn unsigned_count(&self) -> u64 {
        self.unsigned.load(Ordering::Relaxed)
    }

    fn undecodable(&self, length: usize, fault: &str) {
        self.undecodable.fetch_add(1, Ordering::Relaxed);
        // The counter is for watching: a fleet of mixed releases would fill the log.
        tracing::debug!(length, fault, "a node message was dropped");
    }

    fn unsigned(&self) {
        self.unsigned.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.unsigned_warnings.line() {
            tracing::warn!(left_out, "node messages were dropped that are not signed with this fleet's `node_key`");
        }
    }

    /// The bus has subscribed topics.
    pub(crate) fn subscribed(&self, topics: &[Topic]) {
        if let Some((id, confirmed)) = &mut *lock(&self.next_id)
            && topics.contains(&Topic::Node(*id))
        {
            *confirmed = true;
            self.registry.news.notify_one();
        }
        let me = Topic::Node(self.registry.nodes.me());
        for (topic, confirmed) in [Topic::Nodes, me].iter().zip(&self.confirmed) {
            if topics.contains(topic) && !confirmed.swap(true, Ordering::Relaxed) {
                self.registry.news.notify_one();
            }
        }
    }

    /// Asks for what is said to every node and to this one, again until the bus has both; then says that it is there.
    async fn begin(&self) -> bool {
        if !self.is_subscribed() {
            let topics = [Topic::Nodes, Topic::Node(self.registry.nodes.me())];
            self.registry.tell_bus(|bus| bus.subscribe(&topics));
        }
        if !self.is_subscribed() {
            return false;
        }
        self.registry.say(&Topic::Nodes, Say::Hello {}).await;
        _ = self.introduced.set(Instant::now());
        true
    }

    fn is_subscribed(&self) -> bool {
        self.confirmed.iter().all(|confirmed| confirmed.load(Ordering::Relaxed))
    }

    async fn beat(&self) {
        let number = self.beats.fetch_add(1, Ordering::Relaxed) + 1;
        let nodes = &self.registry.nodes;
        let digests = nodes.live().iter().map(|peer| (peer.id(), peer.mine())).filter(|(_, mine)| *mine != 0).collect();
        self.registry.say(&Topic::Nodes, Say::Beat { number, digests, kinds: nodes.kinds() }).await;
    }

    /// Whether somebody said good-bye in this node's name, so that the others take it for gone.
    fn is_disowned(&self) -> bool {
        self.disowned.load(Ordering::Relaxed)
    }

    /// Goes on under another id, once the bus has it: another node, to the others, that they ask for all it has. `false`
    /// while the bus is being asked.
    async fn renew(&self) -> bool {
        let registry = &self.registry;
        let confirmed = lock(&self.next_id).take_if(|(_, confirmed)| *confirmed);
        let Some((me, _)) = confirmed else {
            let me = lock(&self.next_id).get_or_insert_with(|| (NodeId::random(), false)).0;
            registry.tell_bus(|bus| bus.subscribe(&[Topic::Node(me)]));
            return false;
        };
        let before = registry.nodes.renew(me, Instant::now());
        self.disowned.store(false, Ordering::Relaxed);
        if let Some(left_out) = self.renewals.line() {
            tracing::warn!(%before, now = %me, left_out, "somebody said good-bye in the name of this node, which goes on under another id");
        }
        // For those that did not hear the other one, so that nobody is counted twice.
        registry.say_as(before, &Topic::Nodes, Say::Bye {}).await;
        registry.say(&Topic::Nodes, Say::Hello {}).await;
        registry.tell_bus(|bus| bus.unsubscribe(&[Topic::Node(before)]));
        true
    }

    /// Asks newcomers to prove that they are there.
    async fn introduce(&self, every: Duration) {
        let registry = &self.registry;
        let ask = |node| {
            let ask = registry.nodes.introduction(node);
            async move { registry.say(&Topic::Node(node), Say::Ask { ask, rooms: Vec::new() }).await }
        };
        let newcomers = registry.nodes.introduce(Instant::now(), every);
        for batch in newcomers.chunks(AT_ONCE) {
            join_all(batch.iter().copied().map(ask)).await;
        }
    }

    /// Ends the peers that were not heard since a time, and those that said good-bye.
    async fn end_silent(&self, silent_since: Option<Instant>) {
        let mut gone = std::mem::take(&mut *lock(&self.departed));
        if let Some(since) = silent_since {
            gone.extend(self.registry.nodes.expire(since));
        }
        for peer in gone {
            self.registry.forget(&peer).await;
        }
    }

    /// Asks the peers whose rows are wanted.
    fn ask(&self) {
        for peer in self.registry.nodes.live() {
            if peer.begin_asking() {
                let registry = Arc::clone(&self.registry);
                self.registry.runtime().spawn(registry.ask_for_all(peer));
            }
        }
    }

    /// What the nodes have in a room that is not here: their rows, and whether all of them answered.
    pub(crate) async fn survey(&self, room: &RoomKey) -> (Vec<Row>, bool) {
        let registry = &self.registry;
        let (now, within) = (Instant::now(), registry.limits().answer_timeout);
        let mut peers = registry.nodes.live();
        let live = peers.len();
        peers.retain(|peer| peer.may_answer(now, within));
        let all_may = peers.len() == live;
        let answers = registry.ask(&peers, std::slice::from_ref(room), within).await;
        let exact = all_may && answers.missing.is_empty() && self.knows_nodes();
        let rows = answers.all.into_iter().flat_map(|answer| answer.rows).filter(|row| row.room == *room);
        (rows.collect(), exact)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.failure_detector.stop();
        self.registry.news.notify_one();
    }
}
