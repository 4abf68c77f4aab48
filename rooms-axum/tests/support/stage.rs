//! What `adapter_conformance!` wants served, by Axum.

use std::net::SocketAddr;

use axum::{
    Extension, Router,
    extract::Path,
    response::Response,
    routing::{any, get},
};
use rooms_axum::{RoomEvents, RoomUpgrade};
use rooms_core::testing::adapter_conformance::Stage;
use tokio::net::TcpListener;

async fn room(upgrade: RoomUpgrade, Path((kind, id)): Path<(String, String)>) -> Response {
    upgrade.room(&kind, id)
}

async fn many(upgrade: RoomUpgrade) -> Response {
    upgrade.rooms()
}

async fn events(events: RoomEvents, Path((kind, id)): Path<(String, String)>) -> Response {
    events.room(&kind, &id)
}

pub(crate) async fn serve(stage: Stage) -> SocketAddr {
    let app = Router::new()
        .route("/rooms/{kind}/{id}", any(room))
        .route("/strict/{kind}/{id}", any(room).layer(Extension(stage.strict)))
        .route("/socket", any(many))
        .route("/events/{kind}/{id}", get(events))
        .route("/events", any(|events: RoomEvents| async { events.rooms() }))
        .with_state(stage.rooms);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap_or_else(|error| panic!("a free port: {error}"));
    let address = listener.local_addr().unwrap_or_else(|error| panic!("an address: {error}"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}
