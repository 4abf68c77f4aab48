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

use std::{collections::BTreeSet, time::Duration};

use rooms_core::{
    Bus,
    bus::{Appended, BusError, History, IdempotencyKey, NewState, Outcome, ReadFrom, Retention, States, Topic},
};
use rooms_redis::{APPEND_SCRIPT, PubSub, RedisBus, STATE_SCRIPT};

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
        let Err(BusError::Refused(refused)) = keeps(&bus, &redis).await else { panic!("it does without {right}") };
        let (said, named) = (refused.to_string().to_lowercase(), right.trim_start_matches(['+', '~']));
        assert!(said.contains("noperm") && said.contains(named.trim_end_matches('*')), "without {right}: {said}");
        works_beside(&bus).await;
        redis.cli(&["FLUSHALL"]).await;
    }
}

/// The rights of a line that are for scripts: what they use, and may be called by.
fn script_rights(user: &str) -> BTreeSet<&'static str> {
    line(user).into_iter().skip_while(|word| *word != "+eval").collect()
}

/// The commands that scripts call by name, as rights.
fn used(scripts: &[&str]) -> BTreeSet<String> {
    let calls = scripts.iter().flat_map(|script| script.split("call('").skip(1));
    let commands = calls.map(|rest| format!("+{}", rest.split('\'').next().unwrap().to_lowercase()));
    commands.chain(["+eval", "+evalsha"].map(str::to_owned)).collect()
}

#[test]
fn the_page_allows_the_commands_of_the_scripts_and_no_others() {
    let read = [include_str!("../src/history/read.lua"), include_str!("../src/history/read_state.lua")];
    let write = [APPEND_SCRIPT, STATE_SCRIPT];
    for (user, scripts) in [("rooms-keeper", [&read[..], &write].concat()), ("rooms-writer", write.to_vec())] {
        let allowed = script_rights(user).into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(allowed, used(&scripts), "{user}");
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
        let call = ["EVAL", APPEND_SCRIPT, "2", log, mark, "PUBLISH", "", "8a", "ws:post:42", "2;99;9999", "1", "{}"];
        assert_eq!(as_user(&redis, "rooms-writer", &call).await, format!("8a.{n}\n0"));
    }
    for answer in ["8a.4\n0", "8a.4\nrepeated"] {
        let rest = ["PUBLISH", "k", "8a", "ws:post:42", "2;99;9999", "1", "{}"];
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

/// Calls the scripts in each way that a publisher may; gives the first error.
async fn writes(redis: &RedisServer, user: &str) -> Result<(), String> {
    const LOG: &str = "rooms:log:{ws:post:42}";
    const MARK: &str = "rooms:mark:{ws:post:42}";
    const KEYS: &str = "rooms:keys:{ws:post:42}";
    const STATE: &str = "rooms:state:{ws:post:42}";
    let said = async |command: &[&str]| {
        let answer = as_user(redis, user, command).await;
        if answer.contains("NOPERM") || answer.starts_with("ERR") { Err(answer) } else { Ok(answer) }
    };
    let to = |channel: &'static str, once: &'static str| ["PUBLISH", once, "8a", channel, "2;99;9999", "1", "{}"];
    for _ in 0..3 {
        said(&[&["EVAL", APPEND_SCRIPT, "2", LOG, MARK][..], &to("ws:post:42", "")].concat()).await?;
    }
    let hash = redis.cli(&["SCRIPT", "LOAD", APPEND_SCRIPT]).await;
    for _ in 0..2 {
        said(&[&["EVALSHA", &hash, "3", LOG, MARK, KEYS][..], &to("ws:post:42", "once")].concat()).await?;
    }
    // A channel where it may not publish, so that its key is to go again.
    let call = [&["EVAL", APPEND_SCRIPT, "3", LOG, MARK, KEYS][..], &to("rooms-nodes", "twice")].concat();
    let refused = as_user(redis, user, &call).await;
    if !refused.contains("can't publish to the channel") {
        return Err(refused);
    }
    if redis.cli(&["HGET", MARK, "head"]).await.ends_with(';') {
        return Err("the mark does not say of which server it is, for which INFO is needed: NOPERM".into());
    }
    let state = ["ws:post:42", "1", "", "*", "PUBLISH", "9999", "8a"];
    said(&[&["EVAL", STATE_SCRIPT, "1", STATE][..], &state].concat()).await?;
    Ok(())
}

#[tokio::test]
async fn each_right_of_a_foreign_publisher_to_histories_is_needed_and_the_error_names_it() {
    let redis = RedisServer::start().await;
    assert_eq!(redis.cli(&line("rooms-writer")).await, "OK");
    assert_eq!(writes(&redis, "rooms-writer").await, Ok(()));
    let page = line("rooms-writer");
    for (number, right) in page.iter().filter(|word| word.starts_with(['~', '+', '&'])).enumerate() {
        let user = format!("writer-{number}");
        let mut words = page.clone();
        words.retain(|word| word != right);
        words[2] = &user;
        assert_eq!(redis.cli(&words).await, "OK");
        redis.cli(&["FLUSHALL"]).await;
        let said = writes(&redis, &user).await.expect_err(right).to_lowercase();
        let named = match right.as_bytes()[0] {
            b'~' => "keys",
            b'&' => "publish to the channel",
            _ => &right[1..],
        };
        assert!(said.contains(named), "without {right}: {said}");
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
        // With the keys and the rights that histories and states need.
        let keeper = line("rooms-keeper");
        let keys = keeper.iter().copied().filter(|word| word.starts_with('~'));
        let more: Vec<_> = line(user).into_iter().chain(keys).chain(script_rights("rooms-keeper")).collect();
        for node in &cluster.nodes {
            assert_eq!(node.cli(&more).await, "OK");
        }
        let builder = RedisBus::builder(url(user, cluster.nodes[0].port)).cluster([] as [&str; 0], pubsub);
        let bus = builder.connect().await.unwrap();
        keeps_states(&bus).await.unwrap();
        let (topic, retention) = (room("post:42"), Retention::messages(2));
        bus.append(&topic, "1".into(), retention).await.unwrap();
        assert_eq!(bus.read(&topic, ReadFrom::Newest(9), retention).await.unwrap().messages, ["1"]);
        for node in &cluster.nodes {
            node.cli(&["FLUSHALL"]).await;
        }
        for node in &cluster.nodes {
            nothing_was_refused(node.port).await;
        }
    }
}
