//! Storms that nobody thought of: faults of Redis and of the network in any order, while members come and go.

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

/// Where the storm's ten members are, and its messages go.
const OF_THE_STORM: &str = "post:42";
const ROOMS: [&str; 3] = [OF_THE_STORM, "post:1", "post:2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_who_misses_a_message_is_told_and_the_counts_are_right_in_the_end() {
    for seed in 0..size(1, 100) {
        println!("storm {seed}");
        rage(Dice(seed)).await;
    }
}

async fn rage(mut dice: Dice) {
    let redis = RedisServer::start().await;
    let mut proxies = Vec::new();
    for _ in 0..3 {
        proxies.push(Proxy::before(redis.port).await);
    }
    let mut urls: Vec<String> = proxies.iter().map(Proxy::url).collect();
    let publishing = quick(redis.url());
    let mut storm = Storm::over(redis, || quick(urls.pop().expect("one for each node")), publishing).await;
    let mut visitors: Vec<(&str, Member)> = Vec::new();
    for _ in 0..FAULTS {
        fault(&mut dice, &mut storm.redis, &proxies, 1_500, Stored::Stays).await;
        visit(&mut dice, &storm.nodes, &mut visitors).await;
        sleep(dice.millis(600)).await;
    }
    // Whatever nobody was told of is found by the probes.
    sleep(Duration::from_secs(2)).await;
    storm.is_over(0).await;
    let mut truth = HashMap::from([(OF_THE_STORM, 10)]);
    visitors.iter().for_each(|(room, _)| *truth.entry(*room).or_default() += 1);
    for room in ROOMS {
        counted(&storm.nodes, room, truth.get(room).copied().unwrap_or_default()).await;
    }
    storm.check(usize::MAX).await;
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
async fn visit(dice: &mut Dice, nodes: &[Node], visitors: &mut Vec<(&str, Member)>) {
    if dice.below(2) == 0 && !visitors.is_empty() {
        let place = dice.below(visitors.len() as u64) as usize;
        drop(visitors.swap_remove(place));
        return;
    }
    let room = *dice.of(&ROOMS);
    let join = dice.of(&nodes[..3]).try_join("visitor", room);
    // A join during a fault may fail, and may be given up.
    if let Ok(Ok(member)) = timeout(dice.millis(400), join).await {
        visitors.push((room, member));
    }
}
