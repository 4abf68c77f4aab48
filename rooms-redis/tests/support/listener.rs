//! A receiver that writes down what it is told.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::{Arc, Mutex};

use rooms_core::{
    Bus, RoomKey,
    bus::{BusEvent, BusReceiver, Lost, Topic},
};
use rooms_redis::{Health, RedisBus};
use tokio::{sync::Notify, time::timeout};

use crate::redis_server::PATIENCE;

/// Events as text, to be compared: `post:42 <payload>`, `gap post:42`, `down`, `up`, `up, perhaps with a loss`.
#[derive(Default)]
pub(crate) struct Listener {
    events: Mutex<Vec<String>>,
    refusals: Mutex<Vec<String>>,
    news: Notify,
}

impl BusReceiver for Listener {
    fn event(&self, event: BusEvent) {
        let text = match event {
            BusEvent::Message { topic, payload, .. } => {
                format!("{} {}", name(&topic), String::from_utf8_lossy(&payload))
            }
            BusEvent::Gap { topic, .. } => format!("gap {}", name(&topic)),
            BusEvent::Down => "down".to_owned(),
            BusEvent::Up { lost: Lost::Nothing, .. } => "up".to_owned(),
            BusEvent::Up { lost: Lost::Perhaps, .. } => "up, perhaps with a loss".to_owned(),
            // Seen in the bus' health, and its refusals here.
            BusEvent::Subscribed { .. } => return,
            BusEvent::Refused { topic, error, .. } => {
                self.refusals.lock().unwrap().push(format!("{}: {error}", name(&topic)));
                return self.news.notify_waiters();
            }
            other => format!("{other:?}"),
        };
        self.events.lock().unwrap().push(text);
        self.news.notify_waiters();
    }
}

fn name(topic: &Topic) -> String {
    match topic {
        Topic::Room(room) => room.to_string(),
        Topic::Control(room) => format!("control of {room}"),
        other => format!("{other:?}"),
    }
}

impl Listener {
    pub(crate) fn of(bus: &RedisBus) -> Arc<Self> {
        let listener = Arc::new(Self::default());
        bus.attach(Arc::clone(&listener) as Arc<dyn BusReceiver>);
        listener
    }

    /// Waits until so many topics are refused, and gives them in their order.
    pub(crate) async fn refusals(&self, count: usize) -> Vec<String> {
        let waited = timeout(PATIENCE, async {
            loop {
                let mut news = std::pin::pin!(self.news.notified());
                news.as_mut().enable();
                let mut refusals = self.refusals.lock().unwrap().clone();
                if refusals.len() >= count {
                    refusals.sort();
                    return refusals;
                }
                news.await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("not in time; so far: {:?}", self.refusals.lock().unwrap()))
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }

    /// Waits until there are so many events, and takes them.
    pub(crate) async fn take(&self, count: usize) -> Vec<String> {
        self.take_when(|events| (events.len() >= count).then_some(count)).await
    }

    /// Waits for an event, and takes all up to it; later ones stay.
    pub(crate) async fn hears(&self, event: &str) -> Vec<String> {
        self.hears_any(&[event]).await
    }

    /// Waits for the first of these events, and takes all up to it.
    pub(crate) async fn hears_any(&self, among: &[&str]) -> Vec<String> {
        let found = |events: &[String]| events.iter().position(|heard| among.contains(&heard.as_str()));
        self.take_when(|events| found(events).map(|place| place + 1)).await
    }

    async fn take_when(&self, count: impl Fn(&[String]) -> Option<usize> + Send + Sync) -> Vec<String> {
        let waited = timeout(PATIENCE, async {
            loop {
                let mut news = std::pin::pin!(self.news.notified());
                news.as_mut().enable();
                {
                    let mut events = self.events.lock().unwrap();
                    if let Some(count) = count(&events) {
                        return events.drain(..count).collect();
                    }
                }
                news.await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("not in time; so far: {:?}", self.events()))
    }
}

/// Subscribes, and waits until the bus has all that it is to have.
pub(crate) async fn subscribe(bus: &RedisBus, topics: &[Topic]) {
    bus.subscribe(topics);
    reconciled(bus).await;
}

/// Unsubscribes topics that are wanted, and waits until they are left.
pub(crate) async fn unsubscribe(bus: &RedisBus, topics: &[Topic]) {
    let left = bus.health().wanted.saturating_sub(topics.len());
    bus.unsubscribe(topics);
    healthy(bus, |health| health.wanted == left && health.subscribed == left).await;
}

pub(crate) async fn reconciled(bus: &RedisBus) {
    healthy(bus, |health| health.subscribed == health.wanted).await;
}

pub(crate) fn room(text: &str) -> Topic {
    Topic::Room(text.parse::<RoomKey>().unwrap())
}

/// Waits until the bus is as it should be.
pub(crate) async fn healthy(bus: &RedisBus, as_it_should: impl Fn(&Health) -> bool + Send + Sync) -> Health {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let health = bus.health();
        if as_it_should(&health) {
            return health;
        }
        assert!(tokio::time::Instant::now() < deadline, "not in time: {health:?}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
