//! How a process goes down, and what a connection is given at its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;
#[path = "support/valve.rs"]
mod valve;
#[path = "support/view.rs"]
mod view;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, channel::mpsc, future::join_all};
use rooms_core::{
    Close, CloseCode, Kind, Message, MessageKind, RoomManager, Shutdown,
    testing::fleet::Fleet,
    ws::{Incoming, WsError},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use nodes::Nodes;
use rig::{Client, Rooms, idle, key, who};
use talk::Talk;
use valve::ValveSink;
use view::users;

fn rooms() -> Rooms {
    let limits = |limits: &mut rooms_core::Limits| limits.max_connections_per_user = usize::MAX;
    RoomManager::build_for().kind("post", Kind::authenticated()).limits(limits).build().unwrap()
}

/// What a member is told before its close: when to come back; and the close.
async fn told(client: &mut Client) -> (u64, Close) {
    let told = client.inbox.next().await;
    assert_eq!(told["type"], "reconnect", "{told}");
    (told["in_ms"].as_u64().unwrap(), client.inbox.close().await)
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_takes_as_long_as_it_shall_at_least_and_is_seen_meanwhile() {
    for members in [0, 1] {
        let rooms = rooms();
        let clients = join_all((0..members).map(|_| Client::join(&rooms, "a", "post:1"))).await;
        drop(clients);
        let (start, draining) = (Instant::now(), rooms.clone());
        let least = Duration::from_secs(5);
        let down = tokio::spawn(async move { draining.shutdown(Shutdown::within(least * 2).at_least(least)).await });
        idle().await;
        assert!(rooms.is_draining());
        down.await.unwrap();
        assert!((least..least + Duration::from_millis(10)).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_spread_of_coming_back_follows_the_number_of_members() {
    for (members, most) in [(1, 1), (200, 100), (4_000, 2_000), (12_000, 5_000)] {
        let rooms = rooms();
        let mut clients = Vec::new();
        for _ in 0..members {
            clients.push(Client::connect(&rooms, "a"));
        }
        let draining = rooms.clone();
        let down = tokio::spawn(async move { draining.shutdown(Duration::from_secs(10)).await });
        let mut back = Vec::new();
        for mut client in clients {
            back.push(told(&mut client).await.0);
        }
        down.await.unwrap();
        back.sort_unstable();
        let (first, last) = (back[0], back[back.len() - 1]);
        assert!(first >= 500 && last < 500 + most, "{members}: {first} to {last}");
        assert!(members == 1 || last - first > most / 2, "{members}: {first} to {last}");
    }
}

#[tokio::test(start_paused = true)]
async fn members_are_closed_with_what_the_shutdown_says_and_so_are_those_who_come_late() {
    let rooms = rooms();
    let mut client = Client::join(&rooms, "a", "post:1").await;
    let how = Shutdown::within(Duration::from_secs(10)).close(Close::GOING_AWAY).come_back(Duration::from_secs(3));
    let draining = rooms.clone();
    let down = tokio::spawn(async move { draining.shutdown(how).await });
    assert_eq!(told(&mut client).await, (3_000, Close::GOING_AWAY));
    drop(client);
    down.await.unwrap();
    let mut late = Talk::open(&rooms, who("b"));
    assert_eq!(late.inbox.next().await["in_ms"], 3_000);
    assert_eq!(late.inbox.close().await, Close::GOING_AWAY);
    assert_eq!(Close::GOING_AWAY.code(), CloseCode::GOING_AWAY);
}

/// A page: it comes back when and where it is told to, and notes what it is told of others.
async fn page(fleet: Arc<Mutex<Nodes>>, number: usize, notes: Arc<Mutex<Vec<Value>>>) {
    let user = format!("u{number}");
    loop {
        // As behind a balancer that asks who is ready.
        let node = {
            let fleet = fleet.lock().unwrap();
            let ready: Vec<_> =
                (0..fleet.len()).map(|n| fleet.node(n).clone()).filter(|node| !node.is_draining()).collect();
            ready[number % ready.len()].clone()
        };
        let (send, stream) = mpsc::unbounded();
        let (sink, mut inbox) = mpsc::unbounded::<Message>();
        tokio::spawn(node.serve_room(stream, sink, who(&user), key("chat:1")));
        let mut in_ms = None;
        while let Some(message) = inbox.next().await {
            if message.kind() == MessageKind::Close {
                _ = send.unbounded_send(Ok(Incoming::Close(None)));
                break;
            }
            _ = send.unbounded_send(Ok(Incoming::Pong));
            let Some(event) = message.as_text().map(|text| serde_json::from_str::<Value>(text).unwrap()) else {
                continue;
            };
            in_ms = event["in_ms"].as_u64().or(in_ms);
            notes.lock().unwrap().push(event);
        }
        sleep(Duration::from_millis(in_ms.expect("it is told when to come back"))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_that_somebody_left_during_a_rolling_restart() {
    let within = Shutdown::within(Duration::from_secs(10));
    // The numbers of the guide; and where nothing but the members keeps the process.
    for how in [within.clone().at_least(Duration::from_secs(5)), within] {
        members(&how).await;
    }
}

async fn members(how: &Shutdown) {
    let grace = Duration::from_secs(10);
    let kinds = move |_, node: rooms_core::RoomManagerBuilder<rig::Sink>| {
        node.kind("chat", Kind::authenticated().list_members().leave_grace(grace))
    };
    let fleet = Arc::new(Mutex::new(Fleet::new(2, kinds)));
    let notes: Arc<Mutex<Vec<Value>>> = Arc::default();
    idle().await;
    for n in 0..40 {
        tokio::spawn(page(Arc::clone(&fleet), n, Arc::clone(&notes)));
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_secs(2)).await;
    let here = |node: usize| {
        let node = fleet.lock().unwrap().node(node).clone();
        async move { node.members(&key("chat:1")).await.unwrap() }
    };
    assert_eq!(here(0).await.users.len(), 40);
    notes.lock().unwrap().clear();
    for old in 0..3 {
        fleet.lock().unwrap().add(kinds);
        sleep(Duration::from_secs(3)).await;
        let node = fleet.lock().unwrap().node(old).clone();
        node.shutdown(how.clone()).await;
        assert_eq!(node.stats().connections, 0);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(here(old + 1).await.users.len(), 40, "after restart {old}");
    }
    let notes = notes.lock().unwrap();
    let left: Vec<_> =
        notes.iter().filter(|event| event["type"] == "viewer_left" && !users(event).is_empty()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(notes.iter().filter(|event| event["type"] == "room_joined").count() >= 40, "they were on the move");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_has_left_when_the_shutdown_is_over() {
    let kinds = |_, node: rooms_core::RoomManagerBuilder<rig::Sink>| {
        node.kind("chat", Kind::authenticated().list_members().leave_grace(Duration::from_secs(60)))
    };
    let fleet = Fleet::new(2, kinds);
    idle().await;
    let mut stays = Client::join(fleet.node(1), "a", "chat:1").await;
    drop(Client::join(fleet.node(0), "b", "chat:1").await);
    let start = Instant::now();
    fleet.node(0).shutdown(Duration::from_secs(10)).await;
    // As long as a member's close may take, and no longer.
    assert_eq!(start.elapsed().as_secs(), 12);
    let events = stays.inbox.all().await;
    assert!(events.iter().any(|event| event["type"] == "viewer_left" && users(event) == ["b"]), "{events:?}");
}

/// A client that says nothing more, and is there.
type Silent = mpsc::UnboundedSender<Result<Incoming, WsError>>;

/// A member whose socket is full, with a hundred messages that wait, and whose hook closes it; and when that was.
async fn closed_behind_a_hundred() -> (valve::Valve, Silent, tokio::task::JoinHandle<Close>, Instant) {
    let kind = Kind::authenticated().on_message(|member, _| async move {
        member.close(Close::NOT_ALLOWED);
        Ok(())
    });
    let rooms: RoomManager<ValveSink> = RoomManager::build_for().kind("post", kind).build().unwrap();
    let (valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve_room(stream, sink, who("a"), key("post:42")));
    valve.open(1);
    idle().await;
    for n in 0..100 {
        rooms.broadcast(&key("post:42"), &n).await.unwrap();
    }
    let start = Instant::now();
    send.unbounded_send(Ok(Incoming::Text(r#"{"type":"close me"}"#.into()))).unwrap();
    idle().await;
    assert_eq!(rooms.local_viewers(&key("post:42")), 0);
    (valve, send, ended, start)
}

#[tokio::test(start_paused = true)]
async fn a_close_behind_a_full_socket_comes_in_time_while_the_client_reads() {
    let (valve, _silent, ended, start) = closed_behind_a_hundred().await;
    let taken = loop {
        sleep(Duration::from_secs(1)).await;
        valve.open(1);
        idle().await;
        let taken = valve.taken();
        if taken.last().is_some_and(|last| last.kind() == MessageKind::Close) {
            break taken;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{} were taken", taken.len());
    };
    assert_eq!(rig::parse_close(taken.last().unwrap()), Close::NOT_ALLOWED);
    // What waited went out for half of the time, in its order.
    let before: Vec<_> = taken[1..taken.len() - 1].iter().map(|m| m.as_text().unwrap().to_owned()).collect();
    assert_eq!(before, (0..before.len()).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(before.len() >= 9, "{}", before.len());
    // The client never answers.
    assert_eq!(ended.await.unwrap(), Close::NOT_ALLOWED);
    assert_eq!(start.elapsed().as_secs(), 20, "`close_total_timeout`, as it was slow");
}

#[tokio::test(start_paused = true)]
async fn a_closing_client_that_takes_nothing_is_given_up() {
    let (valve, _silent, ended, start) = closed_behind_a_hundred().await;
    sleep(Duration::from_secs(3)).await;
    valve.open(1);
    assert_eq!(ended.await.unwrap(), Close::NOT_ALLOWED);
    assert_eq!(start.elapsed().as_secs(), 8, "`close_stall_timeout` after the last that it took");
    assert_eq!(valve.taken().len(), 2);
}
