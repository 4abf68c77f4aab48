//! What waits to be published, in bounds.

use std::{collections::VecDeque, sync::Mutex};

use bytes::Bytes;
use redis::Value;
use rooms_core::bus::{Appended, BusError};
use tokio::sync::{Notify, oneshot};

use crate::{
    channels::Channel,
    history::{Answer, Append, Call},
    limits::RedisLimits,
    lock::lock,
    shrink::Shrink as _,
};

/// A bounded queue; while the connection is down it takes nothing.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    news: Notify,
    messages: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
    open: bool,
    /// There will be no connection any more.
    ended: bool,
    /// How often something was taken out that is not answered yet.
    out: usize,
}

/// One publication, or a call of a script about a channel, and who waits for its answer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) channel: Channel,
    pub(crate) command: Command,
    pub(crate) answer: oneshot::Sender<Result<Answer, BusError>>,
    /// How often it was turned away, because the slot of the channel had moved.
    pub(crate) moves: u8,
    /// How often it had to wait, as what it is about was on its way to another server.
    pub(crate) waits: u8,
    /// It is sent to the server to which its slot is on the way.
    pub(crate) asking: bool,
}

/// What is to be done on a channel.
#[derive(Debug)]
pub(crate) enum Command {
    /// Answered with the number of connections that got it.
    Publish(Bytes),
    /// Boxed, as there is a place for each in the queue.
    Append(Box<Append>),
    Call(Box<Call>),
}

impl Command {
    pub(crate) fn append(&self) -> Option<&Append> {
        match self {
            Self::Append(append) => Some(append),
            _ => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Publish(payload) => payload.len(),
            Self::Append(append) => append.len(),
            Self::Call(call) => call.len(),
        }
    }
}

/// Whether a publication may be turned away when too much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Bounded,
    /// Of which there is one at a time, or few.
    Probe,
}

/// The bytes of one pipeline, about: it is copied as a whole before it is sent.
const PIPELINE_BYTES: usize = 1024 * 1024;

impl Queue {
    pub(crate) fn new(limits: &RedisLimits) -> Self {
        Self {
            state: Mutex::default(),
            news: Notify::new(),
            messages: limits.max_queue_messages,
            bytes: limits.max_queue_bytes,
        }
    }

    /// Publishes; resolves with the number of connections that got it.
    ///
    /// Dropped before it resolves, it may or may not have happened.
    pub(crate) async fn publish(&self, channel: Channel, payload: Bytes, bound: Bound) -> Result<u64, BusError> {
        match self.ask(channel, Command::Publish(payload), bound).await?.value()? {
            Value::Int(receivers) => Ok(u64::try_from(receivers).unwrap_or_default()),
            _ => Err(BusError::Unknown("Redis gave an answer that is no number".into())),
        }
    }

    /// Appends to the log of a channel.
    ///
    /// Dropped before it resolves, it may or may not have happened.
    pub(crate) async fn append(&self, channel: Channel, append: Append) -> Result<Appended, BusError> {
        self.ask(channel, Command::Append(Box::new(append)), Bound::Bounded).await?.appended()
    }

    /// Calls a script about a channel; resolves with its answer.
    ///
    /// Dropped before it resolves, it may or may not have happened.
    pub(crate) async fn call(&self, channel: Channel, call: Call) -> Result<Value, BusError> {
        self.ask(channel, Command::Call(Box::new(call)), Bound::Bounded).await?.value()
    }

    async fn ask(&self, channel: Channel, command: Command, bound: Bound) -> Result<Answer, BusError> {
        let (answer, answered) = oneshot::channel();
        self.push(Job { channel, command, answer, moves: 0, waits: 0, asking: false }, bound)
            .map_err(|(_, error)| error)?;
        answered.await.unwrap_or_else(|_| Err(BusError::Unknown("the connection to Redis was lost".into())))
    }

    /// Takes over a publication that was turned away elsewhere. It was let in there already, so it is let in here.
    pub(crate) fn push_again(&self, job: Job) {
        if let Err((job, error)) = self.push(job, Bound::Probe) {
            _ = job.answer.send(Err(error));
        }
    }

    fn push(&self, job: Job, bound: Bound) -> Result<(), (Job, BusError)> {
        let mut state = lock(&self.state);
        if !state.open {
            return Err((job, BusError::Down));
        }
        let bytes = state.bytes + job.command.len();
        let full = state.jobs.len() >= self.messages || bytes > self.bytes;
        if full && bound == Bound::Bounded {
            return Err((job, BusError::Overloaded));
        }
        state.bytes = bytes;
        state.jobs.push_back(job);
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    /// The next publications, at most so many; waits until there is one. Those whose caller has gone away are left out. Once they
    /// are answered, [`answered`](Self::answered) is to be called.
    pub(crate) async fn take(&self, most: usize) -> Vec<Job> {
        loop {
            let jobs = self.take_now(most);
            if !jobs.is_empty() {
                return jobs;
            }
            self.news.notified().await;
        }
    }

    fn take_now(&self, most: usize) -> Vec<Job> {
        let mut state = lock(&self.state);
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        while jobs.len() < most && bytes < PIPELINE_BYTES {
            let Some(job) = state.jobs.pop_front() else { break };
            state.bytes -= job.command.len();
            if !job.answer.is_closed() {
                bytes += job.command.len();
                jobs.push(job);
            }
        }
        state.jobs.shrink_to_use();
        state.out += usize::from(!jobs.is_empty());
        jobs
    }

    /// What was [taken](Self::take) once is answered.
    pub(crate) fn answered(&self) {
        let mut state = lock(&self.state);
        state.out = state.out.saturating_sub(1);
    }

    /// A connection is there.
    pub(crate) fn open(&self) {
        let mut state = lock(&self.state);
        state.open = !state.ended;
    }

    /// Nobody will take anything any more, also if a connection comes up just now: its task is being stopped.
    pub(crate) fn end(&self) {
        lock(&self.state).ended = true;
        self.shut();
    }

    /// The connection is gone: what waits did certainly not happen.
    pub(crate) fn shut(&self) {
        let jobs = {
            let mut state = lock(&self.state);
            state.open = false;
            state.out = 0;
            state.bytes = 0;
            std::mem::take(&mut state.jobs)
        };
        for job in jobs {
            _ = job.answer.send(Err(BusError::Down));
        }
    }

    /// The messages and bytes that wait.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.jobs.len(), state.bytes)
    }

    /// Whether nothing waits, for Redis' answer neither.
    pub(crate) fn is_idle(&self) -> bool {
        let state = lock(&self.state);
        state.jobs.is_empty() && state.out == 0
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn what_is_published_after_the_end_is_answered_though_a_connection_came_up_just_then() {
        let queue = Queue::new(&RedisLimits::default());
        let publish = || Box::pin(queue.publish("ws:post:42".into(), "x".into(), Bound::Bounded));
        queue.open();
        let mut waits = publish();
        assert!((&mut waits).now_or_never().is_none());
        queue.end();
        queue.open();
        for call in [waits, publish()] {
            assert!(matches!(call.now_or_never(), Some(Err(BusError::Down))));
        }
    }
}
