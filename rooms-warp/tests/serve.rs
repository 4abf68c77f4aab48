//! The bounds of `serve` on the head of a request, and on what the kernel keeps for a client.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../rooms-core/tests/support/heads.rs"]
mod heads;
#[path = "../../rooms-core/tests/support/stalled.rs"]
mod stalled;

use std::{future::pending, net::SocketAddr, time::Duration};

use rooms_core::{RoomManager, Shutdown};
use rooms_warp::RoomUpgrade;
use tokio::net::TcpListener;
use warp::Filter as _;

async fn serve(rooms: RoomManager) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let live = warp::path!("live").and(rooms_warp::upgrade(&rooms)).map(|upgrade: RoomUpgrade| upgrade.room("post", 1));
    let app = warp::path::end().map(|| "here").or(live);
    tokio::spawn(async move {
        rooms_warp::serve(&rooms, listener, app, pending(), Shutdown::within(Duration::from_secs(1))).await;
    });
    address
}

fn manager() -> RoomManager {
    RoomManager::builder().limits(heads::limits).build().unwrap()
}

#[tokio::test]
async fn a_late_head_is_not_waited_for() {
    heads::a_late_head_is_not_waited_for(serve(manager()).await).await;
}

#[tokio::test]
async fn a_long_head_is_told_431() {
    heads::a_long_head_is_told_431(serve(manager()).await).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_the_kernel_twice_the_send_buffer_at_most() {
    let rooms = stalled::manager();
    stalled::the_send_buffer_is_bounded(serve(rooms.clone()).await, rooms).await;
}
