//! A master, its replica, and the sentinels that change their roles: nodes follow, and what is lost is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "support/sentinels.rs"]
mod sentinels;
#[path = "support/storm.rs"]
mod storm;

use std::time::Duration;

use rooms_core::{Bus, bus::BusError};
use rooms_redis::{ConnectError, RedisBus};

use listener::{Listener, healthy, room, subscribe};
use sentinels::Watched;
use storm::Storm;

const BACK: &str = "up, perhaps with a loss";

async fn watched_storm() -> Storm<Watched> {
    let watched = Watched::start().await;
    let (urls, publishing) = (watched.urls(), watched.quick());
    Storm::over(watched, || sentinels::quick(urls.clone()), publishing).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_killed_under_traffic() {
    let mut storm = watched_storm().await;
    storm.redis.servers[0].kill();
    storm.redis.until_master(1).await;
    storm.is_over(1).await;
    assert_eq!(storm.redis.servers[1].cli(&["PUBSUB", "NUMSUB", "ws:post:42"]).await, "ws:post:42\n3");
    storm.check(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_relieved_under_traffic() {
    let storm = watched_storm().await;
    assert_eq!(storm.redis.sentinels[0].cli(&["SENTINEL", "FAILOVER", "service"]).await, "OK");
    storm.redis.until_master(1).await;
    storm.is_over(1).await;
    assert_eq!(storm.redis.servers[1].cli(&["PUBSUB", "NUMSUB", "ws:post:42"]).await, "ws:post:42\n3");
    storm.check(2).await;
}

#[tokio::test]
async fn a_bus_left_on_a_replica_that_is_cut_off_leaves_it_and_loses_nothing_in_silence() {
    let watched = Watched::start().await;
    let bus = watched.quick().connect().await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;
    // Nobody tells the clients, and nobody closes their connections: both servers go on answering.
    watched.forget().await;
    watched.servers[1].cli(&["REPLICAOF", "NO", "ONE"]).await;
    watched.servers[0].cli(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert_eq!(heard.hears("down").await, ["down"]);
    let says = |fault: &str| fault.contains("replica") || fault.contains("no sentinel");
    healthy(&bus, |health| health.last_fault.as_deref().is_some_and(says)).await;
    watched.watch(1).await;
    heard.hears(BACK).await;
    bus.publish(&room("post:42"), "it works".into()).await.unwrap();
    heard.hears("post:42 it works").await;
    assert_eq!(watched.servers[1].cli(&["PUBLISH", "ws:post:42", "x"]).await, "1");
}

#[tokio::test]
async fn what_a_replica_took_is_not_said_to_have_been_published() {
    let watched = Watched::start().await;
    // No look at the role comes between.
    let builder = watched.quick().limits(|limits| limits.probe_interval = Duration::from_secs(60));
    let bus = builder.connect().await.unwrap();
    watched.forget().await;
    watched.servers[0].cli(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = bus.publish(&room("post:42"), "x".into()).await.unwrap_err();
    assert!(matches!(error, BusError::Unknown(_)), "{error:?}");
}

#[tokio::test]
async fn sentinels_that_are_gone_frozen_or_wrong_are_passed_over() {
    let mut watched = Watched::start().await;
    // The first is gone, the second never answers, and the third names the replica.
    watched.add_sentinel().await;
    watched.sentinels[0].kill();
    watched.sentinels[1].freeze();
    watched.sentinels[2].cli(&["SENTINEL", "REMOVE", "service"]).await;
    let replica = watched.servers[1].port.to_string();
    watched.sentinels[2].cli(&["SENTINEL", "MONITOR", "service", "127.0.0.1", &replica, "2"]).await;
    let builder = |urls: &[String]| {
        sentinels::quick(urls.to_vec()).limits(|limits| limits.connect_timeout = Duration::from_millis(300))
    };
    let wrong = builder(&watched.urls()[..3]).connect().await.unwrap_err();
    assert!(matches!(wrong, ConnectError::Unreachable(_)), "{wrong:?}");
    assert!(std::error::Error::source(&wrong).unwrap().to_string().contains("replica"), "{wrong:?}");
    let bus = builder(&watched.urls()).connect().await.unwrap();
    assert!(bus.health().connected);
    assert_eq!(bus.health().subscriber_losses, 0, "all in the first attempt");
}

#[tokio::test]
async fn the_password_of_the_sentinels_is_not_the_servers() {
    let watched = Watched::start().await;
    for server in &watched.servers {
        server.cli(&["ACL", "SETUSER", "node", "on", ">of-servers", "&*", "+@all"]).await;
    }
    for sentinel in &watched.sentinels {
        sentinel.cli(&["ACL", "SETUSER", "asking", "on", ">of-s3ntinels", "+@all"]).await;
    }
    let asking: Vec<String> =
        watched.urls().iter().map(|url| url.replace("redis://", "redis://asking:of-s3ntinels@")).collect();
    let bus = RedisBus::builder("redis://node:of-servers@service").sentinels(asking.clone()).connect().await.unwrap();
    let clients = watched.servers[0].cli(&["CLIENT", "LIST"]).await;
    assert_eq!(clients.matches("user=node").count(), 2, "{clients}");
    drop(bus);
    let wrong = asking.iter().map(|url| url.replace("of-s", "not-of-s"));
    let refused = RedisBus::builder("redis://node:of-servers@service").sentinels(wrong).connect().await.unwrap_err();
    let text = format!("{refused} {refused:?}");
    assert!(matches!(refused, ConnectError::Refused(_)) && !text.contains("s3ntinels"), "{text}");
    let unknown = RedisBus::builder("redis://another").sentinels(asking).connect().await.unwrap_err();
    assert!(matches!(unknown, ConnectError::Unreachable(_)), "{unknown:?}");
}
