//! A million joins and leaves over random rooms, and a hundred thousand connections: nothing is left of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;

use std::{fs, time::Duration};

use rooms_core::{Connection, Kind, RoomManager, Stats};
use tokio::time::sleep;

use rig::{Client, Rooms, key};

const LAPS: usize = 10;
/// Over all laps: 100,000 connections with ten joins each, of which some end with the connection.
const CONNECTIONS: usize = 100_000;
const JOINS: usize = 10;
const ROOMS: u64 = 5_000;
/// Connections that are there at once.
const TOGETHER: usize = 100;

/// Numbers that look random and are the same in every run (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Joins, leaves, and perhaps goes without leaving.
async fn live(connection: &mut Connection, random: &mut Random) {
    for _ in 0..JOINS {
        let room = key(&format!("post:{}", random.below(ROOMS)));
        connection.join(&room).await.unwrap();
        if random.below(3) > 0 {
            assert!(connection.leave(&room));
        }
    }
}

async fn lap(rooms: &Rooms, random: &mut Random) {
    for _ in 0..CONNECTIONS / LAPS / TOGETHER {
        let mut clients: Vec<_> = (0..TOGETHER).map(|n| Client::connect(rooms, &format!("u{n}"))).collect();
        for client in &mut clients {
            live(&mut client.connection, random).await;
        }
        let room = key(&format!("post:{}", random.below(ROOMS)));
        rooms.broadcast(&room, &"to whoever is there").await.unwrap();
        for client in clients {
            let Client { connection, driven, .. } = client;
            drop(connection);
            assert_eq!(driven.await.unwrap(), None, "a connection's task ends with the connection");
        }
    }
    // Past the windows and the lingering of every room.
    sleep(Duration::from_secs(1)).await;
    let Stats { connections, rooms, .. } = rooms.stats();
    assert_eq!((connections, rooms), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_million_joins_and_leaves_leave_nothing_behind() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.linger = Duration::from_millis(100))
        .build()
        .unwrap();
    let mut random = Random(42);
    let mut plateau = 0;
    for number in 0..LAPS {
        lap(&rooms, &mut random).await;
        let now = resident();
        // The first laps fill the allocator's own stock.
        if number < LAPS / 2 {
            plateau = plateau.max(now);
        } else {
            assert!(now <= plateau + plateau / 10, "{now} bytes after lap {number}, {plateau} before");
        }
    }
}
