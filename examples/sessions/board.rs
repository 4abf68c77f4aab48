//! The board: notes that everybody who is signed in reads and writes.

use std::sync::Mutex;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use axum_login::AuthSession;
use rooms::{RoomKey, axum::RoomUpgrade};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{App, users::Users};

/// The newest notes that are kept.
const KEPT: usize = 100;
/// The longest note, in characters.
const MAX_NOTE: usize = 500;

#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Vec<Note>>);

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Note {
    by: String,
    text: String,
}

#[derive(Deserialize)]
pub(crate) struct NewNote {
    text: String,
}

/// `GET /live`: the only room.
pub(crate) async fn live(upgrade: RoomUpgrade) -> Response {
    upgrade.room("board", 1)
}

/// `GET /notes`
pub(crate) async fn notes(State(app): State<App>, auth: AuthSession<Users>) -> Response {
    if auth.user.is_none() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let notes = app.board.0.lock().map(|notes| notes.clone()).unwrap_or_default();
    Json(notes).into_response()
}

/// `POST /notes {"text":..}`
pub(crate) async fn note(
    State(app): State<App>,
    auth: AuthSession<Users>,
    Json(NewNote { text }): Json<NewNote>,
) -> StatusCode {
    let Some(user) = auth.user else { return StatusCode::UNAUTHORIZED };
    if !(1..=MAX_NOTE).contains(&text.chars().count()) {
        return StatusCode::UNPROCESSABLE_ENTITY;
    }
    let note = Note { by: user.name, text };
    if let Ok(mut notes) = app.board.0.lock() {
        notes.push(note.clone());
        let old = notes.len().saturating_sub(KEPT);
        notes.drain(..old);
    }
    let Ok(room) = RoomKey::new("board", 1) else { return StatusCode::INTERNAL_SERVER_ERROR };
    match app.rooms.broadcast(&room, &json!({"type": "note", "note": note})).await {
        Ok(_) => StatusCode::CREATED,
        Err(error) => {
            tracing::warn!(%error, "a note is on the board, and those who watch were not told");
            StatusCode::CREATED
        }
    }
}
