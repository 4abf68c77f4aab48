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
//! Serve it with [`serve`], which bounds what a client may do before its request is read, or with `axum::serve`.
//!
//! A page that watches many rooms connects once, to a handler that answers with [`RoomUpgrade::rooms`], and joins and
//! leaves by itself.
//!
//! An endpoint of its own is a layer of its route: `.layer(Extension(Endpoint::new().bad_token(BadToken::Refuse)))`.
//!
//! # HTTP/2
//!
//! WebSockets are served over HTTP/1.1 only. A browser opens one over HTTP/2 (RFC 8441) where it has an HTTP/2 connection
//! whose server announced `SETTINGS_ENABLE_CONNECT_PROTOCOL`, and does not try HTTP/1.1 when that is refused. **So do not
//! announce it.** Where an HTTP/2 server does not, a browser opens an HTTP/1.1 connection beside it for the WebSocket.
//!
//! With the feature `http2` of axum, `axum::serve` announces it, and no option turns that off. With `axum::serve` let TLS
//! offer HTTP/1.1 only: `config.alpn_protocols = vec![b"http/1.1".to_vec()]` in rustls. To serve other requests over
//! HTTP/2, use hyper-util, whose builder announces it only after `.http2().enable_connect_protocol()`:
//!
//! ```
//! use std::{pin::pin, time::Duration};
//!
//! use axum::{Extension, Router, extract::ConnectInfo};
//! use hyper_util::{
//!     rt::{TokioExecutor, TokioIo, TokioTimer},
//!     server::conn::auto::Builder,
//!     service::TowerToHyperService,
//! };
//! use rooms_core::{RoomManager, adapter};
//! use tokio::{net::TcpListener, time::timeout};
//! use tokio_rustls::TlsAcceptor;
//!
//! const PATIENCE: Duration = Duration::from_secs(10);
//!
//! /// `tls` offers `h2` and `http/1.1` by ALPN.
//! async fn serve(rooms: &RoomManager, listener: TcpListener, tls: TlsAcceptor, app: Router, stop: impl Future<Output = ()> + Send) {
//!     adapter::serve(rooms, listener, stop, PATIENCE, move |stream, peer, mut ending| {
//!         let (tls, app) = (tls.clone(), app.clone().layer(Extension(ConnectInfo(peer))));
//!         async move {
//!             let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await else { return };
//!             let http = Builder::new(TokioExecutor::new());
//!             // As ALPN has settled it: to find out by itself, hyper waits for the first bytes for ever.
//!             let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
//!             let mut http = if is_http2 { http.http2_only() } else { http.http1_only() };
//!             http.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
//!             http.http2().timer(TokioTimer::new()).keep_alive_interval(PATIENCE);
//!             let mut served = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(app)));
//!             // An error here is a client that is gone.
//!             tokio::select! {
//!                 _ = served.as_mut() => return,
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
//! Where it is announced all the same, the answer is 501, and the first one is logged at `warn`. That is so for a route
//! that is `any(live)`; on a route that is `get(live)`, axum itself answers 405. Browsers open no WebSocket after either.
//!
//! With the feature `http2` of this crate the answer on an `any` route is the stream error `HTTP_1_1_REQUIRED`. Chromium then
//! opens the WebSocket over HTTP/1.1, and uses HTTP/1.1 for all requests to that origin from then on. Firefox opens none.

#[cfg(feature = "http2")]
mod http2;
mod serve;
mod socket;
mod upgrade;

pub use self::{serve::serve, upgrade::RoomUpgrade};
#[doc(no_inline)]
pub use rooms_core::RoomManager;
