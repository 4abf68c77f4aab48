//! Who may join, and who may publish: rules for each kind of room, and no rule means no.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};

use super::{Identity, claim};
use crate::{payload::Payload, rate_limited_log::RateLimitedLog, room_key::RoomKey};

type Ask = dyn Fn(Arc<Identity>, RoomKey, Option<Payload>) -> BoxFuture<'static, Decision> + Send + Sync;

/// What a rule decides. A `bool` is one too: `true` allows, `false` denies.
///
/// ```
/// use rooms_core::{Decision, Kind};
///
/// let team = Kind::new().join_rule(|who, room| async move {
///     match is_member(who.user(), room.id()).await {
///         Ok(is_member) => is_member.into(),
///         Err(_) => Decision::Unavailable,
///     }
/// });
/// # let _ = team;
/// # async fn is_member(user: &str, team: &str) -> std::io::Result<bool> { Ok((user, team) == ("5", "blue")) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "a decision is what a rule returns"]
#[non_exhaustive]
pub enum Decision {
    /// The user may.
    Allow,
    /// The user may not, and asking again does not help: the client is told `not_allowed`, or closed with 4403 where its
    /// connection is for one room.
    Deny,
    /// The rule can't tell just now, because its database is away for example. Nothing is allowed, and the client is told
    /// to try again later: `unavailable`, or the close 1013 where its connection is for one room. A rule that panics, or
    /// takes longer than `Limits::rule_timeout`, decides this too.
    Unavailable,
}

impl From<bool> for Decision {
    fn from(allowed: bool) -> Self {
        if allowed { Self::Allow } else { Self::Deny }
    }
}

/// A rule of the application's.
pub(crate) struct Asked {
    rule: Box<Ask>,
    /// That it panicked, in the log: clients can have it asked as often as they may send.
    panicked: RateLimitedLog,
    /// That it gave no answer in time.
    timed_out: RateLimitedLog,
}

impl Asked {
    fn new<F>(rule: F) -> Arc<Self>
    where
        F: Fn(Arc<Identity>, RoomKey, Option<Payload>) -> BoxFuture<'static, Decision> + Send + Sync + 'static,
    {
        let (panicked, timed_out) = (RateLimitedLog::default(), RateLimitedLog::default());
        Arc::new(Self { rule: Box::new(rule), panicked, timed_out })
    }
}

/// Answers whether a user may do something in a room.
#[derive(Clone)]
pub(crate) enum Rule {
    /// Nobody: what a kind without a rule says.
    Nobody,
    /// Everybody, guests too.
    Everybody,
    /// Everybody who is no guest.
    Authenticated,
    /// The user whose id is the room's id.
    Owner,
    /// Whoever has a token whose claim of this name names the room.
    Claim(Arc<str>),
    /// Whoever the application says.
    Ask(Arc<Asked>),
    /// The same, with what the client said with its join.
    AskWith(Arc<Asked>),
}

impl Rule {
    pub(crate) fn ask<F, Fut>(rule: F) -> Self
    where
        F: Fn(Arc<Identity>, RoomKey) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Decision>> + Send + 'static,
    {
        Self::Ask(Asked::new(move |who, room, _| rule(who, room).map(Into::into).boxed()))
    }

    /// Whether it denies everybody, whatever the token.
    #[cfg(feature = "schema")]
    pub(crate) const fn lets_nobody(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    /// One that is told what the client said with its join.
    pub(crate) fn ask_with<F, Fut>(rule: F) -> Self
    where
        F: Fn(Arc<Identity>, RoomKey, Option<Payload>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Decision>> + Send + 'static,
    {
        Self::AskWith(Asked::new(move |who, room, with| rule(who, room, with).map(Into::into).boxed()))
    }

    /// Whether the application is asked, which may take a while.
    pub(crate) const fn asks(&self) -> bool {
        matches!(self, Self::Ask(_) | Self::AskWith(_))
    }

    /// Whether it is told what the client said with its join.
    pub(crate) const fn asks_with(&self) -> bool {
        matches!(self, Self::AskWith(_))
    }

    pub(crate) async fn decide(
        &self,
        who: &Identity,
        room: &RoomKey,
        with: Option<&Payload>,
        within: Duration,
    ) -> Decision {
        match self {
            Self::Nobody => Decision::Deny,
            Self::Everybody => Decision::Allow,
            Self::Authenticated => (!who.is_guest()).into(),
            Self::Owner => (who.user() == room.id()).into(),
            Self::Claim(name) => claim::names_room(who.claims_text(), name, room).into(),
            Self::Ask(asked) | Self::AskWith(asked) => {
                // A copy, because a connection keeps its identity in one allocation with all else that is known of it. The
                // call is inside the block, so that a panic in the closure itself is caught like one in its future.
                let ask = async { (asked.rule)(Arc::new(who.clone()), room.clone(), with.cloned()).await };
                let answer = AssertUnwindSafe(ask).catch_unwind();
                match tokio::time::timeout(within, answer).await {
                    Ok(Ok(decision)) => decision,
                    Ok(Err(_)) => {
                        if let Some(left_out) = asked.panicked.line() {
                            tracing::error!(kind = room.kind(), left_out, "a rule panicked, so nobody gets in");
                        }
                        Decision::Unavailable
                    }
                    Err(_) => {
                        if let Some(left_out) = asked.timed_out.line() {
                            let kind = room.kind();
                            tracing::error!(kind, ?within, left_out, "a rule gave no answer, so nobody gets in");
                        }
                        Decision::Unavailable
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::Everybody => "Everybody",
            Self::Authenticated => "Authenticated",
            Self::Owner => "Owner",
            Self::Claim(_) => "Claim",
            Self::Ask(_) => "Ask",
            Self::AskWith(_) => "AskWith",
        })
    }
}
