//! The looks at the positions of rooms, which find the last message before a silence: what they cost where nothing happens.

use std::time::{Duration, Instant};

use futures::channel::mpsc;
use rooms_core::{Identity, Kind, Message, RoomKey, RoomManager, bus::Retention};
use rooms_redis::RedisBus;

use crate::{processor_time, redis_server::RedisServer};

/// A member in each of so many rooms, for so many seconds, with a history and without.
pub(crate) async fn run(redis: &RedisServer, rooms: usize, seconds: u64) {
    let mut share = [0.0; 2];
    let kinds = [Kind::authenticated(), Kind::authenticated().history(Retention::messages(500))];
    for (kind, share) in kinds.into_iter().zip(&mut share) {
        let bus = RedisBus::connect(redis.url()).await.unwrap();
        let limits = |limits: &mut rooms_core::Limits| limits.max_connections_per_user = usize::MAX / 2;
        let manager = RoomManager::build_for().kind("post", kind).limits(limits).bus(bus).build().unwrap();
        let (sink, _inbox) = mpsc::unbounded::<Message>();
        let mut members = Vec::new();
        for number in 0..rooms {
            let mut connection = manager.connect(Identity::new("a").unwrap(), sink.clone()).unwrap();
            connection.join(&RoomKey::new("post", number).unwrap()).await.unwrap();
            members.push(connection);
        }
        // What the joins leave behind is over.
        tokio::time::sleep(Duration::from_secs(seconds.min(3))).await;
        let (before, start) = (processor_time(), Instant::now());
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        *share = (processor_time() - before).as_secs_f64() / start.elapsed().as_secs_f64();
    }
    let [without, with] = share.map(|share| share * 100.0);
    println!("{rooms} quiet rooms: {without:.2} % of a processor, with a history {with:.2} %");
}
