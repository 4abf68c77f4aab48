//! The members of one room on this node, and the messages that not all of them have been given yet.
//!
//! A room keeps a [`Log`] and, for each member, a cursor in it. Publishing appends and returns; one flusher for the room
//! goes round the members and gives each all that it has not had. Methods here compute under the room's lock and say in
//! [`Effects`] what is to be done outside it.

mod behind;
mod counting;
mod deflated;
mod flush;
mod history;
mod last_state;
mod log;
mod loss;
mod replay;
mod report;

use std::{
    fmt,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

pub(crate) use self::flush::{Flusher, flush};
use self::{
    flush::Progress,
    history::Resumed,
    last_state::LastState,
    log::{Entry, Log, Span},
    loss::Loss,
    replay::Replay,
};
pub(crate) use self::{
    history::Ready,
    last_state::Revision,
    replay::{Logged, Read},
};
use crate::{
    bus::Position,
    close::Close,
    envelope::Carried,
    join_options::JoinOptions,
    kind::{Kind, Rights, Sort},
    limits::Limits,
    lock::{Mutex, lock},
    message::{Form, Message},
    node::ConnectionId,
    outbox::{About, Overflow, Recipient, Source, Waiting},
    presence::{Arrival, Due, Known, Listing, Share},
    protocol::{self, Reason, Standing, multi},
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

#[derive(Default)]
struct Held {
    /// Each with its place in the history, if it has one.
    messages: Vec<(Option<NonZeroU64>, Message)>,
    bytes: usize,
    /// What it is told and given of the history in front of them.
    first: Vec<Message>,
    /// Where the room stood in its history when the member entered: what came after that is held.
    from: Option<Position>,
    /// Messages of the history are not held from this offset on.
    left_out: Option<NonZeroU64>,
    /// It is counted, and its `room_joined` is being made: it has to hear of every change from here on.
    counted: bool,
}

/// One who is about to be told that it joined.
#[derive(Debug)]
pub(crate) struct Arriving {
    /// Where the room counts users.
    pub(crate) arrival: Option<Arrival>,
    pub(crate) listing: Listing,
    pub(crate) rights: Rights,
}

/// What a connection is told that was counted just now.
struct Counted {
    standing: Standing,
    /// The bytes of what it missed that it is given as it reads.
    later: usize,
    effects: Effects,
}

/// What a joining connection became a member with.
pub(crate) struct WentLive {
    /// How many viewers it was told that there are.
    pub(crate) viewers: usize,
    /// The bytes of the history and the state that it was given, or is as it reads.
    pub(crate) replayed: usize,
    pub(crate) effects: Effects,
}

/// How a room stands with the bus.
///
/// ```text
/// No --enter--> Wanted --ask--> Asked --both topics confirmed--> Confirmed --the other nodes were asked--> Live
///  ^                              |
///  +----------- refused ----------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    /// Nobody wants it, or the bus refused it.
    No,
    /// The bus is to be asked.
    Wanted,
    /// The bus was asked, and has confirmed some of the room's topics. Where it is overdue, a join was given up, and the
    /// next one asks again: no harm to a bus that is at it, and a second chance for one that has forgotten.
    Asked {
        messages: bool,
        control: bool,
        overdue: bool,
    },
    /// Confirmed; the other nodes are asked for their counts.
    Confirmed,
    Live,
}

/// One of the two topics of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoomTopic {
    /// Its broadcasts.
    Messages,
    /// What nodes tell each other about it.
    Control,
}

