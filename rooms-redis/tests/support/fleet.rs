//! Several nodes over one Redis, and members that write down what they are given.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use futures::{StreamExt as _, channel::mpsc};
use rooms_core::{
    Connection, Identity, JoinError, JoinOptions, Kind, Message, MessageKind, RoomKey, RoomManager, bus::Retention,
};
use rooms_redis::{RedisBus, RedisBusBuilder, RedisLimits};
use serde_json::Value;
use tokio::time::timeout;

use crate::redis_server::PATIENCE;

pub(crate) type Sink = mpsc::UnboundedSender<Message>;

pub(crate) struct Node {
    pub(crate) rooms: RoomManager<Sink>,
    pub(crate) bus: RedisBus,
}

pub(crate) fn key(text: &str) -> RoomKey {
    text.parse().unwrap()
}

/// As the default, in a fifth of the time.
pub(crate) fn quick(url: String) -> RedisBusBuilder {
    RedisBus::builder(url).limits(in_a_fifth_of_the_time)
}

pub(crate) fn in_a_fifth_of_the_time(limits: &mut RedisLimits) {
    limits.response_timeout = Duration::from_millis(400);
    limits.probe_interval = Duration::from_millis(400);
    limits.probe_timeout = Duration::from_millis(400);
    limits.first_backoff = Duration::from_millis(20);
    limits.max_backoff = Duration::from_secs(1);
}

impl Node {
    pub(crate) async fn start(builder: RedisBusBuilder) -> Self {
        Self::over(builder.connect().await.unwrap())
    }

    pub(crate) fn over(bus: RedisBus) -> Self {
        let log = Kind::authenticated().history(Retention::messages(10_000).bytes(Retention::MAX_BYTES));
        let rooms = RoomManager::build_for().kind("post", Kind::authenticated()).kind("log", log);
        let rooms = rooms.kind("short", Kind::authenticated().history(Retention::messages(12)));
        let rooms = rooms.kind("board", Kind::authenticated().keep_state(Duration::from_secs(3600)));
        let rooms = rooms.bus(bus.clone()).build().unwrap();
        Self { rooms, bus }
    }

    pub(crate) async fn join(&self, user: &str, room: &str) -> Member {
        self.try_join(user, room).await.unwrap()
    }

    pub(crate) async fn try_join(&self, user: &str, room: &str) -> Result<Member, JoinError> {
        self.join_with(user, room, JoinOptions::new()).await
    }

    pub(crate) async fn join_with(&self, user: &str, room: &str, join: JoinOptions) -> Result<Member, JoinError> {
        let (sink, inbox) = mpsc::unbounded();
        let mut connection = self.rooms.connect(Identity::new(user).unwrap(), sink).unwrap();
        tokio::spawn(connection.drive());
        connection.join_with(&key(room), join).await?;
        Ok(Member { connection, inbox })
    }
}

pub(crate) struct Member {
    pub(crate) connection: Connection,
    inbox: mpsc::UnboundedReceiver<Message>,
}

impl Member {
    /// The next message that is not about who is there.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let message = timeout(PATIENCE, self.inbox.next()).await.expect("a message in time").expect("a message");
            let value: Value = serde_json::from_slice(message.payload()).expect("JSON");
            let about_who = ["room_joined", "viewer_joined", "viewer_left"];
            if !about_who.iter().any(|kind| value["type"] == *kind) {
                return value;
            }
        }
    }

    /// The next message that is bytes.
    pub(crate) async fn bytes(&mut self) -> Vec<u8> {
        loop {
            let message = timeout(PATIENCE, self.inbox.next()).await.expect("a message in time").expect("a message");
            if message.kind() == MessageKind::Binary {
                return message.payload().to_vec();
            }
        }
    }

    /// The number in the next event about who is there.
    pub(crate) async fn viewers(&mut self) -> u64 {
        loop {
            let message = timeout(PATIENCE, self.inbox.next()).await.expect("a message in time").expect("a message");
            let value: Value = serde_json::from_slice(message.payload()).expect("JSON");
            if let Some(viewers) = value["viewers"].as_u64() {
                return viewers;
            }
        }
    }

    /// All messages up to this one, which is left out.
    pub(crate) async fn up_to(&mut self, last: &Value) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                next if next == *last => return all,
                next => all.push(next),
            }
        }
    }
}
