//! A room with a history in Redis, and what is done with it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::error::Error;

use rooms_core::bus::{BusError, Excerpt, History, Missing, Position, ReadFrom, Retention, Topic};
use rooms_redis::RedisBus;

use crate::listener::room;

pub(crate) const RETENTION: Retention = Retention::messages(500);
pub(crate) const LOG: &str = "rooms:log:{ws:post:42}";
pub(crate) const MARK: &str = "rooms:mark:{ws:post:42}";

pub(crate) fn post() -> Topic {
    room("post:42")
}

pub(crate) async fn append(bus: &RedisBus, text: &str) -> Result<Position, BusError> {
    bus.append(&post(), text.to_owned().into(), RETENTION).await
}

pub(crate) async fn read(bus: &RedisBus, from: ReadFrom) -> Excerpt {
    bus.read(&post(), from, RETENTION).await.unwrap()
}

/// What came after a position, as text.
pub(crate) async fn since(bus: &RedisBus, position: Position) -> Result<Vec<String>, Missing> {
    let excerpt = read(bus, ReadFrom::After(position)).await;
    Ok(excerpt.since(position)?.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
}

/// Why Redis refused.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, BusError>) -> String {
    match outcome {
        Err(error @ BusError::Refused(_)) => error.source().unwrap().to_string().to_uppercase(),
        other => panic!("{other:?}"),
    }
}
