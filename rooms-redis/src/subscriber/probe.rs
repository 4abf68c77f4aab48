//! Whether a message that is published here comes back.
//!
//! An answered `PING` proves little: after a failover a connection may sit on a server that answers and hears nothing. A
//! probe is a message to ourselves, through the publishing connection and back through the subscribing one.

use std::{error::Error, time::Duration};

use rooms_core::bus::BusError;
use tokio::time::{Instant, sleep, timeout};

use crate::{channels::Channel, fault::Fault, link::Link, queue::Bound, shared::Shared};

enum NoProof {
    /// The publishing connection did not take it. That one has its own supervisor.
    NotPublished,
    /// The user in Redis may not publish.
    Refused(Box<dyn Error + Send + Sync>),
    /// It was taken, and nothing comes.
    Lost,
}

/// Proves again and again that the connection hears, and returns when it does not.
pub(super) async fn prove(shared: &Shared, link: &Link, generation: u64, probe: Channel) -> Fault {
    for number in 1.. {
        match send(shared, link, &probe, (generation, number)).await {
            Ok(round_trip) => {
                shared.counters.round_trip.record(round_trip);
                shared.status.proven((link.id, generation), round_trip);
            }
            Err(NoProof::Lost) => return Fault::ProbeLost,
            // What is heard is heard; so the connection stays, though the bus as a whole is not up.
            Err(NoProof::Refused(cause)) => shared.status.unproven(link.id, Fault::MayNotPublish(cause)),
            Err(NoProof::NotPublished) => {}
        }
        rest(shared, link).await;
    }
    Fault::ProbeLost
}

async fn send(shared: &Shared, link: &Link, probe: &Channel, expected: (u64, u64)) -> Result<Duration, NoProof> {
    let start = Instant::now();
    let mut arrived = link.probe_arrived.subscribe();
    match link.queue.publish(probe.clone(), expected.1.to_string().into(), Bound::Probe).await {
        // The server that took it does not know this node's subscription.
        Ok(0) => return Err(NoProof::Lost),
        Ok(_) => {}
        Err(BusError::Refused(cause)) => return Err(NoProof::Refused(cause)),
        Err(error) => {
            tracing::debug!(%error, "a probe was not published");
            return Err(NoProof::NotPublished);
        }
    }
    loop {
        let before = link.received.get();
        match timeout(shared.limits.probe_timeout, arrived.wait_for(|arrived| *arrived == expected)).await {
            Ok(_) => return Ok(start.elapsed()),
            Err(_) if link.received.get() == before => return Err(NoProof::Lost),
            // It is behind other messages, which prove as much.
            Err(_) => {}
        }
    }
}

/// Waits until a probe is due.
async fn rest(shared: &Shared, link: &Link) {
    loop {
        let before = (link.received.get(), link.published.get());
        tokio::select! {
            () = link.probe_now.notified() => return,
            () = sleep(shared.limits.probe_interval) => {}
        }
        let after = (link.received.get(), link.published.get());
        // What goes out and comes in anyway is proof enough.
        if !shared.status.is_proven(link.id) || after.0 == before.0 || after.1 == before.1 {
            return;
        }
    }
}
