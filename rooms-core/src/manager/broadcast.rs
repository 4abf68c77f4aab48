//! To a room, on all nodes.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::RoomManager;
use crate::{
    bus::IdempotencyKey,
    context::Shared,
    envelope::Carried,
    node::ConnectionId,
    receipt::{BroadcastError, Receipt},
    room_key::RoomKey,
};

/// The kind of the rooms that hold a user's connections.
pub(crate) const USER: &str = "user";

/// A broadcast that is being put together; see [`RoomManager::to`].
#[derive(Debug)]
#[must_use = "nothing is sent before `json` or `binary`"]
pub struct Broadcast<'a> {
    shared: &'a Shared,
    room: &'a RoomKey,
    except: Option<ConnectionId>,
    key: Option<&'a str>,
}

impl<S> RoomManager<S> {
    /// Sends a value, as JSON, to every member of a room, on all nodes.
    ///
    /// It is encoded once, and reaches the members in one order with everything else in that room. The call returns when
    /// the bus has it, which is before the members do; where a room's log is full it waits for space first. Dropping the
    /// future before it resolves may or may not send.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn broadcast<'a, T: Serialize + ?Sized>(
        &'a self,
        room: &'a RoomKey,
        value: &T,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<'a, S, T> {
        self.to(room).json(value)
    }

    /// Sends a value, as JSON, to every connection of a user, on all nodes: to the room `user:{user}`.
    ///
    /// A connection that is for many rooms is in that room from the start, where there is a kind `user` that lets the user
    /// in, such as [`Kind::owner_only`](crate::Kind::owner_only). One that is for another room is not in it. Without such a
    /// kind nobody is reached, which is no error: it may be there on other nodes.
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast), and [`BroadcastError::User`] for what is no user's id.
    ///
    /// ```
    /// use rooms_core::{Kind, RoomManager};
    /// use serde_json::json;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms: RoomManager = RoomManager::builder().kind("user", Kind::owner_only()).build()?;
    /// rooms.send_to_user("5", &json!({"type": "notice"})).await?;
    /// assert!(rooms.send_to_user("5\n", &json!({"type": "notice"})).await.is_err());
    /// # Ok(()) }
    /// ```
    pub fn send_to_user<T: Serialize + ?Sized>(
        &self,
        user: &str,
        value: &T,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<S, T> {
        let room = RoomKey::new(USER, user).map_err(|error| BroadcastError::User(error.into()));
        let (shared, payload) = (Arc::clone(&self.shared), serde_json::to_vec(value));
        async move {
            let room = room?;
            let payload = payload.map_err(|source| BroadcastError::Encode { room: room.clone(), source })?;
            shared.broadcast(&room, payload.into(), None, Carried::Bare).await
        }
    }

    /// Begins a broadcast with options: `rooms.to(&room).except(connection).json(&value).await`.
    pub fn to<'a>(&'a self, room: &'a RoomKey) -> Broadcast<'a> {
        Broadcast { shared: &self.shared, room, except: None, key: None }
    }
}

impl<'a> Broadcast<'a> {
    /// Leaves one connection out: the one that caused it, usually.
    pub fn except(self, connection: ConnectionId) -> Self {
        Self { except: Some(connection), ..self }
    }

    /// Sends it once for this key, of 1 to 128 bytes, such as the one that came with a POST request: where the history of the
    /// room keeps a message that was sent with the same key, by whatever node, nothing is sent, and the [`Receipt`] has the
    /// position of that one and says that this was a repetition. So a request that is tried again is one message. What is
    /// sent is not compared.
    ///
    /// The kind needs a [history](crate::Kind::history); without one it is an error. A key is forgotten with its message.
    ///
    /// ```
    /// use rooms_core::{Kind, RoomKey, RoomManager, bus::Retention};
    /// use serde_json::json;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let posts = Kind::authenticated().history(Retention::messages(500));
    /// let rooms: RoomManager = RoomManager::builder().kind("post", posts).build()?;
    /// let room = RoomKey::new("post", 42)?;
    /// let comment = json!({"type": "new_comment"});
    /// let first = rooms.to(&room).idempotency_key("4f1b54d6").json(&comment).await?;
    /// let again = rooms.to(&room).idempotency_key("4f1b54d6").json(&comment).await?;
    /// assert_eq!((first.repeated, again.repeated), (false, true));
    /// assert_eq!(first.position, again.position);
    /// # Ok(()) }
    /// ```
    pub fn idempotency_key(self, key: &'a str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Encodes the value now, and sends it when awaited.
    ///
    /// # Errors
    /// As [`RoomManager::broadcast`].
    pub fn json<T: Serialize + ?Sized>(
        self,
        value: &T,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<'a, T> {
        let payload = serde_json::to_vec(value);
        async move {
            let payload = payload.map_err(|source| BroadcastError::Encode { room: self.room.clone(), source })?;
            self.send(payload.into(), Carried::Bare).await
        }
    }

    /// Sends bytes when awaited: every member gets them in a binary message, in one order with everything else in the room.
    ///
    /// They are no JSON, and nothing about them is looked at but their number, at most `Limits::max_broadcast_bytes`; there may
    /// be none. Otherwise as [`RoomManager::broadcast`]: a history keeps them, and what is too long becomes what
    /// [`Kind::oversize`](crate::Kind::oversize) says. Event streams are given them as base64. How clients are told the room is in
    /// [`protocol`](crate::protocol#binary-messages).
    ///
    /// # Errors
    /// As [`RoomManager::broadcast`], but for `Encode` and `TooDeep`.
    ///
    /// ```
    /// use rooms_core::{Kind, RoomKey, RoomManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms: RoomManager = RoomManager::builder().kind("camera", Kind::authenticated()).build()?;
    /// let room = RoomKey::new("camera", 7)?;
    /// rooms.to(&room).binary(vec![0xff, 0xd8, 0xff]).await?;
    /// # Ok(()) }
    /// ```
    pub fn binary<B: Into<Bytes>>(
        self,
        bytes: B,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<'a, B> {
        self.send(bytes.into(), Carried::Binary)
    }

    async fn send(self, payload: Bytes, carried: Carried) -> Result<Receipt, BroadcastError> {
        let key = self.key.map(IdempotencyKey::new).transpose();
        let key = key.map_err(|source| BroadcastError::IdempotencyKey { room: self.room.clone(), source })?;
        self.shared.broadcast_once(self.room, payload, self.except, carried, key.as_ref()).await
    }
}
