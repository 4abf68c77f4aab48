//! Storms that nobody thought of: faults of Redis and of the network in any order, while members come and go. Who misses a
//! message is told; where there is a history nobody misses one, and nobody is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "support/storm.rs"]
mod storm;

use std::{collections::HashMap, time::Duration};

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use dice::Dice;
use faults::{Stored, fault};
use fleet::{Member, Node, key, quick};
use proxy::Proxy;
use redis_server::{PATIENCE, RedisServer, size};
use storm::Storm;

/// Faults in one storm.
const FAULTS: usize = 12;

/// Where visitors come and go: the room of the storm's ten members, to which its messages go, and two more.
const POSTS: [&str; 3] = ["post:42", "post:1", "post:2"];
const LOGS: [&str; 3] = ["log:42", "log:1", "log:2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_who_misses_a_message_is_told_and_the_counts_are_right_in_the_end() {
    for seed in 0..size(1, 100) {
        println!("storm {seed}");
        rage(Dice(seed), RedisServer::start().await, POSTS).await.check(usize::MAX).await;
    }
}

/// Every outage is shorter than what is kept: 10,000 messages, ten seconds of a storm's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_nobody_in_a_room_with_a_history_misses_a_message_or_is_told_to_fetch() {
    for seed in 0..size(1, 100) {
        println!("storm {seed}");
        let redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
        assert_eq!(rage(Dice(seed), redis, LOGS).await.check(0).await, 0);
    }
}

/// A storm that is over, with the counts of these rooms right again.
async fn rage(mut dice: Dice, redis: RedisServer, rooms: [&'static str; 3]) -> Storm {
    let mut proxies = Vec::new();
    for _ in 0..3 {
        proxies.push(Proxy::before(redis.port).await);
    }
    let mut urls: Vec<String> = proxies.iter().map(Proxy::url).collect();
    let publishing = quick(redis.url());
    let listening = || quick(urls.pop().expect("one for each node"));
    let mut storm = Storm::in_room(rooms[0], redis, listening, publishing).await;
    let mut visitors: Vec<(&str, Member)> = Vec::new();
    for _ in 0..FAULTS {
        fault(&mut dice, &mut storm.redis, &proxies, 1_500, Stored::Stays).await;
        visit(&mut dice, &storm.nodes, rooms, &mut visitors).await;
        sleep(dice.millis(600)).await;
    }
    // Whatever nobody was told of is found by the probes.
    sleep(Duration::from_secs(2)).await;
    storm.is_over(0).await;
    let mut truth = HashMap::from([(rooms[0], 10)]);
    visitors.iter().for_each(|(room, _)| *truth.entry(*room).or_default() += 1);
    for room in rooms {
        counted(&storm.nodes, room, truth.get(room).copied().unwrap_or_default()).await;
    }
    storm
}

/// Waits until every node has the true count of a room.
async fn counted(nodes: &[Node], room: &str, truth: usize) {
    let (deadline, of) = (Instant::now() + PATIENCE, key(room));
    loop {
        let counts = join_all(nodes.iter().map(|node| node.rooms.viewers(&of))).await;
        if counts.iter().all(|count| count.exact && count.viewers == truth) {
            return;
        }
        assert!(Instant::now() < deadline, "{room} has {truth} viewers, and not {counts:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Somebody joins, or leaves: the last member of a room on its node, or not.
async fn visit(dice: &mut Dice, nodes: &[Node], rooms: [&'static str; 3], visitors: &mut Vec<(&str, Member)>) {
    if dice.below(2) == 0 && !visitors.is_empty() {
        let place = dice.below(visitors.len() as u64) as usize;
        drop(visitors.swap_remove(place));
        return;
    }
    let room = *dice.of(&rooms);
    let join = dice.of(&nodes[..3]).try_join("visitor", room);
    // A join during a fault may fail, and may be given up.
    if let Ok(Ok(member)) = timeout(dice.millis(400), join).await {
        visitors.push((room, member));
    }
}
