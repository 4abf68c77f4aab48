//! A connection in a room, in the hands of the application.

use std::{fmt, pin::pin, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;

use super::{EventType, Sort};
use crate::{
    auth::{Identity, SignIn},
    bus::{IdempotencyKey, Position},
    close::Close,
    envelope::Carried,
    message::{Form, Message},
    node::ConnectionId,
    outbox::{Delivery, Recipient, Waiting},
    payload::Payload,
    protocol::multi,
    receipt::{BroadcastError, Receipt},
    room_key::RoomKey,
};

/// A connection in a room, as a hook is given it.
///
/// It may be kept, and given to a task that sends to the client from time to time: the connection ends without it, and
/// its socket with it. [`closed`](Self::closed) and [`send`](Self::send) tell such a task when it is over. A member that
/// left this room while its connection goes on is told of by `on_leave` alone. One that is kept keeps the
/// [`RoomManager`](crate::RoomManager) alive.
///
/// ```
/// use std::time::Duration;
///
/// use rooms_core::{Kind, Sent};
/// use serde_json::{Value, json};
///
/// let clock = Kind::authenticated().on_join(|member| async move {
///     tokio::spawn(async move {
///         while member.send(&json!({"type": "tick"})) == Sent::Taken {
///             tokio::time::sleep(Duration::from_secs(1)).await;
///         }
///     });
///     Ok(Value::Null)
/// });
/// # let _ = clock;
/// ```
#[derive(Clone)]
pub struct Member {
    pub(crate) room: RoomKey,
    pub(crate) recipient: Arc<Recipient>,
    /// Who it is since its token was refreshed.
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) rooms: Arc<dyn Tell>,
    /// What its join said and came to, known to `on_join` and `on_leave`; and how it came, where that is not as most do.
    pub(crate) joining: Option<Arc<Joining>>,
    pub(crate) sort: Sort,
}

/// What a join says besides the room, and where it begins.
#[derive(Debug, Default)]
pub(crate) struct Joining {
    pub(crate) position: Option<Position>,
    pub(crate) with: Option<Payload>,
    /// Where its connection has a subprotocol.
    pub(crate) sign_in: Option<Arc<SignIn>>,
}

/// What became of what a hook sent to one connection; may be ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sent {
    /// It was written to the socket, or waits for it. Whether the client has read it nobody can tell.
    Taken,
    /// The connection has ended, or is closing, perhaps because too much waited for it already: nothing is sent to it any
    /// more.
    Closed,
    /// The value does not encode as JSON. The reason is logged.
    NotEncoded,
    /// The kind [declares](crate::Kind::events) another type for its events. Only in builds with debug assertions, where both
    /// types are logged: in release builds the value is sent.
    OtherType,
}

/// A broadcast to a room, encoded.
pub(crate) struct Said {
    pub(crate) room: RoomKey,
    pub(crate) payload: Bytes,
    pub(crate) carried: Carried,
    /// What it was encoded from, where it is JSON.
    pub(crate) event: Option<EventType>,
    pub(crate) except: Option<ConnectionId>,
    /// Where it is to be sent once.
    pub(crate) key: Option<IdempotencyKey>,
}

impl Said {
    /// Encodes a value for a room.
    pub(crate) fn json<T: Serialize + ?Sized>(room: &RoomKey, value: &T) -> Result<Self, BroadcastError> {
        let payload = serde_json::to_vec(value);
        let payload = payload.map_err(|source| BroadcastError::Encode { room: room.clone(), source })?;
        Ok(Self { event: Some(EventType::of::<T>()), ..Self::new(room, payload.into(), Carried::Bare) })
    }

    /// Bytes for a room.
    pub(crate) fn binary(room: &RoomKey, bytes: impl Into<Bytes>) -> Self {
        Self::new(room, bytes.into(), Carried::Binary)
    }

    fn new(room: &RoomKey, payload: Bytes, carried: Carried) -> Self {
        Self { room: room.clone(), payload, carried, event: None, except: None, key: None }
    }
}

/// Broadcasts to rooms: a manager, whatever the sinks of its members, or a publisher.
pub(crate) trait Tell: Send + Sync {
    fn tell(self: Arc<Self>, said: Said) -> BoxFuture<'static, Result<Receipt, BroadcastError>>;

    /// The type of the events of a room, where that is declared and another one than this.
    fn other_type(&self, room: &RoomKey, came: EventType) -> Option<&'static str>;
}

impl Member {
    /// The room.
    #[must_use]
    pub const fn room(&self) -> &RoomKey {
        &self.room
    }

