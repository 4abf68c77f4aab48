//! The same through the bus.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use rooms_core::{
    Bus, RoomKey,
    bus::{BusEvent, BusReceiver, History, Lost, Retention, Topic},
};
use rooms_redis::RedisBus;
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};

use crate::{PAYLOAD, flood::flood, redis_server::RedisServer};

fn room(number: usize) -> Topic {
    Topic::Room(RoomKey::new("bench", number).unwrap())
}

/// What the bench listens for.
struct Ear {
    messages: AtomicUsize,
    most: usize,
    all: Notify,
    each: Semaphore,
    up: Notify,
}

impl Ear {
    fn of(bus: &RedisBus, most: usize) -> Arc<Self> {
        let (messages, all, up) = (AtomicUsize::new(0), Notify::new(), Notify::new());
        let ear = Arc::new(Self { messages, most, all, each: Semaphore::new(0), up });
        bus.attach(Arc::clone(&ear) as Arc<dyn BusReceiver>);
        ear
    }
}

impl BusReceiver for Ear {
    fn event(&self, event: BusEvent) {
        match event {
            BusEvent::Message { .. } if self.most == 0 => self.each.add_permits(1),
            BusEvent::Message { .. } if self.messages.fetch_add(1, Ordering::Relaxed) + 1 == self.most => {
                self.all.notify_one();
            }
            BusEvent::Up { lost: Lost::Perhaps, .. } => self.up.notify_one(),
            _ => {}
        }
    }
}

async fn subscribe(bus: &RedisBus, topics: &[Topic]) {
    bus.subscribe(topics);
    while bus.health().subscribed < topics.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// So many callers at a time, of which each waits for its answer.
pub(crate) async fn publish(redis: &RedisServer, messages: usize, callers: usize) -> Duration {
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let (topic, payload) = (room(1), Bytes::from_static(&PAYLOAD));
    let start = Instant::now();
    let answers = stream::iter(0..messages).map(|_| bus.publish(&topic, payload.clone())).buffer_unordered(callers);
    answers.for_each(|answer| async { answer.unwrap() }).await;
    start.elapsed()
}

/// The same with a history, to so many rooms in turn.
pub(crate) async fn append(redis: &RedisServer, messages: usize, rooms: usize, callers: usize) -> Duration {
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let (payload, retention) = (Bytes::from_static(&PAYLOAD), Retention::messages(500));
    let topics: Vec<_> = (0..rooms).map(room).collect();
    let start = Instant::now();
    let answers = stream::iter(topics.iter().cycle().take(messages))
        .map(|topic| bus.append(topic, payload.clone(), retention))
        .buffer_unordered(callers);
    answers.for_each(|answer| async { _ = answer.unwrap() }).await;
    start.elapsed()
}

pub(crate) async fn receive(redis: &RedisServer, messages: usize) -> Duration {
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let ear = Ear::of(&bus, messages);
    subscribe(&bus, &[room(1)]).await;
    let start = Instant::now();
    let publisher = flood(redis.port, "ws:bench:1", messages);
    let all = timeout(Duration::from_secs(60), ear.all.notified()).await;
    all.unwrap_or_else(|_| panic!("not all messages came: {:?}", bus.health()));
    let took = start.elapsed();
    publisher.join().unwrap();
    took
}

/// The connection is killed: until all rooms are subscribed again, and a probe has proved it.
pub(crate) async fn resubscribe(redis: &RedisServer, rooms: usize) -> Duration {
    let limits = |limits: &mut rooms_redis::RedisLimits| limits.max_backoff = Duration::ZERO;
    let bus = RedisBus::builder(redis.url()).limits(limits).connect().await.unwrap();
    let ear = Ear::of(&bus, 1);
    subscribe(&bus, &(0..rooms).map(room).collect::<Vec<_>>()).await;
    let start = Instant::now();
    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    ear.up.notified().await;
    start.elapsed()
}

/// From the publication to the arrival, one at a time; sorted.
pub(crate) async fn round_trips(redis: &RedisServer, pings: usize) -> Vec<Duration> {
    let bus = RedisBus::connect(redis.url()).await.unwrap();
    let ear = Ear::of(&bus, 0);
    subscribe(&bus, &[room(1)]).await;
    let mut took = Vec::new();
    for _ in 0..pings {
        let start = Instant::now();
        bus.publish(&room(1), Bytes::from_static(&PAYLOAD)).await.unwrap();
        ear.each.acquire().await.unwrap().forget();
        took.push(start.elapsed());
    }
    took.sort_unstable();
    took
}
