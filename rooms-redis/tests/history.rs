//! Histories in Redis: what the page about them says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/history.rs"]
mod history;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::{fs, process::Command, time::Duration};

use rooms_core::{
    JoinOptions,
    bus::{History, Position, ReadFrom},
};
use rooms_redis::{APPEND_SCRIPT, RedisBus};

use fleet::{Node, key, quick};
use history::{LOG, MARK, RETENTION, append, post, read, since};
use listener::{Listener, subscribe};
use redis_server::RedisServer;

const PAGE: &str = include_str!("../../docs/history.md");

#[tokio::test]
async fn the_script_of_the_page_publishes_from_python() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[post()]).await;
    let first = append(&bus, "1").await.unwrap();

    let directory = tempfile::TempDir::new().unwrap();
    // The second goes on where the first ends.
    let programs = PAGE.split("```python\n").skip(1).take(2).map(|rest| rest.split_once("```").unwrap().0);
    let program: String = programs.collect();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("publish.py"), program).unwrap();
    fs::write(path("append.lua"), APPEND_SCRIPT).unwrap();
    fs::write(path("redis.py"), include_str!("support/redis_for_python.py")).unwrap();
    let python = Command::new("python3").arg(path("publish.py")).arg(redis.url()).arg(path("append.lua")).output();
    let output = python.expect("python3; `apt-get install python3` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let positions = String::from_utf8(output.stdout).unwrap();
    let positions: Vec<Position> = positions.lines().map(|position| position.parse().unwrap()).collect();

    assert_eq!(positions, [2, 3].map(|offset| Position::new(first.epoch(), offset)));
    let text = r#"{"type": "new_comment", "text": "from Python"}"#;
    let excerpt = read(&bus, ReadFrom::After(first)).await;
    assert_eq!(excerpt.since(first).unwrap(), [text.as_bytes(), b"\x01v1;b;\0\xff\n\r"]);
    assert_eq!(heard.take(2).await[..], ["post:42 1".to_owned(), format!("post:42 {text}")]);

    // And so to a member, who comes later.
    let room = key("log:1");
    let node = Node::start(quick(redis.url())).await;
    let mut here = node.join("a", "log:1").await;
    let program = fs::read_to_string(path("publish.py")).unwrap().replace("post:42", "log:1");
    fs::write(path("publish.py"), program).unwrap();
    let python = Command::new("python3").arg(path("publish.py")).arg(redis.url()).arg(path("append.lua")).output();
    assert!(python.unwrap().status.success());
    assert_eq!([here.bytes().await, here.bytes().await], [&b"\0\xff\n\r"[..], b"\0\xfe"]);
    let mut newest = node.join_with("b", room.as_str(), JoinOptions::new().newest(1)).await.unwrap();
    assert_eq!(newest.bytes().await, b"\0\xff\n\r", "the one that was published plainly is not kept");
}

