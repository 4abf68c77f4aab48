//! The members of one room on this node, and the messages that not all of them have been given yet.
//!
//! A room keeps a [`Log`] and, for each member, a cursor in it. Publishing appends and returns; one flusher for the room
//! goes round the members and gives each all that it has not had. Methods here compute under the room's lock and say in
//! [`Effects`] what is to be done outside it.

#[cfg(test)]
mod bed;
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
mod paused;
mod replay;
mod report;
mod reservation;
mod subscription;
mod waiters;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::time::Instant;

pub(crate) use self::flush::{Flusher, flush};
use self::{
    flush::Progress,
    held::Held,
    last_state::LastState,
    log::{Entry, Log, Span},
    loss::Loss,
    paused::Paused,
    replay::Replay,
    subscription::Subscription,
    waiters::Waiters,
};
pub(crate) use self::{
    last_state::Revision,
    linger::Linger,
    logged::{Logged, Read},
    membership::{Arriving, WentLive},
    paused::Again,
    replay::Ready,
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
    /// How many of the members are in many rooms and so are told in that form. Changed under the lock.
    multi: AtomicU32,
    /// How many of the members may be given what is compressed. Changed under the lock.
    deflating: AtomicU32,
    /// When the last message came for it, by the second of the node's life, from 1 on; 0 where none did.
    heard: AtomicU32,
    limits: Arc<Limits>,
    pub(crate) kind: Arc<Kind>,
}

/// What is held at most for a member that is joining. Made where it is asked for, as a node has many rooms.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    held_bytes: usize,
    held_messages: usize,
    /// What the room's history has is left out where too much is held, and given later.
    heals: bool,
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
    /// For space in the log.
    for_space: Waiters,
    /// For an answer of the bus: the subscription, the history, the state.
    for_bus: Waiters,
    /// Since when nobody is in it.
    empty_since: Option<Instant>,
    /// It waits in the queue of empty rooms.
    pub(super) lingering: bool,
    /// There is news of viewers, which the next round also gives to those that are paused.
    viewers_changed: bool,
}

struct Member {
    recipient: Arc<Recipient>,
    /// The position of the next message that it is given; past all of them while it is [behind] or [paused].
    cursor: u64,
    /// Boxed, because there is nothing of it where a member of most rooms has joined.
    seldom: Option<Box<Seldom>>,
}

#[derive(Default)]
struct Seldom {
    /// What was published while it was still joining; `None` once it is told that it joined.
    held: Option<Box<Held>>,
    /// What is known of it, where that is not what is known of most.
    facts: Option<Facts>,
}

/// What is known of a member.
#[derive(Debug)]
struct Facts {
    /// Which user it is, where the room counts users.
    known: Option<Known>,
    rights: Rights,
    /// It is not given the room's messages.
    paused: Option<Paused>,
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
    pub(crate) fn new(key: RoomKey, kind: Arc<Kind>, limits: Arc<Limits>, share: Share) -> Self {
        let state = State {
            log: Log::default(),
            members: Vec::new(),
            free: Vec::new(),
            progress: Progress::default(),
            ahead: 0,
            loss: Loss::default(),
            replay: history::replay_of(&kind, &limits),
            last_state: kind.state.map(|_| Box::default()),
            share: Box::new(share),
            subscription: Subscription::No,
            for_space: Waiters::default(),
            for_bus: Waiters::default(),
            empty_since: None,
            lingering: false,
            viewers_changed: false,
        };
        Self {
            key,
            state: Mutex::new(state),
            multi: AtomicU32::new(0),
            deflating: AtomicU32::new(0),
            heard: AtomicU32::new(0),
            limits,
            kind,
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            held_bytes: self.limits.max_outbox_bytes,
            // The welcome comes before them.
            held_messages: self.limits.max_outbox_messages - 1,
            heals: self.heals(),
        }
    }

    fn heals(&self) -> bool {
        self.kind.overflow == Overflow::Resync && self.kind.history.is_some()
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
        if !state.log.fits(message.frame().len(), self.twice()) {
            let stands = state.stands();
            return (false, self.lost(&mut state, Reason::BusGap, stands));
        }
        let stands = state.stands();
        self.say_before(&mut state, stands);
        state.loss.note_fleeting();
        (true, state.push(Entry { multi, fan_out, ..Entry::new(message, except, About::Content) }))
    }

    /// What the log holds of messages from other nodes.
    fn twice(&self) -> Span {
        Span {
            messages: self.limits.max_log_messages.saturating_mul(2),
            bytes: self.limits.max_log_bytes.saturating_mul(2),
        }
    }

    /// What its messages say of themselves at an outbox.
    fn source(&self) -> Source {
        let resync = |key: &RoomKey, position| protocol::resync(key, Reason::SlowConsumer, position);
        let recorded = self.kind.metrics.overflows.clone();
        Source { room: self.key.clone(), overflow: self.kind.overflow, heals: self.heals(), resync, recorded }
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

#[cfg(all(test, target_pointer_width = "64", not(rooms_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_room_and_a_place_in_it_are_small() {
        let sizes = (size_of::<Room>(), size_of::<Share>(), size_of::<Option<Member>>());
        assert_eq!(sizes, (344, 136, 24), "a node has many rooms, and every connection has a place");
    }
}
