//! What the operations page says about rights is so: the users are made with exactly its lines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "support/sentinels.rs"]
mod sentinels;

use std::time::Duration;

use rooms_core::{
    Bus,
    bus::{Appended, BusError, History, IdempotencyKey, NewState, Outcome, ReadFrom, Retention, States, Topic},
};
use rooms_redis::{APPEND_SCRIPT, PubSub, RedisBus};

use cluster::Cluster;
use listener::{Listener, healthy, room, subscribe, unsubscribe};
use redis_server::RedisServer;
use sentinels::Watched;

const PAGE: &str = include_str!("../../docs/operations.md");

/// The words of the page's line for a user.
fn line(user: &str) -> Vec<&'static str> {
    let begin = format!("ACL SETUSER {user} ");
    let line = PAGE.lines().find(|line| line.starts_with(&begin)).expect("a line for the user");
    line.split(' ').collect()
}

/// What `redis-cli` prints as that user.
async fn as_user(redis: &RedisServer, user: &str, command: &[&str]) -> String {
    redis.cli(&[&["--user", user, "--pass", "password", "--no-auth-warning"], command].concat()).await
}

fn url(user: &str, port: u16) -> String {
    format!("redis://{user}:password@127.0.0.1:{port}")
}

/// Uses all of a bus.
async fn works(bus: &RedisBus) {
    let topics = [room("post:42"), Topic::Control("post:42".parse().unwrap()), Topic::Nodes];
    let heard = Listener::of(bus);
    subscribe(bus, &topics).await;
    for topic in &topics {
        bus.publish(topic, "it works".into()).await.unwrap();
    }
    heard.take(3).await;
    unsubscribe(bus, &topics).await;
    let health = bus.health();
    assert!(health.connected && health.last_fault.is_none(), "{health:?}");
}

/// Redis has refused nothing so far, also nothing that a bus would do without.
async fn nothing_was_refused(port: u16) {
    let refused = redis_server::cli(port, &["ACL", "LOG"]).await;
    assert!(refused.is_empty(), "{refused}");
}

#[tokio::test]
async fn the_user_of_the_processes_has_the_rights_that_a_bus_needs_and_no_others() {
    let redis = RedisServer::start().await;
    assert_eq!(redis.cli(&line("rooms-node")).await, "OK");
    let bus = RedisBus::connect(url("rooms-node", redis.port)).await.unwrap();
    works(&bus).await;
    nothing_was_refused(redis.port).await;
    for command in [&["GET", "a"][..], &["KEYS", "*"], &["PUBLISH", "other", "x"], &["CONFIG", "GET", "*"]] {
        let answer = as_user(&redis, "rooms-node", command).await;
        assert!(answer.contains("NOPERM"), "{command:?}: {answer}");
    }
}

#[tokio::test]
async fn each_right_of_the_processes_is_needed() {
    let redis = RedisServer::start().await;
    // `+hello` is for Redis 6; later ones allow it to all.
    let needed = ["&ws:*", "&rooms-*", "+publish", "+subscribe", "+unsubscribe"];
    for (number, right) in needed.into_iter().enumerate() {
        let user = format!("node-{number}");
        let mut words = line("rooms-node");
        assert!(words.contains(&right), "{right}");
        words.retain(|word| *word != right);
        words[2] = &user;
        assert_eq!(redis.cli(&words).await, "OK");
        let Ok(bus) = RedisBus::connect(url(&user, redis.port)).await else { continue };
        let topic = [room("post:42")];
        bus.subscribe(&topic);
        let health = healthy(&bus, |health| health.refused > 0 || health.subscribed > 0).await;
        bus.unsubscribe(&topic);
        // Where it may not unsubscribe, it gives up the connection with all that is subscribed on it.
        let lost = || healthy(&bus, |health| health.subscriber_losses > 0);
        assert!(health.refused > 0 || lost().await.subscriber_losses > 0, "a bus does without {right}");
    }
}

