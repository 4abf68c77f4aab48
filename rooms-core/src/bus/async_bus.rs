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
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{Bus, BusError, BusEvent, BusReceiver, History, States, Topic};
use crate::{
    lock::{Mutex, lock},
    reports::LinkReport,
};

/// The pause before a refused subscription is tried again, and its bound: it doubles. Half a minute, as rights are
/// repaired by people.
const RETRY: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(30)];

/// How long the client may take to subscribe or unsubscribe a topic. Two seconds: many round trips to any backplane, and
/// less than a join waits by default, so that whoever tries again is not kept out by the call that hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A client of some backplane, whose calls resolve when the backplane has answered. [`AsyncBus`] makes a [`Bus`] of it.
///
/// **Events.** It hands [`BusEvent::Message`], `State`, `Gap`, `Down` and `Up` to its receiver. `Subscribed` and `Refused`
/// are made by [`AsyncBus`] of what its calls resolve to; those that the client hands over are ignored.
///
/// **Reconnects.** The client restores by itself what it has confirmed and was not asked to end since, and hands over
/// `Up` when all of that holds again. [`AsyncBus`] puts `Subscribed` for these topics before that `Up`, and then calls
/// [`subscribe`](Self::subscribe) for those that were refused meanwhile.
///
/// **Cancellation.** The future of a call may be dropped at any await: when the other one of `subscribe` and
/// `unsubscribe` is wanted for its topic, when it takes longer than two seconds, and when the bus is closed. Such a call
/// may have happened or not. The last call for a topic counts. There is one at a time for a topic, and any number for
/// different topics.
#[async_trait]
pub trait AsyncClient: fmt::Debug + Send + Sync + 'static {
    /// As [`Bus::attach`].
    fn attach(&self, receiver: Arc<dyn BusReceiver>);

    /// Resolves when what is published from then on will arrive.
    ///
    /// # Errors
    /// The topic is not subscribed, or with [`BusError::Unknown`] it may be. It is tried again for as long as it is
    /// wanted, after a pause.
    async fn subscribe(&self, topic: &Topic) -> Result<(), BusError>;

    /// Resolves when nothing more will arrive.
    ///
    /// # Errors
    /// Messages may go on arriving, and are ignored. It is not tried again.
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
/// waits for another. Used inside a tokio runtime. Dropping it ends its tasks; the client is not closed by that.
///
/// Some events are handed over under a lock that [`subscribe`](Bus::subscribe) and [`unsubscribe`](Bus::unsubscribe) take, so that
/// no answer comes after the `unsubscribe` that it is too late for. A receiver that calls them from within an event, against
/// clause 7 of [the contract](super), never returns.
#[derive(Debug)]
pub struct AsyncBus<C> {
    client: Arc<C>,
    topics: Arc<Topics>,
}

#[derive(Debug, Default)]
struct Topics {
    /// Those that are wanted, and those that are being unsubscribed: for the latter one call of the client, which has a
    /// time limit. So what is here without being wanted is what was wanted two seconds ago.
    states: Mutex<HashMap<Topic, State>>,
    receiver: OnceLock<Receiver>,
}

struct Receiver(Arc<dyn BusReceiver>);

#[derive(Debug, Default)]
struct State {
    wanted: bool,
    subscription: Subscription,
    /// A task is at work on it.
    busy: bool,
    /// Wakes that task: the topic is wanted, or not wanted any more, or the client has reconnected.
    changed: Arc<Notify>,
}

/// What the client has made of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Subscription {
    #[default]
    No,
    /// It was asked, and there is no answer, or one that leaves it open.
    Unknown,
    /// It has confirmed it, and was not asked to end it since.
    Confirmed,
}

/// What the task of a topic is to do next.
enum Step {
    Subscribe(Arc<Notify>),
    Unsubscribe(Arc<Notify>),
    Over,
}

