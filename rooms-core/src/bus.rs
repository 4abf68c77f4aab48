//! What joins the nodes: the [`Bus`] trait and its contract, [`LocalBus`], and [`AsyncBus`] for a client of one's own.
//!
//! A bus carries opaque bytes from a publisher to every node that subscribed to a [`Topic`]. Rooms, counts and the wire
//! are written once, above it. The contract, clause by clause:
//!
//! 1. **Loop-back.** A node that is subscribed receives its own messages through the bus, like everybody else's. There is
//!    one path and one order: every node receives the messages of one topic in the same order, and one publisher's in the
//!    order in which its publishes were called, each after the one before returned.
//! 2. **At most once.** A publication reaches a subscribed node once or not at all.
//! 3. **Level-triggered.** `subscribe` and `unsubscribe` state what is wanted, and return at once. The bus makes it so and
//!    answers with events: [`BusEvent::Subscribed`] for topics of which everything arrives that is published from then
//!    on, [`BusEvent::Refused`] for one that the backplane refuses, which is tried again for as long as it is wanted.
//!    Each call of `subscribe` is answered, also for a topic that is subscribed already. The last call for a topic
//!    counts: once `unsubscribe` has returned, no answer to an earlier `subscribe` is given, and what still arrives is
//!    ignored. A topic that hangs or is refused holds up no other.
//! 4. **Down is not silence.** A bus that knows that it can't reach its backplane says [`BusEvent::Down`] and answers
//!    `publish` with [`BusError::Down`]. It comes back by itself, subscribes again to all that is wanted, answers
//!    `Subscribed` for it, and only then says [`BusEvent::Up`], with what may have been lost meanwhile. Messages may
//!    arrive between the two: those that are received before all is well again are not held back, and each is still
//!    received at most once and in order.
//! 5. **Unknown is not down.** Where a publish may or may not have happened the error is [`BusError::Unknown`], and the
//!    bus does not try again.
//! 6. **Loss is said.** Whatever may have lost a message of a topic is reported, by [`BusEvent::Gap`] or by `Up`.
//! 7. **Nobody waits for a listener.** Events are handed to a [`BusReceiver`], whose call returns at once. The receiver calls
//!    no function of the bus in it: a bus may hold a lock while it hands an event over, as [`AsyncBus`] does, and such a
//!    call would wait for that lock for ever.
//! 8. **Dropping is safe.** A dropped `publish` is done or not done, and spoils nothing for the next.
//!
//! A bus may keep what is published, for those who were away: [`Bus::history`]. [`History`] has the clauses of that. And it
//! may keep the last state of a room: [`Bus::states`], with the clauses at [`States`].

mod async_bus;
mod guarded;
pub(crate) mod history;
mod idempotency;
mod local;
mod position;
mod states;

use std::{error, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

pub(crate) use self::guarded::{BusFault, GuardedBus};
pub use self::{
    async_bus::{AsyncBus, AsyncClient},
    history::{Excerpt, History, Missing, ReadFrom, Retention, RetentionError},
    idempotency::{Appended, IdempotencyKey, IdempotencyKeyError},
    local::LocalBus,
    position::{Position, PositionError},
    states::{KeptState, NewState, Outcome, StatePatch, States},
};
use crate::{node::NodeId, reports::LinkReport, room_key::RoomKey};

/// Carries messages between nodes; the [module](self) has the contract.
#[async_trait]
pub trait Bus: fmt::Debug + Send + Sync + 'static {
    /// Hands over the receiver of all events. Called once, before anything else.
    fn attach(&self, receiver: Arc<dyn BusReceiver>);

    /// States that these topics are wanted, in any number, and returns at once. The answers are events, which may come
    /// within the call: whoever calls holds no lock that its receiver takes.
    fn subscribe(&self, topics: &[Topic]);

    /// States that these topics are not wanted any more, in any number, and returns at once.
    fn unsubscribe(&self, topics: &[Topic]);

    /// Publishes to every node that is subscribed to the topic, this one included.
    ///
    /// # Errors
    /// [`BusError::Down`] if it certainly did not happen, [`BusError::Unknown`] if nobody can tell.
    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError>;

    /// The part that keeps what is published; `None` for a bus that keeps nothing, over which no kind can have a
    /// [history](crate::Kind::history). Always the same.
    fn history(&self) -> Option<&dyn History> {
        None
    }

    /// The part that keeps the last state of rooms; `None` for a bus that keeps none, over which no kind can
    /// [keep a state](crate::Kind::keep_state). Always the same.
    fn states(&self) -> Option<&dyn States> {
        None
    }

    /// The links to the backplane as they are now, for whoever operates the node; none for a bus that has nothing to tell of them.
    /// Asks nobody and waits for nothing: it reads what is known. It is called at most once a second.
    fn links(&self) -> Vec<LinkReport> {
        Vec::new()
    }

    /// Lets go of the backplane; no event comes after it has resolved.
    async fn close(&self);
}

