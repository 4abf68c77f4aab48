//! One other node.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::Instant;

use super::Digest;
use crate::{
    lock::{Mutex, lock},
    node::NodeId,
};

#[derive(Debug)]
pub(crate) struct Peer {
    id: NodeId,
    /// Looked at under a room's lock before a row is taken, so that none comes in behind the one who takes them out.
    live: AtomicBool,
    mine: AtomicU64,
    theirs: AtomicU64,
    contact: Mutex<Contact>,
}

/// When it was heard, and how far its rows are known.
#[derive(Debug)]
struct Contact {
    heard: Instant,
    /// The number of its newest heartbeat: an older one that comes later says nothing.
    beat: u64,
    /// Heartbeats one after another whose digest differed.
    differing: u32,
    /// Its rows are to be asked for.
    wanted: bool,
    asking: bool,
    /// It gave no answer when it was asked last.
    silent: bool,
}

/// Heartbeats with another digest before rows are asked for. Two: a row that was on its way while the first came is
/// there by the second.
const STRIKES: u32 = 2;

impl Peer {
    pub(super) fn new(id: NodeId, now: Instant) -> Self {
        let contact = Contact { heard: now, beat: 0, differing: 0, wanted: true, asking: false, silent: false };
        Self {
            id,
            live: AtomicBool::new(true),
            mine: AtomicU64::new(0),
            theirs: AtomicU64::new(0),
            contact: Mutex::new(contact),
        }
    }

    pub(crate) const fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) -> bool {
        self.live.swap(false, Ordering::AcqRel)
    }

    pub(super) fn heard(&self, now: Instant) -> bool {
        let mut contact = lock(&self.contact);
        contact.heard = contact.heard.max(now);
        self.is_live()
    }

    pub(super) fn last_heard(&self) -> Instant {
        lock(&self.contact).heard
    }

    /// Over the rooms in which both have members: the digest of this node's rows.
    pub(crate) fn mine(&self) -> Digest {
        self.mine.load(Ordering::Relaxed)
    }

    /// Over the rooms in which both have members: the digest of that node's rows, as they are known here.
    pub(crate) fn theirs(&self) -> Digest {
        self.theirs.load(Ordering::Relaxed)
    }

    /// Puts a pair of rows into the digests, or takes it out.
    pub(crate) fn flip(&self, mine: Digest, theirs: Digest) {
        self.mine.fetch_xor(mine, Ordering::Relaxed);
        self.theirs.fetch_xor(theirs, Ordering::Relaxed);
    }

    /// Compares the digest in a heartbeat; one that differs twice makes the rows wanted.
    pub(crate) fn compare(&self, beat: u64, digest: Digest) {
        let mut contact = lock(&self.contact);
        if beat <= contact.beat {
            return;
        }
        contact.beat = beat;
        contact.differing = if digest == self.theirs() { 0 } else { contact.differing + 1 };
        if contact.differing >= STRIKES {
            contact.differing = 0;
            contact.wanted = true;
        }
    }

    /// All its rows are to be asked for.
    pub(crate) fn want_rows(&self) {
        lock(&self.contact).wanted = true;
    }

    /// Whether all its rows are known, as far as anybody can tell.
    pub(crate) fn is_settled(&self) -> bool {
        let contact = lock(&self.contact);
        !contact.wanted && !contact.asking
    }

    /// Whether it is worth waiting for its answer about some rooms: its rows are not all wanted anyhow, and it does
    /// answer. That they are being asked for is no reason not to, or a node with many rooms, into which somebody comes
    /// all the time, would ask for all of them without an end.
    pub(crate) fn answers(&self) -> bool {
        let contact = lock(&self.contact);
        !(contact.wanted || contact.asking && contact.silent)
    }

    /// It gave no answer about some rooms: all its rows are to be asked for.
    pub(crate) fn gave_no_answer(&self) {
        let mut contact = lock(&self.contact);
        (contact.wanted, contact.silent) = (true, true);
    }

    /// Whether its rows are wanted, and nobody is asking.
    pub(crate) fn wants_asking(&self) -> bool {
        let contact = lock(&self.contact);
        contact.wanted && !contact.asking
    }

    /// Begins to ask for its rows, if they are wanted and nobody is asking.
    pub(crate) fn begin_asking(&self) -> bool {
        let mut contact = lock(&self.contact);
        if !contact.wanted || contact.asking {
            return false;
        }
        (contact.wanted, contact.asking) = (false, true);
        true
    }

    /// Ends asking; where it failed, the rows stay wanted.
    pub(crate) fn end_asking(&self, outcome: Asked) {
        let mut contact = lock(&self.contact);
        contact.asking = false;
        contact.silent = outcome == Asked::InVain;
        contact.wanted |= outcome == Asked::InVain;
    }
}

/// How asking for rows ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Answered,
    InVain,
}
