//! What the handles and the tasks of one bus share.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    channels::Names, cluster::Nodes, health::Counters, limits::RedisLimits, pubsub::PubSub, status::Status,
    subscriptions::Subscriptions,
};

pub(crate) struct Shared {
    pub(crate) runtime: Handle,
    /// Of this bus, at random.
    pub(crate) id: String,
    pub(crate) names: Names,
    /// What the connections are called in `CLIENT LIST`.
    pub(crate) client_name: String,
    pub(crate) limits: RedisLimits,
    /// Which commands are used.
    pub(crate) pubsub: PubSub,
    /// The nodes of the cluster, if it is one.
    pub(crate) nodes: Option<Arc<Nodes>>,
    pub(crate) counters: Counters,
    pub(crate) status: Arc<Status>,
    pub(crate) subscriptions: Subscriptions,
}

impl Shared {
    /// Something is not as the cluster was.
    pub(crate) fn doubt(&self) {
        if let Some(nodes) = &self.nodes {
            nodes.doubt();
        }
    }
}
