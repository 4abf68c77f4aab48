//! A process that publishes as fast as it can while Redis is away keeps its size. The one test of this file, as it measures
//! the process it runs in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::{fs, time::Duration};

use futures::future::join_all;
use tokio::time::{Instant, timeout};

use fleet::{Node, key, quick};
use redis_server::{RedisServer, size};

/// The memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// A thousand callers who broadcast a kilobyte again and again; gives how many broadcasts came to an end.
async fn publish(node: &Node, time: Duration) -> u64 {
    let (until, room, text) = (Instant::now() + time, key("post:42"), "x".repeat(1_000));
    let callers = (0..1_000).map(|_| async {
        let mut count = 0;
        while Instant::now() < until {
            // Whoever gives up leaves his message where it waits.
            _ = timeout(Duration::from_millis(1), node.rooms.broadcast(&room, &text)).await;
            count += 1;
            tokio::task::yield_now().await;
        }
        count
    });
    join_all(callers).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_at_full_load_while_redis_is_frozen_or_gone_costs_no_memory() {
    let mut redis = RedisServer::start().await;
    let node = Node::start(quick(redis.url()).limits(|limits| limits.max_queue_bytes = 1024 * 1024)).await;
    let while_it_works = publish(&node, Duration::from_millis(500)).await;
    assert!(while_it_works > 1_000, "{while_it_works}");

    let before = resident();
    redis.freeze();
    let frozen = publish(&node, Duration::from_secs(size(2, 60))).await;
    redis.thaw();
    redis.kill();
    let gone = publish(&node, Duration::from_secs(size(2, 60))).await;
    let grown = resident().saturating_sub(before);
    assert!(frozen > 10_000 && gone > 10_000, "that was no load: {frozen} while frozen, {gone} while gone");
    assert!(grown < 8 * 1024 * 1024, "grown by {grown} bytes after {frozen} and {gone} broadcasts");
    println!("grown by {grown} bytes after {frozen} broadcasts while frozen and {gone} while gone");
}
