//! The other nodes, as this one knows them: who is live, who is believed, who is to be asked.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    allowance::Allowance,
    departed::Departed,
    digest::Digest,
    ledger::Ledger,
    peer::{Contact, Peer},
};
use crate::node::NodeId;

/// Nodes that are asked to prove themselves, in a second. 512: all of a large fleet within two, and some 50 kB/s however
/// many somebody invents.
const INTRODUCTIONS: usize = 512;

#[derive(Debug)]
pub(super) struct Peers {
    me: NodeId,
    /// `Limits::max_nodes`.
    most: usize,
    known: BTreeMap<NodeId, Known>,
    departed: Departed,
    /// Peers in the order in which they came. All that are not proven are in it; others may be.
    newcomers: VecDeque<Arc<Peer>>,
    introductions: Allowance,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct Known {
    peer: Arc<Peer>,
    contact: Contact,
}

impl Peers {
    pub(super) const fn new(me: NodeId, most: usize, lease: Duration, ledger: Arc<Ledger>) -> Self {
        Self {
            me,
            most,
            known: BTreeMap::new(),
            departed: Departed::new(lease),
            newcomers: VecDeque::new(),
            introductions: Allowance::new(INTRODUCTIONS, Duration::from_secs(1)),
            ledger,
        }
    }

    pub(super) const fn me(&self) -> NodeId {
        self.me
    }

    /// Takes another id for this node, and returns the one before, which is no peer of the new one.
    pub(super) fn renew(&mut self, me: NodeId, now: Instant) -> NodeId {
        let before = std::mem::replace(&mut self.me, me);
        self.departed.add(before, now);
        before
    }

    /// Notes that a node was heard, which makes it a peer; `None` for this node itself, for one that is gone, and for one
    /// too many.
    pub(super) fn hear(&mut self, node: NodeId, now: Instant) -> Option<Arc<Peer>> {
        if node == self.me {
            return None;
        }
        if let Some(Known { peer, contact }) = self.known.get_mut(&node) {
            contact.hear(now);
            // One whose entries are being forgotten comes back by its next message.
            return peer.is_live().then(|| Arc::clone(peer));
        }
        if self.departed.contains(node, now) {
            return None;
        }
        if self.known.len() >= self.most && !self.make_room() {
            tracing::debug!(limit = self.most, "a node is ignored: there are as many as are allowed");
            return None;
        }
        let peer = Arc::new(Peer::new(node));
        self.known.insert(node, Known { peer: Arc::clone(&peer), contact: Contact::new(now) });
        self.newcomers.push_back(Arc::clone(&peer));
        if self.newcomers.len() > 2 * self.most {
            self.newcomers.retain(|peer| peer.is_new());
        }
        self.ledger.peer_added();
        Some(peer)
    }

    /// Ends the first that came of those that are not proven.
    fn make_room(&mut self) -> bool {
        while let Some(peer) = self.newcomers.pop_front() {
            if self.end_new(&peer) {
                return true;
            }
        }
        false
    }

    /// A live peer.
    pub(super) fn find(&self, node: NodeId) -> Option<&Arc<Peer>> {
        self.known.get(&node).map(|known| &known.peer).filter(|peer| peer.is_live())
    }

    /// What is known of how a live peer answers.
    pub(super) fn contact(&mut self, node: NodeId) -> Option<&mut Contact> {
        self.known.get_mut(&node).filter(|known| known.peer.is_live()).map(|known| &mut known.contact)
    }

    fn live(&self) -> impl Iterator<Item = &Known> {
        self.known.values().filter(|known| known.peer.is_live())
    }

    /// The live peers, and when each was heard.
    pub(super) fn heard(&self) -> impl Iterator<Item = (&Peer, Instant)> {
        self.live().map(|known| (&*known.peer, known.contact.last_heard()))
    }

    /// For each live peer the digest of this node's entries in the rooms that they share; none is zero.
    pub(super) fn digests(&self) -> BTreeMap<NodeId, Digest> {
        let digests = self.live().map(|known| (known.peer.id(), known.peer.own()));
        digests.filter(|(_, own)| *own != 0).collect()
    }

    /// Whether all entries of all peers are known, as far as anybody can tell.
    pub(super) fn are_synced(&self) -> bool {
        self.live().all(|known| known.contact.is_synced())
    }