/// Uses all of a state: it is read, set, found to be another one, and set again.
async fn keeps_states(bus: &RedisBus) -> Result<(), BusError> {
    let (room, keep) = (room("post:42"), Duration::from_secs(60));
    bus.state(&room, keep).await?;
    let set = async |after| bus.set_state(&room, NewState::new(after, "1".into(), keep)).await;
    let Outcome::Set(first) = set(None).await? else { panic!("there was none") };
    assert_eq!(set(None).await?, Outcome::Conflict(Some(first)));
    assert!(matches!(set(Some(first)).await?, Outcome::Set(_)));
    assert!(bus.state(&room, keep).await?.is_some());
    Ok(())
}

/// Uses all of a history: it is begun, appended to, trimmed, found spoilt, and read.
async fn keeps_histories(bus: &RedisBus, redis: &RedisServer) -> Result<(), BusError> {
    let (room, retention) = (room("post:42"), Retention::messages(2));
    bus.read(&room, ReadFrom::Newest(0), retention).await?;
    for n in 0..4 {
        bus.append(&room, n.to_string().into(), retention).await?;
    }
    bus.append(&room, "the longest".into(), retention.bytes(11)).await?;
    redis.cli(&["RPUSH", "rooms:log:{ws:post:42}", "not ours"]).await;
    let key = IdempotencyKey::new("once").unwrap();
    let last = bus.append_once(&room, "4".into(), retention, &key).await?.position();
    assert_eq!(bus.append_once(&room, "4".into(), retention, &key).await?, Appended::Before(last));
    let read = bus.read(&room, ReadFrom::Newest(9), retention).await?;
    assert_eq!((read.head, &*read.messages), (last, &["4".into()][..]));
    redis.cli(&["FLUSHALL"]).await;
    Ok(())
}

async fn keeps(bus: &RedisBus, redis: &RedisServer) -> Result<(), BusError> {
    keeps_states(bus).await?;
    keeps_histories(bus, redis).await
}

#[tokio::test]
async fn the_user_of_processes_with_histories_has_the_rights_that_these_need() {
    let redis = RedisServer::start().await;
    assert_eq!(redis.cli(&line("rooms-keeper")).await, "OK");
    let bus = RedisBus::connect(url("rooms-keeper", redis.port)).await.unwrap();
    works(&bus).await;
    keeps(&bus, &redis).await.unwrap();
    nothing_was_refused(redis.port).await;
    for command in [&["LRANGE", "a", "0", "-1"][..], &["GET", "rooms:log:{ws:post:42}"], &["DEL", "rooms:log:post:42"]]
    {
        let answer = as_user(&redis, "rooms-keeper", command).await;
        assert!(answer.contains("NOPERM"), "{command:?}: {answer}");
    }
}

#[tokio::test]
async fn each_right_of_processes_with_histories_is_needed_and_a_missing_one_is_an_error_of_histories_alone() {
    let redis = RedisServer::start().await;
    let page = line("rooms-keeper");
    // `+zrem` is for what can't be published, and `+info` for servers that take over.
    let scripts = page.iter().position(|word| *word == "+eval").unwrap();
    let needed = page.iter().filter(|word| word.starts_with('~')).chain(&page[scripts..]);
    for (number, right) in needed.filter(|right| !["+zrem", "+info"].contains(right)).enumerate() {
        let user = format!("keeper-{number}");
        let mut words = page.clone();
        words.retain(|word| word != right);
        words[2] = &user;
        assert_eq!(redis.cli(&words).await, "OK");
        let bus = RedisBus::connect(url(&user, redis.port)).await.unwrap();
        redis.cli(&["SCRIPT", "FLUSH"]).await;
        let outcome = keeps(&bus, &redis).await;
        assert!(matches!(outcome, Err(BusError::Refused(_))), "without {right}: {outcome:?}");
        works_beside(&bus).await;
        redis.cli(&["FLUSHALL"]).await;
    }
}

/// A room without a history is as good.
async fn works_beside(bus: &RedisBus) {
    bus.publish(&room("post:43"), "it works".into()).await.unwrap();
    assert!(bus.health().connected);
}

