//! Going down without a herd behind.

use std::{sync::atomic::Ordering, time::Duration};

use futures::Sink;
use tokio::time::{Instant, interval, timeout_at};

use super::RoomManager;
use crate::{close::Close, limits::FOREVER, message::Message, outbox::Waiting};

/// Connections are closed at least this fast, so that a few of them do not take the whole time: 100 a second.
const PACE: Duration = Duration::from_millis(10);

impl<S: Sink<Message> + Unpin + Send + 'static> RoomManager<S> {
    /// Refuses new connections, closes the ones there are with 1012 `restart`, spread over `within`, and resolves when
    /// all are gone, or `Limits::close_within` after that time; a bus that does not let go is given as long again.
    ///
    /// What waits for a member goes out before its close frame. At least a hundred connections are closed a second, so a
    /// small process is gone long before `within`. May be called again; dropping the future leaves the rest connected,
    /// and new connections refused.
    pub async fn shutdown(&self, within: Duration) {
        let shared = &self.shared;
        let within = within.min(FOREVER);
        shared.draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + within + shared.limits.close_within;
        let outboxes = shared.users.outboxes();
        // Four fifths for the closing, one for the last of them to say good-bye.
        let pace = within.mul_f64(0.8) / u32::try_from(outboxes.len().max(1)).unwrap_or(u32::MAX);
        let mut ticks = interval(pace.clamp(Duration::from_nanos(1), PACE));
        for outbox in outboxes {
            ticks.tick().await;
            outbox.close(Close::RESTART, Waiting::Flush);
        }
        if timeout_at(deadline, shared.users.gone()).await.is_err() {
            tracing::warn!(connections = shared.users.connections(), "connections were left at the end of a shutdown");
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
