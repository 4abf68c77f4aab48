//! States in Redis: what the page about them says, what may be wrong with Redis, and a state that was lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::{error::Error, fs, process::Command, time::Duration};

use rooms_core::{
    BroadcastError,
    bus::{BusError, KeptState, NewState, Outcome, Position, States, Topic},
};
use rooms_redis::{RedisBus, STATE_SCRIPT};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use fleet::{Member, Node, key, quick};
use proxy::{Link, Proxy};
use redis_server::{PATIENCE, RedisServer};

const PAGE: &str = include_str!("../../docs/history.md");
const KEY: &str = "rooms:state:{ws:board:42}";
const KEEP: Duration = Duration::from_secs(100);

fn board() -> Topic {
    Topic::Room(key("board:42"))
}

async fn set(bus: &RedisBus, after: Option<Position>, state: &str) -> Result<Outcome, BusError> {
    bus.set_state(&board(), NewState::new(after, state.to_owned().into(), KEEP)).await
}

async fn is_set(bus: &RedisBus, after: Option<Position>, state: &str) -> Position {
    match set(bus, after, state).await.unwrap() {
        Outcome::Set(revision) => revision,
        Outcome::Conflict(current) => panic!("{current:?} is there, and not {after:?}"),
    }
}

async fn read(bus: &RedisBus) -> Option<KeptState> {
    bus.state(&board(), KEEP).await.unwrap()
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, BusError>) -> String {
    match outcome {
        Err(error @ BusError::Refused(_)) => error.source().unwrap().to_string().to_uppercase(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_script_of_the_page_sets_a_state_from_python() {
    let redis = RedisServer::start().await;
    let node = Node::start(quick(redis.url())).await;
    let mut member = node.join("a", "board:42").await;
    let directory = tempfile::TempDir::new().unwrap();
    let (_, program) = PAGE.rsplit_once("```python\n").unwrap();
    let (program, _) = program.split_once("```").unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("set.py"), program.replace("post:42", "board:42")).unwrap();
    fs::write(path("state.lua"), STATE_SCRIPT).unwrap();
    fs::write(path("redis.py"), include_str!("support/redis_for_python.py")).unwrap();
    let python = Command::new("python3").arg(path("set.py")).arg(redis.url()).arg(path("state.lua")).output();
    let output = python.expect("python3; `apt-get install python3` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let [first, second, third] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    let first: Position = first.parse().unwrap();
    let revision = Position::new(first.epoch(), 2);
    assert_eq!((second, third), (&*format!("set {revision}"), &*format!("conflict {revision}")));

    let event = |more: Value| {
        let mut event = json!({"type": "room_state", "room": "board:42"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let state = json!({"likes": 1, "text": "from Python"});
    assert_eq!(member.next().await, event(json!({"revision": first, "state": state})));
    let patch = json!({"revision": revision, "since": first, "patch": {"likes": 2}});
    assert_eq!(member.next().await, event(patch));
    let kept = node.rooms.state::<Value>(&key("board:42")).await.unwrap().unwrap();
    assert_eq!((kept.revision, kept.value), (revision, json!({"likes": 2, "text": "from Python"})));
}

#[tokio::test]
async fn the_key_is_as_the_page_says_and_goes_by_itself() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    assert_eq!(read(&bus).await, None);
    let revision = is_set(&bus, None, "{}").await;
    let kept = redis.cli(&["HMGET", KEY, "epoch", "offset", "state"]).await;
    assert_eq!(kept, format!("{:x}\n1\n{{}}", revision.epoch()));
    let expires = async || redis.cli(&["TTL", KEY]).await.parse::<u64>().unwrap();
    assert!((90..=100).contains(&expires().await));
    bus.state(&board(), 2 * KEEP).await.unwrap();
    assert!((215..=225).contains(&expires().await), "reading is using, and an eighth is added");
    assert_eq!(redis.cli(&["DBSIZE"]).await, "1");
    redis.cli(&["DEL", KEY]).await;
    assert_eq!(read(&bus).await, None);
    let again = is_set(&bus, None, "1").await;
    assert!(again.epoch() != revision.epoch() && again.offset() == 1);
}

#[tokio::test]
async fn what_is_wrong_with_redis_is_an_error_and_changes_nothing() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let first = is_set(&bus, None, "1").await;

    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(refusal(set(&bus, Some(first), "2").await).contains("OOM"));
    assert_eq!(read(&bus).await, Some(KeptState::new(first, "1".into())));
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;

    redis.cli(&["ACL", "SETUSER", "mute", "on", ">password", "~*", "resetchannels", "&rooms-*", "+@all"]).await;
    let mute = RedisBus::connect(format!("redis://mute:password@127.0.0.1:{}", redis.port)).await.unwrap();
    let why = refusal(set(&mute, Some(first), "2").await);
    assert!(why.contains("CAN'T PUBLISH TO THE CHANNEL"), "{why}");
    assert_eq!(read(&bus).await, Some(KeptState::new(first, "1".into())), "what can't be published is not kept");
    redis.cli(&["DEL", KEY]).await;
    refusal(set(&mute, None, "2").await);
    assert_eq!(read(&bus).await, None);

    redis.cli(&["SCRIPT", "FLUSH"]).await;
    is_set(&bus, None, "1").await;
    redis.cli(&["SET", KEY, "not ours"]).await;
    assert!(refusal(set(&bus, None, "2").await).contains("WRONGTYPE"));
    assert!(refusal(bus.state(&board(), KEEP).await).contains("WRONGTYPE"));
    redis.cli(&["DEL", KEY]).await;
    redis.cli(&["HSET", KEY, "state", "no revision"]).await;
    assert_eq!(read(&bus).await, None, "what has no revision is none");
    redis.cli(&["HSET", KEY, "epoch", "x", "offset", "y"]).await;
    assert_eq!(read(&bus).await.unwrap().revision.offset(), 0, "and one that is nonsense begins anew");
    for [keep, epoch] in [["x", "8a"], ["0", "8a"], ["1000", ""], ["1000", "0a"], ["1000", "80000000000000000"]] {
        let call = ["EVAL", STATE_SCRIPT, "1", "rooms:state:{x}", "x", "1", "", "", "PUBLISH", keep, epoch];
        assert!(redis.cli(&call).await.contains("state.lua: argument"));
    }

    let of = redis.port.to_string();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &of]).await;
    let bus = RedisBus::connect(replica.url()).await.unwrap();
    assert!(refusal(set(&bus, None, "refused").await).contains("READONLY"));
}

#[tokio::test]
async fn what_is_published_has_a_patch_only_beside_the_revision_that_it_goes_with() {
    let redis = RedisServer::start().await;
    // In place of publishing, it is kept under the name of the channel.
    for (channel, state, patch, after, published) in [
        ("first", r#"{"a":1}"#, r#"{"a":1}"#, "", "\x01s8a.1;;0;{\"a\":1}"),
        ("patched", r#"{"a":2}"#, r#"{"a":2}"#, "8a.1", "\x01s8a.2;8a.1;7;{\"a\":2}{\"a\":2}"),
        ("whole", r#"{"a":3}"#, "", "8a.2", "\x01s8a.3;;0;{\"a\":3}"),
    ] {
        let call = ["EVAL", STATE_SCRIPT, "1", KEY, channel, state, patch, after, "APPEND", "60000", "8a"];
        assert!(redis.cli(&call).await.starts_with("set"), "{channel}");
        assert_eq!(redis.cli(&["GET", channel]).await, published, "{channel}");
    }
    // A revision without a state is none.
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    assert!(read(&bus).await.is_some());
    redis.cli(&["HDEL", KEY, "state"]).await;
    assert_eq!(read(&bus).await, None);
}

#[tokio::test]
async fn a_server_that_restarts_or_takes_over_begins_another_epoch_with_the_state_that_it_has() {
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let bus = quick(redis.url()).connect().await.unwrap();
    let first = is_set(&bus, None, "1").await;
    redis.kill();
    redis.restart().await;
    let deadline = Instant::now() + PATIENCE;
    let second = loop {
        match set(&bus, Some(first), "2").await {
            Ok(Outcome::Set(revision)) => break revision,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    };
    assert!(second.epoch() != first.epoch() && second.offset() == 2, "{first}, {second}");

    let of = redis.port.to_string();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &of, "--repl-diskless-sync-delay", "0"]).await;
    while replica.cli(&["HGET", KEY, "offset"]).await != "2" {
        assert!(Instant::now() < deadline + PATIENCE, "the replica does not follow");
    }
    replica.cli(&["REPLICAOF", "NO", "ONE"]).await;
    let lost = is_set(&bus, Some(second), "lost").await;
    let after = RedisBus::connect(replica.url()).await.unwrap();
    let kept = read(&after).await.unwrap();
    assert!(kept.revision.epoch() != lost.epoch() && kept.state == "2", "{kept:?}");
    assert_eq!(set(&after, Some(lost), "3").await.unwrap(), Outcome::Conflict(Some(kept.revision)));
    assert_eq!(read(&after).await.unwrap(), kept, "it is another epoch once");
}

/// Writes numbers as the state until it is `Ok` with one, and waits until each member has that.
async fn all_have_the_next(nodes: &[Node], members: &mut [Member], number: &mut u64) {
    let deadline = Instant::now() + PATIENCE;
    let last = loop {
        *number += 1;
        let state = json!({"n": *number, "text": "x".repeat(200)});
        match nodes[*number as usize % nodes.len()].rooms.broadcast_state(&key("board:42"), &state).await {
            Ok(_) => break *number,
            Err(error @ (BroadcastError::Bus { .. } | BroadcastError::Conflict { .. })) => {
                assert!(Instant::now() < deadline, "{error}");
            }
            Err(error) => panic!("{error}"),
        }
        sleep(Duration::from_millis(5)).await;
    };
    for member in members {
        loop {
            let event = member.next().await;
            let part = if event["state"].is_null() { &event["patch"] } else { &event["state"] };
            if part["n"] == json!(last) {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_redis_all_members_have_the_last_state() {
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let proxy = Proxy::before(redis.port).await;
    let nodes = [Node::start(quick(proxy.url())).await, Node::start(quick(redis.url())).await];
    let mut members = Vec::new();
    for node in &nodes {
        members.push(node.join("a", "board:42").await);
    }
    let mut number = 0;
    all_have_the_next(&nodes, &mut members, &mut number).await;
    for fault in 0..7 {
        match fault {
            0 => {
                redis.kill();
                redis.restart().await;
            }
            1 => {
                redis.freeze();
                sleep(Duration::from_secs(1)).await;
                redis.thaw();
            }
            2 => _ = redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await,
            3 => proxy.cut(),
            4 => _ = redis.cli(&["FLUSHALL"]).await,
            5 => _ = redis.cli(&["SCRIPT", "FLUSH"]).await,
            _ => {
                proxy.set_present(Link::Mute);
                sleep(Duration::from_secs(1)).await;
                proxy.set(Link::Open);
            }
        }
        all_have_the_next(&nodes, &mut members, &mut number).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_writers_on_two_nodes_no_change_is_lost() {
    const EACH: u64 = 25;
    let redis = RedisServer::start().await;
    let nodes = [Node::start(quick(redis.url())).await, Node::start(quick(redis.url())).await];
    let mut member = nodes[0].join("a", "board:42").await;
    let writers = (0..6).map(|writer| {
        let rooms = nodes[writer % 2].rooms.clone();
        tokio::spawn(async move {
            let (room, mut conflicts) = (key("board:42"), 0);
            for _ in 0..EACH {
                loop {
                    let state = rooms.state::<Value>(&room).await.unwrap();
                    let (revision, value) = state.map(|state| (state.revision, state.value)).unzip();
                    let count = value.map_or(0, |value: Value| value["count"].as_u64().unwrap());
                    let next = json!({"count": count + 1, "text": "x".repeat(100)});
                    match rooms.broadcast_state_after(&room, revision, &next).await {
                        Ok(_) => break,
                        Err(BroadcastError::Conflict { .. }) => conflicts += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            conflicts
        })
    });
    let mut conflicts = 0;
    for writer in writers.collect::<Vec<_>>() {
        conflicts += writer.await.unwrap();
    }
    assert!(conflicts > 0, "they never met");
    let mut counts = Vec::new();
    while counts.last() != Some(&(6 * EACH)) {
        let event = member.next().await;
        let part = if event["state"].is_null() { &event["patch"] } else { &event["state"] };
        counts.push(part["count"].as_u64().unwrap());
    }
    assert_eq!(counts, (1..=6 * EACH).collect::<Vec<_>>(), "each change once, in order");
}
