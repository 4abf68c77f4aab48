//! The proxies of `examples/deploy`, with their configurations as they are there, before two nodes and over TLS: a rolling
//! restart under load costs each member a reconnect for each node that it was on, and no message.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "../rooms-redis/tests/support/redis_server.rs"]
mod redis_server;
#[path = "support/user.rs"]
mod user;

use std::{process::Command, time::Duration};

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{client_async, tungstenite::Message};

use lines::PATIENCE;
use program::Program;
use proxy::{Brand, Door, Proxy};
use redis_server::RedisServer;
use user::User;

const MEMBERS: usize = 100;
/// Between two comments: those of the longest absence that a member is told, five and a half seconds, are a quarter of what the room
/// keeps, so that one that a busy machine delays is still given all.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest time that a node tells a member to stay away.
const LONGEST: Duration = Duration::from_millis(5_500);
/// For one that comes back, until a node has taken it. With the time that it stayed away, less than what the room keeps.
const OPENING: Duration = Duration::from_secs(10);

/// What became of a member.
#[derive(Debug, Default)]
struct Story {
    /// The numbers of the comments, as they came.
    numbers: Vec<usize>,
    closed: usize,
    /// For each time that it came back: what it was told to wait.
    told: Vec<Duration>,
    /// Tries that came to nothing.
    refused: usize,
    /// What it was told but comments and how many are there.
    others: Vec<Value>,
}

