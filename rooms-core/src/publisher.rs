//! Broadcasting from a program that serves no members.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use serde::Serialize;
use tracing::Instrument as _;

use crate::{
    bus::{Bus, BusEvent, BusReceiver, IdempotencyKey, Retention},
    envelope,
    kind::{EventType, Kind, Said, Tell},
    limits::Limits,
    node::ConnectionId,
    outgoing::{self, Kinds, Outgoing, USER},
    receipt::{self, BroadcastError, Reach, Receipt},
    room_key::{RoomKey, RoomKeyError, check_kind},
    trace::TraceContext,
    typed::{TypedError, TypedRooms},
};

/// Broadcasts to rooms from a program that has no members of its own, such as a worker or a cron job: a cheap handle.
///
/// It is a bus, the declarations of kinds, and nothing else: no heartbeats, so that other nodes do not count it as a node; no
/// counts, no subscriptions, and no tasks. What the bus needs is the bus's: over Redis two connections and the tasks that
/// serve them.
///
/// Give it the kinds that the service has, from code that both share: what is kept in a
/// [history](Kind::history), what a broadcast becomes that is [too long](Kind::oversize), and what type
/// [events](Kind::events) have is the kind's matter, and the same for all who publish. Rules and hooks are not asked. A room
/// of a kind that it does not know is published to without a history.
///
/// Where the bus is down a broadcast is an error, as there is nobody here to be told.
///
/// ```
/// use rooms_core::{Kind, LocalBus, Publisher, RoomKey, bus::Retention};
/// use serde_json::json;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let publisher = Publisher::builder(LocalBus::new())
///     .kind("post", Kind::authenticated().history(Retention::messages(500)))
///     .build()?;
/// let receipt = publisher.broadcast(&RoomKey::new("post", 42)?, &json!({"type": "published"})).await?;
/// assert!(receipt.position.is_some(), "it is in the history");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

struct Inner {
    bus: Arc<dyn Bus>,
    kinds: Kinds,
    limits: Limits,
    trace: Option<TraceContext>,
}

/// A [`Publisher`] that is being put together.
#[derive(Debug)]
#[must_use]
pub struct PublisherBuilder {
    bus: Arc<dyn Bus>,
    kinds: Vec<(String, Kind)>,
    limits: Limits,
    trace: Option<TraceContext>,
}

/// Why a publisher can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublisherError {
    /// A kind's name is wrong.
    #[error("`{kind}` is no kind")]
    Kind {
        /// The name.
        kind: String,
        /// What is allowed.
        #[source]
        source: RoomKeyError,
    },
    /// A kind was given twice.
    #[error("the kind `{kind}` is given twice")]
    KindTwice {
        /// The name.
        kind: String,
    },
    /// A kind is to keep nothing, or more than a history may.
    #[error("the history of the kind `{kind}` can't be kept")]
    Retention {
        /// The name.
        kind: String,
        /// What is allowed.
        #[source]
        source: crate::bus::RetentionError,
    },
    /// A kind has a history, and the bus keeps none.
    #[error("the kind `{kind}` has a history, and the bus keeps none")]
    NoHistory {
        /// The name.
        kind: String,
    },
}

impl PublisherBuilder {
    /// Declares a kind: as the service does, or a [`Kind::new`] with what is said of its messages.
    pub fn kind(mut self, name: impl Into<String>, kind: Kind) -> Self {
        self.kinds.push((name.into(), kind));
        self
    }

    /// Declares that the rooms of a kind keep their messages, the same as [`Kind::history`] of the service.
    pub fn history(self, name: impl Into<String>, retention: Retention) -> Self {
        self.kind(name, Kind::new().history(retention))
    }

    /// Changes bounds: `max_broadcast_bytes` and `publish_timeout` are those that count here.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Lets a trace go on from whoever publishes here, as
    /// [`RoomManagerBuilder::trace_context`](crate::RoomManagerBuilder::trace_context) does. What is no `traceparent` is not
    /// sent; a publisher records no metrics, so it is not counted.
    pub fn trace_context(self, context: TraceContext) -> Self {
        Self { trace: Some(context), ..self }
    }

    /// Builds the publisher, and attaches to the bus, which is then for it alone.
    ///
    /// # Errors
    /// [`PublisherError`] names what is wrong.
    pub fn build(self) -> Result<Publisher, PublisherError> {
        let mut kinds = BTreeMap::new();
        for (name, kind) in self.kinds {
            check_kind(&name).map_err(|source| PublisherError::Kind { kind: name.clone(), source })?;
            if let Some(retention) = &kind.history {
                retention.check().map_err(|source| PublisherError::Retention { kind: name.clone(), source })?;
                if self.bus.history().is_none() {
                    return Err(PublisherError::NoHistory { kind: name });
                }
            }
            if kinds.insert(Box::from(&*name), Arc::new(kind)).is_some() {
                return Err(PublisherError::KindTwice { kind: name });
            }
        }
        self.bus.attach(Arc::new(Nobody));
        Ok(Publisher(Arc::new(Inner { bus: self.bus, kinds, limits: self.limits, trace: self.trace })))
    }
}

impl Publisher {
    /// Begins a publisher over a bus.
    pub fn builder(bus: impl Bus) -> PublisherBuilder {
        PublisherBuilder { bus: Arc::new(bus), kinds: Vec::new(), limits: Limits::default(), trace: None }
    }

