//! Warnings that others can cause without end, and how few of them reach the log.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::lock::lock;

/// The time between two lines. 10 s: whoever looks sees that it goes on, and a publisher that floods a room makes six lines
/// a minute in place of a hundred thousand a second.
const EVERY: Duration = Duration::from_secs(10);

/// Lets one line in ten seconds pass, and counts the others. One gate for each warning, and not for each room, whose names
/// others may invent.
#[derive(Debug, Default)]
pub(crate) struct LogGate {
    last: Mutex<Option<Instant>>,
    left_out: AtomicU64,
}

impl LogGate {
    /// How many lines were left out since the last one, if this one may be written.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut last = lock(&self.last);
        if last.is_some_and(|last| now.duration_since(last) < EVERY) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_passes_and_says_how_many_did_not() {
        let (gate, first) = (LogGate::default(), Instant::now());
        assert_eq!(gate.pass_at(first), Some(0));
        assert_eq!((0..1_000_000).filter_map(|_| gate.pass_at(first)).count(), 0);
        assert_eq!(gate.pass_at(first + EVERY - Duration::from_millis(1)), None);
        assert_eq!(gate.pass_at(first + EVERY), Some(1_000_001));
        assert_eq!(gate.pass_at(first + EVERY * 2), Some(0));
    }
}
