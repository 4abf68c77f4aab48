//! A member of a room whose kind declares its events.

use std::{fmt, marker::PhantomData};

use serde::Serialize;

use super::TypedError;
use crate::{
    kind::{EventType, Member, Sent},
    receipt::{BroadcastError, Receipt},
};

/// A member, in the hands of a hook of a kind whose events are `E`: what it is sent, and what is broadcast by it, is one of
/// those, or the program does not compile.
///
/// ```
/// use rooms_core::{HookError, Kind, TypedMember};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(tag = "type", rename_all = "snake_case")]
/// enum ChatEvent {
///     Said { text: String },
///     Hint { text: String },
/// }
///
/// let channel = Kind::authenticated().events::<ChatEvent>().on_message(|member, message| async move {
///     let text = message.parse::<String>()?;
///     let member = TypedMember::<ChatEvent>::new(&member).map_err(|_| HookError::Unavailable)?;
///     member.send(&ChatEvent::Hint { text: "You said it.".to_owned() });
///     member.broadcast_to_others(&ChatEvent::Said { text }).await.map_err(|_| HookError::Unavailable)?;
///     Ok(())
/// });
/// # let _ = channel;
/// ```
pub struct TypedMember<'a, E> {
    member: &'a Member,
    event: PhantomData<fn(&E)>,
}

impl<'a, E: Serialize + 'static> TypedMember<'a, E> {
    /// The member, where the kind of its room declares no other type than `E` for its events.
    ///
    /// # Errors
    /// [`TypedError::OtherType`].
    pub fn new(member: &'a Member) -> Result<Self, TypedError> {
        let asked = EventType::of::<E>();
        match member.other_type(asked) {
            Some(declared) => {
                Err(TypedError::OtherType { kind: member.room().kind().to_owned(), declared, asked: asked.name })
            }
            None => Ok(Self { member, event: PhantomData }),
        }
    }

    /// Sends it an event, as [`Member::send`] does.
    pub fn send(&self, event: &E) -> Sent {
        self.member.send(event)
    }

    /// Sends an event to every member of the room on all nodes, as [`Member::broadcast`] does.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn broadcast(&self, event: &E) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<E> {
        self.member.broadcast(event)
    }

    /// [`broadcast`](Self::broadcast) without this connection.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn broadcast_to_others(
        &self,
        event: &E,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<E> {
        self.member.broadcast_to_others(event)
    }
}

impl<E> fmt::Debug for TypedMember<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedMember").field(self.member).finish()
    }
}
