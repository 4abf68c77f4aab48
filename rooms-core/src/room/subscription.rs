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

impl Room {
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
}
