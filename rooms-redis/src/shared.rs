//! What the handles and the tasks of one bus share.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    builder::PubSub, channels::Names, cluster::Nodes, health::Counters, lanes::Lanes, limits::RedisLimits,
    status::Status, subscriptions::Subscriptions,
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
    pub(crate) lanes: Lanes,
}

impl Shared {
    /// How many connections it may take to be connected, one after the other.
    pub(crate) fn steps(&self) -> usize {
        let lane = self.lanes.all().iter().map(|lane| lane.server.steps()).max().unwrap_or(1);
        lane + self.nodes.as_ref().map_or(0, |nodes| nodes.count())
    }

    /// Something is not as the cluster was.
    pub(crate) fn doubt(&self) {
        if let Some(nodes) = &self.nodes {
            nodes.doubt();
        }
    }
}
