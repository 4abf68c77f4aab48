//! Which rooms this node hears of: one task asks the bus, so a join and a leave can't overtake each other.

use std::{collections::VecDeque, mem, panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt as _, Sink, future::join_all};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::Registry;
use crate::{
    bus::{Bus, BusError, Topic},
    lock::{Mutex, lock},
    message::Message,
    room::{Linger, Subscription},
    room_key::RoomKey,
};

/// Rooms in one call of the bus: a mass of reconnecting members becomes few commands, and none of them is long.
const BATCH: usize = 512;

/// What the task is to do; it is started on demand and ends when there is nothing.
pub(super) struct Subscriptions<S> {
    bus: Arc<dyn Bus>,
    queue: Mutex<Queue>,
    news: Notify,
    sink: std::marker::PhantomData<fn(S)>,
}

#[derive(Default)]
struct Queue {
    /// Rooms whose first member waits for the bus.
    wanted: Vec<RoomKey>,
    /// Empty rooms, by the time since when. Each is in it at most once.
    lingering: VecDeque<(Instant, RoomKey)>,
    running: bool,
}

enum Work {
    Subscribe(Vec<RoomKey>),
    Retire(Vec<(Instant, RoomKey)>),
    Wait(Instant),
    Over,
}

impl<S: Sink<Message> + Unpin + Send + 'static> Subscriptions<S> {
    pub(super) fn new(bus: Arc<dyn Bus>) -> Self {
        Self { bus, queue: Mutex::default(), news: Notify::new(), sink: std::marker::PhantomData }
    }

    pub(super) fn want(&self, registry: &Arc<Registry<S>>, key: RoomKey) {
        self.change(registry, |queue| queue.wanted.push(key));
    }

    pub(super) fn linger(&self, registry: &Arc<Registry<S>>, key: RoomKey) {
        self.change(registry, |queue| queue.lingering.push_back((Instant::now(), key)));
    }

    fn change(&self, registry: &Arc<Registry<S>>, change: impl FnOnce(&mut Queue)) {
        let mut queue = lock(&self.queue);
        change(&mut queue);
        if !mem::replace(&mut queue.running, true) {
            registry.runtime.spawn(run(Arc::clone(registry)));
        }
        self.news.notify_one();
    }

    fn work(&self, linger: std::time::Duration) -> Work {
        let mut queue = lock(&self.queue);
        if !queue.wanted.is_empty() {
            return Work::Subscribe(mem::take(&mut queue.wanted));
        }
        let now = Instant::now();
        let due = queue.lingering.iter().take_while(|(since, _)| *since + linger <= now).take(BATCH).count();
        if due > 0 {
            return Work::Retire(queue.lingering.drain(..due).collect());
        }
        match queue.lingering.front() {
            Some((since, _)) => Work::Wait(*since + linger),
            None => {
                *queue = Queue::default();
                Work::Over
            }
        }
    }
}

async fn run<S: Sink<Message> + Unpin + Send + 'static>(registry: Arc<Registry<S>>) {
    loop {
        match registry.subscriptions.work(registry.limits.linger) {
            // At the same time, so that the last of many waits no longer than the first.
            Work::Subscribe(keys) => _ = join_all(keys.chunks(BATCH).map(|keys| registry.subscribe(keys))).await,
            Work::Retire(due) => registry.unsubscribe(due).await,
            Work::Wait(until) => tokio::select! {
                () = sleep_until(until) => {}
                () = registry.subscriptions.news.notified() => {}
            },
            Work::Over => return,
        }
    }
}

impl<S: Sink<Message> + Unpin + Send + 'static> Registry<S> {
    async fn subscribe(&self, keys: &[RoomKey]) {
        let topics: Vec<Topic> = keys.iter().cloned().map(Topic::Room).collect();
        let subscription = match self.ask(self.subscriptions.bus.subscribe(&topics)).await {
            Ok(()) => Subscription::Live,
            Err(fault) => {
                tracing::warn!(rooms = keys.len(), fault, "the bus did not subscribe");
                Subscription::Failed
            }
        };
        for room in keys.iter().filter_map(|key| self.find(key)) {
            room.set_subscription(subscription);
        }
    }

    async fn unsubscribe(&self, due: Vec<(Instant, RoomKey)>) {
        let mut topics = Vec::new();
        for (since, key) in due {
            match self.retire(&key, since) {
                Linger::Over => topics.push(Topic::Room(key)),
                Linger::Since(later) => lock(&self.subscriptions.queue).lingering.push_back((later, key)),
                Linger::Occupied => {}
            }
        }
        if topics.is_empty() {
            return;
        }
        // What still comes for a room that is not here is ignored.
        if let Err(fault) = self.ask(self.subscriptions.bus.unsubscribe(&topics)).await {
            tracing::warn!(rooms = topics.len(), fault, "the bus did not unsubscribe");
        }
    }

    /// Waits for an answer of the bus, which may be the application's code: no hang and no panic of it ends this task,
    /// on which every later join waits.
    async fn ask(&self, question: impl Future<Output = Result<(), BusError>> + Send) -> Result<(), String> {
        match timeout(self.limits.subscribe, AssertUnwindSafe(question).catch_unwind()).await {
            Ok(Ok(answer)) => answer.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err("it panicked".to_owned()),
            Err(_) => Err(format!("no answer within {:?}", self.limits.subscribe)),
        }
    }
}
