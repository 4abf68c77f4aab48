//! What may be wrong with Redis, or with what it is asked: a clear error, and nothing has happened.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/history.rs"]
mod history;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/redis_server.rs"]
mod redis_server;

use futures::future::join_all;
use rooms_core::{
    BroadcastError, Bus, JoinError,
    bus::{Appended, BusError, History, IdempotencyKey, Position, ReadFrom, Topic},
};
use rooms_redis::{APPEND_SCRIPT, RedisBus};

use fleet::{Node, key, quick};
use history::{LOG, MARK, RETENTION, append, post, refusal, since};
use listener::{Listener, room, subscribe};
use redis_server::RedisServer;

#[tokio::test]
async fn keys_of_another_type_are_an_error_in_their_room_alone() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[post()]).await;
    for key in [LOG, MARK] {
        let before = append(&bus, "before").await.unwrap();
        redis.cli(&["SET", key, "not ours"]).await;
        assert!(refusal(append(&bus, "refused").await).contains("WRONGTYPE"), "{key}");
        let read = bus.read(&post(), ReadFrom::After(before), RETENTION).await;
        if key == MARK {
            assert!(refusal(read).contains("WRONGTYPE"), "{key}");
        } else {
            assert_eq!(read.unwrap().head, before, "nothing has happened");
        }
        bus.append(&room("post:43"), "another room".into(), RETENTION).await.unwrap();
        redis.cli(&["DEL", LOG, MARK]).await;
    }
    append(&bus, "after").await.unwrap();
    let heard = heard.hears("post:42 after").await;
    assert!(!heard.contains(&"post:42 refused".to_owned()), "{heard:?}");
    assert!(bus.health().connected);
}

#[tokio::test]
async fn a_room_whose_keys_are_spoilt_is_unavailable_and_the_others_go_on() {
    let redis = RedisServer::start().await;
    let node = Node::start(quick(redis.url())).await;
    let mut there = node.join("a", "log:1").await;
    redis.cli(&["SET", "rooms:mark:{ws:log:42}", "not ours"]).await;
    redis.cli(&["SET", "rooms:state:{ws:board:42}", "not ours"]).await;
    for room in ["log:42", "board:42"] {
        let refused = node.try_join("b", room).await.err();
        assert!(matches!(refused, Some(JoinError::Unavailable { .. })), "{refused:?}");
    }
    let refused = node.rooms.broadcast(&key("log:42"), &1).await.unwrap_err();
    assert!(matches!(refused, BroadcastError::Bus { source: BusError::Refused(_), .. }), "{refused:?}");
    node.rooms.broadcast(&key("log:1"), &1).await.unwrap();
    assert_eq!(there.next().await, 1);
    redis.cli(&["DEL", "rooms:mark:{ws:log:42}", "rooms:state:{ws:board:42}"]).await;
    for room in ["log:42", "board:42"] {
        node.join("b", room).await;
    }
}

#[tokio::test]
async fn a_full_redis_refuses_and_publishes_nothing() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[post()]).await;
    let first = append(&bus, "1").await.unwrap();
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(refusal(append(&bus, "refused").await).contains("OOM"));
    // Rooms that have no log yet, and one that has, in calls for several.
    let rooms: Vec<Topic> = (0..20).map(|n| room(&format!("log:{n}"))).chain([post()]).collect();
    for outcome in join_all(rooms.iter().map(|room| bus.append(room, "refused".into(), RETENTION))).await {
        assert!(refusal(outcome).contains("OOM"));
    }
    assert_eq!(since(&bus, first).await, Ok(vec![]), "what is there can be read");
    bus.publish(&post(), "not kept".into()).await.unwrap();
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
    append(&bus, "2").await.unwrap();
    assert_eq!(since(&bus, first).await, Ok(vec!["2".to_owned()]));
    assert_eq!(heard.take(3).await[..], ["post:42 1", "post:42 not kept", "post:42 2"]);
}

#[tokio::test]
async fn a_replica_refuses_and_publishes_nothing() {
    let master = RedisServer::start().await;
    let of = master.port.to_string();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &of]).await;
    let bus = RedisBus::connect(replica.url()).await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[post()]).await;
    let why = refusal(append(&bus, "refused").await);
    assert!(why.contains("READONLY"), "{why}");
    bus.publish(&post(), "not kept".into()).await.unwrap();
    assert_eq!(heard.take(1).await[..], ["post:42 not kept"]);
}

