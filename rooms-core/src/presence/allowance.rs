//! So much in so much time.

use std::time::Duration;

use tokio::time::Instant;

/// Lets through so much within each span of time, and not more, whatever asks for it.
#[derive(Debug)]
pub(crate) struct Allowance {
    most: usize,
    within: Duration,
    since: Option<Instant>,
    used: usize,
}

impl Allowance {
    pub(crate) const fn new(most: usize, within: Duration) -> Self {
        Self { most, within, since: None, used: 0 }
    }

    /// Takes so much of it; `false` where there is not as much left.
    pub(crate) fn take(&mut self, amount: usize, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + self.within) {
            (self.since, self.used) = (Some(now), 0);
        }
        let fits = amount <= self.most - self.used;
        if fits {
            self.used += amount;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_much_is_let_through_at_a_time() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut allowance = Allowance::new(3, second);
        assert_eq!([2, 2, 1, 1].map(|amount| allowance.take(amount, start)), [true, false, true, false]);
        assert!(!allowance.take(1, start + second / 2));
        assert!(!allowance.take(4, start + second), "more than there ever is");
        assert!(allowance.take(3, start + second));
    }
}
