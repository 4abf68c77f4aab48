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
//!
//! For clients without WebSockets [`RoomEvents`] answers with the same rooms as an event stream.
//!
//! # HTTP/2
//!
//! With the feature `http2` a WebSocket may be opened over HTTP/2 (RFC 8441): a stream of a connection that carries the
//! page's other requests, too, and it goes through everything that one over HTTP/1.1 goes through. The handler's route
//! has to take CONNECT: `any(live)`, or `get(live).connect(live)`; on one that is `get(live)` alone, axum answers 405.
//!
//! A browser opens its WebSocket so where it has an HTTP/2 connection whose server announced
//! `SETTINGS_ENABLE_CONNECT_PROTOCOL`; else it opens an HTTP/1.1 connection for it. `axum::serve` with the feature `http2` of
//! axum announces it; hyper-util does after `.http2().enable_connect_protocol()`. **A server that announces it needs the
//! feature of this crate**: without it the answer is 501, the first one is logged at `warn`, and no browser then tries
//! HTTP/1.1.
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, serve::Listener};
//! use hyper_util::{
//!     rt::{TokioExecutor, TokioIo},
//!     server::conn::auto::Builder,
//!     service::TowerToHyperService,
//! };
//! use tokio::{net::TcpListener, time::timeout};
//! use tokio_rustls::TlsAcceptor;
//!
//! /// `tls` offers `h2` and `http/1.1` by ALPN.
//! async fn serve(mut listener: TcpListener, tls: TlsAcceptor, app: Router) {
//!     loop {
//!         // axum's, which waits a moment where no file descriptor is free.
//!         let (stream, _) = Listener::accept(&mut listener).await;
//!         let (tls, app) = (tls.clone(), TowerToHyperService::new(app.clone()));
//!         tokio::spawn(async move {
//!             let Ok(Ok(stream)) = timeout(Duration::from_secs(10), tls.accept(stream)).await else { return };
//!             let mut server = Builder::new(TokioExecutor::new());
//!             server.http2().enable_connect_protocol();
//!             // An error here is a client that is gone.
//!             _ = server.serve_connection_with_upgrades(TokioIo::new(stream), app).await;
//!         });
//!     }
//! }
//! # _ = serve;
//! ```
//!
//! The guide's page on HTTP/2 says what such a connection costs, and what bounds it.

mod events;
mod socket;
mod upgrade;

pub use self::{events::RoomEvents, upgrade::RoomUpgrade};
#[doc(no_inline)]
pub use rooms_core::RoomManager;