/// Watches the post as a page does, and comes back when it is told to, until the comment with this number has come.
async fn member(door: Door, token: String, last: watch::Receiver<Option<usize>>) -> Story {
    let mut story = Story::default();
    let mut since = String::new();
    let mut told = None;
    loop {
        let url = format!("wss://localhost/ws/posts/42/live?token={token}&since={since}");
        let within = if told.is_some() { OPENING } else { PATIENCE };
        let opened = timeout(within, async {
            let stream = door.open().await.ok()?;
            client_async(url, stream).await.ok()
        });
        let opened = opened.await.expect("a connection opens, or is refused, in time");
        let Some((mut socket, _)) = opened else {
            story.refused += 1;
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        let mut pause = Duration::from_millis(500);
        while let Some(Ok(message)) = timeout(PATIENCE, socket.next()).await.expect("a message in time") {
            let Message::Text(text) = message else { continue };
            let event: Value = serde_json::from_str(&text).unwrap();
            match event["type"].as_str().unwrap() {
                "room_joined" => {
                    story.told.extend(told.take());
                    if !since.is_empty() && event["recovered"] != true {
                        story.others.push(event);
                    } else {
                        since = event["position"].as_str().unwrap().to_owned();
                    }
                }
                "message" => {
                    since = event["offset"].as_str().unwrap().to_owned();
                    story.numbers.push(event["data"]["comment"]["text"].as_str().unwrap().parse().unwrap());
                }
                "reconnect" => pause = Duration::from_millis(event["in_ms"].as_u64().unwrap()),
                "viewer_joined" | "viewer_left" => {}
                _ => story.others.push(event),
            }
            if last.borrow().is_some_and(|last| story.numbers.last() == Some(&last)) {
                return story;
            }
        }
        story.closed += 1;
        told = Some(pause);
        sleep(pause).await;
    }
}

/// Posts a comment through the proxy; the status, where there is an answer.
async fn comment(door: &Door, token: &str, number: usize) -> Option<u16> {
    request(door, "POST /posts/42/comments", token, &json!({"text": number.to_string()}).to_string()).await
}

/// Sends a request through the proxy; the status, where there is an answer.
async fn request(door: &Door, what: &str, token: &str, body: &str) -> Option<u16> {
    let head = format!(
        "{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = door.open().await.ok()?;
    stream.write_all((head + body).as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.ok()?;
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

async fn until_ready(node: &Program) {
    let deadline = Instant::now() + PATIENCE;
    while !reqwest::get(node.url("/readyz")).await.is_ok_and(|answer| answer.status().is_success()) {
        assert!(Instant::now() < deadline, "the node is not ready");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn health(node: &Program) -> Value {
    let health = reqwest::get(node.url("/healthz")).await.unwrap().text().await.unwrap();
    serde_json::from_str(&health).unwrap()
}

/// How many members a node has.
async fn connections(node: &Program) -> u64 {
    health(node).await["connections"].as_u64().unwrap()
}

async fn until_all_are_there(nodes: &[Program]) {
    let deadline = Instant::now() + PATIENCE;
    while connections(&nodes[0]).await + connections(&nodes[1]).await < MEMBERS as u64 {
        assert!(Instant::now() < deadline, "the members have joined");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn start(redis: &RedisServer, port: u16) -> Program {
    let (port, url) = (port.to_string(), redis.url());
    let environment =
        [("PORT", &*port), ("REDIS_URL", &*url), ("TRUSTED_PROXIES", "127.0.0.1"), ("ADMIN_PASSWORD", "x")];
    let node = Program::start_with("live_posts", &environment).await;
    until_ready(&node).await;
    node
}

async fn a_rolling_restart_misses_nothing(brand: Brand) {
    let redis = RedisServer::start().await;
    let mut nodes = vec![start(&redis, 0).await, start(&redis, 0).await];
    let proxy = Proxy::start(brand, [nodes[0].port, nodes[1].port]).await;
    let token = User::login(&nodes[0], "5").await.token;

    let (last, wanted) = watch::channel(None);
    let mut members = JoinSet::new();
    for _ in 0..MEMBERS {
        members.spawn(member(proxy.door.clone(), token.clone(), wanted.clone()));
    }
    until_all_are_there(&nodes).await;

    let (stop, stopped) = watch::channel(false);
    let door = proxy.door.clone();
    let poster = tokio::spawn({
        let token = token.clone();
        async move {
            let (mut number, mut tried) = (0, 0);
            while !*stopped.borrow() {
                // One that was not answered may be posted twice: it has the same number.
                while comment(&door, &token, number).await != Some(201) {
                    tried += 1;
                    assert!(tried < 100, "comment {number} does not get through");
                    sleep(PAUSE).await;
                }
                number += 1;
                sleep(PAUSE).await;
            }
            (number, tried)
        }
    });
    for _ in 0..2 {
        let old = nodes.remove(0);
        let port = old.port;
        old.signal("TERM");
        let (status, log) = old.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        nodes.push(start(&redis, port).await);
    }
    until_all_are_there(&nodes).await;
    stop.send_replace(true);
    let (count, tried_again) = poster.await.unwrap();
    last.send_replace(Some(count));
    assert_eq!(comment(&proxy.door, &token, count).await, Some(201));

    let mut closed = 0;
    while let Some(story) = timeout(PATIENCE, members.join_next()).await.expect("an end in time") {
        let mut story = story.unwrap();
        assert_eq!(story.others, Vec::<Value>::new(), "nobody is told that something is missing");
        if tried_again > 0 {
            story.numbers.dedup();
        }
        let all: Vec<_> = (story.numbers[0]..=count).collect();
        assert!(story.numbers == all && all[0] == 0, "in order, once, and whole: {:?}", story.numbers);
        assert!(story.closed <= 2, "once for each node: {}", story.closed);
        // So it is away for the time that it was told, and for what one connection takes, which is no more than `OPENING`.
        assert_eq!(story.refused, 0, "what one node refuses, the other takes");
        assert_eq!(story.told.len(), story.closed, "it came back each time");
        assert!(story.told.iter().all(|told| *told <= LONGEST), "{:?}", story.told);
        closed += story.closed;
    }
    assert!(closed >= MEMBERS, "each was on some node");
    println!("{brand:?}: {count} comments, {tried_again} posted again; {closed} closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_a_rolling_restart_misses_nothing() {
    a_rolling_restart_misses_nothing(Brand::Nginx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_caddy_a_rolling_restart_misses_nothing() {
    a_rolling_restart_misses_nothing(Brand::Caddy).await;
}

/// A node goes down, and the proxy has not asked it yet whether it is ready. Caddy chooses it for having the fewest connections.
async fn what_one_node_refuses_the_other_takes(brand: Brand) {
    const VISITORS: usize = 20;
    let redis = RedisServer::start().await;
    let nodes = [start(&redis, 0).await, start(&redis, 0).await];
    let proxy = Proxy::start_with(brand, [nodes[0].port, nodes[1].port], |text| match brand {
        Brand::Nginx => text,
        Brand::Caddy => proxy::put(&text, "health_interval 500ms", "health_interval 1h"),
    })
    .await;
    let token = User::login(&nodes[0], "5").await.token;
    nodes[0].signal("TERM");
    let deadline = Instant::now() + PATIENCE;
    while health(&nodes[0]).await["status"] != "draining" {
        assert!(Instant::now() < deadline, "the node goes down");
        sleep(Duration::from_millis(20)).await;
    }
    let mut taken = Vec::new();
    for n in 0..VISITORS {
        let url = format!("wss://localhost/ws/posts/42/live?token={token}");
        let opened = client_async(url, proxy.door.open().await.unwrap()).await;
        taken.push(opened.unwrap_or_else(|error| panic!("{brand:?}, visitor {n}: {error}")));
    }
    assert_eq!(connections(&nodes[1]).await, VISITORS as u64);
}

#[tokio::test]
async fn what_one_node_refuses_behind_nginx_the_other_takes() {
    what_one_node_refuses_the_other_takes(Brand::Nginx).await;
}

#[tokio::test]
async fn what_one_node_refuses_behind_caddy_the_other_takes() {
    what_one_node_refuses_the_other_takes(Brand::Caddy).await;
}

/// Both nodes lose Redis at the same time. A proxy that took neither for ready would answer everything with 503.
async fn an_outage_of_redis_is_none_of_the_site(brand: Brand) {
    let mut redis = RedisServer::start().await;
    let nodes = [start(&redis, 0).await, start(&redis, 0).await];
    let proxy = Proxy::start(brand, [nodes[0].port, nodes[1].port]).await;
    let token = User::login(&nodes[0], "5").await.token;
    redis.kill();
    let deadline = Instant::now() + PATIENCE;
    for node in &nodes {
        while health(node).await["status"] != "degraded" {
            assert!(Instant::now() < deadline, "the node says that it has lost Redis");
            sleep(Duration::from_millis(20)).await;
        }
    }
    // Several of the proxy's checks.
    let checked = Instant::now() + Duration::from_secs(2);
    while Instant::now() < checked {
        assert_eq!(request(&proxy.door, "GET /", &token, "").await, Some(200), "the page");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(request(&proxy.door, "GET /admin/rooms", &token, "").await, Some(403), "not for everybody");
    assert_eq!(request(&proxy.door, "POST /login", &token, r#"{"user":"6"}"#).await, Some(200));
    let url = format!("wss://localhost/ws/posts/42/live?token={token}");
    // A post's history is in Redis, so a join of it waits; the upgrade does not.
    client_async(url, proxy.door.open().await.unwrap()).await.expect("a node takes the connection");
}

#[tokio::test]
async fn behind_nginx_the_site_goes_on_without_redis() {
    an_outage_of_redis_is_none_of_the_site(Brand::Nginx).await;
}

#[tokio::test]
async fn behind_caddy_the_site_goes_on_without_redis() {
    an_outage_of_redis_is_none_of_the_site(Brand::Caddy).await;
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let unit = include_str!("../examples/deploy/live_posts.service");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("live_posts.service");
    let program = lines::example("live_posts");
    std::fs::write(&path, proxy::put(unit, "/usr/local/bin/live_posts", program.to_str().unwrap())).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
    let output =
        output.unwrap_or_else(|error| panic!("systemd-analyze: {error}; `apt-get install systemd` installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("live_posts.service:"), "{said}");
}
