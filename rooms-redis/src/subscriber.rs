//! The subscribing connection of a lane: one task keeps it up, and on it what is wanted.

mod commands;
mod hearing;
mod probe;

use std::{convert::Infallible, sync::Arc, time::Duration};

use redis::aio::MultiplexedConnection;
use rooms_core::bus::{Lost, Topic};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use self::{
    commands::{Answer, subscribe, unsubscribe},
    hearing::Hearing,
};
use crate::{
    backoff::Backoff, channels::Channel, fault::Fault, lane::Lane, lanes::Lanes, shared::Shared, subscriptions::Batch,
};

/// Channels in one command. 512: 100,000 subscriptions take 15 s one by one, 1.7 s in hundreds and 1.1 s in thousands,
/// and ten thousand at once hold Redis up for longer without being faster.
const BATCH: usize = 512;

/// The pause after slots have moved: while two servers still disagree, each sends us to the other.
const MOVED_PAUSE: Duration = Duration::from_millis(20);

/// Keeps the subscribing connection of a lane up, for ever.
pub(crate) async fn supervise(lanes: Arc<Lanes>, lane: Arc<Lane>, mut generation: u64) {
    let shared = &lanes.shared;
    let mut backoff = Backoff::new(&shared.limits);
    loop {
        let since = Instant::now();
        let fault = live(&lanes, &lane, generation).await;
        shared.counters.subscriber_losses.count();
        // What nobody relied on can't have been lost. Where there are several lanes, each says its gaps itself.
        let all_at_once = shared.nodes.is_none() && shared.subscriptions.any_told();
        let lost = if all_at_once { Lost::Perhaps } else { Lost::Nothing };
        // In this order: whoever waits for the end of a subscription is answered when nothing comes from it any more.
        generation = shared.status.subscriber_lost(lane.id, fault, lost);
        shared.subscriptions.disconnected(lane.id);
        shared.doubt();
        sleep(backoff.pause(since.elapsed())).await;
    }
}

/// One connection, from the attempt to its end.
async fn live(lanes: &Arc<Lanes>, lane: &Arc<Lane>, generation: u64) -> Fault {
    let shared = &lanes.shared;
    let Some(probe) = lane.probe(shared, &lanes.routes()) else { return Fault::NoSlots };
    let (alive, ended) = oneshot::channel();
    let hearing = Hearing::new(Arc::clone(shared), Arc::clone(lane), generation, probe.clone(), alive);
    let name = format!("{}:sub", shared.client_name);
    let connection = match lane.server.open(&name, move |push| hearing.hear(push)).await {
        Ok(connection) => connection,
        Err(fault) => return fault,
    };
    let mut condemned = lane.condemned.subscribe();
    tokio::select! {
        fault = serve(lanes, lane, generation, probe, connection) => fault,
        _ = ended => Fault::Closed,
        _ = condemned.wait_for(|condemned| *condemned == generation) => Fault::Unheard,
    }
}

async fn serve(
    lanes: &Arc<Lanes>,
    lane: &Lane,
    generation: u64,
    probe: Channel,
    mut connection: MultiplexedConnection,
) -> Fault {
    let restored = restore(lanes, lane, generation, &probe, &mut connection).await;
    if let Err(fault) = restored {
        return fault;
    }
    tokio::select! {
        Err(fault) = follow(lanes, lane, generation, &mut connection) => fault,
        fault = probe::prove(&lanes.shared, lane, generation, probe) => fault,
    }
}

