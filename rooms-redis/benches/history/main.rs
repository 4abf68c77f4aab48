//! What histories cost: a resume, a storm of them, the looks at positions, and a broadcast with and without.
//!
//! `cargo bench -p rooms-redis --bench history`; with `-- --smoke` it only shows that it runs. Redis is the bench's own. The
//! clients of the storm are a process of their own, so that what the nodes need is told apart and each side has as many
//! descriptors as one process may have (`ulimit -n`): that is the number of connections.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a bench fails by panicking")]

mod check;
mod clients;
mod fan_out;
mod nodes;
#[path = "../../tests/support/redis_server.rs"]
mod redis_server;
mod resume;
mod storm;

use std::{fs, time::Duration};

use redis_server::RedisServer;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--clients") {
        return clients::run(&arguments[place + 1..]).await;
    }
    let smoke = arguments.iter().any(|argument| argument == "--smoke");
    fan_out::run(if smoke { 50 } else { 5_000 }).await;
    let redis = RedisServer::start().await;
    resume::run(&redis, if smoke { 5 } else { 500 }).await;
    check::run(&redis, if smoke { 50 } else { 10_000 }, if smoke { 1 } else { 50 }).await;
    storm::run(&redis, if smoke { 40 } else { descriptors() - 200 }).await;
}

/// How many descriptors a process may have.
fn descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_ascii_whitespace().nth(3).unwrap().parse().unwrap_or(20_200).min(20_200)
}

/// The time that this process has had of all processors; of the kernel's clock, in steps of 10 ms.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place).or(sorted.last()).copied().expect("a sample")
}
