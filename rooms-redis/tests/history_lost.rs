//! A log that was lost, in whole or in part, is seen as such.

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
use rooms_core::bus::{History, Missing, Position, ReadFrom};
use rooms_redis::RedisBus;

use fleet::quick;
use history::{LOG, MARK, RETENTION, append, read, since};
use listener::{healthy, room};
use redis_server::RedisServer;

#[tokio::test]
async fn what_redis_evicts_to_make_room_is_missing_and_said_so() {
    let redis = RedisServer::with(&["--maxmemory-policy", "allkeys-random"]).await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let text = "x".repeat(1_000);
    let used: u64 = redis
        .cli(&["INFO", "memory"])
        .await
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    redis.cli(&["CONFIG", "SET", "maxmemory", &(used + 3_000_000).to_string()]).await;
    let mut appended: Vec<Vec<Position>> = vec![Vec::new(); 300];
    for _ in 0..20 {
        for (number, positions) in appended.iter_mut().enumerate() {
            let room = room(&format!("post:{number}"));
            positions.push(
                bus.append(&room, text.clone().into(), RETENTION).await.expect("there is room, made by eviction"),
            );
        }
    }
    let (mut whole, mut said) = (0, 0);
    for (number, positions) in appended.iter().enumerate() {
        let room = room(&format!("post:{number}"));
        for (place, position) in positions.iter().enumerate() {
            let excerpt = bus.read(&room, ReadFrom::After(*position), RETENTION).await.unwrap();
            match excerpt.since(*position) {
                Ok(missed) => {
                    assert_eq!(missed.len(), positions.len() - place - 1, "after {position} of room {number}");
                    whole += 1;
                }
                Err(Missing::Epoch | Missing::Trimmed) => said += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(whole > 100 && said > 100, "{whole} are whole, of {said} it is said");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_under_load_are_other_epochs_and_no_errors() {
    const EACH: usize = 400;
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let load = (0..4).map(|publisher| {
        let bus = bus.clone();
        tokio::spawn(async move {
            let mut positions = Vec::new();
            for n in 0..EACH {
                let text = format!("{publisher} {n}");
                positions.push((append(&bus, &text).await.unwrap(), text));
            }
            positions
        })
    });
    let load: Vec<_> = load.collect();
    let mut flushes = 0;
    while !load.iter().all(tokio::task::JoinHandle::is_finished) {
        redis.cli(&["SCRIPT", "FLUSH"]).await;
        redis.cli(&["FLUSHALL"]).await;
        flushes += 1;
    }
    let answers = join_all(load).await.into_iter().flat_map(Result::unwrap).collect::<Vec<_>>();
    let epochs: std::collections::HashSet<u64> = answers.iter().map(|(position, _)| position.epoch()).collect();
    assert!(epochs.len() <= flushes + 1 && !epochs.is_empty(), "{} epochs of {flushes} flushes", epochs.len());
    let head = read(&bus, ReadFrom::Newest(0)).await.head;
    for (position, _) in &answers {
        let missed = since(&bus, *position).await;
        if position.epoch() != head.epoch() {
            assert_eq!(missed, Err(Missing::Epoch));
            continue;
        }
        let mut after: Vec<_> = answers
            .iter()
            .filter(|(later, _)| later.epoch() == position.epoch() && later.offset() > position.offset())
            .collect();
        after.sort_by_key(|(later, _)| later.offset());
        let texts = after.into_iter().map(|(_, text)| text.clone()).collect::<Vec<_>>();
        assert!(missed == Ok(texts) || missed == Err(Missing::Trimmed), "after {position}: {missed:?}");
    }
}

#[tokio::test]
async fn what_is_evicted_or_written_by_others_is_missing_and_said_so() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let first = append(&bus, "1").await.unwrap();
    let second = append(&bus, "2").await.unwrap();
    redis.cli(&["DEL", LOG]).await;
    assert_eq!(since(&bus, first).await, Err(Missing::Trimmed));
    assert_eq!(since(&bus, second).await, Ok(vec![]));
    let third = append(&bus, "3").await.unwrap();
    assert_eq!((since(&bus, second).await, third.offset()), (Ok(vec!["3".to_owned()]), 3), "the mark goes on");
    for foreign in ["not ours", "9;9;not ours", ""] {
        redis.cli(&["RPUSH", LOG, foreign]).await;
        assert_eq!(since(&bus, second).await, Err(Missing::Trimmed), "{foreign}");
        let before = append(&bus, "4").await.unwrap();
        append(&bus, "5").await.unwrap();
        assert_eq!(since(&bus, before).await, Ok(vec!["5".to_owned()]), "{foreign}");
    }
    redis.cli(&["LPUSH", LOG, "not ours"]).await;
    assert_eq!(read(&bus, ReadFrom::Newest(500)).await.messages.len(), 2, "what stands behind it is good");
    redis.cli(&["DEL", MARK]).await;
    let another = append(&bus, "1").await.unwrap();
    assert!(another.epoch() != third.epoch() && another.offset() == 1);
    assert_eq!(read(&bus, ReadFrom::Newest(500)).await.messages.len(), 1);
    assert_eq!(since(&bus, third).await, Err(Missing::Epoch));
}

#[tokio::test]
async fn a_log_that_was_saved_goes_on_after_a_restart() {
    let mut redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let bus = quick(redis.url()).connect().await.unwrap();
    let first = append(&bus, "1").await.unwrap();
    let mut restarts = vec![append(&bus, "2").await.unwrap()];
    for restart in 1..=9 {
        redis.kill();
        redis.restart().await;
        healthy(&bus, |health| health.connected && health.subscriber_losses >= restart).await;
        assert_eq!(since(&bus, *restarts.last().unwrap()).await, Ok(vec![]));
        restarts.push(append(&bus, "again").await.unwrap());
    }
    let epochs: std::collections::HashSet<u64> = restarts.iter().map(|position| position.epoch()).collect();
    assert_eq!(epochs.len(), 10, "each start of the server may have lost something");
    for (number, position) in restarts.iter().enumerate().skip(1) {
        assert_eq!(position.offset(), number as u64 + 2);
        assert_eq!(since(&bus, *position).await.unwrap().len(), 9 - number);
    }
    assert_eq!(since(&bus, first).await, Err(Missing::Epoch), "at most eight epochs are remembered");
}

#[tokio::test]
async fn a_server_that_takes_over_without_the_newest_messages_begins_another_epoch() {
    let master = RedisServer::start().await;
    let of = master.port.to_string();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &of, "--repl-diskless-sync-delay", "0"]).await;
    let bus = RedisBus::connect(master.url()).await.unwrap();
    let mut kept = Vec::new();
    for n in 0..5 {
        kept.push(append(&bus, &n.to_string()).await.unwrap());
    }
    let deadline = tokio::time::Instant::now() + redis_server::PATIENCE;
    while replica.cli(&["LLEN", LOG]).await != "10" {
        assert!(tokio::time::Instant::now() < deadline, "the replica does not follow");
    }
    replica.cli(&["REPLICAOF", "NO", "ONE"]).await;
    let lost = [append(&bus, "lost").await.unwrap(), append(&bus, "lost too").await.unwrap()];
    let after = RedisBus::connect(replica.url()).await.unwrap();
    assert_eq!(since(&after, lost[0]).await, Err(Missing::Epoch), "also before anything is appended");
    for n in 0..5 {
        append(&after, &format!("new {n}")).await.unwrap();
        for position in lost {
            assert_eq!(since(&after, position).await, Err(Missing::Epoch));
        }
        let missed = since(&after, kept[3]).await.unwrap();
        assert_eq!((missed.len(), &*missed[0], &*missed[1]), (n + 2, "4", "new 0"));
    }
}