/// The bus did not confirm the subscription of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bus did not confirm the room's subscription")]
pub(crate) struct NotSubscribed;

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

    /// Adds a connection that is joining: from here on nothing is lost to it, and nothing is sent to it yet.
    pub(crate) fn enter(&self, recipient: Arc<Recipient>) -> (usize, Effects) {
        let mut state = lock(&self.state);
        state.empty_since = None;
        self.multi.fetch_add(usize::from(recipient.form() != Form::Single), Ordering::Relaxed);
        self.deflating.fetch_add(usize::from(recipient.deflate().is_some()), Ordering::Relaxed);
        let head = state.log.head();
        state.ahead = head;
        let from = state.replay.as_ref().and_then(|replay| replay.head());
        let held = Box::new(Held { from, ..Held::default() });
        let member = Member { recipient, cursor: head, held: Some(held), facts: None };
        let slot = match state.free.pop() {
            Some(slot) => slot,
            None => {
                if state.members.len() == state.members.capacity() {
                    // A quarter more: most rooms are small, and there are many.
                    let more = (state.members.len() / 4).max(2);
                    state.members.reserve_exact(more);
                }
                state.members.push(None);
                state.members.len() - 1
            }
        };
        if let Some(place) = state.members.get_mut(slot) {
            *place = Some(member);
        }
        let subscribe = matches!(state.subscription, Subscription::No | Subscription::Asked { overdue: true, .. });
        if subscribe {
            state.subscription = Subscription::Wanted;
        }
        (slot, Effects { subscribe, ..Effects::default() })
    }

    /// Makes a joining connection a member: it gets `welcome`, which is told how many viewers there are and who, then what
    /// it asks for of the room's history, then what was published since it entered, then everything else.
    pub(crate) fn go_live(
        &self,
        slot: usize,
        arriving: Arriving,
        join: &JoinOptions,
        welcome: impl FnOnce(Standing) -> Message,
    ) -> WentLive {
        let Counted { standing, later, effects } = self.count_in(slot, arriving, join);
        let went = WentLive { viewers: standing.viewers, replayed: 0, effects };
        // Encoded without the lock: a snapshot and a list may be long.
        let welcome = welcome(standing);
        let mut state = lock(&self.state);
        let State { members, log, ahead, replay, .. } = &mut *state;
        let Some(Some(member)) = members.get_mut(slot) else { return went };
        // What the flusher has not come by with yet goes the same way.
        member.hold(log, &self.key, self.bounds);
        member.cursor = log.head();
        *ahead = log.head();
        let Some(held) = member.held.take() else { return went };
        let Held { messages, first, left_out, .. } = *held;
        let replayed = later + first.iter().map(|message| message.frame().len()).sum::<usize>();
        let messages = messages.into_iter().map(|(_, message)| message);
        // Queued under the room's lock, so that no flusher comes between; written by the connection's own task, which is at
        // the join itself or is woken after it.
        member.recipient.queue(&welcome, first.into_iter().chain(messages));
        if let (Some(left_out), Some(replay)) = (left_out, replay) {
            member.begin_behind(self, slot, replay, left_out);
        }
        WentLive { replayed, ..went }
    }

    /// Counts a joining connection: what it is to be told, while what changes from here on is kept for it.
    fn count_in(&self, slot: usize, arriving: Arriving, join: &JoinOptions) -> Counted {
        let mut state = lock(&self.state);
        let State { members, log, share, ahead, replay, last_state, .. } = &mut *state;
        let viewers = share.viewers();
        let standing = Standing { viewers, ..Standing::default() };
        let nothing = Counted { standing, later: 0, effects: Effects::default() };
        let Some(Some(member)) = members.get_mut(slot) else { return nothing };
        // With what the flusher has not come by with yet, so that no old count follows the new one.
        member.hold(log, &self.key, self.bounds);
        member.cursor = log.head();
        *ahead = log.head();
        let Some(held) = &mut member.held else { return nothing };
        held.counted = true;
        let Resumed { position, recovered, reason, first, has_up_to, left_out, later } =
            self.resume(replay.as_deref(), held, &member.recipient, join);
        self.note_resumed(recovered, reason);
        // Before the messages: what a page makes of one may depend on the state.
        let whole = last_state.as_ref().and_then(|last| last.whole());
        held.start_with(whole.into_iter().chain(first).collect(), has_up_to, self.bounds);
        if let Some(left_out) = left_out {
            held.leave_out(left_out);
        }
        let Arriving { arrival, listing, rights } = arriving;
        let (arrived, due) = match rights.sort {
            Sort::Member => share.arrive(member.recipient.id(), arrival, listing),
            Sort::Observer => share.observe(member.recipient.id(), listing),
        };
        let ordinary = arrived.known.is_none() && rights == Rights::MEMBER;
        member.facts = (!ordinary).then(|| Box::new(Facts { known: arrived.known, rights }));
        let effects = state.take_due(due);
        let observer = rights.sort == Sort::Observer;
        let standing = Standing { viewers: arrived.viewers, list: arrived.list, observer, position, recovered };
        Counted { standing, later, effects }
    }

    /// Takes a member out, joined or joining.
    pub(crate) fn leave(&self, slot: usize) -> Effects {
        self.take_out(slot, |share, known| share.leave(known, Instant::now()))
    }

    /// [`leave`](Self::leave), of one who is put out, and is not shown any more.
    pub(crate) fn remove(&self, slot: usize) -> Effects {
        self.take_out(slot, Share::remove)
    }

    /// The connections of all members, joined or joining.
    pub(crate) fn recipients(&self) -> Vec<Arc<Recipient>> {
        lock(&self.state).members.iter().flatten().map(|member| Arc::clone(&member.recipient)).collect()
    }

    fn take_out(&self, slot: usize, count_out: impl FnOnce(&mut Share, Option<&Known>) -> Due) -> Effects {
        // Dropped after the lock.
        let mut given = Vec::new();
        let mut state = lock(&self.state);
        let Some(member) = state.members.get_mut(slot).and_then(Option::take) else { return Effects::default() };
        state.free.push(slot);
        if state.replay.as_mut().is_some_and(|replay| replay.behind.remove(&slot).is_some()) {
            member.recipient.caught_up(&self.key);
        }
        self.multi.fetch_sub(usize::from(member.recipient.form() != Form::Single), Ordering::Relaxed);
        self.deflating.fetch_sub(usize::from(member.recipient.deflate().is_some()), Ordering::Relaxed);
        let empty = state.free.len() == state.members.len();
        if empty {
            state.members = Vec::new();
            state.free = Vec::new();
            state.log.clear(&mut given);
            state.loss = Loss::default();
            state.empty_since = Some(Instant::now());
            // Nobody is left to be told of it, but publishers may wait for space.
            self.space.notify_waiters();
        }
        let mut effects = Effects::default();
        if member.held.is_none_or(|held| held.counted) {
            let facts = member.facts.as_deref();
            let due = match facts.map(|facts| facts.rights.sort) {
                Some(Sort::Observer) => state.share.stop_observing(),
                _ => count_out(&mut state.share, facts.and_then(|facts| facts.known.as_ref())),
            };
            effects = state.take_due(due);
        }
        effects.linger = empty && !std::mem::replace(&mut state.lingering, true);
        effects
    }

    /// Appends a message for every member but `except`; `false` where the log is so full that it was dropped. Where it is
    /// not carried bare it is in that form already.
    ///
    /// A publisher on this node holds a [`Reservation`]; one on another node can't be made to wait. Past twice the bound
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

    /// Waits until the log has space for a message, and keeps it for the caller.
    ///
    /// May be dropped at any time.
    pub(crate) async fn reserve(self: Arc<Self>, bytes: usize) -> Reservation {
        let bounds = Span { messages: self.bounds.log_messages, bytes: self.bounds.log_bytes };
        loop {
            let space = self.space.notified();
            tokio::pin!(space);
            space.as_mut().enable();
            let reserved = {
                let mut state = lock(&self.state);
                let free = state.members.is_empty() || state.log.fits(bytes, bounds);
                if free {
                    state.log.reserve(bytes);
                }
                free
            };
            if reserved {
                break;
            }
            space.await;
        }
        Reservation { room: self, bytes }
    }

    /// Waits until the bus has confirmed the subscription, or failed to.
    ///
    /// May be dropped at any time.
    pub(crate) async fn subscribed(&self) -> Result<(), NotSubscribed> {
        loop {
            let changed = self.subscription_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.subscription() {
                Subscription::Live => return Ok(()),
                Subscription::No => return Err(NotSubscribed),
                Subscription::Wanted | Subscription::Asked { .. } | Subscription::Confirmed => changed.await,
            }
        }
    }

    fn subscription(&self) -> Subscription {
        lock(&self.state).subscription
    }

    /// Whether what is known here of the other nodes is kept up to date.
    pub(crate) fn knows_others(&self) -> bool {
        self.subscription() == Subscription::Live
    }

    /// Whether the bus is to be asked for the room now; if so, its answers count from here on.
    pub(crate) fn ask(&self) -> bool {
        let mut state = lock(&self.state);
        let wanted = state.subscription == Subscription::Wanted;
        if wanted {
            state.subscription = Subscription::Asked { messages: false, control: false, overdue: false };
        }
        wanted
    }

    /// The bus confirmed a topic; `true` where it is the last of the two that was asked for.
    pub(crate) fn confirm(&self, topic: RoomTopic) -> bool {
        let mut state = lock(&self.state);
        let Subscription::Asked { messages, control, .. } = &mut state.subscription else { return false };
        match topic {
            RoomTopic::Messages => *messages = true,
            RoomTopic::Control => *control = true,
        }
        let confirmed = *messages && *control;
        if confirmed {
            state.subscription = Subscription::Confirmed;
        }
        confirmed
    }

    /// A join was given up because no answer came.
    pub(crate) fn unanswered(&self) {
        if let Subscription::Asked { overdue, .. } = &mut lock(&self.state).subscription {
            *overdue = true;
        }
    }

    /// The bus refused a topic, or could not be asked: whoever waits to join is told.
    pub(crate) fn refuse(&self) {
        {
            let mut state = lock(&self.state);
            if !matches!(state.subscription, Subscription::Wanted | Subscription::Asked { .. }) {
                return;
            }
            state.subscription = Subscription::No;
        }
        self.subscription_changed.notify_waiters();
    }

    /// What the other nodes have in the room is known, so whoever waits may come in.
    pub(crate) fn open(&self) {
        lock(&self.state).subscription = Subscription::Live;
        self.subscription_changed.notify_waiters();
    }

    /// Whether the room has lingered long enough to be forgotten, asked when its time in the queue is over.
    pub(crate) fn linger_over(&self, since: Instant) -> Linger {
        let mut state = lock(&self.state);
        let over = state.share.is_over();
        match state.empty_since {
            // What is left of its members is to be counted out first, under this room's versions.
            Some(_) if !over => Linger::Uncounted,
            Some(empty) if empty <= since => {
                state.share.end();
                Linger::Over
            }
            Some(empty) => Linger::Since(empty),
            None => {
                state.lingering = false;
                Linger::Occupied
            }
        }
    }
}

