//! The queries of this node that are open.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{node::NodeId, presence::entry::Entry, room_key::RoomKey};

/// Queries that may be open. 4,096: a batch of joins is one, and so is a count from outside a room.
const OPEN: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Queries {
    /// By a number that can't be guessed, so that only who hears a query can answer it.
    open: BTreeMap<u64, Query>,
}

/// A query for what other nodes have in some rooms.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) rooms: Vec<RoomKey>,
    pub(super) purpose: Purpose,
    /// By [`Ledger::next_query`](super::ledger::Ledger::next_query).
    number: u64,
    /// Who did not reply yet.
    waiting: Vec<NodeId>,
    deadline: Instant,
}

/// What a query is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Rooms that were subscribed to just now: their joiners are let in behind it.
    Open,
    /// Rooms that are open.
    Recheck,
    /// All entries of one node, of which these rooms are a part.
    Sync(PeerSync),
    /// A count from outside the room; whether all peers are asked.
    Survey { all: bool },
}

/// What is left of asking one node for all its entries.
#[derive(Debug)]
pub(super) struct PeerSync {
    pub(super) peer: NodeId,
    /// All rooms that there were when it began. Shared by all syncs that began together: there may be a hundred thousand.
    pub(super) rooms: Arc<[RoomKey]>,
    /// How many of them were asked for.
    pub(super) asked: usize,
    /// The last query was in vain: one reply may be lost, and a node that gives none is asked again later.
    pub(super) was_in_vain: bool,
    /// No query was in vain.
    pub(super) complete: bool,
}

/// What a node has in the rooms that were asked for; none in those that are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) version: u64,
    pub(crate) entries: Vec<Entry>,
    /// What it did not tell.
    pub(crate) left_out: Vec<RoomKey>,
}

impl Queries {
    /// Whether another query may be opened.
    pub(super) fn have_place(&self) -> bool {
        self.open.len() < OPEN
    }

    pub(super) fn open(&mut self, id: u64, query: Query) {
        self.open.insert(id, query);
    }

    pub(super) fn is_open(&self, id: u64) -> bool {
        self.open.contains_key(&id)
    }

    pub(super) fn close(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// Notes that a node has replied; the query, where it waited for that. One reply that comes twice, or late, is none.
    pub(super) fn replied(&mut self, id: u64, from: NodeId) -> Option<&Query> {
        let query = self.open.get_mut(&id)?;
        let at = query.waiting.iter().position(|node| *node == from)?;
        query.waiting.swap_remove(at);
        Some(query)
    }

    /// Takes out a query that nobody is waited for any more.
    pub(super) fn take_answered(&mut self, id: u64) -> Option<Query> {
        self.open.get(&id).filter(|query| query.waiting.is_empty())?;
        self.open.remove(&id)
    }

    /// Takes out a query whose time is over.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<(u64, Query)> {
        let id = *self.open.iter().find(|(_, query)| query.deadline <= now)?.0;
        Some((id, self.open.remove(&id)?))
    }

    /// When the first of them expires.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.values().map(|query| query.deadline).min()
    }
}

impl Query {
    pub(super) fn new(
        rooms: Vec<RoomKey>,
        purpose: Purpose,
        number: u64,
        waiting: Vec<NodeId>,
        now: Instant,
        within: Duration,
    ) -> Self {
        Self { rooms, purpose, number, waiting, deadline: now + within }
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Who did not reply.
    pub(super) fn waiting(&self) -> &[NodeId] {
        &self.waiting
    }

    /// The rooms that a reply tells something of, by its entries or by having none; and those that it leaves out.
    pub(super) fn divide(&self, reply: &Reply) -> (Vec<RoomKey>, Vec<RoomKey>) {
        let left_out: HashSet<&RoomKey> = reply.left_out.iter().collect();
        self.rooms.iter().cloned().partition(|room| !left_out.contains(room))
    }
}
