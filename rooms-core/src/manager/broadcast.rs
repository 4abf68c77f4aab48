//! To a room, on all nodes.

use std::{panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use serde::Serialize;
use tokio::time::timeout;

use super::{RoomManager, Shared};
use crate::{
    auth::IdentityError,
    bus::{BusError, Topic},
    envelope::{self, Carried},
    json,
    kind::Tell,
    node::ConnectionId,
    payload::Payload,
    protocol::is_reserved,
    room_key::RoomKey,
    runtime::RuntimeEnded,
};

/// The kind of the rooms that hold a user's connections.
pub(crate) const USER: &str = "user";

/// What became of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// How far it went.
    pub reach: Reach,
}

/// How far a broadcast went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// To every node with members of the room.
    AllNodes,
    /// To this node's members alone: the bus is down.
    LocalOnly,
}

/// Why a broadcast failed. Nobody got it, except perhaps with [`BusError::Unknown`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The value does not encode as JSON.
    #[error("{room}: the payload does not encode as JSON")]
    Encode {
        /// Where.
        room: RoomKey,
        /// Why.
        source: serde_json::Error,
    },
    /// The payload is too long.
    #[error("{room}: the payload has {length} bytes, and at most {limit} are allowed")]
    TooBig {
        /// Where.
        room: RoomKey,
        /// The bytes there are.
        length: usize,
        /// `Limits::broadcast`.
        limit: usize,
    },
    /// The payload is nested deeper than 64 levels, which no node would pass on.
    #[error("{room}: the payload is nested more than 64 deep")]
    TooDeep {
        /// Where.
        room: RoomKey,
    },
    /// There can be no such user.
    #[error("no user has this id")]
    User(#[source] IdentityError),
    /// The tokio runtime that the manager was built in has ended, so that nobody would be given it.
    #[error("{room}: the tokio runtime that the rooms were built in has ended")]
    RuntimeEnded {
        /// Where.
        room: RoomKey,
    },
    /// The bus refused it, or gave no answer.
    #[error("{room}: the bus did not take the message")]
    Bus {
        /// Where.
        room: RoomKey,
        /// Why.
        source: BusError,
    },
}

/// A broadcast that is being put together; see [`RoomManager::to`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct Broadcast<'a> {
    shared: &'a Shared,
    room: &'a RoomKey,
    except: Option<ConnectionId>,
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
        Broadcast { shared: &self.shared, room, except: None }
    }
}

impl<'a> Broadcast<'a> {
    /// Leaves one connection out: the one that caused it, usually.
    pub fn except(self, connection: ConnectionId) -> Self {
        Self { except: Some(connection), ..self }
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
            self.shared.broadcast(self.room, payload.into(), self.except, Carried::Bare).await
        }
    }
}

impl Shared {
    /// Sends what a member published. Where it has the `type` of an event of the server's, no member is given it bare.
    pub(crate) async fn publish(&self, room: &RoomKey, payload: Payload) -> Result<Receipt, BroadcastError> {
        let carried = if is_reserved(payload.as_str()) { Carried::Wrapped } else { Carried::Bare };
        self.broadcast(room, payload.into_bytes(), None, carried).await
    }

    async fn broadcast(
        &self,
        room: &RoomKey,
        payload: Bytes,
        except: Option<ConnectionId>,
        carried: Carried,
    ) -> Result<Receipt, BroadcastError> {
        let limit = self.limits.broadcast;
        if payload.len() > limit {
            return Err(BroadcastError::TooBig { room: room.clone(), length: payload.len(), limit });
        }
        if json::check_depth(&payload).is_err() {
            return Err(BroadcastError::TooDeep { room: room.clone() });
        }
        let space = async {
            match self.registry.find(room) {
                Some(local) => Some(local.reserve(payload.len()).await),
                None => None,
            }
        };
        // Held until the message is through the bus, and so in the log.
        let space = self.runtime.wait(space).await;
        let _space = space.map_err(|RuntimeEnded| BroadcastError::RuntimeEnded { room: room.clone() })?;
        let payload = envelope::seal(except, carried, payload);
        let topic = Topic::Room(room.clone());
        let publish = AssertUnwindSafe(async { self.bus.publish(&topic, payload.clone()).await }).catch_unwind();
        let published = match timeout(self.limits.publish, publish).await {
            Ok(Ok(published)) => published,
            Ok(Err(_)) => Err(BusError::Unknown("the bus panicked".into())),
            Err(elapsed) => Err(BusError::Unknown(elapsed.into())),
        };
        match published {
            Ok(()) => Ok(Receipt { reach: Reach::AllNodes }),
            // It certainly did not happen, so it can't come a second time: the members here need not wait for the bus.
            Err(BusError::Down) => {
                self.deliver(room, &payload);
                Ok(Receipt { reach: Reach::LocalOnly })
            }
            Err(source) => Err(BroadcastError::Bus { room: room.clone(), source }),
        }
    }
}

impl Tell for Shared {
    fn tell(
        self: Arc<Self>,
        room: RoomKey,
        payload: Vec<u8>,
        except: Option<ConnectionId>,
    ) -> BoxFuture<'static, Result<Receipt, BroadcastError>> {
        async move { self.broadcast(&room, payload.into(), except, Carried::Bare).await }.boxed()
    }
}
