//! How many are in a room, and who, over all nodes.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::RoomManager;
use crate::{
    context::Shared,
    presence::{
        Listed, Share,
        entry::{Entry, User},
    },
    room_key::RoomKey,
};

/// How many connections are in a room, over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ViewerCount {
    /// The sum over the nodes that are live.
    pub viewers: usize,
    /// Whether every live node is in it. Each node's part is at most `Limits::viewer_window` and the way through the bus
    /// old. `false` in the first moments of a process, which has not heard of all others yet, while the bus is down, while a
    /// node was not yet asked again after a loss, where one did not answer, and once the runtime that the manager was built
    /// in has ended.
    pub exact: bool,
}

/// Who is in a room, over all nodes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Members {
    /// The users, who came first first.
    pub users: Vec<Present>,
    /// Connections of users that are not named, because a node has more than `Limits::max_named_users` of them.
    pub unnamed: usize,
    /// As [`ViewerCount::exact`].
    pub exact: bool,
}

/// A user in a room.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Present {
    /// Who.
    #[serde(serialize_with = "text")]
    pub user: Arc<str>,
    /// With how many connections, over all nodes.
    pub connections: usize,
    /// When the first of these joined, by the clock of its node. As JSON: milliseconds since 1970.
    #[serde(serialize_with = "milliseconds")]
    pub since: SystemTime,
    /// What [`Kind::member_info`](crate::Kind::member_info) says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<Value>,
}

/// Why members can't be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MembersError {
    /// The tokio runtime that the manager was built in has ended, so that nothing is kept up to date.
    #[error("{room}: the tokio runtime that the rooms were built in has ended")]
    RuntimeEnded {
        /// Which room.
        room: RoomKey,
    },
    /// The kind does not keep them; see [`Kind::list_members`](crate::Kind::list_members).
    #[error("{room}: rooms of this kind do not keep their members; `Kind::list_members` makes them")]
    NotKept {
        /// Which room.
        room: RoomKey,
    },
}

impl<S> RoomManager<S> {
    /// How many connections are in a room, over all nodes; [observers](crate::Kind::observe_rule) are not counted.
    ///
    /// On a node with members of the room this is known, and resolves at once. Another asks the live nodes, which takes a
    /// round trip, and `Limits::answer_timeout` at the most. May be dropped at any time.
    ///
    /// ```
    /// use rooms_core::{RoomKey, RoomManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms: RoomManager = RoomManager::builder().build()?;
    /// let count = rooms.viewers(&RoomKey::new("post", 42)?).await;
    /// assert_eq!(count.viewers, 0);
    /// # Ok(()) }
    /// ```
    pub async fn viewers(&self, room: &RoomKey) -> ViewerCount {
        let shared = &self.shared;
        if shared.runtime.has_ended() {
            return ViewerCount { viewers: self.local_viewers(room), exact: false };
        }
        match shared.registry.find(room).filter(|room| room.knows_others()) {
            Some(known) => ViewerCount { viewers: known.share(Share::viewers), exact: shared.presence.is_settled() },
            None => {
                let (entries, exact) = self.survey(room).await;
                let others = entries.iter().map(|entry| entry.connections as usize);
                ViewerCount { viewers: others.fold(self.local_viewers(room), usize::saturating_add), exact }
            }
        }
    }

    /// Who is in a room of a kind with [`list_members`](crate::Kind::list_members), over all nodes.
    ///
    /// As [`viewers`](Self::viewers): known at once on a node with members of the room, asked for on another. May be
    /// dropped at any time.
    ///
    /// # Errors
    /// [`MembersError`].
    pub async fn members(&self, room: &RoomKey) -> Result<Members, MembersError> {
        let shared = &self.shared;
        if !shared.kinds.get(room.kind()).is_some_and(|kind| kind.names_members()) {
            return Err(MembersError::NotKept { room: room.clone() });
        }
        if shared.runtime.has_ended() {
            return Err(MembersError::RuntimeEnded { room: room.clone() });
        }
        let here = shared.registry.find(room);
        if let Some(here) = here.as_ref().filter(|here| here.knows_others())
            && let Some(Listed { users, unnamed }) = here.share(Share::listed)
        {
            return Ok(Members { users: merge(&users), unnamed, exact: shared.presence.is_settled() });
        }
        let (entries, exact) = self.survey(room).await;
        let mut all =
            here.and_then(|here| here.share(Share::listed_here)).unwrap_or(Listed { users: Vec::new(), unnamed: 0 });
        for Entry { connections, users, .. } in entries {
            match users {
                Some(users) => {
                    all.users.extend(users.here);
                    all.unnamed = all.unnamed.saturating_add(users.unnamed as usize);
                }
                None => all.unnamed = all.unnamed.saturating_add(connections as usize),
            }
        }
        Ok(Members { users: merge(&all.users), unnamed: all.unnamed, exact })
    }

    /// What the other nodes have in a room that is not here; nothing, once the runtime has ended.
    async fn survey(&self, room: &RoomKey) -> (Vec<Entry>, bool) {
        let Shared { runtime, presence, .. } = &*self.shared;
        runtime.wait(presence.survey(room)).await.unwrap_or_default()
    }
}

/// One for each user, whatever the nodes.
fn merge(users: &[User]) -> Vec<Present> {
    let mut all: HashMap<&str, Present> = HashMap::new();
    for User { user, connections, since, info } in users {
        let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(*since)).unwrap_or(SystemTime::UNIX_EPOCH);
        let info = info.as_ref().and_then(|info| serde_json::from_str(info.as_str()).ok());
        let present = all.entry(&user.0).or_insert_with(|| Present {
            user: Arc::clone(&user.0),
            connections: 0,
            since,
            info: None,
        });
        present.connections = present.connections.saturating_add(*connections as usize);
        present.since = present.since.min(since);
        present.info = present.info.take().or(info);
    }
    let mut all: Vec<_> = all.into_values().collect();
    all.sort_by(|a, b| (a.since, &a.user).cmp(&(b.since, &b.user)));
    all
}

fn text<S: Serializer>(user: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(user)
}

fn milliseconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
