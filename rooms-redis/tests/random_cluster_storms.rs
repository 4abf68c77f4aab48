//! Storms in a cluster that nobody thought of: slots that move, masters that die or are relieved, nodes that freeze and
//! connections that end, in any order. With sharded channels, for of classic ones the nodes lose some to each other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/dice.rs"]
mod dice;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "support/storm.rs"]
mod storm;

use std::time::Duration;

use rooms_redis::PubSub;
use tokio::time::sleep;

use cluster::{Cluster, until};
use dice::Dice;
use redis_server::size;
use storm::Storm;

/// Faults in one storm.
const FAULTS: usize = 6;

/// The channel of the storm's messages.
const ROOM: &str = "ws:post:42";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_a_cluster_who_misses_a_message_is_told() {
    for seed in 0..size(1, 50) {
        println!("storm {seed}");
        rage(Dice(seed)).await;
    }
}

/// Which node is the master of each third of the slots; its number is that of the third, or three more.
struct Masters {
    of: [usize; 3],
    /// Which third has the slot of the room.
    room: usize,
}

async fn rage(mut dice: Dice) {
    let cluster = Cluster::start().await;
    let mut masters = Masters { of: [0, 1, 2], room: cluster.owner(ROOM).await };
    let (urls, publishing) = (cluster.urls(), cluster.quick(PubSub::Sharded));
    let mut storm = Storm::over(cluster, || cluster::quick(&urls, PubSub::Sharded), publishing).await;
    storm.strays = true;
    for _ in 0..FAULTS {
        fault(&mut dice, &mut storm.redis, &mut masters).await;
        sleep(dice.millis(600)).await;
    }
    // Whatever nobody was told of is found by the probes.
    sleep(Duration::from_secs(2)).await;
    storm.is_over(0).await;
    storm.check(usize::MAX).await;
}

/// One fault, from its beginning to its end.
async fn fault(dice: &mut Dice, cluster: &mut Cluster, masters: &mut Masters) {
    let third = dice.below(3) as usize;
    let master = masters.of[third];
    let replica = if master == third { third + 3 } else { third };
    match dice.below(6) {
        0 => {
            cluster.nodes[master].kill();
            is_master(cluster, replica).await;
            cluster.nodes[master].restart().await;
            cluster.is_well(6).await;
            masters.of[third] = replica;
        }
        1 => {
            assert_eq!(cluster.nodes[replica].cli(&["CLUSTER", "FAILOVER"]).await, "OK");
            is_master(cluster, replica).await;
            cluster.is_well(6).await;
            masters.of[third] = replica;
        }
        2 => {
            // Not for as long as it takes to be given up.
            cluster.nodes[master].freeze();
            sleep(dice.millis(700)).await;
            cluster.nodes[master].thaw();
        }
        3 => _ = cluster.nodes[master].cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await,
        4 => _ = cluster.nodes[master].cli(&["CLIENT", "KILL", "TYPE", "normal"]).await,
        _ => {
            let to = (masters.room + 1 + dice.below(2) as usize) % 3;
            cluster.move_slot(ROOM, masters.of[masters.room], masters.of[to]).await;
            masters.room = to;
        }
    }
}

async fn is_master(cluster: &Cluster, node: usize) {
    until("a replica that takes over", || async { cluster.nodes[node].cli(&["ROLE"]).await.starts_with("master") })
        .await;
}
