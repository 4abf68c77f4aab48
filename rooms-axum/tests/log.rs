//! Nothing of a token reaches the log, good or bad, at any level.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the support module serves other tests, too")]

#[path = "support/log.rs"]
mod log;
#[path = "support/service.rs"]
mod service;

use axum::{Router, routing::get};
use rooms_core::RoomManager;
use serde_json::json;

use service::{Claims, Service, close_of, next_json, token};

fn routes() -> Router<RoomManager> {
    Router::new().route("/posts/{id}/live", get(service::live))
}

#[tokio::test]
async fn no_token_is_logged() {
    let log = log::Log::start();
    let service = Service::start().await;
    let good = token("5");
    let expired = service::token_with(Claims::of("5").set("exp", json!(1)));
    let hostile = service::token_with(Claims::of("evil\nuser"));
    let mut socket = service.connect("/posts/42/live", &good).await;
    next_json(&mut socket).await;
    for bad in [&expired, &hostile, &"garbage-of-a-token".to_owned()] {
        let mut socket = service.connect("/posts/42/live", bad).await;
        close_of(&mut socket).await;
    }
    let ours = log.ours();
    assert!(ours.iter().any(|line| line.contains("a token was refused")), "{}", log.text());
    for secret in [&good, &expired, &hostile, "garbage-of-a-token", "evil"] {
        let parts = secret.split('.').filter(|part| part.len() > 3);
        for part in parts.filter(|part| !part.starts_with("eyJ0eXAi")) {
            assert!(!ours.iter().any(|line| line.contains(part)), "{part}: {ours:#?}");
        }
    }
}
