//! Authenticated WebSocket rooms for Axum and Warp services, in one process or many.
//!
//! A service adds live updates for each resource: the comments under `post:42`, the notices for `user:5`. A JWT is checked
//! at connect, and the connection ends when it expires. A rule for each kind of room says who may join. Members are
//! counted, a broadcast is one write for each of them, a slow one delays nobody, and every queue is bounded.
//!
//! The first room, with the feature `axum`:
//!
//! ```
//! # #[cfg(feature = "axum")] mod program {
//! use axum::{Router, extract::{Path, State}, http::StatusCode, response::Response, routing::{get, post}};
//! use rooms::{Endpoint, JwtAuthenticator, Kind, RoomKey, RoomManager, axum::RoomUpgrade};
//! use serde_json::json;
//!
//! async fn live(upgrade: RoomUpgrade, Path(id): Path<u64>) -> Response {
//!     upgrade.room("post", id)
//! }
//!
//! async fn like(State(rooms): State<RoomManager>, Path(id): Path<u64>) -> Result<(), StatusCode> {
//!     let room = RoomKey::new("post", id).map_err(|_| StatusCode::NOT_FOUND)?;
//!     rooms.broadcast(&room, &json!({"type": "liked"})).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
//!     Ok(())
//! }
//!
//! pub fn app(secret: &str) -> Result<Router, Box<dyn std::error::Error>> {
//!     let rooms = RoomManager::builder()
//!         .authenticator(JwtAuthenticator::hs256(secret)?)
//!         .endpoint(Endpoint::new().query_token("token"))
//!         .kind("post", Kind::authenticated())
//!         .build()?;
//!     Ok(Router::new().route("/posts/{id}/live", get(live)).route("/posts/{id}/likes", post(like)).with_state(rooms))
//! }
//! # }
//! # #[cfg(feature = "axum")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! #     assert!(program::app("a secret of at least 32 bytes....").is_ok());
//! #     assert!(program::app("short").is_err());
//! # }
//! # #[cfg(not(feature = "axum"))] fn main() {}
//! ```
//!
//! A page connects to `/posts/42/live?token=<jwt>` and is sent `room_joined`, then `viewer_joined` and `viewer_left` with
//! the number of viewers, and every payload that the service broadcasts to `post:42`; see [`protocol`]. How a connection
//! ends, and whether to come back, is in the table at [`CloseCode`].
//!
//! # Contents
//!
//! | you want to | read |
//! |---|---|
//! | say who may join, publish and see the members | [`Kind`], [guide: rules](guide::rules) |
//! | sign users in: tokens, cookies, providers, guests; put them out again | [guide: sign_in](guide::sign_in), [`RoomManager::revoke`] |
//! | watch many rooms over one socket | [guide: many_rooms](guide::many_rooms) |
//! | know how many are there, and who | [guide: presence](guide::presence), [`RoomManager::viewers`], [`RoomManager::members`] |
//! | give members what they missed | [guide: history](guide::history), [`Kind::history`] |
//! | keep a room's last state | [guide: state](guide::state), [`Kind::keep_state`] |
//! | run many processes | `guide::scaling_out`, `rooms::redis` (feature `redis`), [`Bus`] |
//! | write the page | [guide: page](guide::page), [`PAGE_CLIENT`], [`protocol`] |
//! | declare events as Rust types, and have TypeScript of them | [guide: typed_rooms](guide::typed_rooms), [`RoomManager::typed`] |
//! | send bytes | [guide: binary](guide::binary) |
//! | publish from a worker, or listen in the service itself | [`Publisher`], [`RoomManager::subscribe`] |
//! | reach clients without WebSockets, or over HTTP/2, or compressed | [guide: event_streams](guide::event_streams), [http2](guide::http2), [compression](guide::compression) |
//! | bound what a client may do | [`Limits`], [guide: tuning](guide::tuning), `guide::limits` |
//! | know what happens in a failure | [guide: failures](guide::failures), [`CloseCode`] |
//! | see what happens: metrics, alerts, traces, a page | [guide: observability](guide::observability), [inspector](guide::inspector), [`Stats`], [`Inspector`], `rooms::metrics` (feature `metrics`), [`TraceContext`] |
//! | test an application's rules and nodes | `rooms::testing` (feature `testing`) |
//! | write an adapter or a backplane | [`adapter`], [`bus`] |
//!
//! # In short
//!
//! - **Rules and hooks** belong to a [`Kind`]; nobody joins a room without a rule.
//! - **Bounds** are all in [`Limits`], each with its reason.
//! - **Other sinks**: [`RoomManager::with_sink`] gives a handle to the same rooms for members behind any other
//!   `futures::Sink` of [`Message`]s, such as a channel; [`RoomManager::build_for`] makes a manager for one such sink.
//! - **Tokens** of any algorithm, with keys from a secret, PEM, or a JWK set that is fetched again: [`JwtAuthenticator`]; with
//!   the feature `jwks-http`, `rooms::jwks::oidc` needs the issuer's URL alone.
//! - **Cryptography** behind tokens: the feature `jwt-rust-crypto` (the default) or `jwt-aws-lc`.
//! - **Other processes**: a [`Bus`] connects nodes: [`LocalBus`] within one process, and with the feature `redis` (for TLS
//!   `redis-tls`) `rooms::redis::RedisBus` over Redis. For a backplane of your own implement [`Bus`], or
//!   [`bus::AsyncBus`] makes one of a client whose calls are awaited.
//! - **Warp** instead of Axum: the feature `warp`, and the filter `rooms::warp::upgrade`.
//! - **Who is there**: every number of viewers counts the members on all nodes; [`RoomManager::viewers`] returns it on any
//!   node, and [`Kind::list_members`] keeps the users too. Nodes detect what they missed of each other: after a crash, or any
//!   fault of the bus, the numbers are right again within ten seconds.
//! - **Tests of an application** over several nodes: `rooms::testing`, with the feature `testing`.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod guide;

