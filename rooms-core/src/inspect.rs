//! A node, its rooms and its users, as whoever operates it sees them; see [`reports`](crate::reports).

mod explain;

use std::{sync::Arc, time::Duration};

use self::explain::Known;
use crate::{
    auth::IdentityError,
    context::Shared,
    manager::RoomManager,
    reports::{Explanation, FleetReport, Found, NodeReport, NodeSummary, RoomReport, Search, UserReport},
    room_key::{RoomKey, check_id},
};

/// Looking at what is there. Nothing of it waits for a lock that is held over all rooms, and nothing is kept for it while
/// nobody asks, but for [`Incident`](crate::reports::Incident)s. It shows users' ids, and neither tokens, claims nor payloads.
impl<S> RoomManager<S> {
    /// This node as a whole: its numbers, its peers, its largest rooms and slowest connections, what went wrong lately.
    ///
    /// It is put together at most once a second, however many ask: whoever asks in between is given the same. At 100,000 rooms
    /// that takes up to some 200 ms on a busy machine of two cores, in turns of 256 rooms between which other tasks run;
    /// `cargo bench -p rooms-core --bench inspector` measures it. May be dropped at any time.
    ///
    /// ```
    /// use rooms_core::{Kind, RoomManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms: RoomManager = RoomManager::builder().kind("post", Kind::authenticated()).build()?;
    /// let report = rooms.inspect().await;
    /// assert_eq!((report.connections, &*report.kinds[0].kind), (0, "post"));
    /// println!("{}", serde_json::to_string(&*report)?);
    /// # Ok(()) }
    /// ```
    pub async fn inspect(&self) -> Arc<NodeReport> {
        self.shared.node_report().await
    }

    /// Each node in a few numbers: this one, and those that answer within `Limits::answer_timeout`. At most 256 other nodes are
    /// asked.
    pub async fn inspect_nodes(&self) -> FleetReport<NodeSummary> {
        let one = self.shared.summary();
        self.shared
            .ask_all(one, Search::Node {}, |found| match found {
                Found::Node(summary) => Some(summary),
                _ => None,
            })
            .await
    }

    /// A room, on this node and on all that answer within `Limits::answer_timeout`.
    pub async fn inspect_room(&self, room: &RoomKey) -> FleetReport<RoomReport> {
        let one = self.shared.room_report(room).await;
        self.shared
            .ask_all(one, Search::Room(room.clone()), |found| match found {
                Found::Room(report) => Some(report),
                _ => None,
            })
            .await
    }

    /// A user's connections with their rooms, and what went wrong for the user lately; on this node and on all that answer
    /// within `Limits::answer_timeout`. Goes through all rooms, for one who asks at a time: some tens of milliseconds at 100,000
    /// rooms.
    ///
    /// # Errors
    /// There can be no such user.
    pub async fn inspect_user(&self, user: &str) -> Result<FleetReport<UserReport>, IdentityError> {
        check_id(user)?;
        let one = self.shared.user_report(user).await;
        let all = self.shared.ask_all(one, Search::User(user.into()), |found| match found {
            Found::User(report) => Some(report),
            _ => None,
        });
        Ok(all.await)
    }

    /// Why a user hears nothing, in a room or at all: what is known from the user's token to now, on all nodes, each in a sentence.
    ///
    /// It asks the other nodes as [`inspect_user`](Self::inspect_user) does, and no rule of the application. What a node does not
    /// keep it can't tell: it remembers the newest 256 refusals, closes, denied joins and losses, each, since it began.
    ///
    /// # Errors
    /// There can be no such user.
    ///
    /// ```
    /// use rooms_core::{Kind, RoomKey, RoomManager, reports::Weight};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms: RoomManager = RoomManager::builder().kind("post", Kind::new()).build()?;
    /// let why = rooms.explain("5", Some(&RoomKey::new("post", 42)?)).await?;
    /// let problems: Vec<_> = why.findings.iter().filter(|finding| finding.weight == Weight::Problem).collect();
    /// assert!(problems.iter().any(|problem| problem.text.starts_with("The kind `post` has no rule")));
    /// # Ok(()) }
    /// ```
    pub async fn explain(&self, user: &str, room: Option<&RoomKey>) -> Result<Explanation, IdentityError> {
        let users = self.inspect_user(user).await?;
        let (rooms, nodes) = match room {
            Some(room) => (Some(self.inspect_room(room).await), self.inspect_nodes().await),
            None => (None, self.inspect_nodes().await),
        };
        let kinds = &self.inspect().await.kinds;
        let now = self.shared.incidents.now();
        let known = Known { user, room, users: &users, rooms: rooms.as_ref(), nodes: &nodes, kinds, now };
        Ok(Explanation {
            user: user.into(),
            room: room.cloned(),
            at: now,
            findings: known.findings(),
            silent: known.silent(),
        })
    }
}

impl Shared {
    /// What this node and the others say.
    async fn ask_all<T>(&self, one: T, search: Search, is: impl Fn(Found) -> Option<T>) -> FleetReport<T> {
        let within: Duration = self.limits.answer_timeout;
        let (found, silent) = self.presence.search(search, within).await;
        FleetReport { nodes: std::iter::once(one).chain(found.into_iter().filter_map(is)).collect(), silent }
    }
}
