//! Counts over several nodes, without faults and when nodes go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/rig.rs"]
mod rig;

use std::time::Duration;

use futures::future::join_all;
use rooms_core::{
    Bus as _, Kind, LocalBus, RoomManager,
    bus::Topic,
    testing::{faults::NetworkFaults, fleet::Fleet},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use nodes::{Nodes, agreed, nodes, settle, told, with_kinds};
use rig::{Client, Rooms, idle, key};

#[tokio::test(start_paused = true)]
async fn room_joined_and_every_event_after_it_count_all_nodes() {
    let fleet = nodes(3);
    let room = key("post:42");
    idle().await;
    let mut first = Client::join(fleet.node(0), "a", "post:42").await;
    let mut second = Client::connect(fleet.node(1), "b");
    assert_eq!(second.connection.join(&room).await.unwrap(), 2, "the first member of its node asks the others");
    assert_eq!(second.inbox.next().await, json!({"type": "room_joined", "room": "post:42", "viewers": 2}));
    let third = Client::join(fleet.node(1), "c", "post:42").await;
    settle().await;
    assert_eq!(told(&mut first).await, [2, 3]);
    assert_eq!(told(&mut second).await, [3]);
    assert_eq!(agreed(&fleet, 0..3, &room).await, 3, "the third node has no member, and asks");
    drop(third);
    settle().await;
    assert_eq!(first.inbox.all().await, [json!({"type": "viewer_left", "viewers": 2})]);
    assert_eq!(agreed(&fleet, 0..3, &room).await, 2);
    assert_eq!(fleet.node(0).local_viewers(&room), 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_nobody_is_in_has_no_viewers_anywhere() {
    let fleet = nodes(2);
    settle().await;
    assert_eq!(agreed(&fleet, 0..2, &key("post:1")).await, 0);
    let member = Client::join(fleet.node(0), "a", "post:1").await;
    drop(member);
    assert_eq!(agreed(&fleet, 0..2, &key("post:1")).await, 0);
    // Past the lingering, and the room of that name is another one.
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fleet.node(0).stats().rooms, 0);
    let _again = Client::join(fleet.node(0), "a", "post:1").await;
    let mut other = Client::connect(fleet.node(1), "b");
    assert_eq!(other.connection.join(&key("post:1")).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_joins_on_four_nodes_are_a_few_events_and_a_few_entries() {
    let fleet = nodes(4);
    let room = key("post:42");
    idle().await;
    let mut firsts = join_all((0..4).map(|node| Client::join(fleet.node(node), "a", "post:42"))).await;
    settle().await;
    for first in &mut firsts {
        told(first).await;
    }
    let rows = |fleet: &Nodes| (0..4).map(|node| fleet.node(node).stats().entries_published).sum::<u64>();
    let before = rows(&fleet);
    let mut others = Vec::new();
    for _ in 0..100 {
        let joins = (0..100).map(|n| Client::join(fleet.node(n % 4), "b", "post:42"));
        others.extend(join_all(joins).await);
        sleep(Duration::from_millis(9)).await;
    }
    settle().await;
    for (number, client) in firsts.iter_mut().chain(&mut others).enumerate() {
        let events = told(client).await;
        assert!(events.len() <= 8, "{events:?}");
        // Only the last of all may have known the number when it joined.
        assert_eq!(events.last().copied().unwrap_or_default(), 10_004, "member {number}: {events:?}");
    }
    assert_eq!(agreed(&fleet, 0..4, &room).await, 10_004);
    let rows = rows(&fleet) - before;
    assert!(rows <= 4 * (4 + 2), "{rows} rows");
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_is_counted_out_within_eight_seconds_in_one_event() {
    let fleet = nodes(4);
    let room = key("post:42");
    idle().await;
    let mut clients = Vec::new();
    for n in 0..10_000 {
        clients.push(Client::join(fleet.node(n % 4), "a", "post:42").await);
    }
    settle().await;
    for client in &mut clients {
        told(client).await;
    }
    fleet.faults(3).kill();
    sleep(Duration::from_secs(8)).await;
    assert_eq!(agreed(&fleet, 0..3, &room).await, 7_500);
    assert_eq!(fleet.node(0).stats().nodes, 3);
    for (number, client) in clients.iter_mut().enumerate().filter(|(number, _)| number % 4 != 3) {
        assert_eq!(told(client).await, [7_500], "member {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_nodes_killed_at_once_leave_the_others_with_the_truth() {
    let fleet = nodes(4);
    let room = key("post:42");
    idle().await;
    let mut clients = join_all((0..40).map(|n| Client::join(fleet.node(n % 4), "a", "post:42"))).await;
    settle().await;
    fleet.faults(1).kill();
    fleet.faults(2).kill();
    sleep(Duration::from_secs(8)).await;
    assert_eq!(agreed(&fleet, [0, 3], &room).await, 20);
    assert_eq!(told(&mut clients[0]).await.last(), Some(&20));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_shuts_down_says_good_bye_and_is_counted_out_at_once() {
    let fleet = nodes(2);
    let room = key("post:42");
    idle().await;
    let mut stays = Client::join(fleet.node(0), "a", "post:42").await;
    let goes = join_all((0..5).map(|_| Client::join(fleet.node(1), "b", "post:42"))).await;
    settle().await;
    told(&mut stays).await;
    // Nobody takes its connections away: the good-bye counts them out.
    let shutdown = fleet.node(1).shutdown(Duration::ZERO);
    shutdown.await;
    settle().await;
    assert_eq!(fleet.node(0).stats().nodes, 1);
    assert_eq!(told(&mut stays).await, [1]);
    assert_eq!(agreed(&fleet, 0..1, &room).await, 1);
    drop(goes);
}

#[tokio::test(start_paused = true)]
async fn a_node_killed_while_its_good_bye_is_under_way_is_gone_either_way() {
    for lost in [true, false] {
        let fleet = nodes(2);
        idle().await;
        let _stays = Client::join(fleet.node(0), "a", "post:42").await;
        let goes = Client::join(fleet.node(1), "b", "post:42").await;
        settle().await;
        if lost {
            fleet.faults(0).cut();
        }
        // Its close frame is never written, so that the shutdown waits for it.
        goes.driven.abort();
        let mut shutdown = Box::pin(fleet.node(1).shutdown(Duration::from_secs(1)));
        _ = tokio::time::timeout(Duration::from_millis(1), &mut shutdown).await;
        drop(goes);
        _ = tokio::time::timeout(Duration::from_millis(100), &mut shutdown).await;
        fleet.faults(1).kill();
        drop(shutdown);
        fleet.faults(0).mend();
        sleep(Duration::from_secs(10)).await;
        assert_eq!(agreed(&fleet, 0..1, &key("post:42")).await, 1);
        assert_eq!(fleet.node(0).stats().nodes, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_incarnation_is_counted_beside_the_one_that_was_killed_until_that_is_gone() {
    let mut fleet = nodes(2);
    let room = key("post:42");
    idle().await;
    let _stays = Client::join(fleet.node(0), "a", "post:42").await;
    let _killed = Client::join(fleet.node(1), "b", "post:42").await;
    settle().await;
    fleet.faults(1).kill();
    let again = fleet.add(|_, node| with_kinds(node));
    idle().await;
    let mut back = Client::connect(fleet.node(again), "b");
    back.connection.join(&room).await.unwrap();
    sleep(Duration::from_secs(8)).await;
    assert_eq!(agreed(&fleet, [0, again], &room).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_room_need_not_linger() {
    let fleet: Nodes = Fleet::new(2, |_, node| {
        let grace = Kind::authenticated().leave_grace(Duration::from_secs(3));
        let node = node.kind("post", Kind::authenticated()).kind("calm", grace);
        node.limits(|limits| (limits.linger, limits.viewer_window) = (Duration::ZERO, Duration::ZERO))
    });
    settle().await;
    for room in ["post:1", "calm:1"] {
        let member = Client::join(fleet.node(0), "a", room).await;
        settle().await;
        assert_eq!(agreed(&fleet, 0..2, &key(room)).await, 1);
        drop(member);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(agreed(&fleet, 0..2, &key(room)).await, 0);
        assert_eq!(fleet.node(0).stats().rooms, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_is_not_sure_before_it_can_have_heard_of_the_others() {
    let mut fleet = nodes(1);
    settle().await;
    let _member = Client::join(fleet.node(0), "a", "post:42").await;
    let new = fleet.add(|_, node| with_kinds(node));
    assert!(!fleet.node(new).viewers(&key("post:42")).await.exact);
    settle().await;
    assert_eq!(agreed(&fleet, 0..2, &key("post:42")).await, 1);
}

#[tokio::test(start_paused = true)]
async fn one_join_waits_for_a_frozen_node_and_the_next_ones_do_not() {
    let fleet = nodes(2);
    settle().await;
    fleet.faults(1).freeze();
    let time = |room: &'static str| async {
        let begun = Instant::now();
        let member = Client::join(fleet.node(0), "a", room).await;
        (begun.elapsed(), member)
    };
    let (first, _a) = time("post:1").await;
    assert!(first >= Duration::from_millis(500), "{first:?}");
    let (second, _b) = time("post:2").await;
    assert!(second < Duration::from_millis(500), "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_room_that_was_left_alone_is_forgotten_beside_a_node_that_answers_nothing() {
    let hub = LocalBus::new();
    let rooms: Rooms = with_kinds(RoomManager::build_for().bus(hub.peer())).build().unwrap();
    settle().await;
    drop(Client::join(&rooms, "a", "post:42").await);
    for number in 1..30 {
        let beat = format!(r#"{{"v":1,"node":"1","message":{{"heartbeat":{{"number":{number},"digests":{{}}}}}}}}"#);
        hub.publish(&Topic::Nodes, beat.into()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((rooms.stats().nodes, rooms.stats().rooms), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_nodes_are_counted() {
    let fleet: Nodes =
        Fleet::new(4, |_, node| node.kind("post", Kind::authenticated()).limits(|limits| limits.max_nodes = 2));
    settle().await;
    assert_eq!(fleet.node(0).stats().nodes, 3, "itself and two others");
}

/// With as many rooms a question about all of them takes longer than it takes until the next one comes.
#[tokio::test(start_paused = true)]
async fn a_node_with_many_rooms_is_sure_again_after_a_fault_although_people_keep_coming() {
    let fleet = nodes(2);
    fleet.network_faults(&NetworkFaults {
        delay: Duration::from_millis(5)..Duration::from_millis(6),
        ..NetworkFaults::calm()
    });
    settle().await;
    let rooms = (0..3_000).map(|number| format!("post:{number}"));
    let node = fleet.node(0);
    let _there = join_all(rooms.map(|room| async move { Client::join(node, "a", &room).await })).await;
    sleep(Duration::from_secs(10)).await;
    fleet.faults(1).cut();
    sleep(Duration::from_secs(8)).await;
    fleet.faults(1).mend();
    for second in 0..60 {
        let mut sure = true;
        for number in 0..50 {
            let newcomer = format!("chat:{}", second * 50 + number);
            let node = fleet.node(0).clone();
            tokio::spawn(async move { Client::join(&node, "a", &newcomer).await });
            sleep(Duration::from_millis(20)).await;
            sure &= fleet.node(0).viewers(&key("post:1")).await.exact;
        }
        if sure {
            return;
        }
    }
    panic!("it asks and asks");
}
