//! A bus with a history that counts its reads, loses messages, and fails on demand.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rooms_core::{
    Bus, LocalBus,
    bus::{
        Appended, BusError, BusEvent, BusReceiver, Excerpt, History, IdempotencyKey, KeptState, Lost, NewState,
        Outcome, Position, ReadFrom, Retention, States, Topic,
    },
};
use tokio::sync::Semaphore;

#[derive(Debug, Clone)]
pub(crate) struct Flaky(Arc<Inner>);

struct Inner {
    bus: LocalBus,
    receiver: OnceLock<Arc<dyn BusReceiver>>,
    faults: Arc<Faults>,
}

/// What is wrong just now.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) reads: AtomicUsize,
    /// Messages of rooms do not arrive.
    pub(crate) muted: AtomicBool,
    pub(crate) down: AtomicBool,
    /// So many of the next reads fail.
    pub(crate) failing: AtomicUsize,
    /// What arrives is kept until [`Flaky::thaw`].
    pub(crate) frozen: AtomicBool,
    kept: Mutex<Vec<BusEvent>>,
    /// Reads wait for a permit each.
    pub(crate) permits: Semaphore,
}

impl Flaky {
    pub(crate) fn new(bus: LocalBus) -> Self {
        let faults = Faults {
            reads: AtomicUsize::new(0),
            muted: AtomicBool::new(false),
            down: AtomicBool::new(false),
            failing: AtomicUsize::new(0),
            frozen: AtomicBool::new(false),
            kept: Mutex::default(),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
        };
        Self(Arc::new(Inner { bus, receiver: OnceLock::new(), faults: Arc::new(faults) }))
    }

    /// Reads wait from here on until they have permits.
    pub(crate) fn hold_reads(&self) {
        self.faults().permits.forget_permits(usize::MAX >> 3);
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub(crate) fn reads(&self) -> usize {
        self.0.faults.reads.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, fault: impl Fn(&Faults) -> &AtomicBool, on: bool) {
        fault(&self.0.faults).store(on, Ordering::Relaxed);
    }

    pub(crate) fn say(&self, event: BusEvent) {
        self.0.receiver.get().unwrap().event(event);
    }

    /// What was kept arrives.
    pub(crate) fn thaw(&self) {
        self.set(|faults| &faults.frozen, false);
        let kept = std::mem::take(&mut *self.0.faults.kept.lock().unwrap());
        kept.into_iter().for_each(|event| self.say(event));
    }

    pub(crate) fn go_down(&self) {
        self.set(|faults| &faults.down, true);
        self.say(BusEvent::Down);
    }

    pub(crate) fn come_up(&self) {
        self.set(|faults| &faults.down, false);
        self.say(BusEvent::up(Lost::Perhaps));
    }

    fn check(&self) -> Result<(), BusError> {
        if self.0.faults.down.load(Ordering::Relaxed) { Err(BusError::Down) } else { Ok(()) }
    }
}

#[async_trait]
impl Bus for Flaky {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        _ = self.0.receiver.set(Arc::clone(&receiver));
        self.0.bus.attach(Arc::new(Ear { receiver, faults: Arc::clone(&self.0.faults) }));
    }

    fn subscribe(&self, topics: &[Topic]) {
        self.0.bus.subscribe(topics);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.0.bus.unsubscribe(topics);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        self.check()?;
        self.0.bus.publish(topic, payload).await
    }

    fn history(&self) -> Option<&dyn History> {
        Some(self)
    }

    fn states(&self) -> Option<&dyn States> {
        Some(self)
    }

    async fn close(&self) {
        self.0.bus.close().await;
    }
}

#[async_trait]
impl History for Flaky {
    async fn append(&self, topic: &Topic, payload: Bytes, retention: Retention) -> Result<Position, BusError> {
        self.check()?;
        self.0.bus.append(topic, payload, retention).await
    }

    async fn append_once(
        &self,
        topic: &Topic,
        payload: Bytes,
        retention: Retention,
        key: &IdempotencyKey,
    ) -> Result<Appended, BusError> {
        self.check()?;
        self.0.bus.append_once(topic, payload, retention, key).await
    }

    async fn read(&self, topic: &Topic, from: ReadFrom, retention: Retention) -> Result<Excerpt, BusError> {
        let faults = self.faults();
        faults.reads.fetch_add(1, Ordering::Relaxed);
        self.check()?;
        faults.permits.acquire().await.unwrap().forget();
        let excerpt = self.0.bus.read(topic, from, retention).await?;
        // The answer takes a while, in which more is published.
        tokio::task::yield_now().await;
        let failing = faults.failing.load(Ordering::Relaxed);
        if failing > 0 {
            faults.failing.store(failing - 1, Ordering::Relaxed);
            return Err(BusError::Unknown("no answer".into()));
        }
        Ok(excerpt)
    }
}

#[async_trait]
impl States for Flaky {
    async fn set_state(&self, topic: &Topic, new: NewState) -> Result<Outcome, BusError> {
        self.check()?;
        self.0.bus.set_state(topic, new).await
    }

    async fn state(&self, topic: &Topic, keep: Duration) -> Result<Option<KeptState>, BusError> {
        let faults = self.faults();
        faults.reads.fetch_add(1, Ordering::Relaxed);
        self.check()?;
        let kept = self.0.bus.state(topic, keep).await?;
        faults.permits.acquire().await.unwrap().forget();
        // The answer takes a while, in which more is published.
        tokio::task::yield_now().await;
        let failing = faults.failing.load(Ordering::Relaxed);
        if failing > 0 {
            faults.failing.store(failing - 1, Ordering::Relaxed);
            return Err(BusError::Unknown("no answer".into()));
        }
        Ok(kept)
    }
}

struct Ear {
    receiver: Arc<dyn BusReceiver>,
    faults: Arc<Faults>,
}

impl BusReceiver for Ear {
    fn event(&self, event: BusEvent) {
        let of_a_room = matches!(
            event,
            BusEvent::Message { topic: Topic::Room(_), .. } | BusEvent::State { topic: Topic::Room(_), .. }
        );
        if of_a_room {
            if self.faults.muted.load(Ordering::Relaxed) || self.faults.down.load(Ordering::Relaxed) {
                return;
            }
            if self.faults.frozen.load(Ordering::Relaxed) {
                return self.faults.kept.lock().unwrap().push(event);
            }
        }
        self.receiver.event(event);
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flaky")
    }
}
