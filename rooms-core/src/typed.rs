//! Handles to the rooms of a kind that declares its events: what is broadcast through them is one of those, or the program
//! does not compile.

mod member;

use std::{fmt, marker::PhantomData, sync::Arc};

use serde::Serialize;

pub use self::member::TypedMember;
use crate::{
    bus::IdempotencyKey,
    kind::{EventType, Said, Tell},
    node::ConnectionId,
    outgoing::Kinds,
    receipt::{BroadcastError, Receipt},
    room_key::{RoomKey, RoomKeyError},
};

/// The rooms of a kind whose events are `E`: a cheap handle to clone into a framework's state.
///
/// Of a manager, [`RoomManager::typed`](crate::RoomManager::typed) makes it, and of a publisher,
/// [`Publisher::typed`](crate::Publisher::typed).
///
/// ```
/// use rooms_core::{Kind, RoomManager, TypedRooms};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(tag = "type", rename_all = "snake_case")]
/// enum PostEvent {
///     Liked { likes: u64 },
/// }
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(tag = "type", rename_all = "snake_case")]
/// enum Notice {
///     Mentioned { post: u64 },
/// }
///
/// struct Live {
///     posts: TypedRooms<PostEvent>,
///     users: TypedRooms<Notice>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rooms: RoomManager = RoomManager::builder()
///     .kind("post", Kind::authenticated().events::<PostEvent>())
///     .kind("user", Kind::owner_only().events::<Notice>())
///     .build()?;
/// let live = Live { posts: rooms.typed("post")?, users: rooms.typed("user")? };
///
/// live.posts.room(42)?.broadcast(&PostEvent::Liked { likes: 3 }).await?;
/// live.users.room("5")?.broadcast(&Notice::Mentioned { post: 42 }).await?;
/// # Ok(()) }
/// ```
///
/// An event of another kind does not compile:
///
/// ```compile_fail,E0308
/// # use rooms_core::TypedRooms;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] enum PostEvent { Liked }
/// # #[derive(Serialize, Deserialize)] enum Notice { Mentioned }
/// async fn tell(posts: TypedRooms<PostEvent>) -> Result<(), Box<dyn std::error::Error>> {
///     posts.room(42)?.broadcast(&Notice::Mentioned).await?;
///     Ok(())
/// }
/// ```
pub struct TypedRooms<E> {
    rooms: Arc<dyn Tell>,
    kind: Arc<str>,
    event: PhantomData<fn(&E)>,
}

/// One room, and how it is broadcast to; see [`TypedRooms::room`].
#[must_use = "nothing is sent before `broadcast`"]
pub struct TypedRoom<E> {
    rooms: Arc<dyn Tell>,
    room: RoomKey,
    except: Option<ConnectionId>,
    key: Option<String>,
    event: PhantomData<fn(&E)>,
}

/// Why there is no handle to the rooms of a kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypedError {
    /// There is no such kind.
    #[error("there is no kind `{kind}`")]
    NoKind {
        /// The name.
        kind: String,
    },
    /// The kind declares no events; see [`Kind::events`](crate::Kind::events).
    #[error("the kind `{kind}` declares no events")]
    NoEvents {
        /// The name.
        kind: String,
    },
    /// The kind declares no type for its state; see [`Kind::state`](crate::Kind::state).
    #[error("the kind `{kind}` declares no type for its state")]
    NoState {
        /// The name.
        kind: String,
    },
    /// The kind declares another type for its state.
    #[error("the states of the kind `{kind}` are `{declared}`, not `{asked}`")]
    OtherState {
        /// The name.
        kind: String,
        /// The name of the declared type.
        declared: &'static str,
        /// The name of the type that was asked for.
        asked: &'static str,
    },
    /// The kind declares another type for its events.
    #[error("the events of the kind `{kind}` are `{declared}`, not `{asked}`")]
    OtherType {
        /// The name.
        kind: String,
        /// The name of the declared type.
        declared: &'static str,
        /// The name of the type that was asked for.
        asked: &'static str,
    },
}

impl<E: Serialize + 'static> TypedRooms<E> {
    /// A handle, where the kind declares this type.
    pub(crate) fn of(rooms: Arc<dyn Tell>, kinds: &Kinds, name: &str) -> Result<Self, TypedError> {
        let kind = kinds.get(name).ok_or_else(|| TypedError::NoKind { kind: name.to_owned() })?;
        let events = kind.events.ok_or_else(|| TypedError::NoEvents { kind: name.to_owned() })?;
        let asked = EventType::of::<E>();
        if events.of != asked {
            let (declared, asked) = (events.of.name, asked.name);
            return Err(TypedError::OtherType { kind: name.to_owned(), declared, asked });
        }
        Ok(Self { rooms, kind: name.into(), event: PhantomData })
    }

    /// The room of this id.
    ///
    /// # Errors
    /// [`RoomKeyError`], for what is no id of a room.
    pub fn room(&self, id: impl fmt::Display) -> Result<TypedRoom<E>, RoomKeyError> {
        let room = RoomKey::new(&self.kind, id)?;
        Ok(TypedRoom { rooms: Arc::clone(&self.rooms), room, except: None, key: None, event: PhantomData })
    }
}

impl<E: Serialize + 'static> TypedRoom<E> {
    /// Its name, for what takes rooms of any kind.
    pub const fn key(&self) -> &RoomKey {
        &self.room
    }

    /// Leaves one connection out: the one that caused it, usually.
    pub fn except(self, connection: ConnectionId) -> Self {
        Self { except: Some(connection), ..self }
    }

    /// Sends once for this key, as [`Broadcast::idempotency_key`](crate::Broadcast::idempotency_key) does.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Sends an event to every member of the room, on all nodes, as [`RoomManager::broadcast`](crate::RoomManager::broadcast)
    /// does; from a publisher as [`Publisher::broadcast`](crate::Publisher::broadcast) does.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn broadcast(&self, event: &E) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<E> {
        let said = Said::json(&self.room, event);
        let key = self.key.as_deref().map(IdempotencyKey::new).transpose();
        let key = key.map_err(|source| BroadcastError::IdempotencyKey { room: self.room.clone(), source });
        let (rooms, except) = (Arc::clone(&self.rooms), self.except);
        async move { rooms.tell(Said { except, key: key?, ..said? }).await }
    }
}

impl<E> Clone for TypedRooms<E> {
    fn clone(&self) -> Self {
        Self { rooms: Arc::clone(&self.rooms), kind: Arc::clone(&self.kind), event: PhantomData }
    }
}

impl<E> fmt::Debug for TypedRooms<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedRooms").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for TypedRoom<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedRoom").field("room", &self.room).finish_non_exhaustive()
    }
}
