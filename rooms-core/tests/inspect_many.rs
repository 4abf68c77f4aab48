//! Reports of many rooms, connections and members: bounded, shared by who asks, and put together in turns.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::join_all};
use rooms_core::{
    Kind, RoomManager, RoomManagerBuilder,
    reports::{Finding, NodeReport, Weight},
};
use serde_json::json;
use tokio::{task::yield_now, time::sleep};

use rig::{Client, Rooms, Sink, idle, key};

fn rooms(change: impl FnOnce(RoomManagerBuilder<Sink>) -> RoomManagerBuilder<Sink>) -> Rooms {
    change(RoomManager::build_for().kind("post", Kind::authenticated())).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_within_a_second_is_given_the_same_report() {
    let rooms = rooms(|builder| builder);
    let reports = join_all((0..50).map(|_| rooms.inspect())).await;
    assert!(reports.iter().all(|report| Arc::ptr_eq(report, &reports[0])));
    sleep(Duration::from_millis(900)).await;
    assert!(Arc::ptr_eq(&rooms.inspect().await, &reports[0]));
    sleep(Duration::from_millis(200)).await;
    assert!(!Arc::ptr_eq(&rooms.inspect().await, &reports[0]));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_leaves_the_next_one_its_turn() {
    let rooms = rooms(|builder| builder);
    let _clients = join_all(["a", "b", "c", "d", "e"].map(|user| Client::join(&rooms, user, "post:1"))).await;
    for _ in 0..10 {
        let mut asked = Box::pin(rooms.inspect());
        assert!(asked.as_mut().now_or_never().is_none(), "it lets others have their turn");
    }
    assert_eq!(rooms.inspect().await.connections, 5);
}

#[tokio::test(start_paused = true)]
async fn the_connections_and_rooms_of_one_user_are_bounded() {
    let rooms = rooms(|builder| builder.limits(|limits| limits.max_connections_per_user = 100));
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(&rooms, "ann")).collect();
    for room in 0..40 {
        clients[0].connection.join(&key(&format!("post:{room}"))).await.unwrap();
    }
    let report = &rooms.inspect_user("ann").await.unwrap().nodes[0];
    assert_eq!((report.connections.len(), report.connections_left_out), (16, 4));
    let first = clients[0].connection.id();
    if let Some(connection) = report.connections.iter().find(|connection| connection.connection == first) {
        assert_eq!((connection.rooms.len(), connection.rooms_left_out, connection.max_rooms), (32, 8, 128));
    }
    let mut crowd = Vec::new();
    for n in 0..80 {
        crowd.push(Client::join(&rooms, &format!("u{n}"), "post:1").await);
    }
    let room = &rooms.inspect_room(&key("post:1")).await.nodes[0];
    assert_eq!((room.members.len(), room.members_left_out, room.memberships), (50, 31, 81));
    drop(crowd);
}

#[tokio::test(start_paused = true)]
async fn a_search_gives_others_their_turn_after_a_thousand_members() {
    const MEMBERS: usize = 400;
    const ROOMS: usize = 256;
    let rooms = rooms(|builder| builder.limits(|limits| limits.max_rooms_per_connection = ROOMS));
    let mut clients: Vec<_> = (0..MEMBERS).map(|n| Client::connect(&rooms, &format!("u{n}"))).collect();
    for room in 0..ROOMS {
        let room = key(&format!("post:{room}"));
        for client in &mut clients {
            client.connection.join(&room).await.unwrap();
        }
    }
    let (report, turns) = in_turns(rooms.inspect_user("u1")).await;
    let report = report.unwrap();
    assert_eq!(report.nodes[0].connections[0].rooms.len() + report.nodes[0].connections[0].rooms_left_out, ROOMS);
    // After three rooms each, also where many are in one of the registry's 64 parts.
    assert!(turns > ROOMS / 3, "{turns}");
}

#[tokio::test(start_paused = true)]
async fn every_report_gives_others_their_turn_among_many_rooms_and_members() {
    // More than a turn in each of the registry's 64 parts, and more than a turn of one room's members.
    const ROOMS: usize = 20_000;
    const MEMBERS: usize = 1_100;
    let rooms = rooms(|builder| builder.limits(|limits| limits.max_rooms_per_connection = ROOMS));
    let mut ann = Client::connect(&rooms, "ann");
    for room in 0..ROOMS {
        ann.connection.join(&key(&format!("post:{room}"))).await.unwrap();
    }
    // At most 256 rooms in a turn, and 1,024 members.
    let (of_node, of_room, of_user) = (ROOMS / 256, MEMBERS / 1024, ROOMS / 256);
    let (report, turns) = in_turns(rooms.inspect()).await;
    assert_eq!((report.rooms, report.connections), (ROOMS, 1));
    assert!(turns > of_node, "{turns} for the node");
    let mut crowd = Vec::new();
    for n in 0..MEMBERS {
        crowd.push(Client::join(&rooms, &format!("u{n}"), "post:0").await);
    }
    let (report, turns) = in_turns(rooms.inspect_room(&key("post:0"))).await;
    assert_eq!(report.nodes[0].memberships, MEMBERS + 1);
    assert!(turns > of_room, "{turns} for the room");
    let (report, turns) = in_turns(rooms.inspect_user("ann")).await;
    assert_eq!(report.unwrap().nodes[0].connections.len(), 1);
    assert!(turns > of_user, "{turns} for the user");
    // The report of the node is not fresh any more. Beside the rooms, which take at most two turns in each part, it has turns for the
    // connections.
    sleep(Duration::from_secs(2)).await;
    let (report, turns) = in_turns(rooms.inspect()).await;
    assert_eq!(report.connections, MEMBERS + 1);
    assert!(turns > 64 * 2 + MEMBERS / 256, "{turns} for the node and its connections");
    sleep(Duration::from_secs(2)).await;
    let (why, turns) = in_turns(rooms.explain("u7", Some(&key("post:0")))).await;
    let is_in = |finding: &Finding| finding.weight == Weight::Fine && finding.text.contains("It is in `post:0`");
    assert!(why.unwrap().findings.iter().any(is_in));
    assert!(turns > of_node + of_room + of_user, "{turns} for why");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_asked_all_the_time_puts_a_report_together_once_a_second_and_broadcasts_meanwhile() {
    // Fewer rooms and connections than in the bench `inspector`. The fan-out gives others a turn after 64 members each, which
    // is oftener than the report does among the connections alone.
    const CONNECTIONS: usize = 6_000;
    const OWN: usize = 3;
    let rooms = rooms(|builder| builder);
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|n| Client::connect(&rooms, &format!("u{n}"))).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        for own in 0..OWN {
            client.connection.join(&key(&format!("post:{}", n * OWN + own))).await.unwrap();
        }
        client.connection.join(&key("post:all")).await.unwrap();
    }
    idle().await;
    let mut reports: Vec<Arc<NodeReport>> = Vec::new();
    for round in 0..30 {
        let asked = tokio::spawn({
            let rooms = rooms.clone();
            async move { rooms.inspect().await }
        });
        // A report that is fresh is there after one turn.
        yield_now().await;
        let is_put_together = !asked.is_finished();
        if is_put_together {
            rooms.broadcast(&key("post:all"), &json!({"type": "note", "round": round})).await.unwrap();
            for client in &mut clients {
                while client.inbox.next().await["round"] != round {}
            }
            assert!(!asked.is_finished(), "round {round}: all members hear it before the report is there");
        }
        let report = asked.await.unwrap();
        assert_eq!((report.connections, report.rooms), (CONNECTIONS, CONNECTIONS * OWN + 1));
        let is_new = !reports.iter().any(|one| Arc::ptr_eq(one, &report));
        assert_eq!(is_new, is_put_together, "round {round}");
        if is_new {
            reports.push(report);
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(reports.len(), 3, "in three seconds");
}

/// What a future comes to, and how often it was polled: once more than it let others have their turn.
async fn in_turns<T>(future: impl Future<Output = T>) -> (T, usize) {
    let (mut future, mut turns) = (pin!(future), 0);
    let done = poll_fn(|cx| {
        turns += 1;
        future.as_mut().poll(cx)
    });
    (done.await, turns)
}
