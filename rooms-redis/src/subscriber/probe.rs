//! Whether a message that is published here comes back.
//!
//! An answered `PING` proves little: after a failover a connection may sit on a server that answers and hears nothing. A
//! probe is a message to ourselves, through the publishing connection and back through the subscribing one.

use std::{error::Error, time::Duration};

use rooms_core::bus::BusError;
use tokio::time::{Instant, sleep, timeout};

use crate::{channels::Channel, fault::Fault, lane::Lane, queue::Bound, shared::Shared};

enum NoProof {
    /// The publishing connection did not take it. That one has its own supervisor.
    NotPublished,
    /// The user in Redis may not publish.
    Refused(Box<dyn Error + Send + Sync>),
    /// It was taken, and nothing comes.
    Deaf,
}

/// Proves again and again that the connection hears, and returns when it does not.
pub(super) async fn prove(shared: &Shared, lane: &Lane, generation: u64, probe: Channel) -> Fault {
    for number in 1.. {
        match send(shared, lane, &probe, (generation, number)).await {
            Ok(round_trip) => shared.status.proven((lane.id, generation), round_trip),
            Err(NoProof::Deaf) => return Fault::Deaf,
            // What is heard is heard; so the connection stays, though the bus as a whole is not up.
            Err(NoProof::Refused(cause)) => shared.status.unproven(lane.id, Fault::MayNotPublish(cause)),
            Err(NoProof::NotPublished) => {}
        }
        rest(shared, lane).await;
    }
    Fault::Deaf
}

async fn send(shared: &Shared, lane: &Lane, probe: &Channel, expected: (u64, u64)) -> Result<Duration, NoProof> {
    let start = Instant::now();
    let mut arrived = lane.probe_arrived.subscribe();
    match lane.queue.publish(probe.clone(), expected.1.to_string().into(), Bound::Probe).await {
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
        let before = lane.received.get();
        match timeout(shared.limits.probe_within, arrived.wait_for(|arrived| *arrived == expected)).await {
            Ok(_) => return Ok(start.elapsed()),
            Err(_) if lane.received.get() == before => return Err(NoProof::Deaf),
            // It is behind other messages, which prove as much.
            Err(_) => {}
        }
    }
}

/// Waits until a probe is due.
async fn rest(shared: &Shared, lane: &Lane) {
    loop {
        let before = (lane.received.get(), lane.published.get());
        tokio::select! {
            () = lane.probe_now.notified() => return,
            () = sleep(shared.limits.probe_every) => {}
        }
        let after = (lane.received.get(), lane.published.get());
        // What goes out and comes in anyway is proof enough.
        if !shared.status.is_proven(lane.id) || after.0 == before.0 || after.1 == before.1 {
            return;
        }
    }
}
