//! The types of events that are the server's own.

use super::head;

/// The types that the server's own events have, now or by what is reserved for later. A payload of a member that has one
/// reaches no member bare.
pub(super) const RESERVED: [&str; 15] = [
    "error",
    "message",
    "ping",
    "pong",
    "published",
    "reconnect",
    "refresh",
    "refreshed",
    "resync",
    "room_joined",
    "room_left",
    "room_state",
    "token_expiring",
    "viewer_joined",
    "viewer_left",
];

/// Whether members whose connection is for one room would take this payload, bare, for an event of the server's.
pub(crate) fn is_reserved(payload: &str) -> bool {
    head::any_is(payload, "type", &RESERVED)
}

/// Whether the server's own events have this type.
#[cfg(feature = "schema")]
pub(crate) fn is_reserved_type(name: &str) -> bool {
    RESERVED.contains(&name)
}
