//! Whether a message that is published here comes back.
//!
//! An answered `PING` proves little: after a failover a connection may sit on a server that answers and hears nothing. A
//! probe is a message to ourselves, through the publishing connection and back through the subscribing one.

use std::{error::Error, time::Duration};

use rooms_core::bus::BusError;
use tokio::time::{Instant, sleep, timeout};

use crate::{fault::Fault, publisher::Bound, shared::Shared};

enum NoProof {
    /// The publishing connection did not take it. That one has its own supervisor.
    NotPublished,
    /// The user in Redis may not publish.
    Refused(Box<dyn Error + Send + Sync>),
    /// It was taken, and nothing comes.
    Deaf,
}

/// Proves again and again that the connection hears, and returns when it does not.
pub(super) async fn prove(shared: &Shared, generation: u64) -> Fault {
    for number in 1.. {
        match send(shared, generation, number).await {
            Ok(round_trip) => shared.status.proven(generation, round_trip),
            Err(NoProof::Deaf) => return Fault::Deaf,
            // What is heard is heard; so the connection stays, though the bus as a whole is not up.
            Err(NoProof::Refused(cause)) => shared.status.unproven(Fault::MayNotPublish(cause)),
            Err(NoProof::NotPublished) => {}
        }
        rest(shared).await;
    }
    Fault::Deaf
}

async fn send(shared: &Shared, generation: u64, number: u64) -> Result<Duration, NoProof> {
    let start = Instant::now();
    let mut arrived = shared.probe_arrived.subscribe();
    match shared.queue.publish(shared.probe.clone(), number.to_string().into(), Bound::Probe).await {
        // The server that took it does not know this node's subscription.
        Ok(0) => return Err(NoProof::Deaf),
        Ok(_) => {}
        Err(BusError::Refused(cause)) => return Err(NoProof::Refused(cause)),
        Err(error) => {
            tracing::debug!(%error, "a probe was not published");
            return Err(NoProof::NotPublished);
        }
    }
    loop {
        let before = shared.counters.received.get();
        match timeout(shared.limits.probe_within, arrived.wait_for(|arrived| *arrived == (generation, number))).await {
            Ok(_) => return Ok(start.elapsed()),
            Err(_) if shared.counters.received.get() == before => return Err(NoProof::Deaf),
            // It is behind other messages, which prove as much.
            Err(_) => {}
        }
    }
}

/// Waits until a probe is due.
async fn rest(shared: &Shared) {
    loop {
        let before = (shared.counters.received.get(), shared.counters.published.get());
        tokio::select! {
            () = shared.status.probe_now.notified() => return,
            () = sleep(shared.limits.probe_every) => {}
        }
        let after = (shared.counters.received.get(), shared.counters.published.get());
        // What goes out and comes in anyway is proof enough.
        if !shared.status.is_up() || after.0 == before.0 || after.1 == before.1 {
            return;
        }
    }
}