/// Subscribes all that was wanted when the connection came up.
async fn restore(
    lanes: &Arc<Lanes>,
    lane: &Lane,
    generation: u64,
    probe: &Channel,
    connection: &mut MultiplexedConnection,
) -> Result<(), Fault> {
    let shared = &lanes.shared;
    match subscribe(shared, lane, connection, std::slice::from_ref(probe)).await?.pop() {
        Some(Answer::Done) => {}
        Some(Answer::Refused(error)) => return Err(Fault::Refused(error)),
        Some(Answer::Moved(slot, address)) => {
            lanes.patch(&[(slot, address)]);
            return Err(Fault::NoSlots);
        }
        Some(Answer::NotNow) => return Err(Fault::ClusterDown),
        None => return Err(Fault::OutOfStep),
    }
    let mut left = shared.subscriptions.connected(lane.id, generation);
    let mut back = Vec::new();
    while left > 0 {
        let (channels, taken) = shared.subscriptions.take_subscribe(lane.id, BATCH.min(left));
        left = left.saturating_sub(taken.max(1));
        back.extend(carry_out(lanes, lane, connection, Batch::Subscribe(channels)).await?);
    }
    let refused = shared.subscriptions.refusals(lane.id).relied_on;
    if refused > 0 {
        tracing::warn!(topics = refused, "Redis refuses what it allowed before; trying until it does not");
    }
    // Where some are refused, the bus is not up as a whole, perhaps for long. Those who rely on the others are told now.
    if refused > 0 || shared.nodes.is_some() {
        say_gaps(shared, back);
    }
    Ok(())
}

/// Follows what is wanted, for as long as the connection lives.
async fn follow(
    lanes: &Arc<Lanes>,
    lane: &Lane,
    generation: u64,
    connection: &mut MultiplexedConnection,
) -> Result<Infallible, Fault> {
    let shared = &lanes.shared;
    let mut backoff = Backoff::new(&shared.limits);
    loop {
        while let Some(batch) = shared.subscriptions.take(lane.id, BATCH) {
            let back = carry_out(lanes, lane, connection, batch).await?;
            say_gaps(shared, back);
        }
        let refused = shared.subscriptions.refusals(lane.id);
        if refused.relied_on == 0 && shared.status.listening((lane.id, generation)) {
            lane.probe_now.notify_one();
        }
        if refused.all == 0 {
            backoff = Backoff::new(&shared.limits);
            lane.news.notified().await;
            continue;
        }
        tokio::select! {
            () = lane.news.notified() => {}
            () = sleep(shared.limits.retry_first + backoff.pause(Duration::ZERO)) => {
                shared.subscriptions.retry_refused(lane.id);
            }
        }
    }
}

/// Asks Redis for one batch; gives the topics that are subscribed and that somebody relied on before.
async fn carry_out(
    lanes: &Arc<Lanes>,
    lane: &Lane,
    connection: &mut MultiplexedConnection,
    batch: Batch,
) -> Result<Vec<Topic>, Fault> {
    let shared = &lanes.shared;
    let channels = match batch {
        Batch::Subscribe(channels) => channels,
        Batch::Unsubscribe(channels) => {
            unsubscribe(shared, connection, &channels).await?;
            shared.subscriptions.left(lane.id, &channels);
            return Ok(Vec::new());
        }
    };
    if channels.is_empty() {
        return Ok(Vec::new());
    }
    let answers = subscribe(shared, lane, connection, &channels).await?;
    let (mut confirmed, mut moves) = (Vec::new(), Vec::new());
    for (channel, answer) in channels.into_iter().zip(answers) {
        match answer {
            Answer::Done => confirmed.push(channel),
            Answer::Refused(error) => shared.subscriptions.refused(lane.id, &channel, &error),
            Answer::NotNow => shared.subscriptions.postponed(lane.id, &channel),
            Answer::Moved(slot, address) => {
                shared.subscriptions.moved(lane.id, &channel);
                moves.push((slot, address));
            }
        }
    }
    let back = shared.subscriptions.confirmed(lane.id, &confirmed);
    if !moves.is_empty() {
        lanes.patch(&moves);
        shared.doubt();
        sleep(MOVED_PAUSE).await;
    }
    Ok(back)
}

fn say_gaps(shared: &Shared, topics: Vec<Topic>) {
    for topic in topics {
        shared.status.gap(topic);
    }
}
