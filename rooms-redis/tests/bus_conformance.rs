//! `RedisBus` keeps the contract of the bus, over a server that is killed and restarted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/redis_server.rs"]
mod redis_server;

use rooms_core::{
    bus::Topic,
    bus_conformance,
    testing::bus_conformance::{Backplane, Cut},
};
use rooms_redis::RedisBus;

use redis_server::RedisServer;

struct Single {
    redis: RedisServer,
    peers: Vec<RedisBus>,
}

impl Single {
    async fn start() -> Self {
        let redis = RedisServer::start().await;
        redis.cli(&["ACL", "SETUSER", "default", "resetchannels", "&ws:conformance:*", "&rooms-*"]).await;
        let mut peers = Vec::new();
        for _ in 0..3 {
            peers.push(RedisBus::connect(redis.url()).await.unwrap());
        }
        Self { redis, peers }
    }
}

impl Backplane for Single {
    type Bus = RedisBus;

    fn peers(&self) -> &[RedisBus] {
        &self.peers
    }

    fn stubborn(&self) -> Option<Topic> {
        Some(Topic::Room("forbidden:1".parse().unwrap()))
    }

    async fn cut(&mut self) -> Cut {
        self.redis.kill();
        Cut::Done
    }

    async fn mend(&mut self) {
        self.redis.restart().await;
    }

    async fn forget(&mut self) -> Cut {
        self.redis.cli(&["FLUSHALL"]).await;
        self.redis.cli(&["SCRIPT", "FLUSH"]).await;
        Cut::Done
    }
}

bus_conformance!(Single::start().await);
