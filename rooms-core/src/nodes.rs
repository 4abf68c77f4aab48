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

mod digest;
mod peer;
pub(crate) mod wire;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

pub(crate) use self::{
    digest::{Digest, digest},
    peer::{Asked, Peer},
};
use crate::{
    lock::{Mutex, lock},
    node::NodeId,
};

/// Departed nodes that are remembered, so that a word of theirs that comes late brings none of them back. More than
/// restart within the seconds that a word can be late.
const DEPARTED: usize = 256;

/// The nodes of this manager's bus.
#[derive(Debug)]
pub(crate) struct Nodes {
    me: NodeId,
    /// `Limits::nodes`.
    most: usize,
    known: Mutex<Known>,
    /// How many are live, to be read without the lock.
    live: AtomicUsize,
    /// The versions of this node's rows: one sequence for all rooms, so that a room that is forgotten and begins again
    /// goes on above.
    versions: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    peers: HashMap<NodeId, Arc<Peer>>,
    departed: VecDeque<NodeId>,
}

impl Nodes {
    pub(crate) fn new(me: NodeId, most: usize) -> Self {
        Self { me, most, known: Mutex::default(), live: AtomicUsize::new(0), versions: AtomicU64::new(0) }
    }

    pub(crate) const fn me(&self) -> NodeId {
        self.me
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
        if node == self.me {
            return None;
        }
        let mut known = lock(&self.known);
        if let Some(peer) = known.peers.get(&node) {
            // One whose rows are being forgotten comes back by its next word.
            return peer.heard(now).then(|| Arc::clone(peer));
        }
        if known.departed.contains(&node) {
            return None;
        }
        if known.peers.len() >= self.most {
            tracing::debug!(limit = self.most, "a node is ignored: there are as many as are allowed");
            return None;
        }
        let peer = Arc::new(Peer::new(node, now));
        known.peers.insert(node, Arc::clone(&peer));
        self.live.fetch_add(1, Ordering::Relaxed);
        Some(peer)
    }

    /// A live peer.
    pub(crate) fn find(&self, node: NodeId) -> Option<Arc<Peer>> {
        lock(&self.known).peers.get(&node).filter(|peer| peer.is_live()).cloned()
    }

    /// All live peers.
    pub(crate) fn live(&self) -> Vec<Arc<Peer>> {
        lock(&self.known).peers.values().filter(|peer| peer.is_live()).cloned().collect()
    }

    /// Ends a peer that said good-bye; it does not come back.
    pub(crate) fn depart(&self, node: NodeId) -> Option<Arc<Peer>> {
        let mut known = lock(&self.known);
        if node != self.me && !known.departed.contains(&node) {
            if known.departed.len() >= DEPARTED {
                known.departed.pop_front();
            }
            known.departed.push_back(node);
        }
        let peer = Arc::clone(known.peers.get(&node)?);
        self.end(&peer).then_some(peer)
    }

    /// Ends the peers that were last heard before a time; they come back when they are heard again.
    pub(crate) fn expire(&self, before: Instant) -> Vec<Arc<Peer>> {
        let mut gone: Vec<_> = lock(&self.known).peers.values().cloned().collect();
        gone.retain(|peer| peer.last_heard() < before && self.end(peer));
        gone
    }

    /// Forgets a peer that ended, once no room has a row of it.
    pub(crate) fn forget(&self, peer: &Peer) {
        lock(&self.known).peers.remove(&peer.id());
    }

    fn end(&self, peer: &Peer) -> bool {
        let ended = peer.end();
        if ended {
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn nodes(most: usize) -> Nodes {
        Nodes::new(NodeId::random(), most)
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_a_peer_from_its_first_word_until_it_is_silent() {
        let nodes = nodes(8);
        let other = NodeId::random();
        assert!(nodes.is_alone());
        assert!(nodes.heard(nodes.me(), Instant::now()).is_none(), "this node is no peer of itself");
        let start = Instant::now();
        assert!(nodes.heard(other, start).is_some());
        assert_eq!((nodes.count(), nodes.live().len()), (1, 1));
        assert!(nodes.expire(start).is_empty(), "it was heard at that time");
        let gone = nodes.expire(start + Duration::from_secs(1));
        assert_eq!(gone.len(), 1);
        assert!(nodes.is_alone());
        assert!(nodes.heard(other, start).is_none(), "its rows are still being forgotten");
        nodes.forget(&gone[0]);
        assert!(nodes.heard(other, start).is_some(), "one that was silent may come back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_said_good_bye_does_not_come_back_by_a_late_word() {
        let nodes = nodes(8);
        let other = NodeId::random();
        nodes.heard(other, Instant::now()).unwrap();
        let peer = nodes.depart(other).unwrap();
        assert!(nodes.depart(other).is_none(), "it is said twice");
        nodes.forget(&peer);
        assert!(nodes.heard(other, Instant::now()).is_none());
        for _ in 0..DEPARTED {
            nodes.depart(NodeId::random());
        }
        assert!(nodes.heard(other, Instant::now()).is_some(), "only so many are remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_only_so_many_peers() {
        let nodes = nodes(2);
        let heard = |nodes: &Nodes| nodes.heard(NodeId::random(), Instant::now()).is_some();
        assert_eq!([heard(&nodes), heard(&nodes), heard(&nodes)], [true, true, false]);
    }
}
