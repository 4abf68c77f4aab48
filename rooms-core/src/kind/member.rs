//! A connection in a room, in the hands of the application.

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{
    auth::Identity,
    close::Close,
    message::{Form, Message},
    node::ConnectionId,
    protocol::multi,
    room_key::RoomKey,
};

/// A connection in a room, as a hook is given it.
#[derive(Clone)]
pub struct Member {
    pub(crate) room: RoomKey,
    pub(crate) identity: Arc<Identity>,
    pub(crate) connection: ConnectionId,
    pub(crate) outbox: Arc<dyn Reply>,
}

/// Sends to one connection, whatever its sink.
pub(crate) trait Reply: Send + Sync {
    /// How the connection is to be told what happens in a room.
    fn form(&self) -> Form;
    fn reply(&self, message: Message);
    fn end(&self, close: Close);
}

impl Member {
    /// The room.
    #[must_use]
    pub const fn room(&self) -> &RoomKey {
        &self.room
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Which connection.
    #[must_use]
    pub const fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Sends to this connection alone, as JSON, in the form that a broadcast to the room has there. To one that is closing
    /// nothing is sent; a value that does not encode is logged.
    pub fn send<T: Serialize + ?Sized>(&self, value: &T) {
        match Message::json(value) {
            Ok(message) => self.outbox.reply(match self.outbox.form() {
                Form::Single => message,
                Form::Multi => multi::message(&self.room, &message),
            }),
            Err(error) => tracing::error!(kind = self.room.kind(), %error, "a message to a member does not encode"),
        }
    }

    /// Closes this connection; what waits for it goes out first.
    pub fn close(&self, close: Close) {
        self.outbox.end(close);
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("room", &self.room)
            .field("identity", &self.identity)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
