//! A bus that is called with care, as it may be the application's code.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::time::timeout;

use super::{Bus, BusError, History, States, Topic};
use crate::reports::LinkReport;

/// Calls a bus so that no hang and no panic of it ends the tasks on which every later join, and every count, waits.
#[derive(Debug)]
pub(crate) struct GuardedBus {
    bus: Arc<dyn Bus>,
    within: Duration,
}

/// Why the bus did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusFault {
    #[error("{0}")]
    Refused(BusError),
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("the bus panicked")]
    Panicked,
}

impl GuardedBus {
    /// `within` is how long it may take to answer.
    pub(crate) fn new(bus: Arc<dyn Bus>, within: Duration) -> Self {
        Self { bus, within }
    }

    /// States something to the bus; `false` where it panicked.
    pub(crate) fn state(&self, statement: impl FnOnce(&dyn Bus)) -> bool {
        let stated = catch_unwind(AssertUnwindSafe(|| statement(&*self.bus))).is_ok();
        if !stated {
            tracing::error!("the bus panicked");
        }
        stated
    }

    /// The history that it keeps, if any; what is asked of it is to be awaited by [`answer`](Self::answer).
    pub(crate) fn history(&self) -> Option<&dyn History> {
        self.bus.history()
    }

    /// The states that it keeps, if any; what is asked of it is to be awaited by [`answer`](Self::answer).
    pub(crate) fn states(&self) -> Option<&dyn States> {
        self.bus.states()
    }

    /// How its links are; none where it panicked.
    pub(crate) fn links(&self) -> Vec<LinkReport> {
        let mut links = Vec::new();
        self.state(|bus| links = bus.links());
        links
    }

    pub(crate) async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusFault> {
        self.answer(async { self.bus.publish(topic, payload).await }).await
    }

    /// Waits for what the bus was asked for.
    pub(crate) async fn answer<T>(&self, call: impl Future<Output = Result<T, BusError>>) -> Result<T, BusFault> {
        // In a block that drops what took too long, as that may panic too.
        let in_time = async move { timeout(self.within, call).await };
        match AssertUnwindSafe(in_time).catch_unwind().await {
            Ok(Ok(answer)) => answer.map_err(BusFault::Refused),
            Ok(Err(_)) => Err(BusFault::NoAnswer(self.within)),
            Err(_) => Err(BusFault::Panicked),
        }
    }
}
