//! The bus over Redis against a bare loop of the client crate on the same server, in the same run.
//!
//! `cargo bench -p rooms-redis --bench bus`; with `-- --smoke` it only shows that it runs. The server is the bench's own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench fails by panicking")]

mod bare;
mod flood;
mod ours;
#[path = "../../tests/support/redis_server.rs"]
mod redis_server;

use std::time::Duration;

use redis_server::RedisServer;

/// How much is measured.
struct Size {
    messages: usize,
    rooms: usize,
    pings: usize,
}

/// Callers that each wait for their answer, where as much as can be is sent at once.
const CALLERS: usize = 1_000;

/// A payload of 200 bytes, as in the figures for Redis alone.
const PAYLOAD: [u8; 200] = [b'x'; 200];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let size = match smoke {
        true => Size { messages: 2_000, rooms: 1_000, pings: 50 },
        false => Size { messages: 1_000_000, rooms: 20_000, pings: 5_000 },
    };
    // Without a limit: the flood is faster than any reader for a moment, and Redis would cut a reader 32 MB behind.
    let redis = RedisServer::with(&["--client-output-buffer-limit", "pubsub 0 0 0"]).await;
    println!("{:<34}{:>14}{:>14}{:>9}", "", "rooms-redis", "bare loop", "ratio");
    let ours = ours::publish(&redis, size.messages, CALLERS);
    rates("publish, per second", &size, ours, bare::publish(&redis, size.messages)).await;
    histories(&redis, &size).await;
    rates("receive, per second", &size, ours::receive(&redis, size.messages), bare::receive(&redis, size.messages))
        .await;
    let (ours, bare) = (ours::resubscribe(&redis, size.rooms).await, bare::subscribe(&redis, size.rooms).await);
    times(&format!("{} rooms again", size.rooms), ours, bare);
    let (ours, bare) = (ours::round_trips(&redis, size.pings).await, bare::round_trips(&redis, size.pings).await);
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        times(&format!("publish to receive, {name}"), quantile(&ours, share), quantile(&bare, share));
    }
}

/// Messages that are kept against messages that are not, by how many callers there are at a time.
async fn histories(redis: &RedisServer, size: &Size) {
    println!("{:<34}{:>14}{:>14}{:>9}", "", "append", "publish", "ratio");
    for callers in [1, 8, 64, CALLERS] {
        let messages = size.messages * callers.min(100) / 800;
        for rooms in [1, 1_000] {
            let mut fastest = [f64::MAX; 2];
            // In turn, so that what else the machine does falls on both.
            for _ in 0..3 {
                let kept = ours::append(redis, messages, rooms, callers).await;
                let plain = ours::publish(redis, messages, callers).await;
                fastest = [fastest[0].min(kept.as_secs_f64()), fastest[1].min(plain.as_secs_f64())];
            }
            let [kept, plain] = fastest.map(|took| messages as f64 / took);
            let name = format!("{callers} callers, {rooms} logs, per second");
            println!("{name:<34}{kept:>14.0}{plain:>14.0}{:>9.2}", kept / plain);
        }
    }
}

async fn rates(name: &str, size: &Size, ours: impl Future<Output = Duration>, bare: impl Future<Output = Duration>) {
    let rate = |took: Duration| size.messages as f64 / took.as_secs_f64();
    let (bare, ours) = (rate(bare.await), rate(ours.await));
    println!("{name:<34}{ours:>14.0}{bare:>14.0}{:>9.2}", ours / bare);
}

fn times(name: &str, ours: Duration, bare: Duration) {
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    println!("{name:<34}{:>11.3} ms{:>11.3} ms{ratio:>9.2}", ours.as_secs_f64() * 1e3, bare.as_secs_f64() * 1e3);
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place).or(sorted.last()).copied().expect("a sample")
}
