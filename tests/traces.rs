//! A trace goes from whoever broadcasts over the bus to the fan-out on each node.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../rooms-redis/tests/support/redis_server.rs"]
mod redis_server;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, channel::mpsc};
use rooms::{
    Bus, Connection, Identity, Kind, LocalBus, Message, Publisher, RoomKey, RoomManager, TraceContext, TraceParent,
    bus::{Retention, Topic},
    redis::RedisBus,
};
use serde_json::json;
use tokio::time::timeout;
use tracing::{Span, span};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _, registry::LookupSpan};

use redis_server::{PATIENCE, RedisServer};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

tokio::task_local! {
    /// What a propagator would say of the task.
    static CURRENT: String;
}

/// The spans that were closed, by their names.
#[derive(Clone, Default)]
struct Closed(Arc<Mutex<Vec<&'static str>>>);

impl Closed {
    fn count(&self, name: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|closed| **closed == name).count()
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Closed {
    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        self.0.lock().unwrap().push(context.span(&id).unwrap().name());
    }
}

/// The remote parents that a node was given.
type Parents = Arc<Mutex<Vec<String>>>;

struct Node {
    rooms: RoomManager,
    parents: Parents,
}

impl Node {
    fn over(bus: impl Bus) -> Self {
        let parents = Parents::default();
        let kept = Arc::clone(&parents);
        let context = TraceContext::new(|| CURRENT.try_with(Clone::clone).ok()).on_fan_out(
            move |span: &Span, parent: &TraceParent| {
                assert_eq!(span.metadata().unwrap().name(), "fan_out");
                kept.lock().unwrap().push(parent.to_string());
            },
        );
        Self { rooms: Self::build(bus, |builder| builder.trace_context(context)), parents }
    }

    fn build(bus: impl Bus, more: impl FnOnce(rooms::RoomManagerBuilder) -> rooms::RoomManagerBuilder) -> RoomManager {
        let builder = RoomManager::builder()
            .kind("post", Kind::authenticated())
            .kind("log", Kind::authenticated().history(Retention::messages(10)))
            .bus(bus);
        more(builder).build().unwrap()
    }

    fn parents(&self) -> Vec<String> {
        self.parents.lock().unwrap().clone()
    }
}

async fn member(rooms: &RoomManager, room: &str) -> (Connection, mpsc::UnboundedReceiver<Message>) {
    let (sink, mut received) = mpsc::unbounded();
    let mut connection = rooms.with_sink().connect(Identity::new("5").unwrap(), sink).unwrap();
    connection.join(&key(room)).await.unwrap();
    let driven = connection.drive();
    tokio::spawn(driven);
    assert!(next(&mut received).await.contains("room_joined"));
    (connection, received)
}

async fn next(received: &mut mpsc::UnboundedReceiver<Message>) -> String {
    loop {
        let message = timeout(PATIENCE, received.next()).await.expect("a message").unwrap();
        match message.as_text() {
            Some(text) if text.contains("viewer_") => {}
            Some(text) => return text.to_owned(),
            None => {}
        }
    }
}

fn key(room: &str) -> RoomKey {
    room.parse().unwrap()
}

/// A broadcast on one node, with members on both.
async fn goes_over(first: &Node, second: &Node, closed: &Closed) {
    for (number, room) in ["post:1", "log:1"].into_iter().enumerate() {
        let (_here, mut here) = member(&first.rooms, room).await;
        let (_there, mut there) = member(&second.rooms, room).await;
        let before = closed.count("fan_out");
        let broadcast = async { first.rooms.broadcast(&key(room), &json!({"n": 1})).await.unwrap() };
        CURRENT.scope(PARENT.to_owned(), broadcast).await;
        assert!(next(&mut here).await.contains(r#""n":1"#));
        assert!(next(&mut there).await.contains(r#""n":1"#));
        for node in [first, second] {
            assert_eq!(node.parents(), vec![PARENT; number + 1], "{room}");
        }
        timeout(PATIENCE, async {
            while closed.count("fan_out") < before + 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("the spans of both fan-outs are closed");
    }
}

#[tokio::test]
async fn a_trace_goes_from_the_caller_to_the_fan_out_on_each_node() {
    let closed = Closed::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(closed.clone()));
    let bus = LocalBus::new();
    goes_over(&Node::over(bus.peer()), &Node::over(bus.peer()), &closed).await;
    assert!(closed.count("publish") >= 2 && closed.count("join") >= 4);
}

#[tokio::test]
async fn a_trace_goes_from_a_publisher_to_the_fan_out_beside_its_own_span() {
    let closed = Closed::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(closed.clone()));
    let bus = LocalBus::new();
    let node = Node::over(bus.peer());
    let (_member, mut received) = member(&node.rooms, "post:1").await;
    let context = TraceContext::new(|| CURRENT.try_with(Clone::clone).ok());
    let publisher = Publisher::builder(bus.peer()).trace_context(context).build().unwrap();
    let before = closed.count("publish");
    let broadcast = async { publisher.broadcast(&key("post:1"), &json!({"n": 1})).await.unwrap() };
    CURRENT.scope(PARENT.to_owned(), broadcast).await;
    assert_eq!(next(&mut received).await, r#"{"n":1}"#);
    assert_eq!(node.parents(), [PARENT]);
    // What is none is left out, and the message is not.
    let broadcast = async { publisher.broadcast(&key("post:1"), &json!({"n": 2})).await.unwrap() };
    CURRENT.scope("none".to_owned(), broadcast).await;
    assert_eq!(next(&mut received).await, r#"{"n":2}"#);
    // Closed once the fan-out in it is.
    assert!(closed.count("publish") > before);
    assert_eq!(node.parents(), [PARENT]);
}

#[tokio::test]
async fn a_trace_goes_over_redis() {
    let closed = Closed::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(closed.clone()));
    let redis = RedisServer::start().await;
    let first = Node::over(RedisBus::connect(redis.url()).await.unwrap());
    let second = Node::over(RedisBus::connect(redis.url()).await.unwrap());
    goes_over(&first, &second, &closed).await;
}

#[tokio::test]
async fn a_broken_traceparent_is_ignored_and_its_message_is_delivered() {
    let closed = Closed::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(closed.clone()));
    let bus = LocalBus::new();
    let node = Node::over(bus.peer());
    let (_member, mut received) = member(&node.rooms, "post:1").await;
    for broken in ["", "x", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &PARENT.to_uppercase()] {
        let payload = format!("\u{1}v1;t={broken};{{\"n\":1}}");
        bus.publish(&Topic::Room(key("post:1")), payload.into()).await.unwrap();
        assert_eq!(next(&mut received).await, r#"{"n":1}"#, "{broken}");
        // And one of the application's own is not sent.
        let broadcast = async { node.rooms.broadcast(&key("post:1"), &json!({"n": 2})).await.unwrap() };
        CURRENT.scope(broken.to_owned(), broadcast).await;
        assert_eq!(next(&mut received).await, r#"{"n":2}"#, "{broken}");
    }
    assert!(node.parents().is_empty() && closed.count("fan_out") == 0);
    assert_eq!(node.rooms.stats().bad_payloads, 0);
}

#[tokio::test]
async fn a_node_that_follows_no_traces_delivers_what_carries_one_and_sends_none() {
    let closed = Closed::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(closed.clone()));
    let bus = LocalBus::new();
    let (following, plain) = (Node::over(bus.peer()), Node::build(bus.peer(), |builder| builder));
    let (_there, mut there) = member(&plain, "post:1").await;
    let broadcast = async { following.rooms.broadcast(&key("post:1"), &json!({"n": 1})).await.unwrap() };
    CURRENT.scope(PARENT.to_owned(), broadcast).await;
    assert_eq!(next(&mut there).await, r#"{"n":1}"#);
    let (_here, mut here) = member(&following.rooms, "post:1").await;
    let broadcast = async { plain.broadcast(&key("post:1"), &json!({"n": 2})).await.unwrap() };
    CURRENT.scope(PARENT.to_owned(), broadcast).await;
    assert_eq!(next(&mut here).await, r#"{"n":2}"#);
    assert!(following.parents().is_empty(), "{:?}", following.parents());
}