/// The answer to [`Room::linger_over`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linger {
    /// Empty for long enough.
    Over,
    /// Empty, but only since then.
    Since(Instant),
    /// Empty, but somebody is still counted, or the others or the application are still to be told.
    Uncounted,
    /// Not empty.
    Occupied,
}

impl State {
    fn push(&mut self, entry: Entry) -> Effects {
        self.log.push(entry);
        Effects { flush: self.progress.start(), ..Effects::default() }
    }
}

impl Held {
    /// Keeps a message until the member has joined; one that can't be kept costs the member its connection.
    fn keep(&mut self, message: &Message, offset: Option<NonZeroU64>, bounds: Bounds) -> Result<(), Close> {
        if offset.is_some() && self.left_out.is_some() {
            return Ok(());
        }
        let length = message.frame().len();
        if let Some(offset) = offset.filter(|_| bounds.heals && !self.fits(length, bounds)) {
            self.leave_out(self.messages.iter().find_map(|(offset, _)| *offset).unwrap_or(offset));
            return Ok(());
        }
        if !self.fits(length, bounds) {
            return Err(Close::SLOW_CONSUMER);
        }
        self.bytes += length;
        self.messages.push((offset, message.clone()));
        Ok(())
    }

    fn fits(&self, length: usize, bounds: Bounds) -> bool {
        self.bytes + length <= bounds.held_bytes && self.first.len() + self.messages.len() < bounds.held_messages
    }

