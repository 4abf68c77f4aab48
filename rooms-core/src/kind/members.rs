//! Which users are in a room, as far as a kind asks for that.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use serde_json::Value;

use super::Kind;
use crate::{
    auth::Identity,
    limits::Limits,
    presence::{Rules, entry::Info},
    rate_limited_log::RateLimitedLog,
    room_key::RoomKey,
};

/// The longest `leave_grace`. A minute: past that a member is away, not reloading.
const MAX_GRACE: Duration = Duration::from_secs(60);

/// The application's function, which is called for each join.
pub(super) struct MemberInfo {
    info: Box<dyn Fn(&Identity, &RoomKey) -> Value + Send + Sync>,
    /// That it panicked, in the log: clients can have it called as often as they may join.
    panicked: RateLimitedLog,
    /// That it said too much. It is made of claims, and so of what an issuer puts there.
    too_much: RateLimitedLog,
}

impl Kind {
    /// Lists who is in a room, over all nodes: [`RoomManager::members`](crate::RoomManager::members) lists them,
    /// `room_joined` names up to a hundred of them, and `viewer_joined` and `viewer_left` name the users who came and
    /// went. A user with five tabs on three nodes joins once and leaves once.
    ///
    /// Costs some hundred bytes for each user and node. At most `Limits::max_named_users` users of a room are named on each node;
    /// the others are counted. Everybody in a room sees its members, unless there is a
    /// [`members_rule`](Self::members_rule). The same on all nodes.
    pub fn list_members(self) -> Self {
        Self { names: true, ..self }
    }

    /// Sets what is told about a member besides the user's id; turns [`list_members`](Self::list_members) on.
    ///
    /// Called once for each join, and not again when a token is refreshed. At most 512 bytes of JSON, nested at most 16 deep;
    /// what is longer or deeper is logged and left out, and `null` adds nothing. Whoever sees the members sees it. Where a user has
    /// several connections on a node, the newest one's is shown.
    pub fn member_info<F>(self, info: F) -> Self
    where
        F: Fn(&Identity, &RoomKey) -> Value + Send + Sync + 'static,
    {
        let (panicked, too_much) = (RateLimitedLog::default(), RateLimitedLog::default());
        Self { names: true, info: Some(Arc::new(MemberInfo { info: Box::new(info), panicked, too_much })), ..self }
    }

    /// Goes on counting, and naming, a member that left for so long; one whose user joins the room again meanwhile has
    /// never left. Hides the reload of a page. At most a minute; zero unless set.
    ///
    /// Where the page comes back on another node, its user is not told to have left either. The number is one too high
    /// there until the first node has heard of it, and for the whole time in a kind without
    /// [`list_members`](Self::list_members).
    pub fn leave_grace(self, grace: Duration) -> Self {
        Self { leave_grace: grace.min(MAX_GRACE), ..self }
    }

    /// Whether the rooms know their users by name.
    pub(crate) const fn names_members(&self) -> bool {
        self.names
    }

    /// Whether a room is to know which user a member is.
    pub(crate) const fn knows_users(&self) -> bool {
        self.names || !self.leave_grace.is_zero()
    }

    /// What is told about a member.
    pub(crate) fn info(&self, identity: &Identity, room: &RoomKey) -> Option<Info> {
        let MemberInfo { info, panicked, too_much } = self.info.as_deref()?;
        let Ok(value) = std::panic::catch_unwind(AssertUnwindSafe(|| info(identity, room))) else {
            if let Some(left_out) = panicked.line() {
                tracing::error!(hook = "member_info", left_out, "a hook panicked");
            }
            return None;
        };
        if value.is_null() {
            return None;
        }
        let info = Info::new(&value);
        if let Err(fault) = &info
            && let Some(left_out) = too_much.line()
        {
            tracing::error!(kind = room.kind(), %fault, left_out, "what `member_info` says about a member is left out");
        }
        info.ok()
    }

    /// How its rooms are counted.
    pub(crate) fn counting(&self, limits: &Limits) -> Rules {
        Rules {
            max_named: self.names_members().then_some(limits.max_named_users),
            leave_grace: self.leave_grace,
            tells_occupancy: self.on_occupancy.is_some(),
            hides_members: self.hides_members(),
        }
    }
}
