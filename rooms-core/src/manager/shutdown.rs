//! Going down without a herd behind.

use std::time::Duration;

use tokio::time::{Instant, interval, sleep, sleep_until, timeout_at};

use super::RoomManager;
use crate::{
    close::Close,
    context::Shared,
    drain::{Drain, SOONEST},
    limits::FOREVER,
    outbox::Waiting,
    presence::Share,
};

/// Connections are closed at least this fast, so that a few of them do not take the whole time: 100 a second.
const PACE: Duration = Duration::from_millis(10);

/// How a process goes down; see [`RoomManager::shutdown`], which also takes the first of these as a bare `Duration`.
///
/// ```
/// use std::time::Duration;
/// use rooms_core::{Close, RoomManager, Shutdown};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// # let rooms: RoomManager = RoomManager::builder().build().unwrap();
/// let shutdown = Shutdown::within(Duration::from_secs(10))
///     .at_least(Duration::from_secs(5)) // above the period of the readiness probe
///     .close(Close::GOING_AWAY);
/// let start = tokio::time::Instant::now();
/// rooms.shutdown(shutdown).await;
/// assert!(start.elapsed() >= Duration::from_secs(5), "though nobody was there");
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a shutdown is begun by `RoomManager::shutdown`"]
pub struct Shutdown {
    within: Duration,
    at_least: Duration,
    come_back: Duration,
    close: Close,
}

impl Shutdown {
    /// The time over which the connections are closed, at most: so long has a slow member to take what waits for it.
    pub const fn within(within: Duration) -> Self {
        Self { within, at_least: Duration::ZERO, come_back: SOONEST, close: Close::RESTART }
    }

    /// How long the shutdown takes at least, however few connections there are: zero unless set.
    ///
    /// A process that is gone at once is seen by no readiness probe: what stands in front of it sends it clients for
    /// some time more, who find nobody. Longer than the period of the probe, such as 5 s. Meanwhile upgrades are refused
    /// with 503.
    pub fn at_least(self, at_least: Duration) -> Self {
        Self { at_least, ..self }
    }

    /// How soon after its close a member is asked to come back, at the earliest: 500 ms unless set. The later ones follow
    /// over half a second for each thousand members that there are, at most over five seconds.
    ///
    /// The `leave_grace` of a kind is to be longer than this, the five seconds, and a connect, such as 10 s: then nobody
    /// is told that the members of this process have left.
    pub fn come_back(self, soonest: Duration) -> Self {
        Self { come_back: soonest, ..self }
    }

    /// What the connections are closed with: [`Close::RESTART`], 1012, unless set. [`Close::GOING_AWAY`], 1001, is for
    /// clients that take 1012 for a protocol error, as some libraries do which know only the codes of RFC 6455.
    pub fn close(self, close: Close) -> Self {
        Self { close, ..self }
    }
}

impl From<Duration> for Shutdown {
    fn from(within: Duration) -> Self {
        Self::within(within)
    }
}

impl<S> RoomManager<S> {
    /// Refuses new connections (an upgrade gets 503 with `Retry-After`), closes the ones there are, with 1012 `restart`
    /// unless `how` says otherwise, and resolves when all are gone. `how` is a [`Shutdown`], or a `Duration` for
    /// [`Shutdown::within`].
    ///
    /// [`is_draining`](Self::is_draining), which is for a readiness check, says so from the call on. The closing is
    /// spread over four fifths of `within`, and is faster where there are few: at least a hundred a second. What waits for
    /// a member goes out before its close frame, if the member takes it within that time. Each is told before the close
    /// when to come back, by an event `reconnect` with a random `in_ms`; see [`Shutdown::come_back`].
    ///
    /// Where there are other nodes, members that are kept for a kind's `leave_grace` have time to come back on those:
    /// while there are any, this node stays, for as long as a connection may. Then the rest are told to have left, the
    /// hooks about that, and about rooms that are empty, run, and the other nodes are told good-bye, who count out at
    /// once whoever is left.
    ///
    /// It takes at most `within` and three times `Limits::close_timeout`: one for members that do not take their close,
    /// one for hooks, and one for a bus that does not let go; where [`Shutdown::at_least`] is more, at most that and the
    /// last two. May be called again: the first call decides how. Dropping the future leaves the rest connected, and new
    /// connections refused.
    pub async fn shutdown(&self, how: impl Into<Shutdown>) {
        let how = how.into();
        let shared = &self.shared;
        // A shutdown that had begun before decides; this one waits for the same end.
        let drain = shared.drain.get_or_init(|| {
            let times = [how.within, how.at_least, how.come_back].map(|time| time.min(FOREVER));
            Drain::begin(times, how.close, shared.users.connections())
        });
        let deadline = drain.flush_by() + shared.limits.close_timeout;
        let connections = shared.users.all();
        // Four fifths for the closing, one for the last of them to say good-bye.
        let pace = drain.within.mul_f64(0.8) / u32::try_from(connections.len().max(1)).unwrap_or(u32::MAX);
        let mut ticks = interval(pace.clamp(Duration::from_nanos(1), PACE));
        for connection in connections {
            ticks.tick().await;
            connection.close_after(drain.come_back(), drain.close.clone());
        }
        if timeout_at(deadline, shared.users.gone()).await.is_err() {
            tracing::warn!(connections = shared.users.connections(), "connections were left at the end of a shutdown");
        }
        if !shared.presence.is_alone() {
            _ = timeout_at(deadline, shared.nobody_departing()).await;
        }
        sleep_until(drain.begun + drain.at_least).await;
        for room in shared.registry.rooms() {
            let ((), effects) = room.change_share(|share| ((), share.end_graces(Instant::now())));
            shared.registry.act(&room, effects);
        }
        let more = || deadline.max(Instant::now() + shared.limits.close_timeout);
        if timeout_at(more(), shared.registry.hooks.over()).await.is_err() {
            tracing::warn!("hooks were running still at the end of a shutdown");
        }
        // Nobody is left in a room but who subscribed to it.
        for recipient in shared.registry.rooms().iter().flat_map(|room| room.recipients()) {
            recipient.close(drain.close.clone(), Waiting::Flush);
        }
        let good_bye = async {
            // So that the other nodes count this one's members out at once, and do not wait for its silence.
            shared.presence.goodbye().await;
            shared.bus.close().await;
        };
        // A bus that does not let go keeps nobody.
        _ = timeout_at(more(), good_bye).await;
    }
}

impl Shared {
    /// Resolves when no room shows a member that has left: each has come back on another node, or was away for the grace
    /// of its kind. Looked at once a viewer window, which is how often other nodes say who is there.
    async fn nobody_departing(&self) {
        while self.registry.rooms().iter().any(|room| room.share(Share::has_departing)) {
            sleep(self.limits.viewer_window).await;
        }
    }
}
