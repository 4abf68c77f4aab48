//! Kicks and disconnects from the page.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, Uri};
use serde_json::json;

use super::{
    Inspector,
    answer::{error, json_of},
    query::{self, Query},
};
use crate::{
    close::{Close, CloseCode},
    handshake::is_from_own_page,
    manager::OrderError,
    receipt::Reach,
};

/// No form and no simple request of another site has it, and for any other that site is asked by a preflight, which nothing
/// here answers (the Fetch standard, "CORS-preflight fetch").
const HEADER: &str = "x-rooms-inspector";

/// What a page is told that is disconnected; it may come back.
const DISCONNECTED: &str = "disconnected by an operator";

impl Inspector {
    pub(super) async fn act(&self, query: &Query<'_>, uri: &Uri, headers: &HeaderMap) -> Response<Bytes> {
        if !self.actions {
            return error(StatusCode::FORBIDDEN, "actions are not allowed here");
        }
        if !headers.contains_key(HEADER) || !is_from_own_page(uri, headers) {
            return error(StatusCode::FORBIDDEN, "this does not come from the page of the inspector");
        }
        let done = match (query.text("do"), query.text("user"), query.text("connection")) {
            (Some("kick"), Some(user), _) => match query.room() {
                Ok(Some(room)) => self.rooms.kick(&room, user, query.text("reason").unwrap_or_default()).await,
                Ok(None) => {
                    return error(StatusCode::BAD_REQUEST, "`room` is to name the room to kick the user out of");
                }
                Err(why) => return error(StatusCode::BAD_REQUEST, why),
            },
            (Some("disconnect"), _, Some(connection)) => match connection.parse() {
                Ok(connection) => self.rooms.disconnect(connection, close()).await,
                Err(_) => return error(StatusCode::BAD_REQUEST, "`connection` is to be the id of a connection"),
            },
            (Some("disconnect"), Some(user), None) => self.rooms.disconnect_user(user, close()).await,
            (Some("kick" | "disconnect"), None, _) => return error(StatusCode::BAD_REQUEST, query::NO_USER),
            _ => return error(StatusCode::NOT_FOUND, "there is no such action"),
        };
        match done {
            Ok(reach) => json_of(&json!({"reach": if reach == Reach::AllNodes { "all_nodes" } else { "local_only" }})),
            Err(error @ OrderError::Bus(_)) => self::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            Err(OrderError::User(_)) => error(StatusCode::BAD_REQUEST, query::NO_USER),
            Err(error @ OrderError::NoConnection { .. }) => self::error(StatusCode::NOT_FOUND, &error.to_string()),
            Err(error) => self::error(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }
}

fn close() -> Close {
    Close::new(CloseCode::GOING_AWAY, DISCONNECTED)
}