    /// Sends a value, as JSON, to every member of a room, on all nodes, as
    /// [`RoomManager::broadcast`](crate::RoomManager::broadcast) does. Encoded in the call, and sent when awaited; dropping
    /// the future before it resolves may or may not send.
    ///
    /// # Errors
    /// [`BroadcastError`]; [`BroadcastError::Bus`] also where the bus is down.
    pub fn broadcast<T: Serialize + ?Sized>(
        &self,
        room: &RoomKey,
        value: &T,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<T> {
        self.to(room).json(value)
    }

    /// Sends a value, as JSON, to every connection of a user, on all nodes: to the room `user:{user}`, as
    /// [`RoomManager::send_to_user`](crate::RoomManager::send_to_user) does.
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast), and [`BroadcastError::User`] for what is no user's id.
    pub fn send_to_user<T: Serialize + ?Sized>(
        &self,
        user: &str,
        value: &T,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<T> {
        let room = RoomKey::new(USER, user).map_err(|error| BroadcastError::User(error.into()));
        let (inner, said) = (Arc::clone(&self.0), room.and_then(|room| Said::json(&room, value)));
        async move { inner.tell(said?).await }
    }

    /// Begins a broadcast with options: `publisher.to(&room).idempotency_key("4f1b54d6").json(&value).await`.
    pub fn to<'a>(&'a self, room: &'a RoomKey) -> Publication<'a> {
        Publication { inner: &self.0, room, except: None, key: None }
    }

    /// A handle to the rooms of a kind whose declared [events](Kind::events) are `E`.
    ///
    /// # Errors
    /// [`TypedError`], where the kind is none, or declares something else.
    pub fn typed<E: Serialize + 'static>(&self, kind: &str) -> Result<TypedRooms<E>, TypedError> {
        TypedRooms::of(Arc::clone(&self.0) as Arc<dyn Tell>, &self.0.kinds, kind)
    }

    /// Lets go of the bus: what was broadcast before is out. May be called again.
    pub async fn close(&self) {
        self.0.bus.close().await;
    }
}

/// A broadcast of a [`Publisher`] that is being put together.
#[derive(Debug)]
#[must_use = "nothing is sent before `json`"]
pub struct Publication<'a> {
    inner: &'a Arc<Inner>,
    room: &'a RoomKey,
    except: Option<ConnectionId>,
    key: Option<&'a str>,
}

impl Publication<'_> {
    /// Leaves one connection out: the one that caused it, usually. Its id comes from the node that serves it, as text.
    pub fn except(self, connection: ConnectionId) -> Self {
        Self { except: Some(connection), ..self }
    }
}

impl<'a> Publication<'a> {
    /// Sends it once for this key, as [`Broadcast::idempotency_key`](crate::Broadcast::idempotency_key) does: for jobs that
    /// are run again where they failed.
    pub fn idempotency_key(self, key: &'a str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Encodes the value now, and sends it when awaited.
    ///
    /// # Errors
    /// As [`Publisher::broadcast`].
    pub fn json<T: Serialize + ?Sized>(
        self,
        value: &T,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<T> {
        let said = Said::json(self.room, value);
        self.send(said)
    }
}

impl<'a> Publication<'a> {
    /// Sends bytes when awaited, as [`Broadcast::binary`](crate::Broadcast::binary) does.
    ///
    /// # Errors
    /// As [`Publisher::broadcast`], but for `Encode` and `TooDeep`.
    pub fn binary<B: Into<Bytes>>(
        self,
        bytes: B,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<B> {
        let said = Said::binary(self.room, bytes);
        self.send(Ok(said))
    }

    fn send(
        self,
        said: Result<Said, BroadcastError>,
    ) -> impl Future<Output = Result<Receipt, BroadcastError>> + Send + use<> {
        let key = self.key.map(IdempotencyKey::new).transpose();
        let key = key.map_err(|source| BroadcastError::IdempotencyKey { room: self.room.clone(), source });
        let (inner, except) = (Arc::clone(self.inner), self.except);
        async move { inner.tell(Said { except, key: key?, ..said? }).await }
    }
}

impl Inner {
    async fn send(&self, said: Said) -> Result<Receipt, BroadcastError> {
        let span = outgoing::span(&self.kinds, &said.room, said.except);
        let outcome = self.send_out(said).instrument(span.clone()).await;
        span.record("outcome", receipt::word(&outcome));
        outcome
    }

    async fn send_out(
        &self,
        Said { room, payload, carried, event, except, key }: Said,
    ) -> Result<Receipt, BroadcastError> {
        let outgoing = Outgoing { room: &room, kinds: &self.kinds, limits: &self.limits, bus: &*self.bus };
        outgoing.check_type(event)?;
        let history = outgoing.history();
        if key.is_some() && history.is_none() {
            return Err(BroadcastError::NoHistory { room });
        }
        let (payload, carried) = outgoing.fit(payload, carried)?;
        // What is no `traceparent` is left out: the message matters more.
        let trace = self.trace.as_ref().and_then(|trace| trace.current().ok().flatten());
        let payload = envelope::seal(trace, except, carried, payload);
        match outgoing.publish(payload, history, key.as_ref()).await {
            Ok(appended) => Ok(Receipt::of(Reach::AllNodes, appended)),
            Err(source) => Err(BroadcastError::Bus { room, source }),
        }
    }
}

impl Tell for Inner {
    fn tell(self: Arc<Self>, said: Said) -> BoxFuture<'static, Result<Receipt, BroadcastError>> {
        async move { self.send(said).await }.boxed()
    }

    fn other_type(&self, room: &RoomKey, came: EventType) -> Option<&'static str> {
        self.kinds.get(room.kind())?.other_type(came)
    }
}

/// The receiver of a bus to which nothing is subscribed.
struct Nobody;

impl BusReceiver for Nobody {
    fn event(&self, _: BusEvent) {}
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("bus", &self.bus).field("kinds", &self.kinds).finish_non_exhaustive()
    }
}
