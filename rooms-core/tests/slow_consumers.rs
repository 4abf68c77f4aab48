//! Members of a room with a history that read slowly, or not at all: they are given what they missed once they read, in
//! order and once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/slow.rs"]
mod slow;
#[path = "support/valve.rs"]
mod valve;

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use rooms_core::{Kind, Limits, LocalBus, Overflow, RoomManager, bus::Retention, ws};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use flaky::Flaky;
use rig::{idle, key, who};
use slow::{OUTBOX, POST, Rooms, Slow, brief, numbers, over, publish, rooms};

#[tokio::test(start_paused = true)]
async fn what_a_member_could_not_take_is_given_to_it_once_it_reads_on_both_endpoints() {
    let bus = Flaky::new(LocalBus::new());
    let rooms = over(bus.clone(), Retention::messages(1_000));
    let (mut many, mut one) = (Slow::many(&rooms, &[POST]).await, Slow::one(&rooms).await);
    many.takes(1).await;
    let reads = bus.reads();
    publish(&rooms, 1..=200).await;
    let told = many.takes(1_000).await;
    let positions: Vec<_> = told.iter().filter_map(|event| event["offset"].as_str()).collect();
    assert_eq!(positions.len(), 200, "each with its position");
    assert_eq!(brief(told), numbers(1..=200));
    assert_eq!(one.takes(1_000).await, numbers(1..=200), "bare");
    many.valve.open(1_000);
    publish(&rooms, 201..=203).await;
    assert_eq!(brief(many.takes(0).await), numbers(201..=203), "and it goes on as for the others");
    assert_eq!(bus.reads(), reads, "out of the node's own copy");
}

#[tokio::test(start_paused = true)]
async fn one_that_reads_a_little_now_and_then_has_everything_in_the_end() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST]).await;
    let mut got = Vec::new();
    for round in 0..100_u64 {
        publish(&rooms, 5 * round + 1..=5 * round + 5).await;
        got.extend(slow.takes((round % 7) as usize).await);
    }
    got.extend(slow.takes(1_000).await);
    assert_eq!(brief(got), numbers(1..=500));
}

#[tokio::test(start_paused = true)]
async fn other_rooms_of_a_slow_member_do_not_keep_it_from_being_healed() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST, "chat:1"]).await;
    let mut got = Vec::new();
    for number in 1..=200 {
        publish(&rooms, number..=number).await;
        for _ in 0..3 {
            rooms.broadcast(&key("chat:1"), &json!("chat")).await.unwrap();
        }
        idle().await;
        got.extend(slow.takes(2).await);
    }
    let healed = got.iter().filter(|event| event["room"] == POST && event["type"] == "message").count();
    assert!(healed > 20, "a room that is louder does not take it all: {healed}");
    got.extend(slow.takes(1_000).await);
    let ours: Vec<Value> = got.into_iter().filter(|event| event["room"] == POST).collect();
    assert_eq!(brief(ours), numbers(1..=200));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_never_reads_keeps_no_task_waiting() {
    let rooms = over(LocalBus::new(), Retention::messages(5));
    let _slow = Slow::many(&rooms, &[POST]).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    publish(&rooms, 1..=2_000).await;
    assert!(tasks() <= before);
}

/// A client that does not read for a while, over a real socket: what its kernel and ours take is not all.
#[tokio::test]
async fn a_socket_that_stops_being_read_has_everything_once_it_is_read_again() {
    const COUNT: u64 = 3_000;
    let limits = |limits: &mut Limits| (limits.max_outbox_messages, limits.send_buffer_bytes) = (64, Some(16 * 1024));
    let post = Kind::authenticated().history(Retention::messages(10_000).bytes(4 << 20)).overflow(Overflow::Resync);
    let rooms: RoomManager = RoomManager::builder().kind("post", post).limits(limits).build().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (stream, sink) = ws::tcp(accepted.unwrap().0, &[], rooms.limits()).unwrap();
    let served = tokio::spawn(rooms.serve_room(stream, sink, who("a"), key(POST)));
    let mut client = reader(client.unwrap());
    assert!(client.next().await.unwrap().contains("room_joined"));
    let padding = "x".repeat(1_000);
    for number in 1..=COUNT {
        rooms.broadcast(&key(POST), &json!({"n": number, "padding": padding})).await.unwrap();
        tokio::task::yield_now().await;
    }
    for number in 1..=COUNT {
        let text = timeout(Duration::from_secs(30), client.next()).await.expect("in time").expect("before the end");
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["n"], number, "{text:.60}");
    }
    served.abort();
}

