//! What the rooms have to know of their node, to be read without its lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::metrics::LedgerMetrics;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    peers: AtomicUsize,
    versions: AtomicU64,
    queries: AtomicU64,
    metrics: LedgerMetrics,
}

impl Ledger {
    pub(super) fn new(metrics: LedgerMetrics) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// Whether no other node is known: then nobody needs to be told of entries.
    pub(crate) fn is_alone(&self) -> bool {
        self.peers() == 0
    }

    /// How many other nodes are live.
    pub(crate) fn peers(&self) -> usize {
        self.peers.load(Ordering::Relaxed)
    }

    pub(super) fn peer_added(&self) {
        self.peers.fetch_add(1, Ordering::Relaxed);
        self.metrics.peers.add(1);
    }

    pub(super) fn peer_ended(&self) {
        self.peers.fetch_sub(1, Ordering::Relaxed);
        self.metrics.peers.add(-1);
    }

    /// The version of the next entry: one sequence for all rooms of the node, so that a room that is forgotten and begins
    /// again goes on above what the others know of it.
    pub(super) fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of the next query.
    pub(super) fn next_query(&self) -> u64 {
        self.metrics.queries.add(1);
        self.queries.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of the query that was sent last: what is learnt from now on, it may have overtaken.
    pub(super) fn last_query(&self) -> u64 {
        self.queries.load(Ordering::Acquire)
    }
}
