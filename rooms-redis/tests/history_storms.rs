//! Outages that are shorter than a history: nobody misses a message, and nobody is told to fetch.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "support/sentinels.rs"]
mod sentinels;
#[path = "support/storm.rs"]
mod storm;

use std::time::Duration;

use rooms_redis::PubSub;
use tokio::time::sleep;

use cluster::Cluster;
use fleet::quick;
use proxy::{Link, Proxy};
use redis_server::RedisServer;
use sentinels::Watched;
use storm::Storm;

const ROOM: &str = "log:42";
const CHANNEL: &str = "ws:log:42";

/// What is kept of the room, in the order in which it is moved.
const KEYS: [&str; 2] = ["rooms:mark:{ws:log:42}", "rooms:log:{ws:log:42}"];

/// A server that has its data back after it was killed.
async fn saving() -> RedisServer {
    RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await
}

async fn begin(redis: RedisServer) -> Storm {
    let url = redis.url();
    Storm::in_room(ROOM, redis, || quick(url.clone()), quick(url.clone())).await
}

async fn all_is_there<R: Send + Sync>(storm: Storm<R>) {
    assert_eq!(storm.check(0).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_back_with_its_data() {
    let mut storm = begin(saving().await).await;
    for _ in 0..3 {
        storm.redis.kill();
        sleep(Duration::from_millis(300)).await;
        storm.redis.restart().await;
        storm.is_over(1).await;
        sleep(Duration::from_millis(200)).await;
    }
    all_is_there(storm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_and_gone_on() {
    let storm = begin(RedisServer::start().await).await;
    storm.redis.freeze();
    sleep(Duration::from_secs(2)).await;
    storm.redis.thaw();
    storm.is_over(0).await;
    all_is_there(storm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_killed_again_and_again() {
    let storm = begin(RedisServer::start().await).await;
    for round in 1..=5 {
        storm.redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        storm.is_over(round).await;
        storm.redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        storm.is_over(round).await;
    }
    all_is_there(storm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_cut_and_stalled() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::before(redis.port).await;
    let (url, publishing) = (proxy.url(), quick(redis.url()));
    let storm = Storm::in_room(ROOM, redis, || quick(url.clone()), publishing).await;
    for round in 1..=4 {
        proxy.cut();
        storm.is_over(round).await;
    }
    for link in [Link::Mute, Link::Stalled] {
        proxy.set_present(link);
        sleep(Duration::from_secs(1)).await;
        proxy.set(Link::Open);
        storm.is_over(4).await;
    }
    all_is_there(storm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_relieved_by_a_replica_that_has_the_log() {
    let storm = replicated().await;
    assert_eq!(storm.redis.sentinels[0].cli(&["SENTINEL", "FAILOVER", "service"]).await, "OK");
    storm.redis.until_master(1).await;
    storm.is_over(1).await;
    all_is_there(storm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_killed_while_a_replica_has_the_log() {
    let mut storm = replicated().await;
    storm.redis.servers[0].kill();
    storm.redis.until_master(1).await;
    storm.is_over(1).await;
    all_is_there(storm).await;
}

/// A storm over a master that takes no more writes, and a replica that has all there were.
async fn replicated() -> Storm<Watched> {
    let watched = Watched::start().await;
    let (urls, publishing) = (watched.urls(), watched.quick());
    let storm = Storm::in_room(ROOM, watched, || sentinels::quick(urls.clone()), publishing).await;
    let [master, replica] = &storm.redis.servers;
    master.cli(&["CLIENT", "PAUSE", "30000", "WRITE"]).await;
    let offset = |info: String| info.lines().find(|line| line.starts_with("master_repl_offset")).unwrap().to_owned();
    let of = async |server: &RedisServer| offset(server.cli(&["INFO", "replication"]).await);
    while of(master).await != of(replica).await {
        sleep(Duration::from_millis(5)).await;
    }
    storm
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moved_with_its_log() {
    let cluster = Cluster::start().await;
    let (urls, publishing) = (cluster.urls(), cluster.quick(PubSub::Sharded));
    let storm = Storm::in_room(ROOM, cluster, || cluster::quick(&urls, PubSub::Sharded), publishing).await;
    let from = storm.redis.owner(CHANNEL).await;
    let to = (from + 1) % 3;
    storm.redis.move_slot(CHANNEL, from, to).await;
    storm.redis.until_listeners(to, CHANNEL, 3).await;
    storm.redis.move_slot(CHANNEL, to, from).await;
    storm.redis.until_listeners(from, CHANNEL, 3).await;
    storm.is_over(0).await;
    all_is_there(storm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moved_key_by_key_while_there_is_traffic() {
    let cluster = Cluster::start().await;
    let (urls, publishing) = (cluster.urls(), cluster.quick(PubSub::Sharded));
    let storm = Storm::in_room(ROOM, cluster, || cluster::quick(&urls, PubSub::Sharded), publishing).await;
    let cluster = &storm.redis;
    let from = cluster.owner(CHANNEL).await;
    let to = (from + 1) % 3;
    for (from, to) in [(from, to), (to, from)] {
        cluster.begin_move(CHANNEL, from, to).await;
        for key in KEYS {
            sleep(Duration::from_millis(150)).await;
            cluster.move_keys(&[key], from, to).await;
        }
        sleep(Duration::from_millis(150)).await;
        cluster.end_move(CHANNEL, from, to).await;
        cluster.until_listeners(to, CHANNEL, 3).await;
    }
    storm.is_over(0).await;
    all_is_there(storm).await;
}
