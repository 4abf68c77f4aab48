//! Kinds of rooms: who may join, and what the application does when something happens in one.

mod binary;
mod calls;
mod event_type;
mod events;
mod hook_error;
mod hooks;
mod member;
mod members;
mod oversize;
mod rights;
mod rules;
mod state_type;

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "schema")]
pub(crate) use self::events::TypeSchema;
use self::{
    binary::Binary,
    hooks::{OnJoin, OnLeave, OnMessage, OnOccupancy, OnPublish},
    members::MemberInfo,
};
pub(crate) use self::{
    event_type::EventType,
    events::{Events, Publications},
    member::{Joining, Said, Tell},
    rights::{NotLetIn, Rights, Sort},
    state_type::StateType,
};
pub use self::{
    hook_error::HookError,
    member::{Member, Sent},
    oversize::Oversize,
};
use crate::{auth::Rule, bus::Retention, metrics::KindMetrics, outbox::Overflow};

/// The rule and the hooks of all rooms of one kind, such as `post` for `post:42`.
///
/// A kind begins with default deny: without a rule nobody joins, and without a rule of its own nobody publishes.
///
/// The hooks of a connection run one after another, but for `on_leave`, which runs beside the others and before the next
/// `on_join` of the same room. Each has `Limits::hook_timeout`; a panic or a longer run closes that connection with 1011 and touches
/// no other. A hook says no by a [`HookError`]. When its connection ends, a hook at work is dropped where it stands, within
/// `Limits::close_timeout` if it was the client who left: what has to be finished belongs in a task.
///
/// ```
/// use rooms_core::Kind;
/// use serde_json::json;
///
/// let posts = Kind::new()
///     .join_rule(|who, room| async move { who.user() != "mallory" && room.id() != "secret" })
///     .on_join(|member| async move { Ok(json!({"title": format!("Post {}", member.room().id())})) })
///     .on_message(|member, message| async move {
///         member.send(&json!({"type": "echo", "of": message.json()?}));
///         Ok(())
///     });
/// let notices = Kind::owner_only();
/// # let _ = (posts, notices);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Kind {
    pub(crate) rule: Rule,
    pub(crate) publish: Rule,
    /// Who sees the members.
    members: Rule,
    /// Who may be in a room without being counted.
    observe: Rule,
    /// How often the rules are asked about one who is in a room.
    pub(crate) ask_again: Option<Duration>,
    pub(crate) overflow: Overflow,
    on_join: Option<Arc<OnJoin>>,
    on_message: Option<Arc<OnMessage>>,
    on_publish: Option<Arc<OnPublish>>,
    binary: Binary,
    on_leave: Option<Arc<OnLeave>>,
    on_occupancy: Option<Arc<OnOccupancy>>,
    names: bool,
    info: Option<Arc<MemberInfo>>,
    pub(crate) leave_grace: Duration,
    pub(crate) history: Option<Retention>,
    pub(crate) oversize: Oversize,
    /// For how long a state is kept that nobody uses.
    pub(crate) state: Option<Duration>,
    pub(crate) state_type: Option<StateType>,
    pub(crate) events: Option<Events>,
    /// What members publish, where that is declared.
    pub(crate) publications: Option<Publications>,
    /// Those of nobody before the manager is built.
    pub(crate) metrics: Arc<KindMetrics>,
}

impl Kind {
    /// A kind that nobody may join, until [`join_rule`](Self::join_rule) says who may.
    pub fn new() -> Self {
        Self {
            rule: Rule::Nobody,
            publish: Rule::Nobody,
            members: Rule::Everybody,
            observe: Rule::Nobody,
            ask_again: None,
            overflow: Overflow::Close,
            on_join: None,
            on_message: None,
            on_publish: None,
            binary: Binary::default(),
            on_leave: None,
            on_occupancy: None,
            names: false,
            info: None,
            leave_grace: Duration::ZERO,
            history: None,
            oversize: Oversize::Error,
            state: None,
            state_type: None,
            events: None,
            publications: None,
            metrics: Arc::default(),
        }
    }

    /// A kind that everybody may join, [guests](crate::Identity::guest) too.
    pub fn public() -> Self {
        Self { rule: Rule::Everybody, ..Self::new() }
    }

    /// A kind that everybody who authenticated may join; [guests](crate::Identity::guest) may not.
    pub fn authenticated() -> Self {
        Self { rule: Rule::Authenticated, ..Self::new() }
    }