#[tokio::test]
async fn what_can_not_be_published_is_not_kept() {
    let redis = RedisServer::start().await;
    redis.cli(&["ACL", "SETUSER", "mute", "on", ">password", "~*", "resetchannels", "&rooms-*", "+@all"]).await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let first = append(&bus, "1").await.unwrap();
    let mute = RedisBus::connect(format!("redis://mute:password@127.0.0.1:{}", redis.port)).await.unwrap();
    for _ in 0..3 {
        let why = refusal(append(&mute, "refused").await);
        assert!(why.contains("CAN'T PUBLISH TO THE CHANNEL"), "{why}");
    }
    for outcome in join_all((0..20).map(|_| append(&mute, "refused together"))).await {
        assert!(refusal(outcome).contains("CAN'T PUBLISH TO THE CHANNEL"));
    }
    let key = IdempotencyKey::new("once").unwrap();
    let why = refusal(mute.append_once(&post(), "refused".into(), RETENTION, &key).await);
    assert!(why.contains("CAN'T PUBLISH TO THE CHANNEL"), "{why}");
    assert_eq!(since(&bus, first).await, Ok(vec![]));
    assert_eq!(append(&bus, "2").await.unwrap(), Position::new(first.epoch(), 2));
    assert!(redis.cli(&["HGET", MARK, "head"]).await.starts_with("2;2;"));
    assert_eq!(redis.cli(&["LLEN", LOG]).await, "4");
    let once = bus.append_once(&post(), "3".into(), RETENTION, &key).await.unwrap();
    assert_eq!(once, Appended::Now(Position::new(first.epoch(), 3)), "its key was not kept either");
}

#[tokio::test]
async fn arguments_that_are_none_change_nothing() {
    let redis = RedisServer::start().await;
    const EVAL: [&str; 3] = ["EVAL", APPEND_SCRIPT, "2"];
    for retention in ["x;1;1000", "1;;1000", "1;1;0", "1;1", "", "1;1;1000;1", "-1;1;1000"] {
        let rest = [LOG, MARK, "PUBLISH", "", "8a", "ws:post:42", retention, "1", "{}"];
        let answer = redis.cli(&[&EVAL[..], &rest].concat()).await;
        assert!(answer.contains("append.lua: a retention"), "{retention}: {answer}");
    }
    for epoch in ["", "0a", "8A", "80000000000000000"] {
        let rest = [LOG, MARK, "PUBLISH", "", epoch, "ws:post:42", "1;1;1000", "1", "{}"];
        let answer = redis.cli(&[&EVAL[..], &rest].concat()).await;
        assert!(answer.contains("append.lua: argument 3 is an epoch"), "{epoch}: {answer}");
    }
    for payloads in [&["0"][..], &["x", "{}"], &["2", "{}"], &["1"]] {
        let rest = [LOG, MARK, "PUBLISH", "", "8a", "ws:post:42", "1;9;1000"];
        let answer = redis.cli(&[&EVAL[..], &rest, payloads].concat()).await;
        assert!(answer.contains("append.lua: there is a number of payloads"), "{payloads:?}: {answer}");
    }
    const SET: &str = "rooms:keys:{ws:post:42}";
    for (keys, once) in
        [(&[LOG][..], ""), (&[LOG, MARK], "once"), (&[LOG, MARK, SET], ""), (&[LOG, MARK, LOG, MARK, LOG], "")]
    {
        let count = keys.len().to_string();
        let rest = ["PUBLISH", once, "8a", "ws:post:42", "1;9;1000", "1", "{}"];
        let answer = redis.cli(&[&["EVAL", APPEND_SCRIPT, &count], keys, &rest].concat()).await;
        assert!(answer.contains("append.lua: there are two keys"), "{keys:?}: {answer}");
    }
    let rest = [LOG, MARK, SET, "PUBLISH", "once", "8a", "ws:post:42", "1;9;1000", "2", "{}", "{}"];
    let answer = redis.cli(&[&["EVAL", APPEND_SCRIPT, "3"], &rest[..]].concat()).await;
    assert!(answer.contains("one with an idempotency key"), "{answer}");
    let rest = [LOG, MARK, "NONSENSE", "", "8a", "ws:post:42", "1;9;1000", "1", "{}"];
    let answer = redis.cli(&[&EVAL[..], &rest].concat()).await;
    assert!(answer.contains("nknown"), "{answer}");
    assert_eq!(redis.cli(&["LLEN", LOG]).await, "0");
}
