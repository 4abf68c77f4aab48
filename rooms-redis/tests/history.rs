//! Histories in Redis: what the page about them says, what may be wrong with Redis, and a log that was lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::{error::Error, fs, process::Command, time::Duration};

use futures::future::join_all;
use rooms_core::{
    BroadcastError, Bus, JoinError, JoinOptions,
    bus::{Appended, BusError, Excerpt, History, IdempotencyKey, Missing, Position, ReadFrom, Retention, Topic},
};
use rooms_redis::{APPEND_SCRIPT, RedisBus};

use fleet::{Node, key, quick};
use listener::{Listener, healthy, room, subscribe};
use redis_server::RedisServer;

const PAGE: &str = include_str!("../../docs/history.md");
const RETENTION: Retention = Retention::messages(500);
const LOG: &str = "rooms:log:{ws:post:42}";
const MARK: &str = "rooms:mark:{ws:post:42}";

fn post() -> Topic {
    room("post:42")
}

async fn append(bus: &RedisBus, text: &str) -> Result<Position, BusError> {
    bus.append(&post(), text.to_owned().into(), RETENTION).await
}

async fn read(bus: &RedisBus, from: ReadFrom) -> Excerpt {
    bus.read(&post(), from, RETENTION).await.unwrap()
}

/// What came after a position, as text.
async fn since(bus: &RedisBus, position: Position) -> Result<Vec<String>, Missing> {
    let excerpt = read(bus, ReadFrom::After(position)).await;
    Ok(excerpt.since(position)?.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
}

/// Why Redis refused.
fn refusal<T: std::fmt::Debug>(outcome: Result<T, BusError>) -> String {
    match outcome {
        Err(error @ BusError::Refused(_)) => error.source().unwrap().to_string().to_uppercase(),
        other => panic!("{other:?}"),
    }
}

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
    let marked = redis.cli(&["HMGET", MARK, "epoch", "offset", "bytes"]).await;
    assert_eq!(marked, format!("{:x}\n1\n2", position.epoch()));
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
    assert_eq!(redis.cli(&["HMGET", MARK, "bytes"]).await, "2");
    assert_eq!(redis.cli(&["LLEN", LOG]).await, "4");
    let once = bus.append_once(&post(), "3".into(), RETENTION, &key).await.unwrap();
    assert_eq!(once, Appended::Now(Position::new(first.epoch(), 3)), "its key was not kept either");
}

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
        append(&bus, "4").await.unwrap();
        assert_eq!(payloads().await, "4", "{others:?}");
    }
    redis.cli(&["DEL", LOG, MARK]).await;
    // Where only the mark is gone, what has the name of the log may be somebody else's.
    redis.cli(&["SET", LOG, "not ours"]).await;
    assert!(refusal(append(&bus, "1").await).contains("WRONGTYPE"));
    assert_eq!(redis.cli(&["GET", LOG]).await, "not ours");
}

#[tokio::test]
async fn arguments_that_are_none_change_nothing() {
    let redis = RedisServer::start().await;
    const EVAL: [&str; 3] = ["EVAL", APPEND_SCRIPT, "2"];
    for [messages, bytes, age, epoch] in [
        ["x", "1", "1000", "8a"],
        ["1", "", "1000", "8a"],
        ["1", "1", "0", "8a"],
        ["1", "1", "1000", ""],
        ["1", "1", "1000", "0a"],
        ["1", "1", "1000", "8A"],
        ["1", "1", "1000", "80000000000000000"],
    ] {
        let rest = [LOG, MARK, "PUBLISH", "", "ws:post:42", messages, bytes, age, epoch, "1", "{}"];
        let answer = redis.cli(&[&EVAL[..], &rest].concat()).await;
        assert!(answer.contains("append.lua: a retention"), "{answer}");
    }
    for payloads in [&["0"][..], &["x", "{}"], &["2", "{}"], &["1"]] {
        let rest = [LOG, MARK, "PUBLISH", "", "ws:post:42", "1", "9", "1000", "8a"];
        let answer = redis.cli(&[&EVAL[..], &rest, payloads].concat()).await;
        assert!(answer.contains("append.lua: there is a number of payloads"), "{payloads:?}: {answer}");
    }
    const SET: &str = "rooms:keys:{ws:post:42}";
    for (keys, once) in
        [(&[LOG][..], ""), (&[LOG, MARK], "once"), (&[LOG, MARK, SET], ""), (&[LOG, MARK, LOG, MARK, LOG], "")]
    {
        let count = keys.len().to_string();
        let rest = ["PUBLISH", once, "ws:post:42", "1", "9", "1000", "8a", "1", "{}"];
        let answer = redis.cli(&[&["EVAL", APPEND_SCRIPT, &count], keys, &rest].concat()).await;
        assert!(answer.contains("append.lua: there are two keys"), "{keys:?}: {answer}");
    }
    let rest = [LOG, MARK, SET, "PUBLISH", "once", "ws:post:42", "1", "9", "1000", "8a", "2", "{}", "{}"];
    let answer = redis.cli(&[&["EVAL", APPEND_SCRIPT, "3"], &rest[..]].concat()).await;
    assert!(answer.contains("one with an idempotency key"), "{answer}");
    let rest = [LOG, MARK, "NONSENSE", "", "ws:post:42", "1", "9", "1000", "8a", "1", "{}"];
    let answer = redis.cli(&[&EVAL[..], &rest].concat()).await;
    assert!(answer.contains("nknown"), "{answer}");
    assert_eq!(redis.cli(&["LLEN", LOG]).await, "0");
}

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
    let kept = redis.cli(&["LRANGE", LOG, "0", "-1"]).await;
    let payloads: Vec<&str> = kept.lines().skip(1).step_by(2).collect();
    assert_eq!(payloads, ["young", "new"], "{kept}");
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
