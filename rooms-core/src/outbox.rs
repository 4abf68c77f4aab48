//! One member's bounded queue in front of any sink.
//!
//! An outbox owns the sink. Whoever has a message for the member tries the sink in place, in its own time slice; only
//! what the sink does not take is queued, and the connection's own task is woken when the sink has room again. The lock
//! is the member's own, and nothing awaits under it.

mod framing;
mod left_out;
#[cfg(all(test, rooms_loom))]
mod model;
mod order;
mod queue;
mod recipient;
mod source;
mod transport;

use std::{
    fmt,
    num::NonZeroU64,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

pub use self::source::Overflow;
use self::{
    framing::Fixed,
    queue::{Bounds, Offered, Overrun, Queue},
    transport::{Broken, Full, Wrote},
};
pub(crate) use self::{
    framing::Framing,
    order::Order,
    queue::Backlog,
    recipient::{Driver, Recipient},
    source::{About, Source},
    transport::Transport,
};
use crate::{
    auth::Identity,
    close::{Close, CloseCode},
    handshake::Deflate,
    limits::Limits,
    lock::{Mutex, lock},
    message::{Form, Message},
    reports::LoadReport,
    room_key::RoomKey,
};

/// Kept small: there is one for each connection, and nearly all are idle.
pub(crate) struct Outbox {
    state: Mutex<State>,
    fixed: Fixed,
}

struct State {
    /// None once the connection has ended: nobody else who keeps the outbox keeps the socket.
    sink: Option<Transport>,
    /// The connection's task.
    task: Option<Waker>,
    phase: Phase,
    /// The sink said that it is full; it is tried again by the connection's task only.
    full: Full,
    drivers: u32,
    /// A session serves the connection, and carries out orders.
    served: bool,
    /// The user is put out, and is not expected back.
    removed: bool,
    /// What few connections need, or only at their end.
    seldom: Option<Box<Seldom>>,
}

#[derive(Default)]
struct Seldom {
    /// What the sink did not take.
    waiting: Option<Box<Queue>>,
    /// The close that is under way, or was.
    close: Option<Close>,
    /// Told when nothing is taken any more; there only while somebody waits for that.
    closed: Option<Arc<Notify>>,
    /// The rooms that have left messages out, each with the member's slot in it.
    behind: Vec<(RoomKey, usize)>,
    /// For the connection's task.
    orders: Vec<Order>,
    /// Who it is since its token was refreshed.
    renewed: Option<Arc<Identity>>,
    /// How often what waited was dropped, before what waits now.
    resyncs: u32,
}

impl Seldom {
    fn is_empty(&self) -> bool {
        self.waiting.is_none()
            && self.close.is_none()
            && self.closed.is_none()
            && self.behind.is_empty()
            && self.orders.is_empty()
            && self.renewed.is_none()
            && self.resyncs == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The close frame is the last that waits, or is out.
    Closing,
    Broken,
}

/// What happens to the messages that wait when an outbox is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// They go out before the close frame.
    Flush,
    /// They are dropped.
    Drop,
}

/// What became of messages for one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// They were written, or wait to be.
    Taken,
    /// The outbox is closed, perhaps because they were too many.
    Closed,
}

/// How far an outbox is, seen from the connection's task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Open; the task will be woken when there is something to do.
    Open(Backlog),
    /// Closing, and the close frame is not out yet.
    Closing(Close),
    /// The close frame is out.
    Closed(Close),
    /// The sink failed.
    Broken,
}

impl Outbox {
    pub(crate) fn new(sink: Transport, limits: &Limits) -> Self {
        let state = State {
            sink: Some(sink),
            task: None,
            phase: Phase::Open,
            full: Full::No,
            drivers: 0,
            served: false,
            removed: false,
            seldom: None,
        };
        Self { state: Mutex::new(state), fixed: Fixed::new(Bounds::new(limits), Form::Single.into()) }
    }

    pub(crate) fn framed(self, framing: Framing) -> Self {
        Self { fixed: Fixed::new(self.fixed.bounds(), framing), ..self }
    }

    /// How the member is to be told what happens in its rooms.
    pub(crate) const fn form(&self) -> Form {
        self.fixed.form()
    }

