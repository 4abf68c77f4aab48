//! The rooms of a node, as counting sees them.

use std::sync::Arc;

use super::{
    entry::Entry,
    ledger::Ledger,
    peer::Peer,
    queries::Reply,
    replica::EntrySource,
    replies::Asked,
    share::{Due, Share},
    wire::{NodeMessage, Space},
};
use crate::room_key::RoomKey;

/// The rooms that are on this node, each with its [`Share`].
pub(crate) trait Rooms {
    /// All rooms that there are now.
    fn keys(&self) -> Vec<RoomKey>;

    /// Changes the share of a room, and does what is due because of it; `None` where the room is not here.
    fn change<T>(&self, room: &RoomKey, change: impl FnOnce(&mut Share) -> (T, Due)) -> Option<T>;

    /// Lets in who waits to join a room, where it is the one that the query was for.
    fn open(&self, room: &RoomKey, query: u64);
}

/// Takes what a peer replied about rooms: its entries, and that it has nobody in the others.
pub(super) fn apply(rooms: &impl Rooms, peer: &Arc<Peer>, query: u64, told: &[RoomKey], reply: Reply) {
    let Reply { version, entries, .. } = reply;
    let mut entries: std::collections::HashMap<_, _> =
        entries.into_iter().map(|entry| (entry.room.clone(), entry)).collect();
    for room in told {
        let none = || Entry { room: room.clone(), version, connections: 0, observed: false, users: None };
        let entry = entries.remove(room).unwrap_or_else(none);
        rooms.change(room, |share| share.apply(peer, entry, EntrySource::Replied { query }));
    }
}

/// Forgets what a peer that is gone had in some rooms.
pub(super) fn forget(rooms: &impl Rooms, peer: &Peer, some: &[RoomKey]) {
    for room in some {
        rooms.change(room, |share| ((), share.forget(room, peer)));
    }
}

/// What this node replies to a query.
pub(super) fn reply(rooms: &impl Rooms, ledger: &Ledger, asked: &Asked, mut space: Space) -> NodeMessage {
    // Above every entry that was given out, so that "none" is news of a room that was left while this node was alone and
    // told nobody; and below what changes from here on.
    let version = ledger.next_version();
    let (mut entries, mut left_out) = (Vec::new(), Vec::new());
    for room in &asked.rooms {
        if !left_out.is_empty() {
            left_out.push(room.clone());
            continue;
        }
        let Some(Some(entry)) = rooms.change(room, |share| share.entry(room)) else { continue };
        if space.takes(&entry) {
            entries.push(entry);
        } else {
            left_out.push(room.clone());
        }
    }
    NodeMessage::Reply { id: asked.id, version, entries, left_out }
}
