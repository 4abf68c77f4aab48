//! The handle to everything: [`RoomManager`].

mod broadcast;
mod builder;
mod inbox;
mod orders;
mod presence;
mod shutdown;
mod state;
mod subscribe;
mod typed;
mod typed_states;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use futures::Sink;

pub use self::{
    broadcast::Broadcast,
    builder::{BuildError, RoomManagerBuilder},
    orders::OrderError,
    presence::{Members, MembersError, Present, ViewerCount},
    shutdown::Shutdown,
    state::RoomState,
    typed_states::{TypedState, TypedStates},
};
use crate::{
    auth::{Attempt, AuthError, Identity},
    connection::{ConnectError, Connection},
    context::{Shared, Warnings},
    drain::Drain,
    handshake::Endpoint,
    limits::Limits,
    message::{Form, Message},
    network::Network,
    node::NodeId,
    outbox::{Framing, Outbox, Recipient, Transport},
    presence::Share,
    room_key::RoomKey,
    users::TooMany,
    ws::FrameSink,
};

/// Rooms: a cheap handle to clone into a framework's state.
///
/// `S` is what members' messages go into; with the adapters it is [`FrameSink`], the default, and need not be named.
/// [`builder`](RoomManager::builder) makes that one, [`build_for`](RoomManager::build_for) one for any other sink.
///
/// ```
/// use rooms_core::{JwtAuthenticator, Kind, RoomKey, RoomManager};
/// use serde_json::json;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rooms: RoomManager = RoomManager::builder()
///     .authenticator(JwtAuthenticator::hs256("a secret of at least 32 bytes....")?)
///     .kind("post", Kind::new().join_rule(|who, room| async move { room.id() != "7" || who.user() == "5" }))
///     .kind("user", Kind::owner_only())
///     .build()?;
///
/// rooms.broadcast(&RoomKey::new("post", 42)?, &json!({"type": "new_comment"})).await?;
/// assert_eq!(rooms.stats().rooms, 0, "nobody is there");
/// # Ok(()) }
/// ```
pub struct RoomManager<S = FrameSink> {
    pub(crate) shared: Arc<Shared>,
    transport: fn(S) -> Transport,
}

/// Numbers of this node, for a health page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that are open.
    pub connections: usize,
    /// Rooms that are subscribed, lingering ones included.
    pub rooms: usize,
    /// Messages that were given to members, one for each member.
    pub delivered: u64,
    /// Messages from the bus that were dropped because they were not JSON, too long or too deep.
    pub bad_payloads: u64,
    /// Node messages that were dropped: not to be decoded, or of another version.
    pub undecodable: u64,
    /// Messages from other nodes that were dropped because they were not signed with this fleet's
    /// [`node_key`](RoomManagerBuilder::node_key); always 0 where there is none.
    pub unsigned: u64,
    /// What other nodes ordered, such as a [`kick`](RoomManager::kick), and was dropped because it is more than a minute from this
    /// node's clock. Where it grows the clocks of two nodes differ, and orders between them have no effect.
    pub too_old: u64,
    /// Nodes that are live, this one included.
    pub nodes: usize,
    /// Revocations that are in force.
    pub revocations: usize,
    /// Presence entries that were published: what this node has in a room, each time that it changed.
    pub entries_published: u64,
    /// Upgrades, connections, joins and publications that were refused because a limit on their number or rate was reached,
    /// and the times that a connection began to be read more slowly because it sends too much.
    pub limited: u64,
    /// Whether the bus is known to be down.
    pub bus_down: bool,
    /// Whether the process is shutting down.
    pub draining: bool,
    /// Whether the tokio runtime that the manager was built in has ended. Nothing is sent then, and nobody joins: build
    /// the manager in the runtime that serves it, and in each `#[tokio::test]` anew.
    pub runtime_ended: bool,
}

impl RoomManager {
    /// Begins a manager for the adapters, whose members are reached through [`FrameSink`].
    pub fn builder() -> RoomManagerBuilder {
        RoomManagerBuilder::with_transport(Transport::Frames)
    }
}

