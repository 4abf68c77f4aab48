//! Who may join, and who may publish.

use std::sync::Arc;

use super::Kind;
use crate::{
    auth::{Decision, Identity, Rule},
    payload::Payload,
    room_key::RoomKey,
};

impl Kind {
    /// Sets who may join: the rule returns a [`Decision`] or a `bool`. It is asked at each join, and about those who are in when
    /// their token is [refreshed](crate::protocol) and by [`recheck`](crate::RoomManager::recheck). A rule that panics, or takes
    /// longer than `Limits::rule_timeout`, decides [`Decision::Unavailable`]: the join fails, and the client is told to try again
    /// later.
    ///
    /// The closure takes owned values, because a `Send` future that borrows its argument can't be named. The room is
    /// given whole; `room.id()` is its id.
    pub fn join_rule<F, Fut>(self, rule: F) -> Self
    where
        F: Fn(Arc<Identity>, RoomKey) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Decision>> + Send + 'static,
    {
        Self { rule: Rule::ask(rule), ..self }
    }

    /// [`join_rule`](Self::join_rule) that is also told what the client said with its join; see [`Member::with`](crate::Member::with). A client can
    /// say anything there.
    ///
    /// ```
    /// use rooms_core::Kind;
    ///
    /// let draft = Kind::new().join_rule_with(|_, room, with| async move {
    ///     let key = with.and_then(|with| with.parse::<String>().ok());
    ///     key.is_some_and(|key| key == format!("the key of {}", room.id()))
    /// });
    /// # let _ = draft;
    /// ```
    pub fn join_rule_with<F, Fut>(self, rule: F) -> Self
    where
        F: Fn(Arc<Identity>, RoomKey, Option<Payload>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Decision>> + Send + 'static,
    {
        Self { rule: Rule::ask_with(rule), ..self }
    }

    /// Lets those join whose token names the room in this claim, which is a text or a list of texts: `post:42` is that room,
    /// `post:*` are all of the kind, and `post:team-*` those whose id begins so. Nothing else is a pattern; a token without
    /// the claim names no room.
    ///
    /// ```
    /// use rooms_core::Kind;
    ///
    /// // For tokens with `"rooms": ["post:*", "draft:7"], "publishes_in": "draft:7"`.
    /// let drafts = Kind::new().join_claim("rooms").publish_claim("publishes_in");
    /// # let _ = drafts;
    /// ```
    pub fn join_claim(self, claim: impl Into<Arc<str>>) -> Self {
        Self { rule: Rule::Claim(claim.into()), ..self }
    }

    /// Lets those members publish by the command `publish` whose token names the room in this claim, as
    /// [`join_claim`](Self::join_claim) says.
    pub fn publish_claim(self, claim: impl Into<Arc<str>>) -> Self {
        Self { publish: Rule::Claim(claim.into()), ..self }
    }

    /// Lets every member publish by the command `publish`; without this and [`publish_rule`](Self::publish_rule) no
    /// member may. What is published is JSON, and bytes as well with [`allow_binary`](Self::allow_binary).
    pub fn allow_publish(self) -> Self {
        Self { publish: Rule::Everybody, ..self }
    }

    /// Sets which members may publish by the command `publish`: the rule returns a [`Decision`] or a `bool`. It is asked
    /// about each publication, and never about a connection that has not joined. A rule that panics, or takes longer than
    /// `Limits::rule_timeout`, decides [`Decision::Unavailable`]: nothing is published, and the client is told to try again later.
    pub fn publish_rule<F, Fut>(self, rule: F) -> Self
    where
        F: Fn(Arc<Identity>, RoomKey) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Decision>> + Send + 'static,
    {
        Self { publish: Rule::ask(rule), ..self }
    }
}
