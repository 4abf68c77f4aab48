//! What is wrong with a history is an error or a `resync` in its room, and is felt by no other: rooms without a history go on
//! whatever it is, and so do other histories where it is in the keys of one room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::error::Error;

use rooms_core::{BroadcastError, JoinOptions, Receipt, bus::Position};
use serde_json::{Value, json};

use fleet::{Member, Node, key, quick};
use redis_server::RedisServer;

type Commands = &'static [&'static [&'static str]];

/// `LOG` and `MARK` stand for the keys of the room.
struct Fault {
    begin: Commands,
    end: Commands,
    /// What the error says of a broadcast to the room; nothing where it goes out.
    says: Option<&'static str>,
    /// It is in the keys of the room alone.
    is_of_one_room: bool,
    /// Why members that stay are told to fetch.
    told: Option<&'static str>,
}

const REFUSED: Fault = Fault { begin: &[], end: &[], says: None, is_of_one_room: false, told: None };
const SPOILT: Fault = Fault { is_of_one_room: true, ..REFUSED };

const FAULTS: [Fault; 10] = [
    Fault {
        begin: &[&["CONFIG", "SET", "maxmemory", "1"]],
        end: &[&["CONFIG", "SET", "maxmemory", "0"]],
        says: Some("OOM"),
        ..REFUSED
    },
    Fault {
        begin: &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
        end: &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
        says: Some("NOREPLICAS"),
        ..REFUSED
    },
    Fault {
        begin: &[&["ACL", "SETUSER", "default", "-eval", "-evalsha"]],
        end: &[&["ACL", "SETUSER", "default", "+eval", "+evalsha"]],
        says: Some("NOPERM"),
        ..REFUSED
    },
    Fault { begin: &[&["SCRIPT", "FLUSH"]], ..REFUSED },
    Fault { begin: &[&["FLUSHALL"]], told: Some("epoch"), ..REFUSED },
    Fault { begin: &[&["SET", "LOG", "not ours"]], end: &[&["DEL", "LOG"]], says: Some("WRONGTYPE"), ..SPOILT },
    Fault {
        begin: &[&["SET", "MARK", "not ours"]],
        end: &[&["DEL", "MARK"]],
        says: Some("WRONGTYPE"),
        told: Some("epoch"),
        ..SPOILT
    },
    Fault { begin: &[&["RPUSH", "LOG", "not ours"]], ..SPOILT },
    // As Redis evicts keys to make room.
    Fault { begin: &[&["DEL", "LOG"]], ..SPOILT },
    Fault { begin: &[&["DEL", "MARK"]], told: Some("epoch"), ..SPOILT },
];

#[tokio::test]
async fn what_is_wrong_with_a_history_is_said_in_its_room_and_felt_by_no_other() {
    let redis = RedisServer::start().await;
    for (fault, number) in FAULTS.iter().zip(1..) {
        let node = Node::start(quick(redis.url())).await;
        let [log, other, post] = [format!("log:{number}"), format!("log:other-{number}"), format!("post:{number}")];
        let mut members = Vec::new();
        for room in [&log, &other, &post] {
            members.push(node.join("a", room).await);
        }
        let [at, beside, without] = &mut members[..] else { unreachable!() };
        let first = said(&node, &log, 1).await.unwrap().position.unwrap();
        said(&node, &other, 1).await.unwrap();
        assert_eq!([at.next().await, beside.next().await], [1, 1]);
        run(&redis, fault.begin, &log).await;

        let outcome = said(&node, &log, 2).await;
        match (&outcome, fault.says) {
            (Ok(_), None) => {}
            (Err(error), Some(says)) => assert!(error.contains(says), "{:?}: {error}", fault.begin),
            other => panic!("{:?}: {other:?}", fault.begin),
        }
        if fault.is_of_one_room {
            said(&node, &other, 2).await.unwrap();
            assert_eq!(beside.next().await, 2, "{:?}", fault.begin);
            node.join("b", &other).await;
        }
        said(&node, &post, 2).await.unwrap();
        assert_eq!(without.next().await, 2, "{:?}", fault.begin);
        node.join("b", &post).await;

        run(&redis, fault.end, &log).await;
        let third = said(&node, &log, 3).await.unwrap();
        let published: Vec<Value> = outcome.is_ok().then(|| json!(2)).into_iter().chain([json!(3)]).collect();
        // All that comes after it is given.
        let next = outcome.as_ref().unwrap_or(&third).position.unwrap();
        let position = Position::new(next.epoch(), next.offset() - 1);
        let resync = |reason| json!({"type": "resync", "room": log, "reason": reason, "position": position});
        let expected: Vec<Value> = fault.told.map(resync).into_iter().chain(published.clone()).collect();
        assert_eq!(so_many(at, expected.len()).await, expected, "{:?}", fault.begin);
        // One that was away, and comes back to a node that has nothing but what Redis has.
        let elsewhere = Node::start(quick(redis.url())).await;
        let mut back = elsewhere.join_with("c", &log, JoinOptions::new().since(first.to_string())).await.unwrap();
        said(&node, &log, 4).await.unwrap();
        let given = back.up_to(&json!(4)).await;
        assert!(given == published || given[0]["type"] == "resync", "{:?}: {given:?}", fault.begin);
        assert!(fault.told.is_none() || given[0]["reason"] == "epoch", "{:?}: {given:?}", fault.begin);
    }
}

/// Broadcasts a number; where that fails, gives what the error and its causes say, in capitals.
async fn said(node: &Node, room: &str, number: u64) -> Result<Receipt, String> {
    node.rooms.broadcast(&key(room), &number).await.map_err(|error| {
        assert!(matches!(error, BroadcastError::Bus { .. }), "{error:?}");
        let (mut said, mut cause) = (String::new(), Some(&error as &dyn Error));
        while let Some(error) = cause {
            said += &error.to_string().to_uppercase();
            cause = error.source();
        }
        said
    })
}

async fn run(redis: &RedisServer, commands: Commands, room: &str) {
    let keys = [("LOG", format!("rooms:log:{{ws:{room}}}")), ("MARK", format!("rooms:mark:{{ws:{room}}}"))];
    for command in commands {
        let of = |word: &&'static str| keys.iter().find(|(name, _)| name == word).map_or(*word, |(_, key)| key);
        redis.cli(&command.iter().map(of).collect::<Vec<_>>()).await;
    }
}

async fn so_many(member: &mut Member, count: usize) -> Vec<Value> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(member.next().await);
    }
    all
}

