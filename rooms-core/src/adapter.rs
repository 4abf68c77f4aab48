//! What wires rooms into a web framework; an application with one of the ready adapters needs none of it.
//!
//! An adapter gives the head of a request, and how it [asks for a WebSocket](Opening), to [`RoomManager::admit`](crate::RoomManager::admit), which returns a
//! [`Refusal`], whose [`response`](Refusal::response) goes to the client, or an [`Admission`], whose
//! [`response`](Admission::response) opens the WebSocket. The adapter then makes a [`Socket`] of what its framework calls an upgrade,
//! by [`ws::tcp`](crate::ws::tcp) or [`ws::over`](crate::ws::over), and hands it to
//! [`Admission::serve_room`] or [`Admission::serve`]. The suite `testing::adapter_conformance` tests the whole.
//!
//! For an event stream the body of the answer is what [`Admission::events`] gives. What an adapter's `serve` is made of is
//! [`serve`] here, which accepts connections within bounds.
//!
//! A server that has no request of the crate `http` reads the [`Handshake`] by itself, serves the socket by
//! [`RoomManager::serve_room`](crate::RoomManager::serve_room) or [`RoomManager::serve`](crate::RoomManager::serve), and
//! turns a client away by [`refuse`]. Messages are not compressed there, and
//! [`Member::subprotocol`](crate::Member::subprotocol) is `None`: both need [`RoomManager::admit`](crate::RoomManager::admit).

mod serve;

pub use self::serve::{Ending, serve};
pub use crate::{
    admission::{Admission, Socket},
    events::EventBody,
    handshake::{Handshake, Opening, Refusal},
    http_places::HttpPlace,
    session::refuse,
};
