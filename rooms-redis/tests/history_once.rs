//! Messages that are published once, by their idempotency keys.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/history.rs"]
mod history;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::time::Duration;

use rooms_core::bus::{Appended, History, IdempotencyKey, ReadFrom, Retention};
use rooms_redis::RedisBus;

use history::{LOG, MARK, RETENTION, append, post, read, refusal};
use listener::healthy;
use redis_server::RedisServer;

#[tokio::test]
async fn a_key_of_a_log_that_is_gone_names_no_message_of_the_next() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let key = IdempotencyKey::new("once").unwrap();
    let topic = post();
    let once = || bus.append_once(&topic, "once".into(), RETENTION, &key);
    for joins in [false, true] {
        let first = once().await.unwrap();
        assert!(matches!(first, Appended::Now(_)), "{first:?}");
        redis.cli(&["DEL", MARK]).await;
        if joins {
            read(&bus, ReadFrom::Newest(0)).await;
        }
        for _ in 0..first.position().offset() {
            append(&bus, "another").await.unwrap();
        }
        let again = once().await.unwrap();
        assert!(matches!(again, Appended::Now(_)), "{again:?}");
        assert_ne!(again.position().epoch(), first.position().epoch());
        assert_eq!(once().await.unwrap(), Appended::Before(again.position()));
        redis.cli(&["DEL", LOG, MARK]).await;
    }
    // What is not there any more is not counted, and what others have written goes.
    let payloads = async || redis.cli(&["LRANGE", LOG, "0", "-1"]).await.lines().skip(1).step_by(2).collect::<String>();
    append(&bus, "1").await.unwrap();
    append(&bus, "2").await.unwrap();
    redis.cli(&["DEL", LOG]).await;
    append(&bus, "three").await.unwrap();
    assert_eq!(payloads().await, "three");
    for others in [&["not ours"][..], &["not", "ours"]] {
        redis.cli(&[&["RPUSH", LOG], others].concat()).await;
        // Looked for with each sixteenth message at the latest.
        for _ in 0..16 {
            append(&bus, "4").await.unwrap();
        }
        let left = payloads().await;
        assert!(!left.is_empty() && left.chars().all(|payload| payload == '4'), "{others:?}: {left}");
    }
    redis.cli(&["DEL", LOG, MARK]).await;
    // Where only the mark is gone, what has the name of the log may be somebody else's.
    redis.cli(&["SET", LOG, "not ours"]).await;
    assert!(refusal(append(&bus, "1").await).contains("WRONGTYPE"));
    assert_eq!(redis.cli(&["GET", LOG]).await, "not ours");
}

#[tokio::test]
async fn an_idempotency_key_is_forgotten_with_its_message_when_that_is_too_old() {
    let redis = RedisServer::start().await;
    let retention = RETENTION.age(Duration::from_secs(600));
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let key = IdempotencyKey::new("once").unwrap();
    let first = bus.append_once(&post(), "1".into(), retention, &key).await.unwrap();
    let now: u64 = redis.cli(&["TIME"]).await.lines().next().unwrap().parse().unwrap();
    for (seconds, before) in [(590, true), (601, false)] {
        redis.cli(&["LSET", LOG, "0", &format!("1;{};0", (now - seconds) * 1000)]).await;
        let again = bus.append_once(&post(), "again".into(), retention, &key).await.unwrap();
        assert_eq!(matches!(again, Appended::Before(_)), before, "after {seconds} s");
        assert_eq!(again.position().offset(), first.position().offset() + u64::from(!before));
    }
    // The message of that key is too old as well once another one comes, and the set has no key of it any more.
    redis.cli(&["LSET", LOG, "0", &format!("2;{};1", (now - 601) * 1000)]).await;
    let other = IdempotencyKey::new("other").unwrap();
    bus.append_once(&post(), "3".into(), retention, &other).await.unwrap();
    assert_eq!(redis.cli(&["ZRANGE", "rooms:keys:{ws:post:42}", "0", "-1"]).await, "other");
}

#[tokio::test]
async fn a_key_is_stored_as_the_page_says_and_a_restart_or_a_takeover_does_not_forget_it() {
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let bus = RedisBus::builder(redis.url()).connect().await.unwrap();
    let key = |text: &str| IdempotencyKey::new(text).unwrap();
    let (one, two) = (key("one"), key("{two} \n \u{e9}"));
    let small = Retention::messages(2);
    let first = bus.append_once(&post(), "1".into(), small, &one).await.unwrap();
    let second = bus.append_once(&post(), "2".into(), small, &two).await.unwrap();
    let kept = redis.cli(&["ZRANGE", "rooms:keys:{ws:post:42}", "0", "0", "WITHSCORES"]).await;
    assert_eq!(kept, "one\n1");
    redis.kill();
    redis.restart().await;
    healthy(&bus, |health| health.connected).await;
    for (key, appended) in [(&one, first), (&two, second)] {
        let again = bus.append_once(&post(), "again".into(), small, key).await.unwrap();
        assert_eq!(again, Appended::Before(appended.position()));
    }
    // Another epoch begins, and the position of the second is what it was.
    bus.append(&post(), "3".into(), small).await.unwrap();
    let again = bus.append_once(&post(), "again".into(), small, &two).await.unwrap();
    assert_eq!(again, Appended::Before(second.position()));
    let anew = bus.append_once(&post(), "1".into(), small, &one).await.unwrap();
    assert!(matches!(anew, Appended::Now(_)), "its message is not kept any more");
    assert_ne!(anew.position().epoch(), first.position().epoch());
    assert_eq!(redis.cli(&["ZCARD", "rooms:keys:{ws:post:42}"]).await, "1");
    // A set of another make is an error, and nothing was done.
    redis.cli(&["SET", "rooms:keys:{ws:post:42}", "not ours"]).await;
    let refused = refusal(bus.append_once(&post(), "4".into(), small, &two).await);
    assert!(refused.contains("WRONGTYPE"), "{refused}");
    assert_eq!(read(&bus, ReadFrom::Newest(0)).await.head, anew.position());
}
