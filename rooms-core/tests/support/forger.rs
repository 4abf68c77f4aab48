//! Somebody who may publish on the topics of the nodes, and listen there.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rooms_core::{
    Bus, LocalBus,
    bus::{BusError, BusEvent, BusReceiver, Topic},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub(crate) struct Forger {
    bus: Arc<LocalBus>,
    heard: Arc<Mutex<Vec<(Topic, Value)>>>,
}

struct Ears {
    heard: Arc<Mutex<Vec<(Topic, Value)>>>,
    asked: mpsc::UnboundedSender<(String, Value)>,
}

impl BusReceiver for Ears {
    fn event(&self, event: BusEvent) {
        let BusEvent::Message { topic, payload, .. } = event else { return };
        let said: Value = serde_json::from_slice(&payload).unwrap();
        if let (Topic::Node(node), Some(ask)) = (&topic, said["message"]["query"]["id"].as_u64()) {
            _ = self.asked.send((node.to_string(), json!([ask, said["node"]])));
        }
        self.heard.lock().unwrap().push((topic, said));
    }
}

impl Forger {
    pub(crate) fn new(bus: LocalBus) -> Self {
        let (asked, mut questions) = mpsc::unbounded_channel();
        let heard = Arc::default();
        bus.attach(Arc::new(Ears { heard: Arc::clone(&heard), asked }));
        let bus = Arc::new(bus);
        let answering = Arc::clone(&bus);
        // For the nodes that it stands in for: it has nobody anywhere.
        tokio::spawn(async move {
            while let Some((node, asked)) = questions.recv().await {
                let answer = json!({"reply": {"id": asked[0], "version": 1, "entries": []}});
                let asker = asked[1].as_str().unwrap().parse().unwrap();
                say(&answering, &Topic::Node(asker), &node, &answer).await;
            }
        });
        Self { bus, heard }
    }

    /// Publishes a message in the name of a node.
    pub(crate) async fn say(&self, topic: &Topic, node: &str, said: Value) {
        say(&self.bus, topic, node, &said).await;
    }

    pub(crate) async fn repeat(&self, topic: &Topic, said: &Value) {
        self.bus.publish(topic, said.to_string().into()).await.unwrap();
    }

    /// Answers what is asked of a node.
    pub(crate) fn stand_in(&self, node: &str) {
        self.listen(Topic::Node(node.parse().unwrap()));
    }

    pub(crate) fn listen(&self, topic: Topic) {
        self.bus.subscribe(&[topic]);
    }

    /// What was heard since it was looked at last.
    pub(crate) fn heard(&self) -> Vec<(Topic, Value)> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

async fn say(bus: &LocalBus, topic: &Topic, node: &str, said: &Value) {
    let message = json!({"v": 1, "node": node, "message": said}).to_string();
    bus.publish(topic, message.into()).await.unwrap();
}

/// A bus that counts the bytes that are published on it.
#[derive(Debug)]
pub(crate) struct Counted(pub(crate) LocalBus, pub(crate) Arc<std::sync::atomic::AtomicUsize>);

#[async_trait]
impl Bus for Counted {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.0.attach(receiver);
    }

    async fn publish(&self, topic: &Topic, payload: bytes::Bytes) -> Result<(), BusError> {
        self.1.fetch_add(payload.len(), std::sync::atomic::Ordering::Relaxed);
        self.0.publish(topic, payload).await
    }

    fn subscribe(&self, topics: &[Topic]) {
        self.0.subscribe(topics);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.0.unsubscribe(topics);
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
