//! How much a log has, and for how long.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/history.rs"]
mod history;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::time::Duration;

use rooms_core::bus::{History, ReadFrom, Retention};
use rooms_redis::RedisBus;

use history::{LOG, RETENTION, post};
use listener::room;
use redis_server::RedisServer;

#[tokio::test]
async fn what_is_too_old_is_gone_from_the_log_and_what_is_younger_is_kept() {
    let redis = RedisServer::start().await;
    let age = Duration::from_secs(600);
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let append = async |text: &'static str| bus.append(&post(), text.into(), RETENTION.age(age)).await;
    append("oldest").await.unwrap();
    append("old").await.unwrap();
    append("young").await.unwrap();
    // By the clock of the server: the first two are a second older than may be, and the third has ten seconds left.
    let now: u64 = redis.cli(&["TIME"]).await.lines().next().unwrap().parse().unwrap();
    for (index, seconds) in [("0", 601), ("2", 601), ("4", 590)] {
        let about = redis.cli(&["LINDEX", LOG, index]).await;
        let [offset, _, bytes] = about.split(';').collect::<Vec<_>>().try_into().unwrap();
        redis.cli(&["LSET", LOG, index, &format!("{offset};{};{bytes}", (now - seconds) * 1000)]).await;
    }
    append("new").await.unwrap();
    let read = bus.read(&post(), ReadFrom::Newest(500), RETENTION.age(age)).await.unwrap();
    assert_eq!(read.messages, ["young", "new"], "nobody is given what is too old");
    // It is trimmed with each sixteenth message.
    for _ in 5..=16 {
        append("new").await.unwrap();
    }
    let kept = redis.cli(&["LRANGE", LOG, "0", "-1"]).await;
    let payloads: Vec<&str> = kept.lines().skip(1).step_by(2).collect();
    assert_eq!((payloads[0], payloads.len()), ("young", 14), "{kept}");
}

#[tokio::test]
async fn a_log_has_at_most_an_eighth_more_than_it_keeps_and_nobody_is_given_that() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    for (name, retention, length, most) in [
        ("one", Retention::messages(1), 10, 1),
        ("few", Retention::messages(7), 10, 7),
        ("more", Retention::messages(100), 10, 112),
        ("many", Retention::messages(500), 10, 516),
        ("bytes", Retention::messages(500).bytes(1_000), 10, 112),
        ("long", Retention::messages(500).bytes(1_000), 90, 12),
    ] {
        let (topic, log) = (room(&format!("post:{name}")), format!("rooms:log:{{ws:post:{name}}}"));
        let payload = bytes::Bytes::from("x".repeat(length));
        let kept = retention.max_messages().min(retention.max_bytes() / length);
        let mut longest = 0;
        for appended in 1..=600 {
            let position = bus.append(&topic, payload.clone(), retention).await.unwrap();
            if appended % 7 == 0 || appended > 590 {
                longest = longest.max(redis.cli(&["LLEN", &log]).await.parse::<usize>().unwrap() / 2);
                let read = bus.read(&topic, ReadFrom::Newest(usize::MAX), retention).await.unwrap();
                assert_eq!((read.head, read.messages.len()), (position, appended.min(kept)), "{name}");
            }
        }
        assert!((kept..=most).contains(&longest), "{name}: {longest} messages");
    }
}
