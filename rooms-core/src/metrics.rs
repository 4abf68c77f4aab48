//! What a node counts and measures: the list of all metrics, and the handles that they are recorded with.
//!
//! With the feature `metrics` they go to the recorder of the crate [`metrics`](https://docs.rs/metrics) that the process has
//! when the manager is built, so install one before that. Without the feature, and without a recorder, nothing is recorded.
//!
//! A label is a [kind](crate::Kind) that was declared, or one of a few words that are in this list: never a room, a user, a
//! connection or an address. So the number of series is known when the manager is built.
//!
//! Each manager adds its own part to a gauge and takes it back at its end, so several managers in one process add up. The
//! handles are made once, and a delivery is counted once for each turn of a flusher, and not for each member.

mod handles;
mod recorded;

pub(crate) use self::handles::One;
pub use self::handles::{Counter, Counters, Histogram, Level, Stopwatch, Total};
pub(crate) use self::recorded::{ConnectionMetrics, Hook, KindMetrics, LedgerMetrics, NodeMetrics, Overflows};
pub use self::recorded::{bus_losses, bus_round_trip};

/// One metric: what it is called, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, which begins with `rooms_`.
    pub name: &'static str,
    /// What a recorder makes of it.
    pub sort: MetricSort,
    /// What its numbers are numbers of.
    pub unit: Unit,
    /// What its series are told apart by.
    pub labels: &'static [Label],
    /// What it says, in one or two sentences.
    pub help: &'static str,
}

/// What a recorder makes of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricSort {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// What there is now.
    Gauge,
    /// How often which value was measured.
    Histogram,
}

/// What the numbers of a metric are numbers of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Things that are counted.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// What the series of a metric are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// The words that it can have; empty where these are the declared kinds, and `unknown` for any other.
    pub values: &'static [&'static str],
}

/// Upper bounds for histograms of [seconds](Unit::Seconds), from 50 µs to 10 s: a fan-out to a small room takes some 50 µs, a
/// publish over Redis a millisecond, and no bound of time in `Limits` is above 10 s but those of the connection itself.
pub const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

const KIND: Label = Label { name: "kind", values: &[] };

/// The value of the label `kind` for a kind that was not declared.
pub(crate) const UNKNOWN: &str = "unknown";

const fn counter(name: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { name, sort: MetricSort::Counter, unit: Unit::Count, labels, help }
}

const fn bytes(name: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { name, sort: MetricSort::Counter, unit: Unit::Bytes, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { name, sort: MetricSort::Gauge, unit: Unit::Count, labels, help }
}

const fn seconds(name: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { name, sort: MetricSort::Histogram, unit: Unit::Seconds, labels, help }
}

const fn one_of(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values }
}

macro_rules! metrics {
    ($($name:ident = $metric:expr;)*) => {
        $(pub(crate) const $name: Metric = $metric;)*

        /// All metrics, in the order in which `docs/metrics.md` lists them.
        pub const ALL: &[Metric] = &[$($name),*];
    };
}

