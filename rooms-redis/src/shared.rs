//! What the handles and the two supervising tasks of one bus share.

use tokio::sync::watch;

use crate::{
    channels::{Channel, Names},
    health::Counters,
    limits::RedisLimits,
    publisher::Queue,
    server::Server,
    status::Status,
    subscriptions::Subscriptions,
};

pub(crate) struct Shared {
    pub(crate) server: Server,
    pub(crate) names: Names,
    /// What the connections are called in `CLIENT LIST`.
    pub(crate) client_name: String,
    pub(crate) limits: RedisLimits,
    pub(crate) counters: Counters,
    pub(crate) status: Status,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) queue: Queue,
    /// The channel on which this bus hears itself.
    pub(crate) probe: Channel,
    /// The last probe that arrived: on which connection, and its number there.
    pub(crate) probe_arrived: watch::Sender<(u64, u64)>,
    /// The number of the last connection that was found deaf.
    pub(crate) condemned: watch::Sender<u64>,
}
