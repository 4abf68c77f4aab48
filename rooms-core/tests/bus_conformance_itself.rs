//! The suite for buses catches buses that break one clause each. Time is paused, so nothing waits for what never comes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    future::pending,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rooms_core::{
    Bus, LocalBus,
    bus::{BusError, BusEvent, BusReceiver, Lost, Topic},
    bus_conformance,
    testing::bus_conformance::{self as suite, Backplane, Cut},
};

/// What a bus does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    DoesNotHearItself,
    HearsAnotherOrder,
    DeliversTwice,
    SubscribesLater,
    KeepsWhatIsUnsubscribed,
    GoesDownSilently,
    TakesWhileDown,
    ForgetsSubscriptions,
    PublishesWhatItCalledDown,
    TriesAgain,
    LosesSilently,
    WaitsForListeners,
    SubscribesThoughDropped,
    TalksAfterTheClose,
}

use Fault::*;

/// Three buses in one process whose backplane can be away.
struct Weather {
    peers: Vec<Peer>,
    sky: Arc<Sky>,
}

/// What the peers share.
#[derive(Default)]
struct Sky {
    away: AtomicBool,
    was_away: AtomicBool,
    receivers: Mutex<Vec<Arc<dyn BusReceiver>>>,
    kept: Mutex<Vec<(Topic, Bytes)>>,
}

struct Peer {
    inner: Arc<LocalBus>,
    sky: Arc<Sky>,
    fault: Fault,
    number: usize,
    receiver: OnceLock<Arc<Ear>>,
}

impl Weather {
    fn with(fault: Fault) -> Self {
        let (sky, first) = (Arc::new(Sky::default()), LocalBus::new());
        let peer = |number| Peer {
            inner: Arc::new(first.peer()),
            sky: Arc::clone(&sky),
            fault,
            number,
            receiver: OnceLock::new(),
        };
        Self { peers: (0..3).map(peer).collect(), sky }
    }

    fn say(&self, event: &BusEvent) {
        for receiver in &*self.sky.receivers.lock().unwrap() {
            receiver.event(event.clone());
        }
    }
}

impl Backplane for Weather {
    type Bus = Peer;

    fn peers(&self) -> &[Peer] {
        &self.peers
    }

    async fn cut(&mut self) -> Cut {
        self.sky.away.store(true, Ordering::Relaxed);
        self.sky.was_away.store(true, Ordering::Relaxed);
        if self.peers[0].fault != GoesDownSilently {
            self.say(&BusEvent::Down);
        }
        if self.peers[0].fault == ForgetsSubscriptions {
            self.peers[2].inner.close().await;
        }
        Cut::Done
    }

    async fn mend(&mut self) {
        self.sky.away.store(false, Ordering::Relaxed);
        self.say(&BusEvent::Up { lost: Lost::Nothing });
        let kept = std::mem::take(&mut *self.sky.kept.lock().unwrap());
        for (topic, payload) in kept {
            self.peers[0].inner.publish(&topic, payload).await.unwrap();
        }
    }
}