#[async_trait]
impl<B: Bus + ?Sized> Bus for Arc<B> {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        (**self).attach(receiver);
    }

    fn subscribe(&self, topics: &[Topic]) {
        (**self).subscribe(topics);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        (**self).unsubscribe(topics);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        (**self).publish(topic, payload).await
    }

    fn history(&self) -> Option<&dyn History> {
        (**self).history()
    }

    fn states(&self) -> Option<&dyn States> {
        (**self).states()
    }

    fn links(&self) -> Vec<LinkReport> {
        (**self).links()
    }

    async fn close(&self) {
        (**self).close().await;
    }
}

/// What a bus tells its events to. Core implements it; a bus calls it.
///
/// The call never blocks: what can't be done at once is queued, in bounds, by the receiver. So a bus may call it from
/// whatever reads its backplane, spares a channel and a task's wake-up for each message, and stalls nobody.
///
/// A bus may hold a lock meanwhile, so that no event overtakes another. So [`event`](Self::event) calls no function of the bus,
/// be it only to ask how it is: that can deadlock. What an event asks for, such as a subscription, is done by a task.
pub trait BusReceiver: Send + Sync + 'static {
    /// Takes one event. The events of one topic are handed over in their order.
    fn event(&self, event: BusEvent);
}

/// What happened on the bus. Made by its functions, so that a later release can tell more.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BusEvent {
    /// A message was published to a topic that this node is subscribed to.
    #[non_exhaustive]
    Message {
        /// Where.
        topic: Topic,
        /// What, as it was published.
        payload: Bytes,
        /// Its place in the topic's history, where the bus keeps one.
        position: Option<Position>,
    },
    /// The state of a topic that this node is subscribed to was set.
    #[non_exhaustive]
    State {
        /// Where.
        topic: Topic,
        /// What it is now.
        state: KeptState,
        /// What has changed, where the writer said it.
        patch: Option<StatePatch>,
    },
    /// Everything that is published to these topics from now on arrives, until they are unsubscribed or lost.
    #[non_exhaustive]
    Subscribed {
        /// Which topics.
        topics: Vec<Topic>,
    },
    /// The backplane refuses to subscribe this topic. The bus tries again for as long as it is wanted.
    #[non_exhaustive]
    Refused {
        /// Which topic.
        topic: Topic,
        /// Why.
        error: Arc<BusError>,
    },
    /// Messages of this topic may have been lost.
    #[non_exhaustive]
    Gap {
        /// Which topic.
        topic: Topic,
    },
    /// The backplane can't be reached.
    Down,
    /// The backplane is back, and every wanted subscription is confirmed.
    #[non_exhaustive]
    Up {
        /// Whether messages may have been lost since [`Down`](Self::Down), on any topic.
        lost: Lost,
    },
}

impl BusEvent {
    /// A [`Message`](Self::Message) without a position.
    #[must_use]
    pub const fn message(topic: Topic, payload: Bytes) -> Self {
        Self::Message { topic, payload, position: None }
    }

    /// A [`Message`](Self::Message) of a topic whose history the bus keeps.
    #[must_use]
    pub const fn message_at(topic: Topic, payload: Bytes, position: Position) -> Self {
        Self::Message { topic, payload, position: Some(position) }
    }

    /// A [`State`](Self::State).
    #[must_use]
    pub const fn state(topic: Topic, state: KeptState, patch: Option<StatePatch>) -> Self {
        Self::State { topic, state, patch }
    }

    /// [`Subscribed`](Self::Subscribed).
    #[must_use]
    pub const fn subscribed(topics: Vec<Topic>) -> Self {
        Self::Subscribed { topics }
    }

    /// [`Refused`](Self::Refused).
    #[must_use]
    pub fn refused(topic: Topic, error: BusError) -> Self {
        Self::Refused { topic, error: Arc::new(error) }
    }

    /// A [`Gap`](Self::Gap).
    #[must_use]
    pub const fn gap(topic: Topic) -> Self {
        Self::Gap { topic }
    }

    /// [`Up`](Self::Up).
    #[must_use]
    pub const fn up(lost: Lost) -> Self {
        Self::Up { lost }
    }
}

/// Whether messages may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Certainly nothing is.
    Nothing,
    /// Something may be.
    Perhaps,
}

/// What is published to, and subscribed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Topic {
    /// The broadcasts of a room. A bus that others publish to as well has them here.
    Room(RoomKey),
    /// What nodes tell each other about a room. No foreign publisher and no member of the room is concerned.
    Control(RoomKey),
    /// What is for every node.
    Nodes,
    /// What is for one node.
    Node(NodeId),
}

/// Why a bus did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// It did not happen: the backplane can't be reached.
    #[error("the bus is down")]
    Down,
    /// It did not happen: too much is waiting already.
    #[error("the bus is overloaded")]
    Overloaded,
    /// It may have happened or not.
    #[error("the bus gave no answer, so the outcome is unknown")]
    Unknown(#[source] Box<dyn error::Error + Send + Sync>),
    /// It did not happen: the backplane refused.
    #[error("the bus refused")]
    Refused(#[source] Box<dyn error::Error + Send + Sync>),
}
