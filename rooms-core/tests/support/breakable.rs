//! Three buses in one process that break a clause of the contract each.

#[path = "breakable/ear.rs"]
mod ear;
#[path = "breakable/history.rs"]
mod history;
#[path = "breakable/states.rs"]
mod states;

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use rooms_core::{
    Bus, LocalBus,
    bus::{BusError, BusEvent, BusReceiver, History, KeptState, Lost, Position, Retention, States, Topic},
    testing::bus_conformance::{Backplane, Cut},
};

use self::ear::Ear;

/// What a bus does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    DoesNotHearItself,
    HearsAnotherOrder,
    DeliversTwice,
    AnswersTooEarly,
    KeepsWhatIsUnsubscribed,
    AnswersOnlyOnce,
    EndsAsWantedFirst,
    AnswersAfterTheEnd,
    HoldsUpOthers,
    GoesDownSilently,
    TakesWhileDown,
    ForgetsSubscriptions,
    SubscribesAgainSilently,
    PublishesWhatItCalledDown,
    TriesAgain,
    LosesSilently,
    WaitsForListeners,
    PublishesTwiceAfterADrop,
    TalksAfterTheClose,
    AppendsSilently,
    PublishesWithoutAPosition,
    AnswersAnotherPosition,
    KeepsWhatIsPublished,
    ReadsWithAHole,
    ReadsBehind,
    TakesForeignPositions,
    IgnoresTheNumber,
    IgnoresTheBytes,
    TellsNoAges,
    IgnoresTheAge,
    GoesOnInTheSameEpoch,
    AppendsWhatItCalledDown,
    LosesAppends,
    SetsSilently,
    SetsAsAMessage,
    LeavesOutTheChange,
    LetsEverybodyWin,
    KeepsTheFirst,
    TellsNobodyWhatThereIs,
    SetsInTheSameEpoch,
    IgnoresKeys,
    PublishesRepetitions,
    HidesRepetitions,
    AnswersRepetitionsWithTheHead,
    HasKeysOfAllTopics,
    KeepsKeysForEver,
}

use Fault::*;

/// Three buses in one process whose backplane can be away.
pub(crate) struct Breakable {
    pub(crate) peers: Vec<Peer>,
    pub(crate) common: Arc<Common>,
}

/// What the peers share.
#[derive(Default)]
pub(crate) struct Common {
    pub(crate) away: AtomicBool,
    pub(crate) was_away: AtomicBool,
    pub(crate) receivers: Mutex<Vec<Arc<dyn BusReceiver>>>,
    pub(crate) kept: Mutex<Vec<(Topic, Bytes)>>,
    pub(crate) appended: Mutex<Vec<(Topic, Bytes)>>,
    pub(crate) first_state: Mutex<Option<KeptState>>,
    /// The first message with each key.
    pub(crate) keys: Mutex<HashMap<(Option<Topic>, String), Position>>,
}

pub(crate) struct Peer {
    pub(crate) inner: Arc<LocalBus>,
    pub(crate) common: Arc<Common>,
    pub(crate) fault: Fault,
    pub(crate) number: usize,
    pub(crate) receiver: OnceLock<Arc<Ear>>,
    pub(crate) wanted: Mutex<HashSet<Topic>>,
}

impl Breakable {
    pub(crate) fn with(fault: Fault) -> Self {
        let (common, first) = (Arc::new(Common::default()), LocalBus::new());
        let peer = |number| Peer {
            inner: Arc::new(first.peer()),
            common: Arc::clone(&common),
            fault,
            number,
            receiver: OnceLock::new(),
            wanted: Mutex::default(),
        };
        Self { peers: (0..3).map(peer).collect(), common }
    }

    pub(crate) fn say(&self, event: &BusEvent) {
        for receiver in &*self.common.receivers.lock().unwrap() {
            receiver.event(event.clone());
        }
    }
}

impl Peer {
    pub(crate) fn say(&self, event: BusEvent) {
        if let Some(ear) = self.receiver.get() {
            ear.inner.event(event);
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({:?})", self.fault)
    }
}

/// The topic that is refused.
fn stubborn() -> Topic {
    Topic::Room("stubborn:1".parse().unwrap())
}

impl Backplane for Breakable {
    type Bus = Peer;

    fn peers(&self) -> &[Peer] {
        &self.peers
    }

    async fn cut(&mut self) -> Cut {
        self.common.away.store(true, Ordering::Relaxed);
        self.common.was_away.store(true, Ordering::Relaxed);
        if self.peers[0].fault != GoesDownSilently {
            self.say(&BusEvent::Down);
        }
        if self.peers[0].fault == ForgetsSubscriptions {
            self.peers[2].inner.close().await;
        }
        Cut::Done
    }

    fn stubborn(&self) -> Option<Topic> {
        Some(stubborn())
    }

