//! Nodes over one Redis: who is given what, without and with faults.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::time::Duration;

use futures::future::join_all;
use rooms_core::{Bus as _, Reach};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use fleet::{Node, key, quick};
use redis_server::{PATIENCE, RedisServer, size};

#[tokio::test]
async fn ten_members_on_three_nodes_are_given_once_what_a_fourth_publishes() {
    let redis = RedisServer::start().await;
    let nodes = join_all((0..4).map(|_| Node::start(quick(redis.url())))).await;
    let mut members = Vec::new();
    for (node, count) in nodes.iter().zip([3, 4, 3]) {
        for n in 0..count {
            members.push(node.join(&format!("u{n}"), "post:42").await);
        }
    }
    let receipt = nodes[3].rooms.broadcast(&key("post:42"), &json!({"type": "new_comment"})).await.unwrap();
    assert_eq!(receipt.reach, Reach::AllNodes);
    let except = members[0].connection.id();
    nodes[2].rooms.to(&key("post:42")).except(except).json(&json!("not for the first")).await.unwrap();
    nodes[1].rooms.broadcast(&key("post:42"), &json!("the end")).await.unwrap();
    for (number, member) in members.iter_mut().enumerate() {
        let given = member.up_to(&json!("the end")).await;
        let expected = [json!({"type": "new_comment"}), json!("not for the first")];
        assert_eq!(given, expected[..if number == 0 { 1 } else { 2 }], "member {number}");
    }
}

#[tokio::test]
async fn a_foreign_publisher_and_a_foreign_subscriber_share_the_wire_of_the_rooms() {
    let redis = RedisServer::start().await;
    let node = Node::start(quick(redis.url())).await;
    let mut member = node.join("5", "post:42").await;
    assert_eq!(redis.cli(&["PUBLISH", "ws:post:42", r#"{"type":"x"}"#]).await, "1");
    assert_eq!(member.next().await, json!({"type": "x"}));

    let mut foreign = TcpStream::connect(("127.0.0.1", redis.port)).await.unwrap();
    foreign.write_all(b"PSUBSCRIBE ws:post:*\r\n").await.unwrap();
    let mut read = vec![0; 4096];
    assert!(foreign.read(&mut read).await.unwrap() > 0, "the confirmation");
    node.rooms.broadcast(&key("post:42"), &json!({"type": "new_comment"})).await.unwrap();
    let count = foreign.read(&mut read).await.unwrap();
    let text = String::from_utf8_lossy(&read[..count]);
    assert!(text.contains("ws:post:42\r\n$22\r\n{\"type\":\"new_comment\"}\r\n"), "bare JSON: {text}");
}

#[tokio::test]
async fn poison_on_the_channel_is_counted_and_the_next_message_arrives() {
    // By default Redis cuts whoever has more than 32 MB before it.
    let redis = RedisServer::with(&["--client-output-buffer-limit", "pubsub 0 0 0"]).await;
    let node = Node::start(quick(redis.url())).await;
    let mut member = node.join("5", "post:42").await;
    let poison: [&[u8]; 6] = [b"", b"not JSON", b"\xff\xfe", b"{}{}", b"\x01v1;x=;{}", b"\x01nonsense"];
    let mut foreign = TcpStream::connect(("127.0.0.1", redis.port)).await.unwrap();
    for payload in poison {
        publish(&mut foreign, payload).await;
    }
    publish(&mut foreign, b"{\"from\":\"another language\"}").await;
    assert_eq!(member.next().await, json!({"from": "another language"}));
    assert_eq!(node.rooms.stats().bad_payloads, poison.len() as u64);

    // What is too deep, or too long for the room or for the bus, may have been meant for the members: a gap.
    let deep = [vec![b'['; 65], vec![b']'; 65]].concat();
    for payload in [deep, vec![b'['; 64 * 1024 + 1], vec![b'['; size(20_000_000, 100_000_000)]] {
        publish(&mut foreign, &payload).await;
        publish(&mut foreign, b"2").await;
        assert_eq!(member.next().await, json!({"type": "resync", "room": "post:42", "reason": "bus_gap"}));
        assert_eq!(member.next().await, json!(2));
    }
    assert_eq!((node.bus.health().oversized, node.bus.health().subscriber_losses), (1, 0));
}

async fn publish(redis: &mut TcpStream, payload: &[u8]) {
    let head = format!("*3\r\n$7\r\nPUBLISH\r\n$10\r\nws:post:42\r\n${}\r\n", payload.len());
    redis.write_all(&[head.as_bytes(), payload, b"\r\n"].concat()).await.unwrap();
    let mut answer = [0; 4];
    redis.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b":1\r\n", "one node hears it");
}

#[tokio::test]
async fn while_redis_is_away_a_node_serves_its_own_members_and_says_so() {
    let mut redis = RedisServer::start().await;
    let node = Node::start(quick(redis.url())).await;
    let mut member = node.join("5", "post:42").await;
    redis.kill();
    let down = async {
        while !node.rooms.stats().bus_down {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, down).await.expect("the loss to be noticed");
    let receipt = node.rooms.broadcast(&key("post:42"), &1).await.unwrap();
    assert_eq!(receipt.reach, Reach::LocalOnly);
    assert_eq!(member.next().await, json!(1));
    redis.restart().await;
    assert_eq!(member.next().await, json!({"type": "resync", "room": "post:42", "reason": "bus_gap"}));
    assert!(!node.rooms.stats().bus_down && node.bus.health().connected);
    assert_eq!(node.rooms.broadcast(&key("post:42"), &2).await.unwrap().reach, Reach::AllNodes);
    assert_eq!(member.next().await, json!(2));
}

#[tokio::test]
async fn a_room_that_empties_is_left_and_one_that_fills_again_is_heard() {
    let redis = RedisServer::start().await;
    let node = Node::start(quick(redis.url())).await;
    for _ in 0..20 {
        let mut member = node.join("5", "post:42").await;
        node.rooms.broadcast(&key("post:42"), &1).await.unwrap();
        assert_eq!(member.next().await, Value::from(1));
    }
    assert_eq!(redis.cli(&["PUBSUB", "NUMSUB", "ws:post:42"]).await, "ws:post:42\n1", "it lingers");
    assert_eq!(redis.cli(&["PUBSUB", "NUMSUB", "rooms-ctl:{ws:post:42}"]).await, "rooms-ctl:{ws:post:42}\n1");
    assert_eq!(node.bus.health().wanted, 4, "the room, its control topic, all nodes and this one");
}

#[tokio::test]
async fn counts_are_over_all_nodes_and_right_again_after_one_is_gone_without_a_word() {
    let redis = RedisServer::start().await;
    let first = Node::start(quick(redis.url())).await;
    let second = Node::start(quick(redis.url())).await;
    let others = async {
        while first.rooms.stats().nodes < 2 || second.rooms.stats().nodes < 2 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, others).await.expect("the nodes to find each other");
    let mut member = first.join("5", "post:42").await;
    assert_eq!(member.viewers().await, 1);
    let mut other = second.join("6", "post:42").await;
    assert_eq!([member.viewers().await, other.viewers().await], [2, 2]);
    // Both processes are young: in the first moments there could be nodes that were not heard yet.
    let exact = async {
        while !second.rooms.viewers(&key("post:42")).await.exact {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, exact).await.expect("an exact count");
    assert_eq!(second.rooms.viewers(&key("post:42")).await.viewers, 2);
    // All at once and without a word: its bus first, as when its process is killed.
    second.bus.close().await;
    assert_eq!(member.viewers().await, 1, "within its lease");
}
