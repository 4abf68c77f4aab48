//! A receiver that writes down what it is told, and waits for it.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::{sync::Notify, time::timeout};

use super::PATIENCE;
use crate::{
    bus::{Bus, BusEvent, BusReceiver, KeptState, Lost, Position, StatePatch, Topic},
    lock::lock,
};

#[derive(Debug)]
pub(super) struct Listener(Arc<Ear>);

#[derive(Debug, Default)]
struct Ear {
    heard: Mutex<Heard>,
    news: Notify,
}

/// All events so far.
#[derive(Default)]
pub(super) struct Heard {
    events: Vec<BusEvent>,
    /// How often each topic was said to be subscribed.
    answers: HashMap<Topic, usize>,
}

impl BusReceiver for Ear {
    fn event(&self, event: BusEvent) {
        lock(&self.heard).push(event);
        self.news.notify_waiters();
    }
}

impl Listener {
    pub(super) fn attach(bus: &impl Bus) -> Self {
        let ear = Arc::new(Ear::default());
        bus.attach(Arc::clone(&ear) as Arc<dyn BusReceiver>);
        Self(ear)
    }

    /// Subscribes, and waits for the answers.
    pub(super) async fn subscribe(&self, bus: &impl Bus, topics: &[Topic]) {
        self.subscribe_beside(bus, topics, &[]).await;
    }

    /// Subscribes topics together with others, and waits for the answers to the first.
    pub(super) async fn subscribe_beside(&self, bus: &impl Bus, topics: &[Topic], others: &[Topic]) {
        let answers = |heard: &Heard| -> Vec<usize> { topics.iter().map(|topic| heard.answers(topic)).collect() };
        let before = self.with(answers);
        bus.subscribe(&[others, topics].concat());
        self.until(|heard| answers(heard).iter().zip(&before).all(|(now, before)| now > before)).await;
    }

    pub(super) fn with<T>(&self, read: impl FnOnce(&Heard) -> T) -> T {
        read(&lock(&self.0.heard))
    }

    /// The messages of a topic, as text.
    pub(super) fn heard(&self, topic: &Topic) -> Vec<String> {
        self.with(|heard| heard.messages(topic).collect())
    }

    pub(super) async fn until(&self, satisfied: impl Fn(&Heard) -> bool + Send + Sync) {
        let waited = timeout(PATIENCE, async {
            loop {
                let mut news = pin!(self.0.news.notified());
                news.as_mut().enable();
                if self.with(&satisfied) {
                    return;
                }
                news.await;
            }
        });
        assert!(waited.await.is_ok(), "not in time; so far: {:?}", lock(&self.0.heard));
    }

    /// Waits for so many messages of a topic, of which none may be one too many.
    pub(super) async fn messages(&self, topic: &Topic, count: usize) -> Vec<String> {
        self.until(|heard| heard.messages(topic).count() >= count).await;
        let heard = self.heard(topic);
        assert_eq!(heard.len(), count, "too many messages");
        heard
    }

    /// Each of these messages, published in this order, was heard, or lies in a window that was said: it ends with a gap
    /// or with an `Up` that speaks of a loss, and between `Down` and `Up` messages may come already.
    pub(super) fn assert_losses_are_said(&self, topic: &Topic, published: &[String]) {
        let mut expected = published.iter().peekable();
        let (mut missing, mut said, mut down) = (Vec::new(), false, false);
        self.with(|heard| {
            for event in &heard.events {
                match event {
                    BusEvent::Down => down = true,
                    BusEvent::Up { lost: Lost::Nothing } => down = false,
                    BusEvent::Up { lost: Lost::Perhaps } => {
                        missing.clear();
                        (said, down) = (true, false);
                    }
                    BusEvent::Gap { topic: of } if of == topic => said = true,
                    // What has no certain answer may come too, and is not looked for.
                    BusEvent::Message { topic: of, payload, .. }
                        if of == topic && published.iter().any(|text| text.as_bytes() == payload) =>
                    {
                        while let Some(text) = expected.next_if(|text| text.as_bytes() != payload) {
                            missing.push(text.clone());
                        }
                        expected.next();
                        if said {
                            missing.clear();
                        }
                        assert!(missing.is_empty() || down, "{missing:?} were lost, and nothing said so");
                        said = false;
                    }
                    _ => {}
                }
            }
        });
        missing.extend(expected.cloned());
        assert!(missing.is_empty() || said, "{missing:?} were lost, and nothing said so");
    }
}

impl Heard {
    pub(super) fn messages<'a>(&'a self, topic: &'a Topic) -> impl Iterator<Item = String> + 'a {
        self.events.iter().filter_map(move |event| match event {
            BusEvent::Message { topic: of, payload, .. } if of == topic => {
                Some(String::from_utf8_lossy(payload).into_owned())
            }
            _ => None,
        })
    }

    /// The messages of a topic that have a position.
    pub(super) fn positioned(&self, topic: &Topic) -> Vec<(Position, String)> {
        let positioned = self.events.iter().filter_map(|event| match event {
            BusEvent::Message { topic: of, payload, position: Some(position) } if of == topic => {
                Some((*position, String::from_utf8_lossy(payload).into_owned()))
            }
            _ => None,
        });
        positioned.collect()
    }

    /// The states of a topic, each with the revision and the change that came beside it.
    pub(super) fn states(&self, topic: &Topic) -> Vec<(KeptState, Option<(Position, Bytes)>)> {
        let states = self.events.iter().filter_map(|event| match event {
            BusEvent::State { topic: of, state, patch } if of == topic => {
                let patch = patch.as_ref().map(|StatePatch { since, patch }| (*since, patch.clone()));
                Some((state.clone(), patch))
            }
            _ => None,
        });
        states.collect()
    }

    pub(super) fn has(&self, topic: &Topic, text: &str) -> bool {
        self.messages(topic).any(|message| message == text)
    }

    /// How often the bus has said that it subscribed a topic.
    pub(super) fn answers(&self, topic: &Topic) -> usize {
        self.answers.get(topic).copied().unwrap_or(0)
    }

    fn push(&mut self, event: BusEvent) {
        if let BusEvent::Subscribed { topics } = &event {
            for topic in topics {
                *self.answers.entry(topic.clone()).or_default() += 1;
            }
        }
        self.events.push(event);
    }

    /// Whether the newest `Up` came after the topic was subscribed anew.
    pub(super) fn is_up_with(&self, topic: &Topic) -> bool {
        let down = self.events.iter().rposition(|event| matches!(event, BusEvent::Down)).unwrap_or(0);
        let since = self.events.get(down..).unwrap_or_default();
        let subscribed =
            since.iter().position(|it| matches!(it, BusEvent::Subscribed { topics } if topics.contains(topic)));
        let up = since.iter().position(|event| matches!(event, BusEvent::Up { .. }));
        subscribed.zip(up).is_some_and(|(subscribed, up)| subscribed < up)
    }

    pub(super) fn is_down(&self) -> bool {
        let state = self.events.iter().rev().find(|event| matches!(event, BusEvent::Down | BusEvent::Up { .. }));
        matches!(state, Some(BusEvent::Down))
    }

    pub(super) fn count(&self) -> usize {
        self.events.len()
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.events.iter().rev().take(20).rev();
        write!(f, "{} events, at the end ", self.events.len())?;
        f.debug_list().entries(shown).finish()
    }
}
