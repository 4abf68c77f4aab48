//! What the other nodes say, noted at once.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use super::{Action, Node};
use crate::{
    auth::Revoked,
    bus::Topic,
    node::NodeId,
    presence::{
        digest::Digest,
        entry::Entry,
        kinds::Kinds,
        order::{NodeOrder, Seen},
        peer::Peer,
        queries::{Purpose, Reply},
        replies::{Asked, Asker},
        wire::{NodeMessage, Packet, ROOMS},
    },
    reports::{Found, Search},
    room_key::RoomKey,
};

/// What a message of another node asks for at once.
#[derive(Debug)]
pub(in crate::presence) enum Received {
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
pub(in crate::presence) struct Misplaced(pub(in crate::presence) &'static str);

impl Node {
    /// Takes a message of another node. What is not the node's own is handed back.
    pub(in crate::presence) fn receive(
        &mut self,
        topic: &Topic,
        packet: Packet,
        now: Instant,
    ) -> Result<Received, Misplaced> {
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
}