#[tokio::test]
async fn bytes_among_json_are_kept_and_given_to_who_was_away_on_every_node() {
    let redis = RedisServer::start().await;
    let (one, two) = (Node::start(quick(redis.url())).await, Node::start(quick(redis.url())).await);
    let (room, all) = (key("log:1"), (0..=255).collect::<Vec<u8>>());
    let payloads = [&all[..], b"", b"\x01p2a.1;", b"\x01v1;b;", b"{}\r\n", b"\r\n$3\r\nabc;"];
    let mut here = two.join("a", "log:1").await;
    let first = one.rooms.broadcast(&room, &1).await.unwrap().position.unwrap();
    for (payload, offset) in payloads.iter().zip(2..) {
        let receipt = one.rooms.to(&room).binary(payload.to_vec()).await.unwrap();
        assert_eq!(receipt.position, Some(Position::new(first.epoch(), offset)));
    }
    one.rooms.broadcast(&room, &2).await.unwrap();
    let three = Node::start(quick(redis.url())).await;
    let since = JoinOptions::new().since(first.to_string());
    let mut was_away = two.join_with("b", "log:1", since.clone()).await.unwrap();
    let mut elsewhere = three.join_with("c", "log:1", since).await.unwrap();
    let mut newest = three.join_with("d", "log:1", JoinOptions::new().newest(payloads.len() + 1)).await.unwrap();
    assert_eq!(here.next().await, 1);
    for member in [&mut here, &mut was_away, &mut elsewhere, &mut newest] {
        for payload in payloads {
            assert_eq!(member.bytes().await, payload);
        }
        assert_eq!(member.next().await, 2);
    }
    // In a room without a history, over the same channels.
    let mut post = two.join("a", "post:42").await;
    for payload in payloads {
        one.rooms.to(&key("post:42")).binary(payload.to_vec()).await.unwrap();
        assert_eq!(post.bytes().await, payload);
    }
    // A plain publisher, whose envelope is broken.
    for broken in ["\u{1}v1;b", "\u{1}v1;B;x", "\u{1}v1;x=1-1;b"] {
        redis.cli(&["PUBLISH", "ws:post:42", broken]).await;
    }
    redis.cli(&["PUBLISH", "ws:post:42", "\u{1}v1;b;plain"]).await;
    assert_eq!(post.bytes().await, b"plain");
    assert_eq!(two.rooms.stats().bad_payloads, 3);
}

#[tokio::test]
async fn the_keys_are_as_the_page_says_and_go_by_themselves() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let (age, day) = (Duration::from_secs(100), 86_400);
    let position = bus.append(&post(), "{}".into(), RETENTION.age(age)).await.unwrap();
    let entry = redis.cli(&["LRANGE", LOG, "0", "-1"]).await;
    assert!(entry.starts_with("1;1") && entry.ends_with(";0\n{}"), "{entry}");
    let marked = redis.cli(&["HGET", MARK, "head"]).await;
    let [offset, bytes, _, epoch, server] = marked.split(';').collect::<Vec<_>>().try_into().unwrap();
    assert_eq!([offset, bytes, epoch], ["1", "2", &format!("{:x}", position.epoch())]);
    assert!(
        redis.cli(&["INFO", "replication"]).await.contains(&format!("master_replid:{server}")) && server.len() == 16
    );
    let expires = |seconds: String| seconds.parse::<u64>().unwrap();
    // An eighth longer than the age, so that it is not to be set each time.
    assert!((102..=112).contains(&expires(redis.cli(&["TTL", LOG]).await)));
    assert!((day + 102..=day + 112).contains(&expires(redis.cli(&["TTL", MARK]).await)));
    redis.cli(&["EXPIRE", LOG, "50"]).await;
    bus.append(&post(), "{}".into(), RETENTION.age(age * 2)).await.unwrap();
    assert!((215..=225).contains(&expires(redis.cli(&["TTL", LOG]).await)), "it is set where it would not suffice");
    assert_eq!(redis.cli(&["DBSIZE"]).await, "2");
    redis.cli(&["DEL", LOG]).await;
    bus.append(&post(), "{}".into(), RETENTION.age(age)).await.unwrap();
    assert!((102..=112).contains(&expires(redis.cli(&["TTL", LOG]).await)), "one that begins anew goes as well");
    // Reading is using, and begins what is not there.
    for gone in ["PERSIST", "DEL"] {
        redis.cli(&[gone, MARK]).await;
        read(&bus, ReadFrom::Newest(0)).await;
        assert!((day + 3_590..=day + 3_600).contains(&expires(redis.cli(&["TTL", MARK]).await)), "{gone}");
    }
}

#[tokio::test]
async fn a_plain_publish_is_heard_and_not_kept() {
    let redis = RedisServer::start().await;
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[post()]).await;
    let first = append(&bus, "1").await.unwrap();
    redis.cli(&["PUBLISH", "ws:post:42", "plain"]).await;
    append(&bus, "2").await.unwrap();
    assert_eq!(since(&bus, first).await, Ok(vec!["2".to_owned()]));
    assert_eq!(heard.take(3).await[..], ["post:42 1", "post:42 plain", "post:42 2"]);
}