pub use rooms_core::{
    Attempt, AuthError, Authenticator, BadToken, Broadcast, BroadcastError, BuildError, Bus, Close, CloseCode,
    ConnectError, Connection, ConnectionId, ConnectionIdError, Decision, Endpoint, EndpointError, ErrorCode, HookError,
    Identity, IdentityError, Inspector, JoinError, JoinOptions, JwkSet, JwkSetError, JwtAlgorithm, JwtAuthenticator,
    JwtConfigError, JwtKey, Kind, Limits, LocalBus, MAX_ID, MAX_KIND, MAX_REASON, MAX_TOKEN, MIN_SECRET, Member,
    Members, MembersError, Message, MessageKind, Missed, NodeId, NodeIdError, NodeKeyError, NotTheEvent, Occupancy,
    OrderError, OriginError, Overflow, Oversize, Payload, PayloadError, Present, Proxies, ProxiesError, Publication,
    Publisher, PublisherBuilder, PublisherError, Reach, Receipt, Received, Revocation, RevokeError, RoomKey,
    RoomKeyError, RoomManager, RoomManagerBuilder, RoomState, Sent, Shutdown, Stats, Subscription, SystemClock,
    TraceContext, TraceParent, TraceParentError, TypedError, TypedMember, TypedRoom, TypedRooms, TypedState,
    TypedStates, TypedSubscription, ViewerCount, WallClock, adapter, bus, protocol, reports, ws,
};

#[cfg(feature = "schema")]
pub use rooms_core::Schema;
#[cfg(feature = "metrics")]
pub use rooms_core::metrics;
#[cfg(feature = "testing")]
pub use rooms_core::{adapter_conformance, bus_conformance, testing};

/// The Axum integration.
#[cfg(feature = "axum")]
pub mod axum {
    #[doc(inline)]
    pub use rooms_axum::{RoomEvents, RoomUpgrade, inspector, serve};
}

/// The Warp integration.
#[cfg(feature = "warp")]
pub mod warp {
    #[doc(inline)]
    pub use rooms_warp::{RoomEvents, RoomUpgrade, events, events_at, inspector, serve, upgrade, upgrade_at};
}

/// The bus over Redis.
#[cfg(feature = "redis")]
pub mod redis {
    #[doc(inline)]
    pub use rooms_redis::{
        APPEND_SCRIPT, ConnectError, Health, PubSub, RedisBus, RedisBusBuilder, RedisLimits, STATE_SCRIPT,
    };
}

/// The keys of JWTs from a provider over HTTPS.
#[cfg(feature = "jwks-http")]
pub mod jwks {
    #[doc(inline)]
    pub use rooms_jwks::{FetchError, UrlError, jwks, oidc};
}

/// The client of the guide's [page](guide::page) as a JavaScript module, for a service to serve as `rooms.js`. It keeps one
/// connection up and has no dependencies; a copy of it may be changed as you like.
pub const PAGE_CLIENT: &str = include_str!("guide/rooms.js");

/// The README's program, compiled.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
mod readme {}

/// The program of the page about publishing, compiled.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../docs/publishing.md")]
mod publishing {}
