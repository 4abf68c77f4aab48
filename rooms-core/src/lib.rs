//! Authenticated WebSocket rooms: the part that knows no framework and no backplane.
//!
//! [`RoomManager`] is the handle; a [`Kind`] says who may join the rooms named by a [`RoomKey`], and what happens in them;
//! a [`Bus`] joins several processes. `rooms-axum` and `rooms-warp` wire it into frameworks, and the crate `ws-rooms` gathers
//! everything under one roof.
//!
//! How a message travels: [`RoomManager::broadcast`] encodes it once and hands it to the bus. The bus hands it to every
//! node with members of the room, the publisher's own included. There it is framed once, appended to the room's log, and
//! one flusher for the room gives each member all that it has not had, in one write, tried in place on the socket. What a
//! slow socket does not take waits in that member's own bounded outbox, and holds up nobody.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod adapter;
mod admission;
mod any_id;
mod auth;
pub mod bus;
mod close;
mod connection;
mod context;
mod counts;
mod drain;
mod envelope;
mod events;
mod handshake;
mod hooks;
mod http_places;
mod incidents;
mod inspect;
mod inspector;
mod join_options;
mod json;
mod kind;
mod limiters;
mod limits;
mod lock;
mod manager;
mod merge_patch;
mod message;
pub mod metrics;
mod network;
mod node;
mod opcode;
mod outbox;
mod outgoing;
mod payload;
mod percent;
mod presence;
pub mod protocol;
mod proxies;
mod publisher;
mod rate_limited_log;
mod receipt;
mod registry;
pub mod reports;
mod room;
mod room_key;
mod runtime;
#[cfg(feature = "schema")]
mod schema;
mod session;
mod shrink;
mod subscription;
#[cfg(feature = "testing")]
pub mod testing;
mod timers;
mod trace;
mod typed;
mod users;
pub mod ws;

#[cfg(feature = "schema")]
pub use self::schema::Schema;
pub use self::{
    auth::{
        Attempt, AuthError, Authenticator, Decision, Identity, IdentityError, JwkSet, JwkSetError, JwtAlgorithm,
        JwtAuthenticator, JwtConfigError, JwtKey, MAX_TOKEN, MIN_SECRET, Revocation, RevokeError, SystemClock,
        WallClock,
    },
    bus::{Bus, LocalBus},
    close::{Close, CloseCode, MAX_REASON},
    connection::{ConnectError, Connection, JoinError},
    handshake::{BadToken, Endpoint, EndpointError, OriginError},
    inspector::Inspector,
    join_options::JoinOptions,
    kind::{HookError, Kind, Member, Oversize, Sent},
    limits::Limits,
    manager::{
        Broadcast, BuildError, Members, MembersError, OrderError, Present, RoomManager, RoomManagerBuilder, RoomState,
        Shutdown, Stats, TypedState, TypedStates, ViewerCount,
    },
    message::{Message, MessageKind},
    node::{ConnectionId, ConnectionIdError, NodeId, NodeIdError},
    outbox::Overflow,
    payload::{Payload, PayloadError},
    presence::{NodeKeyError, Occupancy},
    protocol::ErrorCode,
    proxies::{Proxies, ProxiesError},
    publisher::{Publication, Publisher, PublisherBuilder, PublisherError},
    receipt::{BroadcastError, Reach, Receipt},
    room_key::{MAX_ID, MAX_KIND, RoomKey, RoomKeyError},
    subscription::{Missed, NotTheEvent, Received, Subscription, TypedSubscription},
    trace::{TraceContext, TraceParent, TraceParentError},
    typed::{TypedError, TypedMember, TypedRoom, TypedRooms},
};
