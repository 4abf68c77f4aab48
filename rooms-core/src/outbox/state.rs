//! What an outbox knows of its connection, behind its lock.

use std::{sync::Arc, task::Waker};

use tokio::sync::Notify;

use super::{
    GONE, Waiting,
    order::Order,
    queue::Queue,
    transport::{Full, Transport},
};
use crate::{auth::Identity, close::Close, message::Message, room_key::RoomKey};

pub(super) struct State {
    /// None once the connection has ended: nobody else who keeps the outbox keeps the socket.
    pub(super) sink: Option<Transport>,
    /// The connection's task.
    pub(super) task: Option<Waker>,
    pub(super) phase: Phase,
    /// The sink said that it is full; it is tried again by the connection's task only.
    pub(super) full: Full,
    pub(super) drivers: u32,
    /// A session serves the connection, and carries out orders.
    pub(super) served: bool,
    /// The user is put out, and is not expected back.
    pub(super) removed: bool,
    /// What few connections need, or only at their end.
    pub(super) seldom: Option<Box<Seldom>>,
}

#[derive(Default)]
pub(super) struct Seldom {
    /// What the sink did not take.
    pub(super) waiting: Option<Box<Queue>>,
    /// The close that is under way, or was.
    pub(super) close: Option<Close>,
    /// Told when nothing is taken any more; there only while somebody waits for that.
    pub(super) closed: Option<Arc<Notify>>,
    /// The rooms that have left messages out, each with the member's slot in it.
    pub(super) behind: Vec<(RoomKey, usize)>,
    /// For the connection's task.
    pub(super) orders: Vec<Order>,
    /// Who it is since its token was refreshed.
    pub(super) renewed: Option<Arc<Identity>>,
    /// How often what waited was dropped, before what waits now.
    pub(super) resyncs: u32,
}

impl Seldom {
    pub(super) fn is_empty(&self) -> bool {
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
pub(super) enum Phase {
    Open,
    /// The close frame is the last that waits, or is out.
    Closing,
    Broken,
}

impl State {
    /// What the sink did not take; none most of the time.
    pub(super) fn waiting(&mut self) -> Option<&mut Queue> {
        self.seldom.as_mut()?.waiting.as_deref_mut()
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.seldom.as_ref().is_some_and(|seldom| seldom.waiting.is_some())
    }

    /// The queue of what waits, which begins where there is none.
    pub(super) fn queue(&mut self) -> &mut Queue {
        self.seldom.get_or_insert_default().waiting.get_or_insert_default()
    }

    pub(super) fn drop_waiting(&mut self) {
        self.seldom.take_if(|seldom| {
            seldom.waiting = None;
            seldom.is_empty()
        });
    }

    pub(super) fn close(&mut self, close: Close, waiting: Waiting) {
        if waiting == Waiting::Drop {
            self.drop_waiting();
        }
        self.queue().append(Message::close(&close));
        self.seldom.get_or_insert_default().close = Some(close);
        self.phase = Phase::Closing;
        self.wake();
    }

    /// The close that is under way.
    pub(super) fn last_close(&self) -> Close {
        self.seldom.as_ref().and_then(|seldom| seldom.close.clone()).unwrap_or(GONE)
    }

    /// Forgets what was written. A connection that was slow once does not keep the memory of it.
    pub(super) fn written(&mut self, count: usize) {
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

    pub(super) fn fail(&mut self) {
        self.phase = Phase::Broken;
        self.drop_waiting();
        self.wake();
    }

    pub(super) fn wake(&mut self) {
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
