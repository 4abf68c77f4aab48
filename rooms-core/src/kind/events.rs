//! The Rust types that a kind declares: of what is broadcast to its rooms, and of what members publish there.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use super::{EventType, HookError, Kind, Member};
use crate::payload::{Payload, PayloadError};

/// Makes the JSON Schema of a type.
#[cfg(feature = "schema")]
#[derive(Clone, Copy)]
pub(crate) struct TypeSchema(pub(crate) fn(&mut schemars::SchemaGenerator) -> schemars::Schema);

#[cfg(feature = "schema")]
impl TypeSchema {
    pub(super) fn of<T: schemars::JsonSchema>() -> Self {
        Self(|generator| generator.subschema_for::<T>())
    }
}

/// The events of a kind.
#[derive(Clone, Copy)]
pub(crate) struct Events {
    pub(crate) of: EventType,
    /// Reads a payload as one of the events, and writes it anew.
    rewrite: fn(&Payload) -> Result<Payload, PayloadError>,
    #[cfg(feature = "schema")]
    pub(crate) schema: Option<TypeSchema>,
}

/// What members publish, and what it becomes.
#[derive(Clone, Copy)]
pub(crate) struct Publications {
    pub(crate) of: EventType,
    pub(crate) becomes: EventType,
    #[cfg(feature = "schema")]
    pub(crate) schema: Option<TypeSchema>,
}

impl Kind {
    /// Declares the events of the rooms of this kind: what is broadcast there is an `E`, usually an enum with
    /// `#[serde(tag = "type")]`.
    ///
    /// [`RoomManager::typed`](crate::RoomManager::typed) then gives a handle whose broadcasts take an `E` and nothing else, so
    /// that another type does not compile. A broadcast whose type the compiler does not compare with the declared one, such as
    /// [`RoomManager::broadcast`](crate::RoomManager::broadcast), is compared in builds with debug assertions, and is
    /// [`BroadcastError::OtherType`](crate::BroadcastError::OtherType) there; in release builds nothing is compared.
    ///
    /// What a member publishes reaches the others as an `E` or not at all, in every build: what it is after
    /// [`on_publish`](Self::on_publish) is read as an `E` and written anew, and is answered by a `bad_message` error where it
    /// is none. [`publishes`](Self::publishes) declares another type for it. What a server publishes by the bus' own means is
    /// passed on as it is.
    ///
    /// No event has the `type` of an event of the server's; [`protocol`](crate::protocol) lists them.
    /// With the feature `schema`, and `events_with_schema` in place of this, such a type is an error of
    /// [`build`](crate::RoomManagerBuilder::build).
    ///
    /// ```
    /// use rooms_core::{Kind, RoomManager};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// #[serde(tag = "type", rename_all = "snake_case")]
    /// enum PostEvent {
    ///     NewComment { id: u64, text: String },
    ///     Liked { likes: u64 },
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms: RoomManager =
    ///     RoomManager::builder().kind("post", Kind::authenticated().events::<PostEvent>()).build()?;
    /// let posts = rooms.typed::<PostEvent>("post")?;
    /// posts.room(42)?.broadcast(&PostEvent::Liked { likes: 3 }).await?;
    /// # Ok(()) }
    /// ```
    pub fn events<E: Serialize + DeserializeOwned + 'static>(self) -> Self {
        let events = Events {
            of: EventType::of::<E>(),
            rewrite: |payload| Payload::encode(&payload.parse::<E>()?),
            #[cfg(feature = "schema")]
            schema: None,
        };
        Self { events: Some(events), ..self }
    }

    /// Declares what members publish, and runs for each publication, once the publish rule has said yes: as
    /// [`on_publish`](Self::on_publish), whose place it takes, with what came as a `P`. What the hook returns is broadcast; in
    /// a kind with [events](Self::events) it is of their type, or [`build`](crate::RoomManagerBuilder::build) is an error.
    ///
    /// What is no `P` is answered by a `bad_message` error that says what is wrong, and reaches neither the hook nor anybody.
    ///
    /// ```
    /// use rooms_core::Kind;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// #[serde(tag = "type", rename_all = "snake_case")]
    /// enum ChatEvent {
    ///     Said { from: String, text: String },
    /// }
    ///
    /// #[derive(Deserialize)]
    /// struct Line {
    ///     text: String,
    /// }
    ///
    /// let channel = Kind::authenticated().allow_publish().events::<ChatEvent>().publishes(|member, line: Line| async move {
    ///     Ok(ChatEvent::Said { from: member.identity().user().to_owned(), text: line.text })
    /// });
    /// # let _ = channel;
    /// ```
    pub fn publishes<P, E, F, Fut>(self, hook: F) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        E: Serialize + 'static,
        F: Fn(Member, P) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<E, HookError>> + Send + 'static,
    {
        let kind = self.on_publish(move |member, said: Payload| {
            let answer = said.parse::<P>().map(|said| hook(member, said));
            async move {
                let event = answer.map_err(HookError::bad_payload)?.await?;
                Payload::encode(&event).map_err(HookError::from)
            }
        });
        let publications = Publications {
            of: EventType::of::<P>(),
            becomes: EventType::of::<E>(),
            #[cfg(feature = "schema")]
            schema: None,
        };
        Self { publications: Some(publications), ..kind }
    }

    /// [`events`](Self::events), which are described in [`RoomManager::schema`](crate::RoomManager::schema).
    #[cfg(feature = "schema")]
    pub fn events_with_schema<E: Serialize + DeserializeOwned + schemars::JsonSchema + 'static>(self) -> Self {
        let mut kind = self.events::<E>();
        kind.events = kind.events.map(|events| Events { schema: Some(TypeSchema::of::<E>()), ..events });
        kind
    }

    /// [`publishes`](Self::publishes), of what is described in [`RoomManager::schema`](crate::RoomManager::schema).
    #[cfg(feature = "schema")]
    pub fn publishes_with_schema<P, E, F, Fut>(self, hook: F) -> Self
    where
        P: DeserializeOwned + schemars::JsonSchema + Send + 'static,
        E: Serialize + 'static,
        F: Fn(Member, P) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<E, HookError>> + Send + 'static,
    {
        let mut kind = self.publishes(hook);
        kind.publications = kind.publications.map(|said| Publications { schema: Some(TypeSchema::of::<P>()), ..said });
        kind
    }

    /// The type of its events, where that is declared and another one than this.
    pub(crate) fn other_type(&self, came: EventType) -> Option<&'static str> {
        self.events.map(|events| events.of).filter(|declared| *declared != came).map(|declared| declared.name)
    }

    /// What a member published, after the hook, as an event of this kind.
    pub(super) fn as_event(&self, payload: Payload) -> Result<Payload, HookError> {
        match (&self.events, &self.publications) {
            // Those of `publishes` are events already.
            (Some(events), None) => (events.rewrite)(&payload).map_err(HookError::bad_payload),
            _ => Ok(payload),
        }
    }
}

/// The names of the types.
impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt(f)
    }
}

impl fmt::Debug for Publications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt(f)
    }
}
