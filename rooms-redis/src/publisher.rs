//! The publishing connection: one task keeps it up and sends in pipelines what waits.

mod queue;

use std::sync::Arc;

use redis::{RedisError, Value, aio::MultiplexedConnection};
use rooms_core::bus::BusError;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use self::queue::Job;
pub(crate) use self::queue::{Bound, Queue};
use crate::{backoff::Backoff, fault::Fault, server::is_master, shared::Shared};

/// Commands in one pipeline. 256: beyond it a pipeline costs less per command by a few per cent only, and a lost answer
/// concerns so many callers.
const PIPELINE: usize = 256;

/// Keeps the publishing connection up, for ever.
pub(crate) async fn supervise(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(&shared.limits);
    loop {
        let since = Instant::now();
        let fault = live(&shared).await;
        shared.queue.shut();
        shared.counters.publisher_losses.count();
        shared.status.publisher_lost(fault);
        sleep(backoff.pause(since.elapsed())).await;
    }
}

/// One connection, from the attempt to its end.
async fn live(shared: &Shared) -> Fault {
    let (alive, ended) = oneshot::channel::<()>();
    let name = format!("{}:pub", shared.client_name);
    let opened = shared.server.open(&name, move |_| _ = alive.is_closed()).await;
    let connection = match opened {
        Ok(connection) => connection,
        Err(fault) => return fault,
    };
    shared.queue.open();
    shared.status.publishing();
    tokio::select! {
        fault = pump(shared, connection) => fault,
        _ = ended => Fault::Closed,
    }
}

async fn pump(shared: &Shared, mut connection: MultiplexedConnection) -> Fault {
    loop {
        let jobs = shared.queue.take(PIPELINE).await;
        let since = shared.subscriptions.now();
        let mut pipeline = redis::pipe();
        for job in &jobs {
            pipeline.cmd("PUBLISH").arg(&*job.channel).arg(&*job.payload);
        }
        let commands = jobs.len() + usize::from(shared.server.add_check(&mut pipeline));
        match connection.send_packed_commands(&pipeline, 0, commands).await {
            // A replica takes publications too, and they reach only those who are on it.
            Ok(answers) if answers.get(jobs.len()).is_some_and(|role| !is_master(role)) => {
                for job in jobs {
                    _ = job.answer.send(Err(BusError::Unknown("the server has become a replica".into())));
                }
                return Fault::Replica;
            }
            Ok(answers) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    resolve(shared, job, answer, since);
                }
            }
            // It may have run in part: nobody can tell, so nobody tries again.
            Err(error) => {
                for job in jobs {
                    _ = job.answer.send(Err(BusError::Unknown(Box::new(error.clone()))));
                }
                return Fault::Broken(error);
            }
        }
    }
}

fn resolve(shared: &Shared, job: Job, answer: Value, since: u64) {
    let answer = match answer {
        Value::Int(receivers) => Ok(u64::try_from(receivers).unwrap_or_default()),
        Value::ServerError(error) => Err(BusError::Refused(Box::new(RedisError::from(error)))),
        _ => Err(BusError::Unknown("Redis gave an answer that is no number".into())),
    };
    if answer.is_ok() {
        shared.counters.published.count();
    }
    // This node is a receiver of what it is subscribed to: nobody means that its subscription is gone.
    if let (Ok(0), Some((topic, connection))) = (&answer, shared.subscriptions.unheard(&job.channel, since)) {
        shared.counters.unheard.count();
        shared.status.gap(topic);
        shared.condemned.send_replace(connection);
    }
    _ = job.answer.send(answer);
}
