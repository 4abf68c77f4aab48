//! Putting a manager together.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Semaphore};

use super::{RoomManager, inbox::Inbox};
use crate::{
    auth::{Authenticator, DenyAll, RevocationList, SystemClock, WallClock},
    bus::{Bus, LocalBus, Retention, RetentionError},
    context::{Inspection, RECHECKS, Searches, Shared, Warnings},
    handshake::{Endpoint, EndpointError},
    incidents::Incidents,
    kind::Kind,
    limiters::Limiters,
    limits::Limits,
    metrics::{ConnectionMetrics, KindMetrics, NodeMetrics},
    node::{ConnectionIds, NodeId},
    outbox::Transport,
    presence::{self, NodeKeyError, NodeKeys, Presence},
    proxies::Proxies,
    registry::Registry,
    room_key::{RoomKeyError, check_kind},
    runtime::Runtime,
    timers::Timers,
    trace::TraceContext,
    users::Users,
    ws::FrameSink,
};

/// What a [`RoomManager`] is made of. Nothing is checked, and nothing runs, before [`build`](Self::build).
#[must_use]
pub struct RoomManagerBuilder<S = FrameSink> {
    limits: Limits,
    kinds: Vec<(String, Kind)>,
    authenticator: Arc<dyn Authenticator>,
    endpoint: Endpoint,
    clock: Arc<dyn WallClock>,
    bus: Arc<dyn Bus>,
    transport: fn(S) -> Transport,
    node_keys: Vec<Vec<u8>>,
    proxies: Proxies,
    trace: Option<TraceContext>,
}

