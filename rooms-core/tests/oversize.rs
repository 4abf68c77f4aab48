//! Broadcasts that are too long: an error, or an event that tells the members to fetch.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use rooms_core::{BroadcastError, Kind, LocalBus, Oversize, RoomManager, bus::Retention};
use serde_json::json;

use rig::{Client, Rooms, key};
use talk::Talk;

const POST: &str = "post:42";
const LIMIT: usize = 64 * 1024;

fn over(bus: LocalBus, post: Kind) -> Rooms {
    RoomManager::build_for().kind("post", post).kind("other", Kind::public()).bus(bus).build().unwrap()
}

/// A text that is so long as JSON.
fn text(length: usize) -> String {
    "x".repeat(length - 2)
}

#[tokio::test(start_paused = true)]
async fn one_byte_too_many_is_an_error_or_a_refresh_on_all_nodes_and_connections() {
    let hub = LocalBus::new();
    let kind = || Kind::authenticated().oversize(Oversize::Refresh).allow_publish();
    let (rooms, elsewhere) = (over(hub.peer(), kind()), over(hub.peer(), kind()));
    let mut one = Client::join(&rooms, "a", POST).await;
    let mut many = Talk::multi(&elsewhere, "b");
    many.ask(json!({"type": "join", "room": POST}).to_string()).await;
    let mut author = Client::join(&elsewhere, "c", POST).await;
    for inbox in [&mut one.inbox, &mut many.inbox, &mut author.inbox] {
        inbox.all().await;
    }
    rooms.broadcast(&key(POST), &text(LIMIT)).await.unwrap();
    assert_eq!(one.inbox.all().await, [text(LIMIT)], "the longest that there may be");
    assert_eq!(many.inbox.all().await[0]["data"], text(LIMIT));
    author.inbox.all().await;

    let receipt = rooms.to(&key(POST)).except(author.connection.id()).json(&text(LIMIT + 1)).await.unwrap();
    assert_eq!(receipt.position, None);
    let refresh = json!({"type": "refresh", "room": POST});
    assert_eq!(one.inbox.all().await, std::slice::from_ref(&refresh));
    assert_eq!(many.inbox.all().await, [refresh]);
    assert!(author.inbox.is_silent().await, "it was left out");

    let refused = rooms.broadcast(&key("other:1"), &text(LIMIT + 1)).await.unwrap_err();
    assert!(matches!(refused, BroadcastError::TooBig { length, limit: LIMIT, .. } if length == LIMIT + 1));
    let nested = format!("[{}", "[".repeat(64));
    many.say(format!("{{\"type\":\"publish\",\"room\":\"{POST}\",\"ref\":1,\"data\":{nested}{}}}", "]".repeat(65)));
    assert_eq!(many.inbox.next().await["code"], "too_big", "what is too deep is an error of who sent it");
}

#[tokio::test(start_paused = true)]
async fn in_a_room_with_a_history_a_refresh_has_its_place() {
    let kind = Kind::authenticated().oversize(Oversize::Refresh).history(Retention::messages(10));
    let rooms = over(LocalBus::new(), kind);
    let before = rooms.broadcast(&key(POST), &1).await.unwrap().position.unwrap();
    let at = rooms.broadcast(&key(POST), &text(LIMIT + 1)).await.unwrap().position.unwrap();
    rooms.broadcast(&key(POST), &3).await.unwrap();
    assert_eq!((at.epoch(), at.offset()), (before.epoch(), before.offset() + 1));
    let mut back = Talk::multi(&rooms, "a");
    let welcome = back.ask(json!({"type": "join", "room": POST, "since": before}).to_string()).await;
    assert_eq!(welcome["recovered"], true);
    let events = back.inbox.all().await;
    assert_eq!(events[0], json!({"type": "refresh", "room": POST, "offset": at}));
    assert_eq!((events.len(), &events[1]["data"]), (2, &json!(3)));
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_only_looks_like_a_refresh_is_no_event_of_the_servers() {
    let rooms = over(LocalBus::new(), Kind::authenticated().allow_publish());
    let mut one = Client::join(&rooms, "a", POST).await;
    let mut many = Talk::multi(&rooms, "b");
    many.ask(json!({"type": "join", "room": POST}).to_string()).await;
    one.inbox.all().await;
    for name in ["refresh", "room_state"] {
        many.say(json!({"type": "publish", "room": POST, "data": {"type": name}}).to_string());
        let wrapped = json!({"type": "message", "room": POST, "data": {"type": name}});
        assert_eq!(one.inbox.all().await, [wrapped]);
    }
}
