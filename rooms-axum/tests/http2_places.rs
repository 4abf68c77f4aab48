//! The places of HTTP/2 connections, of which each has many streams.

#![cfg(feature = "http2")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../rooms-core/tests/support/http2_places.rs"]
mod http2_places;
#[path = "../../rooms-core/tests/support/streams.rs"]
#[allow(dead_code, reason = "it serves other tests, too")]
mod streams;

use std::{future::pending, net::SocketAddr, pin::pin, time::Duration};

use axum::{
    Extension, Router,
    routing::{any, get},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rooms_axum::{RoomEvents, RoomUpgrade};
use rooms_core::{RoomManager, Shutdown, adapter};
use tokio::net::TcpListener;

async fn serve(rooms: &RoomManager) -> SocketAddr {
    let rooms = rooms.clone();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/live", get(|events: RoomEvents| async { events.room("post", 42) }))
        .route("/socket", any(|upgrade: RoomUpgrade| async { upgrade.room("post", 42) }))
        .with_state(rooms.clone());
    tokio::spawn(async move {
        adapter::serve(
            &rooms,
            listener,
            pending(),
            Shutdown::within(Duration::from_secs(1)),
            move |stream, _, mut ending| {
                let app = app.clone().layer(Extension(ending.place()));
                async move {
                    let http = Builder::new(TokioExecutor::new());
                    let mut http = http.http2_only();
                    http.http2().enable_connect_protocol();
                    let served =
                        http.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(app));
                    let mut served = pin!(served);
                    tokio::select! {
                        _ = served.as_mut() => return,
                        () = ending.begun() => served.as_mut().graceful_shutdown(),
                    }
                    _ = served.await;
                }
            },
        )
        .await;
    });
    address
}

#[tokio::test]
async fn a_connection_with_streams_of_rooms_keeps_nobody_out_and_with_none_it_takes_a_place_or_ends() {
    let rooms = streams::rooms();
    http2_places::a_connection_with_streams_of_rooms_keeps_nobody_out(serve(&rooms).await, &rooms).await;
}
