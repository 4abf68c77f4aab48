//! The subscribing connection: one task keeps it up, and on it what is wanted.

mod hearing;
mod probe;

use std::{convert::Infallible, sync::Arc, time::Duration};

use redis::{RedisError, aio::MultiplexedConnection};
use rooms_core::bus::{Lost, Topic};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use self::hearing::Hearing;
use crate::{
    backoff::Backoff,
    channels::Channel,
    fault::{Fault, is_refusal},
    shared::Shared,
    subscriptions::Batch,
};

/// Channels in one command. 512: 100,000 subscriptions take 15 s one by one, 1.7 s in hundreds and 1.1 s in thousands,
/// and ten thousand at once hold Redis up for longer without being faster.
const BATCH: usize = 512;

/// Keeps the subscribing connection up, for ever.
pub(crate) async fn supervise(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(&shared.limits);
    let mut generation = shared.status.generation();
    loop {
        let since = Instant::now();
        let fault = live(&shared, generation).await;
        shared.counters.subscriber_losses.count();
        // What nobody relied on can't have been lost.
        let lost = if shared.subscriptions.any_held() { Lost::Perhaps } else { Lost::Nothing };
        // In this order: whoever waits for the end of a subscription is answered when nothing comes from it any more.
        generation = shared.status.subscriber_lost(fault, lost);
        shared.subscriptions.disconnected();
        sleep(backoff.pause(since.elapsed())).await;
    }
}

/// One connection, from the attempt to its end.
async fn live(shared: &Arc<Shared>, generation: u64) -> Fault {
    let (alive, ended) = oneshot::channel();
    let hearing = Hearing::new(Arc::clone(shared), generation, alive);
    let name = format!("{}:sub", shared.client_name);
    let connection = match shared.server.open(&name, move |push| hearing.hear(push)).await {
        Ok(connection) => connection,
        Err(fault) => return fault,
    };
    let mut condemned = shared.condemned.subscribe();
    tokio::select! {
        fault = serve(shared, generation, connection) => fault,
        _ = ended => Fault::Closed,
        _ = condemned.wait_for(|condemned| *condemned == generation) => Fault::Unheard,
    }
}

async fn serve(shared: &Shared, generation: u64, mut connection: MultiplexedConnection) -> Fault {
    let restored = restore(shared, generation, &mut connection).await;
    if let Err(fault) = restored {
        return fault;
    }
    tokio::select! {
        Err(fault) = follow(shared, generation, &mut connection) => fault,
        fault = probe::prove(shared, generation) => fault,
    }
}

/// Subscribes all that was wanted when the connection came up.
async fn restore(shared: &Shared, generation: u64, connection: &mut MultiplexedConnection) -> Result<(), Fault> {
    subscribe(connection, std::slice::from_ref(&shared.probe)).await.map_err(failed)?;
    let mut left = shared.subscriptions.connected(generation);
    while left > 0 {
        let (channels, taken) = shared.subscriptions.take_subscribe(BATCH.min(left));
        left = left.saturating_sub(taken.max(1));
        carry_out(shared, connection, Batch::Subscribe(channels)).await?;
    }
    // Where some are refused, the bus is not up as a whole, perhaps for long. Those who rely on the others are told now.
    let refused = shared.subscriptions.refusals();
    if refused > 0 {
        tracing::warn!(topics = refused, "Redis refuses what it allowed before; trying until it does not");
        say_gaps(shared, shared.subscriptions.held_topics());
    }
    Ok(())
}

/// Follows what is wanted, for as long as the connection lives.
async fn follow(shared: &Shared, generation: u64, connection: &mut MultiplexedConnection) -> Result<Infallible, Fault> {
    let mut backoff = Backoff::new(&shared.limits);
    loop {
        while let Some(batch) = shared.subscriptions.take(BATCH) {
            let back = carry_out(shared, connection, batch).await?;
            say_gaps(shared, back);
        }
        if shared.subscriptions.refusals() == 0 {
            shared.status.listening(generation);
            backoff = Backoff::new(&shared.limits);
            shared.subscriptions.changed().await;
            continue;
        }
        tokio::select! {
            () = shared.subscriptions.changed() => {}
            () = sleep(shared.limits.retry_first + backoff.pause(Duration::ZERO)) => {
                shared.subscriptions.retry_refused();
            }
        }
    }
}

/// Asks Redis for one batch; gives the topics that are subscribed and that somebody relied on before.
async fn carry_out(shared: &Shared, connection: &mut MultiplexedConnection, batch: Batch) -> Result<Vec<Topic>, Fault> {
    let channels = match batch {
        Batch::Subscribe(channels) => channels,
        Batch::Unsubscribe(channels) => {
            connection.unsubscribe(names(&channels)).await.map_err(failed)?;
            shared.subscriptions.left(&channels);
            return Ok(Vec::new());
        }
    };
    if channels.is_empty() {
        return Ok(Vec::new());
    }
    match subscribe(connection, &channels).await {
        Ok(()) => Ok(shared.subscriptions.confirmed(&channels)),
        Err(error) if is_refusal(&error) => one_by_one(shared, connection, &channels).await,
        Err(error) => Err(failed(error)),
    }
}

/// Redis refuses a command as a whole, also where it would refuse only one of the channels.
async fn one_by_one(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    channels: &[Channel],
) -> Result<Vec<Topic>, Fault> {
    let mut back = Vec::new();
    for channel in channels {
        let one = std::slice::from_ref(channel);
        match subscribe(connection, one).await {
            Ok(()) => back.extend(shared.subscriptions.confirmed(one)),
            Err(error) if is_refusal(&error) => shared.subscriptions.refused(channel, &error),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(back)
}

/// Resolves when Redis has confirmed every one of them, or has refused.
async fn subscribe(connection: &mut MultiplexedConnection, channels: &[Channel]) -> Result<(), RedisError> {
    connection.subscribe(names(channels)).await
}

fn names(channels: &[Channel]) -> Vec<&str> {
    channels.iter().map(|channel| &**channel).collect()
}

fn failed(error: RedisError) -> Fault {
    if is_refusal(&error) { Fault::Refused(error) } else { Fault::Broken(error) }
}

fn say_gaps(shared: &Shared, topics: Vec<Topic>) {
    for topic in topics {
        shared.status.gap(topic);
    }
}
