//! A connection in a room, in the hands of the application.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use serde::Serialize;

use crate::{
    auth::Identity,
    close::Close,
    manager::{BroadcastError, Receipt},
    message::{Form, Message},
    node::ConnectionId,
    protocol::multi,
    room_key::RoomKey,
};

/// A connection in a room, as a hook is given it. One that is kept keeps the connection's end of the socket with it, and
/// the rooms; `on_leave` is the time to let it go.
#[derive(Clone)]
pub struct Member {
    pub(crate) room: RoomKey,
    pub(crate) identity: Arc<Identity>,
    pub(crate) connection: ConnectionId,
    pub(crate) outbox: Arc<dyn Reply>,
    pub(crate) rooms: Arc<dyn Tell>,
}

/// Sends to one connection, whatever its sink.
pub(crate) trait Reply: Send + Sync {
    /// How the connection is to be told what happens in a room.
    fn form(&self) -> Form;
    fn reply(&self, message: Message);
    fn end(&self, close: Close);
}

/// Broadcasts to a room, whatever the sinks of its members.
pub(crate) trait Tell: Send + Sync {
    fn tell(
        self: Arc<Self>,
        room: RoomKey,
        payload: Vec<u8>,
        except: Option<ConnectionId>,
    ) -> BoxFuture<'static, Result<Receipt, BroadcastError>>;
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
                Form::Multi => multi::message(&self.room, message.payload()),
            }),
            Err(error) => tracing::error!(kind = self.room.kind(), %error, "a message to a member does not encode"),
        }
    }

    /// Sends a value, as JSON, to every member of the room on all nodes, this one included; as
    /// [`RoomManager::broadcast`](crate::RoomManager::broadcast) does.
    ///
    /// A hook that passes on what a client sent should make a message of its own of it: a client can write anything, also
    /// what looks like an event of the server's.
    ///
    /// # Errors
    /// [`BroadcastError`].
    ///
    /// ```
    /// use rooms_core::{HookError, Kind};
    /// use serde_json::json;
    ///
    /// let board = Kind::authenticated().on_message(|member, message| async move {
    ///     let drawn = json!({"type": "drawn", "by": member.identity().user(), "stroke": message.json()?["stroke"]});
    ///     member.broadcast_to_others(&drawn).await.map_err(|_| HookError::refused("try again"))?;
    ///     Ok(())
    /// });
    /// # let _ = board;
    /// ```
    pub fn broadcast<T: Serialize + ?Sized>(
        &self,
        value: &T,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<T> {
        self.tell(value, None)
    }

    /// [`broadcast`](Self::broadcast) without this connection. Other connections of its user are told.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn broadcast_to_others<T: Serialize + ?Sized>(
        &self,
        value: &T,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<T> {
        self.tell(value, Some(self.connection))
    }

    fn tell<T: Serialize + ?Sized>(
        &self,
        value: &T,
        except: Option<ConnectionId>,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<T> {
        let (rooms, room, payload) = (Arc::clone(&self.rooms), self.room.clone(), serde_json::to_vec(value));
        async move {
            match payload {
                Ok(payload) => rooms.tell(room, payload, except).await,
                Err(source) => Err(BroadcastError::Encode { room, source }),
            }
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
