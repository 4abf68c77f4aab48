//! How long to wait before the next attempt to connect.

use std::time::Duration;

use crate::{limits::RedisLimits, random};

/// Pauses that double, with full jitter, so that the nodes of a service do not come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(limits: &RedisLimits) -> Self {
        Self { first: limits.first_backoff, longest: limits.max_backoff, failures: 0 }
    }

    /// The pause after a connection that lived so long.
    ///
    /// One that lived longer than the longest pause was a good one, and is replaced at once; one that was taken and cut
    /// again and again is not, else a server that does so is hammered.
    pub(crate) fn pause(&mut self, lived: Duration) -> Duration {
        if lived > self.longest {
            self.failures = 0;
        }
        let most = match self.failures {
            0 => Duration::ZERO,
            failures => self.longest.min(self.first.saturating_mul(2_u32.saturating_pow(failures - 1))),
        };
        self.failures = self.failures.saturating_add(1);
        most.mul_f64(fraction(random::bits()))
    }
}

/// From 0 to 1.
fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_begin_anew_after_a_good_connection() {
        let limits = RedisLimits::default();
        let mut backoff = Backoff::new(&limits);
        assert_eq!(backoff.pause(Duration::ZERO), Duration::ZERO);
        let mut seen = Vec::new();
        for _ in 0..200 {
            seen.push(backoff.pause(limits.max_backoff));
        }
        assert!(seen.iter().all(|pause| *pause < limits.max_backoff), "{seen:?}");
        assert!(seen.iter().take(2).all(|pause| *pause < 2 * limits.first_backoff), "{seen:?}");
        assert!(seen.iter().any(|pause| *pause > limits.max_backoff / 2), "{seen:?}");
        assert_eq!(backoff.pause(limits.max_backoff * 2), Duration::ZERO);
    }

    #[test]
    fn a_fraction_is_from_0_to_1() {
        assert_eq!((fraction(0), fraction(u64::MAX) < 1.0, fraction(1 << 63)), (0.0, true, 0.5));
    }
}
