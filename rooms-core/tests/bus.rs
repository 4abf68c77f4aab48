//! What a manager makes of its bus: LocalBus with peers, and a bus that fails to publish.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/faulty.rs"]
mod faulty;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rooms_core::{
    BroadcastError, Kind, LocalBus, Reach, RoomManager,
    bus::{BusError, BusEvent, Lost},
};
use serde_json::json;
use tokio::time::Instant;

use faulty::{Faulty, rooms};
use rig::{Client, Rooms, key};
use talk::Talk;

#[tokio::test(start_paused = true)]
async fn peers_of_a_local_bus_hear_each_other_in_one_order() {
    let bus = LocalBus::new();
    let nodes = [rooms(bus.peer()), rooms(bus.peer()), rooms(bus)];
    let mut members = Vec::new();
    for node in &nodes[..2] {
        members.push(Client::join(node, "a", "post:42").await);
    }
    members[0].inbox.all().await;
    let room = key("post:42");
    for n in 0..30 {
        nodes[n % 3].broadcast(&room, &n).await.unwrap();
    }
    let first = members[0].inbox.all().await;
    assert_eq!(first, (0..30).map(|n| json!(n)).collect::<Vec<_>>());
    assert_eq!(members[1].inbox.all().await, first);
    let except = members[0].connection.id();
    nodes[1].to(&room).except(except).json(&json!("x")).await.unwrap();
    assert!(members[0].inbox.is_silent().await, "left out on another node than the publisher's");
    assert_eq!(members[1].inbox.all().await, ["x"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_goes_away_is_not_published_to() {
    let bus = LocalBus::new();
    let gone = rooms(bus.peer());
    let stays = rooms(bus);
    drop(Client::join(&gone, "a", "post:42").await);
    drop(gone);
    let mut member = Client::join(&stays, "b", "post:42").await;
    stays.broadcast(&key("post:42"), &1).await.unwrap();
    assert_eq!(member.inbox.all().await, [1]);
}

#[tokio::test(start_paused = true)]
async fn while_the_bus_is_down_local_members_are_served_and_the_receipt_says_so() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let mut member = Client::join(&rooms, "a", "post:42").await;
    let mut other = Client::join(&rooms, "b", "post:42").await;
    member.inbox.all().await;
    *bus.publish.lock().unwrap() = Some(|| BusError::Down);
    bus.say(BusEvent::Down);
    let room = key("post:42");
    assert_eq!(rooms.broadcast(&room, &1).await.unwrap().reach, Reach::LocalOnly);
    let receipt = rooms.to(&room).except(member.connection.id()).json(&2).await.unwrap();
    assert_eq!(receipt.reach, Reach::LocalOnly);
    assert!(rooms.stats().bus_down);
    assert_eq!(member.inbox.all().await, [1]);
    assert_eq!(other.inbox.all().await, [1, 2]);
    *bus.publish.lock().unwrap() = None;
    bus.say(BusEvent::up(Lost::Perhaps));
    assert!(!rooms.stats().bus_down);
    let resync = json!({"type": "resync", "room": "post:42", "reason": "bus_gap"});
    assert_eq!(member.inbox.all().await, std::slice::from_ref(&resync), "one, and only one");
    assert_eq!(other.inbox.all().await, [resync]);
    assert_eq!(rooms.broadcast(&room, &3).await.unwrap().reach, Reach::AllNodes);
    assert_eq!(member.inbox.all().await, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_member_is_told_that_what_it_published_stayed_on_this_node() {
    let bus = Arc::new(Faulty::default());
    let kind = Kind::authenticated().allow_publish();
    let rooms: Rooms = RoomManager::build_for().kind("channel", kind).bus(Arc::clone(&bus)).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    talk.ask(r#"{"type":"join","room":"channel:1"}"#).await;
    *bus.publish.lock().unwrap() = Some(|| BusError::Down);
    talk.say(r#"{"type":"publish","room":"channel:1","data":1,"ref":1}"#);
    let published = json!({"type": "published", "room": "channel:1", "reach": "local_only", "ref": 1});
    assert!(talk.inbox.all().await.contains(&published));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_an_error_and_is_not_delivered_twice() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let mut member = Client::join(&rooms, "a", "post:42").await;
    for fault in [|| BusError::Unknown("timed out".into()), || BusError::Overloaded, || BusError::Refused("no".into())]
    {
        *bus.publish.lock().unwrap() = Some(fault);
        let error = rooms.broadcast(&key("post:42"), &1).await.unwrap_err();
        assert!(matches!(error, BroadcastError::Bus { .. }));
    }
    assert!(member.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_is_counted_and_the_next_one_arrives() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let mut member = Client::join(&rooms, "a", "post:42").await;
    let bad: [Vec<u8>; 9] = [
        vec![],
        b"not JSON".to_vec(),
        b"\xff\xfe".to_vec(),
        b"{}{}".to_vec(),
        vec![b'['; 1_000_000],
        [vec![b'['; 65], vec![b']'; 65]].concat(),
        [b"\"".to_vec(), vec![b'x'; 64 * 1024], b"\"".to_vec()].concat(),
        b"\x01v1;x=;{}".to_vec(),
        b"\x01nonsense".to_vec(),
    ];
    let count = bad.len() as u64;
    for payload in bad {
        bus.say_message(payload);
    }
    bus.say_message(&b"{\"from\":\"another language\"}"[..]);
    // What is too long may have been meant for the members.
    let resync = json!({"type": "resync", "room": "post:42", "reason": "bus_gap"});
    assert_eq!(member.inbox.all().await, [resync, json!({"from": "another language"})]);
    assert_eq!(rooms.stats().bad_payloads, count);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_hangs_holds_up_no_publisher_and_no_shutdown_for_ever() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let member = Client::join(&rooms, "a", "post:42").await;
    bus.hang.store(true, Ordering::Relaxed);
    let error = rooms.broadcast(&key("post:42"), &1).await.unwrap_err();
    assert!(matches!(error, BroadcastError::Bus { source: BusError::Unknown(_), .. }), "{error}");
    drop(member);
    let start = Instant::now();
    rooms.shutdown(Duration::ZERO).await;
    assert!(start.elapsed() <= 2 * rooms.limits().close_timeout, "{:?}", start.elapsed());
}
