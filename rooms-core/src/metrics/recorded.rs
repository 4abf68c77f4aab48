//! The handles of a node and of its kinds.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    BAD_PAYLOADS, BAD_TRACES, BROADCAST_BYTES, BROADCASTS, BUS_DOWN, BUS_LOSSES, BUS_ROUND_TRIP, CLOSES, CONNECTIONS,
    CONNECTIONS_REFUSED, Counter, Counters, DELIVERED_BYTES, DELIVERIES, ENTRIES, EVENT_STREAMS, FAN_OUT_SECONDS, GAPS,
    HOOK_FAILURES, HOOK_SECONDS, Histogram, JOINS, LEAVES, LIMITED, Level, NODE_MESSAGES_DROPPED, OVERFLOWS, PEERS,
    PUBLISH_SECONDS, QUERIES, REPLAYS, RESYNCS, ROOMS, Stopwatch, TOKENS_REFUSED, Total, UNKNOWN, UPGRADES_REFUSED,
    VIEWERS,
};
use crate::rate_limited_log::RateLimitedLog;

/// Deliveries of a kind for which the time of a fan-out is taken once. To take it costs some 150 ns, as much as a delivery or
/// two, so this is what keeps it below 2% in small rooms. A room of so many has each of its fan-outs timed.
const DELIVERIES_PER_TIME: u64 = 64;

/// For a bus: the times that a connection to its backplane was lost, `publisher` or `subscriber`.
#[must_use]
pub fn bus_losses(connection: &'static str) -> Counter {
    Counter::of(&BUS_LOSSES, &[("connection", connection)])
}

/// For a bus: how long a probe took to the backplane and back.
#[must_use]
pub fn bus_round_trip() -> Histogram {
    Histogram::of(&BUS_ROUND_TRIP, &[])
}

/// What is recorded of a node as a whole.
#[derive(Debug)]
pub(crate) struct NodeMetrics {
    pub(crate) event_streams: Arc<Level>,
    pub(crate) connections_refused: Counters,
    pub(crate) upgrades_refused: Counters,
    pub(crate) tokens_refused: Counters,
    pub(crate) closes: Counters,
    pub(crate) published: Histogram,
    pub(crate) not_published: Histogram,
    pub(crate) bad_payloads: Total,
    pub(crate) bad_traces: Counter,
    pub(crate) bus_down: Level,
    pub(crate) gaps: Counters,
    /// Of kinds that were not declared.
    pub(crate) unknown: KindMetrics,
}

/// What is recorded of connections.
#[derive(Debug, Default)]
pub(crate) struct ConnectionMetrics {
    pub(crate) for_one_room: Level,
    pub(crate) for_many_rooms: Level,
}

/// What is recorded of the other nodes.
#[derive(Debug, Default)]
pub(crate) struct LedgerMetrics {
    pub(crate) peers: Level,
    pub(crate) queries: Counter,
}

/// What is recorded of one kind of rooms.
#[derive(Debug, Default)]
pub(crate) struct KindMetrics {
    pub(crate) rooms: Level,
    pub(crate) viewers: Level,
    pub(crate) joins: Counters,
    pub(crate) leaves: Counter,
    pub(crate) broadcasts: Counters,
    pub(crate) broadcast_bytes: Counter,
    pub(crate) deliveries: Total,
    pub(crate) delivered_bytes: Counter,
    pub(crate) fan_out: Histogram,
    /// From so many deliveries on the next fan-out is timed.
    fan_out_due: AtomicU64,
    pub(crate) overflows: Overflows,
    pub(crate) resyncs: Counters,
    pub(crate) replays: Counters,
    pub(crate) join_rule: Hook,
    pub(crate) publish_rule: Hook,
    pub(crate) on_join: Hook,
    pub(crate) on_message: Hook,
    pub(crate) on_publish: Hook,
    pub(crate) on_leave: Hook,
    pub(crate) on_occupancy: Hook,
}

/// What is recorded where a member has too much waiting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overflows {
    pub(crate) applied: Counter,
    /// The `resync` in the place of what was dropped.
    pub(crate) resyncs: Counter,
}

/// What is recorded of a hook, or a rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hook {
    time: Histogram,
    failures: Counters,
    /// That it panicked, in the log: clients can have it called as often as they may send.
    pub(crate) panicked: Arc<RateLimitedLog>,
    /// That it took too long.
    pub(crate) timed_out: Arc<RateLimitedLog>,
}

