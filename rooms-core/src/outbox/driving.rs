//! What the connection's own task does with an outbox: it writes what waits, and ends it.

use std::task::{Context, Poll};

use super::{
    Outbox,
    queue::Backlog,
    state::{Phase, State},
    transport::{Broken, Full, Transport, Wrote},
};
use crate::{close::Close, lock::lock};

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

    /// Has the connection's task look at what is to be done.
    pub(crate) fn wake(&self) {
        lock(&self.state).wake();
    }

    pub(super) fn begin_driving(&self) {
        lock(&self.state).drivers += 1;
    }

    pub(super) fn end_driving(&self) {
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
