//! What the history and the state of a room are read without: writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::time::Duration;

use rooms_core::{BroadcastError, JoinError, JoinOptions};

use fleet::{Node, key, quick};
use redis_server::RedisServer;

const MARK: &str = "rooms:mark:{ws:log:1}";

/// Settings with which Redis takes no writes as it has no replicas, and as it can't save.
const NO_WRITES: [&[&str]; 2] = [&["min-replicas-to-write", "1"], &["maxmemory", "1"]];

#[tokio::test]
async fn what_was_missed_is_given_and_joins_go_on_where_redis_takes_no_writes() {
    let redis = RedisServer::start().await;
    for (refusal, number) in NO_WRITES.iter().zip(1..) {
        let (log, board) = (format!("log:{number}"), format!("board:{number}"));
        let one = Node::start(quick(redis.url())).await;
        let first = one.rooms.broadcast(&key(&log), &1).await.unwrap().position.unwrap();
        one.rooms.broadcast(&key(&log), &2).await.unwrap();
        one.rooms.broadcast_state(&key(&board), &7).await.unwrap();
        let set = [&["CONFIG", "SET"], *refusal].concat();
        assert_eq!(redis.cli(&set).await, "OK");
        let refused = one.rooms.broadcast(&key(&log), &3).await.unwrap_err();
        assert!(matches!(refused, BroadcastError::Bus { .. }), "{refused:?}");

        // A node that has read nothing yet, and a mark that is to be renewed.
        redis.cli(&["CONFIG", "SET", refusal[0], "0"]).await;
        redis.cli(&["EXPIRE", &format!("rooms:mark:{{ws:{log}}}"), "60"]).await;
        assert_eq!(redis.cli(&set).await, "OK");
        let two = Node::start(quick(redis.url())).await;
        let mut back = two.join_with("a", &log, JoinOptions::new().since(first.to_string())).await.unwrap();
        assert_eq!(back.next().await, 2, "{refusal:?}");
        assert_eq!(two.join("b", &board).await.next().await["state"], 7, "{refusal:?}");
        // Where a log would begin.
        let refused = two.try_join("c", &format!("log:{number}0")).await.err();
        assert!(matches!(refused, Some(JoinError::Unavailable { .. })), "{refused:?}");
        redis.cli(&["CONFIG", "SET", refusal[0], "0"]).await;
    }
}

#[tokio::test]
async fn a_read_puts_off_when_the_mark_expires_and_writes_no_more_than_that_needs() {
    let redis = RedisServer::start().await;
    let node = Node::start(quick(redis.url())).await;
    node.rooms.broadcast(&key("log:1"), &1).await.unwrap();
    let expires = async || redis.cli(&["TTL", MARK]).await.parse::<u64>().unwrap();
    let writes = async || {
        let stats = redis.cli(&["INFO", "commandstats"]).await;
        let pexpire = stats.lines().find_map(|line| line.strip_prefix("cmdstat_pexpire:calls=").map(str::to_owned));
        pexpire.map_or(0, |rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    let (half_a_day, day) = (43_200, 86_400);
    let age = Duration::from_secs(3_600).as_secs();
    for (left, renewed) in [(age + half_a_day + 60, false), (age + half_a_day - 60, true), (60, true)] {
        redis.cli(&["EXPIRE", MARK, &left.to_string()]).await;
        let before = writes().await;
        // Each reads as it begins.
        let other = Node::start(quick(redis.url())).await;
        let _here = other.join_with("a", "log:1", JoinOptions::new().newest(1)).await.unwrap();
        assert_eq!(writes().await - before > 0, renewed, "{left}");
        assert_eq!(expires().await > age + day - 60, renewed, "{left}");
    }
}
