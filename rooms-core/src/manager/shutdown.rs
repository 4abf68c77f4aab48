//! Going down without a herd behind.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::Ordering,
    time::Duration,
};

use tokio::time::{Instant, interval, timeout_at};

use super::RoomManager;
use crate::{close::Close, limits::FOREVER, message::Message, protocol};

/// Connections are closed at least this fast, so that a few of them do not take the whole time: 100 a second.
const PACE: Duration = Duration::from_millis(10);

/// When a member is asked to come back after its close, at the earliest and at the latest. Half a second: whatever stands
/// in front of the processes has seen by then that this one takes nobody. The rest spreads what a restart sets free at
/// once over five seconds, on top of the time that the closing takes.
const COME_BACK: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(5_500)];

impl<S> RoomManager<S> {
    /// Refuses new connections (an upgrade gets 503 with `Retry-After`), closes the ones there are with 1012 `restart`, spread over `within`, and resolves when
    /// all are gone, or `Limits::close_within` after that time; a bus that does not let go is given as long again.
    ///
    /// [`is_draining`](Self::is_draining), which is for a readiness check, says so from the call on. What waits for a
    /// member goes out before its close frame, if the member takes it within `within`. Each is told before the close when
    /// to come back, by an event `reconnect` with a random `in_ms` of half a second to five and a half. At least a
    /// hundred connections are closed a second, so a small process is gone long before `within`.
    ///
    /// Hooks about who has left, and about rooms that are empty, have as long.
    ///
    /// At the end the other nodes are told good-bye, and count out at once whoever is left. May be called again;
    /// dropping the future leaves the rest connected, and new connections refused.
    pub async fn shutdown(&self, within: Duration) {
        let shared = &self.shared;
        let within = within.min(FOREVER);
        let flush_by = Instant::now() + within;
        // The first shutdown counts.
        _ = shared.flush_by.set(flush_by);
        shared.draining.store(true, Ordering::Relaxed);
        let deadline = flush_by + shared.limits.close_within;
        let outboxes = shared.users.outboxes();
        // Four fifths for the closing, one for the last of them to say good-bye.
        let pace = within.mul_f64(0.8) / u32::try_from(outboxes.len().max(1)).unwrap_or(u32::MAX);
        let mut ticks = interval(pace.clamp(Duration::from_nanos(1), PACE));
        for outbox in outboxes {
            ticks.tick().await;
            outbox.close_after(come_back(), Close::RESTART);
        }
        if timeout_at(deadline, shared.users.gone()).await.is_err() {
            tracing::warn!(connections = shared.users.connections(), "connections were left at the end of a shutdown");
        }
        for room in shared.registry.rooms() {
            shared.registry.act(&room, room.end_graces());
        }
        if timeout_at(deadline, shared.registry.hooks.over()).await.is_err() {
            tracing::warn!("hooks were running still at the end of a shutdown");
        }
        let good_bye = async {
            // So that the other nodes count this one's members out at once, and do not wait for its silence.
            shared.presence.bye().await;
            shared.bus.close().await;
        };
        // A bus that does not let go keeps nobody.
        _ = timeout_at(deadline.max(Instant::now() + shared.limits.close_within), good_bye).await;
    }
}

/// The event that says when to come back: at a time between the bounds, another one for each member.
pub(crate) fn come_back() -> Message {
    let [least, most] = COME_BACK;
    let spread = u64::try_from((most - least).as_millis()).unwrap_or(u64::MAX);
    // Each state has keys of its own, so this is as random as the seed of a hash map.
    protocol::reconnect(least + Duration::from_millis(RandomState::new().hash_one(()) % spread))
}
