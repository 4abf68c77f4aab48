//! What the client crate does when it is used directly, and nothing is looked after.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, aio::MultiplexedConnection};
use tokio::sync::{Notify, Semaphore};

use crate::{PAYLOAD, flood::flood, redis_server::RedisServer};

async fn connect(redis: &RedisServer, hear: impl Fn(PushInfo) + Send + Sync + 'static) -> MultiplexedConnection {
    let client = Client::open(format!("{}?protocol=resp3", redis.url())).unwrap();
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(move |push| {
        hear(push);
        Ok::<(), Infallible>(())
    });
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// Pipelines of 256, one after the other.
pub(crate) async fn publish(redis: &RedisServer, messages: usize) -> Duration {
    let mut connection = connect(redis, |_| {}).await;
    let start = Instant::now();
    let mut left = messages;
    while left > 0 {
        let count = left.min(256);
        let mut pipeline = redis::pipe();
        for _ in 0..count {
            pipeline.cmd("PUBLISH").arg("ws:bench:1").arg(&PAYLOAD[..]);
        }
        _ = connection.send_packed_commands(&pipeline, 0, count).await.unwrap();
        left -= count;
    }
    start.elapsed()
}

/// Counts what comes.
pub(crate) async fn receive(redis: &RedisServer, messages: usize) -> Duration {
    let (count, all) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let done = Arc::clone(&all);
    let hear = move |push: PushInfo| {
        if push.kind == PushKind::Message && count.fetch_add(1, Ordering::Relaxed) + 1 == messages {
            done.notify_one();
        }
    };
    let mut connection = connect(redis, hear).await;
    connection.subscribe("ws:bench:1").await.unwrap();
    let start = Instant::now();
    let publisher = flood(redis.port, "ws:bench:1", messages);
    all.notified().await;
    let took = start.elapsed();
    publisher.join().unwrap();
    took
}

/// A new connection, and all rooms on it.
pub(crate) async fn subscribe(redis: &RedisServer, rooms: usize) -> Duration {
    let channels: Vec<String> = (0..rooms).map(|n| format!("ws:bench:{n}")).collect();
    let start = Instant::now();
    let mut connection = connect(redis, |_| {}).await;
    for batch in channels.chunks(512) {
        connection.subscribe(batch).await.unwrap();
    }
    start.elapsed()
}

/// From the publication to the arrival on another connection, one at a time; sorted.
pub(crate) async fn round_trips(redis: &RedisServer, pings: usize) -> Vec<Duration> {
    let arrived = Arc::new(Semaphore::new(0));
    let arrival = Arc::clone(&arrived);
    let hear = move |push: PushInfo| {
        if push.kind == PushKind::Message {
            arrival.add_permits(1);
        }
    };
    let mut subscriber = connect(redis, hear).await;
    subscriber.subscribe("ws:bench:1").await.unwrap();
    let mut publisher = connect(redis, |_| {}).await;
    let mut took = Vec::new();
    for _ in 0..pings {
        let start = Instant::now();
        _ = redis::cmd("PUBLISH").arg("ws:bench:1").arg(&PAYLOAD[..]).exec_async(&mut publisher).await;
        arrived.acquire().await.unwrap().forget();
        took.push(start.elapsed());
    }
    took.sort_unstable();
    took
}
