//! `RedisBus` keeps the contract of the bus over a cluster, with sharded and with classic channels.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/redis_server.rs"]
mod redis_server;

use futures::future::join_all;
use rooms_core::{
    bus::Topic,
    testing::bus_conformance::{Backplane, Cut},
};
use rooms_redis::{PubSub, RedisBus};

use cluster::Cluster;

struct Nodes {
    cluster: Cluster,
    peers: Vec<RedisBus>,
}

impl Nodes {
    async fn start(pubsub: PubSub) -> Self {
        let cluster = Cluster::start().await;
        for node in &cluster.nodes {
            node.cli(&["ACL", "SETUSER", "default", "resetchannels", "&ws:conformance:*", "&rooms-*"]).await;
        }
        let mut peers = Vec::new();
        for _ in 0..3 {
            peers.push(cluster.quick(pubsub).connect().await.unwrap());
        }
        Self { cluster, peers }
    }
}

impl Backplane for Nodes {
    type Bus = RedisBus;

    fn peers(&self) -> &[RedisBus] {
        &self.peers
    }

    fn stubborn(&self) -> Option<Topic> {
        Some(Topic::Room("forbidden:1".parse().unwrap()))
    }

    async fn cut(&mut self) -> Cut {
        self.cluster.nodes.iter_mut().for_each(redis_server::RedisServer::kill);
        Cut::Done
    }

    async fn mend(&mut self) {
        join_all(self.cluster.nodes.iter_mut().map(redis_server::RedisServer::restart)).await;
    }

    async fn forget(&mut self) -> Cut {
        for node in &self.cluster.nodes {
            node.cli(&["FLUSHALL"]).await;
            node.cli(&["SCRIPT", "FLUSH"]).await;
        }
        Cut::Done
    }
}

mod sharded {
    use super::*;
    rooms_core::bus_conformance!(Nodes::start(PubSub::Sharded).await);
}

mod classic {
    use super::*;
    rooms_core::bus_conformance!(Nodes::start(PubSub::Classic).await);
}
