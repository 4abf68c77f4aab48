//! The subscribing connection of a link: one task keeps it up, and on it what is wanted.

mod commands;
mod probe;
mod pushes;

use std::{convert::Infallible, sync::Arc, time::Duration};

use redis::aio::MultiplexedConnection;
use rooms_core::bus::{Lost, Topic};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use self::{
    commands::{Answer, subscribe, unsubscribe},
    pushes::Pushes,
};
use crate::{
    backoff::Backoff, channels::Channel, fault::Fault, link::Link, links::Links, shared::Shared, subscriptions::Batch,
};

/// Channels in one command. 512: 100,000 subscriptions take 15 s one by one, 1.7 s in hundreds and 1.1 s in thousands,
/// and ten thousand at once hold Redis up for longer without being faster.
const BATCH: usize = 512;

/// The pause after slots have moved: while two servers still disagree, each sends us to the other.
const MOVED_PAUSE: Duration = Duration::from_millis(20);

/// Keeps the subscribing connection of a link up, for ever.
pub(crate) async fn supervise(links: Arc<Links>, link: Arc<Link>, mut generation: u64) {
    let shared = &links.shared;
    let mut backoff = Backoff::new(&shared.limits);
    loop {
        let since = Instant::now();
        let fault = live(&links, &link, generation).await;
        shared.counters.subscriber_losses.add(1);
        // What nobody relied on can't have been lost. Where there are several links, each says its gaps itself.
        let all_at_once = shared.nodes.is_none() && shared.subscriptions.any_told();
        let lost = if all_at_once { Lost::Perhaps } else { Lost::Nothing };
        // In this order: whoever waits for the end of a subscription is answered when nothing comes from it any more.
        generation = shared.status.subscriber_lost(link.id, fault, lost);
        shared.subscriptions.disconnected(link.id);
        shared.doubt();
        sleep(backoff.pause(since.elapsed())).await;
    }
}

/// One connection, from the attempt to its end.
async fn live(links: &Arc<Links>, link: &Arc<Link>, generation: u64) -> Fault {
    let shared = &links.shared;
    let Some(probe) = link.probe(shared, &links.routes()) else { return Fault::NoSlots };
    let (alive, ended) = oneshot::channel();
    let pushes = Pushes::new(Arc::clone(shared), Arc::clone(link), generation, probe.clone(), alive);
    let name = format!("{}:sub", shared.client_name);
    let connection = match link.server.open(&name, move |push| pushes.take(push)).await {
        Ok(connection) => connection,
        Err(fault) => return fault,
    };
    let mut forced_reconnect = link.forced_reconnect.subscribe();
    tokio::select! {
        fault = serve(links, link, generation, probe, connection) => fault,
        _ = ended => Fault::Closed,
        _ = forced_reconnect.wait_for(|forced_reconnect| *forced_reconnect == generation) => Fault::SubscriptionGone,
    }
}

async fn serve(
    links: &Arc<Links>,
    link: &Link,
    generation: u64,
    probe: Channel,
    mut connection: MultiplexedConnection,
) -> Fault {
    let restored = restore(links, link, generation, &probe, &mut connection).await;
    if let Err(fault) = restored {
        return fault;
    }
    tokio::select! {
        Err(fault) = follow(links, link, generation, &mut connection) => fault,
        fault = probe::prove(&links.shared, link, generation, probe) => fault,
    }
}

/// Subscribes all that was wanted when the connection came up.
async fn restore(
    links: &Arc<Links>,
    link: &Link,
    generation: u64,
    probe: &Channel,
    connection: &mut MultiplexedConnection,
) -> Result<(), Fault> {
    let shared = &links.shared;
    match subscribe(shared, link, connection, std::slice::from_ref(probe)).await?.pop() {
        Some(Answer::Done) => {}
        Some(Answer::Refused(error)) => return Err(Fault::Refused(error)),
        Some(Answer::Moved(slot, address)) => {
            links.patch(&[(slot, address)]);
            return Err(Fault::NoSlots);
        }
        Some(Answer::NotNow) => return Err(Fault::ClusterDown),
        None => return Err(Fault::OutOfStep),
    }
    let mut left = shared.subscriptions.connected(link.id, generation);
    let mut back = Vec::new();
    while left > 0 {
        let (channels, taken) = shared.subscriptions.take_subscribe(link.id, BATCH.min(left));
        left = left.saturating_sub(taken.max(1));
        back.extend(carry_out(links, link, connection, Batch::Subscribe(channels)).await?);
    }
    let refused = shared.subscriptions.refusals(link.id).relied_on;
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
    links: &Arc<Links>,
    link: &Link,
    generation: u64,
    connection: &mut MultiplexedConnection,
) -> Result<Infallible, Fault> {
    let shared = &links.shared;
    let mut backoff = Backoff::new(&shared.limits);
    loop {
        while let Some(batch) = shared.subscriptions.take(link.id, BATCH) {
            let back = carry_out(links, link, connection, batch).await?;
            say_gaps(shared, back);
        }
        let refused = shared.subscriptions.refusals(link.id);
        if refused.relied_on == 0 && shared.status.listening((link.id, generation)) {
            link.probe_now.notify_one();
        }
        if refused.all == 0 {
            backoff = Backoff::new(&shared.limits);
            link.news.notified().await;
            continue;
        }
        tokio::select! {
            () = link.news.notified() => {}
            () = sleep(shared.limits.first_backoff + backoff.pause(Duration::ZERO)) => {
                shared.subscriptions.retry_refused(link.id);
            }
        }
    }
}

/// Asks Redis for one batch; gives the topics that are subscribed and that somebody relied on before.
async fn carry_out(
    links: &Arc<Links>,
    link: &Link,
    connection: &mut MultiplexedConnection,
    batch: Batch,
) -> Result<Vec<Topic>, Fault> {
    let shared = &links.shared;
    let channels = match batch {
        Batch::Subscribe(channels) => channels,
        Batch::Unsubscribe(channels) => {
            unsubscribe(shared, connection, &channels).await?;
            shared.subscriptions.left(link.id, &channels);
            return Ok(Vec::new());
        }
    };
    if channels.is_empty() {
        return Ok(Vec::new());
    }
    let answers = subscribe(shared, link, connection, &channels).await?;
    let (mut confirmed, mut moves) = (Vec::new(), Vec::new());
    for (channel, answer) in channels.into_iter().zip(answers) {
        match answer {
            Answer::Done => confirmed.push(channel),
            Answer::Refused(error) => shared.subscriptions.refused(link.id, &channel, &error),
            Answer::NotNow => shared.subscriptions.postponed(link.id, &channel),
            Answer::Moved(slot, address) => {
                shared.subscriptions.moved(link.id, &channel);
                moves.push((slot, address));
            }
        }
    }
    let back = shared.subscriptions.confirmed(link.id, &confirmed);
    if !moves.is_empty() {
        links.patch(&moves);
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
