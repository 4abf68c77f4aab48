//! The contract of an adapter, held by the one for Warp over HTTP/2.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

// One bridge for both adapters.
#[path = "../../rooms-axum/tests/support/http2_bridge.rs"]
mod http2_bridge;
#[path = "support/stage.rs"]
mod stage;

use std::net::SocketAddr;

use hyper::{
    Request,
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rooms_core::{adapter_conformance, testing::adapter_conformance::Stage};
use tokio::net::TcpListener;

/// Served by hyper-util, since Warp's own server does not announce WebSockets over HTTP/2.
async fn serve(stage: Stage) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let service = TowerToHyperService::new(warp::service(stage::routes(&stage)));
    tokio::spawn(async move {
        loop {
            let (stream, peer) = listener.accept().await.expect("a client");
            let service = service.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer);
                service.call(request)
            });
            tokio::spawn(async move {
                let mut server = Builder::new(TokioExecutor::new());
                server.http2().enable_connect_protocol();
                _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    http2_bridge::bridge(address).await
}

adapter_conformance!(serve);
