//! Hooks about a room as a whole: that it is occupied, or empty, here and over all nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/hand.rs"]
mod hand;
#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/rig.rs"]
mod rig;

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use rooms_core::{
    Kind, LocalBus, Occupancy, RoomKey, RoomManager,
    bus::{BusEvent, Topic},
    testing::{
        faults::{Faults, FaultyBus, NetworkFaults},
        fleet::Fleet,
    },
};
use tokio::time::sleep;

use hand::Hand;
use nodes::{Nodes, agreed, settle};
use rig::{Client, Rooms, idle, key};

/// What is told about this node, in a word.
const fn here(occupancy: Occupancy) -> Option<&'static str> {
    match occupancy {
        Occupancy::OccupiedHere => Some("occupied"),
        Occupancy::EmptyHere => Some("empty"),
        _ => None,
    }
}

/// What is told about all nodes, in a word.
const fn anywhere(occupancy: Occupancy) -> Option<&'static str> {
    match occupancy {
        Occupancy::OccupiedAnywhere => Some("occupied"),
        Occupancy::EmptyEverywhere => Some("empty"),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_application_is_told_when_a_room_is_occupied_and_empty_here_and_anywhere() {
    let counts: Arc<[AtomicUsize; 4]> = Arc::default();
    let count = Arc::clone(&counts);
    let kind = Kind::authenticated().on_occupancy(move |room, occupancy| {
        assert_eq!(room, key("post:42"));
        let of = match occupancy {
            Occupancy::OccupiedHere => 0,
            Occupancy::OccupiedAnywhere => 1,
            Occupancy::EmptyHere => 2,
            Occupancy::EmptyEverywhere => 3,
            _ => panic!("told of {occupancy:?}"),
        };
        count[of].fetch_add(1, Ordering::Relaxed);
        async {}
    });
    let fleet: Nodes = Fleet::new(2, |_, node| node.kind("post", kind.clone()));
    let told = || counts.each_ref().map(|count| count.swap(0, Ordering::Relaxed));
    idle().await;
    let a = Client::join(fleet.node(0), "a", "post:42").await;
    let b = Client::join(fleet.node(0), "b", "post:42").await;
    idle().await;
    assert_eq!(told(), [1, 1, 0, 0]);
    let c = Client::join(fleet.node(1), "c", "post:42").await;
    settle().await;
    assert_eq!(told(), [1, 0, 0, 0], "it was occupied already");
    drop(c);
    settle().await;
    assert_eq!(told(), [0, 0, 1, 0]);
    drop(a);
    settle().await;
    assert_eq!(told(), [0; 4]);
    sleep(Duration::from_secs(10)).await; // The other node forgets the room.
    drop(b);
    settle().await;
    assert_eq!(told(), [0, 0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn hooks_about_a_room_run_one_after_another_and_only_for_what_is_so() {
    let log: Arc<Mutex<Vec<&str>>> = Arc::default();
    let slow = Arc::clone(&log);
    let kind = Kind::authenticated().on_occupancy(move |_, occupancy| {
        let log = Arc::clone(&slow);
        async move {
            let Some(word) = here(occupancy) else { return };
            sleep(Duration::from_secs(1)).await;
            log.lock().unwrap().push(word);
            assert!(word != "empty", "a panic of a hook stops nothing");
        }
    });
    let fleet: Nodes = Fleet::new(1, |_, node| node.kind("post", kind.clone()));
    for _ in 0..10 {
        drop(Client::join(fleet.node(0), "a", "post:42").await);
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(*log.lock().unwrap(), ["occupied", "empty"], "it flapped while the first hook ran");
    let _stays = Client::join(fleet.node(0), "a", "post:42").await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(*log.lock().unwrap(), ["occupied", "empty", "occupied"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_takes_longer_than_the_room_lingers_is_not_run_beside_the_next() {
    let log: Arc<Mutex<Vec<(&str, &str)>>> = Arc::default();
    let slow = Arc::clone(&log);
    let kind = Kind::authenticated().on_occupancy(move |_, occupancy| {
        let log = Arc::clone(&slow);
        async move {
            let Some(word) = here(occupancy) else { return };
            log.lock().unwrap().push((word, "begins"));
            sleep(Duration::from_secs(8)).await;
            log.lock().unwrap().push((word, "ends"));
        }
    });
    let fleet: Nodes = Fleet::new(1, |_, node| node.kind("post", kind.clone()));
    drop(Client::join(fleet.node(0), "a", "post:42").await);
    sleep(Duration::from_secs(6)).await;
    let _stays = Client::join(fleet.node(0), "a", "post:42").await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        *log.lock().unwrap(),
        [("occupied", "begins"), ("occupied", "ends")],
        "it is occupied now as it was told"
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_first_anywhere_is_told_although_another_node_follows_while_a_hook_runs() {
    let log: Arc<Mutex<Vec<&str>>> = Arc::default();
    let hook = Arc::clone(&log);
    let kind = Kind::authenticated().on_occupancy(move |_, occupancy| {
        let log = Arc::clone(&hook);
        async move {
            let Some(word) = anywhere(occupancy) else { return };
            sleep(Duration::from_secs(if word == "empty" { 2 } else { 0 })).await;
            log.lock().unwrap().push(word);
        }
    });
    let fleet: Nodes = Fleet::new(2, |_, node| node.kind("post", kind.clone()));
    idle().await;
    drop(Client::join(fleet.node(0), "a", "post:42").await);
    settle().await;
    let mut members = Vec::new();
    for node in 0..2 {
        members.push(Client::join(fleet.node(node), "a", "post:42").await);
        sleep(Duration::from_millis(300)).await;
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(agreed(&fleet, 0..2, &key("post:42")).await, 2);
    assert_eq!(*log.lock().unwrap(), ["occupied", "empty", "occupied"]);
}

/// What a question under way still holds: a room that is forgotten, and has a successor.
#[tokio::test(start_paused = true)]
async fn a_room_that_was_forgotten_tells_nothing_beside_the_next_of_its_name() {
    const LATE: Duration = Duration::from_millis(300);
    const ROOMS: usize = 20;
    let log: Arc<Mutex<Vec<(RoomKey, &str)>>> = Arc::default();
    let hook = Arc::clone(&log);
    let told = Kind::authenticated().on_occupancy(move |room, occupancy| {
        hook.lock().unwrap().extend(anywhere(occupancy).map(|word| (room, word)));
        async {}
    });
    let (hub, faults) = (LocalBus::new(), Faults::new(1));
    let build = || RoomManager::build_for().limits(|limits| limits.max_connections_per_user = usize::MAX);
    let hand = Hand::new(FaultyBus::new(hub.peer(), faults.clone()));
    let one: Rooms = build().kind("post", Kind::authenticated()).kind("told", told).bus(hand.clone()).build().unwrap();
    let two: Rooms = build().kind("told", Kind::authenticated()).bus(hub.peer()).build().unwrap();
    settle().await;
    let join = async |node: &Rooms, kind: &str, count: usize| {
        let rooms: Vec<String> = (0..count).map(|number| format!("{kind}:{number}")).collect();
        join_all(rooms.iter().map(|room| Client::join(node, "a", room))).await
    };
    // So many that asking for all takes some questions.
    let _many = join(&one, "post", 2_000).await;
    let elsewhere = join(&two, "told", ROOMS).await;
    let first = join(&one, "told", ROOMS).await;
    sleep(Duration::from_secs(5)).await;
    faults.network_faults(NetworkFaults { delay: LATE..LATE, ..NetworkFaults::calm() });
    drop(first);
    sleep(Duration::from_millis(4_900)).await;
    // Makes it ask for everything, just before it forgets the rooms that linger.
    hand.say(BusEvent::gap(Topic::Nodes));
    sleep(Duration::from_millis(150)).await;
    let _stay = join(&one, "told", ROOMS).await;
    drop(elsewhere);
    sleep(Duration::from_secs(30)).await;
    for number in 0..ROOMS {
        let room = key(&format!("told:{number}"));
        let log: Vec<_> = log.lock().unwrap().iter().filter(|(of, _)| *of == room).map(|(_, word)| *word).collect();
        assert_ne!(log.last(), Some(&"empty"), "{room}: {log:?}");
    }
}

/// A value of the application that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_takes_too_long_and_panics_as_it_is_dropped_keeps_no_room() {
    let kind = Kind::authenticated().on_occupancy(|_, occupancy| async move {
        if occupancy != Occupancy::EmptyHere {
            return;
        }
        let _bomb = Bomb;
        pending::<()>().await;
    });
    let fleet: Nodes = Fleet::new(1, |_, node| node.kind("post", kind.clone()));
    drop(Client::join(fleet.node(0), "a", "post:42").await);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(fleet.node(0).stats().rooms, 0);
}
