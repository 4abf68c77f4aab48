//! A bus that the test has fail.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    future::pending,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use rooms_core::{
    Bus, Kind, LocalBus, RoomManager,
    bus::{BusError, BusEvent, BusReceiver, Topic},
};

use crate::rig::{Rooms, key};

/// A bus whose behaviour the test sets, in front of a real one.
#[derive(Debug, Default)]
pub(crate) struct Faulty {
    pub(crate) inner: LocalBus,
    pub(crate) receiver: OnceLock<Handed>,
    pub(crate) publish: Mutex<Option<fn() -> BusError>>,
    pub(crate) refuse_subscriptions: AtomicBool,
    pub(crate) hang_subscriptions: AtomicBool,
    pub(crate) panic_subscriptions: AtomicBool,
    pub(crate) hang: AtomicBool,
    /// Answers no `subscribe` until [`answer`](Self::answer).
    pub(crate) withhold: AtomicBool,
    pub(crate) withheld: Mutex<Vec<Topic>>,
}

pub(crate) struct Handed(Arc<dyn BusReceiver>);

impl std::fmt::Debug for Handed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handed")
    }
}

impl Faulty {
    pub(crate) fn say(&self, event: BusEvent) {
        self.receiver.get().unwrap().0.event(event);
    }

    pub(crate) fn answer(&self) {
        self.withhold.store(false, Ordering::Relaxed);
        self.inner.subscribe(&std::mem::take(&mut *self.withheld.lock().unwrap()));
    }

    pub(crate) fn say_message(&self, payload: impl Into<Bytes>) {
        self.say(BusEvent::message(Topic::Room(key("post:42")), payload.into()));
    }
}

#[async_trait]
impl Bus for Faulty {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.inner.attach(Arc::clone(&receiver));
        _ = self.receiver.set(Handed(receiver));
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        if self.hang.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
        let fault = *self.publish.lock().unwrap();
        match fault {
            Some(fault) => Err(fault()),
            None => self.inner.publish(topic, payload).await,
        }
    }

    fn subscribe(&self, topics: &[Topic]) {
        if self.hang_subscriptions.load(Ordering::Relaxed) {
            return;
        }
        if self.withhold.load(Ordering::Relaxed) {
            self.withheld.lock().unwrap().extend_from_slice(topics);
            return;
        }
        assert!(!self.panic_subscriptions.load(Ordering::Relaxed), "a bus that panics");
        match self.refuse_subscriptions.load(Ordering::Relaxed) {
            true => topics.iter().for_each(|topic| {
                self.say(BusEvent::refused(topic.clone(), BusError::Refused("no".into())));
            }),
            false => self.inner.subscribe(topics),
        }
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.inner.unsubscribe(topics);
    }

    async fn close(&self) {
        if self.hang.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
        self.inner.close().await;
    }
}

pub(crate) fn rooms(bus: impl Bus) -> Rooms {
    RoomManager::build_for().kind("post", Kind::authenticated()).bus(bus).build().unwrap()
}
