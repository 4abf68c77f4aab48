//! The bounds of `serve` on HTTP connections, and on what the kernel keeps for a client.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../rooms-core/tests/support/heads.rs"]
mod heads;
#[path = "../../rooms-core/tests/support/stalled.rs"]
mod stalled;
#[path = "../../rooms-core/tests/support/streams.rs"]
mod streams;

use std::{future::pending, net::SocketAddr, time::Duration};

use rooms_core::{RoomManager, Shutdown};
use rooms_warp::{RoomEvents, RoomUpgrade};
use tokio::net::TcpListener;
use warp::Filter as _;

async fn serve(rooms: &RoomManager) -> SocketAddr {
    let rooms = rooms.clone();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let live = warp::path!("live").and(rooms_warp::events(&rooms)).map(|events: RoomEvents| events.room("post", 42));
    let socket =
        warp::path!("socket").and(rooms_warp::upgrade(&rooms)).map(|upgrade: RoomUpgrade| upgrade.room("post", 1));
    let app =
        warp::path::end().map(|| "here").or(live).or(socket).or(warp::path!("long").map(|| "x".repeat(64 * 1024)));
    tokio::spawn(async move {
        rooms_warp::serve(&rooms, listener, app, pending(), Shutdown::within(Duration::from_secs(1))).await;
    });
    address
}

fn rooms() -> RoomManager {
    RoomManager::builder().limits(heads::limits).build().unwrap()
}

#[tokio::test]
async fn a_late_head_is_not_waited_for() {
    heads::a_late_head_is_not_waited_for(serve(&rooms()).await).await;
}

#[tokio::test]
async fn a_long_head_is_told_431() {
    heads::a_long_head_is_told_431(serve(&rooms()).await).await;
}

#[tokio::test]
async fn streams_keep_nobody_out() {
    let rooms = streams::rooms();
    streams::streams_keep_nobody_out(serve(&rooms).await, &rooms).await;
}

#[tokio::test]
async fn a_stream_that_has_ended_takes_a_place_or_is_closed() {
    let rooms = streams::rooms();
    streams::a_stream_that_has_ended_takes_a_place_or_is_closed(serve(&rooms).await, &rooms).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_is_gone_without_a_word_has_left() {
    let rooms = streams::rooms_with_short_pings();
    streams::who_is_gone_without_a_word_has_left(serve(&rooms).await, &rooms).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_the_kernel_twice_the_send_buffer_at_most() {
    let rooms = stalled::manager();
    stalled::the_send_buffer_is_bounded(serve(&rooms).await, rooms).await;
}
