//! What each node has in one room: this node's entry, which it owns and publishes, and those of its peers.

use std::{collections::HashMap, sync::Arc};

use super::{
    digest::{Digest, digest},
    entry::{Entry, Name, User, Users},
    known_users::KnownUsers,
    ledger::Ledger,
    peer::Peer,
};
use crate::room_key::RoomKey;

#[derive(Debug, Default)]
pub(super) struct Replica {
    own: Own,
    others: Vec<Other>,
    /// The sum over the others.
    elsewhere: usize,
}

/// What this node has in the room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here {
    pub(super) connections: usize,
    /// Somebody is here who is not counted.
    pub(super) observed: bool,
}

impl Here {
    pub(super) const fn is_empty(self) -> bool {
        self.connections == 0 && !self.observed
    }

    fn entry(self, room: &RoomKey, version: u64, users: Option<Users>) -> Entry {
        let connections = u32::try_from(self.connections).unwrap_or(u32::MAX);
        Entry { room: room.clone(), version, connections, observed: self.observed && connections == 0, users }
    }
}

/// This node's entry, as it was last given out.
#[derive(Debug, Default)]
struct Own {
    version: u64,
    /// Somebody was here, counted or not.
    there: bool,
    /// Something changed since.
    stale: bool,
    /// It waits to be published.
    queued: bool,
    /// It was published, or is about to be, less than a window ago.
    window: bool,
    /// Somebody came since, where nobody was.
    occupied: bool,
}

/// An entry to publish.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) entry: Entry,
    /// The first since nobody was here.
    pub(crate) first: bool,
}

/// A peer's entry. One that has no connections any more stays, so that an older one that comes late is known to be old.
/// Nothing is kept of a node that never had any: that is most nodes, of most rooms.
#[derive(Debug)]
struct Other {
    peer: Arc<Peer>,
    version: u64,
    connections: u32,
    /// Somebody is there, counted or not.
    there: bool,
    users: HashMap<Name, User>,
    unnamed: u32,
    /// Of the entry that was published under this version; 0 where it was not that one that was taken.
    checksum: u32,
    /// The query of this node that was the last one when this entry was taken.
    behind: u64,
}

/// How a peer's entry came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntrySource {
    /// The peer published it.
    Published { checksum: u32 },
    /// The peer replied to the query of that number.
    Replied { query: u64 },
}

/// Whether an entry is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Take,
    Old,
    Doubt,
}

/// What came of a peer's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    Taken,
    /// It is no news.
    Old,
    /// It changes an entry that is not known: all of it is to be asked for.
    Missing,
    /// One with the same version has another content: the peer is to be asked which is its own.
    Doubted,
}

impl Replica {
    /// The connections on other nodes.
    pub(super) const fn elsewhere(&self) -> usize {
        self.elsewhere
    }

    /// This node's members changed.
    pub(super) const fn change(&mut self) {
        self.own.stale = true;
    }

    /// Somebody came where nobody was.
    pub(super) const fn occupied(&mut self) {
        self.own.occupied = true;
    }

    /// Whether the entry is to be published now; it then waits to be [taken](Self::take).
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

    /// Whether the others were told all there is to tell of this node.
    pub(super) const fn is_published(&self) -> bool {
        !self.own.stale
    }

    /// The entry to publish, under a new version; `None` where nothing changed since it was queued.
    pub(super) fn take(
        &mut self,
        room: &RoomKey,
        here: Here,
        users: Option<&mut KnownUsers>,
        ledger: &Ledger,
    ) -> Option<Outgoing> {
        self.own.queued = false;
        if !std::mem::take(&mut self.own.stale) {
            return None;
        }
        // From nothing, all of it is as short as what changed.
        let since = self.own.there.then_some(self.own.version);
        let version = ledger.next_version();
        self.flip_all(room);
        (self.own.version, self.own.there) = (version, !here.is_empty());
        self.flip_all(room);
        let users = users.map(|users| users.changed_since(since));
        let first = std::mem::take(&mut self.own.occupied) && self.own.there;
        Some(Outgoing { entry: here.entry(room, version, users), first })
    }

    /// All of the entry as it is now, for one who asks. Its version is the one given out last; what changed since comes to
    /// the asker again with the next.
    pub(super) fn whole(&self, room: &RoomKey, here: Here, users: Option<&KnownUsers>) -> Option<Entry> {
        (!here.is_empty()).then(|| here.entry(room, self.own.version, users.map(KnownUsers::whole)))
    }

