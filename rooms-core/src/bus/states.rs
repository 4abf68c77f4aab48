//! What a bus keeps of a topic besides its messages: the last state. The [`States`] part of a [`Bus`](super::Bus).

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{BusError, Position, Topic};

/// The part of a bus that keeps the last state of topics, for [`Kind::keep_state`](crate::Kind::keep_state).
///
/// A topic has one state, bytes that are opaque to the bus, and each state that it ever had has a revision: a [`Position`]
/// whose offset is one more than that of the state before.
///
/// The contract goes on from that of the [history](super::History):
///
/// 14. **Setting publishes.** [`set_state`](States::set_state) replaces the state of a topic and publishes it, in one step that no
///     other publisher comes between. It reaches every node that is subscribed to the topic as a [`BusEvent::State`] with
///     the revision that the publisher is answered, in the order of the revisions. The messages of the topic, and its
///     history, are not touched.
/// 15. **One of two writers wins.** A state is set only in place of the one whose revision the writer names. Where there is
///     another one by then, nothing is changed and nothing is published, and the answer is [`Outcome::Conflict`].
/// 16. **A read gives the newest.** What was set before the call, or something newer. Reading is using: a state that is
///     neither set nor read for the time that it is to be kept may go.
/// 17. **What was lost is another epoch.** Where the newest states of a topic may have been lost, what is set or read next
///     has an epoch that no revision had before.
///
/// [`BusEvent::State`]: super::BusEvent::State
#[async_trait]
pub trait States: fmt::Debug + Send + Sync {
    /// Sets the state of a topic and publishes it, in one step.
    ///
    /// Dropped before it resolves, it is done or not done.
    ///
    /// # Errors
    /// As [`Bus::publish`](super::Bus::publish). With [`BusError::Unknown`] it may be set, or not.
    async fn set_state(&self, topic: &Topic, new: NewState) -> Result<Outcome, BusError>;

    /// The state of a topic; `None` where there is none, which then is to be kept for so long.
    ///
    /// # Errors
    /// [`BusError`]; nothing is changed.
    async fn state(&self, topic: &Topic, keep: Duration) -> Result<Option<KeptState>, BusError>;
}

/// A state that is to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewState {
    /// The revision that it takes the place of; `None` where there is to be no state yet.
    pub after: Option<Position>,
    /// All of it.
    pub state: Bytes,
    /// The change from that revision to this one, where that says it as well. It is published beside the state and not kept.
    pub patch: Option<Bytes>,
    /// How long it is kept after it was set or read for the last time.
    pub keep: Duration,
}

impl NewState {
    /// A state in place of the one of this revision.
    #[must_use]
    pub const fn new(after: Option<Position>, state: Bytes, keep: Duration) -> Self {
        Self { after, state, patch: None, keep }
    }

    /// Adds the change.
    #[must_use]
    pub fn with_patch(self, patch: Bytes) -> Self {
        Self { patch: Some(patch), ..self }
    }
}

/// What became of a state that was to be set.
///
/// Exhaustive: a revision that is compared is the same or another. Whatever else may happen is a [`BusError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It is the state now, with this revision.
    Set(Position),
    /// Somebody else was faster: the state has this revision, or there is none.
    Conflict(Option<Position>),
}

/// The state of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptState {
    /// Which of all that there were.
    pub revision: Position,
    /// As it was set.
    pub state: Bytes,
}

impl KeptState {
    /// A state and its revision.
    #[must_use]
    pub const fn new(revision: Position, state: Bytes) -> Self {
        Self { revision, state }
    }
}

/// The change from one state to another, as it is published beside the state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatePatch {
    /// The revision that it changes.
    pub since: Position,
    /// The change.
    pub patch: Bytes,
}

impl StatePatch {
    /// The change from a revision.
    #[must_use]
    pub const fn new(since: Position, patch: Bytes) -> Self {
        Self { since, patch }
    }
}
