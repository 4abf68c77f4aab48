//! Every bus of this crate keeps the contract: `LocalBus`, the kit's bus that injects faults, and `AsyncBus`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fmt,
    future::pending,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use rooms_core::{
    Bus, LocalBus,
    bus::{AsyncBus, AsyncClient, BusError, BusEvent, BusReceiver, History, Lost, States, Topic},
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
        self.0.attach(receiver);
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

    fn states(&self) -> Option<&dyn States> {
        self.0.states()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// Buses whose clients lose their connections, and with them what was subscribed.
struct Unsteady(Vec<AsyncBus<Reconnecting>>);

impl Unsteady {
    fn new() -> Self {
        let Peers { peers, .. } = peers(|bus| AsyncBus::new(Reconnecting { bus, ..Reconnecting::default() }));
        Self(peers)
    }
}

impl Backplane for Unsteady {
    type Bus = AsyncBus<Reconnecting>;

    fn peers(&self) -> &[Self::Bus] {
        &self.0
    }

    fn stubborn(&self) -> Option<Topic> {
        None
    }

    async fn cut(&mut self) -> Cut {
        self.0.iter().for_each(|bus| bus.client().disconnect());
        Cut::Done
    }

    async fn mend(&mut self) {
        self.0.iter().for_each(|bus| bus.client().reconnect());
    }

    async fn forget(&mut self) -> Cut {
        Cut::Impossible
    }
}

mod reconnecting {
    rooms_core::bus_conformance!(super::Unsteady::new());
}

/// A client that restores its own subscriptions when it is back, and says no more of it than that it is up.
#[derive(Default)]
struct Reconnecting {
    bus: LocalBus,
    receiver: OnceLock<Arc<dyn BusReceiver>>,
    topics: Mutex<Vec<Topic>>,
    down: AtomicBool,
}

impl Reconnecting {
    fn disconnect(&self) {
        self.down.store(true, Ordering::SeqCst);
        self.bus.unsubscribe(&self.topics.lock().unwrap());
        self.event(BusEvent::Down);
    }

    fn reconnect(&self) {
        self.bus.subscribe(&self.topics.lock().unwrap());
        self.down.store(false, Ordering::SeqCst);
        self.event(BusEvent::up(Lost::Perhaps));
    }

    fn event(&self, event: BusEvent) {
        if let Some(receiver) = self.receiver.get() {
            receiver.event(event);
        }
    }

    fn connected(&self) -> Result<(), BusError> {
        if self.down.load(Ordering::SeqCst) { Err(BusError::Down) } else { Ok(()) }
    }
}

impl fmt::Debug for Reconnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reconnecting")
    }
}

#[async_trait]
impl AsyncClient for Reconnecting {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        _ = self.receiver.set(Arc::clone(&receiver));
        self.bus.attach(receiver);
    }

    async fn subscribe(&self, topic: &Topic) -> Result<(), BusError> {
        tokio::task::yield_now().await;
        self.connected()?;
        self.topics.lock().unwrap().push(topic.clone());
        self.bus.subscribe(std::slice::from_ref(topic));
        Ok(())
    }

    async fn unsubscribe(&self, topic: &Topic) -> Result<(), BusError> {
        tokio::task::yield_now().await;
        self.topics.lock().unwrap().retain(|other| other != topic);
        self.bus.unsubscribe(std::slice::from_ref(topic));
        Ok(())
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        self.connected()?;
        self.bus.publish(topic, payload).await
    }

    async fn close(&self) {
        self.bus.close().await;
    }
}
