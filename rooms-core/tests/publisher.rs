//! Broadcasting from a program that serves no members.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;

use std::time::Duration;

use rooms_core::{
    BroadcastError, Kind, LocalBus, Oversize, Publisher, PublisherBuilder, PublisherError, Reach, RoomKey,
    RoomManagerBuilder, TypedError,
    bus::{BusError, Retention},
    testing::kit::RoomsTest,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use flaky::Flaky;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum PostEvent {
    Liked { likes: u64 },
}

fn post() -> Kind {
    Kind::authenticated().events::<PostEvent>()
}

fn log() -> Kind {
    Kind::authenticated().history(Retention::messages(100))
}

fn kinds(rooms: RoomManagerBuilder) -> RoomManagerBuilder {
    rooms
        .kind("post", post())
        .kind("log", log())
        .kind("cart", Kind::authenticated().oversize(Oversize::Refresh))
        .kind("user", Kind::owner_only())
}

fn declared(publisher: PublisherBuilder) -> PublisherBuilder {
    publisher.kind("post", post()).kind("log", log()).kind("cart", Kind::new().oversize(Oversize::Refresh))
}

fn room(name: &str) -> RoomKey {
    name.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_reaches_members_users_and_histories_and_is_no_node() {
    let test = RoomsTest::with_nodes(2, kinds);
    let publisher = declared(Publisher::builder(test.bus())).build().unwrap();
    let mut ada = test.connect("ada").await;
    for name in ["post:1", "log:1", "cart:1"] {
        ada.join(name).await;
    }
    let posts = publisher.typed::<PostEvent>("post").unwrap();
    posts.room(1).unwrap().broadcast(&PostEvent::Liked { likes: 3 }).await.unwrap();
    assert_eq!(ada.expect_event("liked").await["likes"], 3);

    let logged = room("log:1");
    let first = publisher.to(&logged).idempotency_key("k").json(&json!({"type": "logged"})).await.unwrap();
    let again = publisher.to(&logged).idempotency_key("k").json(&json!({"type": "logged"})).await.unwrap();
    assert_eq!((first.reach, first.repeated, again.repeated), (Reach::AllNodes, false, true));
    assert!(first.position.is_some() && first.position == again.position);
    ada.expect_event("logged").await;
    let mut bob = test.connect("bob").await;
    bob.send(&json!({"type": "join", "room": "log:1", "newest": 5}));
    bob.expect_event("logged").await;

    publisher.broadcast(&room("cart:1"), &"x".repeat(100_000)).await.unwrap();
    ada.expect_event("refresh").await;
    publisher.to(&room("cart:1")).binary(vec![1, 2]).await.unwrap();
    publisher.send_to_user("ada", &json!({"type": "notice"})).await.unwrap();
    ada.expect_event("notice").await;
    ada.forget().await;
    test.advance(Duration::from_secs(60)).await;
    ada.expect_nothing().await;
    assert_eq!(test.rooms().stats().nodes, 2, "it says nothing of itself");
    publisher.close().await;
}

#[tokio::test(start_paused = true)]
async fn one_connection_is_left_out() {
    let test = RoomsTest::new(kinds);
    let publisher = declared(Publisher::builder(test.bus())).build().unwrap();
    let sockets = test.rooms().with_sink::<futures::channel::mpsc::UnboundedSender<rooms_core::Message>>();
    let mut received = Vec::new();
    for user in ["ada", "bob"] {
        let (sink, inbox) = futures::channel::mpsc::unbounded();
        let mut connection = sockets.connect(rooms_core::Identity::new(user).unwrap(), sink).unwrap();
        connection.join(&room("log:1")).await.unwrap();
        received.push((connection, inbox));
    }
    publisher.to(&room("log:1")).except(received[0].0.id()).json(&7).await.unwrap();
    test.advance(Duration::from_secs(1)).await;
    for ((connection, mut inbox), has) in received.into_iter().zip([false, true]) {
        _ = futures::FutureExt::now_or_never(connection.drive());
        let mut all = std::iter::from_fn(|| inbox.try_recv().ok());
        assert_eq!(all.any(|message| message.payload() == b"7"), has);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_the_same_error_as_of_a_manager_and_a_bus_that_is_down_is_one() {
    let test = RoomsTest::new(kinds);
    let bus = Flaky::new(test.bus());
    let publisher = declared(Publisher::builder(bus.clone())).build().unwrap();
    let long = "x".repeat(100_000);
    let deep = format!("{}0{}", "[".repeat(65), "]".repeat(65));
    let deep: Box<serde_json::value::RawValue> = serde_json::value::RawValue::from_string(deep).unwrap();
    for (name, key) in [("log:1", None), ("cart:1", Some("k")), ("log:1", Some(""))] {
        let room = room(name);
        let (mut here, mut there) = (publisher.to(&room), test.rooms().to(&room));
        if let Some(key) = key {
            (here, there) = (here.idempotency_key(key), there.idempotency_key(key));
        }
        let (here, there) = (here.json(&long).await.unwrap_err(), there.json(&long).await.unwrap_err());
        assert_eq!(here.to_string(), there.to_string());
    }
    let logged = room("log:1");
    let (here, there) = (publisher.broadcast(&logged, &deep).await, test.rooms().broadcast(&logged, &deep).await);
    assert_eq!(here.unwrap_err().to_string(), there.unwrap_err().to_string());
    let other = publisher.broadcast(&room("post:1"), &1).await;
    assert!(matches!(other, Err(BroadcastError::OtherType { .. })), "{other:?}");
    assert!(matches!(publisher.typed::<PostEvent>("log"), Err(TypedError::NoEvents { .. })));
    assert!(publisher.send_to_user("5\n", &1).await.is_err());
    bus.set(|faults| &faults.down, true);
    let down = publisher.broadcast(&room("cart:1"), &1).await;
    assert!(matches!(down, Err(BroadcastError::Bus { source: BusError::Down, .. })), "{down:?}");
}

#[test]
fn it_is_built_anywhere_and_says_what_is_wrong_with_a_kind() {
    let built = |kind: &str, of: Kind| Publisher::builder(LocalBus::new()).kind(kind, of).build();
    assert!(built("post", post()).is_ok(), "no runtime is there");
    assert!(matches!(built("Post", post()), Err(PublisherError::Kind { .. })));
    let nothing = built("log", Kind::new().history(Retention::messages(0)));
    assert!(matches!(nothing, Err(PublisherError::Retention { .. })));
    let twice = declared(Publisher::builder(LocalBus::new())).history("log", Retention::messages(1)).build();
    assert_eq!(twice.unwrap_err(), PublisherError::KindTwice { kind: "log".into() });
}
