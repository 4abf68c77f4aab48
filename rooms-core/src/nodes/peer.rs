//! One other node.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{Digest, numbers::Numbers};
use crate::{
    lock::{Mutex, lock},
    node::NodeId,
};

#[derive(Debug)]
pub(crate) struct Peer {
    id: NodeId,
    /// A [`Standing`]. Looked at under a room's lock before a row is taken, so that none comes in behind the one who takes
    /// them out.
    standing: AtomicU8,
    mine: AtomicU64,
    theirs: AtomicU64,
    contact: Mutex<Contact>,
}

/// How far a peer is believed.
///
/// ```text
///   New --> Proven --> Ended
///    `-------------------^
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Standing {
    /// It was heard. Anybody can invent it, so it has no rows here, and is sent little.
    New,
    /// It answered a question of this node, which whoever invented it could not see.
    Proven,
    Ended,
}

/// When it was heard, and how far its rows are known.
#[derive(Debug)]
struct Contact {
    /// When it was heard first.
    since: Instant,
    heard: Instant,
    /// When it was asked to prove itself.
    introduced: Option<Instant>,
    /// Of its heartbeats: an older one that comes later says nothing.
    numbers: Numbers,
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
        let contact = Contact {
            since: now,
            heard: now,
            introduced: None,
            numbers: Numbers::default(),
            differing: 0,
            wanted: true,
            asking: false,
            silent: false,
        };
        Self {
            id,
            standing: AtomicU8::new(Standing::New as u8),
            mine: AtomicU64::new(0),
            theirs: AtomicU64::new(0),
            contact: Mutex::new(contact),
        }
    }

    pub(crate) const fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.stands(Standing::Ended)
    }

    /// Whether it is believed what it says of its rooms.
    pub(crate) fn is_proven(&self) -> bool {
        self.stands(Standing::Proven)
    }

    pub(crate) fn is_new(&self) -> bool {
        self.stands(Standing::New)
    }

    fn stands(&self, standing: Standing) -> bool {
        self.standing.load(Ordering::Acquire) == standing as u8
    }

    fn change(&self, from: Standing, to: Standing) -> bool {
        self.standing.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// It answered; whether that is news.
    pub(crate) fn prove(&self) -> bool {
        self.change(Standing::New, Standing::Proven)
    }

    /// Ends it where it was never proven, so that no room has a row of it.
    pub(super) fn end_new(&self) -> bool {
        self.change(Standing::New, Standing::Ended)
    }

    /// Ends it where it was proven: rooms may have rows of it.
    pub(super) fn end_proven(&self) -> bool {
        self.change(Standing::Proven, Standing::Ended)
    }

    /// Whether it was asked to prove itself.
    pub(crate) fn was_introduced(&self) -> bool {
        lock(&self.contact).introduced.is_some()
    }

    /// Whether it was asked long enough ago to be asked again.
    pub(super) fn awaits_introduction(&self, now: Instant, every: Duration) -> bool {
        lock(&self.contact).introduced.is_some_and(|introduced| now >= introduced + every)
    }

    pub(super) fn introduced(&self, now: Instant) {
        lock(&self.contact).introduced = Some(now);
    }

    /// Whether it is known to answer, or is so new that it had no time to.
    pub(crate) fn may_answer(&self, now: Instant, within: Duration) -> bool {
        self.is_proven() || self.is_new() && now < lock(&self.contact).since + within
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
        if !contact.numbers.take(beat) {
            return;
        }
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

    /// Whether to wait for its answer about some rooms: its rows are not all to be asked for anyway, and it answers, or is
    /// too new to have shown whether it does. It is waited for also while all its rows are being asked for: otherwise a
    /// node with many rooms that somebody joins all the time would ask for all of them again and again.
    pub(crate) fn answers(&self, now: Instant, within: Duration) -> bool {
        let contact = lock(&self.contact);
        if self.is_new() {
            return now < contact.since + within;
        }
        !(contact.wanted || contact.asking && contact.silent)
    }

    /// It gave no answer about some rooms: all its rows are to be asked for.
    pub(crate) fn gave_no_answer(&self) {
        let mut contact = lock(&self.contact);
        (contact.wanted, contact.silent) = (true, true);
    }

    /// Whether its rows are wanted, it is proven, and nobody is asking.
    pub(crate) fn wants_asking(&self) -> bool {
        let contact = lock(&self.contact);
        self.is_proven() && contact.wanted && !contact.asking
    }

    /// Begins to ask for its rows, if they are wanted, it is proven, and nobody is asking.
    pub(crate) fn begin_asking(&self) -> bool {
        let mut contact = lock(&self.contact);
        if !self.is_proven() || !contact.wanted || contact.asking {
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