impl NodeMetrics {
    pub(crate) fn new() -> Self {
        Self {
            event_streams: Arc::new(Level::of(&EVENT_STREAMS, &[])),
            connections_refused: Counters::of(&CONNECTIONS_REFUSED, &[]),
            upgrades_refused: Counters::of(&UPGRADES_REFUSED, &[]),
            tokens_refused: Counters::of(&TOKENS_REFUSED, &[]),
            closes: Counters::of(&CLOSES, &[]),
            published: Histogram::of(&PUBLISH_SECONDS, &[("outcome", "taken")]),
            not_published: Histogram::of(&PUBLISH_SECONDS, &[("outcome", "failed")]),
            bad_payloads: Total::of(Counter::of(&BAD_PAYLOADS, &[])),
            bad_traces: Counter::of(&BAD_TRACES, &[]),
            bus_down: Level::of(&BUS_DOWN, &[]),
            gaps: Counters::of(&GAPS, &[]),
            unknown: KindMetrics::of(UNKNOWN, "close"),
        }
    }

    /// What a limit on a number or a rate refused.
    pub(crate) fn limited() -> Total {
        Total::of(Counter::of(&LIMITED, &[]))
    }

    pub(crate) fn entries() -> Total {
        Total::of(Counter::of(&ENTRIES, &[]))
    }

    /// Messages of other nodes that were dropped for this reason.
    pub(crate) fn dropped(reason: &'static str) -> Total {
        Total::of(Counter::of(&NODE_MESSAGES_DROPPED, &[("reason", reason)]))
    }
}

impl ConnectionMetrics {
    pub(crate) fn new() -> Self {
        Self {
            for_one_room: Level::of(&CONNECTIONS, &[("form", "one_room")]),
            for_many_rooms: Level::of(&CONNECTIONS, &[("form", "many_rooms")]),
        }
    }
}

impl LedgerMetrics {
    pub(crate) fn new() -> Self {
        Self { peers: Level::of(&PEERS, &[]), queries: Counter::of(&QUERIES, &[]) }
    }
}

impl KindMetrics {
    /// Those of a kind with this name, and this word for its `Overflow`.
    pub(crate) fn of(kind: &str, overflow: &'static str) -> Self {
        let of_kind = &[("kind", kind)];
        let overflows = Overflows {
            applied: Counter::of(&OVERFLOWS, &[("kind", kind), ("policy", overflow)]),
            resyncs: Counter::of(&RESYNCS, &[("kind", kind), ("reason", "slow_consumer")]),
        };
        let hook = |name| Hook {
            time: Histogram::of(&HOOK_SECONDS, &[("kind", kind), ("hook", name)]),
            failures: Counters::of(&HOOK_FAILURES, &[("kind", kind), ("hook", name)]),
            panicked: Arc::default(),
            timed_out: Arc::default(),
        };
        Self {
            rooms: Level::of(&ROOMS, of_kind),
            viewers: Level::of(&VIEWERS, of_kind),
            joins: Counters::of(&JOINS, of_kind),
            leaves: Counter::of(&LEAVES, of_kind),
            broadcasts: Counters::of(&BROADCASTS, of_kind),
            broadcast_bytes: Counter::of(&BROADCAST_BYTES, of_kind),
            deliveries: Total::of(Counter::of(&DELIVERIES, of_kind)),
            delivered_bytes: Counter::of(&DELIVERED_BYTES, of_kind),
            fan_out: Histogram::of(&FAN_OUT_SECONDS, of_kind),
            fan_out_due: AtomicU64::new(0),
            overflows,
            resyncs: Counters::of(&RESYNCS, of_kind),
            replays: Counters::of(&REPLAYS, of_kind),
            join_rule: hook("join_rule"),
            publish_rule: hook("publish_rule"),
            on_join: hook("on_join"),
            on_message: hook("on_message"),
            on_publish: hook("on_publish"),
            on_leave: hook("on_leave"),
            on_occupancy: hook("on_occupancy"),
        }
    }
}

impl KindMetrics {
    /// A fan-out begins: the time, where it is taken this time.
    pub(crate) fn time_fan_out(&self) -> Option<Stopwatch> {
        let delivered = self.deliveries.get();
        if cfg!(not(feature = "metrics")) || delivered < self.fan_out_due.load(Ordering::Relaxed) {
            return None;
        }
        // Of two that begin at the same moment both are timed, which costs less than to agree.
        self.fan_out_due.store(delivered + DELIVERIES_PER_TIME, Ordering::Relaxed);
        Some(Stopwatch::start())
    }
}

impl Hook {
    /// It ended.
    pub(crate) fn ended(&self, begun: Stopwatch) {
        self.time.since(begun);
    }

    /// It failed: `panicked`, `timed_out` or `unavailable`.
    pub(crate) fn failed(&self, outcome: &'static str) {
        self.failures.count(outcome);
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;

    #[test]
    fn a_fan_out_is_timed_once_in_so_many_deliveries() {
        let kind = KindMetrics::default();
        assert!(kind.time_fan_out().is_some(), "the first, so that a kind with little to say has a time");
        kind.deliveries.add(DELIVERIES_PER_TIME - 1);
        assert!(kind.time_fan_out().is_none());
        kind.deliveries.add(1);
        assert!(kind.time_fan_out().is_some());
        assert!(kind.time_fan_out().is_none());
    }
}
