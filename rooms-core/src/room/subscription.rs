//! How a room stands with the bus.

use super::Room;
use crate::lock::lock;

/// How a room stands with the bus.
///
/// ```text
/// No --enter--> Wanted --ask--> Asked --both topics confirmed--> Confirmed --the other nodes were asked--> Live
///  ^                              |
///  +----------- refused ----------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscription {
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
    /// Confirmed; the other nodes are asked for their counts, by a query later than this one. An earlier one was for the
    /// room that had the key before, and what was published between the two subscriptions was not received.
    Confirmed {
        after_query: u64,
    },
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

impl Room {
    /// Waits until the bus has confirmed the subscription, or failed to.
    ///
    /// May be dropped at any time.
    pub(crate) async fn subscribed(&self) -> Result<(), NotSubscribed> {
        loop {
            let changed = {
                let mut state = lock(&self.state);
                match state.subscription {
                    Subscription::Live => return Ok(()),
                    Subscription::No => return Err(NotSubscribed),
                    Subscription::Wanted | Subscription::Asked { .. } | Subscription::Confirmed { .. } => {
                        state.for_bus.wait()
                    }
                }
            };
            changed.await;
        }
    }

    pub(super) fn subscription(&self) -> Subscription {
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
            state.subscription = Subscription::Confirmed { after_query: state.share.last_query() };
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
        let waiting = {
            let mut state = lock(&self.state);
            if !matches!(state.subscription, Subscription::Wanted | Subscription::Asked { .. }) {
                return;
            }
            state.subscription = Subscription::No;
            state.for_bus.take()
        };
        waiting.wake();
    }

    /// There are no other nodes, so whoever waits may come in.
    pub(crate) fn open_alone(&self) {
        self.open(|_| true);
    }

    /// What the other nodes have in the room is known by the answers to a query, so whoever waits may come in.
    pub(crate) fn open_by(&self, query: u64) {
        self.open(|after_query| query > after_query);
    }

    /// Only a confirmed room is opened: a query may end when the room that it was for is gone, and another one with the
    /// same key waits for the bus.
    fn open(&self, is_known: impl FnOnce(u64) -> bool) {
        let waiting = {
            let mut state = lock(&self.state);
            match state.subscription {
                Subscription::Confirmed { after_query } if is_known(after_query) => {}
                _ => return,
            }
            state.subscription = Subscription::Live;
            state.for_bus.take()
        };
        waiting.wake();
    }
}