    /// Whether what is broadcast in them may be compressed for the member.
    pub(crate) const fn deflate(&self) -> Option<Deflate> {
        self.fixed.deflate()
    }

    pub(crate) const fn framing(&self) -> Framing {
        Framing { form: self.form(), deflate: self.deflate() }
    }

    /// Gives the member messages that are for it alone: what the sink takes at once is gone, the rest is queued.
    pub(crate) fn deliver(&self, batch: &[Message]) -> Delivery {
        self.give(batch, |queue, at| batch.get(at).map(|message| queue.offer(message, self.fixed.bounds())))
    }

    /// Gives the member messages of a room, each with what it is about; where too many wait, the room's rule decides. Gives
    /// the offset from which on it left out what the log has, if it did: it may not be called again before the member was
    /// given that.
    pub(crate) fn deliver_from(&self, source: &Source, batch: &[Message], about: &[About]) -> Option<NonZeroU64> {
        let mut behind = None;
        self.give(batch, |queue, at| {
            let (message, this) = batch.get(at).zip(about.get(at))?;
            // A later one of the batch would replace it, and to look for what is replaced costs a turn of the queue.
            let later = about.get(at + 1..).unwrap_or_default();
            let left_out = behind.is_some() && this.offset().is_some();
            if left_out || source.replaces(*this) && later.iter().any(|later| later.is_of_the_sort_of(*this)) {
                return None;
            }
            match queue.offer_from(message, *this, source, self.fixed.bounds()) {
                Ok(Offered::Queued) => Some(Ok(())),
                Ok(Offered::Behind(offset)) => {
                    behind = behind.or(Some(offset));
                    Some(Ok(()))
                }
                Err(overrun) => Some(Err(overrun)),
            }
        });
        behind
    }

