//! WebSocket rooms for Axum.
//!
//! [`RoomUpgrade`] is an extractor: it checks the handshake and the `Origin`, takes the token where the endpoint says,
//! authenticates, and upgrades by itself onto the raw TCP stream. The [`RoomManager`] is ordinary Axum state, so a REST
//! handler broadcasts with one line.
//!
//! ```
//! use axum::{Json, Router, extract::{Path, State}, http::StatusCode, response::Response, routing::{get, post}};
//! use rooms_axum::RoomUpgrade;
//! use rooms_core::{Endpoint, JwtAuthenticator, Kind, RoomKey, RoomManager};
//! use serde_json::{Value, json};
//!
//! async fn live(upgrade: RoomUpgrade, Path(post): Path<u64>) -> Response {
//!     upgrade.room("post", post)
//! }
//!
//! async fn comment(State(rooms): State<RoomManager>, Path(post): Path<u64>, Json(comment): Json<Value>) -> StatusCode {
//!     let Ok(room) = RoomKey::new("post", post) else { return StatusCode::NOT_FOUND };
//!     match rooms.broadcast(&room, &json!({"type": "new_comment", "comment": comment})).await {
//!         Ok(_) => StatusCode::CREATED,
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
//! let app: Router = Router::new()
//!     .route("/posts/{post}/live", get(live))
//!     .route("/posts/{post}/comments", post(comment))
//!     .with_state(rooms);
//! # let _ = app;
//! # Ok(()) }
//! ```
//!
//! A page that watches many rooms connects once, to a handler that answers with [`RoomUpgrade::rooms`], and joins and
//! leaves by itself.
//!
//! An endpoint of its own is a layer of its route: `.layer(Extension(Endpoint::new().bad_token(BadToken::Refuse)))`.

mod socket;
mod upgrade;

pub use self::upgrade::RoomUpgrade;
#[doc(no_inline)]
pub use rooms_core::RoomManager;
