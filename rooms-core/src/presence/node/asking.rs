//! The queries that a node sends: about rooms that begin, about all that one peer has, and for who counts from outside.

use std::{hash::BuildHasher as _, sync::Arc};

use tokio::time::Instant;

use super::{Action, Node};
use crate::{
    bus::Topic,
    node::NodeId,
    presence::{
        queries::{PeerSync, Purpose, Query},
        wire::{NodeMessage, ROOMS},
    },
    room_key::RoomKey,
};

impl Node {
    /// Rooms were subscribed to just now: learns what the others have in them, and then lets in who waits to join. At most
    /// [`ROOMS`] of them.
    pub(in crate::presence) fn opened(&mut self, rooms: Vec<RoomKey>, now: Instant) {
        self.urgent = true;
        self.learn(rooms, Purpose::Open, now);
    }

    /// Asks all nodes that reply what they have in a room that is not here. What they say comes as [`Action::Surveyed`];
    /// whoever asks calls [`close`](Self::close) in the end.
    pub(in crate::presence) fn survey(&mut self, room: RoomKey, now: Instant) -> u64 {
        let (repliers, all) = self.peers.all_repliers(now, self.times.reply);
        let (number, id) = self.next_query();
        self.urgent = true;
        if !repliers.is_empty() && self.queries.have_place() {
            self.ask(id, Query::new(vec![room], Purpose::Survey { all }, number, repliers, now, self.times.reply));
        } else {
            let complete = all && repliers.is_empty() && self.knows_nodes(now);
            self.actions.push_back(Action::SurveyEnded { id, complete });
        }
        id
    }

    /// Nobody waits for a survey any more.
    pub(in crate::presence) fn close(&mut self, id: u64) {
        self.queries.close(id);
    }

    /// Asks the other nodes about some rooms. Of whoever does not reply in time, all entries are asked for later; nobody
    /// waits for a node of which they are to be asked for anyhow.
    pub(super) fn learn(&mut self, rooms: Vec<RoomKey>, purpose: Purpose, now: Instant) {
        let repliers = self.peers.repliers(now, self.times.reply);
        let (number, id) = self.next_query();
        let place = self.queries.have_place();
        let query = Query::new(rooms, purpose, number, repliers, now, self.times.reply);
        match query.waiting() {
            [] => self.end(id, query, now),
            _ if !place => self.end_unanswered(id, query, now),
            _ => self.ask(id, query),
        }
    }

    /// Asks one node for its entries of all these rooms, a part at a time.
    pub(in crate::presence) fn sync(&mut self, peer: NodeId, rooms: Arc<[RoomKey]>, now: Instant) {
        self.urgent = true;
        let sync = PeerSync { peer, rooms, asked: 0, was_in_vain: false, complete: true };
        self.sync_on(sync, Vec::new(), now);
    }

    /// Goes on with a sync whose query was answered, but for the rooms that are left.
    pub(super) fn go_on(&mut self, query: Query, left: Vec<RoomKey>, now: Instant) {
        let Purpose::Sync(sync) = query.purpose else { return };
        if left.len() == query.rooms.len() {
            self.sync_failed(sync, now);
        } else {
            self.sync_on(PeerSync { was_in_vain: false, ..sync }, left, now);
        }
    }

    /// A query of a sync was in vain.
    fn sync_failed(&mut self, sync: PeerSync, now: Instant) {
        if sync.was_in_vain {
            self.end_sync(sync.peer, false);
        } else {
            self.sync_on(PeerSync { complete: false, was_in_vain: true, ..sync }, Vec::new(), now);
        }
    }

    fn sync_on(&mut self, mut sync: PeerSync, mut rooms: Vec<RoomKey>, now: Instant) {
        if rooms.is_empty() {
            rooms = sync.rooms.iter().skip(sync.asked).take(ROOMS).cloned().collect();
            sync.asked += rooms.len();
        }
        if rooms.is_empty() {
            self.end_sync(sync.peer, sync.complete);
        } else if self.queries.have_place() {
            let (number, id) = self.next_query();
            let asked = vec![sync.peer];
            self.ask(id, Query::new(rooms, Purpose::Sync(sync), number, asked, now, self.times.reply));
        } else {
            self.end_sync(sync.peer, false);
        }
    }

    fn end_sync(&mut self, peer: NodeId, replied: bool) {
        if let Some(contact) = self.peers.contact(peer) {
            contact.end_sync(replied);
        }
    }

    pub(super) fn next_query(&self) -> (u64, u64) {
        let number = self.ledger.next_query();
        (number, self.secret.hash_one(number))
    }

    /// Sends a query, and keeps it open until everybody has replied or its time is over.
    fn ask(&mut self, id: u64, query: Query) {
        let topic = match query.waiting() {
            [one] => Topic::Node(*one),
            _ => Topic::Nodes,
        };
        self.send(topic, NodeMessage::Query { id, rooms: query.rooms.clone() });
        self.queries.open(id, query);
    }

    /// A query that was not answered by all, or not sent.
    fn end_unanswered(&mut self, id: u64, query: Query, now: Instant) {
        for node in query.waiting() {
            if let Some(contact) = self.peers.contact(*node) {
                contact.was_silent();
            }
        }
        self.end(id, query, now);
    }

    pub(super) fn end(&mut self, id: u64, query: Query, now: Instant) {
        match query.purpose {
            Purpose::Open => {
                let number = query.number();
                self.actions.push_back(Action::Open { rooms: query.rooms, query: number });
            }
            Purpose::Survey { all } => {
                let silent = query.waiting().iter().any(|node| self.peers.find(*node).is_some());
                let complete = all && !silent && self.knows_nodes(now);
                self.actions.push_back(Action::SurveyEnded { id, complete });
            }
            Purpose::Recheck | Purpose::Sync(_) => {}
        }
    }

    pub(super) fn expire_queries(&mut self, now: Instant) {
        while let Some((id, query)) = self.queries.take_expired(now) {
            match query.purpose {
                Purpose::Sync(sync) => self.sync_failed(sync, now),
                Purpose::Survey { .. } => self.end(id, query, now),
                Purpose::Open | Purpose::Recheck => self.end_unanswered(id, query, now),
            }
        }
    }
}
