//! The publishing connection: one task keeps it up and sends in pipelines what waits.

mod batch;

use std::{sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};
use rooms_core::bus::BusError;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::{
    access::Address,
    backoff::Backoff,
    fault::Fault,
    history,
    link::Link,
    links::Links,
    pubsub::PubSub,
    queue::{Command, Job},
    refusal::{asked_at, moved_to},
    shared::Shared,
};

/// Commands in one pipeline. 256: beyond it a pipeline costs less per command by a few per cent only, and a lost answer
/// concerns so many callers.
const PIPELINE: usize = 256;

/// How often a publication follows a slot that has moved. 5: the first is enough, unless a cluster is torn apart.
const MOST_MOVES: u8 = 5;

/// The pause before what a script needs, which is on its way to another server, is looked for again; and how often it is. 2 s
/// in all: the keys of a room are moved one after the other, in milliseconds, but for those that are beside many large ones.
const WAIT: Duration = Duration::from_millis(20);
const MOST_WAITS: u8 = 100;

/// Keeps the publishing connection of a link up, for ever.
pub(crate) async fn supervise(links: Arc<Links>, link: Arc<Link>) {
    let shared = &links.shared;
    let mut backoff = Backoff::new(&shared.limits);
    loop {
        let since = Instant::now();
        let fault = live(&links, &link).await;
        link.queue.shut();
        if let (Fault::Replica, Some(connection)) = (&fault, shared.subscriptions.connection(link.id)) {
            // What others publish goes to the master by now, so what is heard here is not all.
            link.forced_reconnect.send_replace(connection);
        }
        shared.counters.publisher_losses.add(1);
        shared.status.publisher_lost(link.id, fault);
        shared.doubt();
        sleep(backoff.pause(since.elapsed())).await;
    }
}

/// One connection, from the attempt to its end.
async fn live(links: &Arc<Links>, link: &Link) -> Fault {
    let shared = &links.shared;
    let (alive, ended) = oneshot::channel::<()>();
    let name = format!("{}:pub", shared.client_name);
    let opened = link.server.open(&name, move |_| _ = alive.is_closed()).await;
    let connection = match opened {
        Ok(connection) => connection,
        Err(fault) => return fault,
    };
    link.queue.open();
    shared.status.publishing(link.id);
    link.probe_now.notify_one();
    tokio::select! {
        fault = pump(links, link, connection) => fault,
        _ = ended => Fault::Closed,
    }
}

async fn pump(links: &Arc<Links>, link: &Link, mut connection: MultiplexedConnection) -> Fault {
    let shared = &links.shared;
    let command = match shared.pubsub {
        PubSub::Classic => "PUBLISH",
        PubSub::Sharded => "SPUBLISH",
    };
    loop {
        let jobs = link.queue.take(PIPELINE).await;
        let since = shared.subscriptions.now();
        let mut pipeline = redis::pipe();
        let (mut jobs, lengths) = batch::gathered(jobs);
        let mut commands = lengths.len();
        let mut left = jobs.as_slice();
        for length in &lengths {
            let (batch, rest) = left.split_at(*length);
            left = rest;
            let Some((job, others)) = batch.split_first() else { continue };
            if job.asking {
                pipeline.cmd("ASKING");
                commands += 1;
            }
            match &job.command {
                Command::Publish(payload) => _ = pipeline.cmd(command).arg(&*job.channel).arg(&**payload),
                Command::Call(call) => call.add_to(others.iter().filter_map(|job| job.command.call()), &mut pipeline),
            }
        }
        let checks = link.server.add_check(&mut pipeline);
        let sent = connection.send_packed_commands(&pipeline, 0, commands + usize::from(checks)).await;
        let answers = match sent {
            Ok(answers) => answers,
            // It may have run in part: nobody can tell, so nobody tries again.
            Err(error) => {
                for job in jobs {
                    _ = job.answer.send(Err(BusError::Unknown(Box::new(error.clone()))));
                }
                return Fault::Broken(error);
            }
        };
        // A server that is the wrong one takes publications too, and they reach only those who are on it.
        if let Some(Err(fault)) = answers.get(commands).map(|answer| link.server.check(answer)) {
            for job in jobs {
                _ = job.answer.send(Err(BusError::Unknown(fault.line().into())));
            }
            return fault;
        }
        let (mut moved, mut on_the_way) = (Vec::new(), Vec::new());
        let (mut jobs, mut answers) = (jobs.drain(..).peekable(), answers.into_iter());
        for length in lengths {
            let asked = if jobs.peek().is_some_and(|job| job.asking) { answers.next() } else { None };
            let Some(answer) = answers.next() else { break };
            let answer = match (asked, answer) {
                // Without the right to ask, what follows is only turned away to where it came from.
                (Some(refused @ Value::ServerError(_)), Value::ServerError(_)) => refused,
                (_, answer) => answer,
            };
            for (answer, job) in history::shared_out(answer, length).zip(&mut jobs) {
                match resolve(shared, link, job, answer, since) {
                    Some(Elsewhere::Moved(job, slot, address)) => moved.push((job, slot, address)),
                    Some(Elsewhere::Asked(job, address)) => match links.at(&address) {
                        Some(there) => there.queue.push_again(Job { asking: true, ..job }),
                        None => on_the_way.push(job),
                    },
                    Some(Elsewhere::OnTheWay(job)) => on_the_way.push(job),
                    Some(Elsewhere::Unknown(job)) => call_in_full(link, job),
                    None => {}
                }
            }
        }
        follow(links, moved);
        wait(links, on_the_way);
    }
}

