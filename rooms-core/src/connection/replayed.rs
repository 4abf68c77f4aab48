//! How much of histories and states a connection was given.

use std::time::Duration;

use tokio::time::Instant;

/// In this time a connection is given `Limits::max_replay_bytes`, and what the last join goes beyond them.
const WITHIN: Duration = Duration::from_secs(10);

/// What a connection was given since a while ago.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    since: Option<Instant>,
    bytes: usize,
}

impl Replayed {
    /// Whether it may be given more.
    pub(super) fn may(&mut self, most: usize, now: Instant) -> bool {
        if self.since.is_some_and(|since| since + WITHIN <= now) {
            *self = Self::default();
        }
        self.bytes < most
    }

    pub(super) fn add(&mut self, bytes: usize, now: Instant) {
        self.since.get_or_insert(now);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.since.is_none()
    }
}
