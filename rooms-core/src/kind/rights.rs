//! Who may be in a room unseen, and who may see the others.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;

use super::Kind;
use crate::{
    auth::{Decision, Identity, Rule},
    join_options::JoinOptions,
    metrics::Stopwatch,
    payload::Payload,
    presence::For,
    room_key::RoomKey,
};

/// What a connection was let into a room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) sort: Sort,
    /// Whether it is told who the members are; it is told how many in any case.
    pub(crate) sees_members: bool,
}

/// Who is in a room: one who is counted, a connection that is not, or the server itself, which is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Member,
    Observer,
    Server,
}

impl Sort {
    /// What a join asks for.
    pub(crate) const fn of(join: &JoinOptions) -> Self {
        if join.observes { Self::Observer } else { Self::Member }
    }

    /// Whether it is one of the viewers.
    pub(crate) const fn is_counted(self) -> bool {
        matches!(self, Self::Member)
    }
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotLetIn {
    /// It may not.
    Denied,
    /// A rule can't tell just now.
    Unavailable,
}

impl Rights {
    /// Those of a member of a kind without rules of this file.
    pub(crate) const MEMBER: Self = Self { sort: Sort::Member, sees_members: true };

    /// Whether an event of that sort is for it.
    pub(crate) const fn receives(self, to: For) -> bool {
        match to {
            For::All => true,
            For::Seeing => self.sees_members,
            For::Counting => !self.sees_members,
        }
    }
}

impl Kind {
    /// Sets who sees the members of a room; turns [`list_members`](Self::list_members) on. Without it everybody in the room
    /// does. The rule returns a [`Decision`] or a `bool`, and is asked after that of the join.
    ///
    /// Who may not is told how many viewers there are, and neither names nor the number of users. Where the rule decides
    /// [`Decision::Unavailable`], panics, or takes longer than `Limits::rule_timeout`, the join fails, and the client is told to
    /// try again later. [`RoomManager::members`](crate::RoomManager::members) is the application's, and asks no rule.
    ///
    /// ```
    /// use rooms_core::Kind;
    ///
    /// // Everybody may watch, and staff see who does.
    /// let live = Kind::public().members_rule(|who, _| async move { who.claim("staff").ok().flatten() == Some(true) });
    /// # let _ = live;
    /// ```
    pub fn members_rule<F, Fut>(self, rule: F) -> Self
    where
        F: Fn(Arc<Identity>, RoomKey) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Decision>> + Send + 'static,
    {
        Self { names: true, members: Rule::ask(rule), ..self }
    }

    /// Lets those see the members whose token names the room in this claim, as [`join_claim`](Self::join_claim) says; turns
    /// [`list_members`](Self::list_members) on.
    pub fn members_claim(self, claim: impl Into<Arc<str>>) -> Self {
        Self { names: true, members: Rule::Claim(claim.into()), ..self }
    }

    /// Sets who may observe a room: be in it and be given all that members are given, without being counted or named on any
    /// node. For monitoring, and for moderators. Without it nobody may. A client asks for it with its join; see
    /// [`protocol`](crate::protocol).
    ///
    /// The rule returns a [`Decision`] or a `bool`, and is asked in place of the join rule, so let it name whoever may be in
    /// the room unseen. Observers see members if the [`members_rule`](Self::members_rule) says so, and publish if the publish
    /// rule does. `on_join` and `on_leave` run for them too, and [`Member::is_observer`](crate::Member::is_observer) tells
    /// them; [`on_occupancy`](Self::on_occupancy) is about members alone. An observer is one of its user's connections as any
    /// other is.
    ///
    /// ```
    /// use rooms_core::Kind;
    ///
    /// let channel = Kind::authenticated()
    ///     .list_members()
    ///     .observe_rule(|who, _| async move { who.claim("role").ok().flatten() == Some("moderator".to_owned()) });
    /// # let _ = channel;
    /// ```
    pub fn observe_rule<F, Fut>(self, rule: F) -> Self
    where
        F: Fn(Arc<Identity>, RoomKey) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Decision>> + Send + 'static,
    {
        Self { observe: Rule::ask(rule), ..self }
    }

    /// Lets those observe a room whose token names it in this claim, as [`join_claim`](Self::join_claim) says.
    pub fn observe_claim(self, claim: impl Into<Arc<str>>) -> Self {
        Self { observe: Rule::Claim(claim.into()), ..self }
    }

