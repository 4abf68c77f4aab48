//! The bus over one Redis, without faults.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/listener.rs"]
mod listener;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use rooms_core::{
    Bus,
    bus::{BusError, Topic},
};
use rooms_redis::{ConnectError, RedisBus};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{sleep, timeout},
};

use listener::{Listener, healthy, room, subscribe, unsubscribe};
use redis_server::{PATIENCE, RedisServer, free_port};

#[tokio::test]
async fn any_language_reaches_the_rooms_with_a_plain_publish_and_hears_ours() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;
    assert_eq!(redis.cli(&["PUBLISH", "ws:post:42", r#"{"type":"x"}"#]).await, "1");
    assert_eq!(heard.hears(r#"post:42 {"type":"x"}"#).await.len(), 1);

    let mut foreign = tokio::net::TcpStream::connect(("127.0.0.1", redis.port)).await.unwrap();
    foreign.write_all(b"PSUBSCRIBE ws:post:*\r\n").await.unwrap();
    let mut read = vec![0; 4096];
    assert!(foreign.read(&mut read).await.unwrap() > 0, "the confirmation");
    bus.publish(&room("post:7"), Bytes::from_static(b"{\"n\":1}")).await.unwrap();
    let count = foreign.read(&mut read).await.unwrap();
    let text = String::from_utf8_lossy(&read[..count]);
    assert!(text.contains("ws:post:7\r\n$7\r\n{\"n\":1}\r\n"), "{text}");
}

#[tokio::test]
async fn the_topics_of_nodes_are_on_channels_of_their_own() {
    let redis = RedisServer::start().await;
    let [one, two] = [RedisBus::connect(redis.url()).await.unwrap(), RedisBus::connect(redis.url()).await.unwrap()];
    let heard = Listener::of(&two);
    let control = Topic::Control("post:42".parse().unwrap());
    subscribe(&two, &[Topic::Nodes, control.clone()]).await;
    one.publish(&room("post:42"), "{}".into()).await.unwrap();
    one.publish(&control, "who is there?".into()).await.unwrap();
    one.publish(&Topic::Nodes, "I am".into()).await.unwrap();
    assert_eq!(heard.hears("Nodes I am").await, ["control of post:42 who is there?", "Nodes I am"]);
}

#[tokio::test]
async fn a_prefix_keeps_two_services_apart() {
    let redis = RedisServer::start().await;
    let blog =
        RedisBus::builder(redis.url()).room_prefix("blog:ws:").node_prefix("blog:rooms-").connect().await.unwrap();
    let shop = RedisBus::connect(redis.url()).await.unwrap();
    let heard = Listener::of(&blog);
    subscribe(&blog, &[room("post:42"), Topic::Nodes]).await;
    shop.publish(&room("post:42"), "of the shop".into()).await.unwrap();
    shop.publish(&Topic::Nodes, "of the shop".into()).await.unwrap();
    blog.publish(&room("post:42"), "of the blog".into()).await.unwrap();
    assert_eq!(heard.hears("post:42 of the blog").await.len(), 1);
    assert!(matches!(
        RedisBus::builder(redis.url()).room_prefix("rooms-").connect().await,
        Err(ConnectError::Prefixes)
    ));
}

#[tokio::test]
async fn names_that_redis_can_not_take_or_show_are_refused_before_anything_is_connected() {
    for name in ["a b", "a\nb", "a\0", "\u{e9}", "a\u{7f}"] {
        let builder = || RedisBus::builder("redis://127.0.0.1:1");
        let all = [builder().room_prefix(name), builder().node_prefix(name), builder().client_name(name)];
        for (number, builder) in all.into_iter().enumerate() {
            let refused = builder.start();
            assert!(
                matches!(&refused, Err(ConnectError::Name { name: said }) if said == name),
                "{number}: {refused:?}"
            );
        }
    }
    assert!(RedisBus::builder("redis://127.0.0.1:1").room_prefix("{blog}ws:").client_name("node-7").start().is_ok());
}

#[tokio::test]
async fn a_payload_that_is_too_long_is_a_gap_and_the_next_one_arrives() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::builder(redis.url()).limits(|limits| limits.max_payload_bytes = 1_000).connect().await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;
    redis.cli(&["PUBLISH", "ws:post:42", &"x".repeat(1_001)]).await;
    let error = bus.publish(&room("post:42"), "x".repeat(1_001).into()).await.unwrap_err();
    assert!(matches!(error, BusError::Refused(_)), "{error:?}");
    let longest = "x".repeat(1_000);
    bus.publish(&room("post:42"), longest.clone().into()).await.unwrap();
    assert_eq!(heard.hears(&format!("post:42 {longest}")).await[0], "gap post:42");
    assert_eq!(bus.health().oversized, 1);
}

#[tokio::test]
async fn twenty_thousand_rooms_are_subscribed_in_one_call_and_left_in_another() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let rooms: Vec<Topic> = (0..20_000).map(|n| room(&format!("post:{n}"))).collect();
    subscribe(&bus, &rooms).await;
    assert_eq!((bus.health().wanted, bus.health().subscribed), (20_000, 20_000));
    assert_eq!(redis.cli(&["PUBSUB", "NUMSUB", "ws:post:19999"]).await, "ws:post:19999\n1");
    unsubscribe(&bus, &rooms).await;
    assert_eq!((bus.health().wanted, bus.health().subscribed), (0, 0));
    assert!(redis.cli(&["PUBSUB", "CHANNELS", "ws:*"]).await.is_empty());
}

#[tokio::test]
async fn joins_and_leaves_in_any_order_end_as_the_last_call_states() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    Listener::of(&bus);
    let topic = [room("post:42")];
    for round in 0..100 {
        // Without waiting for any answer but the last.
        bus.subscribe(&topic);
        bus.unsubscribe(&topic);
        subscribe(&bus, &topic).await;
        assert_eq!(redis.cli(&["PUBLISH", "ws:post:42", "1"]).await, "1", "in round {round}");
        bus.subscribe(&topic);
        unsubscribe(&bus, &topic).await;
        assert_eq!(redis.cli(&["PUBLISH", "ws:post:42", "1"]).await, "0", "in round {round}");
    }
    assert_eq!(bus.health().subscriber_losses, 0);
}

#[tokio::test]
async fn what_is_published_at_once_is_sent_in_pipelines_and_in_order() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let heard = Listener::of(&bus);
    let topic = room("post:42");
    subscribe(&bus, std::slice::from_ref(&topic)).await;
    let all = join_all((0..5_000).map(|n| bus.publish(&topic, n.to_string().into()))).await;
    assert!(all.iter().all(Result::is_ok));
    let events = heard.take(5_000).await;
    assert_eq!(events, (0..5_000).map(|n| format!("post:42 {n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_queue_that_is_full_turns_publishers_away_at_once() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::builder(redis.url())
        .limits(|limits| (limits.max_queue_messages, limits.max_queue_bytes) = (50, 10_000))
        .connect()
        .await
        .unwrap();
    redis.freeze();
    let topic = room("post:42");
    let all = join_all((0..400).map(|n| bus.publish(&topic, n.to_string().into()))).await;
    let overloaded = all.iter().filter(|answer| matches!(answer, Err(BusError::Overloaded))).count();
    assert_eq!(overloaded, 350, "50 wait");
    assert_eq!(bus.health().overloaded, 350);
    redis.thaw();
    healthy(&bus, |health| health.connected).await;
    let long = Bytes::from(vec![b'x'; 6_000]);
    let all = join_all((0..2).map(|_| bus.publish(&topic, long.clone()))).await;
    assert!(matches!(all[..], [Ok(()), Err(BusError::Overloaded)]), "{all:?}");
}

#[tokio::test]
async fn after_the_close_nothing_is_taken_and_redis_has_no_connection_of_ours() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::builder(redis.url()).client_name("node-7").connect().await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;
    let list = redis.cli(&["CLIENT", "LIST"]).await;
    assert!(list.contains("name=node-7:sub") && list.contains("name=node-7:pub"), "{list}");
    bus.close().await;
    assert!(matches!(bus.publish(&room("post:42"), "1".into()).await, Err(BusError::Down)));
    gone(&redis, "node-7").await;
    assert_eq!(heard.events(), [] as [String; 0]);
    assert!(!bus.health().connected);
}

#[tokio::test]
async fn the_last_handle_takes_the_connections_along() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::builder(redis.url()).client_name("node-7").connect().await.unwrap();
    let other = bus.clone();
    drop(bus);
    assert!(other.health().connected);
    drop(other);
    gone(&redis, "node-7").await;
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_never_the_password() {
    let redis = RedisServer::with(&["--requirepass", "right"]).await;
    let refused = RedisBus::connect(format!("redis://:wr0ng@127.0.0.1:{}", redis.port)).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused(_)), "{refused:?}");
    let missing = RedisBus::connect(redis.url()).await.unwrap_err();
    assert!(matches!(missing, ConnectError::Refused(_)), "{missing:?}");
    let nobody = RedisBus::connect(format!("redis://:wr0ng@127.0.0.1:{}", free_port())).await.unwrap_err();
    assert!(matches!(nobody, ConnectError::Unreachable(_)), "{nobody:?}");
    let no_url = RedisBus::connect("http://:wr0ng@127.0.0.1").await.unwrap_err();
    assert!(matches!(no_url, ConnectError::Url(_)), "{no_url:?}");
    let settings = ["ACL", "SETUSER", "deaf", "on", ">wr0ng", "&*", "+@all", "-publish"];
    redis.cli(&[&["-a", "right", "--no-auth-warning"], &settings[..]].concat()).await;
    let mute = RedisBus::connect(format!("redis://deaf:wr0ng@127.0.0.1:{}", redis.port)).await.unwrap_err();
    assert!(matches!(mute, ConnectError::Refused(_)), "{mute:?}");
    for error in [refused, missing, nobody, no_url, mute] {
        let text = format!("{error} {error:?} {:?}", std::error::Error::source(&error).map(ToString::to_string));
        assert!(!text.contains("wr0ng"), "{text}");
    }

    let url = format!("redis://:right@127.0.0.1:{}", redis.port);
    let builder = RedisBus::builder(&url);
    let text = format!("{builder:?}");
    let bus = builder.connect().await.unwrap();
    let text = format!("{text} {bus:?} {:?}", bus.health());
    assert!(!text.contains("right") && !text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn a_server_without_resp3_is_refused_with_the_version_that_is_needed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = [0; 4096];
                while stream.read(&mut read).await.is_ok_and(|count| count > 0) {
                    let answer = "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n".repeat(4);
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let error = RedisBus::connect(format!("redis://127.0.0.1:{port}")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Resp2), "{error:?}");
    assert!(error.to_string().contains("Redis 6"), "{error}");
}

/// Waits until no connection of that name is left.
async fn gone(redis: &RedisServer, name: &str) {
    let gone = async {
        while redis.cli(&["CLIENT", "LIST"]).await.contains(name) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("an end of the connections");
}

#[tokio::test]
async fn never_is_a_time() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::builder(redis.url())
        .limits(|limits| limits.response_timeout = Duration::MAX)
        .connect()
        .await
        .unwrap();
    bus.publish(&room("post:42"), "x".into()).await.unwrap();
    bus.close().await;
}
