//! How many messages a connection may send.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;

/// A token bucket in sixteen bytes (the "generic cell rate algorithm"): the time at which the bucket would be full again.
#[derive(Debug)]
pub(super) struct Rate {
    full_at: Instant,
}

impl Rate {
    pub(super) fn new() -> Self {
        Self { full_at: Instant::now() }
    }

    /// Takes one message; `false` where it is one too many.
    pub(super) fn allows(&mut self, limits: &Limits) -> bool {
        let every = Duration::from_secs(1) / limits.inbound_per_second.max(1);
        let now = Instant::now();
        let full_at = self.full_at.max(now) + every;
        let allowed = full_at - now <= every * limits.inbound_burst;
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_the_rate() {
        let (mut rate, limits) = (Rate::new(), Limits::default());
        assert_eq!((0..400).filter(|_| rate.allows(&limits)).count(), 200);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!((0..400).filter(|_| rate.allows(&limits)).count(), 5);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!((0..400).filter(|_| rate.allows(&limits)).count(), 200);
    }
}
