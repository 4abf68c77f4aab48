//! The publishing connection: one task keeps it up and sends in pipelines what waits.

mod batch;

use std::{sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};
use rooms_core::bus::BusError;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use self::batch::{Gathered, Slots, gathered};
use crate::{
    access::Address,
    backoff::Backoff,
    fault::Fault,
    history::{self, Answer, Append},
    link::Link,
    links::Links,
    pubsub::PubSub,
    queue::{Command, Job},
    refusal::{self, asked_at, moved_to},
    routes::Routes,
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
        fault = pump(links, link, &connection) => fault,
        fault = pump(links, link, &connection) => fault,
        _ = ended => Fault::Closed,
    }
}

/// Sends one pipeline after the other. Two of them at a time: Redis carries out one while the other is made.
async fn pump(links: &Arc<Links>, link: &Link, connection: &MultiplexedConnection) -> Fault {
    let slots = if matches!(*links.routes(), Routes::One(_)) { Slots::Any } else { Slots::One };
    loop {
        let jobs = link.queue.take(PIPELINE).await;
        let fault = send(links, link, connection.clone(), gathered(jobs, slots)).await;
        link.queue.answered();
        if let Err(fault) = fault {
            return fault;
        }
    }
}

async fn send(
    links: &Arc<Links>,
    link: &Link,
    mut connection: MultiplexedConnection,
    Gathered { mut jobs, rooms, commands }: Gathered,
) -> Result<(), Fault> {
    let shared = &links.shared;
    let publish = match shared.pubsub {
        PubSub::Classic => "PUBLISH",
        PubSub::Sharded => "SPUBLISH",
    };
    let since = shared.subscriptions.now();
    let mut pipeline = redis::pipe();
    let mut count = commands.len();
    let (mut jobs_left, mut rooms_left) = (jobs.as_slice(), rooms.as_slice());
    for command in &commands {
        let (rooms, rest) = rooms_left.split_at(*command);
        rooms_left = rest;
        let (batch, rest) = jobs_left.split_at(rooms.iter().sum());
        jobs_left = rest;
        let Some(job) = batch.first() else { continue };
        if job.asking {
            pipeline.cmd("ASKING");
            count += 1;
        }
        match &job.command {
            Command::Publish(payload) => _ = pipeline.cmd(publish).arg(&*job.channel).arg(&**payload),
            Command::Call(call) => call.add_to(&mut pipeline),
            Command::Append(_) => history::add_append(by_room(batch, rooms), publish, &mut pipeline),
        }
    }
    let checks = link.server.add_check(&mut pipeline);
    let sent = connection.send_packed_commands(&pipeline, 0, count + usize::from(checks)).await;
    let answers = match sent {
        Ok(answers) => answers,
        // It may have run in part: nobody can tell, so nobody tries again.
        Err(error) => {
            for job in jobs {
                _ = job.answer.send(Err(BusError::Unknown(Box::new(error.clone()))));
            }
            return Err(Fault::Broken(error));
        }
    };
    // A server that is the wrong one takes publications too, and they reach only those who are on it.
    if let Some(Err(fault)) = answers.get(count).map(|answer| link.server.check(answer)) {
        for job in jobs {
            _ = job.answer.send(Err(BusError::Unknown(fault.line().into())));
        }
        return Err(fault);
    }
    let (mut moved, mut on_the_way) = (Vec::new(), Vec::new());
    let (mut jobs, mut rooms, mut answers) = (jobs.drain(..).peekable(), rooms.into_iter(), answers.into_iter());
    for command in commands {
        let asked = if jobs.peek().is_some_and(|job| job.asking) { answers.next() } else { None };
        let Some(answer) = answers.next() else { break };
        let answer = match (asked, answer) {
            // Without the right to ask, what follows is only turned away to where it came from.
            (Some(refused @ Value::ServerError(_)), Value::ServerError(_)) => refused,
            (_, answer) => answer,
        };
        let apart = command > 1 && refused_together(&answer);
        for (answer, count) in history::by_room(answer, command).zip(&mut rooms) {
            let appended = jobs.peek().is_some_and(|job| job.command.append().is_some());
            let (several, one) =
                if appended { (Some(history::answers(answer, count)), None) } else { (None, Some(answer)) };
            let answers = several.into_iter().flatten().chain(one.map(Answer::Of));
            for (answer, job) in answers.zip(&mut jobs) {
                if apart {
                    send_alone(link, job);
                    continue;
                }
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
    }
    follow(links, moved);
    wait(links, on_the_way);
    Ok(())
}

/// Messages that are appended by one call, by their rooms.
fn by_room<'a>(
    mut batch: &'a [Job],
    rooms: &'a [usize],
) -> impl Iterator<Item = (&'a str, usize, impl Iterator<Item = &'a Append> + Clone)> + Clone {
    rooms.iter().filter_map(move |count| {
        let (these, rest) = batch.split_at(*count);
        batch = rest;
        Some((&*these.first()?.channel, *count, these.iter().filter_map(|job| job.command.append())))
    })
}

/// Whether a call was refused for all its rooms, and so did not begin: what is refused in one room is the answer for that room.
/// One of them may be where this user has no right to be, or what is between us and Redis may have them at several servers.
fn refused_together(answer: &Value) -> bool {
    let Value::ServerError(error) = answer else { return false };
    RedisError::from(error.clone()).kind() != ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Sends again what a call for several rooms was refused for, by a call of its own.
fn send_alone(link: &Link, job: Job) {
    let Job { channel, command, answer, moves, waits, asking } = job;
    let command = match command {
        Command::Append(append) => Command::Append(Box::new(append.alone())),
        command => command,
    };
    link.queue.push_again(Job { channel, command, answer, moves, waits, asking });
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
fn resolve(shared: &Shared, link: &Link, job: Job, answer: Answer, since: u64) -> Option<Elsewhere> {
    let answer = match answer {
        Answer::Of(Value::ServerError(error)) => {
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
                _ => Err(BusError::Refused(refusal::of_room(error, &job.channel))),
            }
        }
        answer => Ok(answer),
    };
    let receivers = match (&job.command, &answer) {
        (Command::Publish(_), Ok(Answer::Of(Value::Int(receivers)))) => u64::try_from(*receivers).ok(),
        (Command::Append(_), Ok(Answer::Appended(_, receivers))) => *receivers,
        (Command::Call(_), Ok(Answer::Of(answer))) => history::receivers(answer),
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
        Command::Append(append) => append.in_full().map(|append| Command::Append(Box::new(append))),
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
