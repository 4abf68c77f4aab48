//! The wall clock, behind a seam: token times are the only thing that it is asked for.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// Tells the time of day. Everything but token expiry goes by tokio's clock.
pub trait WallClock: fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The longest wait for a token's end before the wall clock is asked again. One hour: a far `exp` overflows no timer,
/// and a clock that was set forward is noticed.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How long to wait for `end` before asking again; `None` when it is past.
pub(crate) fn wait_until(end: SystemTime, now: SystemTime) -> Option<Duration> {
    match end.duration_since(now) {
        Ok(left) if !left.is_zero() => Some(left.min(LONGEST_WAIT)),
        _ => None,
    }
}