    /// Takes a peer's entry.
    pub(super) fn apply(
        &mut self,
        peer: &Arc<Peer>,
        entry: Entry,
        source: EntrySource,
        mut users: Option<&mut KnownUsers>,
        ledger: &Ledger,
    ) -> Applied {
        if !peer.is_proven() {
            return Applied::Old;
        }
        let at = self.others.iter().position(|other| other.peer.id() == peer.id());
        let other = at.and_then(|at| self.others.get(at));
        let known = other.map_or(0, |other| other.version);
        match other.map_or(Verdict::Take, |other| other.verdict(entry.version, source)) {
            Verdict::Take => {}
            Verdict::Old => return Applied::Old,
            Verdict::Doubt => return Applied::Doubted,
        }
        let since = entry.users.as_ref().and_then(|users| users.since);
        if users.is_some() && entry.connections > 0 && since.is_some_and(|since| since != known) {
            return Applied::Missing;
        }
        let mut other = match at {
            Some(at) => self.others.swap_remove(at),
            None if !entry.is_there() => return Applied::Old,
            None => Other::new(peer),
        };
        other.flip(&entry.room, &self.own);
        (other.version, other.connections, other.there) = (entry.version, entry.connections, entry.is_there());
        other.behind = ledger.last_query();
        other.checksum = match source {
            EntrySource::Published { checksum } => checksum,
            EntrySource::Replied { .. } => 0,
        };
        other.flip(&entry.room, &self.own);
        if let Some(users) = &mut users {
            other.take_users(entry, users);
        }
        self.others.push(other);
        self.recount();
        Applied::Taken
    }

    /// Forgets a peer; whether it had an entry here.
    pub(super) fn forget(&mut self, room: &RoomKey, peer: &Peer, users: Option<&mut KnownUsers>) -> bool {
        let Some(at) = self.others.iter().position(|other| other.peer.id() == peer.id()) else { return false };
        let other = self.others.swap_remove(at);
        other.flip(room, &self.own);
        self.recount();
        if let Some(users) = users {
            for name in other.users.keys() {
                users.off_node(name);
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
        self.elsewhere = counts.fold(0, usize::saturating_add);
    }

    fn flip_all(&self, room: &RoomKey) {
        for other in &self.others {
            other.flip(room, &self.own);
        }
    }
}

impl Other {
    fn new(peer: &Arc<Peer>) -> Self {
        Self {
            peer: Arc::clone(peer),
            version: 0,
            connections: 0,
            there: false,
            users: HashMap::new(),
            unnamed: 0,
            checksum: 0,
            behind: 0,
        }
    }

    /// Whether an entry replaces this one.
    ///
    /// It does where its version is above. Two things can't be told by versions alone, where one of the two entries may be
    /// forged:
    ///
    /// - A peer that is asked replies after all that was known of it then, so its reply is newer. A forged entry with the
    ///   version 2^64-1 would otherwise stand for the life of the peer.
    /// - One version has one content. A forged entry that came first would otherwise stand for the true one, and the digests,
    ///   which see versions alone, would agree.
    fn verdict(&self, version: u64, source: EntrySource) -> Verdict {
        match source {
            _ if version > self.version => Verdict::Take,
            EntrySource::Replied { query } if self.behind < query => Verdict::Take,
            EntrySource::Published { checksum }
                if version == self.version && self.checksum != 0 && self.checksum != checksum =>
            {
                Verdict::Doubt
            }
            _ => Verdict::Old,
        }
    }

    /// Puts this pair of entries into the digests of the peer, or takes it out: it is in them while somebody is on both nodes.
    fn flip(&self, room: &RoomKey, own: &Own) {
        if own.there && self.there {
            let of = |version: u64| -> Digest { digest(room, version) };
            self.peer.flip(of(own.version), of(self.version));
        }
    }

    fn take_users(&mut self, entry: Entry, known: &mut KnownUsers) {
        let users = entry.users.filter(|_| entry.connections > 0);
        self.unnamed = users.as_ref().map_or(entry.connections, |users| users.unnamed);
        let all = users.as_ref().is_none_or(|users| users.since.is_none());
        let mut before = if all { std::mem::take(&mut self.users) } else { HashMap::new() };
        for user in users.iter().flat_map(|users| &users.here) {
            // A node names only so many; one that names more is not believed.
            if self.users.len() >= known.most() && !self.users.contains_key(&user.user) {
                self.unnamed = self.unnamed.saturating_add(user.connections);
                continue;
            }
            let old = self.users.insert(user.user.clone(), user.clone());
            if before.remove(&user.user).is_none() && old.is_none() {
                known.on_node(&user.user);
            }
        }
        for name in users.iter().flat_map(|users| &users.gone) {
            if self.users.remove(name).is_some() {
                known.off_node(name);
            }
        }
        for name in before.keys() {
            known.off_node(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeId;

    #[test]
    fn an_entry_is_taken_by_its_version_unless_its_node_was_asked_since_or_it_is_another_one() {
        let other = |version, checksum, behind| Other {
            version,
            checksum,
            behind,
            ..Other::new(&Arc::new(Peer::new(NodeId::for_test(1))))
        };
        let published = |checksum| EntrySource::Published { checksum };
        assert_eq!(other(5, 1, 0).verdict(6, published(2)), Verdict::Take);
        assert_eq!(other(5, 1, 0).verdict(4, published(2)), Verdict::Old);
        assert_eq!(other(5, 1, 0).verdict(5, published(1)), Verdict::Old, "it came twice");
        assert_eq!(other(5, 1, 0).verdict(5, published(2)), Verdict::Doubt);
        assert_eq!(other(5, 0, 0).verdict(5, published(2)), Verdict::Old, "it was learnt by a reply");
        let replied = EntrySource::Replied { query: 3 };
        assert_eq!(other(u64::MAX, 1, 2).verdict(5, replied), Verdict::Take);
        assert_eq!(other(7, 1, 3).verdict(5, replied), Verdict::Old, "an entry overtook the reply");
    }
}
