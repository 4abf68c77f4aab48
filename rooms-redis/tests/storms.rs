//! Numbered messages through foul weather: each member is given them in order and once, and what it misses lies in a
//! window that it was told of.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/redis_server.rs"]
mod redis_server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use rooms_core::{Reach, RoomManager};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, interval, sleep},
};

use fleet::{Member, Node, Sink, key, quick};
use proxy::{Link, Proxy};
use redis_server::{PATIENCE, RedisServer};

/// Three nodes with members, a fourth that publishes a thousand numbers a second, and one Redis.
struct Storm {
    redis: RedisServer,
    nodes: Vec<Node>,
    members: Vec<Member>,
    traffic: Traffic,
}

struct Traffic {
    over: Arc<AtomicBool>,
    /// Whether each number was published to all nodes.
    published: JoinHandle<Vec<bool>>,
}

impl Traffic {
    fn from(rooms: RoomManager<Sink>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let published = tokio::spawn(async move {
            let room = key("post:42");
            let mut published = Vec::new();
            let mut ticks = interval(Duration::from_millis(1));
            while !stop.load(Ordering::Relaxed) {
                ticks.tick().await;
                let receipt = rooms.broadcast(&room, &published.len()).await;
                published.push(receipt.is_ok_and(|receipt| receipt.reach == Reach::AllNodes));
            }
            published
        });
        Self { over, published }
    }
}

impl Storm {
    async fn begin(redis: RedisServer) -> Self {
        let url = redis.url();
        Self::begin_at(redis, url).await
    }

    /// With the listening nodes at another address than the publishing one, such as a proxy's.
    async fn begin_at(redis: RedisServer, url: String) -> Self {
        let mut nodes = join_all((0..3).map(|_| Node::start(quick(url.clone())))).await;
        let mut members = Vec::new();
        for (node, count) in nodes.iter().zip([3, 4, 3]) {
            for n in 0..count {
                members.push(node.join(&format!("u{n}"), "post:42").await);
            }
        }
        nodes.push(Node::start(quick(redis.url())).await);
        let traffic = Traffic::from(nodes[3].rooms.clone());
        let storm = Self { redis, nodes, members, traffic };
        sleep(Duration::from_millis(300)).await;
        storm
    }

