//! The other nodes, as this one knows them.
//!
//! A node is one process in one incarnation. Every two seconds it says on the topic of all nodes that it lives; one that
//! was not heard for three of those times is gone, and so is one that said good-bye. What it said of its rooms goes with
//! it.
//!
//! Words between nodes may get lost without anybody noticing. So each node keeps, for each other, two numbers over the
//! rooms in which both have members: a digest of its own rows there ([`Peer::mine`]), and one of the other's rows as it
//! knows them ([`Peer::theirs`]). A heartbeat carries the first to everybody, who compares it with the second of their
//! own. Where they differ, a row was lost, and is asked for. Rows that nothing happens to cost nothing.
//!
//! The digests cannot tell that both lost the first row of the other, for then neither knows of a room in which both have
//! members. So whoever published its first row in a room asks once more.
//!
//! # Messages that are forged, or damaged
//!
//! Whoever may publish on the topics of the nodes can say anything in anybody's name. Signed messages keep strangers out
//! ([`NodeKeys`]); and whatever is believed for a while, it heals within ten seconds of the last such message:
//!
//! - A node that is heard for the first time is asked a question that only it can see, and is [proven](Peer::is_proven) by
//!   its answer. Until then it has no rows here, is sent little, and gives its place to the next one that comes where there
//!   are as many as are allowed.
//! - A good-bye counts for one lease ([`Departed`]). Who hears its own goes on under another id ([`Nodes::renew`]).
//! - What a node answers stands above all that was known of it when it was asked, whatever the versions say.
//! - A heartbeat whose number does not follow is ignored, but for one that the next follows ([`Numbers`](numbers::Numbers)).
//!
//! # Messages that are repeated
//!
//! Without a key nobody can sign a message, but whoever may publish can send a signed one again:
//!
//! - Old rows have old versions, and are ignored. Where their node is gone, it has to prove itself first.
//! - The question that introduces a node has the same number each time, so that nothing is kept for it. Its old answer is
//!   believed again: a node that is gone is proven once more. Answers to all other questions are ignored once the question
//!   is closed.
//! - One old heartbeat is ignored; of two in a row with numbers that follow each other the second is believed. Those of a
//!   node that is gone keep it, and the rows that are repeated with them, for one lease. Those of a node that lives are
//!   outlived by its next two.
//! - An old good-bye is that of an id that nobody has any more.
//!
//! So what a repeated message does ends one lease after the last one, at the latest.

mod allowance;
mod departed;
mod digest;
mod kinds;
mod numbers;
mod peer;
pub(crate) mod signature;
pub(crate) mod wire;

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

pub(crate) use self::{
    allowance::Allowance,
    digest::{Digest, digest},
    kinds::{Kinds, kinds},
    peer::{Asked, Peer},
};
use self::{
    departed::Departed,
    kinds::Strangers,
    signature::NodeKeys,
    wire::{Row, Said, Say, WireFault},
};
use crate::{
    limits::Limits,
    lock::{Mutex, lock},
    node::NodeId,
};

/// Nodes that are asked to prove themselves, in a second. 512: all of a large fleet within two, and some 50 kB/s however
/// many somebody invents.
const INTRODUCTIONS: usize = 512;

/// How long a node may be silent: three heartbeats, and a quarter of one for the third to be late.
pub(crate) fn lease(heartbeat: Duration) -> Duration {
    heartbeat * 13 / 4
}

/// The nodes of this manager's bus.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// The id under which this node speaks. It changes where somebody said good-bye in its name.
    me: AtomicU64,
    /// `Limits::max_nodes`.
    most: usize,
    keys: NodeKeys,
    /// This application's.
    kinds: Option<Kinds>,
    strangers: Mutex<Strangers>,
    /// Makes the questions that prove a node, and tells a row from another with the same version.
    secret: RandomState,
    known: Mutex<Known>,
    /// How many are live, to be read without the lock.
    live: AtomicUsize,
    /// The versions of this node's rows: one sequence for all rooms, so that a room that is forgotten and begins again
    /// goes on above.
    versions: AtomicU64,
}

