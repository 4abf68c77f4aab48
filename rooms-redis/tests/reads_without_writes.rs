//! What the history and the state of a room are read without: writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::time::Duration;

use rooms_core::{
    BroadcastError, JoinError, JoinOptions,
    bus::{NewState, Outcome, States as _, Topic},
};
use rooms_redis::RedisBus;

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

#[tokio::test]
async fn a_server_that_takes_over_and_takes_no_writes_yet_gives_its_states_as_another_epoch() {
    const STATE: &str = "rooms:state:{ws:board:1}";
    let board = Topic::Room(key("board:1"));
    let keep = Duration::from_secs(3_600);
    let redis = RedisServer::start().await;
    let before = RedisBus::connect(redis.url()).await.unwrap();
    let Outcome::Set(first) = before.set_state(&board, NewState::new(None, "1".into(), keep)).await.unwrap() else {
        panic!()
    };
    let of = redis.port.to_string();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &of, "--repl-diskless-sync-delay", "0"]).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while replica.cli(&["HGET", STATE, "offset"]).await != "1" {
        assert!(tokio::time::Instant::now() < deadline, "the replica does not follow");
    }
    replica.cli(&["REPLICAOF", "NO", "ONE"]).await;
    replica.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let after = RedisBus::connect(replica.url()).await.unwrap();
    let kept = after.state(&board, keep).await.unwrap().unwrap();
    assert!(kept.revision.epoch() != first.epoch() && kept.revision.offset() == 1, "{first}, {kept:?}");
    assert_eq!(after.state(&board, keep).await.unwrap(), Some(kept.clone()), "all read the same");
    replica.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    let set = after.set_state(&board, NewState::new(Some(kept.revision), "2".into(), keep)).await.unwrap();
    assert!(
        matches!(set, Outcome::Set(second) if second.offset() == 2),
        "what it was given is what it takes the place of: {set:?}"
    );
}
