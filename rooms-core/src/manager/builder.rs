//! Putting a manager together.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
};

use tokio::runtime::Handle;

use super::{RoomManager, Shared, Warnings, inbox::Inbox};
use crate::{
    auth::{Authenticator, DenyAll, SystemClock, WallClock},
    bus::{Bus, LocalBus},
    handshake::Endpoint,
    kind::Kind,
    limits::Limits,
    node::{ConnectionIds, NodeId},
    nodes::Nodes,
    outbox::Transport,
    presence::Presence,
    registry::Registry,
    room_key::{RoomKeyError, check_kind},
    runtime::Runtime,
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
        }
    }

    /// Sets who turns tokens into identities. Without one every token is bad.
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
        self.limits.clamp();
        let mut kinds = HashMap::new();
        for (name, kind) in self.kinds {
            check_kind(&name).map_err(|source| BuildError::Kind { kind: name.clone(), source })?;
            if kinds.insert(Box::from(&*name), Arc::new(kind)).is_some() {
                return Err(BuildError::KindTwice { kind: name });
            }
        }
        let node = NodeId::random();
        let nodes = Arc::new(Nodes::new(node, self.limits.nodes));
        let registry = Registry::new(&self.limits, runtime.clone(), Arc::clone(&self.bus), nodes);
        let shared = Arc::new_cyclic(|shared| {
            // The bus has its receiver before anything is asked of it.
            self.bus.attach(Arc::new(Inbox::new(shared)));
            Shared {
                node,
                connection_ids: ConnectionIds::of(node),
                limits: self.limits,
                kinds,
                authenticator: self.authenticator,
                endpoint: self.endpoint,
                clock: self.clock,
                bus: self.bus,
                presence: Presence::start(Arc::clone(&registry)),
                registry,
                users: Users::new(),
                runtime: Runtime::guarded(runtime),
                drain: OnceLock::new(),
                bus_down: AtomicBool::new(false),
                bad_payloads: AtomicU64::new(0),
                warnings: Warnings::default(),
            }
        });
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
