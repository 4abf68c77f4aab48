//! What is broadcast to a room, for the service itself.

use super::RoomManager;
use crate::{connection::JoinError, join_options::JoinOptions, room_key::RoomKey, subscription::Subscription};

impl<S> RoomManager<S> {
    /// Receives what is broadcast to a room, from whatever node, in the service itself: a stream, for a search index that
    /// follows the posts, or a bot in a channel. What is broadcast after this has resolved is received.
    ///
    /// It is no viewer and nobody's connection: no rule is asked, no hook runs, and nobody is told. Its node receives the
    /// room's messages as if it had a member there; on each node that subscribes the stream has all of them.
    ///
    /// A stream that is not read holds up nobody: as much waits for it as for a member, `Limits::max_outbox_messages` and
    /// `max_outbox_bytes`, and then the oldest make room, which [`Received::Missed`](crate::Received::Missed) says in their
    /// place. It also says where the bus may have lost some. In a room with a [history](crate::Kind::history) what the bus has
    /// lost is read again first, as for members, and each message has its position: whoever keeps the last one can go on from
    /// there by [`subscribe_with`](Self::subscribe_with).
    ///
    /// Dropping the future leaves the room.
    ///
    /// # Errors
    /// [`JoinError`]: [`NotAllowed`](JoinError::NotAllowed) where there is no such kind, and
    /// [`Unavailable`](JoinError::Unavailable) where the bus did not confirm the subscription, or give the history, within
    /// `Limits::subscribe_timeout`.
    ///
    /// ```
    /// use futures::StreamExt as _;
    /// use rooms_core::{Kind, Received, RoomKey, RoomManager};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Debug, PartialEq, Serialize, Deserialize)]
    /// #[serde(tag = "type", rename_all = "snake_case")]
    /// enum PostEvent {
    ///     Liked { likes: u64 },
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms: RoomManager =
    ///     RoomManager::builder().kind("post", Kind::authenticated().events::<PostEvent>()).build()?;
    /// let room = RoomKey::new("post", 42)?;
    /// let mut events = rooms.subscribe(&room).await?.typed::<PostEvent>();
    /// rooms.broadcast(&room, &PostEvent::Liked { likes: 3 }).await?;
    /// match events.next().await {
    ///     Some(Ok(Received::Message { data, .. })) => assert_eq!(data, PostEvent::Liked { likes: 3 }),
    ///     Some(Ok(Received::Missed(why))) => panic!("read the post again: {why:?}"),
    ///     other => panic!("{other:?}"),
    /// }
    /// assert_eq!(rooms.local_viewers(&room), 0);
    /// # Ok(()) }
    /// ```
    pub async fn subscribe(&self, room: &RoomKey) -> Result<Subscription, JoinError> {
        self.subscribe_with(room, JoinOptions::new()).await
    }

    /// [`subscribe`](Self::subscribe), in a room with a history: with what came after a position, by
    /// [`JoinOptions::since`], or with the newest messages, by [`JoinOptions::newest`]. Where the history does not have all
    /// that came since, the first that is received is [`Received::Missed`](crate::Received::Missed).
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn subscribe_with(&self, room: &RoomKey, options: JoinOptions) -> Result<Subscription, JoinError> {
        Subscription::begin(&self.shared, room, options).await
    }
}