metrics! {
    CONNECTIONS = gauge("rooms_connections", &[one_of("form", &["one_room", "many_rooms"])],
        "Connections that are open, by whether they are for one room or join rooms by themselves.");
    EVENT_STREAMS = gauge("rooms_event_streams", &[],
        "Those of the connections that are event streams (SSE).");
    CONNECTIONS_REFUSED = counter("rooms_connections_refused_total",
        &[one_of("reason", &["node_full", "user_limit", "address_limit", "revoked", "draining", "runtime_ended"])],
        "Clients with a good token for whom there was no place. They are told by a close frame, which is not in `rooms_closes_total`.");
    UPGRADES_REFUSED = counter("rooms_upgrades_refused_total",
        &[one_of("reason", &["method", "not_an_upgrade", "version", "key", "subprotocol", "origin", "many_tokens",
            "misconfigured", "unauthenticated_limit", "node_full", "address_limit", "token", "room", "draining",
            "unavailable", "http2"])],
        "Upgrades and event streams that were answered with an HTTP status in place of a connection.");
    TOKENS_REFUSED = counter("rooms_tokens_refused_total",
        &[one_of("reason", &["missing", "too_long", "encoding", "malformed", "algorithm", "critical", "unknown_key",
            "signature", "type", "claims", "subject", "expired", "far_expiry", "not_yet", "issuer", "audience", "revoked",
            "unavailable", "application"])],
        "Tokens that were refused, at an upgrade, in a first message or at a refresh. `unavailable` is a failure of the authenticator, and no fault of the token.");
    CLOSES = counter("rooms_closes_total",
        &[one_of("code", &["1000", "1001", "1002", "1003", "1007", "1008", "1009", "1011", "1012", "1013", "4401", "4403", "4408",
            "4410", "4429", "4430", "other", "none"])],
        "Connections that ended, by the code of the close frame; `none` where the client went without one, and `other` for codes of the application and of clients.");
    LIMITED = counter("rooms_limited_total", &[],
        "Upgrades, connections, joins and publications that a limit on their number or rate refused, and the times that a connection began to be read more slowly because it sends too much.");
    ROOMS = gauge("rooms_rooms", &[KIND],
        "Rooms that this node is subscribed to, those included that nobody has been in for a moment.");
    VIEWERS = gauge("rooms_viewers", &[KIND],
        "Connections of this node that are in rooms of the kind, observers included; one in two rooms counts twice. The sum over nodes is that of the service.");
    JOINS = counter("rooms_joins_total",
        &[KIND, one_of("outcome", &["joined", "not_allowed", "rule_unavailable", "too_many_rooms", "too_many_new_rooms",
            "unavailable", "refused", "runtime_ended"])],
        "Joins by what became of them. `not_allowed` is the answer of the rule, `refused` that of `on_join`; `unavailable` is a bus that did not confirm, or a history that was not read.");
    LEAVES = counter("rooms_leaves_total", &[KIND],
        "Rooms that a connection left, by itself or with its end.");
    HOOK_SECONDS = seconds("rooms_hook_seconds",
        &[KIND, one_of("hook", &["join_rule", "publish_rule", "on_join", "on_message", "on_publish", "on_leave", "on_occupancy"])],
        "The time of the application's hooks and rules. `join_rule` is all that is asked for a join: the rule of members or of observers, and who sees the members.");
    HOOK_FAILURES = counter("rooms_hook_failures_total",
        &[KIND, one_of("hook", &["join_rule", "publish_rule", "on_join", "on_message", "on_publish", "on_leave", "on_occupancy"]),
            one_of("outcome", &["panicked", "timed_out", "unavailable"])],
        "Hooks and rules that failed: by a panic, by their time-out, or because they said so. A rule that panics or takes too long is `unavailable`. A hook that refuses has not failed.");
    BROADCASTS = counter("rooms_broadcasts_total",
        &[KIND, one_of("outcome", &["all_nodes", "local_only", "repeated", "too_big", "too_deep", "bus_down", "bus_unknown",
            "bus_overloaded", "bus_refused", "other"])],
        "Messages that this node was asked to broadcast, those of members included, and states not. `local_only` reached only the members of this node, because the bus is down; after `bus_unknown` nobody knows.");
    BROADCAST_BYTES = bytes("rooms_broadcast_bytes_total", &[KIND],
        "The JSON of these messages.");
    PUBLISH_SECONDS = seconds("rooms_publish_seconds", &[one_of("outcome", &["taken", "failed"])],
        "The time for which the bus was waited for until it took a broadcast, or did not. Answers that are there at once, as those of the bus in the process, are not in it.");
    DELIVERIES = counter("rooms_deliveries_total", &[KIND],
        "Messages that were given to members of this node, one for each member: written to its socket, or queued for it.");
    DELIVERED_BYTES = bytes("rooms_delivered_bytes_total", &[KIND],
        "The frames of these messages as they are on a connection that is for one room, without compression.");
    FAN_OUT_SECONDS = seconds("rooms_fan_out_seconds", &[KIND],
        "The time from the first member of a room to the last, for a turn of its flusher: all that was published before it goes out in one turn. Taken once in 64 deliveries of the kind, so for each turn of a room of 64 and for some of smaller ones; `_count` is not the number of turns.");
    OVERFLOWS = counter("rooms_outbox_overflows_total",
        &[KIND, one_of("policy", &["close", "drop_oldest", "latest", "resync"])],
        "Times that a member had more waiting than may, so that the kind's `Overflow` was applied to it.");
    RESYNCS = counter("rooms_resyncs_total",
        &[KIND, one_of("reason", &["bus_gap", "slow_consumer", "history_gap", "epoch"])],
        "Events `resync` that were made: one for all members of a room after a `bus_gap`, and else one for one member.");
    REPLAYS = counter("rooms_replays_total", &[KIND, one_of("outcome", &["recovered", "lost"])],
        "Joins of clients that were there before, by whether the history had all that they missed.");
    BAD_PAYLOADS = counter("rooms_bad_payloads_total", &[],
        "Messages from the bus that were dropped because they were not JSON, too long or too deep.");
    BUS_DOWN = gauge("rooms_bus_down", &[],
        "1 while the bus is known to be down, and else 0.");
    GAPS = counter("rooms_gaps_total", &[one_of("scope", &["room", "nodes", "all"])],
        "Times that the bus said that it may have lost messages: of one room, of those between nodes, or of everything.");
    BUS_LOSSES = counter("rooms_bus_connection_losses_total", &[one_of("connection", &["publisher", "subscriber"])],
        "Times that a connection to the backplane was lost, or could not be made. Of the bus over Redis.");
    BUS_ROUND_TRIP = seconds("rooms_bus_round_trip_seconds", &[],
        "The time that a probe took to the backplane and back to this node. Of the bus over Redis.");
    PEERS = gauge("rooms_peers", &[],
        "Other nodes that are live, as this one knows.");
    QUERIES = counter("rooms_presence_queries_total", &[],
        "Queries to other nodes for what they have in rooms: when a room opens, when something was lost, and when the application asks for a room that is not here.");
    ENTRIES = counter("rooms_entries_published_total", &[],
        "Presence entries that were published: what this node has in a room, each time that it changed.");
    NODE_MESSAGES_DROPPED = counter("rooms_node_messages_dropped_total", &[one_of("reason", &["undecodable", "unsigned", "too_old"])],
        "Messages of other nodes that were dropped: not to be decoded, not signed with this fleet's `node_key`, or orders that are more than a minute from this node's clock.");
    BAD_TRACES = counter("rooms_bad_traceparents_total", &[],
        "Values of `traceparent`, from the bus or from the application, that W3C Trace Context does not allow. They are ignored, and the message is delivered.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_prometheus_has_them_and_no_two_are_the_same() {
        for (at, metric) in ALL.iter().enumerate() {
            assert!(ALL.iter().skip(at + 1).all(|other| other.name != metric.name), "{}", metric.name);
            let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(metric.name.starts_with("rooms_") && plain(metric.name), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.sort == MetricSort::Counter, "{}", metric.name);
            assert_eq!(metric.name.ends_with("_seconds"), metric.unit == Unit::Seconds, "{}", metric.name);
            assert_eq!(metric.name.ends_with("_bytes_total"), metric.unit == Unit::Bytes, "{}", metric.name);
            assert!(metric.labels.iter().all(|label| plain(label.name) && label.values.len() <= 20), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
