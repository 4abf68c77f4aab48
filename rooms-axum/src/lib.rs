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
//! Serve it with [`serve`], which bounds what a client may do before its request is read, and knows its address. `axum::serve`
//! does neither: the limits by address are off, unless it is given `into_make_service_with_connect_info::<SocketAddr>()`.
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
//! use std::{future::pending, pin::pin, sync::Arc, time::Duration};
//!
//! use axum::{
//!     Extension, Router,
//!     extract::{ConnectInfo, Request},
//!     middleware::map_request,
//! };
//! use hyper_util::{
//!     rt::{TokioExecutor, TokioIo, TokioTimer},
//!     server::conn::auto::Builder,
//!     service::TowerToHyperService,
//! };
//! use rooms_core::{RoomManager, adapter};
//! use tokio::{net::TcpListener, sync::Notify, time::timeout};
//! use tokio_rustls::TlsAcceptor;
//!
//! const PATIENCE: Duration = Duration::from_secs(10);
//!
//! /// `tls` offers `h2` and `http/1.1` by ALPN.
//! async fn serve(rooms: &RoomManager, listener: TcpListener, tls: TlsAcceptor, app: Router, stop: impl Future<Output = ()> + Send) {
//!     adapter::serve(rooms, listener, stop, PATIENCE, move |stream, peer, mut ending| {
//!         let (tls, app) = (tls.clone(), app.clone().layer(Extension(ConnectInfo(peer))).layer(Extension(ending.place())));
//!         async move {
//!             let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await else { return };
//!             let http = Builder::new(TokioExecutor::new());
//!             // hyper waits for the first bytes without an end, whichever version it is told.
//!             let first = Arc::new(Notify::new());
//!             let seen = Arc::clone(&first);
//!             let app = app.layer(map_request(move |request: Request| {
//!                 seen.notify_one();
//!                 async { request }
//!             }));
//!             let is_late = async { if timeout(PATIENCE, first.notified()).await.is_ok() { pending().await } };
//!             let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
//!             let mut http = if is_http2 { http.http2_only() } else { http.http1_only() };
//!             http.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
//!             http.http2().timer(TokioTimer::new()).keep_alive_interval(PATIENCE).enable_connect_protocol();
//!             let mut served = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(app)));
//!             // An error here is a client that is gone.
//!             tokio::select! {
//!                 _ = served.as_mut() => return,
//!                 () = is_late => return,
//!                 () = ending.begun() => served.as_mut().graceful_shutdown(),
//!             }
//!             _ = served.await;
//!         }
//!     })
//!     .await;
//! }
//! # _ = |rooms: &'static RoomManager, listener, tls, app| serve(rooms, listener, tls, app, std::future::pending());
//! ```
//!
//! The guide's page on HTTP/2 says what such a connection costs, and what bounds it.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod events;
mod inspector;
mod serve;
mod socket;
mod upgrade;

pub use self::{events::RoomEvents, inspector::inspector, serve::serve, upgrade::RoomUpgrade};
#[doc(no_inline)]
pub use rooms_core::RoomManager;