/// What became of a job that was not carried out.
enum Elsewhere {
    /// The slot of its channel is at another server.
    Moved(Job, u16, Address),
    /// The slot of its channel is on the way to another server, and what the script needs is there already.
    Asked(Job, Address),
    /// The same, and a part of what the script needs is here, and a part there.
    OnTheWay(Job),
    /// The server does not know its script.
    Unknown(Job),
}

/// Answers whoever published, or gives the job back with where it belongs.
fn resolve(shared: &Shared, link: &Link, job: Job, answer: Value, since: u64) -> Option<Elsewhere> {
    let answer = match answer {
        Value::ServerError(error) => {
            let error = RedisError::from(error);
            if let Some((slot, address)) = moved_to(&error, link.host()) {
                return Some(Elsewhere::Moved(job, slot, address));
            }
            if let Some(address) = asked_at(&error, link.host()) {
                return Some(Elsewhere::Asked(job, address));
            }
            match error.kind() {
                // Nobody serves the slot: it certainly did not happen.
                ErrorKind::Server(ServerErrorKind::ClusterDown) => Err(BusError::Down),
                ErrorKind::Server(ServerErrorKind::TryAgain | ServerErrorKind::Ask) => {
                    return Some(Elsewhere::OnTheWay(job));
                }
                ErrorKind::Server(ServerErrorKind::NoScript) => return Some(Elsewhere::Unknown(job)),
                _ => Err(BusError::Refused(Box::new(error))),
            }
        }
        answer => Ok(answer),
    };
    let receivers = match (&job.command, &answer) {
        (Command::Publish(_), Ok(Value::Int(receivers))) => u64::try_from(*receivers).ok(),
        (Command::Call(_), Ok(answer)) => history::receivers(answer),
        _ => None,
    };
    if receivers.is_some() {
        shared.counters.published.count();
        link.published.count();
    }
    // This node is a receiver of what it is subscribed to: nobody means that its subscription is gone.
    if let (Some(0), Some((topic, connection))) =
        (receivers, shared.subscriptions.subscribed_before(link.id, &job.channel, since))
    {
        shared.counters.unreceived.count();
        shared.status.gap(topic);
        link.forced_reconnect.send_replace(connection);
    }
    _ = job.answer.send(answer);
    None
}

/// Sends the script as a whole to a server that does not know it: one that was restarted, or was told to forget it.
fn call_in_full(link: &Link, Job { channel, command, answer, moves, waits, asking }: Job) {
    let command = match command {
        Command::Call(call) => call.in_full().map(|call| Command::Call(Box::new(call))),
        Command::Publish(_) => None,
    };
    match command {
        Some(command) => link.queue.push_again(Job { channel, command, answer, moves, waits, asking }),
        None => _ = answer.send(Err(BusError::Refused("Redis does not know a script that it was just given".into()))),
    }
}

/// Publishes where the slots are now what was turned away, and so did not happen.
fn follow(links: &Arc<Links>, moved: Vec<(Job, u16, Address)>) {
    if moved.is_empty() {
        return;
    }
    let moves: Vec<(u16, Address)> = moved.iter().map(|(_, slot, address)| (*slot, address.clone())).collect();
    links.patch(&moves);
    links.shared.doubt();
    for (mut job, _, _) in moved {
        job.moves += 1;
        job.asking = false;
        match links.by_channel(&job.channel) {
            Some(link) if job.moves <= MOST_MOVES => link.queue.push_again(job),
            _ => _ = job.answer.send(Err(BusError::Down)),
        }
    }
}

/// Tries again a little later, at the server that has the slot by then, what was turned away and so did not happen.
fn wait(links: &Arc<Links>, jobs: Vec<Job>) {
    if jobs.is_empty() {
        return;
    }
    let again = Arc::clone(links);
    // One task for all of a pipeline.
    links.shared.runtime.spawn(async move {
        sleep(WAIT).await;
        for mut job in jobs {
            job.waits += 1;
            job.asking = false;
            match again.by_channel(&job.channel) {
                Some(link) if job.waits <= MOST_WAITS => link.queue.push_again(job),
                _ => _ = job.answer.send(Err(BusError::Down)),
            }
        }
    });
}
