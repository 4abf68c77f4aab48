//! The rooms of a kind that declares its events.

use std::sync::Arc;

use serde::Serialize;

use super::RoomManager;
use crate::{
    kind::Tell,
    typed::{TypedError, TypedRooms},
};

impl<S> RoomManager<S> {
    /// A handle to the rooms of a kind whose declared [events](crate::Kind::events) are `E`, which broadcasts those and
    /// nothing else.
    ///
    /// # Errors
    /// [`TypedError`], where there is no such kind, or it declares something else: so ask for it where the service starts.
    pub fn typed<E: Serialize + 'static>(&self, kind: &str) -> Result<TypedRooms<E>, TypedError> {
        TypedRooms::of(Arc::clone(&self.shared) as Arc<dyn Tell>, &self.shared.kinds, kind)
    }

    /// What its kinds declare [with a schema](crate::Kind::events_with_schema), and what the protocol adds: as JSON Schema, and
    /// as a document of AsyncAPI with this title and this version, which are the application's.
    ///
    /// ```
    /// use rooms_core::{Kind, RoomManager};
    /// use schemars::JsonSchema;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize, JsonSchema)]
    /// #[serde(tag = "type", rename_all = "snake_case")]
    /// enum PostEvent {
    ///     Liked { likes: u64 },
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let posts = Kind::authenticated().events_with_schema::<PostEvent>();
    /// let rooms: RoomManager = RoomManager::builder().kind("post", posts).build()?;
    /// let schema = rooms.schema("Posts", "1.0.0");
    /// assert_eq!(schema.async_api()["channels"]["post"]["address"], "post:{id}");
    /// assert_eq!(schema.json_schema()["properties"]["post"]["properties"]["publish"], false);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "schema")]
    #[must_use]
    pub fn schema(&self, title: &str, version: &str) -> crate::Schema {
        crate::Schema::of(&self.shared.kinds, title, version)
    }
}
