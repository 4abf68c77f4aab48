//! Joins on nodes over a cluster of which one master is dead: its rooms wait for it, and all others go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/redis_server.rs"]
mod redis_server;

use futures::future::join_all;
use rooms_core::{JoinError, Reach};
use rooms_redis::PubSub;
use serde_json::json;

use cluster::{Cluster, until};
use fleet::{Member, Node, key};

/// So many rooms, as some of them are on each master.
const ROOMS: usize = 60;

async fn join_each(node: &Node, user: &str, rooms: &[String]) -> Vec<Result<Member, JoinError>> {
    join_all(rooms.iter().map(|room| node.try_join(user, room))).await
}

/// The rooms whose slots a dead master has, and the others.
async fn by_owner(cluster: &Cluster, dead: usize) -> (Vec<String>, Vec<String>) {
    let (mut of_the_dead, mut others) = (Vec::new(), Vec::new());
    for number in 0..ROOMS {
        let room = format!("post:{number}");
        let dead = cluster.owner(&format!("ws:{room}")).await == dead;
        if dead { &mut of_the_dead } else { &mut others }.push(room);
    }
    (of_the_dead, others)
}

/// Kills one of three masters and its replica, so that nobody has its slots, and joins all rooms at once.
async fn beside_a_dead_master(channel: &str) {
    let mut cluster = Cluster::start().await;
    for node in &cluster.nodes {
        node.cli(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
    }
    let nodes = [Node::start(cluster.quick(PubSub::Sharded)).await, Node::start(cluster.quick(PubSub::Sharded)).await];
    until("nodes that know each other", || async { nodes.iter().all(|node| node.rooms.stats().nodes == 2) }).await;
    let dead = cluster.owner(channel).await;
    let (of_the_dead, others) = by_owner(&cluster, dead).await;
    assert!(of_the_dead.len() > 5 && others.len() > 5, "{of_the_dead:?}, {others:?}");
    cluster.nodes[dead + 3].kill();
    cluster.nodes[dead].kill();
    until("a loss that is noticed", || async { nodes.iter().all(|node| node.rooms.stats().bus_down) }).await;

    let [first, second] = &nodes;
    let everything = async {
        let members = join_all([first, second].map(|node| join_each(node, "a", &others))).await;
        let mut members: Vec<Vec<Member>> =
            members.into_iter().map(|joined| joined.into_iter().map(Result::unwrap).collect()).collect();
        for (number, room) in others.iter().enumerate() {
            let receipt = first.rooms.broadcast(&key(room), &json!(number)).await.unwrap();
            assert_eq!(receipt.reach, Reach::AllNodes, "{room}");
            for member in members.iter_mut().map(|members| &mut members[number]) {
                assert_eq!(member.next().await, json!(number), "{room}");
            }
        }
        members
    };
    // They are wanted first, and in the same batches.
    let waiting = join_each(second, "b", &of_the_dead);
    tokio::pin!(waiting);
    let _members = tokio::select! {
        biased;
        joins = &mut waiting => panic!("the others waited for {joins:?}", joins = joins.len()),
        members = everything => members,
    };
    for join in waiting.await {
        assert!(matches!(join, Err(JoinError::Unavailable { .. })), "{:?}", join.map(drop));
    }

    cluster.nodes[dead].restart().await;
    until("a bus that is well", || async { nodes.iter().all(|node| !node.rooms.stats().bus_down) }).await;
    for join in join_each(second, "b", &of_the_dead).await {
        join.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_of_living_masters_are_joined_while_those_of_a_dead_one_wait_for_it() {
    beside_a_dead_master("ws:post:42").await;
}

/// Nothing is known of the other nodes then, and nobody waits for that longer than for a reply.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_joined_also_where_the_dead_master_has_the_topic_of_all_nodes() {
    beside_a_dead_master("rooms-nodes").await;
}