impl<S: Sink<Message> + Unpin + Send + 'static> RoomManager<S> {
    /// Begins a manager for any sink of messages.
    ///
    /// A sink is polled by whoever has a message for its member, under that member's lock: it must not wait, and must not
    /// call the manager or its connection. One that fails or panics ends its connection.
    pub fn build_for() -> RoomManagerBuilder<S> {
        RoomManagerBuilder::with_transport(Transport::boxed)
    }

    /// A handle to the same rooms, for connections with another sink: members of one room may be a browser's socket, a
    /// channel in the process, and anything else.
    ///
    /// ```
    /// use futures::channel::mpsc;
    /// use rooms_core::{Identity, Kind, Message, RoomKey, RoomManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms: RoomManager = RoomManager::builder().kind("post", Kind::authenticated()).build()?;
    /// let (sink, _received) = mpsc::unbounded::<Message>();
    /// let mut listener = rooms.with_sink().connect(Identity::new("log")?, sink)?;
    /// listener.join(&RoomKey::new("post", 42)?).await?;
    /// assert_eq!(rooms.local_viewers(&RoomKey::new("post", 42)?), 1);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_sink<T: Sink<Message> + Unpin + Send + 'static>(&self) -> RoomManager<T> {
        RoomManager { shared: Arc::clone(&self.shared), transport: Transport::boxed }
    }

    /// Takes a connection. It is in no room yet; see [`Connection::join`].
    ///
    /// # Errors
    /// [`ConnectError`], when the user has too many connections, the process is shutting down, or the runtime that the
    /// manager was built in has ended.
    pub fn connect(&self, identity: Identity, sink: S) -> Result<Connection, ConnectError> {
        self.try_connect(identity, None, sink, Form::Single.into()).map_err(|(error, _)| error)
    }

    /// [`connect`](Self::connect), which gives the sink back so that the client can be told.
    pub(crate) fn try_connect(
        &self,
        identity: Identity,
        from: Option<Network>,
        sink: S,
        framing: Framing,
    ) -> Result<Connection, (ConnectError, Transport)> {
        let shared = &self.shared;
        let no_place = if self.is_draining() {
            Some(ConnectError::Draining)
        } else if shared.runtime.has_ended() {
            Some(ConnectError::RuntimeEnded)
        } else if shared.revocations.cover(&identity) {
            Some(ConnectError::Revoked)
        } else {
            None
        };
        if let Some(error) = no_place {
            self.note_refused(identity.user(), &error);
            return Err((error, (self.transport)(sink)));
        }
        let id = shared.connection_ids.next(shared.users.mark(identity.user()));
        let outbox = Outbox::new((self.transport)(sink), &shared.limits).framed(framing);
        let recipient = Recipient::new(id, identity, outbox).from(from).since(shared.incidents.now() / 1000);
        let recipient = Arc::new(recipient);
        match shared.users.enter(&recipient, &shared.limits) {
            Ok(()) => {
                // A shutdown that began since the first look has either seen this seat or begun before it was taken: one
                // of the two closes the connection.
                if let Some(drain) = shared.drain.get() {
                    recipient.close_after(drain.come_back(), drain.close.clone());
                }
                // The same with a revocation.
                shared.end_if_revoked(&recipient);
                Ok(Connection::new(Arc::clone(shared), recipient))
            }
            Err(too_many) => {
                shared.limiters.note_refusal();
                let error = too_many.error(&shared.limits);
                self.note_refused(recipient.user(), &error);
                match Arc::into_inner(recipient).and_then(|recipient| recipient.into_outbox().into_sink()) {
                    Some(sink) => Err((error, sink)),
                    None => unreachable!("a refused seat keeps no outbox"),
                }
            }
        }
    }

    fn note_refused(&self, user: &str, error: &ConnectError) {
        self.shared.metrics.connections_refused.count(error.word());
        self.shared.note_refused(user, error, &error.close());
    }

    /// Asks the manager's authenticator about a token, within `Limits::handshake_timeout`.
    ///
    /// # Errors
    /// [`AuthError`]; what is [revoked](Self::revoke) is [`AuthError::Revoked`], and a panic and a late answer are
    /// [`AuthError::Unavailable`]. The reason is logged, the token is not.
    pub async fn authenticate(&self, token: Option<&str>) -> Result<Identity, AuthError> {
        self.shared.ask(&*self.shared.authenticator, &Attempt::new(token)).await
    }

    pub(crate) fn warnings(&self) -> &Warnings {
        &self.shared.warnings
    }
}

impl TooMany {
    const fn error(self, limits: &Limits) -> ConnectError {
        match self {
            Self::Connections => ConnectError::NodeFull { limit: limits.max_connections },
            Self::OfUser => ConnectError::TooManyConnections { limit: limits.max_connections_per_user },
            Self::FromAddress => ConnectError::TooManyFromAddress { limit: limits.max_connections_per_ip },
        }
    }
}

impl<S> RoomManager<S> {
    /// A handle to the same rooms, whatever its connections' sinks are.
    pub(crate) fn of_frames(&self) -> RoomManager {
        RoomManager { shared: Arc::clone(&self.shared), transport: Transport::Frames }
    }

    /// How many connections of this node are in a room.
    #[must_use]
    pub fn local_viewers(&self, room: &RoomKey) -> usize {
        self.shared.registry.find(room).map_or(0, |room| room.share(Share::here))
    }

    /// Numbers of this node.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            connections: shared.users.connections(),
            rooms: shared.registry.count(),
            delivered: shared.delivered(),
            bad_payloads: shared.metrics.bad_payloads.get(),
            undecodable: shared.presence.undecodable_count(),
            unsigned: shared.presence.unsigned_count(),
            too_old: shared.presence.too_old_count(),
            nodes: shared.presence.peers() + 1,
            revocations: shared.revocations.count(),
            entries_published: shared.presence.entries_published(),
            limited: shared.limiters.refused(),
            bus_down: shared.bus_down.load(Ordering::Relaxed),
            draining: self.is_draining(),
            runtime_ended: shared.runtime.has_ended(),
        }
    }

    /// Whether [`shutdown`](Self::shutdown) has begun: refuse upgrades with 503.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.drain.get().is_some()
    }

    /// The shutdown, once it has begun.
    pub(crate) fn drain(&self) -> Option<&Drain> {
        self.shared.drain.get()
    }

    /// This process, in this incarnation.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// How upgrades are checked, where the route says nothing else.
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }
}

impl<S> Clone for RoomManager<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), transport: self.transport }
    }
}

impl<S> fmt::Debug for RoomManager<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomManager").field("node", &self.shared.node).finish_non_exhaustive()
    }
}
