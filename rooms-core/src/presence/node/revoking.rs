//! Revocations between nodes: told at once, compared with each heartbeat, asked for where they differ.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Misplaced, Node, Received};
use crate::{
    auth::Ending,
    bus::Topic,
    node::NodeId,
    presence::{
        allowance::Allowance,
        peer::Peer,
        revocation_sync::Answer,
        wire::{NodeMessage, REVOCATIONS},
    },
};

/// Revocations that are sent in replies, in a second. 50,000: five nodes that start, with all that there may be by default;
/// and a thousand nodes after an outage, with the few that were revoked meanwhile. Whoever gets no reply asks another one.
const REPLIED: usize = 50_000;

/// What a reply counts for, at least.
const LEAST: usize = 50;

pub(super) const fn replies() -> Allowance {
    Allowance::new(REPLIED, Duration::from_secs(1))
}

impl Node {
    /// The number of this node's orders, which no other order has.
    pub(in crate::presence) fn next_order(&self) -> u64 {
        self.next_query().1
    }

    pub(super) fn compare_revocations(&mut self, peer: NodeId, digest: u64, now: Instant) {
        self.urgent |= self.revocation_sync.heard(peer, digest, self.revocations.digest(), now);
    }

    /// Answers those that asked too early, and asks one of the nodes that have something else, if any.
    pub(super) fn sync_revocations(&mut self, now: Instant) {
        let Self { peers, revocation_sync, .. } = self;
        revocation_sync.keep(|peer| peers.find(peer).is_some());
        let is_proven = |peer| peers.find(peer).is_some_and(|peer| peer.is_proven());
        for (node, digest) in revocation_sync.answerable(is_proven) {
            if let Some(peer) = self.peers.find(node).map(Arc::clone) {
                self.revocations_asked(&peer, digest, now);
            }
        }
        let Self { peers, revocations, revocation_sync, .. } = self;
        let digest = revocations.digest();
        let may_ask = |peer| peers.find(peer).is_some_and(|peer| peer.is_proven());
        if let Some(peer) = revocation_sync.ask(peers.me(), digest, now, may_ask) {
            self.send(Topic::Node(peer), NodeMessage::RevocationQuery { digest });
        }
    }

    /// Replies with all that this node has, and learns that the asker has something else.
    pub(super) fn revocations_asked(&mut self, peer: &Peer, digest: u64, now: Instant) {
        // One that nobody has seen proven may be nobody at all, and a reply is long.
        if !peer.is_proven() {
            return self.revocation_sync.asked_too_early(peer.id(), digest);
        }
        self.compare_revocations(peer.id(), digest, now);
        let all = if digest == self.revocations.digest() { Vec::new() } else { self.revocations.all() };
        if !self.revocation_replies.take(all.len().clamp(LEAST, REPLIED), now) {
            return;
        }
        let parts: Vec<&[Ending]> = if all.is_empty() { vec![&[]] } else { all.chunks(REVOCATIONS).collect() };
        for (part, parts_left) in parts.iter().zip((0..parts.len() as u32).rev()) {
            let message = NodeMessage::Revocations { entries: part.to_vec(), parts_left: Some(parts_left) };
            self.send(Topic::Node(peer.id()), message);
        }
        self.urgent = true;
    }

    /// Takes what another node tells.
    pub(super) fn revocations_told(
        &mut self,
        peer: NodeId,
        entries: Vec<Ending>,
        parts_left: Option<u32>,
        now: Instant,
    ) -> Result<Received, Misplaced> {
        if entries.len() > REVOCATIONS {
            return Err(Misplaced("too many revocations in one message"));
        }
        if !entries.iter().all(|(revoked, _)| revoked.is_valid()) {
            return Err(Misplaced("a revocation beyond its bounds"));
        }
        let learned = self.revocations.merge(entries);
        if parts_left == Some(0) && self.revocation_sync.is_asked(peer) {
            let answer = if learned.changed { Answer::Fruitful } else { Answer::Fruitless };
            self.revocation_sync.answered(peer, answer, now);
        }
        Ok(if learned.new.is_empty() { Received::Nothing } else { Received::Revoked(learned.new) })
    }
}
