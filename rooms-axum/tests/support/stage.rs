//! What `adapter_conformance!` wants served, by Axum.

use axum::{
    Extension, Router,
    extract::{FromRef, Path, State},
    response::Response,
    routing::{any, get},
};
use rooms_axum::{RoomEvents, RoomUpgrade};
use rooms_core::{RoomManager, testing::adapter_conformance::Stage};

#[derive(Clone)]
struct App(Stage);

impl FromRef<App> for Stage {
    fn from_ref(App(stage): &App) -> Self {
        stage.clone()
    }
}

impl FromRef<App> for RoomManager {
    fn from_ref(App(stage): &App) -> Self {
        stage.rooms.clone()
    }
}

async fn room(upgrade: RoomUpgrade, Path((kind, id)): Path<(String, String)>) -> Response {
    upgrade.room(&kind, id)
}

/// With what the suite adds to an upgrade.
async fn guided(
    State(stage): State<Stage>,
    upgrade: RoomUpgrade,
    Path((kind, id)): Path<(String, String)>,
) -> Response {
    let claims = stage.claims(upgrade.identity());
    upgrade.with_claims(claims).on_close(stage.on_close()).room(&kind, id)
}

async fn many(upgrade: RoomUpgrade) -> Response {
    upgrade.rooms()
}

async fn events(events: RoomEvents, Path((kind, id)): Path<(String, String)>) -> Response {
    events.room(&kind, id)
}

async fn events_of_many(events: RoomEvents) -> Response {
    events.rooms()
}

pub(crate) fn routes(stage: Stage) -> Router {
    Router::new()
        .route("/rooms/{kind}/{id}", any(room))
        .route("/strict/{kind}/{id}", any(room).layer(Extension(stage.strict.clone())))
        .route("/browsers/{kind}/{id}", any(guided).layer(Extension(stage.browsers.clone())))
        .route("/services/{kind}/{id}", any(guided).layer(Extension(stage.services.clone())))
        .route("/socket", any(many))
        .route("/events/{kind}/{id}", get(events))
        .route("/events", any(events_of_many))
        .with_state(App(stage))
}
