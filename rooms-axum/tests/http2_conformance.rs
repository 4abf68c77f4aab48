//! The contract of an adapter, held by the one for Axum over HTTP/2.

#![cfg(feature = "http2")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/http2_bridge.rs"]
mod http2_bridge;
#[path = "support/stage.rs"]
mod stage;

use std::net::SocketAddr;

use rooms_core::{adapter_conformance, testing::adapter_conformance::Stage};

async fn serve(stage: Stage) -> SocketAddr {
    http2_bridge::bridge(stage::serve(stage).await).await
}

adapter_conformance!(serve);
