//! One member's bounded queue in front of any sink.
//!
//! An outbox owns the sink. Whoever has a message for the member tries the sink in place, in its own time slice; only
//! what the sink does not take is queued, and the connection's own task is woken when the sink has room again. The lock
//! is the member's own, and nothing awaits under it.

mod delivery;
mod driving;
mod framing;
#[cfg(all(test, rooms_loom))]
mod model;
mod order;
mod queue;
mod recipient;
mod source;
mod state;
mod transport;

use std::{fmt, sync::Arc};

use tokio::sync::Notify;

pub use self::source::Overflow;
pub(crate) use self::{
    delivery::Delivery,
    driving::Progress,
    framing::Framing,
    order::Order,
    queue::Backlog,
    recipient::{Driver, Recipient},
    source::{About, Source},
    transport::Transport,
};
use self::{
    framing::Fixed,
    queue::Bounds,
    state::{Phase, State},
    transport::Full,
};
use crate::{
    auth::Identity,
    close::{Close, CloseCode},
    handshake::Deflate,
    limits::Limits,
    lock::{Mutex, lock},
    message::{Form, Message},
    reports::LoadReport,
};

/// Kept small: there is one for each connection, and nearly all are idle.
pub(crate) struct Outbox {
    state: Mutex<State>,
    fixed: Fixed,
}

/// What happens to the messages that wait when an outbox is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// They go out before the close frame.
    Flush,
    /// They are dropped.
    Drop,
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

/// What the end of a connection is called whose client is gone.
pub(crate) const GONE: Close = Close::known(CloseCode::GOING_AWAY, "");

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