    /// Tries the sink with the batch, and has `offer` queue what it did not take, by its place in the batch.
    fn give(
        &self,
        batch: &[Message],
        mut offer: impl FnMut(&mut Queue, usize) -> Option<Result<(), Overrun>>,
    ) -> Delivery {
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return Delivery::Closed;
        }
        let taken = match state.full {
            Full::No => self.write_now(&mut state, batch),
            Full::Yes => 0,
        };
        for at in taken..batch.len() {
            if let Some(Err(Overrun)) = offer(state.queue(), at) {
                state.close(Close::SLOW_CONSUMER, Waiting::Drop);
                return Delivery::Closed;
            }
        }
        if state.phase == Phase::Open { Delivery::Taken } else { Delivery::Closed }
    }

    /// Queues a welcome and what follows it without touching the sink; the connection's task writes it with its next
    /// [`drive`](Self::drive), and is not woken for that. What follows is bounded by who gives it, and so is not too much
    /// because the welcome is long.
    ///
    /// For callers that hold a lock of their own, under which nothing may be written.
    pub(crate) fn queue(&self, welcome: &Message, rest: impl Iterator<Item = Message>) {
        self.queue_by(|queue, bounds| {
            queue.offer(welcome, bounds)?;
            rest.for_each(|message| queue.append(message));
            Ok(())
        });
    }

    /// The same with one message of a room, by the room's rule; wakes the connection's task. Gives what [`deliver_from`](Self::deliver_from) does.
    pub(crate) fn queue_from(&self, source: &Source, message: &Message, about: About) -> Option<NonZeroU64> {
        let offered = self.queue_by(|queue, bounds| queue.offer_from(message, about, source, bounds));
        self.wake();
        match offered? {
            Offered::Queued => None,
            Offered::Behind(offset) => Some(offset),
        }
    }

    /// Queues what a room has left out, in order, as far as there is space. What is `None` is not for this member, and has
    /// its place. Gives the offset of the last that it has now, if it was given any.
    pub(crate) fn refill(
        &self,
        source: &Source,
        missed: impl Iterator<Item = (NonZeroU64, Option<Message>)>,
    ) -> Option<NonZeroU64> {
        let last = self.queue_by(|queue, bounds| {
            let (mut last, mut one) = (None, true);
            for (offset, message) in missed {
                if let Some(message) = message {
                    let fits = queue.refill(&message, About::Logged(offset), source, bounds, std::mem::take(&mut one));
                    if !fits {
                        break;
                    }
                }
                last = Some(offset);
            }
            Ok(last)
        });
        self.wake();
        last?
    }

    fn queue_by<T>(&self, offer: impl FnOnce(&mut Queue, Bounds) -> Result<T, Overrun>) -> Option<T> {
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return None;
        }
        // From here on the order is the queue's, until the task has written it.
        state.full = Full::Yes;
        let offered = offer(state.queue(), self.fixed.bounds());
        if offered.is_err() {
            state.close(Close::SLOW_CONSUMER, Waiting::Drop);
        }
        offered.ok()
    }

    /// A room has left out messages for the member in this slot of it. The connection's task asks for them once the sink
    /// takes something.
    pub(crate) fn falls_behind(&self, room: &RoomKey, slot: usize) {
        let mut state = lock(&self.state);
        let behind = &mut state.seldom.get_or_insert_default().behind;
        if behind.iter().all(|(other, _)| other != room) {
            behind.push((room.clone(), slot));
        }
        // It may take something already.
        state.wake();
    }

    /// The member has what that room left out, or was told that it can't be given it, or has left.
    pub(crate) fn caught_up(&self, room: &RoomKey) {
        if let Some(seldom) = &mut lock(&self.state).seldom {
            seldom.behind.retain(|(other, _)| other != room);
        }
    }

    /// The rooms that have left messages out, each with the member's slot in it.
    pub(crate) fn behind(&self) -> Vec<(RoomKey, usize)> {
        lock(&self.state).seldom.as_ref().map(|seldom| seldom.behind.clone()).unwrap_or_default()
    }

    fn write_now(&self, state: &mut State, batch: &[Message]) -> usize {
        debug_assert!(!state.has_waiting(), "messages wait only behind a full sink");
        let State { sink, task, .. } = state;
        let mut cx = Context::from_waker(task.as_ref().unwrap_or(Waker::noop()));
        match sink.as_mut().map_or(Err(Broken), |sink| sink.write(&mut cx, batch)) {
            Ok(Wrote { taken, full, .. }) => {
                // Where nobody drives the connection yet, its task tries again with its first turn.
                state.full = full;
                taken
            }
            Err(Broken) => {
                state.fail();
                batch.len()
            }
        }
    }

    /// Closes the outbox: nothing is taken any more, and the close frame goes out as its last. The first close counts.
    pub(crate) fn close(&self, close: Close, waiting: Waiting) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Open {
            state.close(close, waiting);
        }
    }

    /// [`close`](Self::close) of somebody who is put out: nobody waits for them to come back.
    pub(crate) fn remove(&self, close: Close, waiting: Waiting) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Open {
            state.removed = true;
            state.close(close, waiting);
        }
    }

    /// Whether it was closed by [`remove`](Self::remove).
    pub(crate) fn is_removed(&self) -> bool {
        lock(&self.state).removed
    }

    /// From here on a session carries out the orders.
    pub(crate) fn serve(&self) {
        lock(&self.state).served = true;
    }

    /// Leaves an order for the session; `false` where there is none to carry it out. One who has too many that wait is asked
    /// to come back.
    pub(crate) fn order(&self, order: Order) -> bool {
        let mut state = lock(&self.state);
        if !state.served {
            return false;
        }
        if state.phase != Phase::Open {
            return true;
        }
        let orders = &mut state.seldom.get_or_insert_default().orders;
        if orders.contains(&order) && matches!(order, Order::Recheck(_)) {
            return true;
        }
        if orders.len() < order::WAITING {
            orders.push(order);
            state.wake();
        } else {
            state.close(Close::UNAVAILABLE, Waiting::Drop);
        }
        true
    }

    /// The orders that were left.
    pub(crate) fn take_orders(&self) -> Vec<Order> {
        let mut state = lock(&self.state);
        let orders = state.seldom.as_mut().map(|seldom| std::mem::take(&mut seldom.orders)).unwrap_or_default();
        // After a recheck of a large room nothing is left of it.
        state.seldom.take_if(|seldom| seldom.is_empty());
        orders
    }

    /// Who it is since its token was refreshed; `None` where it never was.
    pub(crate) fn renewed(&self) -> Option<Arc<Identity>> {
        lock(&self.state).seldom.as_ref()?.renewed.clone()
    }

    pub(super) fn renew(&self, identity: Arc<Identity>) {
        lock(&self.state).seldom.get_or_insert_default().renewed = Some(identity);
    }

    /// [`close`](Self::close) with a last message in front of the close frame, whatever waits already.
    pub(crate) fn close_after(&self, last: Message, close: Close) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Open {
            state.queue().append(last);
            state.close(close, Waiting::Flush);
        }
    }

    /// Drops what waits in front of the close frame of an outbox that is closing.
    pub(crate) fn drop_waiting(&self) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Closing && state.has_waiting() {
            let last = Message::close(&state.last_close());
            state.drop_waiting();
            state.queue().append(last);
        }
    }

    /// Ends an outbox whose connection is gone, unless it is closing: then what waits still goes out.
    pub(crate) fn abandon(&self) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Open {
            state.fail();
        }
    }

    /// Writes what waits, for the connection's task, whose waker is kept for later.
    pub(crate) fn drive(&self, cx: &mut Context<'_>) -> Progress {
        self.drive_on(cx).0
    }

    /// [`drive`](Self::drive), which also says whether the sink took anything.
    pub(crate) fn drive_on(&self, cx: &mut Context<'_>) -> (Progress, bool) {
        let mut state = lock(&self.state);
        let mut any_moved = false;
        if !state.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        while state.phase != Phase::Broken && (state.full == Full::Yes || state.has_waiting()) {
            let State { sink, seldom, .. } = &mut *state;
            let waiting = seldom.as_mut().and_then(|seldom| seldom.waiting.as_mut());
            let batch = waiting.map_or(&[][..], |queue| queue.messages());
            match sink.as_mut().map_or(Err(Broken), |sink| sink.write(cx, batch)) {
                Ok(Wrote { taken, full, moved }) => {
                    any_moved |= moved;
                    state.written(taken);
                    state.full = full;
                    if full == Full::Yes {
                        break;
                    }
                }
                Err(Broken) => state.fail(),
            }
        }
        let progress = match state.phase {
            Phase::Open => {
                let seldom = state.seldom.as_ref();
                let orders = seldom.is_some_and(|seldom| !seldom.orders.is_empty());
                let behind = (any_moved || state.full == Full::No) && seldom.is_some_and(|it| !it.behind.is_empty());
                let backlog = state.waiting().map_or_else(Backlog::default, |it| it.look(self.fixed.bounds()));
                Progress::Open(Backlog { orders, behind, ..backlog })
            }
            Phase::Broken => Progress::Broken,
            Phase::Closing if !state.has_waiting() && state.full == Full::No => Progress::Closed(state.last_close()),
            Phase::Closing => Progress::Closing(state.last_close()),
        };
        (progress, any_moved)
    }

    /// Shuts the sink, after the close frame.
    pub(crate) fn poll_shut(&self, cx: &mut Context<'_>) -> Poll<()> {
        lock(&self.state).sink.as_mut().map_or(Poll::Ready(()), |sink| sink.poll_shut(cx))
    }

    /// Gives the sink back, of an outbox that nobody else has and nobody drove.
    pub(crate) fn into_sink(self) -> Option<Transport> {
        self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).sink
    }

    /// What is told when the outbox closes; `None` where it is closed already. See [`is_closed`](Self::is_closed).
    pub(crate) fn closed(&self) -> Option<Arc<Notify>> {
        let mut state = lock(&self.state);
        (state.phase == Phase::Open)
            .then(|| Arc::clone(state.seldom.get_or_insert_default().closed.get_or_insert_default()))
    }

    /// Whether nothing is taken any more: it is closing, or the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).phase != Phase::Open
    }

    /// The close that it was told to end with, also where its sink failed since; `None` where nobody closed it.
    pub(crate) fn told_close(&self) -> Option<Close> {
        lock(&self.state).seldom.as_ref()?.close.clone()
    }

    /// What waits.
    pub(crate) fn load(&self) -> LoadReport {
        let mut state = lock(&self.state);
        let mut load =
            LoadReport { resyncs: state.seldom.as_ref().map_or(0, |seldom| seldom.resyncs), ..LoadReport::default() };
        if let Some(queue) = state.waiting() {
            (load.messages, load.bytes) = (queue.len(), queue.bytes());
            load.resyncs += queue.resyncs();
        }
        load
    }

    /// The messages and the bytes that may wait.
    pub(crate) const fn most(&self) -> (usize, usize) {
        let Bounds { messages, bytes } = self.fixed.bounds();
        (messages as usize, bytes as usize)
    }

    /// The close that is under way, or was; `None` while the outbox is open.
    pub(crate) fn closing(&self) -> Option<Close> {
        let state = lock(&self.state);
        match state.phase {
            Phase::Open => None,
            Phase::Closing => Some(state.last_close()),
            Phase::Broken => Some(GONE),
        }
    }
}