/// Why a manager can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
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
    /// A bound is zero where zero would let nothing through.
    #[error("the limit `{limit}` is zero, and would let nothing through")]
    ZeroLimit {
        /// The name of the field in [`Limits`].
        limit: &'static str,
    },
    /// A kind is to keep nothing, or more than a history may.
    #[error("the history of the kind `{kind}` can't be kept")]
    Retention {
        /// The name.
        kind: String,
        /// What is allowed.
        #[source]
        source: RetentionError,
    },
    /// A kind has a history, and the bus keeps none.
    #[error("the kind `{kind}` has a history, and the bus keeps none")]
    NoHistory {
        /// The name.
        kind: String,
    },
    /// A kind is to keep a state for no time, or for too long.
    #[error("the state of the kind `{kind}` can be kept for 1 ms to {max:?}, not {keep:?}", max = Retention::MAX_AGE)]
    KeepState {
        /// The name.
        kind: String,
        /// How long it is to be kept.
        keep: Duration,
    },
    /// A kind keeps a state, and the bus can't.
    #[error("the kind `{kind}` keeps a state, and the bus keeps none")]
    NoStates {
        /// The name.
        kind: String,
    },
    /// A kind declares the type of its [state](Kind::state), and keeps none; see [`Kind::keep_state`].
    #[error("the kind `{kind}` declares the type of its state, and keeps none")]
    UnkeptState {
        /// The name.
        kind: String,
    },
    /// What the hook of [`Kind::publishes`] returns is no event of the kind.
    #[error("the events of the kind `{kind}` are `{declared}`, and what members publish becomes a `{becomes}`")]
    PublishedType {
        /// The name.
        kind: String,
        /// The name of the declared type.
        declared: &'static str,
        /// The name of the type that the hook returns.
        becomes: &'static str,
    },
    /// An event has the `type` of an event of the server's. Found with the feature `schema`, of kinds that describe their
    /// events.
    #[error("an event of the kind `{kind}` has the type `{name}`, which is that of an event of the server's")]
    ReservedType {
        /// The name of the kind.
        kind: String,
        /// The type.
        name: String,
    },
    /// A key for node messages is too short.
    #[error("the node key is too short")]
    NodeKey(#[source] NodeKeyError),
    /// The endpoint would be open to attacks.
    #[error("the endpoint can't be used")]
    Endpoint(#[source] EndpointError),
    /// There is no tokio runtime here.
    #[error("rooms are built inside a tokio runtime, and there is none here")]
    NoRuntime,
}

impl<S> RoomManagerBuilder<S> {
    pub(super) fn with_transport(transport: fn(S) -> Transport) -> Self {
        Self {
            limits: Limits::default(),
            kinds: Vec::new(),
            authenticator: Arc::new(DenyAll),
            endpoint: Endpoint::new(),
            clock: Arc::new(SystemClock),
            bus: Arc::new(LocalBus::new()),
            transport,
            node_keys: Vec::new(),
            proxies: Proxies::none(),
            trace: None,
        }
    }

    /// Sets who turns tokens into identities, at every endpoint that has no
    /// [authenticator of its own](Endpoint::authenticator). Without one every token is bad.
    pub fn authenticator(self, authenticator: impl Authenticator) -> Self {
        Self { authenticator: Arc::new(authenticator), ..self }
    }

    /// Adds a kind of room. A room of any other kind is joined by nobody.
    pub fn kind(mut self, name: impl Into<String>, kind: Kind) -> Self {
        self.kinds.push((name.into(), kind));
        self
    }

    /// Changes bounds.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Sets how upgrades are checked: where the token is, which origins may connect.
    pub fn endpoint(self, endpoint: Endpoint) -> Self {
        Self { endpoint, ..self }
    }

    /// Sets what joins this process to others. Without it there is [`LocalBus`]: one process.
    pub fn bus(self, bus: impl Bus) -> Self {
        Self { bus: Arc::new(bus), ..self }
    }

    /// Names the proxies in front of this process, which say in a header whom they forward. Without this nobody's header counts,
    /// and all that comes through a proxy has that proxy's address, and shares the limits of one client.
    pub fn proxies(self, proxies: Proxies) -> Self {
        Self { proxies, ..self }
    }

    /// Lets a trace go on from whoever broadcasts to the nodes that give the message to their members: the `traceparent` of
    /// the caller travels over the bus, 58 bytes with each message, and each node with members in the room has a span
    /// `fan_out` until all of them have it. Off unless this is called; see the guide's page about watching a service.
    ///
    /// Call it once all nodes have a release that knows it, as others drop what carries a `traceparent`. A node without this
    /// call gives such messages to its members and makes no span. What others publish with a broken `traceparent` is given to
    /// the members, too, and counted. A [state](crate::RoomManager::broadcast_state) carries none.
    ///
    /// ```
    /// use rooms_core::{RoomManager, TraceContext};
    ///
    /// // With tracing-opentelemetry: the context of `Span::current()`, written by its propagator.
    /// fn of_the_current_span() -> Option<String> {
    ///     Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned())
    /// }
    ///
    /// let rooms = RoomManager::builder().trace_context(TraceContext::new(of_the_current_span));
    /// # let _ = rooms;
    /// ```
    pub fn trace_context(self, context: TraceContext) -> Self {
        Self { trace: Some(context), ..self }
    }

    /// Signs what this node says to the others with HMAC-SHA256, and takes from them only what is signed with the same key.
    /// At least 32 bytes, random, the same on all nodes, and for nothing else.
    ///
    /// For where others may publish on the channels of the nodes, as on a Redis that several teams share: a stranger can then
    /// make up no node, no count and no good-bye. Repeating what a node has signed does no harm that lasts. What is dropped
    /// is counted in [`Stats::unsigned`](crate::Stats::unsigned). Broadcasts are not signed.
    ///
    /// May be called again: the first key signs, all of them are taken. So a key is exchanged in three rollouts: the old one
    /// and the new one, the new one and the old one, the new one. Nodes with a key and nodes without one count apart until
    /// all have it.
    ///
    /// ```
    /// use rooms_core::{BuildError, RoomManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let rooms = RoomManager::builder().node_key("thirty-two random bytes, at least").build();
    /// assert_eq!(rooms.unwrap().stats().unsigned, 0);
    /// let short = RoomManager::builder().node_key("hunter2").build();
    /// assert!(matches!(short, Err(BuildError::NodeKey(_))));
    /// # }
    /// ```
    pub fn node_key(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.node_keys.push(secret.as_ref().to_vec());
        self
    }

    /// Sets the clock by which connections end with their tokens. A [`JwtAuthenticator`](crate::JwtAuthenticator) has a clock
    /// of its own: set both.
    pub fn clock(self, clock: Arc<dyn WallClock>) -> Self {
        Self { clock, ..self }
    }

    /// Builds the manager. It spawns its tasks, on demand, on the runtime that this is called in, and is of no use once
    /// that has ended: from then on broadcasts, joins and new connections fail with `RuntimeEnded`.
    ///
    /// # Errors
    /// [`BuildError`] names what is wrong.
    pub fn build(mut self) -> Result<RoomManager<S>, BuildError> {
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        if let Some(limit) = self.limits.first_zero() {
            return Err(BuildError::ZeroLimit { limit });
        }
        self.endpoint.check().map_err(BuildError::Endpoint)?;
        self.limits.clamp();
        let mut kinds = BTreeMap::new();
        for (name, mut kind) in self.kinds {
            check_kind(&name).map_err(|source| BuildError::Kind { kind: name.clone(), source })?;
            if let Some(retention) = &kind.history {
                retention.check().map_err(|source| BuildError::Retention { kind: name.clone(), source })?;
                if self.bus.history().is_none() {
                    return Err(BuildError::NoHistory { kind: name });
                }
            }
            if let Some(keep) = kind.state {
                if !(Duration::from_millis(1)..=Retention::MAX_AGE).contains(&keep) {
                    return Err(BuildError::KeepState { kind: name, keep });
                }
                if self.bus.states().is_none() {
                    return Err(BuildError::NoStates { kind: name });
                }
            }
            if kind.state_type.is_some() && kind.state.is_none() {
                return Err(BuildError::UnkeptState { kind: name });
            }
            if let Some(becomes) = kind.publications.map(|said| said.becomes)
                && let Some(declared) = kind.other_type(becomes)
            {
                return Err(BuildError::PublishedType { kind: name, declared, becomes: becomes.name });
            }
            #[cfg(feature = "schema")]
            if let Some(reserved) = kind.events.and_then(|events| events.schema).and_then(crate::schema::reserved_type)
            {
                return Err(BuildError::ReservedType { kind: name, name: reserved });
            }
            kind.metrics = Arc::new(KindMetrics::of(&name, kind.overflow.word()));
            if kinds.insert(Box::from(&*name), Arc::new(kind)).is_some() {
                return Err(BuildError::KindTwice { kind: name });
            }
        }
        let node = NodeId::random();
        let mut keys = NodeKeys::default();
        for key in &self.node_keys {
            keys.add(key).map_err(BuildError::NodeKey)?;
        }
        let application = presence::kinds(kinds.keys().map(|name| &**name));
        let revocations = Arc::new(RevocationList::new(self.limits.max_revocations, Arc::clone(&self.clock)));
        let presence =
            Presence::new(node, &self.limits, Arc::clone(&self.bus), keys, application, Arc::clone(&revocations));
        let incidents = Arc::new(Incidents::new(Arc::clone(&self.clock)));
        let registry = Registry::new(&self.limits, runtime.clone(), Arc::clone(&presence), Arc::clone(&incidents));
        let unauthenticated = self.limits.max_unauthenticated.min(Semaphore::MAX_PERMITS);
        let timers = Arc::new(Timers::new());
        let limiters = Arc::new(Limiters::new(&self.limits, Arc::clone(&timers)));
        let shared = Arc::new(Shared {
            node,
            connection_ids: ConnectionIds::of(node),
            limits: self.limits,
            keeps_histories: kinds.values().any(|kind: &Arc<Kind>| kind.history.is_some()),
            kinds,
            authenticator: self.authenticator,
            endpoint: self.endpoint,
            unauthenticated: Arc::new(Semaphore::new(unauthenticated)),
            turned_away: Arc::new(Semaphore::new(unauthenticated)),
            newcomers: Arc::default(),
            limiters,
            proxies: self.proxies,
            trace: self.trace,
            clock: self.clock,
            revocations,
            searches: Searches::default(),
            rechecks: Semaphore::new(RECHECKS),
            bus: self.bus,
            presence,
            registry,
            driving: OnceLock::new(),
            users: Users::new(ConnectionMetrics::new()),
            timers,
            runtime: Runtime::guarded(runtime),
            drain: OnceLock::new(),
            bus_down: AtomicBool::new(false),
            metrics: NodeMetrics::new(),
            warnings: Warnings::default(),
            incidents,
            inspection: Inspection::default(),
        });
        // The receiver before anything is asked of the bus, and the manager before its receiver: no answer is lost.
        shared.bus.attach(Arc::new(Inbox::new(&Arc::downgrade(&shared))));
        let driving = shared.presence.start(shared.runtime.handle(), Arc::clone(&shared.registry));
        _ = shared.driving.set(driving);
        if shared.kinds.values().any(|kind| kind.history.is_some() || kind.state.is_some()) {
            shared.registry.check_histories();
        }
        Ok(RoomManager { shared, transport: self.transport })
    }
}

impl<S> fmt::Debug for RoomManagerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomManagerBuilder")
            .field("limits", &self.limits)
            .field("kinds", &self.kinds)
            .field("authenticator", &self.authenticator)
            .field("endpoint", &self.endpoint)
            .field("bus", &self.bus)
            .finish_non_exhaustive()
    }
}
