//! The last state of a room, on all nodes.

use serde::{Serialize, de::DeserializeOwned};

use super::RoomManager;
use crate::{
    bus::Position,
    context::{After, Shared},
    kind::EventType,
    receipt::BroadcastError,
    room_key::RoomKey,
};

/// The state of a room, as [`RoomManager::state`] reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomState<T> {
    /// Which of all that there were: for [`broadcast_state_after`](RoomManager::broadcast_state_after).
    pub revision: Position,
    /// What it is.
    pub value: T,
}

impl<S> RoomManager<S> {
    /// Sets the state of a room whose kind [keeps one](crate::Kind::keep_state), and tells the members on all nodes; gives
    /// its revision.
    ///
    /// The value is all of the state, as JSON. Members that have the state before are told what has changed, as a JSON merge
    /// patch (RFC 7396), where that is shorter; all others, and whoever joins later, are told all of it. A state that is the
    /// same as before is not sent.
    ///
    /// The bus is asked twice: for the state that there is, and to set this one in its place. Where two set a state at the
    /// same time, one of them gets [`BroadcastError::Conflict`]. To change what is there, read it with
    /// [`state`](Self::state) and use [`broadcast_state_after`](Self::broadcast_state_after). Dropping the future before it
    /// resolves may or may not set it.
    ///
    /// # Errors
    /// [`BroadcastError`]; [`BroadcastError::TooBig`] also where the kind turns a broadcast that is too long
    /// [into a `refresh`](crate::Oversize::Refresh), as what is not kept is nobody's state.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rooms_core::{BroadcastError, Kind, RoomKey, RoomManager};
    /// use serde_json::{Value, json};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let board = Kind::authenticated().keep_state(Duration::from_secs(86_400));
    /// let rooms: RoomManager = RoomManager::builder().kind("board", board).build()?;
    /// let room = RoomKey::new("board", 7)?;
    ///
    /// rooms.broadcast_state(&room, &json!({"title": "Sprint", "cards": {"1": "todo"}})).await?;
    /// let state = rooms.state::<Value>(&room).await?.expect("it was set just now");
    /// let mut changed = state.value.clone();
    /// changed["cards"]["1"] = json!("done");
    /// // The members are sent {"cards":{"1":"done"}}.
    /// rooms.broadcast_state_after(&room, Some(state.revision), &changed).await?;
    /// let late = rooms.broadcast_state_after(&room, Some(state.revision), &json!({})).await;
    /// assert!(matches!(late, Err(BroadcastError::Conflict { .. })));
    /// # Ok(()) }
    /// ```
    pub fn broadcast_state<'a, T: Serialize + ?Sized>(
        &'a self,
        room: &'a RoomKey,
        value: &T,
    ) -> impl Future<Output = Result<Position, BroadcastError>> + Send + use<'a, S, T> {
        set(&self.shared, room, After::Newest, value)
    }

    /// [`broadcast_state`](Self::broadcast_state) in place of the state of this revision; `None` where there is to be no
    /// state yet. So nobody's change is lost between reading and writing.
    ///
    /// # Errors
    /// As [`broadcast_state`](Self::broadcast_state); [`BroadcastError::Conflict`] where the state is another one by now:
    /// read it, and try again.
    pub fn broadcast_state_after<'a, T: Serialize + ?Sized>(
        &'a self,
        room: &'a RoomKey,
        revision: Option<Position>,
        value: &T,
    ) -> impl Future<Output = Result<Position, BroadcastError>> + Send + use<'a, S, T> {
        set(&self.shared, room, After::Revision(revision), value)
    }

    /// The state of a room, as the bus has it now; `None` where none was set, or it was not used for so long that it is not
    /// kept any more.
    ///
    /// # Errors
    /// [`BroadcastError::Bus`], [`BroadcastError::NoState`]; [`BroadcastError::Decode`] where it is no `T`.
    pub async fn state<T: DeserializeOwned>(&self, room: &RoomKey) -> Result<Option<RoomState<T>>, BroadcastError> {
        get(&self.shared, room).await
    }
}

pub(super) async fn get<T: DeserializeOwned>(
    shared: &Shared,
    room: &RoomKey,
) -> Result<Option<RoomState<T>>, BroadcastError> {
    let Some(kept) = shared.state(room).await? else { return Ok(None) };
    let value =
        serde_json::from_slice(&kept.state).map_err(|source| BroadcastError::Decode { room: room.clone(), source })?;
    Ok(Some(RoomState { revision: kept.revision, value }))
}

/// Encodes the value now, and sets it when awaited.
pub(super) fn set<'a, T: Serialize + ?Sized>(
    shared: &'a Shared,
    room: &'a RoomKey,
    after: After,
    value: &T,
) -> impl Future<Output = Result<Position, BroadcastError>> + Send + use<'a, T> {
    let payload = serde_json::to_vec(value);
    async move {
        shared.outgoing(room).check_state(EventType::of::<T>())?;
        let payload = payload.map_err(|source| BroadcastError::Encode { room: room.clone(), source })?;
        shared.broadcast_state(room, payload.into(), after).await
    }
}
