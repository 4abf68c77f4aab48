//! The members of one room on this node, and the messages that not all of them have been given yet.
//!
//! A room keeps a [`Log`] and, for each member, a cursor in it. Publishing appends and returns; one flusher for the room
//! goes round the members and gives each all that it has not had. Methods here compute under the room's lock and say in
//! [`Effects`] what is to be done outside it.

mod behind;
mod counting;
mod deflated;
mod flush;
mod held;
mod history;
mod last_state;
mod linger;
mod log;
mod logged;
mod loss;
mod membership;
mod replay;
mod report;
mod reservation;
mod subscription;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

pub(crate) use self::flush::{Flusher, flush};
use self::{
    flush::Progress,
    held::Held,
    last_state::LastState,
    log::{Entry, Log, Span},
    loss::Loss,
    replay::Replay,
    subscription::Subscription,
};
pub(crate) use self::{
    history::Ready,
    last_state::Revision,
    linger::Linger,
    logged::{Logged, Read},
    membership::{Arriving, WentLive},
    subscription::RoomTopic,
};
use crate::{
    envelope::Carried,
    kind::{Kind, Rights},
    limits::Limits,
    lock::{Mutex, lock},
    message::Message,
    node::ConnectionId,
    outbox::{About, Overflow, Recipient, Source},
    presence::{Known, Share},
    protocol::{self, Reason, multi},
    room_key::RoomKey,
};

pub(crate) struct Room {
    pub(crate) key: RoomKey,
    state: Mutex<State>,
    /// Told when the log has space again.
    space: Notify,
    /// Told when the subscription changed.
    subscription_changed: Notify,
    /// How many of the members are in many rooms and so are told in that form. Changed under the lock.
    multi: AtomicUsize,
    /// How many of the members may be given what is compressed. Changed under the lock.
    deflating: AtomicUsize,
    /// When the last message came for it, by the second of the node's life, from 1 on; 0 where none did.
    heard: AtomicU32,
    bounds: Bounds,
    pub(crate) kind: Arc<Kind>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    log_bytes: usize,
    log_messages: usize,
    held_bytes: usize,
    held_messages: usize,
    /// What the room's history has is left out where too much is held, and given later.
    heals: bool,
    /// Payloads from this length on are compressed.
    deflate_from: usize,
}

struct State {
    log: Log,
    /// Slots, so that a flusher's place holds while members come and go.
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    progress: Progress,
    /// The furthest that any member is in the log.
    ahead: u64,
    loss: Loss,
    /// Of a kind with a history.
    replay: Option<Box<Replay>>,
    /// Of a kind that keeps a state.
    last_state: Option<Box<LastState>>,
    /// Apart from what each broadcast touches. And two allocations of a middle size fit where one of both does not.
    share: Box<Share>,
    subscription: Subscription,
    /// Since when nobody is in it.
    empty_since: Option<Instant>,
    /// It waits in the queue of empty rooms.
    pub(super) lingering: bool,
}

struct Member {
    recipient: Arc<Recipient>,
    /// The position of the next message that it is given; past all of them while it is [behind].
    cursor: u64,
    /// What was published while it was still joining; `None` once it is told that it joined.
    held: Option<Box<Held>>,
    /// Boxed, because there is nothing to know of the members of most rooms.
    facts: Option<Box<Facts>>,
}

/// What is known of a member.
#[derive(Debug)]
struct Facts {
    /// Which user it is, where the room counts users.
    known: Option<Known>,
    rights: Rights,
}

/// What is to be done once the room's lock is free.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub(crate) struct Effects {
    /// Start a flusher.
    pub(crate) flush: bool,
    /// A window opened; look again when it ends.
    pub(crate) window: bool,
    /// The entry of this node is to be published.
    pub(crate) entry: bool,
    /// The application is to be told that the room is occupied, or empty.
    pub(crate) occupancy: bool,
    /// The room begins to linger.
    pub(crate) linger: bool,
    /// The subscription is wanted.
    pub(crate) subscribe: bool,
    /// The history is to be read.
    pub(crate) read: bool,
    /// The state is to be read.
    pub(crate) read_state: bool,
    /// The members are told that they may have missed something.
    pub(crate) lost: Option<Reason>,
}

impl Room {
    pub(crate) fn new(key: RoomKey, kind: Arc<Kind>, limits: &Limits, share: Share) -> Self {
        let bounds = Bounds {
            log_bytes: limits.max_log_bytes,
            log_messages: limits.max_log_messages,
            held_bytes: limits.max_outbox_bytes,
            // The welcome comes before them.
            held_messages: limits.max_outbox_messages - 1,
            heals: kind.overflow == Overflow::Resync && kind.history.is_some(),
            deflate_from: limits.min_deflate_bytes,
        };
        let state = State {
            log: Log::default(),
            members: Vec::new(),
            free: Vec::new(),
            progress: Progress::default(),
            ahead: 0,
            loss: Loss::default(),
            replay: history::replay_of(&kind, bounds),
            last_state: kind.state.map(|_| Box::default()),
            share: Box::new(share),
            subscription: Subscription::No,
            empty_since: None,
            lingering: false,
        };
        Self {
            key,
            state: Mutex::new(state),
            space: Notify::new(),
            subscription_changed: Notify::new(),
            multi: AtomicUsize::new(0),
            deflating: AtomicUsize::new(0),
            heard: AtomicU32::new(0),
            bounds,
            kind,
        }
    }

    /// Appends a message for every member but `except`; `false` where the log is so full that it was dropped. Where it is
    /// not carried bare it is in that form already.
    ///
    /// A publisher on this node holds a [`Reservation`](reservation::Reservation); one on another node can't be made to wait. Past twice the bound
    /// its message is dropped, and the members are told. The span is closed once the members have the message.
    pub(crate) fn append(
        &self,
        message: Message,
        except: Option<ConnectionId>,
        carried: Carried,
        fan_out: Option<Box<tracing::Span>>,
    ) -> (bool, Effects) {
        // Made without the lock, where there is a member for it; for one that enters meanwhile it is made later.
        let multi = match carried {
            Carried::Wrapped | Carried::Refresh => Some(message.clone()),
            Carried::Bare | Carried::Binary if self.multi.load(Ordering::Relaxed) > 0 => {
                Some(multi::payload(&self.key, &message))
            }
            Carried::Bare | Carried::Binary => None,
        };
        let mut state = lock(&self.state);
        if state.members.is_empty() {
            return (true, Effects::default());
        }
        let twice = Span {
            messages: self.bounds.log_messages.saturating_mul(2),
            bytes: self.bounds.log_bytes.saturating_mul(2),
        };
        if !state.log.fits(message.frame().len(), twice) {
            return (false, self.lost(&mut state, Reason::BusGap));
        }
        state.loss.kept();
        (true, state.push(Entry { multi, fan_out, ..Entry::new(message, except, About::Content) }))
    }

    /// What its messages say of themselves at an outbox.
    fn source(&self) -> Source {
        let resync = |key: &RoomKey| protocol::resync(key, Reason::SlowConsumer);
        let recorded = self.kind.metrics.overflows.clone();
        Source { room: self.key.clone(), overflow: self.kind.overflow, heals: self.bounds.heals, resync, recorded }
    }
}

impl State {
    fn push(&mut self, entry: Entry) -> Effects {
        self.log.push(entry);
        Effects { flush: self.progress.start(), ..Effects::default() }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("key", &self.key).finish_non_exhaustive()
    }
}
