//! What all handles and connections of one manager share, and how a payload goes out and comes in.

mod broadcast;
mod inspection;
mod noting;
mod orders;
mod sign_in;
mod state;

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    task::Context,
};

use tokio::sync::Semaphore;

pub(crate) use self::{
    inspection::Inspection,
    orders::{SEARCHES, Searches, TooManySearches},
    state::After,
};
use crate::{
    auth::{Authenticator, RevocationList, WallClock},
    bus::Bus,
    counts::Counts,
    drain::Drain,
    handshake::Endpoint,
    incidents::Incidents,
    limiters::Limiters,
    limits::Limits,
    metrics::{KindMetrics, NodeMetrics},
    node::{ConnectionIds, NodeId},
    outbox::{Backlog, Progress, Recipient},
    outgoing::{self, Kinds},
    presence::{Driving, Presence},
    proxies::Proxies,
    rate_limited_log::RateLimitedLog,
    registry::Registry,
    room_key::RoomKey,
    runtime::Runtime,
    timers::Timers,
    trace::{TraceContext, TraceParent},
    users::Users,
};

/// Rules that are asked again at once on this node, of the application's own. 64: enough to hide the way to a database, and few
/// enough that a recheck of a large room does not fill its pool.
pub(crate) const RECHECKS: usize = 64;

/// What all handles and connections of one manager share.
pub(crate) struct Shared {
    pub(crate) node: NodeId,
    pub(crate) connection_ids: ConnectionIds,
    pub(crate) limits: Limits,
    pub(crate) kinds: Kinds,
    /// Some kind has a history.
    pub(crate) keeps_histories: bool,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) endpoint: Endpoint,
    /// Places for sockets whose token comes with their first message.
    pub(crate) unauthenticated: Arc<Semaphore>,
    /// As many for those that are told by a close frame that their token is bad. Apart, so that who has a bad token takes
    /// no place of one who may have a good one.
    pub(crate) turned_away: Arc<Semaphore>,
    /// The sockets that are not authenticated, by address.
    pub(crate) newcomers: Arc<Counts>,
    pub(crate) limiters: Arc<Limiters>,
    /// Whose word about the address of a client counts.
    pub(crate) proxies: Proxies,
    pub(crate) clock: Arc<dyn WallClock>,
    pub(crate) revocations: Arc<RevocationList>,
    pub(crate) searches: Searches,
    /// Who may ask rules again.
    pub(crate) rechecks: Semaphore,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) registry: Arc<Registry>,
    /// Ends the counting over nodes with the manager.
    pub(crate) driving: OnceLock<Driving>,
    pub(crate) users: Users,
    pub(crate) timers: Arc<Timers>,
    pub(crate) runtime: Runtime,
    /// The shutdown, once it has begun.
    pub(crate) drain: OnceLock<Drain>,
    pub(crate) bus_down: AtomicBool,
    pub(crate) metrics: NodeMetrics,
    /// Whether, and how, traces go on over the bus.
    pub(crate) trace: Option<TraceContext>,
    pub(crate) warnings: Warnings,
    /// What went wrong lately.
    pub(crate) incidents: Arc<Incidents>,
    pub(crate) inspection: Inspection,
}

/// The warnings that clients and other publishers can cause, each with a rate of its own.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    /// A payload from the bus is not for members.
    pub(crate) bad_payload: RateLimitedLog,
    /// The log of a room is full.
    pub(crate) full_room: RateLimitedLog,
    /// A rule that was asked again could not decide.
    pub(crate) undecided: RateLimitedLog,
    /// What a member published did not reach the bus.
    pub(crate) unpublished: RateLimitedLog,
    /// A page of this origin may not connect.
    pub(crate) origin: RateLimitedLog,
    /// An address has reached a limit.
    pub(crate) address: RateLimitedLog,
    /// A search that another node asked for was not begun, because too many wait.
    pub(crate) unsearched: RateLimitedLog,
    /// Whoever makes the tokens puts milliseconds into `exp`.
    pub(crate) far_expiry: RateLimitedLog,
}

impl Shared {
    /// Writes what waits for a connection, for its task, and has its rooms give it what they left out.
    pub(crate) fn drive(&self, recipient: &Arc<Recipient>, cx: &mut Context<'_>) -> Progress {
        let progress = recipient.drive(cx);
        if let Progress::Open(Backlog { behind: true, .. }) = progress {
            // Whoever is given something is woken for it.
            self.registry.heal(recipient);
        }
        progress
    }

    /// The trace that a broadcast is a part of, where traces go on.
    pub(crate) fn current_trace(&self) -> Option<TraceParent> {
        self.trace.as_ref()?.current().unwrap_or_else(|_| {
            self.metrics.bad_traces.add(1);
            None
        })
    }

    /// The span of the fan-out of a message that came with this `traceparent`, where traces go on.
    pub(crate) fn fan_out_of(&self, room: &RoomKey, trace: Option<&[u8]>) -> Option<Box<tracing::Span>> {
        let (context, trace) = self.trace.as_ref().zip(trace)?;
        match TraceParent::read(trace) {
            Ok(parent) => context.fan_out(room.kind(), &parent).map(Box::new),
            Err(_) => {
                self.metrics.bad_traces.add(1);
                None
            }
        }
    }

    /// The kind of a room as a span names it: one that was declared.
    pub(crate) fn kind_name<'a>(&self, room: &'a RoomKey) -> &'a str {
        outgoing::kind_name(&self.kinds, room)
    }

    /// How many messages were given to members.
    pub(crate) fn delivered(&self) -> u64 {
        self.kinds.values().map(|kind| kind.metrics.deliveries.get()).sum()
    }

    /// What is recorded of the kind of a room.
    pub(crate) fn metrics_of(&self, room: &RoomKey) -> &KindMetrics {
        self.kinds.get(room.kind()).map_or(&self.metrics.unknown, |kind| &kind.metrics)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("node", &self.node).finish_non_exhaustive()
    }
}
