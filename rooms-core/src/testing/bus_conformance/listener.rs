//! A receiver that writes down what it is told, and waits for it.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, Mutex},
};

use tokio::{sync::Notify, time::timeout};

use super::PATIENCE;
use crate::{
    bus::{Bus, BusEvent, BusReceiver, Lost, Topic},
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
pub(super) struct Heard(Vec<BusEvent>);

impl BusReceiver for Ear {
    fn event(&self, event: BusEvent) {
        lock(&self.heard).0.push(event);
        self.news.notify_waiters();
    }
}

impl Listener {
    pub(super) fn attach(bus: &impl Bus) -> Self {
        let ear = Arc::new(Ear::default());
        bus.attach(Arc::clone(&ear) as Arc<dyn BusReceiver>);
        Self(ear)
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
            for event in &heard.0 {
                match event {
                    BusEvent::Down => down = true,
                    BusEvent::Up { lost: Lost::Nothing } => down = false,
                    BusEvent::Up { lost: Lost::Perhaps } => {
                        missing.clear();
                        (said, down) = (true, false);
                    }
                    BusEvent::Gap { topic: of } if of == topic => said = true,
                    // What has no certain answer may come too, and is not looked for.
                    BusEvent::Message { topic: of, payload }
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
        self.0.iter().filter_map(move |event| match event {
            BusEvent::Message { topic: of, payload } if of == topic => {
                Some(String::from_utf8_lossy(payload).into_owned())
            }
            _ => None,
        })
    }

    pub(super) fn has(&self, topic: &Topic, text: &str) -> bool {
        self.messages(topic).any(|message| message == text)
    }

    pub(super) fn is_down(&self) -> bool {
        let state = self.0.iter().rev().find(|event| matches!(event, BusEvent::Down | BusEvent::Up { .. }));
        matches!(state, Some(BusEvent::Down))
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().rev().take(20).rev();
        write!(f, "{} events, at the end ", self.0.len())?;
        f.debug_list().entries(shown).finish()
    }
}
