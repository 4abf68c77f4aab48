//! Every bound and every time, in one place.

use std::time::Duration;

/// Every bound of a [`RedisBus`](crate::RedisBus), with its default and the reason for it.
///
/// ```
/// use std::time::Duration;
/// use rooms_redis::RedisBus;
///
/// let builder = RedisBus::builder("redis://127.0.0.1").limits(|limits| limits.response_timeout = Duration::from_secs(5));
/// # _ = builder;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisLimits {
    /// The time for a connection to be made and greeted. 2 s: a SYN that was lost is sent again after 1 s.
    pub connect_timeout: Duration,
    /// The time for an answer to one command or one batch; past it the connection is given up. 2 s: a Redis that is slower
    /// is stuck, and every publisher waits for it meanwhile.
    pub response_timeout: Duration,
    /// A bus on which nothing was received or nothing was published for this long sends a probe to itself. 2 s: with
    /// `probe_timeout`, a link that has died silently is found within 4 s.
    pub probe_interval: Duration,
    /// How long a probe that Redis has taken may be on its way. 2 s.
    pub probe_timeout: Duration,
    /// The longest of the first pauses between attempts to connect; it doubles with each failure. 100 ms.
    pub first_backoff: Duration,
    /// The longest pause between attempts to connect. 5 s: that long after Redis is back, at the latest, all nodes are.
    pub max_backoff: Duration,
    /// How often a cluster is asked who has which slots, while all is well. 30 s: a slot that moves under a room is noticed
    /// at once anyway.
    pub topology_interval: Duration,
    /// The messages that may wait to be published. 10,000: about 50 ms of work for the publishing connection.
    pub max_queue_messages: usize,
    /// The bytes that may wait to be published. 32 MiB: 512 of the longest broadcasts.
    pub max_queue_bytes: usize,
    /// The longest payload, in bytes. One that is longer is refused when it is published here, and is a gap of its topic
    /// when it comes from elsewhere. 1 MiB: sixteen times the longest broadcast.
    pub max_payload_bytes: usize,
}

impl Default for RedisLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(2),
            probe_interval: Duration::from_secs(2),
            probe_timeout: Duration::from_secs(2),
            first_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            topology_interval: Duration::from_secs(30),
            max_queue_messages: 10_000,
            max_queue_bytes: 32 * 1024 * 1024,
            max_payload_bytes: 1024 * 1024,
        }
    }
}