/// How a call of the client ended.
enum Answer {
    Given(Result<(), BusError>),
    /// The time is over. Whoever wanted the topic since the call began is not refused because of it.
    TimedOut {
        wanted_anew: bool,
    },
    /// The opposite is wanted by now.
    Overtaken,
}

impl<C: AsyncClient> AsyncBus<C> {
    /// Wraps a client.
    pub fn new(client: C) -> Self {
        Self { client: Arc::new(client), topics: Arc::default() }
    }

    /// The client.
    pub fn client(&self) -> &C {
        &self.client
    }

    fn begin(&self, topic: &Topic, state: &mut State) {
        if std::mem::replace(&mut state.busy, true) {
            state.changed.notify_one();
        } else {
            tokio::spawn(work(Arc::clone(&self.client), Arc::clone(&self.topics), topic.clone()));
        }
    }
}

#[async_trait]
impl<C: AsyncClient> Bus for AsyncBus<C> {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        _ = self.topics.receiver.set(Receiver(receiver));
        // It keeps the topics, and not the client that keeps it.
        self.client.attach(Arc::clone(&self.topics) as Arc<dyn BusReceiver>);
    }

    fn subscribe(&self, topics: &[Topic]) {
        let mut confirmed = Vec::new();
        let mut states = lock(&self.topics.states);
        for topic in topics {
            let state = states.entry(topic.clone()).or_default();
            state.wanted = true;
            if state.subscription == Subscription::Confirmed {
                confirmed.push(topic.clone());
            } else {
                self.begin(topic, state);
            }
        }
        self.topics.confirm(confirmed);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        let mut states = lock(&self.topics.states);
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
        self.topics.forget_all();
        self.client.close().await;
    }
}

impl<C> Drop for AsyncBus<C> {
    fn drop(&mut self) {
        self.topics.forget_all();
    }
}

/// Makes one topic what is wanted of it.
async fn work<C: AsyncClient>(client: Arc<C>, topics: Arc<Topics>, topic: Topic) {
    let [shortest, longest] = RETRY;
    let mut pause = shortest;
    loop {
        match topics.next(&topic) {
            Step::Subscribe(changed) => {
                let call = async { client.subscribe(&topic).await };
                let error = match topics.answer(&topic, true, &changed, call).await {
                    Answer::Given(Ok(())) => {
                        topics.subscribed(&topic);
                        continue;
                    }
                    Answer::Overtaken | Answer::TimedOut { wanted_anew: true } => continue,
                    Answer::TimedOut { wanted_anew: false } => BusError::Unknown("the client gave no answer".into()),
                    Answer::Given(Err(error)) => error,
                };
                topics.refused(&topic, error);
                tokio::select! {
                    () = sleep(pause) => pause = longest.min(2 * pause),
                    () = changed.notified() => pause = shortest,
                }
            }
            Step::Unsubscribe(changed) => {
                let call = async { client.unsubscribe(&topic).await };
                match topics.answer(&topic, false, &changed, call).await {
                    Answer::Given(Err(error)) => tracing::debug!(%error, "a topic was not unsubscribed"),
                    Answer::TimedOut { .. } => tracing::debug!("a topic was not unsubscribed in time"),
                    Answer::Given(Ok(())) | Answer::Overtaken => {}
                }
            }
            Step::Over => return,
        }
    }
}

impl Topics {
    /// What to do next; an entry that is as it should be is left, or forgotten if it is not wanted.
    fn next(&self, topic: &Topic) -> Step {
        let mut states = lock(&self.states);
        let Entry::Occupied(mut entry) = states.entry(topic.clone()) else { return Step::Over };
        let state = entry.get_mut();
        match (state.wanted, state.subscription) {
            (true, Subscription::Confirmed) => {
                state.busy = false;
                Step::Over
            }
            (true, Subscription::No | Subscription::Unknown) => {
                // From here on it may be subscribed: the call may be dropped before its answer comes.
                state.subscription = Subscription::Unknown;
                Step::Subscribe(Arc::clone(&state.changed))
            }
            (false, Subscription::No) => {
                entry.remove();
                Step::Over
            }
            (false, Subscription::Unknown | Subscription::Confirmed) => {
                state.subscription = Subscription::No;
                Step::Unsubscribe(Arc::clone(&state.changed))
            }
        }
    }