#[tokio::test]
async fn a_foreign_publisher_to_histories_needs_no_more_than_the_page_says() {
    let redis = RedisServer::start().await;
    assert_eq!(redis.cli(&line("rooms-writer")).await, "OK");
    let [log, mark, keys] = ["log", "mark", "keys"].map(|part| format!("rooms:{part}:{{ws:post:42}}"));
    let [log, mark, keys] = [&*log, &*mark, &*keys];
    for n in 1..=3 {
        let call =
            ["EVAL", APPEND_SCRIPT, "2", log, mark, "PUBLISH", "", "ws:post:42", "2", "99", "9999", "8a", "1", "{}"];
        assert_eq!(as_user(&redis, "rooms-writer", &call).await, format!("8a\n{n}\n0"));
    }
    for answer in ["8a\n4\n0", "8a\n4\nrepeated"] {
        let rest = ["PUBLISH", "k", "ws:post:42", "2", "99", "9999", "8a", "1", "{}"];
        let call = [&["EVAL", APPEND_SCRIPT, "3", log, mark, keys][..], &rest].concat();
        assert_eq!(as_user(&redis, "rooms-writer", &call).await, answer);
    }
    nothing_was_refused(redis.port).await;
    for command in
        [&["LRANGE", "a", "0", "-1"][..], &["GET", log], &["PUBLISH", "rooms-nodes", "x"], &["SUBSCRIBE", "ws:post:42"]]
    {
        let answer = as_user(&redis, "rooms-writer", command).await;
        assert!(answer.contains("NOPERM"), "{command:?}: {answer}");
    }
}

#[tokio::test]
async fn a_foreign_publisher_speaks_to_rooms_and_not_for_processes() {
    let redis = RedisServer::start().await;
    assert_eq!(redis.cli(&line("rooms-publisher")).await, "OK");
    assert_eq!(as_user(&redis, "rooms-publisher", &["PUBLISH", "ws:post:42", "{}"]).await, "0");
    for command in [&["PUBLISH", "rooms-nodes", "x"][..], &["SUBSCRIBE", "ws:post:42"], &["GET", "a"]] {
        let answer = as_user(&redis, "rooms-publisher", command).await;
        assert!(answer.contains("NOPERM"), "{command:?}: {answer}");
    }
}

#[tokio::test]
async fn a_foreign_subscriber_hears_rooms_and_says_nothing() {
    let redis = RedisServer::start().await;
    assert_eq!(redis.cli(&line("rooms-listener")).await, "OK");
    for command in [&["PSUBSCRIBE", "ws:chat:*"][..], &["SUBSCRIBE", "rooms-nodes"], &["PUBLISH", "ws:post:42", "x"]] {
        let answer = as_user(&redis, "rooms-listener", command).await;
        assert!(answer.contains("NOPERM"), "{command:?}: {answer}");
    }
    let mut listener =
        redis::Client::open(url("rooms-listener", redis.port)).unwrap().get_async_pubsub().await.unwrap();
    listener.psubscribe("ws:post:*").await.unwrap();
    assert_eq!(redis.cli(&["PUBLISH", "ws:post:42", "{}"]).await, "1");
}

#[tokio::test]
async fn with_sentinel_the_page_has_the_rights_for_both() {
    let watched = Watched::start().await;
    for server in &watched.servers {
        assert_eq!(server.cli(&line("rooms-node")).await, "OK");
    }
    for sentinel in &watched.sentinels {
        assert_eq!(sentinel.cli(&line("rooms-asker")).await, "OK");
    }
    let asking = watched.urls().into_iter().map(|url| url.replace("redis://", "redis://rooms-asker:password@"));
    let asking: Vec<String> = asking.collect();
    let bus = RedisBus::builder("redis://rooms-node:password@service").sentinels(asking).connect().await.unwrap();
    works(&bus).await;
    nothing_was_refused(watched.servers[0].port).await;
    for sentinel in &watched.sentinels {
        assert!(sentinel.cli(&["ACL", "LOG"]).await.is_empty());
    }
}

#[tokio::test]
async fn in_a_cluster_the_page_has_the_rights_for_sharded_and_for_classic_channels() {
    let cluster = Cluster::start().await;
    for (user, pubsub) in [("rooms-sharded", PubSub::Sharded), ("rooms-classic", PubSub::Classic)] {
        for node in &cluster.nodes {
            assert_eq!(node.cli(&line(user)).await, "OK");
        }
        let builder = RedisBus::builder(url(user, cluster.nodes[0].port)).cluster([] as [&str; 0], pubsub);
        works(&builder.connect().await.unwrap()).await;
        for node in &cluster.nodes {
            nothing_was_refused(node.port).await;
        }
    }
}
