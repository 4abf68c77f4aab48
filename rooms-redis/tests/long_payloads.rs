//! A publisher that may speak to rooms and floods them with what is too long: nodes keep their size, and their logs too. The
//! one test of this file, as it measures the process it runs in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/listener.rs"]
mod listener;
#[path = "support/logs.rs"]
mod logs;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::fs;

use rooms_core::Bus;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use fleet::quick;
use listener::{Listener, healthy, room, subscribe};
use logs::Logs;
use redis_server::{PATIENCE, RedisServer};

/// The settings of the operations page that are for publishers that are not trusted.
fn settings() -> Vec<&'static str> {
    let page = include_str!("../../docs/operations.md");
    let names = ["proto-max-bulk-len", "client-output-buffer-limit"];
    let lines: Vec<&str> = page.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).collect();
    assert_eq!(lines.len(), names.len(), "{lines:?}");
    let words = lines.into_iter().flat_map(|line| line.split(' '));
    words.map(|word| if names.contains(&word) { &*format!("--{word}").leak() } else { word }).collect()
}

/// The memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// A connection of the user that may speak to rooms, and no more.
async fn publisher(redis: &RedisServer) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port)).await.unwrap();
    stream.write_all(b"AUTH publisher password\r\n").await.unwrap();
    assert_eq!(answer(&mut stream).await, "+OK");
    stream
}

async fn answer(stream: &mut TcpStream) -> String {
    let line = async {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8_lossy(&line).trim_end().to_owned()
    };
    timeout(PATIENCE, line).await.expect("an answer of Redis")
}

/// Says that so many bytes are to be published in the room.
async fn announce(stream: &mut TcpStream, length: usize) {
    let head = format!("*3\r\n$7\r\nPUBLISH\r\n$10\r\nws:post:42\r\n${length}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// Publishes so many bytes in small pieces, as this process is measured.
async fn publish(stream: &mut TcpStream, length: usize) -> String {
    const PIECE: &[u8] = &[b'x'; 65_536];
    announce(stream, length).await;
    for begin in (0..length).step_by(PIECE.len()) {
        stream.write_all(&PIECE[..PIECE.len().min(length - begin)]).await.unwrap();
    }
    stream.write_all(b"\r\n").await.unwrap();
    answer(stream).await
}

#[tokio::test]
async fn with_the_settings_of_the_page_a_flood_of_long_payloads_costs_no_memory_and_few_lines() {
    let logs = Logs::here();
    let redis = RedisServer::with(&settings()).await;
    redis.cli(&["ACL", "SETUSER", "publisher", "on", ">password", "&ws:*", "-@all", "+publish"]).await;
    let bus = quick(redis.url()).connect().await.unwrap();
    let heard = Listener::of(&bus);
    subscribe(&bus, &[room("post:42")]).await;

    // As much as arrives in one piece, at first, so that what the allocator keeps is there before.
    const LONG: usize = 2 * 1024 * 1024;
    const FLOOD: u64 = 100;
    let mut flooding = publisher(&redis).await;
    assert_eq!(publish(&mut flooding, LONG).await, ":1");
    heard.hears("gap post:42").await;
    let before = resident();

    let mut huge = publisher(&redis).await;
    announce(&mut huge, 200_000_000).await;
    let refused = answer(&mut huge).await;
    assert!(refused.contains("invalid bulk length"), "{refused}");
    for _ in 1..FLOOD {
        assert_eq!(publish(&mut flooding, LONG).await, ":1");
    }
    let health = healthy(&bus, |health| health.oversized == FLOOD).await;
    assert_eq!((health.connected, health.subscriber_losses), (true, 0), "{health:?}");
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "grown by {grown} bytes");
    bus.publish(&room("post:42"), "it works".into()).await.unwrap();
    heard.hears("post:42 it works").await;

    let lines = logs.with("too long");
    assert!((1..=10).contains(&lines.len()), "{} lines for {FLOOD} messages", lines.len());
    assert!(lines[0].contains("left_out=0") && lines[0].contains("2097152"), "{lines:?}");
    println!("grown by {grown} bytes, {} lines", lines.len());
}
