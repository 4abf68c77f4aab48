//! Four processes of the `live_posts` program over one Redis: they are one service, whatever happens to Redis or to one
//! of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "../rooms-redis/tests/support/redis_server.rs"]
mod redis_server;
#[path = "support/user.rs"]
mod user;

use std::time::Duration;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use lines::PATIENCE;
use program::Program;
use redis_server::RedisServer;
use user::{Live, User};

/// Posts a comment through a process, and gives its text.
async fn comment(program: &Program, text: &str) {
    let user = User::login(program, "author").await;
    let (status, answer) = user.post("/posts/42/comments", &json!({"text": text})).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
}

/// What the member is told up to the comment with this text: the texts of other comments, and events of other types.
async fn up_to(live: &mut Live, text: &str) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let event = live.event().await;
        match event["type"].as_str().unwrap() {
            "viewer_joined" | "viewer_left" => {}
            "new_comment" if event["comment"]["text"] == text => return told,
            "new_comment" => told.push(event["comment"]["text"].as_str().unwrap().to_owned()),
            other => told.push(other.to_owned()),
        }
    }
}

/// The numbers of viewers that the member is told up to this one.
async fn until_viewers(live: &mut Live, viewers: u64) -> Vec<u64> {
    let mut told = Vec::new();
    while told.last() != Some(&viewers) {
        told.extend(live.event().await["viewers"].as_u64());
    }
    told
}

/// Waits until a process says of its bus that it is connected, or that it is not.
async fn until_connected(program: &Program, connected: bool) -> Value {
    let user = User { program, http: reqwest::Client::new(), token: String::new() };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, health) = user.get("/healthz").await;
        assert_eq!(status, StatusCode::OK, "it serves its members all the time: {health}");
        // Both connections are lost at the same time, and noticed one after the other.
        let lost = |connection: &str| health["bus"][connection].as_u64() > Some(0);
        let lost = lost("publisher_losses") && lost("subscriber_losses");
        if health["bus"]["connected"] == connected && (connected || lost) {
            let (ready, _) = user.get("/readyz").await;
            assert_eq!(ready, StatusCode::OK, "with Redis or without: {health}");
            return health;
        }
        assert!(Instant::now() < deadline, "{health}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn ten_members_of_three_processes_are_told_once_what_a_fourth_is_posted_through_crashes_of_all_kinds() {
    let mut redis = RedisServer::start().await;
    let url = redis.url();
    let mut programs = join_all((0..4).map(|_| Program::start_over(&url))).await;
    let mut members = [Vec::new(), Vec::new(), Vec::new()];
    let mut known = Vec::new();
    for (place, count) in [3, 4, 3].into_iter().enumerate() {
        let user = User::login(&programs[place], "5").await;
        for _ in 0..count {
            let (member, joined) = user.watch(42).await;
            known.push(joined["viewers"].as_u64().unwrap());
            members[place].push(member);
        }
    }
    for (member, known) in members.iter_mut().flatten().zip(known) {
        if known != 10 {
            until_viewers(member, 10).await;
        }
    }
    comment(&programs[3], "to all").await;
    comment(&programs[3], "to all again").await;
    for member in members.iter_mut().flatten() {
        assert_eq!(up_to(member, "to all again").await, ["to all"]);
    }
    assert_eq!(redis.cli(&["PUBLISH", "ws:post:42", r#"{"type":"of another language"}"#]).await, "3");
    for member in members.iter_mut().flatten() {
        while member.event().await["type"] != "of another language" {}
    }

    // A process with members is killed: the others are told of nothing but the number that is left.
    programs.remove(0).kill();
    for member in members[1..].iter_mut().flatten() {
        assert_eq!(until_viewers(member, 7).await, [7], "all of them at once");
    }
    comment(&programs[2], "to those who are left").await;
    comment(&programs[2], "to them again").await;
    for member in members[1..].iter_mut().flatten() {
        assert_eq!(up_to(member, "to them again").await, ["to those who are left"]);
    }

    // Without Redis each serves its own pages, and says so. What is posted is told when Redis is back.
    redis.kill();
    for program in &programs {
        let health = until_connected(program, false).await;
        assert_eq!(health["status"], "degraded");
        assert!(health["bus"]["last_fault"].is_string(), "{health}");
    }
    comment(&programs[0], "meanwhile").await;
    redis.restart().await;
    for program in &programs {
        assert_eq!(until_connected(program, true).await["status"], "ok");
    }
    for member in members[1..].iter_mut().flatten() {
        // The history was lost with Redis, which saves nothing here.
        assert_eq!(up_to(member, "meanwhile").await, ["resync"], "once, and nothing else");
    }
}
