//! Every bus of this crate keeps the contract: `LocalBus`, the kit's bus that injects faults, and `AsyncBus`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::pending, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use rooms_core::{
    Bus, LocalBus,
    bus::{AsyncBus, AsyncClient, BusError, BusReceiver, History, Topic},
    testing::{
        bus_conformance::{Backplane, Cut},
        faults::{Faults, FaultyBus},
    },
};

/// Three buses that are never away, and the topic for which no answer comes.
struct Peers<B> {
    hub: LocalBus,
    peers: Vec<B>,
    stubborn: Option<Topic>,
}

impl<B: Bus> Backplane for Peers<B> {
    type Bus = B;

    fn peers(&self) -> &[B] {
        &self.peers
    }

    fn stubborn(&self) -> Option<Topic> {
        self.stubborn.clone()
    }

    async fn cut(&mut self) -> Cut {
        Cut::Impossible
    }

    async fn mend(&mut self) {}

    async fn forget(&mut self) -> Cut {
        self.hub.forget_histories();
        Cut::Done
    }
}

fn peers<B>(make: impl Fn(LocalBus) -> B) -> Peers<B> {
    let hub = LocalBus::new();
    let peers = (0..3).map(|_| make(hub.peer())).collect();
    Peers { hub, peers, stubborn: None }
}

mod local {
    rooms_core::bus_conformance!(super::peers(|bus| bus));
}

mod faulty {
    use super::{Faults, FaultyBus};

    rooms_core::bus_conformance!(super::peers(|bus| FaultyBus::new(bus, Faults::new(1))));
}

mod asynchronous {
    use super::{AsyncBus, Awaited, Peers, stuck};

    rooms_core::bus_conformance!(Peers { stubborn: Some(stuck()), ..super::peers(|bus| AsyncBus::new(Awaited(bus))) });
}

fn stuck() -> Topic {
    Topic::Room("stuck:1".parse().unwrap())
}

/// A client whose answers are awaited; for one topic none comes.
#[derive(Debug)]
struct Awaited(LocalBus);

#[async_trait]
impl AsyncClient for Awaited {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.0.attach(Arc::new(MessagesAlone(receiver)));
    }

    async fn subscribe(&self, topic: &Topic) -> Result<(), BusError> {
        tokio::task::yield_now().await;
        if *topic == stuck() {
            pending::<()>().await;
        }
        self.0.subscribe(std::slice::from_ref(topic));
        Ok(())
    }

    async fn unsubscribe(&self, topic: &Topic) -> Result<(), BusError> {
        tokio::task::yield_now().await;
        self.0.unsubscribe(std::slice::from_ref(topic));
        Ok(())
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        self.0.publish(topic, payload).await
    }

    fn history(&self) -> Option<&dyn History> {
        self.0.history()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// The answers are for the client alone.
struct MessagesAlone(Arc<dyn BusReceiver>);

impl BusReceiver for MessagesAlone {
    fn event(&self, event: rooms_core::bus::BusEvent) {
        if matches!(event, rooms_core::bus::BusEvent::Message { .. }) {
            self.0.event(event);
        }
    }
}
