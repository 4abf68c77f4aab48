//! The contract of an adapter, held by the one for Axum.

#[path = "support/stage.rs"]
mod stage;

use std::net::SocketAddr;

use rooms_core::{adapter_conformance, testing::adapter_conformance::Stage};
use tokio::net::TcpListener;

async fn serve(stage: Stage) -> SocketAddr {
    let app = stage::routes(stage).into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap_or_else(|error| panic!("a free port: {error}"));
    let address = listener.local_addr().unwrap_or_else(|error| panic!("an address: {error}"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

adapter_conformance!(serve);
