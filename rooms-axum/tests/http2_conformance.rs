//! The contract of an adapter, held by the one for Axum over HTTP/2.

#![cfg(feature = "http2")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/http2_bridge.rs"]
mod http2_bridge;
#[path = "support/stage.rs"]
mod stage;

use std::net::SocketAddr;

use rooms_core::{adapter_conformance, testing::adapter_conformance::Stage};
use tokio::net::TcpListener;

async fn serve(stage: Stage) -> SocketAddr {
    let app = stage::routes(stage).into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    http2_bridge::bridge(address).await
}

adapter_conformance!(serve);
