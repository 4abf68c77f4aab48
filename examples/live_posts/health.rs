//! How the process is: for whoever restarts it, and for whoever sends requests to it.

use axum::{Json, extract::State, http::StatusCode};
use rooms::redis::RedisBus;
use serde_json::{Value, json};

use crate::App;

/// `GET /healthz`: 200 as long as the process serves its members, which it does without Redis too.
pub(crate) async fn healthz(State(app): State<App>) -> Json<Value> {
    // Before the rooms' numbers: a bus that is connected has told them so.
    let bus = app.bus.as_ref().map(RedisBus::health);
    let stats = app.rooms.stats();
    let word = match (stats.draining, stats.bus_down) {
        // Whoever restarts what is not well would cut the drain short.
        (true, _) => "draining",
        // A restart would not bring Redis back, and would cost every member its connection.
        (false, true) => "degraded",
        (false, false) => "ok",
    };
    let bus = bus.map(|bus| {
        json!({
            "connected": bus.connected,
            "last_fault": bus.last_fault,
            "round_trip_ms": bus.round_trip.map(|time| time.as_secs_f64() * 1e3),
            "queued_messages": bus.queued_messages,
            "subscribed": bus.subscribed,
            "wanted": bus.wanted,
            "publisher_losses": bus.publisher_losses,
            "subscriber_losses": bus.subscriber_losses,
        })
    });
    Json(json!({"status": word, "connections": stats.connections, "rooms": stats.rooms, "bus": bus}))
}

/// `GET /readyz`: 503 from the begin of the shutdown on, so that new members go elsewhere. Not without Redis: all processes lose
/// it at the same time, and a proxy that takes none of them for ready answers everything with 503, the page and the login too.
pub(crate) async fn readyz(State(app): State<App>) -> StatusCode {
    match app.rooms.is_draining() {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::OK,
    }
}