    async fn mend(&mut self) {
        self.common.away.store(false, Ordering::Relaxed);
        for peer in self.peers.iter().filter(|peer| peer.fault != SubscribesAgainSilently) {
            let wanted: Vec<Topic> = peer.wanted.lock().unwrap().iter().cloned().collect();
            peer.say(BusEvent::subscribed(wanted));
        }
        self.say(&BusEvent::up(Lost::Nothing));
        let kept = std::mem::take(&mut *self.common.kept.lock().unwrap());
        for (topic, payload) in kept {
            self.peers[0].inner.publish(&topic, payload).await.unwrap();
        }
        let appended = std::mem::take(&mut *self.common.appended.lock().unwrap());
        for (topic, payload) in appended {
            self.peers[0].inner.append(&topic, payload, Retention::messages(10_000)).await.unwrap();
        }
    }

    async fn forget(&mut self) -> Cut {
        self.peers[0].inner.forget_histories();
        Cut::Done
    }
}

static PUBLISHED: AtomicUsize = AtomicUsize::new(0);

#[async_trait]
impl Bus for Peer {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.common.receivers.lock().unwrap().push(Arc::clone(&receiver));
        let ear = Ear { inner: receiver, fault: self.fault, number: self.number, held: Mutex::default() };
        let ear = self.receiver.get_or_init(|| Arc::new(ear));
        self.inner.attach(Arc::clone(ear) as Arc<dyn BusReceiver>);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        if self.common.away.load(Ordering::Relaxed) {
            match self.fault {
                TakesWhileDown | LosesSilently => return Ok(()),
                PublishesWhatItCalledDown => self.common.kept.lock().unwrap().push((topic.clone(), payload)),
                TriesAgain => {
                    let mut kept = self.common.kept.lock().unwrap();
                    kept.extend([(topic.clone(), payload.clone()), (topic.clone(), payload)]);
                    return Err(BusError::Unknown("no answer".into()));
                }
                _ => {}
            }
            return Err(BusError::Down);
        }
        if self.fault == KeepsWhatIsPublished {
            return self.inner.append(topic, payload, Retention::messages(10_000)).await.map(drop);
        }
        if self.fault == WaitsForListeners && self.number == 0 && self.receiver.get().is_none() {
            pending::<()>().await;
        }
        if self.fault == PublishesTwiceAfterADrop {
            let inner = Arc::clone(&self.inner);
            let mut again = Again { inner: Arc::clone(&inner), topic: topic.clone(), payload, answered: false };
            let (topic, payload) = (again.topic.clone(), again.payload.clone());
            let published = tokio::spawn(async move { inner.publish(&topic, payload).await }).await;
            again.answered = true;
            return published.unwrap();
        }
        let count = PUBLISHED.fetch_add(1, Ordering::Relaxed);
        if self.fault == WaitsForListeners && count > 1_000 {
            // A queue of a thousand, and its consumer does not come.
            pending::<()>().await;
        }
        self.inner.publish(topic, payload).await
    }

    fn subscribe(&self, topics: &[Topic]) {
        let (refused, topics): (Vec<_>, Vec<_>) = topics.iter().cloned().partition(|topic| *topic == stubborn());
        if !refused.is_empty() {
            self.say(BusEvent::refused(stubborn(), BusError::Refused("not this".into())));
        }
        let news: Vec<Topic> = {
            let mut wanted = self.wanted.lock().unwrap();
            topics.iter().filter(|topic| wanted.insert((*topic).clone())).cloned().collect()
        };
        let inner = Arc::clone(&self.inner);
        match self.fault {
            HoldsUpOthers if !refused.is_empty() => {}
            AnswersOnlyOnce => inner.subscribe(&news),
            AnswersTooEarly => {
                self.say(BusEvent::subscribed(topics.clone()));
                later(Duration::from_millis(50), move || inner.subscribe(&topics));
            }
            EndsAsWantedFirst => later(Duration::from_millis(2), move || inner.subscribe(&topics)),
            _ => inner.subscribe(&topics),
        }
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        topics.iter().for_each(|topic| _ = self.wanted.lock().unwrap().remove(topic));
        match self.fault {
            KeepsWhatIsUnsubscribed => {}
            AnswersAfterTheEnd => {
                self.inner.unsubscribe(topics);
                let (ear, topics) = (self.receiver.get().cloned(), topics.to_vec());
                later(Duration::from_millis(2), move || ear.unwrap().inner.event(BusEvent::subscribed(topics)));
            }
            _ => self.inner.unsubscribe(topics),
        }
    }

    fn history(&self) -> Option<&dyn History> {
        Some(self)
    }

    fn states(&self) -> Option<&dyn States> {
        Some(self)
    }

    async fn close(&self) {
        if self.fault != TalksAfterTheClose {
            self.inner.close().await;
        }
    }
}

/// Does something in a while.
fn later(after: Duration, what: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        what();
    });
}

/// Publishes in a task of its own, and once more where nobody waits for that.
struct Again {
    inner: Arc<LocalBus>,
    topic: Topic,
    payload: Bytes,
    answered: bool,
}

impl Drop for Again {
    fn drop(&mut self) {
        if !self.answered {
            _ = self.inner.publish(&self.topic, self.payload.clone()).now_or_never();
        }
    }
}
