//! A server with bounds on what a client may do before its request is read.

use std::{net::SocketAddr, pin::pin};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::http1::Builder,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rooms_core::{RoomManager, Shutdown, adapter, ws::CorkedStream};
use tokio::net::TcpListener;

/// Serves an application over HTTP/1.1 until `stop` resolves, within the bounds of [`Limits`](rooms_core::Limits) on
/// connections whose request is not read yet: `max_http_connections`, `max_http_connections_per_ip`, `header_timeout` and
/// `max_head_bytes`. `axum::serve` has none of these, so that some thousand clients that send half a request each take all
/// file descriptors.
///
/// Handlers, and the limits by address, find the client's address in `ConnectInfo<SocketAddr>`.
///
/// A client that takes or confirms nothing for as long as `ping_interval` and `pong_timeout` together is gone, as
/// [`adapter::serve`] says.
///
/// Once `stop` resolves, the rooms are [shut down](RoomManager::shutdown) as `how` says, while requests go on being answered, so
/// that a readiness check sees it. Then idle connections are closed, and what is being answered has two seconds.
///
/// For TLS put a proxy in front, or see [HTTP/2](crate#http2) for a loop of your own.
///
/// ```no_run
/// use std::time::Duration;
///
/// use axum::{Router, routing::get};
/// use rooms_axum::{RoomManager, RoomUpgrade};
/// use rooms_core::Shutdown;
/// use tokio::{net::TcpListener, signal};
///
/// # async fn run(rooms: RoomManager) -> std::io::Result<()> {
/// let app = Router::new().route("/live", get(|upgrade: RoomUpgrade| async { upgrade.rooms() })).with_state(rooms.clone());
/// let listener = TcpListener::bind(("0.0.0.0", 3000)).await?;
/// let stop = async { _ = signal::ctrl_c().await };
/// rooms_axum::serve(&rooms, listener, app, stop, Shutdown::within(Duration::from_secs(10))).await;
/// # Ok(()) }
/// ```
pub async fn serve(
    rooms: &RoomManager,
    listener: TcpListener,
    app: Router,
    stop: impl Future<Output = ()> + Send,
    how: impl Into<Shutdown> + Send,
) {
    let limits = rooms.limits();
    // HTTP/1.1 alone, and hyper's own builder: that of hyper-util waits for the first bytes without an end, to find out which
    // version the client speaks, also where it is told that (0.1.21).
    let mut http = Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(limits.max_head_bytes);
    let app = TowerToHyperService::new(app);
    adapter::serve(rooms, listener, stop, how, move |stream, peer: SocketAddr, mut ending| {
        let (http, app, place) = (http.clone(), app.clone(), ending.place());
        async move {
            let stream = CorkedStream::new(stream);
            let cork = stream.cork();
            let service = service_fn(move |request: Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                request.extensions_mut().insert(cork.clone());
                request.extensions_mut().insert(place.clone());
                app.call(request)
            });
            let mut served = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
            // An error is a client that is gone, or broke off.
            tokio::select! {
                _ = served.as_mut() => return,
                () = ending.begun() => served.as_mut().graceful_shutdown(),
            }
            _ = served.await;
        }
    })
    .await;
}