#[async_trait]
impl Bus for Peer {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.sky.receivers.lock().unwrap().push(Arc::clone(&receiver));
        let ear = Ear { inner: receiver, fault: self.fault, number: self.number, held: Mutex::default() };
        let ear = self.receiver.get_or_init(|| Arc::new(ear));
        self.inner.attach(Arc::clone(ear) as Arc<dyn BusReceiver>);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        if self.sky.away.load(Ordering::Relaxed) {
            match self.fault {
                TakesWhileDown | LosesSilently => return Ok(()),
                PublishesWhatItCalledDown => self.sky.kept.lock().unwrap().push((topic.clone(), payload)),
                TriesAgain => {
                    let mut kept = self.sky.kept.lock().unwrap();
                    kept.extend([(topic.clone(), payload.clone()), (topic.clone(), payload)]);
                    return Err(BusError::Unknown("no answer".into()));
                }
                _ => {}
            }
            return Err(BusError::Down);
        }
        if self.fault == WaitsForListeners && self.number == 0 && self.receiver.get().is_none() {
            pending::<()>().await;
        }
        let count = PUBLISHED.fetch_add(1, Ordering::Relaxed);
        if self.fault == WaitsForListeners && count > 1_000 {
            // A queue of a thousand, and its consumer does not come.
            pending::<()>().await;
        }
        self.inner.publish(topic, payload).await
    }

    async fn subscribe(&self, topics: &[Topic]) -> Result<(), BusError> {
        let (inner, topics) = (Arc::clone(&self.inner), topics.to_vec());
        match self.fault {
            SubscribesLater => {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    inner.subscribe(&topics).await
                });
                Ok(())
            }
            SubscribesThoughDropped => tokio::spawn(async move { inner.subscribe(&topics).await }).await.unwrap(),
            _ => inner.subscribe(&topics).await,
        }
    }

    async fn unsubscribe(&self, topics: &[Topic]) -> Result<(), BusError> {
        match self.fault {
            KeepsWhatIsUnsubscribed => Ok(()),
            _ => self.inner.unsubscribe(topics).await,
        }
    }

    async fn close(&self) {
        if self.fault != TalksAfterTheClose {
            self.inner.close().await;
        }
    }
}

static PUBLISHED: AtomicUsize = AtomicUsize::new(0);

/// A receiver in front of the real one, for the faults of hearing.
struct Ear {
    inner: Arc<dyn BusReceiver>,
    fault: Fault,
    number: usize,
    held: Mutex<Option<BusEvent>>,
}

impl BusReceiver for Ear {
    fn event(&self, event: BusEvent) {
        let BusEvent::Message { payload, .. } = &event else { return self.inner.event(event) };
        match self.fault {
            DoesNotHearItself if payload.starts_with(self.number.to_string().as_bytes()) => {}
            HearsAnotherOrder if self.number == 2 => {
                let held = self.held.lock().unwrap().replace(event);
                if let Some(held) = held {
                    let latest = self.held.lock().unwrap().take();
                    self.inner.event(latest.unwrap());
                    self.inner.event(held);
                }
            }
            DeliversTwice => {
                self.inner.event(event.clone());
                self.inner.event(event);
            }
            _ => self.inner.event(event),
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({:?})", self.fault)
    }
}

mod a_right_bus_in_bad_weather_passes {
    use super::{Fault, Weather, bus_conformance};

    bus_conformance!(Weather::with(Fault::Nothing));
}

/// Runs a clause against each of these faults, and expects that it fails.
macro_rules! caught {
    ($($name:ident: $clause:ident catches $($fault:expr),+;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                for fault in [$($fault),+] {
                    let proof = tokio::spawn(async move { suite::$clause(&mut Weather::with(fault)).await });
                    let outcome = proof.await;
                    assert!(outcome.is_err_and(|error| error.is_panic()), "{fault:?} got through");
                }
            }
        )*
    };
}

caught! {
    clause_1_catches_what_is_not_heard_by_all_in_one_order: one_order catches DoesNotHearItself, HearsAnotherOrder;
    clause_2_catches_what_comes_twice: at_most_once catches DeliversTwice;
    clause_3_catches_answers_that_come_too_early: confirmed catches SubscribesLater, KeepsWhatIsUnsubscribed;
    clause_4_catches_silence: down_is_not_silence catches GoesDownSilently, TakesWhileDown, ForgetsSubscriptions;
    clause_5_catches_a_second_try: unknown_is_not_down catches PublishesWhatItCalledDown, TriesAgain;
    clause_6_catches_a_loss_that_is_not_said: loss_is_said catches LosesSilently;
    clause_7_catches_a_bus_that_waits: nobody_waits catches WaitsForListeners;
    clause_8_catches_a_subscription_half_made: dropping_is_safe catches SubscribesThoughDropped;
    the_close_must_be_the_end: closed_is_silent catches TalksAfterTheClose;
}
