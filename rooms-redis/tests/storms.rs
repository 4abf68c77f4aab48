//! Numbered messages through faults: each member is given them in order and once, and what it misses lies in a
//! window that it was told of.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "support/storm.rs"]
mod storm;

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use proxy::{Link, Proxy};
use redis_server::RedisServer;
use storm::Storm;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_faults_nothing_is_missed() {
    let storm = Storm::begin(RedisServer::start().await).await;
    assert_eq!(storm.check(0).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_at_once_with_empty_data() {
    let mut storm = Storm::begin(RedisServer::start().await).await;
    for _ in 0..3 {
        storm.redis.kill();
        storm.redis.restart().await;
        storm.is_over(1).await;
        sleep(Duration::from_millis(200)).await;
    }
    storm.check(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_and_gone_on() {
    let storm = Storm::begin(RedisServer::start().await).await;
    storm.redis.freeze();
    sleep(Duration::from_secs(2)).await;
    assert!(storm.nodes.iter().all(|node| !node.bus.health().connected));
    storm.redis.thaw();
    storm.is_over(0).await;
    storm.check(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_killed_again_and_again() {
    let storm = Storm::begin(RedisServer::start().await).await;
    for round in 1..=5 {
        assert_eq!(storm.redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await, "4", "in round {round}");
        storm.is_over(round).await;
    }
    // Twice a round at most: a message that reached nobody is a gap of its own.
    storm.check(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_killed_again_and_again_lose_nothing() {
    let storm = Storm::begin(RedisServer::start().await).await;
    for _ in 0..5 {
        storm.redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        storm.is_over(0).await;
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(storm.check(0).await, 0, "what all nodes were to be given, they were");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_for_reading_too_slowly() {
    let redis = RedisServer::with(&["--client-output-buffer-limit", "pubsub 1mb 1mb 0"]).await;
    let proxy = Proxy::before(redis.port).await;
    let url = proxy.url();
    let storm = Storm::begin_at(redis, url).await;
    let mut elsewhere = Vec::new();
    for node in &storm.nodes[..3] {
        elsewhere.push(node.join("u", "post:43").await);
    }
    proxy.set_present(Link::Stalled);
    // Far more than fits in the sockets on the way: the rest is thrown away with the connection.
    flood(storm.redis.port, "ws:post:43", 300).await;
    let clients = storm.redis.cli(&["CLIENT", "LIST"]).await;
    assert_eq!(clients.matches(":sub ").count(), 1, "the publishing node's: {clients}");
    proxy.set_present(Link::Open);
    storm.is_over(1).await;
    let missed = storm.check(4).await;
    assert!(missed > 0, "or it was no storm");
}

/// Publishes long messages as fast as Redis takes them.
async fn flood(port: u16, channel: &str, count: usize) {
    let mut redis = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let payload = format!("\"{}\"", "x".repeat(60_000));
    let command = format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n$60002\r\n{payload}\r\n", channel.len());
    redis.write_all(command.repeat(count).as_bytes()).await.unwrap();
    redis.read_exact(&mut vec![0; ":0\r\n".len() * count]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_from_some_nodes_and_not_from_others() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::before(redis.port).await;
    let url = proxy.url();
    let storm = Storm::begin_at(redis, url).await;
    for round in 1..=4 {
        proxy.cut();
        storm.is_over(round).await;
    }
    let missed = storm.check(8).await;
    assert!(missed > 0, "or it was no storm");
}
