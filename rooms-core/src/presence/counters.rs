//! What a node counts of the messages between nodes, and what it logs of those that it drops.

use crate::{
    metrics::{NodeMetrics, Total},
    node::NodeId,
    rate_limited_log::RateLimitedLog,
};

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) entries_published: Total,
    /// Node messages that could not be decoded.
    pub(super) undecodable: Total,
    /// Messages without a signature of this fleet.
    pub(super) unsigned: Total,
    unsigned_log: RateLimitedLog,
    /// Orders and searches that were too old to be carried out.
    pub(super) too_old: Total,
    too_old_log: RateLimitedLog,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            entries_published: NodeMetrics::entries(),
            undecodable: NodeMetrics::dropped("undecodable"),
            unsigned: NodeMetrics::dropped("unsigned"),
            unsigned_log: RateLimitedLog::default(),
            too_old: NodeMetrics::dropped("too_old"),
            too_old_log: RateLimitedLog::default(),
        }
    }

    pub(super) fn note_too_old(&self, node: NodeId, by: u64) {
        self.too_old.add(1);
        if let Some(left_out) = self.too_old_log.line() {
            tracing::warn!(
                %node, by_ms = by, left_out,
                "what another node ordered is not carried out here, as it is more than a minute from this node's clock: set \
                 the clocks of both right, or no `kick` and no `disconnect` from there works here"
            );
        }
    }

    pub(super) fn note_undecodable(&self, length: usize, fault: &str) {
        self.undecodable.add(1);
        // The counter is for watching: a fleet of mixed releases would fill the log.
        tracing::debug!(length, fault, "a node message was dropped");
    }

    pub(super) fn note_unsigned(&self) {
        self.unsigned.add(1);
        if let Some(left_out) = self.unsigned_log.line() {
            tracing::warn!(left_out, "node messages were dropped that are not signed with this fleet's `node_key`");
        }
    }
}