impl Outbox {
    /// Has the connection's task look at what is to be done.
    pub(crate) fn wake(&self) {
        lock(&self.state).wake();
    }

    fn begin_driving(&self) {
        lock(&self.state).drivers += 1;
    }

    fn end_driving(&self) {
        let last = {
            let mut state = lock(&self.state);
            state.drivers -= 1;
            state.drivers == 0
        };
        if last {
            self.end();
        }
    }

    /// Drops the sink, and what waits for it: the connection has ended.
    pub(crate) fn end(&self) {
        // Outside the lock, as it may be the application's code.
        drop(self.take_sink());
    }

    /// [`end`](Self::end) where the client has closed its side, and the whole socket is closed next: the end of the stream
    /// needs no system call of its own.
    pub(crate) fn end_with_socket(&self) {
        if let Some(sink) = self.take_sink() {
            sink.discard();
        }
    }

    fn take_sink(&self) -> Option<Transport> {
        let mut state = lock(&self.state);
        if state.phase == Phase::Open {
            state.fail();
        }
        state.drop_waiting();
        state.sink.take()
    }
}

/// What the end of a connection is called whose client is gone.
pub(crate) const GONE: Close = Close::known(CloseCode::GOING_AWAY, "");

impl State {
    /// What the sink did not take; none most of the time.
    fn waiting(&mut self) -> Option<&mut Queue> {
        self.seldom.as_mut()?.waiting.as_deref_mut()
    }