    /// All entries of all peers are to be asked for.
    pub(super) fn want_all(&mut self) {
        self.known.values_mut().for_each(|known| known.contact.want());
    }

    /// The proven peers all of whose entries are to be asked for now.
    pub(super) fn begin_syncs(&mut self) -> Vec<NodeId> {
        let wanted = |known: &&mut Known| known.peer.is_proven() && known.contact.wants_sync();
        let begin = |known: &mut Known| {
            known.contact.begin_sync();
            known.peer.id()
        };
        self.known.values_mut().filter(wanted).map(begin).collect()
    }

    /// Those to wait for when some rooms are asked for. Of the others all entries are to be asked for.
    pub(super) fn repliers(&mut self, now: Instant, within: Duration) -> Vec<NodeId> {
        let mut repliers = Vec::new();
        for Known { peer, contact } in self.known.values_mut().filter(|known| known.peer.is_live()) {
            if if peer.is_new() { contact.is_recent(now, within) } else { contact.replies() } {
                repliers.push(peer.id());
            } else {
                contact.want();
            }
        }
        repliers
    }

    /// Those that reply, or are so new that they had no time to show it; and whether these are all.
    pub(super) fn all_repliers(&self, now: Instant, within: Duration) -> (Vec<NodeId>, bool) {
        let may = |known: &&Known| known.peer.is_proven() || known.contact.is_recent(now, within);
        let repliers: Vec<_> = self.live().filter(may).map(|known| known.peer.id()).collect();
        let all = repliers.len() == self.live().count();
        (repliers, all)
    }

    /// Whether a peer is to be looked after before the next timer.
    pub(super) fn is_urgent(&self, node: NodeId) -> bool {
        let urgent = |Known { peer, contact }: &Known| {
            // One that was asked to prove itself is asked again by the clock, however much comes in its name.
            if peer.is_new() { !contact.was_introduced() } else { peer.is_proven() && contact.wants_sync() }
        };
        self.known.get(&node).is_some_and(urgent)
    }

    /// The peers that are to be asked to prove themselves now.
    pub(super) fn introduce(&mut self, now: Instant, every: Duration) -> Vec<NodeId> {
        let Self { newcomers, known, introductions, .. } = self;
        let mut asked = Vec::new();
        // The latest first, of those that were never asked: whoever comes behind a thousand that somebody invented does not
        // wait until all of these were asked, and asked again.
        let never = newcomers.iter().rev().map(|peer| (peer, false));
        let again = newcomers.iter().map(|peer| (peer, true));
        for (peer, again) in never.chain(again).filter(|(peer, _)| peer.is_new()) {
            let Some(Known { contact, .. }) = known.get_mut(&peer.id()) else { continue };
            let due = if again { contact.awaits_introduction(now, every) } else { !contact.was_introduced() };
            if !due {
                continue;
            }
            if !introductions.take(1, now) {
                break;
            }
            contact.introduce(now);
            asked.push(peer.id());
        }
        asked
    }

    /// Ends a peer that said goodbye, and returns it where rooms may have entries of it; for a while it does not come back.
    pub(super) fn depart(&mut self, node: NodeId, now: Instant) -> Option<Arc<Peer>> {
        if node == self.me {
            return None;
        }
        self.departed.add(node, now);
        let peer = Arc::clone(&self.known.get(&node)?.peer);
        self.end(&peer).then_some(peer)
    }

    /// Ends the peers that were last heard before a time, and returns those of which rooms may have entries; they come back
    /// when they are heard again.
    pub(super) fn expire(&mut self, before: Instant) -> Vec<Arc<Peer>> {
        let silent = self.known.values().filter(|known| known.contact.last_heard() < before);
        let mut gone: Vec<_> = silent.map(|known| Arc::clone(&known.peer)).collect();
        gone.retain(|peer| self.end(peer));
        gone
    }

    /// Forgets a peer that ended, once no room has an entry of it.
    pub(super) fn forget(&mut self, peer: &Peer) {
        self.known.remove(&peer.id());
    }

    /// Ends a peer; whether rooms may have entries of it, which are to be forgotten first.
    fn end(&mut self, peer: &Peer) -> bool {
        if self.end_new(peer) {
            return false;
        }
        let ended = peer.end_proven();
        if ended {
            self.ledger.peer_ended();
        }
        ended
    }