/// The texts that a server sends: frames without a mask, none of them in parts.
fn reader(client: TcpStream) -> impl futures::Stream<Item = String> + Unpin {
    use tokio::io::AsyncReadExt as _;
    let (mut sender, receiver) = mpsc::channel(0);
    tokio::spawn(async move {
        let mut client = client;
        loop {
            let Ok(_first) = client.read_u8().await else { return };
            let length = match client.read_u8().await.unwrap() {
                126 => usize::from(client.read_u16().await.unwrap()),
                length => usize::from(length),
            };
            let mut text = vec![0; length];
            client.read_exact(&mut text).await.unwrap();
            if sender.send(String::from_utf8(text).unwrap()).await.is_err() {
                return;
            }
        }
    });
    receiver
}

#[tokio::test(start_paused = true)]
async fn a_slow_member_is_not_told_names_that_it_may_not_see() {
    let post = Kind::new()
        .join_rule(|_, _| async move { true })
        .members_claim("sees")
        .history(Retention::messages(1_000))
        .overflow(Overflow::Resync);
    let limits = |limits: &mut Limits| limits.max_outbox_messages = OUTBOX;
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=100).await;
    let (_valve, sink) = valve::new();
    let mut second = rooms.connect(who("b"), sink).unwrap();
    second.join(&key(POST)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let told = slow.takes(1_000).await;
    let of_viewers: Vec<_> = told.iter().filter(|event| event.get("viewers").is_some()).collect();
    assert_eq!(of_viewers, [&json!({"type": "viewer_joined", "room": POST, "viewers": 2})]);
    assert_eq!(brief(told), numbers(1..=100));
}

#[tokio::test(start_paused = true)]
async fn a_slow_member_of_a_room_with_a_state_has_it_whole_again() {
    let post = Kind::authenticated()
        .history(Retention::messages(1_000))
        .keep_state(Duration::from_secs(60))
        .overflow(Overflow::Resync);
    let limits = |limits: &mut Limits| limits.max_outbox_messages = OUTBOX;
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let long = "x".repeat(200);
    let state = |n: u64| json!({"n": n, "long": long});
    rooms.broadcast_state(&key(POST), &state(0)).await.unwrap();
    for states in [5, 100] {
        let mut slow = Slow::many(&rooms, &[POST]).await;
        let mut page = slow.valve.taken().iter().find_map(|message| {
            let event: Value = serde_json::from_slice(message.payload()).unwrap();
            (event["type"] == "room_state").then(|| (event["revision"].clone(), event["state"].clone()))
        });
        publish(&rooms, 1..=100).await;
        for n in 1..=states {
            rooms.broadcast_state(&key(POST), &state(n)).await.unwrap();
            idle().await;
        }
        let mut told = slow.takes(1_000).await;
        let lost = told.iter().any(|event| event["type"] == "resync");
        assert_eq!(lost, states == 100, "so many are more than may wait");
        if lost {
            // As the protocol says: it asks for all of it.
            slow.say(&json!({"type": "join", "room": POST}));
            told.extend(slow.takes(1_000).await);
        }
        for event in told.iter().filter(|event| event["type"] == "room_state") {
            match (&event["state"], &page) {
                (Value::Null, Some((revision, before))) if *revision == event["since"] => {
                    let mut after = before.clone();
                    after.as_object_mut().unwrap().extend(event["patch"].as_object().unwrap().clone());
                    page = Some((event["revision"].clone(), after));
                }
                (Value::Null, _) => {}
                (state, _) => page = Some((event["revision"].clone(), state.clone())),
            }
        }
        assert_eq!(page.unwrap().1, state(states), "after {states} states");
        // The first of them may have gone with what was dropped, which was told.
        let came: Vec<_> = brief(told).into_iter().filter(Value::is_number).collect();
        assert!(came == numbers(1..=100) || lost && came == numbers(2..=100), "{came:?}");
    }
}
