//! How many members each node has in one room.
//!
//! A node owns one row for each room and tells it to the others when it changed; it keeps theirs. Methods here are called
//! under the room's lock.

use std::{collections::HashMap, sync::Arc};

use super::present::Present;
use crate::{
    nodes::{
        Digest, Nodes, Peer, digest,
        wire::{Name, Row, User},
    },
    room_key::RoomKey,
};

#[derive(Debug, Default)]
pub(super) struct Rows {
    own: Own,
    others: Vec<Other>,
    /// The sum over the others.
    remote: usize,
}

/// This node's row, as it was last given out.
#[derive(Debug, Default)]
struct Own {
    version: u64,
    connections: u32,
    /// Something changed since.
    stale: bool,
    /// It waits to be published.
    queued: bool,
    /// It was published, or is about to be, less than a window ago.
    window: bool,
    /// Somebody came since, where nobody was.
    occupied: bool,
}

/// A row to publish.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) row: Row,
    /// The first since nobody was here.
    pub(crate) first: bool,
}

/// Another node's row. One that has no connections any more stays, so that an older one that comes late is known to be
/// old. Nothing is kept of a node that never had any: that is most nodes, of most rooms.
#[derive(Debug)]
struct Other {
    peer: Arc<Peer>,
    version: u64,
    connections: u32,
    users: HashMap<Name, User>,
    unnamed: u32,
    /// Of the row that was published under this version; 0 where it was not that one that was taken.
    checksum: u32,
}

/// How another node's row came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowSource {
    /// The node told everybody.
    Published { checksum: u32 },
    /// The node was asked, when the version of its row was known to be that one.
    Answered { known: Option<u64> },
}

/// Whether a row is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Take,
    Old,
    Doubt,
}

/// A row is news where its version is above the one that is known. Two things are not to be had by looking at versions
/// alone, where one of the two rows may be forged:
///
/// - A node is asked after its row was heard, so its answer is newer than all that was known then. A forged row with the
///   version 2^64-1 would otherwise stand for the life of the node.
/// - One version has one content. A forged row that came first would otherwise stand for the true one, and the digests,
///   which see versions alone, would agree.
fn verdict(known: u64, checksum: u32, version: u64, source: RowSource) -> Verdict {
    match source {
        _ if version > known => Verdict::Take,
        RowSource::Answered { known: then } if then == Some(known) => Verdict::Take,
        RowSource::Published { checksum: other } if version == known && checksum != 0 && checksum != other => {
            Verdict::Doubt
        }
        _ => Verdict::Old,
    }
}

/// What came of another node's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    Taken,
    /// It is no news.
    Old,
    /// It changes a row that is not known: all of it is to be asked for.
    Missing,
    /// One with the same version has another content: the node is to be asked which is its own.
    Doubted,
}

impl Rows {
    /// The members on other nodes.
    pub(super) const fn remote(&self) -> usize {
        self.remote
    }

    /// This node's members changed.
    pub(super) const fn change(&mut self) {
        self.own.stale = true;
    }

    /// Somebody came where nobody was.
    pub(super) const fn occupied(&mut self) {
        self.own.occupied = true;
    }

    /// Whether the row is to be published now; it then waits to be [taken](Self::take).
    pub(super) const fn publish(&mut self) -> bool {
        let now = self.own.stale && !self.own.queued && !self.own.window;
        if now {
            (self.own.queued, self.own.window) = (true, true);
        }
        now
    }

    /// Whether [`window_ended`](Self::window_ended) is to be called.
    pub(super) const fn has_window(&self) -> bool {
        self.own.window
    }

    pub(super) const fn window_ended(&mut self) {
        self.own.window = false;
    }

    /// Whether the others know all there is to know of this node.
    pub(super) const fn is_told(&self) -> bool {
        !self.own.stale
    }

    /// The row to publish, under a new version; `None` where nothing changed since it was queued.
    pub(super) fn take(
        &mut self,
        room: &RoomKey,
        connections: usize,
        present: Option<&mut Present>,
        nodes: &Nodes,
    ) -> Option<Outgoing> {
        self.own.queued = false;
        if !std::mem::take(&mut self.own.stale) {
            return None;
        }
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        // From nothing, all of it is as short as what changed.
        let since = (self.own.connections > 0).then_some(self.own.version);
        let version = nodes.next_version();
        self.flip_all(room);
        (self.own.version, self.own.connections) = (version, connections);
        self.flip_all(room);
        let users = present.map(|present| present.changed_since(since));
        let first = std::mem::take(&mut self.own.occupied) && connections > 0;
        Some(Outgoing { row: Row { room: room.clone(), version, connections, users }, first })
    }

    /// All of the row as it is now, for one who asks. Its version is the one given out last; what changed since comes to
    /// the asker again with the next.
    pub(super) fn whole(&self, room: &RoomKey, connections: usize, present: Option<&Present>) -> Option<Row> {
        if connections == 0 {
            return None;
        }
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        Some(Row { room: room.clone(), version: self.own.version, connections, users: present.map(Present::whole) })
    }

