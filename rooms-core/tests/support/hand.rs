//! A bus that says what a test wants it to, besides what it has to say itself.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use rooms_core::{
    Bus,
    bus::{BusError, BusEvent, BusReceiver, Topic},
    reports::LinkReport,
};

#[derive(Debug)]
pub(crate) struct Hand<B> {
    bus: Arc<B>,
    /// What it tells of its links; unless set it panics when it is asked.
    pub(crate) links: Arc<OnceLock<Vec<LinkReport>>>,
    receiver: Arc<OnceLock<Receiver>>,
}

struct Receiver(Arc<dyn BusReceiver>);

impl<B> Hand<B> {
    pub(crate) fn new(bus: B) -> Self {
        Self { bus: Arc::new(bus), links: Arc::default(), receiver: Arc::default() }
    }

    pub(crate) fn say(&self, event: BusEvent) {
        self.receiver.get().unwrap().0.event(event);
    }
}

#[async_trait]
impl<B: Bus> Bus for Hand<B> {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        _ = self.receiver.set(Receiver(Arc::clone(&receiver)));
        self.bus.attach(receiver);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        self.bus.publish(topic, payload).await
    }

    fn subscribe(&self, topics: &[Topic]) {
        self.bus.subscribe(topics);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.bus.unsubscribe(topics);
    }

    fn links(&self) -> Vec<LinkReport> {
        self.links.get().expect("it was set").clone()
    }

    async fn close(&self) {
        self.bus.close().await;
    }
}

impl<B> Clone for Hand<B> {
    fn clone(&self) -> Self {
        Self { bus: Arc::clone(&self.bus), links: Arc::clone(&self.links), receiver: Arc::clone(&self.receiver) }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