    /// Who it is, by the token that the connection had when this hook was called. A member that is kept keeps this identity;
    /// where the token is [refreshed](crate::protocol) later, the hooks that are called from then on are given the new one.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.identity.as_deref().unwrap_or(self.recipient.first_identity())
    }

    /// Which connection.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.recipient.id()
    }

    /// Whether it [observes](crate::Kind::observe_rule) the room: it is not counted, and nobody is told of it.
    #[must_use]
    pub fn is_observer(&self) -> bool {
        self.sort == Sort::Observer
    }

    /// The position in the room's history from which this member is given everything: every message that comes after it.
    /// For `on_join`, in a room with a [history](crate::Kind::history); `None` elsewhere.
    ///
    /// So what `on_join` reads from a database afterwards has all that was written before a message at or before this
    /// position was published; what was written later may be in both. A version that the database counts, in the snapshot
    /// and in each message, tells the page what it has already; the guide has the pattern.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.joining.as_ref()?.position
    }

    /// What the client said with its join for the application: the `with` of the command, or on a connection that is for one
    /// room the query of its URL, as an object of strings without `since`, `newest` and the token. At most 4,096 bytes of
    /// JSON. For `on_join`; `None` elsewhere, and where it said nothing.
    #[must_use]
    pub fn with(&self) -> Option<&Payload> {
        self.joining.as_ref()?.with.as_ref()
    }

    /// The subprotocol that its endpoint chose of those that the client [offered](crate::Endpoint::subprotocols), for every
    /// hook; `None` where there is none, and on an event stream.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.joining.as_ref()?.sign_in.as_ref()?.subprotocol.as_deref()
    }

    /// Sends to this connection alone, as JSON, in the form that a broadcast to the room has there; never waits. To one
    /// that is closing nothing is sent. In a kind with [events](crate::Kind::events) the value is one of those, as that of a
    /// broadcast: [`TypedMember`](crate::TypedMember) has the compiler look.
    pub fn send<T: Serialize + ?Sized>(&self, value: &T) -> Sent {
        let came = EventType::of::<T>();
        if cfg!(debug_assertions)
            && let Some(declared) = self.other_type(came)
        {
            tracing::error!(kind = self.room.kind(), declared, came = came.name, "a message to a member is no event");
            return Sent::OtherType;
        }
        let message = match Message::json(value) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(kind = self.room.kind(), %error, "a message to a member does not encode");
                return Sent::NotEncoded;
            }
        };
        self.give(message)
    }

    /// Sends bytes to this connection alone, in a binary message that has the form of a broadcast to the room; otherwise as
    /// [`send`](Self::send). To an event stream they are sent as base64; see [`protocol`](crate::protocol).
    pub fn send_binary(&self, bytes: impl AsRef<[u8]>) -> Sent {
        self.give(Message::binary(bytes))
    }

    /// The type of the events of its room, where that is declared and another one than this.
    pub(crate) fn other_type(&self, came: EventType) -> Option<&'static str> {
        self.rooms.other_type(&self.room, came)
    }

    /// Gives it a payload, in the form that its connection has.
    fn give(&self, bare: Message) -> Sent {
        let message = match self.recipient.form() {
            Form::Single => bare,
            Form::Multi | Form::Positioned => multi::payload(&self.room, &bare),
        };
        match self.recipient.deliver(&[message]) {
            Delivery::Taken => Sent::Taken,
            Delivery::Closed => Sent::Closed,
        }
    }

    /// Whether nothing is sent to this connection any more: it has ended, or is closing. It is not about this room, which
    /// the connection may have left before.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.recipient.is_closed()
    }

    /// Resolves once the connection [is closed](Self::is_closed), at once where it is already. May be dropped at any time.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let recipient = Arc::clone(&self.recipient);
        async move {
            let Some(closed) = recipient.closed() else { return };
            let mut told = pin!(closed.notified());
            told.as_mut().enable();
            // Looked at after the waiting has begun, so that no close comes between.
            if !recipient.is_closed() {
                told.await;
            }
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
        self.tell(value, Some(self.connection()))
    }

    fn tell<T: Serialize + ?Sized>(
        &self,
        value: &T,
        except: Option<ConnectionId>,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<T> {
        let (rooms, said) = (Arc::clone(&self.rooms), Said::json(&self.room, value));
        async move { rooms.tell(Said { except, ..said? }).await }
    }

    /// [`broadcast`](Self::broadcast) of bytes, which reach the members in binary messages; as
    /// [`Broadcast::binary`](crate::Broadcast::binary) does.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn broadcast_binary<B: Into<Bytes>>(
        &self,
        bytes: B,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<B> {
        Arc::clone(&self.rooms).tell(Said::binary(&self.room, bytes))
    }

    /// [`broadcast_binary`](Self::broadcast_binary) without this connection. Other connections of its user are told.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn broadcast_binary_to_others<B: Into<Bytes>>(
        &self,
        bytes: B,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<B> {
        let except = Some(self.connection());
        Arc::clone(&self.rooms).tell(Said { except, ..Said::binary(&self.room, bytes) })
    }

    /// Closes this connection; what waits for it goes out first.
    pub fn close(&self, close: Close) {
        self.recipient.close(close, Waiting::Flush);
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("room", &self.room)
            .field("identity", self.identity())
            .field("connection", &self.connection())
            .finish_non_exhaustive()
    }
}
