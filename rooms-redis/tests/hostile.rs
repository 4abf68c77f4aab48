//! What clients call rooms, and what of it reaches Redis: nothing that is no room's name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/redis_server.rs"]
mod redis_server;

use futures::{StreamExt as _, channel::mpsc};
use rooms_core::{Identity, Message, ws::Incoming};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    time::timeout,
};

use fleet::{Node, quick};
use redis_server::{PATIENCE, RedisServer};

/// Every command that Redis is given from here on, one a line.
async fn monitor(redis: &RedisServer) -> Lines<BufReader<TcpStream>> {
    let address = redis.url().rsplit_once("//").unwrap().1.trim_end_matches('/').to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"MONITOR\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("+OK"));
    lines
}

#[tokio::test]
async fn no_name_that_is_no_rooms_reaches_redis() {
    let redis = RedisServer::start().await;
    let node = Node::start(quick(redis.url())).await;
    let mut commands = monitor(&redis).await;
    let (client, stream) = mpsc::unbounded();
    let (sink, mut received) = mpsc::unbounded();
    tokio::spawn(node.rooms.serve(stream, sink, Identity::new("5").unwrap()));
    let hostile = [
        "post:*".to_owned(),
        "post:{hostile}".to_owned(),
        "post:hostile name".to_owned(),
        "post:hostile\r\nPUBLISH ws:post:good hostile".to_owned(),
        "post:\u{0}hostile".to_owned(),
        "post:враждебный".to_owned(),
        format!("post:hostile{}", "x".repeat(10_000)),
        "post:".to_owned(),
        ":hostile".to_owned(),
        "hostile".to_owned(),
        "rooms-ctl:hostile".to_owned(),
        String::new(),
    ];
    for name in &hostile {
        for kind in ["join", "leave", "publish"] {
            let command = json!({"type": kind, "room": name, "data": {"hostile": 1}, "ref": name.len() % 7});
            client.unbounded_send(Ok(Incoming::Text(command.to_string()))).unwrap();
            let answer: Message = timeout(PATIENCE, received.next()).await.expect("an answer in time").unwrap();
            let answer: Value = serde_json::from_slice(answer.payload()).unwrap();
            assert_eq!(
                (&answer["type"], &answer["ref"]),
                (&json!("error"), &json!(name.len() % 7)),
                "{kind} {name:.40}"
            );
        }
    }
    client.unbounded_send(Ok(Incoming::Text(json!({"type": "join", "room": "post:good"}).to_string()))).unwrap();
    loop {
        let command = timeout(PATIENCE, commands.next_line()).await.expect("a command in time").unwrap().unwrap();
        assert!(!command.contains("hostile") && !command.contains('*'), "{command}");
        if command.contains("ws:post:good") {
            break;
        }
    }
}
