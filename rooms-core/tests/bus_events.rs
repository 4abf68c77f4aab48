//! Clause 7 of the bus, on the manager's side: it calls no function of the bus while it takes an event.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rooms_core::{
    Bus, Close, Kind, LocalBus, RoomManager,
    bus::{BusError, BusEvent, BusReceiver, History, Lost, Retention, States, Topic},
    reports::LinkReport,
};
use serde_json::json;
use tokio::time::sleep;

use rig::{Client, Rooms, key};

/// A bus that notes which of its functions are called while it hands an event over.
#[derive(Debug, Clone)]
struct Strict {
    inner: Arc<LocalBus>,
    events: Arc<Events>,
}

#[derive(Default)]
struct Events {
    receiver: OnceLock<Arc<dyn BusReceiver>>,
    /// How many are being handed over: one runtime, and so one thread.
    under_way: AtomicUsize,
    count: AtomicUsize,
    called: Mutex<Vec<&'static str>>,
}

impl Strict {
    fn new(inner: LocalBus) -> Self {
        Self { inner: Arc::new(inner), events: Arc::default() }
    }

    fn note(&self, function: &'static str) {
        if self.events.under_way.load(Ordering::Relaxed) > 0 {
            self.events.called.lock().unwrap().push(function);
        }
    }
}

impl BusReceiver for Events {
    fn event(&self, event: BusEvent) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.receiver.get().unwrap().event(event);
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

#[async_trait]
impl Bus for Strict {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        _ = self.events.receiver.set(receiver);
        self.inner.attach(Arc::clone(&self.events) as Arc<dyn BusReceiver>);
    }

    fn subscribe(&self, topics: &[Topic]) {
        self.note("subscribe");
        self.inner.subscribe(topics);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.note("unsubscribe");
        self.inner.unsubscribe(topics);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        self.note("publish");
        self.inner.publish(topic, payload).await
    }

    fn history(&self) -> Option<&dyn History> {
        self.note("history");
        self.inner.history()
    }

    fn states(&self) -> Option<&dyn States> {
        self.note("states");
        self.inner.states()
    }

    fn links(&self) -> Vec<LinkReport> {
        self.note("links");
        self.inner.links()
    }

    async fn close(&self) {
        self.note("close");
        self.inner.close().await;
    }
}

fn over(bus: &Strict) -> Rooms {
    RoomManager::build_for()
        .kind("post", Kind::authenticated().list_members())
        .kind("log", Kind::authenticated().history(Retention::messages(100)))
        .kind("board", Kind::authenticated().keep_state(Duration::from_secs(60)))
        .bus(bus.clone())
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_function_of_the_bus_is_called_while_an_event_is_handed_over() {
    let hub = LocalBus::new();
    let buses = [Strict::new(hub.peer()), Strict::new(hub.peer())];
    let nodes = [over(&buses[0]), over(&buses[1])];
    let rooms = ["post:1", "log:1", "board:1"];
    sleep(Duration::from_secs(3)).await;
    let mut members = Vec::new();
    for node in &nodes {
        for room in rooms {
            members.push(Client::join(node, "a", room).await);
        }
    }
    for round in 0..3 {
        for room in ["post:1", "log:1"] {
            nodes[round % 2].broadcast(&key(room), &round).await.unwrap();
        }
        nodes[0].broadcast_state(&key("board:1"), &json!({"round": round})).await.unwrap();
        for bus in &buses {
            let topics = rooms.map(|room| Topic::Room(key(room))).into_iter();
            let topics: Vec<_> = topics.chain([Topic::Control(key("post:1")), Topic::Nodes]).collect();
            for topic in &topics {
                bus.events.event(BusEvent::gap(topic.clone()));
                bus.events.event(BusEvent::refused(topic.clone(), BusError::Overloaded));
            }
            bus.events.event(BusEvent::Down);
            bus.events.event(BusEvent::subscribed(topics));
            bus.events.event(BusEvent::up(if round == 0 { Lost::Nothing } else { Lost::Perhaps }));
        }
        sleep(Duration::from_secs(5)).await;
    }
    nodes[0].kick(&key("post:1"), "a", "enough").await.unwrap();
    nodes[1].disconnect_user("a", Close::NORMAL).await.unwrap();
    // Past the time for which a room without members is kept.
    drop(members);
    sleep(Duration::from_secs(20)).await;
    nodes[0].shutdown(Duration::ZERO).await;
    for bus in &buses {
        assert!(bus.events.count.load(Ordering::Relaxed) > 50, "{:?}", bus.events.count);
        assert_eq!(*bus.events.called.lock().unwrap(), [""; 0]);
    }
}
