//! What waits together is appended together.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/history.rs"]
mod history;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/redis_server.rs"]
mod redis_server;

use futures::future::join_all;
use rooms_core::bus::{History, Position, Topic};
use rooms_redis::RedisBus;

use history::{LOG, RETENTION, append, post, refusal, since};
use listener::{Listener, room, subscribe};
use redis_server::RedisServer;

#[tokio::test]
async fn what_waits_for_many_rooms_is_few_calls_and_what_is_refused_in_one_is_not_in_the_others() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let rooms: Vec<Topic> = (0..200).map(|n| room(&format!("log:{n}"))).collect();
    let append_all = async || join_all(rooms.iter().map(|room| bus.append(room, "x".into(), RETENTION))).await;
    redis.cli(&["CONFIG", "RESETSTAT"]).await;
    let first: Vec<Position> = append_all().await.into_iter().map(Result::unwrap).collect();
    let calls = redis.cli(&["INFO", "commandstats"]).await;
    let calls = calls.lines().filter_map(|line| line.strip_prefix("cmdstat_eval"));
    let calls: usize = calls
        .map(|rest| rest.split_once("calls=").unwrap().1.split(',').next().unwrap().parse::<usize>().unwrap())
        .sum();
    assert!(calls < 40, "{calls} calls for 200 rooms");
    let epochs: std::collections::HashSet<u64> = first.iter().map(|position| position.epoch()).collect();
    assert!(epochs.len() == 200 && first.iter().all(|position| position.offset() == 1), "{first:?}");
    redis.cli(&["DEL", "rooms:log:{ws:log:7}"]).await;
    redis.cli(&["SET", "rooms:log:{ws:log:7}", "not ours"]).await;
    for (n, outcome) in append_all().await.into_iter().enumerate() {
        match n {
            7 => assert!(refusal(outcome).contains("WRONGTYPE")),
            n => assert_eq!(outcome.unwrap(), Position::new(first[n].epoch(), 2), "{n}"),
        }
    }
    // A call for some rooms of which one is forbidden is refused as a whole; each other has its message then, once.
    let user = "ACL SETUSER some on >some resetkeys resetchannels &* +@all ~rooms:*{ws:log:1* ~rooms:*{ws:log:2*";
    assert_eq!(redis.cli(&user.split(' ').collect::<Vec<_>>()).await, "OK");
    let bus = RedisBus::connect(redis.url().replace("redis://", "redis://some:some@")).await.unwrap();
    let outcomes = join_all(rooms.iter().map(|room| bus.append(room, "y".into(), RETENTION))).await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match n.to_string().starts_with(['1', '2']) {
            true => assert_eq!(outcome.unwrap(), Position::new(first[n].epoch(), 3), "{n}"),
            false => assert!(refusal(outcome).to_lowercase().contains("permissions"), "{n}"),
        }
    }
}

#[tokio::test]
async fn what_waits_together_is_appended_together_and_each_is_told_its_own_position() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[post()]).await;
    let before = append(&bus, "before").await.unwrap();
    redis.cli(&["CONFIG", "RESETSTAT"]).await;
    let positions = join_all((0..200).map(|n| {
        let bus = &bus;
        async move { (append(bus, &n.to_string()).await.unwrap(), n) }
    }))
    .await;
    let calls = redis.cli(&["INFO", "commandstats"]).await;
    let calls = calls.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
    let calls: usize = calls.split(',').next().unwrap().parse().unwrap();
    assert!(calls < 20, "{calls} calls for 200 messages");
    for (position, n) in positions {
        assert_eq!(position, Position::new(before.epoch(), before.offset() + 1 + n), "{n}");
    }
    let expected: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(since(&bus, before).await.unwrap(), expected);
    let all = heard.take(201).await;
    assert!(all[1..].iter().eq(expected.iter().map(|n| format!("post:42 {n}")).collect::<Vec<_>>().iter()));

    // What one is refused, all are; and what the server has forgotten is sent again as a whole.
    redis.cli(&["SCRIPT", "FLUSH"]).await;
    let again = join_all((0..50).map(|_| append(&bus, "again"))).await;
    assert!(again.iter().all(Result::is_ok), "{again:?}");
    redis.cli(&["DEL", LOG]).await;
    redis.cli(&["SET", LOG, "not ours"]).await;
    for outcome in join_all((0..50).map(|_| append(&bus, "refused"))).await {
        assert!(refusal(outcome).contains("WRONGTYPE"));
    }
}