#[tokio::test]
async fn a_node_at_a_read_only_replica_publishes_to_no_history_and_gives_its_members_everything() {
    let master = RedisServer::start().await;
    let of = master.port.to_string();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &of, "--repl-diskless-sync-delay", "0"]).await;
    let (writes, reads) = (Node::start(quick(master.url())).await, Node::start(quick(replica.url())).await);
    let first = said(&writes, "log:1", 1).await.unwrap().position.unwrap();
    let deadline = tokio::time::Instant::now() + redis_server::PATIENCE;
    while replica.cli(&["EXISTS", "rooms:mark:{ws:log:1}"]).await != "1" {
        assert!(tokio::time::Instant::now() < deadline, "the replica does not follow");
    }
    let mut there = reads.join("a", "log:1").await;
    let mut without = reads.join("a", "post:1").await;
    let error = said(&reads, "log:1", 2).await.unwrap_err();
    assert!(error.contains("READONLY"), "{error}");
    assert!(reads.try_join("a", "log:2").await.is_err(), "there is no log, and none can begin");
    said(&reads, "post:1", 1).await.unwrap();
    assert_eq!(without.next().await, 1);
    said(&writes, "log:1", 2).await.unwrap();
    assert_eq!(there.next().await, 2);
    let mut back = reads.join_with("b", "log:1", JoinOptions::new().since(first.to_string())).await.unwrap();
    assert_eq!(back.next().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_under_load_are_told_in_rooms_with_a_history_and_are_nothing_to_the_others() {
    const MESSAGES: u64 = 1_000;
    let redis = RedisServer::start().await;
    let nodes = [Node::start(quick(redis.url())).await, Node::start(quick(redis.url())).await];
    let mut members = Vec::new();
    for node in &nodes {
        members.push((node.join("a", "log:1").await, node.join("a", "post:1").await));
    }
    let load = ["log:1", "post:1"].map(|room| {
        let rooms = nodes[0].rooms.clone();
        tokio::spawn(async move {
            for number in 0..MESSAGES {
                rooms.broadcast(&key(room), &number).await.unwrap();
            }
        })
    });
    while !load.iter().all(tokio::task::JoinHandle::is_finished) {
        redis.cli(&["SCRIPT", "FLUSH"]).await;
        redis.cli(&["FLUSHALL"]).await;
    }
    for task in load {
        task.await.unwrap();
    }
    let end = json!("the end");
    for room in ["log:1", "post:1"] {
        nodes[0].rooms.broadcast(&key(room), &end).await.unwrap();
    }
    for (mut with, mut without) in members {
        assert_eq!(without.up_to(&end).await, (0..MESSAGES).map(Value::from).collect::<Vec<_>>());
        let (mut next, mut told) = (0, false);
        for event in with.up_to(&end).await {
            match event.as_u64() {
                Some(number) => {
                    assert!(number == next || number > next && told, "{number} without a word, after {next}");
                    (next, told) = (number + 1, false);
                }
                None => {
                    assert_eq!(event["type"], "resync");
                    told = true;
                }
            }
        }
        assert!(next == MESSAGES || told, "the last {} are missing", MESSAGES - next);
    }
}
