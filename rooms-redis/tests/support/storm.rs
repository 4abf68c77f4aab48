//! Numbered messages over four nodes, and a checker: each member is given them in order and once, and what it misses lies
//! in a window that it was told of.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use rooms_core::{Reach, RoomManager};
use rooms_redis::RedisBusBuilder;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, interval, sleep},
};

use crate::{
    fleet::{Member, Node, Sink, key, quick},
    redis_server::{PATIENCE, RedisServer},
};

/// Three nodes with members, a fourth that publishes a thousand numbers a second, and the Redis between them.
pub(crate) struct Storm<R = RedisServer> {
    pub(crate) redis: R,
    pub(crate) nodes: Vec<Node>,
    /// After the word of a loss a message from before it may come late, or again: in a cluster an old server may still have
    /// to pass it on.
    pub(crate) strays: bool,
    room: &'static str,
    members: Vec<Member>,
    traffic: Traffic,
}

struct Traffic {
    over: Arc<AtomicBool>,
    /// Whether each number was published to all nodes.
    published: JoinHandle<Vec<bool>>,
}

impl Traffic {
    fn from(rooms: RoomManager<Sink>, room: &'static str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let published = tokio::spawn(async move {
            let room = key(room);
            let mut published = Vec::new();
            let mut ticks = interval(Duration::from_millis(1));
            while !stop.load(Ordering::Relaxed) {
                ticks.tick().await;
                let receipt = rooms.broadcast(&room, &published.len()).await;
                published.push(receipt.is_ok_and(|receipt| receipt.reach == Reach::AllNodes));
            }
            published
        });
        Self { over, published }
    }
}

impl Storm {
    pub(crate) async fn begin(redis: RedisServer) -> Self {
        let url = redis.url();
        Self::begin_at(redis, url).await
    }

    /// With the listening nodes at another address than the publishing one, such as a proxy's.
    pub(crate) async fn begin_at(redis: RedisServer, url: String) -> Self {
        let publishing = quick(redis.url());
        Self::over(redis, || quick(url.clone()), publishing).await
    }
}

impl<R: Send + Sync> Storm<R> {
    pub(crate) async fn over(
        redis: R,
        listening: impl FnMut() -> RedisBusBuilder,
        publishing: RedisBusBuilder,
    ) -> Self {
        Self::in_room("post:42", redis, listening, publishing).await
    }

    pub(crate) async fn in_room(
        room: &'static str,
        redis: R,
        mut listening: impl FnMut() -> RedisBusBuilder,
        publishing: RedisBusBuilder,
    ) -> Self {
        let mut nodes = join_all((0..3).map(|_| Node::start(listening()))).await;
        let mut members = Vec::new();
        for (node, count) in nodes.iter().zip([3, 4, 3]) {
            for n in 0..count {
                members.push(node.join(&format!("u{n}"), room).await);
            }
        }
        nodes.push(Node::start(publishing).await);
        let traffic = Traffic::from(nodes[3].rooms.clone(), room);
        let storm = Self { redis, nodes, strays: false, room, members, traffic };
        sleep(Duration::from_millis(300)).await;
        storm
    }

    /// Waits until the subscribing connection of each listening node has been replaced, and all is well.
    pub(crate) async fn is_over(&self, losses: u64) {
        let deadline = Instant::now() + PATIENCE;
        let well = |node: &Node| node.bus.health().connected;
        let replaced = |node: &Node| node.bus.health().subscriber_losses >= losses;
        while !(self.nodes.iter().all(well) && self.nodes[..3].iter().all(replaced)) {
            let health: Vec<_> = self.nodes.iter().map(|node| node.bus.health()).collect();
            assert!(Instant::now() < deadline, "the storm does not end: {health:#?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets the traffic end, and checks what each member was given. Gives how many numbers the first missed, and how
    /// often each was told.
    pub(crate) async fn check(self, told_at_most: usize) -> usize {
        sleep(Duration::from_millis(300)).await;
        self.traffic.over.store(true, Ordering::Relaxed);
        let published = self.traffic.published.await.unwrap();
        let (deadline, last) = (Instant::now() + PATIENCE, json!("the end"));
        while let Err(error) = self.nodes[3].rooms.broadcast(&key(self.room), &last).await {
            assert!(Instant::now() < deadline, "{error}");
            sleep(Duration::from_millis(20)).await;
        }
        let mut missed = Vec::new();
        for mut member in self.members {
            let given = member.up_to(&json!("the end")).await;
            missed.push(check(&given, self.room, &published, told_at_most, self.strays));
        }
        missed.into_iter().max().unwrap()
    }
}

/// Checks one member's messages; gives how many it missed.
fn check(given: &[Value], room: &str, published: &[bool], told_at_most: usize, strays: bool) -> usize {
    let resync = json!({"type": "resync", "room": room, "reason": "bus_gap"});
    let told = given.iter().filter(|value| **value == resync).count();
    assert!(told <= told_at_most, "told {told} times");
    let last_told = given.iter().rposition(|value| *value == resync);
    let (mut next, mut missed) = (0, 0);
    for (place, value) in given.iter().enumerate() {
        let Some(number) = value.as_u64() else {
            assert_eq!(*value, resync);
            continue;
        };
        let number = usize::try_from(number).unwrap();
        if strays && number < next && given[..place].contains(&resync) {
            continue;
        }
        let before = || given[place.saturating_sub(12)..place].iter().map(Value::to_string).collect::<Vec<_>>();
        assert!(number >= next, "{number} comes twice or too late, after {:?}", before());
        let missing = (next..number).filter(|number| published[*number]).count();
        let said = last_told.is_some_and(|told| told > place) || (place > 0 && given[place - 1] == resync);
        assert!(missing == 0 || said, "{missing} messages before {number} are missing, and the member was not told");
        (next, missed) = (number + 1, missed + missing);
    }
    let missing = (next..published.len()).filter(|number| published[*number]).count();
    assert_eq!(missing, 0, "at the end, when all was well");
    missed
}
