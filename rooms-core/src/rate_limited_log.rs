//! Warnings that others can cause in floods: one line in a while, and how many were left out.

use std::{mem, time::Duration};

use tokio::time::Instant;

use crate::lock::{Mutex, lock};

/// The least time between two lines: six a minute show that it goes on, and fill no disk in a night.
const EVERY: Duration = Duration::from_secs(10);

/// Decides which warnings of one sort are written. Each sort has a value of its own, so that a flood of one hides no other.
///
/// What is left out is told by the next line, as there is no task that would write a last one; a number in
/// [`Stats`](crate::Stats) is up to date at any time.
#[derive(Debug, Default)]
pub(crate) struct RateLimitedLog(Mutex<Written>);

#[derive(Debug, Default)]
struct Written {
    last: Option<Instant>,
    left_out: u64,
}

impl RateLimitedLog {
    /// The number of warnings that were left out since the last line, where a line may be written now; else this warning is
    /// one more of them.
    pub(crate) fn line(&self) -> Option<u64> {
        let now = Instant::now();
        let mut written = lock(&self.0);
        if written.last.is_some_and(|last| now.duration_since(last) < EVERY) {
            written.left_out = written.left_out.saturating_add(1);
            return None;
        }
        written.last = Some(now);
        Some(mem::take(&mut written.left_out))
    }
}

#[cfg(all(test, not(rooms_loom)))]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_one_line_in_a_while_and_the_next_says_what_was_left_out() {
        let log = RateLimitedLog::default();
        assert_eq!(log.line(), Some(0));
        for _ in 0..1_000 {
            assert_eq!(log.line(), None);
        }
        advance(EVERY - Duration::from_millis(1)).await;
        assert_eq!(log.line(), None);
        advance(Duration::from_millis(1)).await;
        assert_eq!(log.line(), Some(1_001));
        assert_eq!(log.line(), None);
        advance(EVERY).await;
        assert_eq!(log.line(), Some(1));
        advance(EVERY * 100).await;
        assert_eq!(log.line(), Some(0));
    }
}
