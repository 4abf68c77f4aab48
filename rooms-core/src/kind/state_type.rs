//! The Rust type of the state that a kind keeps.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

#[cfg(feature = "schema")]
use super::TypeSchema;
use super::{EventType, Kind};

/// The type of a state.
#[derive(Clone, Copy)]
pub(crate) struct StateType {
    pub(crate) of: EventType,
    #[cfg(feature = "schema")]
    pub(crate) schema: Option<TypeSchema>,
}

impl Kind {
    /// Declares the type of the state of this kind's rooms, beside [`keep_state`](Self::keep_state), without which
    /// [`build`](crate::RoomManagerBuilder::build) is an error.
    ///
    /// [`RoomManager::typed_states`](crate::RoomManager::typed_states) then gives a handle that sets a `T` and nothing else, so
    /// that another type does not compile. What
    /// [`RoomManager::broadcast_state`](crate::RoomManager::broadcast_state) is given is compared in builds with debug
    /// assertions, and is [`BroadcastError::OtherState`](crate::BroadcastError::OtherState) there; in release builds nothing is
    /// compared.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rooms_core::{Kind, RoomManager};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Topic {
    ///     title: String,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let board = Kind::authenticated().keep_state(Duration::from_secs(86_400)).state::<Topic>();
    /// let rooms: RoomManager = RoomManager::builder().kind("board", board).build()?;
    /// let boards = rooms.typed_states::<Topic>("board")?;
    /// boards.room(7)?.set(&Topic { title: "Sprint".to_owned() }).await?;
    /// assert_eq!(boards.room(7)?.get().await?.map(|topic| topic.value.title).as_deref(), Some("Sprint"));
    /// # Ok(()) }
    /// ```
    pub fn state<T: Serialize + DeserializeOwned + 'static>(self) -> Self {
        let state = StateType {
            of: EventType::of::<T>(),
            #[cfg(feature = "schema")]
            schema: None,
        };
        Self { state_type: Some(state), ..self }
    }

    /// [`state`](Self::state), which is described in [`RoomManager::schema`](crate::RoomManager::schema).
    #[cfg(feature = "schema")]
    pub fn state_with_schema<T: Serialize + DeserializeOwned + schemars::JsonSchema + 'static>(self) -> Self {
        let mut kind = self.state::<T>();
        kind.state_type = kind.state_type.map(|state| StateType { schema: Some(TypeSchema::of::<T>()), ..state });
        kind
    }

    /// The type of its states, where that is declared and another one than this.
    pub(crate) fn other_state(&self, came: EventType) -> Option<&'static str> {
        self.state_type.map(|state| state.of).filter(|declared| *declared != came).map(|declared| declared.name)
    }
}

/// The name of the type.
impl fmt::Debug for StateType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt(f)
    }
}
