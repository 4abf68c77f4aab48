//! WebSocket rooms for Warp.
//!
//! [`upgrade`] is a filter: it checks the handshake and the `Origin`, takes the token where the endpoint says,
//! authenticates, and gives a [`RoomUpgrade`], which upgrades by itself onto the raw TCP stream. The [`RoomManager`] is a
//! cheap handle, so any other filter broadcasts with one line.
//!
//! ```
//! use rooms_core::{Endpoint, JwtAuthenticator, Kind, RoomKey, RoomManager};
//! use rooms_warp::RoomUpgrade;
//! use serde_json::json;
//! use warp::{Filter, http::StatusCode};
//!
//! async fn like(post: u64, rooms: RoomManager) -> StatusCode {
//!     let Ok(room) = RoomKey::new("post", post) else { return StatusCode::NOT_FOUND };
//!     match rooms.broadcast(&room, &json!({"type": "liked"})).await {
//!         Ok(_) => StatusCode::OK,
//!         Err(_) => StatusCode::SERVICE_UNAVAILABLE,
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rooms = RoomManager::builder()
//!     .authenticator(JwtAuthenticator::hs256("a secret of at least 32 bytes....")?)
//!     .endpoint(Endpoint::new().query_token("token"))
//!     .kind("post", Kind::authenticated())
//!     .build()?;
//!
//! let live = warp::path!("posts" / u64 / "live")
//!     .and(rooms_warp::upgrade(&rooms))
//!     .map(|post, upgrade: RoomUpgrade| upgrade.room("post", post));
//! let many = warp::path!("ws").and(rooms_warp::upgrade(&rooms)).map(RoomUpgrade::rooms);
//! let likes = warp::path!("posts" / u64 / "likes")
//!     .and(warp::post())
//!     .and(warp::any().map(move || rooms.clone()))
//!     .then(like);
//! let served = warp::serve(live.or(many).or(likes));
//! # drop(served);
//! # Ok(()) }
//! ```
//!
//! Serve it with [`serve`], which bounds what a client may do before its request is read. `warp::serve` does not.
//!
//! Warp gives the parameters of a path as they stand in the URL. [`RoomUpgrade::room`] decodes them; in a handler that
//! broadcasts, [`RoomKey::from_url`](rooms_core::RoomKey::from_url) does.
//!
//! For clients without WebSockets [`events`] answers with the same rooms as an event stream.
//!
//! # HTTP/2
//!
//! A WebSocket may be opened over HTTP/2 (RFC 8441) where the server announces it. `warp::serve` does not, so browsers open
//! theirs over HTTP/1.1. hyper-util does with `.http2().enable_connect_protocol()`, and serves the filters by `warp::service`.
//! Such a server puts the client's `SocketAddr` into the extensions of each request, where the limits by address find it.
//!
//! # The log
//!
//! This crate logs what a client does wrong at `debug`. Warp's server writes an `ERROR` for each request that it can't read
//! and for each connection that breaks, before any filter runs, so anybody can fill the log. A filter by target silences
//! that. With it goes the line of a listener that can't accept, so watch the number of open file descriptors instead.
//!
//! ```
//! use tracing::level_filters::LevelFilter;
//! use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};
//!
//! let targets = Targets::new().with_default(LevelFilter::INFO).with_target("warp::server", LevelFilter::OFF);
//! tracing_subscriber::registry().with(tracing_subscriber::fmt::layer()).with(targets).init();
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod events;
mod head;
mod inspector;
mod serve;
mod socket;
mod upgrade;

pub use self::{
    events::{RoomEvents, events, events_at},
    inspector::inspector,
    serve::serve,
    upgrade::{RoomUpgrade, upgrade, upgrade_at},
};
#[doc(no_inline)]
pub use rooms_core::RoomManager;