    fn has_waiting(&self) -> bool {
        self.seldom.as_ref().is_some_and(|seldom| seldom.waiting.is_some())
    }

    /// The queue of what waits, which begins where there is none.
    fn queue(&mut self) -> &mut Queue {
        self.seldom.get_or_insert_default().waiting.get_or_insert_default()
    }

    fn drop_waiting(&mut self) {
        self.seldom.take_if(|seldom| {
            seldom.waiting = None;
            seldom.is_empty()
        });
    }

    fn close(&mut self, close: Close, waiting: Waiting) {
        if waiting == Waiting::Drop {
            self.drop_waiting();
        }
        self.queue().append(Message::close(&close));
        self.seldom.get_or_insert_default().close = Some(close);
        self.phase = Phase::Closing;
        self.wake();
    }

    /// The close that is under way.
    fn last_close(&self) -> Close {
        self.seldom.as_ref().and_then(|seldom| seldom.close.clone()).unwrap_or(GONE)
    }

    /// Forgets what was written. A connection that was slow once does not keep the memory of it.
    fn written(&mut self, count: usize) {
        let Some(queue) = self.waiting() else { return };
        queue.written(count);
        if queue.is_empty() {
            let resyncs = queue.resyncs();
            if resyncs > 0 {
                self.seldom.get_or_insert_default().resyncs += resyncs;
            }
            self.drop_waiting();
        }
    }

    fn fail(&mut self) {
        self.phase = Phase::Broken;
        self.drop_waiting();
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
        if self.phase != Phase::Open
            && let Some(closed) = self.seldom.as_mut().and_then(|seldom| seldom.closed.take())
        {
            closed.notify_waiters();
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut state = lock(&self.state);
        f.debug_struct("Outbox")
            .field("waiting", &state.waiting().map_or(0, |queue| queue.len()))
            .field("bytes", &state.waiting().map_or(0, |queue| queue.bytes()))
            .field("phase", &state.phase)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
