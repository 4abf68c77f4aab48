//! One client that comes back and has missed a hundred messages.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{clients::Client, nodes::Node, quantile, redis_server::RedisServer};

const MISSED: usize = 100;

/// From the connection to the last message: where this node has the room, and where it has to read the log first.
pub(crate) async fn run(redis: &RedisServer, rounds: usize) {
    for (name, others) in [("out of the node's copy", 1), ("by a read of Redis", 0)] {
        let node = Node::start(redis).await;
        let mut took = Vec::new();
        for round in 0..rounds {
            let room = format!("post:{others}-{round}");
            let key = room.parse().unwrap();
            let first = node.rooms.broadcast(&key, &json!({"n": 0})).await.unwrap().position.unwrap();
            let mut there = Vec::new();
            for _ in 0..others {
                there.push(Client::connect(node.address, room.clone(), "").await);
            }
            for n in 1..=MISSED {
                node.rooms.broadcast(&key, &json!({"n": n, "text": "x".repeat(100)})).await.unwrap();
            }
            let start = Instant::now();
            let mut client = Client::connect(node.address, room, &first.to_string()).await;
            client.take(MISSED).await;
            took.push(start.elapsed());
        }
        took.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, slow) = (ms(quantile(&took, 0.5)), ms(quantile(&took, 0.99)));
        println!("a resume of {MISSED} messages, {name}: median {median:.2} ms, p99 {slow:.2} ms");
    }
}
