//! How the process is: for whoever restarts it, and for whoever sends requests to it.

use rooms::redis::RedisBus;
use serde_json::json;
use warp::{
    Reply as _,
    http::StatusCode,
    reply::{self, Response},
};

use crate::App;

/// `GET /healthz`: 200 as long as the process serves its members, which it does without Redis too.
pub(crate) fn healthz(app: &App) -> Response {
    let stats = app.rooms.stats();
    let word = match (stats.draining, stats.bus_down) {
        // Whoever restarts what is not well would cut the drain short.
        (true, _) => "draining",
        // A restart would not bring Redis back, and would cost every member its connection.
        (false, true) => "degraded",
        (false, false) => "ok",
    };
    let bus = app.bus.as_ref().map(RedisBus::health).map(
        |bus| json!({"connected": bus.connected, "last_fault": bus.last_fault, "queued_messages": bus.queued_messages}),
    );
    let health = json!({"status": word, "connections": stats.connections, "rooms": stats.rooms, "bus": bus});
    reply::json(&health).into_response()
}

/// `GET /readyz`: 503 from the begin of the shutdown on, so that new members go elsewhere. Not without Redis: all processes lose
/// it at the same time, and a proxy that takes none of them for ready answers everything with 503, the page and the login too.
pub(crate) fn readyz(app: &App) -> StatusCode {
    match app.rooms.is_draining() {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::OK,
    }
}