    /// Ends a peer that is not proven, and forgets it.
    fn end_new(&mut self, peer: &Peer) -> bool {
        let ended = peer.end_new();
        if ended {
            self.known.remove(&peer.id());
            self.ledger.peer_ended();
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn peers(most: usize) -> Peers {
        Peers::new(NodeId::random(), most, Duration::from_millis(6_500), Arc::default())
    }

    #[test]
    fn a_node_is_a_peer_from_its_first_message_until_it_is_silent() {
        let mut peers = peers(8);
        let other = NodeId::random();
        assert!(peers.ledger.is_alone());
        assert!(peers.hear(peers.me(), Instant::now()).is_none(), "this node is no peer of itself");
        let start = Instant::now();
        peers.hear(other, start).unwrap().prove();
        assert_eq!((peers.ledger.peers(), peers.live().count()), (1, 1));
        assert!(peers.expire(start).is_empty(), "it was heard at that time");
        let gone = peers.expire(start + SECOND);
        assert_eq!(gone.len(), 1);
        assert!(peers.ledger.is_alone());
        assert!(peers.hear(other, start).is_none(), "its entries are still being forgotten");
        peers.forget(&gone[0]);
        assert!(peers.hear(other, start).is_some(), "one that was silent may come back");
    }

    #[test]
    fn a_node_that_said_good_bye_does_not_come_back_by_a_late_message() {
        let mut peers = peers(8);
        let (other, start) = (NodeId::random(), Instant::now());
        peers.hear(other, start).unwrap().prove();
        let peer = peers.depart(other, start).unwrap();
        assert!(peers.depart(other, start).is_none(), "it is said twice");
        peers.forget(&peer);
        assert!(peers.hear(other, start + 6 * SECOND).is_none());
        assert!(peers.hear(other, start + 7 * SECOND).is_some(), "one that goes on was not gone");
    }

    #[test]
    fn there_are_only_so_many_peers_and_whoever_is_proven_stays() {
        let (mut peers, now) = (peers(2), Instant::now());
        let heard = |peers: &mut Peers| peers.hear(NodeId::random(), now);
        let first = heard(&mut peers).unwrap();
        first.prove();
        let second = heard(&mut peers).unwrap();
        let third = heard(&mut peers).unwrap();
        assert_eq!([&first, &second, &third].map(|peer| peer.is_live()), [true, false, true]);
        assert_eq!(peers.ledger.peers(), 2);
        third.prove();
        assert!(heard(&mut peers).is_none());
        assert_eq!(peers.live().count(), 2);
    }

    #[test]
    fn whoever_is_invented_is_forgotten_and_leaves_nothing() {
        let (mut peers, now) = (peers(4), Instant::now());
        for _ in 0..10_000 {
            peers.hear(NodeId::random(), now).unwrap();
        }
        assert_eq!(peers.ledger.peers(), 4);
        assert!(peers.expire(now + SECOND).is_empty(), "no room has an entry of one of them");
        assert!(peers.known.is_empty() && peers.newcomers.len() <= 8, "{}", peers.newcomers.len());
    }

    #[test]
    fn newcomers_are_asked_to_prove_themselves_so_many_in_a_second() {
        let (mut peers, start) = (peers(2 * INTRODUCTIONS), Instant::now());
        let proven = peers.hear(NodeId::random(), start).unwrap();
        proven.prove();
        let most = 2 * INTRODUCTIONS - 1;
        (0..most).for_each(|_| _ = peers.hear(NodeId::random(), start).unwrap());
        let asked = peers.introduce(start, SECOND);
        assert_eq!((asked.len(), asked.contains(&proven.id())), (INTRODUCTIONS, false));
        assert!(peers.introduce(start, SECOND).is_empty());
        let others = peers.introduce(start + SECOND / 2 + SECOND / 2, 2 * SECOND);
        assert_eq!(others.len(), most - INTRODUCTIONS);
        assert!(others.iter().all(|node| !asked.contains(node)), "each in its turn");
    }

    #[test]
    fn a_node_that_takes_another_id_is_a_peer_under_neither() {
        let (mut peers, now) = (peers(2), Instant::now());
        let (before, after) = (peers.me(), NodeId::random());
        assert_eq!(peers.renew(after, now), before);
        assert_eq!(peers.me(), after);
        assert!(peers.hear(before, now).is_none() && peers.hear(after, now).is_none());
    }
}