    /// Awaits a call of the client, for as long as what it does is wanted and its time lasts. A client that panics has
    /// given no answer, and its topic is not stuck for that.
    async fn answer(
        &self,
        topic: &Topic,
        subscribes: bool,
        changed: &Notify,
        call: impl Future<Output = Result<(), BusError>>,
    ) -> Answer {
        let mut wanted_anew = false;
        let overtaken = async {
            while self.wants(topic) == subscribes {
                changed.notified().await;
                wanted_anew = subscribes;
            }
        };
        let call = AssertUnwindSafe(call).catch_unwind();
        let answered = timeout(ANSWER_TIMEOUT, async {
            tokio::select! {
                biased;
                answer = call => Some(answer),
                () = overtaken => None,
            }
        });
        match answered.await {
            Ok(Some(Ok(answer))) => {
                if wanted_anew && answer.is_err() {
                    // It is asked again at once for whoever wanted it meanwhile.
                    changed.notify_one();
                }
                Answer::Given(answer)
            }
            Ok(Some(Err(_))) => Answer::Given(Err(BusError::Unknown("the client panicked".into()))),
            Ok(None) => Answer::Overtaken,
            Err(_) => Answer::TimedOut { wanted_anew },
        }
    }

    fn wants(&self, topic: &Topic) -> bool {
        lock(&self.states).get(topic).is_some_and(|state| state.wanted)
    }

    fn subscribed(&self, topic: &Topic) {
        let mut states = lock(&self.states);
        let Some(state) = states.get_mut(topic) else { return };
        state.subscription = Subscription::Confirmed;
        if state.wanted {
            self.confirm(vec![topic.clone()]);
        }
    }

    fn refused(&self, topic: &Topic, error: BusError) {
        let mut states = lock(&self.states);
        let Some(state) = states.get_mut(topic) else { return };
        if !matches!(error, BusError::Unknown(_)) {
            state.subscription = Subscription::No;
        }
        if state.wanted {
            // Whoever wanted it before this answer is answered by it, and ends no pause.
            _ = state.changed.notified().now_or_never();
            self.hand_over(BusEvent::refused(topic.clone(), error));
        }
    }

    /// Says that topics are subscribed. Called under the lock of the states, so that no `unsubscribe` returns between the
    /// look and the answer.
    fn confirm(&self, topics: Vec<Topic>) {
        if !topics.is_empty() {
            self.hand_over(BusEvent::subscribed(topics));
        }
    }

    fn hand_over(&self, event: BusEvent) {
        if let Some(receiver) = self.receiver.get() {
            receiver.0.event(event);
        }
    }

    /// Ends all tasks: none finds its topic wanted.
    fn forget_all(&self) {
        let states = std::mem::take(&mut *lock(&self.states));
        states.values().for_each(|state| state.changed.notify_one());
    }
}

/// The client's events on their way to the receiver.
impl BusReceiver for Topics {
    fn event(&self, event: BusEvent) {
        match event {
            BusEvent::Subscribed { .. } | BusEvent::Refused { .. } => {}
            BusEvent::Up { .. } => {
                let states = lock(&self.states);
                let wanted = || states.iter().filter(|(_, state)| state.wanted);
                let confirmed = wanted().filter(|(_, state)| state.subscription == Subscription::Confirmed);
                self.confirm(confirmed.map(|(topic, _)| topic.clone()).collect());
                self.hand_over(event);
                // What was refused while the client was away need not wait for the end of its pause.
                wanted().filter(|(_, state)| state.busy).for_each(|(_, state)| state.changed.notify_one());
            }
            event => self.hand_over(event),
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
