//! The contract of an adapter, held behind the adapter's own `serve`, which sends the answer to an upgrade together with
//! the first messages.

#[path = "support/stage.rs"]
mod stage;

use std::{future::pending, net::SocketAddr, time::Duration};

use rooms_core::{Shutdown, adapter_conformance, testing::adapter_conformance::Stage};
use tokio::net::TcpListener;

async fn serve(stage: Stage) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap_or_else(|error| panic!("a free port: {error}"));
    let address = listener.local_addr().unwrap_or_else(|error| panic!("an address: {error}"));
    let rooms = stage.rooms.clone();
    tokio::spawn(async move {
        rooms_warp::serve(&rooms, listener, stage::routes(&stage), pending(), Shutdown::within(Duration::from_secs(1)))
            .await;
    });
    address
}

adapter_conformance!(serve);
