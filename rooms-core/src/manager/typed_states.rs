//! The states of rooms whose kind declares their type: what is set through a handle is of that type, or the program does not
//! compile.

use std::{fmt, marker::PhantomData, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use super::{RoomManager, RoomState, state};
use crate::{
    bus::Position,
    context::{After, Shared},
    kind::EventType,
    receipt::BroadcastError,
    room_key::{RoomKey, RoomKeyError},
    typed::TypedError,
};

/// The rooms of a kind whose states are `T`: a cheap handle to clone into a framework's state. Made by
/// [`RoomManager::typed_states`].
pub struct TypedStates<T> {
    shared: Arc<Shared>,
    kind: Arc<str>,
    state: PhantomData<fn(&T) -> T>,
}

/// One room, and its state; see [`TypedStates::room`].
pub struct TypedState<T> {
    shared: Arc<Shared>,
    room: RoomKey,
    state: PhantomData<fn(&T) -> T>,
}

impl<S> RoomManager<S> {
    /// A handle to the states of the rooms of a kind that [declares](crate::Kind::state) them to be `T`.
    ///
    /// # Errors
    /// [`TypedError`], where there is no such kind, or it declares something else: so ask for it where the service starts.
    pub fn typed_states<T: Serialize + DeserializeOwned + 'static>(
        &self,
        kind: &str,
    ) -> Result<TypedStates<T>, TypedError> {
        let no_kind = || TypedError::NoKind { kind: kind.to_owned() };
        let declared = self.shared.kinds.get(kind).ok_or_else(no_kind)?.state_type;
        let declared = declared.ok_or_else(|| TypedError::NoState { kind: kind.to_owned() })?.of;
        let asked = EventType::of::<T>();
        if declared != asked {
            let (declared, asked) = (declared.name, asked.name);
            return Err(TypedError::OtherState { kind: kind.to_owned(), declared, asked });
        }
        Ok(TypedStates { shared: Arc::clone(&self.shared), kind: kind.into(), state: PhantomData })
    }
}

impl<T: Serialize + DeserializeOwned> TypedStates<T> {
    /// The room of this id.
    ///
    /// # Errors
    /// [`RoomKeyError`], for what is no id of a room.
    pub fn room(&self, id: impl fmt::Display) -> Result<TypedState<T>, RoomKeyError> {
        let room = RoomKey::new(&self.kind, id)?;
        Ok(TypedState { shared: Arc::clone(&self.shared), room, state: PhantomData })
    }
}

impl<T: Serialize + DeserializeOwned> TypedState<T> {
    /// The name of the room, for what takes rooms of any kind.
    pub const fn key(&self) -> &RoomKey {
        &self.room
    }

    /// Sets the state, and tells the members on all nodes, as
    /// [`RoomManager::broadcast_state`](crate::RoomManager::broadcast_state) does; gives its revision.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn set(&self, value: &T) -> impl Future<Output = Result<Position, BroadcastError>> + Send + use<'_, T> {
        state::set(&self.shared, &self.room, After::Newest, value)
    }

    /// [`set`](Self::set) in place of the state of this revision, as
    /// [`RoomManager::broadcast_state_after`](crate::RoomManager::broadcast_state_after) does; `None` where there is to be no
    /// state yet.
    ///
    /// # Errors
    /// [`BroadcastError`]; [`BroadcastError::Conflict`] where the state is another one by now.
    pub fn set_after(
        &self,
        revision: Option<Position>,
        value: &T,
    ) -> impl Future<Output = Result<Position, BroadcastError>> + Send + use<'_, T> {
        state::set(&self.shared, &self.room, After::Revision(revision), value)
    }

    /// The state, as the bus has it now, as [`RoomManager::state`](crate::RoomManager::state) reads it.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub async fn get(&self) -> Result<Option<RoomState<T>>, BroadcastError> {
        state::get(&self.shared, &self.room).await
    }
}

impl<T> Clone for TypedStates<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), kind: Arc::clone(&self.kind), state: PhantomData }
    }
}

impl<T> fmt::Debug for TypedStates<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedStates").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for TypedState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedState").field("room", &self.room).finish_non_exhaustive()
    }
}