    /// Holds nothing more of the history from an offset on; what is held of it is after that.
    fn leave_out(&mut self, from: NonZeroU64) {
        self.left_out = Some(from);
        self.messages.retain(|(offset, _)| offset.is_none());
        self.count();
    }

    /// Puts messages in front of what is held, of which the member has a part already.
    fn start_with(&mut self, first: Vec<Message>, has_up_to: u64, bounds: Bounds) {
        let had = |offset: &Option<NonZeroU64>| offset.is_some_and(|offset| offset.get() <= has_up_to);
        self.messages.retain(|(offset, _)| !had(offset));
        self.first = first;
        let next = NonZeroU64::MIN.saturating_add(has_up_to);
        self.left_out = self.left_out.map(|left_out| left_out.max(next));
        self.count();
        let many = self.first.len() + self.messages.len() > bounds.held_messages || self.bytes > bounds.held_bytes;
        if let Some(from) = self.messages.iter().find_map(|(offset, _)| *offset).filter(|_| many && bounds.heals) {
            self.leave_out(from);
        }
    }

    fn count(&mut self) {
        let all = self.messages.iter().map(|(_, message)| message).chain(&self.first);
        self.bytes = all.map(|message| message.frame().len()).sum();
    }
}

impl Member {
    /// Keeps the log's news for a member that is still joining.
    fn hold(&mut self, log: &mut Log, room: &RoomKey, bounds: Bounds) {
        let rights = self.rights();
        let Some(held) = &mut self.held else { return };
        for entry in log.since_mut(self.cursor) {
            // Until it is counted, its `room_joined` will say how many there are, and who.
            // The state follows it.
            let said = !held.counted && (entry.state || matches!(entry.about, About::Viewers | About::Names));
            if said || entry.except == Some(self.recipient.id()) || !rights.hears(entry.to) {
                continue;
            }
            let offset = entry.about.offset();
            if entry.about == About::Loss {
                // It is told to fetch, and so has what came before.
                held.left_out = None;
            }
            let message = match self.recipient.form() {
                Form::Single => &entry.message,
                Form::Multi | Form::Positioned => entry.multi(room),
            };
            if let Err(close) = held.keep(message, offset, bounds) {
                (held.messages, held.first, held.bytes) = (Vec::new(), Vec::new(), usize::MAX / 2);
                self.recipient.close(close, Waiting::Drop);
                break;
            }
        }
    }
}

/// Space in a room's log, kept for one publisher until its message is through the bus.
pub(crate) struct Reservation {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        lock(&self.room.state).log.release(self.bytes);
        self.room.space.notify_waiters();
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("key", &self.key).finish_non_exhaustive()
    }
}