#[derive(Debug)]
struct Known {
    peers: HashMap<NodeId, Arc<Peer>>,
    departed: Departed,
    /// Peers in the order in which they came. All that are not proven are in it; others may be.
    newcomers: VecDeque<Arc<Peer>>,
    introductions: Allowance,
}

/// Why a message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error(transparent)]
    NotSigned(#[from] signature::NotSigned),
    #[error(transparent)]
    Wire(#[from] WireFault),
}

impl Nodes {
    pub(crate) fn new(me: NodeId, limits: &Limits, keys: NodeKeys, kinds: Option<Kinds>) -> Self {
        let known = Known {
            peers: HashMap::new(),
            departed: Departed::new(lease(limits.heartbeat_interval)),
            newcomers: VecDeque::new(),
            introductions: Allowance::new(INTRODUCTIONS, Duration::from_secs(1)),
        };
        Self {
            me: AtomicU64::new(me.to_bits()),
            most: limits.max_nodes,
            keys,
            kinds,
            strangers: Mutex::default(),
            secret: RandomState::new(),
            known: Mutex::new(known),
            live: AtomicUsize::new(0),
            versions: AtomicU64::new(0),
        }
    }

    pub(crate) fn me(&self) -> NodeId {
        NodeId::from_bits(self.me.load(Ordering::Relaxed))
    }

    /// Takes another id, and returns the one before, which is no peer of the new one.
    pub(crate) fn renew(&self, me: NodeId, now: Instant) -> NodeId {
        // Under the lock, so that nothing said under the old id makes it a peer in between.
        let mut known = lock(&self.known);
        let before = NodeId::from_bits(self.me.swap(me.to_bits(), Ordering::Relaxed));
        known.departed.add(before, now);
        before
    }

    /// A message as this node sends it.
    pub(crate) fn encode(&self, from: NodeId, say: Say) -> Bytes {
        self.keys.sign(wire::encode(from, say))
    }

    pub(crate) fn decode(&self, payload: &[u8]) -> Result<Said, DecodeError> {
        self.keys.check(payload)?;
        Ok(wire::decode(payload)?)
    }

    /// What a heartbeat says of this application.
    pub(crate) const fn kinds(&self) -> Option<Kinds> {
        self.kinds
    }

    /// Takes the kinds that another node says it has; whether to warn of it.
    pub(crate) fn is_stranger(&self, kinds: Option<Kinds>, now: Instant) -> bool {
        kinds != self.kinds && lock(&self.strangers).meet(self.kinds, kinds, now)
    }

    /// A row's content, to be told from another content under the same version.
    pub(crate) fn checksum(&self, row: &Row) -> u32 {
        self.secret.hash_one(row) as u32
    }

    /// The number of the question by whose answer a node proves that it is there: it hears what is for it alone, and
    /// nobody else does. The same each time, so nothing is kept for a node that somebody invented.
    pub(crate) fn introduction(&self, node: NodeId) -> u64 {
        self.secret.hash_one((node, "introduction"))
    }

    /// Another number that nobody guesses.
    pub(crate) fn unguessable(&self, number: u64) -> u64 {
        self.secret.hash_one(number)
    }

    /// The peers that are to be asked to prove themselves now.
    pub(crate) fn introduce(&self, now: Instant, every: Duration) -> Vec<NodeId> {
        let mut known = lock(&self.known);
        let Known { newcomers, introductions, .. } = &mut *known;
        // The latest first, of those that were never asked: whoever comes behind a thousand that somebody invented does not
        // wait until all of these were asked, and asked again.
        let first = newcomers.iter().rev().filter(|peer| !peer.was_introduced());
        let again = newcomers.iter().filter(|peer| peer.awaits_introduction(now, every));
        let asked = first.chain(again).filter(|peer| peer.is_new()).take_while(|_| introductions.take(1, now));
        let asked = asked.inspect(|peer| peer.introduced(now));
        asked.map(|peer| peer.id()).collect()
    }

    /// Whether no other node is known: then nobody needs to be told of rows.
    pub(crate) fn is_alone(&self) -> bool {
        self.live.load(Ordering::Relaxed) == 0
    }

    /// How many other nodes are live.
    pub(crate) fn count(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// The version of the next row, or of what is said about rooms without one.
    pub(crate) fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes that a node was heard, which makes it a peer; `None` for this node itself, for one that is gone, and for
    /// one too many.
    pub(crate) fn heard(&self, node: NodeId, now: Instant) -> Option<Arc<Peer>> {
        let mut known = lock(&self.known);
        if node == self.me() {
            return None;
        }
        if let Some(peer) = known.peers.get(&node) {
            // One whose rows are being forgotten comes back by its next word.
            return peer.heard(now).then(|| Arc::clone(peer));
        }
        if known.departed.contains(node, now) {
            return None;
        }
        if known.peers.len() >= self.most && !self.make_room(&mut known) {
            tracing::debug!(limit = self.most, "a node is ignored: there are as many as are allowed");
            return None;
        }
        let peer = Arc::new(Peer::new(node, now));
        known.peers.insert(node, Arc::clone(&peer));
        known.newcomers.push_back(Arc::clone(&peer));
        if known.newcomers.len() > 2 * self.most {
            known.newcomers.retain(|peer| peer.is_new());
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        Some(peer)
    }

    /// Ends the first that came of those that are not proven.
    fn make_room(&self, known: &mut Known) -> bool {
        while let Some(peer) = known.newcomers.pop_front() {
            if self.end_new(known, &peer) {
                return true;
            }
        }
        false
    }

    /// A live peer.
    pub(crate) fn find(&self, node: NodeId) -> Option<Arc<Peer>> {
        lock(&self.known).peers.get(&node).filter(|peer| peer.is_live()).cloned()
    }

    /// All live peers.
    pub(crate) fn live(&self) -> Vec<Arc<Peer>> {
        lock(&self.known).peers.values().filter(|peer| peer.is_live()).cloned().collect()
    }

    /// Ends a peer that said good-bye, and returns it where rooms may have rows of it; for a while it does not come back.
    pub(crate) fn depart(&self, node: NodeId, now: Instant) -> Option<Arc<Peer>> {
        let mut known = lock(&self.known);
        if node == self.me() {
            return None;
        }
        known.departed.add(node, now);
        let peer = Arc::clone(known.peers.get(&node)?);
        self.end(&mut known, &peer).then_some(peer)
    }

    /// Ends the peers that were last heard before a time, and returns those of which rooms may have rows; they come back
    /// when they are heard again.
    pub(crate) fn expire(&self, before: Instant) -> Vec<Arc<Peer>> {
        let mut known = lock(&self.known);
        let mut gone: Vec<_> = known.peers.values().filter(|peer| peer.last_heard() < before).cloned().collect();
        gone.retain(|peer| self.end(&mut known, peer));
        gone
    }

    /// Forgets a peer that ended, once no room has a row of it.
    pub(crate) fn forget(&self, peer: &Peer) {
        lock(&self.known).peers.remove(&peer.id());
    }

    /// Ends a peer; whether rooms may have rows of it, which are to be forgotten first.
    fn end(&self, known: &mut Known, peer: &Peer) -> bool {
        if self.end_new(known, peer) {
            return false;
        }
        let ended = peer.end_proven();
        if ended {
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
        ended
    }

    /// Ends a peer that is not proven, and forgets it.
    fn end_new(&self, known: &mut Known, peer: &Peer) -> bool {
        let ended = peer.end_new();
        if ended {
            known.peers.remove(&peer.id());
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn nodes(most: usize) -> Nodes {
        let limits = Limits { max_nodes: most, ..Limits::default() };
        Nodes::new(NodeId::random(), &limits, NodeKeys::default(), None)
    }

    #[test]
    fn a_node_is_a_peer_from_its_first_word_until_it_is_silent() {
        let nodes = nodes(8);
        let other = NodeId::random();
        assert!(nodes.is_alone());
        assert!(nodes.heard(nodes.me(), Instant::now()).is_none(), "this node is no peer of itself");
        let start = Instant::now();
        assert!(nodes.heard(other, start).unwrap().prove());
        assert_eq!((nodes.count(), nodes.live().len()), (1, 1));
        assert!(nodes.expire(start).is_empty(), "it was heard at that time");
        let gone = nodes.expire(start + SECOND);
        assert_eq!(gone.len(), 1);
        assert!(nodes.is_alone());
        assert!(nodes.heard(other, start).is_none(), "its rows are still being forgotten");
        nodes.forget(&gone[0]);
        assert!(nodes.heard(other, start).is_some(), "one that was silent may come back");
    }

    #[test]
    fn a_node_that_said_good_bye_does_not_come_back_by_a_late_word() {
        let nodes = nodes(8);
        let (other, start) = (NodeId::random(), Instant::now());
        nodes.heard(other, start).unwrap().prove();
        let peer = nodes.depart(other, start).unwrap();
        assert!(nodes.depart(other, start).is_none(), "it is said twice");
        nodes.forget(&peer);
        assert!(nodes.heard(other, start + 6 * SECOND).is_none());
        assert!(nodes.heard(other, start + 7 * SECOND).is_some(), "one that goes on was not gone");
    }

    #[test]
    fn there_are_only_so_many_peers_and_whoever_is_proven_stays() {
        let (nodes, now) = (nodes(2), Instant::now());
        let heard = || nodes.heard(NodeId::random(), now);
        let first = heard().unwrap();
        first.prove();
        let second = heard().unwrap();
        let third = heard().unwrap();
        assert_eq!([&first, &second, &third].map(|peer| peer.is_live()), [true, false, true]);
        assert_eq!(nodes.count(), 2);
        third.prove();
        assert!(heard().is_none());
        assert_eq!(nodes.live().len(), 2);
    }

    #[test]
    fn whoever_is_invented_is_forgotten_and_leaves_nothing() {
        let (nodes, now) = (nodes(4), Instant::now());
        for _ in 0..10_000 {
            nodes.heard(NodeId::random(), now).unwrap();
        }
        assert_eq!(nodes.count(), 4);
        assert!(nodes.expire(now + SECOND).is_empty(), "no room has a row of one of them");
        let known = lock(&nodes.known);
        assert!(known.peers.is_empty() && known.newcomers.len() <= 8, "{}", known.newcomers.len());
    }

    #[test]
    fn newcomers_are_asked_to_prove_themselves_so_many_in_a_second() {
        let (nodes, start) = (nodes(2 * INTRODUCTIONS), Instant::now());
        let proven = nodes.heard(NodeId::random(), start).unwrap();
        proven.prove();
        let most = 2 * INTRODUCTIONS - 1;
        (0..most).for_each(|_| _ = nodes.heard(NodeId::random(), start).unwrap());
        let asked = nodes.introduce(start, SECOND);
        assert_eq!((asked.len(), asked.contains(&proven.id())), (INTRODUCTIONS, false));
        assert!(nodes.introduce(start, SECOND).is_empty());
        let others = nodes.introduce(start + SECOND / 2 + SECOND / 2, 2 * SECOND);
        assert_eq!(others.len(), most - INTRODUCTIONS);
        assert!(others.iter().all(|node| !asked.contains(node)), "each in its turn");
    }

    #[test]
    fn a_node_that_takes_another_id_is_a_peer_under_neither() {
        let (nodes, now) = (nodes(2), Instant::now());
        let (before, after) = (nodes.me(), NodeId::random());
        assert_eq!(nodes.renew(after, now), before);
        assert_eq!(nodes.me(), after);
        assert!(nodes.heard(before, now).is_none() && nodes.heard(after, now).is_none());
    }
}