    /// Asks the rules about each connection in a room again, at the latest when so much time has passed: at a random moment in
    /// the second half of it, so that those who came together are not asked about together. At least a second. Without this
    /// they are asked at the join, at a refresh of the token and by [`recheck`](crate::RoomManager::recheck).
    ///
    /// It is the rule of the join, or that of observers, with the claims of the token that the connection has now, and the
    /// [`members_rule`](Self::members_rule). Who may not be in the room any more leaves it with an event that says so; see
    /// [`protocol`](crate::protocol). Where a rule decides [`Decision::Unavailable`], panics, or takes too long, everything
    /// stays as it is, and it is asked again in a tenth of the time, a minute at most.
    ///
    /// Each connection's own task asks, beside its commands, and at most 64 rules are asked at once on a node. One that is only
    /// [driven](crate::Connection::drive) is not asked about.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rooms_core::Kind;
    ///
    /// let team = Kind::new()
    ///     .join_rule(|who, room| async move { is_member(who.user(), room.id()).await })
    ///     .ask_again_every(Duration::from_secs(10 * 60));
    /// # let _ = team;
    /// # async fn is_member(_: &str, _: &str) -> bool { true }
    /// ```
    pub fn ask_again_every(self, time: Duration) -> Self {
        Self { ask_again: Some(time.max(Duration::from_secs(1))), ..self }
    }

    /// Whether it has rules that the application answers, which may take a while.
    pub(crate) const fn asks(&self, sort: Sort) -> bool {
        self.rule_of(sort).asks() || self.members.asks()
    }

    /// What lets one of this sort in.
    const fn rule_of(&self, sort: Sort) -> &Rule {
        match sort {
            Sort::Member => &self.rule,
            Sort::Observer => &self.observe,
            Sort::Server => &Rule::Everybody,
        }
    }

    /// Whether some members may not see the others.
    pub(crate) const fn hides_members(&self) -> bool {
        !matches!(self.members, Rule::Everybody)
    }

    /// Whether somebody may observe its rooms.
    pub(crate) const fn has_observers(&self) -> bool {
        !matches!(self.observe, Rule::Nobody)
    }

    /// [`rights`](Self::rights), where no rule is the application's: then nothing is waited for.
    pub(crate) fn rights_now(&self, who: &Identity, room: &RoomKey, sort: Sort) -> Option<Result<Rights, NotLetIn>> {
        if self.asks(sort) { None } else { self.rights(who, room, sort, None, Duration::ZERO).now_or_never() }
    }

    /// Asks the rules about one who is in a room, or wants to be.
    pub(crate) async fn rights(
        &self,
        who: &Identity,
        room: &RoomKey,
        sort: Sort,
        with: Option<&Payload>,
        within: Duration,
    ) -> Result<Rights, NotLetIn> {
        let begun = Stopwatch::start();
        let rights = self.ask_for_rights(who, room, sort, with, within).await;
        if self.asks(sort) {
            self.metrics.join_rule.ended(begun);
        }
        if rights == Err(NotLetIn::Unavailable) {
            self.metrics.join_rule.failed("unavailable");
        }
        rights
    }

    async fn ask_for_rights(
        &self,
        who: &Identity,
        room: &RoomKey,
        sort: Sort,
        with: Option<&Payload>,
        within: Duration,
    ) -> Result<Rights, NotLetIn> {
        match self.rule_of(sort).decide(who, room, with, within).await {
            Decision::Allow => {}
            Decision::Deny => return Err(NotLetIn::Denied),
            Decision::Unavailable => return Err(NotLetIn::Unavailable),
        }
        let sees_members = match self.members.decide(who, room, None, within).await {
            Decision::Allow => true,
            Decision::Deny => false,
            Decision::Unavailable => return Err(NotLetIn::Unavailable),
        };
        Ok(Rights { sort, sees_members })
    }

    /// Asks the rule whether a member may publish.
    pub(crate) async fn may_publish(&self, who: &Identity, room: &RoomKey, within: Duration) -> Decision {
        let begun = Stopwatch::start();
        let decision = self.publish.decide(who, room, None, within).await;
        if self.publish.asks() {
            self.metrics.publish_rule.ended(begun);
        }
        if decision == Decision::Unavailable {
            self.metrics.publish_rule.failed("unavailable");
        }
        decision
    }
}
