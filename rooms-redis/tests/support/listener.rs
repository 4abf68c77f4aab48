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
    news: Notify,
}

impl BusReceiver for Listener {
    fn event(&self, event: BusEvent) {
        let text = match event {
            BusEvent::Message { topic, payload } => format!("{} {}", name(&topic), String::from_utf8_lossy(&payload)),
            BusEvent::Gap { topic } => format!("gap {}", name(&topic)),
            BusEvent::Down => "down".to_owned(),
            BusEvent::Up { lost: Lost::Nothing } => "up".to_owned(),
            BusEvent::Up { lost: Lost::Perhaps } => "up, perhaps with a loss".to_owned(),
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

    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }

    /// Waits until the events so far satisfy this, takes and returns them.
    pub(crate) async fn until(&self, satisfied: impl Fn(&[String]) -> bool + Send + Sync) -> Vec<String> {
        let waited = timeout(PATIENCE, async {
            loop {
                let mut news = std::pin::pin!(self.news.notified());
                news.as_mut().enable();
                {
                    let mut events = self.events.lock().unwrap();
                    if satisfied(&events) {
                        return std::mem::take(&mut *events);
                    }
                }
                news.await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("not in time; so far: {:?}", self.events()))
    }

    /// Waits for one event, and takes all up to now.
    pub(crate) async fn hears(&self, event: &str) -> Vec<String> {
        self.until(|events| events.iter().any(|heard| heard == event)).await
    }
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