    /// Takes another node's row.
    pub(super) fn apply(
        &mut self,
        room: &RoomKey,
        peer: &Arc<Peer>,
        row: Row,
        source: RowSource,
        mut present: Option<&mut Present>,
    ) -> Applied {
        if !peer.is_proven() {
            return Applied::Old;
        }
        let at = self.others.iter().position(|other| other.peer.id() == peer.id());
        let other = at.and_then(|at| self.others.get(at));
        let known = other.map_or(0, |other| other.version);
        match other.map_or(Verdict::Take, |other| verdict(known, other.checksum, row.version, source)) {
            Verdict::Take => {}
            Verdict::Old => return Applied::Old,
            Verdict::Doubt => return Applied::Doubted,
        }
        let since = row.users.as_ref().and_then(|users| users.since);
        if present.is_some() && row.connections > 0 && since.is_some_and(|since| since != known) {
            return Applied::Missing;
        }
        let mut other = match at {
            Some(at) => self.others.swap_remove(at),
            None if row.connections == 0 => return Applied::Old,
            None => Other {
                peer: Arc::clone(peer),
                version: 0,
                connections: 0,
                users: HashMap::new(),
                unnamed: 0,
                checksum: 0,
            },
        };
        other.flip(room, &self.own);
        (other.version, other.connections) = (row.version, row.connections);
        other.checksum = match source {
            RowSource::Published { checksum } => checksum,
            RowSource::Answered { .. } => 0,
        };
        other.flip(room, &self.own);
        if let Some(present) = &mut present {
            other.take_users(row, present);
        }
        self.others.push(other);
        self.recount();
        Applied::Taken
    }

    /// The version of another node's row, as it is known here; 0 where none is.
    pub(super) fn version_of(&self, peer: &Peer) -> u64 {
        self.others.iter().find(|other| other.peer.id() == peer.id()).map_or(0, |other| other.version)
    }

    /// Forgets a node; whether it had a row here.
    pub(super) fn forget(&mut self, room: &RoomKey, peer: &Peer, present: Option<&mut Present>) -> bool {
        let Some(at) = self.others.iter().position(|other| other.peer.id() == peer.id()) else { return false };
        let other = self.others.swap_remove(at);
        other.flip(room, &self.own);
        self.recount();
        if let Some(present) = present {
            for name in other.users.keys() {
                present.off_node(name);
            }
        }
        true
    }

    /// The users of the other nodes.
    pub(super) fn users(&self) -> impl Iterator<Item = &User> {
        self.others.iter().flat_map(|other| other.users.values())
    }

    /// The connections of a user on one other node.
    pub(super) fn connections(&self, peer: &Peer, name: &Name) -> u32 {
        let other = self.others.iter().find(|other| other.peer.id() == peer.id());
        other.and_then(|other| other.users.get(name)).map_or(0, |user| user.connections)
    }

    /// One user on another node.
    pub(super) fn user(&self, name: &Name) -> Option<&User> {
        self.others.iter().find_map(|other| other.users.get(name))
    }

    /// Connections on other nodes whose users are not named.
    pub(super) fn unnamed(&self) -> usize {
        self.others.iter().map(|other| other.unnamed as usize).fold(0, usize::saturating_add)
    }

    fn recount(&mut self) {
        let counts = self.others.iter().map(|other| other.connections as usize);
        self.remote = counts.fold(0, usize::saturating_add);
    }

    fn flip_all(&self, room: &RoomKey) {
        for other in &self.others {
            other.flip(room, &self.own);
        }
    }
}

impl Other {
    /// Puts this pair of rows into the digests of the peer, or takes it out: it is in them while both have members.
    fn flip(&self, room: &RoomKey, own: &Own) {
        if own.connections > 0 && self.connections > 0 {
            let of = |version: u64| -> Digest { digest(room, version) };
            self.peer.flip(of(own.version), of(self.version));
        }
    }

    fn take_users(&mut self, row: Row, present: &mut Present) {
        let users = row.users.filter(|_| row.connections > 0);
        self.unnamed = users.as_ref().map_or(row.connections, |users| users.unnamed);
        let all = users.as_ref().is_none_or(|users| users.since.is_none());
        let mut before = if all { std::mem::take(&mut self.users) } else { HashMap::new() };
        for user in users.iter().flat_map(|users| &users.here) {
            // A node names only so many; one that names more is not believed.
            if self.users.len() >= present.most() && !self.users.contains_key(&user.user) {
                self.unnamed = self.unnamed.saturating_add(user.connections);
                continue;
            }
            let old = self.users.insert(user.user.clone(), user.clone());
            if before.remove(&user.user).is_none() && old.is_none() {
                present.on_node(&user.user);
            }
        }
        for name in users.iter().flat_map(|users| &users.gone) {
            if self.users.remove(name).is_some() {
                present.off_node(name);
            }
        }
        for name in before.keys() {
            present.off_node(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_taken_by_its_version_unless_its_node_was_asked_since_or_it_is_another_one() {
        let published = |checksum| RowSource::Published { checksum };
        assert_eq!(verdict(5, 1, 6, published(2)), Verdict::Take);
        assert_eq!(verdict(5, 1, 4, published(2)), Verdict::Old);
        assert_eq!(verdict(5, 1, 5, published(1)), Verdict::Old, "it came twice");
        assert_eq!(verdict(5, 1, 5, published(2)), Verdict::Doubt);
        assert_eq!(verdict(5, 0, 5, published(2)), Verdict::Old, "it was learnt by an answer");
        let answered = |known| RowSource::Answered { known };
        assert_eq!(verdict(u64::MAX, 1, 5, answered(Some(u64::MAX))), Verdict::Take);
        assert_eq!(verdict(7, 1, 5, answered(Some(6))), Verdict::Old, "a row overtook the answer");
        assert_eq!(verdict(7, 1, 5, answered(None)), Verdict::Old);
    }
}
