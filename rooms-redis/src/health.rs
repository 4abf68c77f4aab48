//! Numbers for a health page.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rooms_core::metrics::{self, Histogram, Total};

use crate::log_gate::LogGate;

/// How a bus is; see [`RedisBus::health`](crate::RedisBus::health).
///
/// The counters count since the bus was made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether a message that is published here comes back: both connections are up, every wanted subscription is
    /// confirmed, and a probe has made the way since.
    pub connected: bool,
    /// The number of the subscribing connection; it grows with every new one.
    pub generation: u64,
    /// The time that the last probe took from here through Redis and back.
    pub round_trip: Option<Duration>,
    /// What went wrong last, on either connection. It names no address and no password.
    pub last_fault: Option<String>,
    /// Messages that wait to be published.
    pub queued_messages: usize,
    /// Bytes that wait to be published.
    pub queued_bytes: usize,
    /// Topics that this node wants to hear, with those that it is just leaving.
    pub wanted: usize,
    /// Topics that Redis has confirmed on this connection.
    pub subscribed: usize,
    /// Topics that were subscribed before and are refused now, because the rights of the user in Redis were narrowed.
    pub refused: usize,
    /// Publications that Redis has answered.
    pub published: u64,
    /// Publications that Redis may have or not.
    pub unknown: u64,
    /// Publications that were turned away because too much was waiting.
    pub overloaded: u64,
    /// Messages that were received, of all kinds.
    pub received: u64,
    /// Messages on a channel that nobody here wants any more.
    pub unwanted: u64,
    /// Messages that were dropped because they were longer than `RedisLimits::max_payload_bytes`. All are counted, and at most one in
    /// ten seconds is in the log.
    pub oversized: u64,
    /// Publications that reached nobody although this node was subscribed: its subscription was gone.
    pub unreceived: u64,
    /// How often the subscribing connection was lost, or was not made.
    pub subscriber_losses: u64,
    /// How often the publishing connection was lost, or was not made.
    pub publisher_losses: u64,
}

#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) published: Counter,
    pub(crate) unknown: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) received: Counter,
    pub(crate) unwanted: Counter,
    pub(crate) oversized: Counter,
    pub(crate) unreceived: Counter,
    pub(crate) subscriber_losses: Total,
    pub(crate) publisher_losses: Total,
    pub(crate) round_trip: Histogram,
    /// For the warning about each of the oversized.
    pub(crate) oversized_gate: LogGate,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            published: Counter::default(),
            unknown: Counter::default(),
            overloaded: Counter::default(),
            received: Counter::default(),
            unwanted: Counter::default(),
            oversized: Counter::default(),
            unreceived: Counter::default(),
            subscriber_losses: Total::of(metrics::bus_losses("subscriber")),
            publisher_losses: Total::of(metrics::bus_losses("publisher")),
            round_trip: metrics::bus_round_trip(),
            oversized_gate: LogGate::default(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