    /// Waits until the subscribing connection of each listening node has been replaced, and all is well.
    async fn is_over(&self, losses: u64) {
        let deadline = Instant::now() + PATIENCE;
        let well = |node: &Node| node.bus.health().connected;
        let replaced = |node: &Node| node.bus.health().subscriber_losses >= losses;
        while !(self.nodes.iter().all(well) && self.nodes[..3].iter().all(replaced)) {
            let health: Vec<_> = self.nodes.iter().map(|node| node.bus.health()).collect();
            assert!(Instant::now() < deadline, "the storm does not end: {health:#?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets the traffic end, and checks what each member was given. Gives how many numbers the first missed, and how
    /// often each was told.
    async fn check(self, told_at_most: usize) -> usize {
        sleep(Duration::from_millis(300)).await;
        self.traffic.over.store(true, Ordering::Relaxed);
        let published = self.traffic.published.await.unwrap();
        self.nodes[3].rooms.broadcast(&key("post:42"), &json!("the end")).await.unwrap();
        let mut missed = Vec::new();
        for mut member in self.members {
            let given = member.up_to(&json!("the end")).await;
            missed.push(check(&given, &published, told_at_most));
        }
        missed.into_iter().max().unwrap()
    }
}

/// Checks one member's messages; gives how many it missed.
fn check(given: &[Value], published: &[bool], told_at_most: usize) -> usize {
    let resync = json!({"type": "resync", "room": "post:42", "reason": "bus_gap"});
    let told = given.iter().filter(|value| **value == resync).count();
    assert!(told <= told_at_most, "told {told} times");
    let last_told = given.iter().rposition(|value| *value == resync);
    let (mut next, mut missed) = (0, 0);
    for (place, value) in given.iter().enumerate() {
        let Some(number) = value.as_u64() else {
            assert_eq!(*value, resync);
            continue;
        };
        let number = usize::try_from(number).unwrap();
        assert!(number >= next, "{number} comes twice or too late, after {}", next - 1);
        let missing = (next..number).filter(|number| published[*number]).count();
        let said = last_told.is_some_and(|told| told > place) || (place > 0 && given[place - 1] == resync);
        assert!(missing == 0 || said, "{missing} messages before {number} are missing, and the member was not told");
        (next, missed) = (number + 1, missed + missing);
    }
    let missing = (next..published.len()).filter(|number| published[*number]).count();
    assert_eq!(missing, 0, "at the end, when all was well");
    missed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_fair_weather_nothing_is_missed() {
    let storm = Storm::begin(RedisServer::start().await).await;
    assert_eq!(storm.check(0).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_at_once_with_empty_data() {
    let mut storm = Storm::begin(RedisServer::start().await).await;
    for _ in 0..3 {
        storm.redis.kill();
        storm.redis.restart().await;
        storm.is_over(1).await;
        sleep(Duration::from_millis(200)).await;
    }
    storm.check(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_and_gone_on() {
    let storm = Storm::begin(RedisServer::start().await).await;
    storm.redis.freeze();
    sleep(Duration::from_secs(2)).await;
    assert!(storm.nodes.iter().all(|node| !node.bus.health().connected));
    storm.redis.thaw();
    storm.is_over(0).await;
    storm.check(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_killed_again_and_again() {
    let storm = Storm::begin(RedisServer::start().await).await;
    for round in 1..=5 {
        assert_eq!(storm.redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await, "4", "in round {round}");
        storm.is_over(round).await;
    }
    // Twice a round at most: a message that reached nobody is a gap of its own.
    storm.check(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_killed_again_and_again_lose_nothing() {
    let storm = Storm::begin(RedisServer::start().await).await;
    for _ in 0..5 {
        storm.redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        storm.is_over(0).await;
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(storm.check(0).await, 0, "what all nodes were to be given, they were");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_for_reading_too_slowly() {
    let redis = RedisServer::with(&["--client-output-buffer-limit", "pubsub 1mb 1mb 0"]).await;
    let proxy = Proxy::before(redis.port).await;
    let url = proxy.url();
    let storm = Storm::begin_at(redis, url).await;
    let mut elsewhere = Vec::new();
    for node in &storm.nodes[..3] {
        elsewhere.push(node.join("u", "post:43").await);
    }
    proxy.set_present(Link::Stalled);
    // Far more than fits in the sockets on the way: the rest is thrown away with the connection.
    flood(storm.redis.port, "ws:post:43", 300).await;
    let clients = storm.redis.cli(&["CLIENT", "LIST"]).await;
    assert_eq!(clients.matches(":sub ").count(), 1, "the publishing node's: {clients}");
    proxy.set_present(Link::Open);
    storm.is_over(1).await;
    let missed = storm.check(4).await;
    assert!(missed > 0, "or it was no storm");
}

/// Publishes long messages as fast as Redis takes them.
async fn flood(port: u16, channel: &str, count: usize) {
    let mut redis = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let payload = format!("\"{}\"", "x".repeat(60_000));
    let command = format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n$60002\r\n{payload}\r\n", channel.len());
    redis.write_all(command.repeat(count).as_bytes()).await.unwrap();
    redis.read_exact(&mut vec![0; ":0\r\n".len() * count]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_from_some_nodes_and_not_from_others() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::before(redis.port).await;
    let url = proxy.url();
    let storm = Storm::begin_at(redis, url).await;
    for round in 1..=4 {
        proxy.cut();
        storm.is_over(round).await;
    }
    let missed = storm.check(8).await;
    assert!(missed > 0, "or it was no storm");
}
