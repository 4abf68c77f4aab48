//! Members of one room behind different sinks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Sink, channel::mpsc};
use rooms_core::{CloseCode, Kind, Message, RoomManager, ws};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, duplex};

use rig::{Client, Inbox, Rooms, idle, key, who};

/// Takes its first message, and panics at the second.
#[derive(Default)]
struct Panics(usize);

impl Sink<Message> for Panics {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, _: Message) -> Result<(), Infallible> {
        self.0 += 1;
        assert!(self.0 < 2, "a sink that panics");
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_ends_its_connection_and_none_beside_it_in_the_room() {
    let rooms: Rooms = RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap();
    let mut healthy = Client::join(&rooms, "a", "post:42").await;
    let mut panics = rooms.with_sink().connect(who("b"), Panics::default()).unwrap();
    let driven = tokio::spawn(panics.drive());
    panics.join(&key("post:42")).await.unwrap();
    assert_eq!(healthy.inbox.next().await["viewers"], 2);
    for number in 0..3 {
        rooms.broadcast(&key("post:42"), &number).await.unwrap();
    }
    assert_eq!(driven.await.unwrap(), None, "its sink failed");
    drop(panics);
    assert_eq!(healthy.inbox.all().await, [0, 1, 2]);
    assert_eq!(healthy.inbox.next().await, json!({"type": "viewer_left", "viewers": 1}));
}

#[tokio::test(start_paused = true)]
async fn a_socket_and_a_channel_are_members_of_one_room_and_are_given_the_same() {
    let rooms: RoomManager = RoomManager::builder().kind("post", Kind::authenticated()).build().unwrap();
    let (mut client, server) = duplex(64 * 1024);
    let (stream, sink) = ws::over(server, &[], rooms.limits());
    tokio::spawn(rooms.serve_room(stream, sink, who("a"), key("post:42")));
    idle().await;
    let (sink, received) = mpsc::unbounded();
    let mut inbox = Inbox(received);
    let mut channel = rooms.with_sink().connect(who("b"), sink).unwrap();
    let driven = tokio::spawn(channel.drive());
    channel.join(&key("post:42")).await.unwrap();
    assert_eq!(inbox.next().await["viewers"], 2);
    rooms.broadcast(&key("post:42"), &json!({"type": "hello"})).await.unwrap();
    assert_eq!(inbox.next().await, json!({"type": "hello"}));
    idle().await;
    let mut bytes = vec![0; 4096];
    let read = client.read(&mut bytes).await.unwrap();
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    assert!(text.ends_with(r#"{"type":"hello"}"#), "{text:?}");
    rooms.shutdown(std::time::Duration::from_secs(1)).await;
    assert_eq!(inbox.close().await.code(), CloseCode::RESTART);
    driven.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_drives_a_connection_is_woken_to_write_what_a_join_elsewhere_is_told() {
    let rooms: Rooms = RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap();
    let (sink, received) = mpsc::unbounded::<Message>();
    let mut connection = rooms.with_sink().connect(who("a"), sink).unwrap();
    tokio::spawn(connection.drive());
    idle().await;
    for room in ["post:1", "post:2"] {
        connection.join(&key(room)).await.unwrap();
        idle().await;
    }
    drop(connection);
    let told: Vec<Message> = futures::StreamExt::collect(received).await;
    assert_eq!(told.len(), 2);
}
