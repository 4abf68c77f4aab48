//! Whether a message that is published here comes back.
//!
//! An answered `PING` proves little: after a failover a connection may sit on a server that answers and hears nothing. A
//! probe is a message to ourselves, through the publishing connection and back through the subscribing one.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::{fault::Fault, publisher::Bound, shared::Shared};

enum NoProof {
    /// The publishing connection did not take it. That one has its own supervisor.
    NotPublished,
    /// It was taken, and nothing comes.
    Deaf,
}

/// Proves again and again that the connection hears, and returns when it does not.
pub(super) async fn prove(shared: &Shared, generation: u64) -> Fault {
    let mut number = shared.probe_arrived.borrow().wrapping_add(1);
    loop {
        match send(shared, number).await {
            Ok(round_trip) => shared.status.proven(generation, round_trip),
            Err(NoProof::Deaf) => return Fault::Deaf,
            Err(NoProof::NotPublished) => {}
        }
        number += 1;
        rest(shared).await;
    }
}

async fn send(shared: &Shared, number: u64) -> Result<Duration, NoProof> {
    let start = Instant::now();
    let mut arrived = shared.probe_arrived.subscribe();
    let published = shared.queue.publish(shared.probe.clone(), number.to_string().into(), Bound::Probe).await;
    match published {
        // The server that took it does not know this node's subscription.
        Ok(0) => return Err(NoProof::Deaf),
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(%error, "a probe was not published");
            return Err(NoProof::NotPublished);
        }
    }
    loop {
        let before = shared.counters.received.get();
        match timeout(shared.limits.probe_within, arrived.wait_for(|arrived| *arrived >= number)).await {
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
