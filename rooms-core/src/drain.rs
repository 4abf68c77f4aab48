//! A shutdown that has begun, and when its members are asked to come back.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;

use crate::{close::Close, message::Message, protocol};

/// When a member is asked to come back after its close, at the earliest: whatever stands in front of the processes has
/// seen by then that this one takes nobody.
pub(crate) const SOONEST: Duration = Duration::from_millis(500);

/// What each member adds to the time over which they come back: two thousand a second, beside the time that the closing
/// takes, and so for one member none.
const SPREAD_EACH: Duration = Duration::from_micros(500);

/// The longest spread: the time of ten thousand members. A page that is away for longer looks broken.
const LONGEST_SPREAD: Duration = Duration::from_secs(5);

/// A shutdown that has begun.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) begun: Instant,
    pub(crate) within: Duration,
    pub(crate) at_least: Duration,
    pub(crate) close: Close,
    soonest: Duration,
    spread: Duration,
}

impl Drain {
    /// Begins now, for so many members.
    pub(crate) fn begin([within, at_least, soonest]: [Duration; 3], close: Close, members: usize) -> Self {
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        let spread = SPREAD_EACH.saturating_mul(members).min(LONGEST_SPREAD);
        Self { begun: Instant::now(), within, at_least, close, soonest, spread }
    }

    /// Until when what waits for a member may go out.
    pub(crate) fn flush_by(&self) -> Instant {
        self.begun + self.within
    }

    /// The event that says when to come back: at a random time, another one for each member.
    pub(crate) fn come_back(&self) -> Message {
        come_back(self.soonest, self.spread)
    }
}

/// What a client is told that is turned away with [`Close::RESTART`] by nobody who knows how many there are.
pub(crate) fn come_back_some_time() -> Message {
    come_back(SOONEST, LONGEST_SPREAD)
}

fn come_back(soonest: Duration, spread: Duration) -> Message {
    let spread = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX).max(1);
    // Each state has keys of its own, so this is as random as the seed of a hash map.
    protocol::reconnect(soonest + Duration::from_millis(RandomState::new().hash_one(()) % spread))
}
