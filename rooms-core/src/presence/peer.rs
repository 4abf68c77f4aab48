//! One other node.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{digest::Digest, heartbeat_numbers::HeartbeatNumbers};
use crate::node::NodeId;

/// What the rooms hold of a peer. Shared with them, so that no lock of the node is needed to take an entry.
#[derive(Debug)]
pub(crate) struct Peer {
    id: NodeId,
    /// A [`Standing`]. Looked at under a room's lock before an entry is taken, so that none comes in behind the one who takes
    /// them out.
    standing: AtomicU8,
    own: AtomicU64,
    theirs: AtomicU64,
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
    /// It was heard. Anybody can invent it, so it has no entries here, and is sent little.
    New,
    /// It answered a query of this node, which whoever invented it could not see.
    Proven,
    Ended,
}

impl Peer {
    pub(super) const fn new(id: NodeId) -> Self {
        Self { id, standing: AtomicU8::new(Standing::New as u8), own: AtomicU64::new(0), theirs: AtomicU64::new(0) }
    }

    pub(crate) const fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.stands(Standing::Ended)
    }

    /// Whether its entries are taken.
    pub(crate) fn is_proven(&self) -> bool {
        self.stands(Standing::Proven)
    }

    pub(super) fn is_new(&self) -> bool {
        self.stands(Standing::New)
    }

    fn stands(&self, standing: Standing) -> bool {
        self.standing.load(Ordering::Acquire) == standing as u8
    }

    fn change(&self, from: Standing, to: Standing) -> bool {
        self.standing.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// It answered.
    pub(super) fn prove(&self) {
        self.change(Standing::New, Standing::Proven);
    }

    /// Ends it where it was never proven, so that no room has an entry of it.
    pub(super) fn end_new(&self) -> bool {
        self.change(Standing::New, Standing::Ended)
    }

    /// Ends it where it was proven: rooms may have entries of it.
    pub(super) fn end_proven(&self) -> bool {
        self.change(Standing::Proven, Standing::Ended)
    }

    /// Over the rooms in which both have members: the digest of this node's entries.
    pub(super) fn own(&self) -> Digest {
        self.own.load(Ordering::Relaxed)
    }

    /// Over the rooms in which both have members: the digest of that node's entries, as they are known here.
    pub(super) fn theirs(&self) -> Digest {
        self.theirs.load(Ordering::Relaxed)
    }

    /// Puts a pair of entries into the digests, or takes it out.
    pub(super) fn flip(&self, own: Digest, theirs: Digest) {
        self.own.fetch_xor(own, Ordering::Relaxed);
        self.theirs.fetch_xor(theirs, Ordering::Relaxed);
    }
}

/// When a peer was heard, and how far its entries are known.
#[derive(Debug)]
pub(super) struct Contact {
    /// When it was heard first.
    since: Instant,
    heard: Instant,
    /// When it was asked to prove itself.
    introduced: Option<Instant>,
    /// Of its heartbeats: an older one that comes later says nothing.
    numbers: HeartbeatNumbers,
    /// Heartbeats one after another whose digest differed.
    differing: u32,
    sync: SyncState,
    /// All its entries are wanted again, behind the sync that runs.
    again: bool,
    /// It gave no reply when it was asked last.
    silent: bool,
}

/// How far all entries of a peer are known.
///
/// ```text
///   Wanted --begin--> Running --end--> Done --a difference, a gap--> Wanted
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SyncState {
    Wanted,
    Running,
    Done,
}

/// Heartbeats with another digest before all entries are asked for. Two: an entry that was on its way while the first came
/// is there by the second.
const STRIKES: u32 = 2;

impl Contact {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            heard: now,
            introduced: None,
            numbers: HeartbeatNumbers::default(),
            differing: 0,
            sync: SyncState::Wanted,
            again: false,
            silent: false,
        }
    }

    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    pub(super) const fn last_heard(&self) -> Instant {
        self.heard
    }

    pub(super) const fn was_introduced(&self) -> bool {
        self.introduced.is_some()
    }

    /// Whether it was asked to prove itself, and long enough ago to be asked again.
    pub(super) fn awaits_introduction(&self, now: Instant, every: Duration) -> bool {
        self.introduced.is_some_and(|introduced| now >= introduced + every)
    }

    pub(super) const fn introduce(&mut self, now: Instant) {
        self.introduced = Some(now);
    }

    /// Compares the digest in a heartbeat; one that differs twice makes its entries wanted.
    pub(super) fn compare(&mut self, number: u64, digest: Digest, known: Digest) {
        if !self.numbers.take(number) {
            return;
        }
        self.differing = if digest == known { 0 } else { self.differing + 1 };
        if self.differing >= STRIKES {
            self.differing = 0;
            self.want();
        }
    }

    /// All its entries are to be asked for.
    pub(super) fn want(&mut self) {
        match self.sync {
            SyncState::Running => self.again = true,
            SyncState::Wanted | SyncState::Done => self.sync = SyncState::Wanted,
        }
    }

    /// Whether all its entries are known, as far as anybody can tell.
    pub(super) fn is_synced(&self) -> bool {
        self.sync == SyncState::Done
    }

    pub(super) fn wants_sync(&self) -> bool {
        self.sync == SyncState::Wanted
    }

    pub(super) const fn begin_sync(&mut self) {
        (self.sync, self.again) = (SyncState::Running, false);
    }

    /// Ends asking for all its entries; where it gave no reply, they stay wanted.
    pub(super) const fn end_sync(&mut self, replied: bool) {
        self.sync = if replied && !self.again { SyncState::Done } else { SyncState::Wanted };
        self.silent = !replied;
        self.again = false;
    }

    /// It gave no reply about some rooms: all its entries are to be asked for.
    pub(super) fn was_silent(&mut self) {
        self.silent = true;
        self.want();
    }

    /// Whether it was heard first so lately that it had no time to prove itself.
    pub(super) fn is_recent(&self, now: Instant, within: Duration) -> bool {
        now < self.since + within
    }

    /// Whether to wait for its reply about some rooms: all its entries are not to be asked for anyway, and it replies. It is
    /// waited for also while it is asked for all: otherwise a node with many rooms that somebody joins all the time would ask
    /// for all of them again and again.
    pub(super) fn replies(&self) -> bool {
        match self.sync {
            SyncState::Done => true,
            SyncState::Running => !self.again && !self.silent,
            SyncState::Wanted => false,
        }
    }
}
