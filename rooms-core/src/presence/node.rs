//! One node's part in counting over nodes, as a state machine.
//!
//! It has no lock, no clock and no channel. Time is an argument; what came in is noted at once; and what is to be done is
//! returned as [`Action`]s, which [`poll`](Node::poll) puts together and [`actions`](Node::actions) hands out. So the same
//! code runs in the [driver](super::driver) of a process, and in the test that explores every order of loss, delay and crash.

mod announcing;
mod asking;
mod receiving;
mod revoking;

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
    mem,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use self::announcing::{Heartbeats, Renewal, Subscribed};
pub(super) use self::receiving::{Misplaced, Received};
use super::{
    allowance::Allowance,
    failure_detector::{FailureDetector, lease},
    kinds::{Kinds, Strangers},
    ledger::Ledger,
    order::SeenOrders,
    peer::Peer,
    peers::Peers,
    queries::{Purpose, Queries, Reply},
    rechecks::{Recheck, Rechecks},
    replica::Applied,
    replies::{Asked, Replies},
    revocation_sync::RevocationSync,
    wire::{MAX_PAYLOAD, NodeMessage, ROOMS, Space},
};
use crate::{
    auth::RevocationList, bus::Topic, limits::Limits, node::NodeId, rate_limited_log::RateLimitedLog, room_key::RoomKey,
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
    /// Let in who waits to join these rooms: this query, by its number, has ended.
    Open {
        rooms: Vec<RoomKey>,
        query: u64,
    },
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
        self.sync_revocations(now);
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
