//! A plain asynchronous client as a bus.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use tokio::{sync::Notify, time::sleep};

use super::{Bus, BusError, BusEvent, BusReceiver, History, States, Topic};
use crate::{
    lock::{Mutex, lock},
    reports::LinkReport,
};

/// The pause before a refused subscription is tried again, and its bound: it doubles. Half a minute, as rights are
/// repaired by people.
const RETRY: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(30)];

/// A client of some backplane, whose calls resolve when the backplane has answered. [`AsyncBus`] makes a [`Bus`] of it.
///
/// It says [`BusEvent::Message`], `Gap`, `Down` and `Up` to its receiver, and subscribes again by itself after a
/// reconnect. Its futures may be dropped at any await.
#[async_trait]
pub trait AsyncClient: fmt::Debug + Send + Sync + 'static {
    /// As [`Bus::attach`].
    fn attach(&self, receiver: Arc<dyn BusReceiver>);

    /// Resolves when what is published from then on will arrive.
    ///
    /// # Errors
    /// The topic is not subscribed. It is tried again.
    async fn subscribe(&self, topic: &Topic) -> Result<(), BusError>;

    /// Resolves when nothing more will arrive.
    ///
    /// # Errors
    /// Messages may go on arriving, and are ignored.
    async fn unsubscribe(&self, topic: &Topic) -> Result<(), BusError>;

    /// As [`Bus::publish`].
    ///
    /// # Errors
    /// As [`Bus::publish`].
    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError>;

    /// As [`Bus::history`].
    fn history(&self) -> Option<&dyn History> {
        None
    }

    /// As [`Bus::states`].
    fn states(&self) -> Option<&dyn States> {
        None
    }

    /// As [`Bus::links`].
    fn links(&self) -> Vec<LinkReport> {
        Vec::new()
    }

    /// As [`Bus::close`].
    async fn close(&self);
}

/// A [`Bus`] over an [`AsyncClient`]: it keeps what is wanted, and one task for each topic that changes, so that none
/// waits for another. Used inside a tokio runtime.
#[derive(Debug)]
pub struct AsyncBus<C> {
    client: Arc<C>,
    wanted: Arc<Wanted>,
}

#[derive(Debug, Default)]
struct Wanted {
    /// The topics that are subscribed or on their way to it or from it; bounded by what the manager wants.
    topics: Mutex<HashMap<Topic, State>>,
    receiver: OnceLock<Receiver>,
}

struct Receiver(Arc<dyn BusReceiver>);

#[derive(Debug, Default)]
struct State {
    wanted: bool,
    /// The client has confirmed it, and was not asked to end it since.
    subscribed: bool,
    /// A task is at work on it.
    busy: bool,
    /// Told when it is asked for anew, which ends the pause after a refusal.
    asked: Arc<Notify>,
}

/// What the task of a topic is to do next.
enum Step {
    Subscribe,
    Unsubscribe,
    Over,
}

impl<C: AsyncClient> AsyncBus<C> {
    /// Wraps a client.
    pub fn new(client: C) -> Self {
        Self { client: Arc::new(client), wanted: Arc::default() }
    }

    /// The client.
    pub fn client(&self) -> &C {
        &self.client
    }

    fn begin(&self, topic: &Topic, state: &mut State) {
        state.asked.notify_one();
        if !std::mem::replace(&mut state.busy, true) {
            tokio::spawn(work(Arc::clone(&self.client), Arc::clone(&self.wanted), topic.clone()));
        }
    }
}

#[async_trait]
impl<C: AsyncClient> Bus for AsyncBus<C> {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        _ = self.wanted.receiver.set(Receiver(Arc::clone(&receiver)));
        self.client.attach(receiver);
    }

    fn subscribe(&self, topics: &[Topic]) {
        let mut answered = Vec::new();
        let mut states = lock(&self.wanted.topics);
        for topic in topics {
            let state = states.entry(topic.clone()).or_default();
            state.wanted = true;
            if state.subscribed {
                answered.push(topic.clone());
            } else {
                self.begin(topic, state);
            }
        }
        self.wanted.say_subscribed(answered);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        let mut states = lock(&self.wanted.topics);
        for topic in topics {
            if let Some(state) = states.get_mut(topic) {
                state.wanted = false;
                self.begin(topic, state);
            }
        }
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        self.client.publish(topic, payload).await
    }

    fn history(&self) -> Option<&dyn History> {
        self.client.history()
    }

    fn states(&self) -> Option<&dyn States> {
        self.client.states()
    }

    fn links(&self) -> Vec<LinkReport> {
        self.client.links()
    }

    async fn close(&self) {
        lock(&self.wanted.topics).clear();
        self.client.close().await;
    }
}

/// Makes one topic what is wanted of it.
async fn work<C: AsyncClient>(client: Arc<C>, wanted: Arc<Wanted>, topic: Topic) {
    let [shortest, longest] = RETRY;
    let mut pause = shortest;
    loop {
        match wanted.next(&topic) {
            Step::Subscribe => match guarded(async { client.subscribe(&topic).await }).await {
                Ok(()) => wanted.subscribed(&topic),
                Err(error) => {
                    let asked = wanted.refused(&topic, error);
                    tokio::select! {
                        () = sleep(pause) => pause = longest.min(2 * pause),
                        () = asked.notified() => pause = shortest,
                    }
                }
            },
            Step::Unsubscribe => {
                if let Err(error) = guarded(async { client.unsubscribe(&topic).await }).await {
                    tracing::debug!(%error, "a topic was not unsubscribed");
                }
            }
            Step::Over => return,
        }
    }
}

/// A client that panics has given no answer; its topic is not stuck for that.
async fn guarded(call: impl Future<Output = Result<(), BusError>>) -> Result<(), BusError> {
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_| Err(BusError::Unknown("the client panicked".into())))
}

impl Wanted {
    /// What to do next; an entry that is as it should be is left, or forgotten if it is not wanted.
    fn next(&self, topic: &Topic) -> Step {
        let mut topics = lock(&self.topics);
        let Entry::Occupied(mut entry) = topics.entry(topic.clone()) else { return Step::Over };
        let state = entry.get_mut();
        match (state.wanted, state.subscribed) {
            (true, false) => Step::Subscribe,
            (false, true) => {
                state.subscribed = false;
                Step::Unsubscribe
            }
            (true, true) => {
                state.busy = false;
                Step::Over
            }
            (false, false) => {
                entry.remove();
                Step::Over
            }
        }
    }

    fn subscribed(&self, topic: &Topic) {
        let mut topics = lock(&self.topics);
        let Some(state) = topics.get_mut(topic) else { return };
        state.subscribed = true;
        if state.wanted {
            self.say_subscribed(vec![topic.clone()]);
        }
    }

    /// Says that a topic is refused; gives what is told when it is asked for anew.
    fn refused(&self, topic: &Topic, error: BusError) -> Arc<Notify> {
        let mut topics = lock(&self.topics);
        let Some(state) = topics.get_mut(topic) else { return Arc::default() };
        // A new one: what was asked for before this answer is answered by it.
        let asked = Arc::new(Notify::new());
        state.asked = Arc::clone(&asked);
        if let (Some(receiver), true) = (self.receiver.get(), state.wanted) {
            receiver.0.event(BusEvent::refused(topic.clone(), error));
        }
        asked
    }

    /// Called under the lock of the topics, so that no `unsubscribe` returns between the look and the answer.
    fn say_subscribed(&self, topics: Vec<Topic>) {
        if let (Some(receiver), false) = (self.receiver.get(), topics.is_empty()) {
            receiver.0.event(BusEvent::subscribed(topics));
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
