//! The bounds of `serve` on the head of a request.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../rooms-core/tests/support/heads.rs"]
mod heads;

use std::{future::pending, net::SocketAddr, time::Duration};

use rooms_core::{RoomManager, Shutdown};
use tokio::net::TcpListener;
use warp::Filter as _;

async fn serve() -> SocketAddr {
    let rooms = RoomManager::builder().limits(heads::limits).build().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = warp::path::end().map(|| "here");
    tokio::spawn(async move {
        rooms_warp::serve(&rooms, listener, app, pending(), Shutdown::within(Duration::from_secs(1))).await;
    });
    address
}

#[tokio::test]
async fn a_late_head_is_not_waited_for() {
    heads::a_late_head_is_not_waited_for(serve().await).await;
}

#[tokio::test]
async fn a_long_head_is_told_431() {
    heads::a_long_head_is_told_431(serve().await).await;
}
