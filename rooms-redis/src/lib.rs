//! WebSocket rooms over Redis: [`RedisBus`] joins the processes of one service, so that a broadcast from any of them
//! reaches the members on all.
//!
//! ```no_run
//! use rooms_core::{Kind, RoomManager};
//! use rooms_redis::RedisBus;
//!
//! # async fn program() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = RedisBus::connect("redis://127.0.0.1:6379").await?;
//! let rooms: RoomManager = RoomManager::builder().kind("post", Kind::authenticated()).bus(bus.clone()).build()?;
//! assert!(bus.health().connected);
//! # _ = rooms;
//! # Ok(()) }
//! ```
//!
//! # On the wire
//! The room `post:42` is the channel `ws:post:42`, and what is published there is what the members get: any language
//! reaches them with `PUBLISH ws:post:42 '{"type":"new_comment"}'`, and hears our broadcasts with a plain subscription. A
//! node subscribes the rooms that have members on it, and no patterns.
//!
//! # When Redis is away
//! Both connections are kept up for ever, with pauses of at most 5 s between attempts. The bus says that it is down when
//! either is lost, and that it is up when every wanted subscription is confirmed and a message has made its way through
//! both. Where something may have been lost meanwhile the members are told to fetch again; where only the publishing
//! connection was lost nothing was, and nobody is told anything.
//!
//! Liveness is not an answered `PING`: a message to ourselves proves it, every 2 s unless others do anyway. A server that
//! freezes and a link that dies without a word are found by it. A server that was a master and has become a replica is left
//! until it is one again, which its answer to `HELLO` shows every 2 s.
//!
//! # Sentinel
//! [`sentinels`](RedisBusBuilder::sentinels) names the sentinels, and the URL then the service that they watch. They are
//! asked anew at every connection, and one that is away is passed over. A server that turns out to be a replica is not
//! used; one that becomes a replica is left with the next publication or probe, which asks for its role too.
//!
//! # Cluster
//! [`cluster`](RedisBusBuilder::cluster) says that the URL is one node of a Redis Cluster. With sharded channels
//! ([`PubSub::Sharded`]) each room is the business of the node that has the slot of its channel, and the bus holds two
//! connections to each such node. It follows slots and roles wherever they move; the rooms concerned have a gap, and no
//! others. A publication that was turned away because its slot had moved is published where the slot is now. While the
//! slot of a room is served by nobody, the bus says that it is down, and the rooms of other slots go on.
//!
//! # Histories
//! A kind with [`Kind::history`](rooms_core::Kind::history) has two keys in Redis for each of its rooms: a list with the
//! messages that are kept, and a mark that says how far it goes. One script appends to them and publishes, in one step;
//! [`APPEND_SCRIPT`] is for publishers in other languages. A log that was lost, or whose newest messages were lost when a
//! server took over, is another epoch. The repository's page `docs/history.md` has the keys, the errors, and an example.
//!
//! # What Redis needs
//! Redis 6 or newer, for RESP3; Redis 7 for sharded channels. A user with restricted rights needs `+hello +publish
//! +subscribe +unsubscribe`, and the channels `ws:*` and `rooms-*`; in a cluster with sharded channels `+hello +cluster|info
//! +cluster|slots +spublish +ssubscribe +sunsubscribe`. With `+client|setname` the connections have names in `CLIENT LIST`;
//! where that is refused, or `CLIENT` is disabled, they have none, and nothing else is different. Histories need keys and
//! more rights, which the repository's page `docs/operations.md` lists.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod backoff;
mod bus;
mod channels;
mod cluster;
mod fault;
mod health;
mod history;
mod limits;
mod link;
mod links;
mod lock;
mod log_gate;
mod publisher;
mod pubsub;
mod queue;
mod random;
mod refusal;
mod routes;
mod sentinel;
mod server;
mod shared;
mod shrink;
mod states;
mod status;
mod subscriber;
mod subscriptions;

pub use self::{
    bus::{ConnectError, RedisBus, RedisBusBuilder},
    health::Health,
    history::APPEND_SCRIPT,
    limits::RedisLimits,
    pubsub::PubSub,
    states::STATE_SCRIPT,
};