    /// A kind whose room is joined by the user of its id alone: `user:5` by user 5.
    pub fn owner_only() -> Self {
        Self { rule: Rule::Owner, ..Self::new() }
    }

    /// Sets what happens to a member that does not keep up; [`Overflow::Close`] unless set.
    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }

    /// Keeps the newest messages of a room, on the bus, for those who were away: so much of them, [`Retention`].
    ///
    /// Each message then has a position, and a client that comes back with the last one that it has is given what came
    /// after it, in order and once; or one `resync`, where the history does not have all of that. See
    /// [`protocol`](crate::protocol). Broadcasting is appending to the history and publishing in one step: where the bus is
    /// down it is an error, as a message that only this node's members were given would have no position.
    ///
    /// With [`Overflow::Resync`](crate::Overflow::Resync) a member that reads slowly is given what it missed, too, once it reads.
    ///
    /// The bus has to keep histories, as [`LocalBus`](crate::LocalBus) does in this process's memory; where it does not,
    /// [`build`](crate::RoomManagerBuilder::build) is an error. The same on all nodes. A node with members in the room has a
    /// copy of the history in its memory. What others publish to the room by the bus' own means, and not by appending,
    /// reaches the members at once, and is not kept.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rooms_core::{Kind, bus::Retention};
    ///
    /// let channel = Kind::authenticated().history(Retention::messages(100).age(Duration::from_secs(86_400)));
    /// # let _ = channel;
    /// ```
    pub fn history(self, retention: Retention) -> Self {
        Self { history: Some(retention), ..self }
    }

    /// Keeps the last state of each room, on the bus, that [`broadcast_state`](crate::RoomManager::broadcast_state) sets: a
    /// member is told all of it when it joins, and what has changed from then on, each with a revision. See
    /// [`protocol`](crate::protocol). [`state`](Self::state) declares its type.
    ///
    /// A state is kept for `unused` after it was set, or read for a join, for the last time; 1 ms to 30 days. While there
    /// are members in the room it is not unused: the node looks whether it has missed a state twice a minute. A state has at
    /// most `Limits::max_broadcast_bytes`, and each node with members in the room has a copy of it.
    ///
    /// The bus has to keep states, as [`LocalBus`](crate::LocalBus) does in this process's memory; where it does not,
    /// [`build`](crate::RoomManagerBuilder::build) is an error. The same on all nodes. A kind may have a
    /// [`history`](Self::history) as well: the state is then for what the page shows, and the history for what happened.
    /// Between the two there is no order.
    pub fn keep_state(self, unused: Duration) -> Self {
        Self { state: Some(unused), ..self }
    }

    /// Sets what a broadcast becomes that is longer than `Limits::max_broadcast_bytes`; an error unless set. With
    /// [`Oversize::Refresh`] the members are told to fetch, by an event `refresh`, and the broadcast is `Ok`: for what they
    /// could fetch as well, such as a list that has grown. In a kind with a [`history`](Self::history) the event has its
    /// place there.
    ///
    /// ```
    /// use rooms_core::{Kind, Oversize};
    ///
    /// let cart = Kind::authenticated().oversize(Oversize::Refresh);
    /// # let _ = cart;
    /// ```
    pub fn oversize(self, oversize: Oversize) -> Self {
        Self { oversize, ..self }
    }
}

impl Default for Kind {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind")
            .field("join_rule", &self.rule)
            .field("publish_rule", &self.publish)
            .field("members_rule", &self.members)
            .field("observe_rule", &self.observe)
            .field("ask_again_every", &self.ask_again)
            .field("overflow", &self.overflow)
            .field("on_join", &self.on_join.is_some())
            .field("on_message", &self.on_message.is_some())
            .field("on_publish", &self.on_publish.is_some())
            .field("binary", &self.binary)
            .field("on_leave", &self.on_leave.is_some())
            .field("on_occupancy", &self.on_occupancy.is_some())
            .field("list_members", &self.names)
            .field("leave_grace", &self.leave_grace)
            .field("history", &self.history)
            .field("oversize", &self.oversize)
            .field("keep_state", &self.state)
            .field("state", &self.state_type)
            .field("events", &self.events)
            .field("publishes", &self.publications)
            .finish()
    }
}
