//! The suite for buses catches buses that break one clause each. Time is paused, so nothing waits for what never comes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

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
    bus::{
        Appended, BusError, BusEvent, BusReceiver, Excerpt, History, IdempotencyKey, KeptState, Lost, NewState,
        Outcome, Position, ReadFrom, Retention, States, Topic,
    },
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
struct Breakable {
    peers: Vec<Peer>,
    common: Arc<Common>,
}

/// What the peers share.
#[derive(Default)]
struct Common {
    away: AtomicBool,
    was_away: AtomicBool,
    receivers: Mutex<Vec<Arc<dyn BusReceiver>>>,
    kept: Mutex<Vec<(Topic, Bytes)>>,
    appended: Mutex<Vec<(Topic, Bytes)>>,
    first_state: Mutex<Option<KeptState>>,
    /// The first message with each key.
    keys: Mutex<HashMap<(Option<Topic>, String), Position>>,
}

struct Peer {
    inner: Arc<LocalBus>,
    common: Arc<Common>,
    fault: Fault,
    number: usize,
    receiver: OnceLock<Arc<Ear>>,
    wanted: Mutex<HashSet<Topic>>,
}

impl Breakable {
    fn with(fault: Fault) -> Self {
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

    fn say(&self, event: &BusEvent) {
        for receiver in &*self.common.receivers.lock().unwrap() {
            receiver.event(event.clone());
        }
    }
}

impl Peer {
    fn say(&self, event: BusEvent) {
        if let Some(ear) = self.receiver.get() {
            ear.inner.event(event);
        }
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

#[async_trait]
impl History for Peer {
    async fn append(&self, topic: &Topic, payload: Bytes, retention: Retention) -> Result<Position, BusError> {
        let retention = self.believed(retention);
        if self.common.away.load(Ordering::Relaxed) {
            match self.fault {
                AppendsWhatItCalledDown => self.common.appended.lock().unwrap().push((topic.clone(), payload)),
                LosesAppends => {
                    let head = self.inner.read(topic, ReadFrom::Newest(0), retention).await?.head;
                    return Ok(Position::new(head.epoch(), head.offset()));
                }
                _ => {}
            }
            return Err(BusError::Down);
        }
        if self.fault == PublishesWithoutAPosition {
            // What is heard of the rest is left out by the ear.
            self.inner.publish(topic, payload.clone()).await?;
        }
        let position = self.inner.append(topic, payload, retention).await?;
        let offset = position.offset() + u64::from(self.fault == AnswersAnotherPosition);
        Ok(self.told(Position::new(position.epoch(), offset)))
    }

    async fn append_once(
        &self,
        topic: &Topic,
        payload: Bytes,
        retention: Retention,
        key: &IdempotencyKey,
    ) -> Result<Appended, BusError> {
        let of = match self.fault {
            HasKeysOfAllTopics => Some(None),
            KeepsKeysForEver => Some(Some(topic.clone())),
            _ => None,
        };
        let of = of.map(|topic| (topic, key.to_string()));
        if let Some(before) = of.as_ref().and_then(|of| self.common.keys.lock().unwrap().get(of).copied()) {
            return Ok(Appended::Before(before));
        }
        if self.fault == IgnoresKeys {
            return self.append(topic, payload, retention).await.map(Appended::Now);
        }
        let appended = self.inner.append_once(topic, payload.clone(), retention, key).await?;
        if let Some(of) = of {
            self.common.keys.lock().unwrap().insert(of, appended.position());
        }
        Ok(match (self.fault, appended) {
            (PublishesRepetitions, Appended::Before(position)) => {
                self.say(BusEvent::message_at(topic.clone(), payload, position));
                appended
            }
            (HidesRepetitions, appended) => Appended::Now(appended.position()),
            (AnswersRepetitionsWithTheHead, Appended::Before(_)) => {
                Appended::Before(self.inner.read(topic, ReadFrom::Newest(0), retention).await?.head)
            }
            (_, appended) => appended,
        })
    }

    async fn read(&self, topic: &Topic, from: ReadFrom, retention: Retention) -> Result<Excerpt, BusError> {
        if self.common.away.load(Ordering::Relaxed) {
            return Err(BusError::Down);
        }
        let retention = self.believed(retention);
        let head = self.inner.read(topic, ReadFrom::Newest(0), retention).await?.head;
        let from = match (self.fault, from) {
            (TakesForeignPositions, ReadFrom::After(foreign)) => {
                ReadFrom::After(Position::new(head.epoch(), foreign.offset().min(head.offset())))
            }
            (GoesOnInTheSameEpoch, ReadFrom::After(told)) => {
                ReadFrom::After(Position::new(head.epoch(), told.offset()))
            }
            (_, from) => from,
        };
        let Excerpt { head, mut messages, mut ages, .. } = self.inner.read(topic, from, retention).await?;
        match self.fault {
            ReadsWithAHole if messages.len() > 2 => _ = messages.remove(1),
            ReadsBehind => _ = messages.pop(),
            TellsNoAges => ages.clear(),
            _ => {}
        }
        Ok(Excerpt::new(self.told(head), messages).with_ages(ages))
    }
}

#[async_trait]
impl States for Peer {
    async fn set_state(&self, topic: &Topic, mut new: NewState) -> Result<Outcome, BusError> {
        let current = self.inner.state(topic, new.keep).await?.map(|kept| kept.revision);
        match self.fault {
            LetsEverybodyWin => new.after = current,
            SetsAsAMessage => self.inner.publish(topic, new.state.clone()).await?,
            LeavesOutTheChange => new.patch = None,
            SetsInTheSameEpoch => {
                // As it told them.
                new.after = new.after.zip(current).map(|(told, is)| Position::new(is.epoch(), told.offset()));
            }
            _ => {}
        }
        Ok(match (self.fault, self.inner.set_state(topic, new).await?) {
            (SetsInTheSameEpoch, Outcome::Set(is)) => Outcome::Set(Position::new(1, is.offset())),
            (TellsNobodyWhatThereIs, Outcome::Conflict(_)) => Outcome::Conflict(None),
            (_, outcome) => outcome,
        })
    }

    async fn state(&self, topic: &Topic, keep: Duration) -> Result<Option<KeptState>, BusError> {
        let kept = self.inner.state(topic, keep).await?;
        if self.fault != KeepsTheFirst {
            return Ok(kept);
        }
        let mut first = self.common.first_state.lock().unwrap();
        *first = first.take().or(kept);
        Ok(first.clone())
    }
}

impl Peer {
    /// The retention that a bus keeps to that overlooks one of its bounds.
    fn believed(&self, retention: Retention) -> Retention {
        let all = Retention::messages(Retention::MAX_MESSAGES).age(Retention::MAX_AGE).bytes(Retention::MAX_BYTES);
        match self.fault {
            IgnoresTheNumber => all.age(retention.max_age()).bytes(retention.max_bytes()),
            IgnoresTheBytes => Retention::messages(retention.max_messages()).age(retention.max_age()),
            IgnoresTheAge => Retention::messages(retention.max_messages()).bytes(retention.max_bytes()),
            _ => retention,
        }
    }

    fn told(&self, position: Position) -> Position {
        if self.fault == GoesOnInTheSameEpoch { Position::new(1, position.offset()) } else { position }
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
        if self.fault == SetsSilently && matches!(event, BusEvent::State { .. }) {
            return;
        }
        let BusEvent::Message { payload, position, .. } = &event else { return self.inner.event(event) };
        match self.fault {
            AppendsSilently | PublishesWithoutAPosition if position.is_some() => {}
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

mod a_right_bus_with_outages_passes {
    use super::{Breakable, Fault, bus_conformance};

    bus_conformance!(Breakable::with(Fault::Nothing));
}

/// Runs a clause against each of these faults, and expects that it fails.
macro_rules! caught {
    ($($name:ident: $clause:ident catches $($fault:expr),+;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                for fault in [$($fault),+] {
                    let proof = tokio::spawn(async move { suite::$clause(&mut Breakable::with(fault)).await });
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
    clause_3_catches_answers_that_come_too_early_or_never: confirmed
        catches AnswersTooEarly, AnswersOnlyOnce, KeepsWhatIsUnsubscribed;
    clause_3_catches_what_does_not_end_as_the_last_call_says: the_last_call_counts
        catches EndsAsWantedFirst, AnswersAfterTheEnd;
    clause_3_catches_a_topic_that_holds_up_others: no_topic_holds_up_another catches HoldsUpOthers;
    clause_4_catches_silence: down_is_not_silence
        catches GoesDownSilently, TakesWhileDown, ForgetsSubscriptions, SubscribesAgainSilently;
    clause_5_catches_a_second_try: unknown_is_not_down catches PublishesWhatItCalledDown, TriesAgain;
    clause_6_catches_a_loss_that_is_not_said: loss_is_said catches LosesSilently;
    clause_7_catches_a_bus_that_waits: nobody_waits catches WaitsForListeners;
    clause_8_catches_a_publication_that_is_dropped_and_comes_twice: dropping_is_safe catches PublishesTwiceAfterADrop;
    clause_9_catches_what_is_not_heard_as_it_was_appended: appending_publishes
        catches AppendsSilently, PublishesWithoutAPosition, AnswersAnotherPosition, KeepsWhatIsPublished;
    clause_10_catches_reads_with_holes: reads_have_no_holes catches ReadsWithAHole, ReadsBehind, TakesForeignPositions;
    clause_11_catches_logs_that_are_not_trimmed: logs_are_trimmed
        catches IgnoresTheNumber, IgnoresTheBytes, IgnoresTheAge, TellsNoAges;
    clause_12_catches_an_epoch_of_two_logs: another_log_is_another_epoch catches GoesOnInTheSameEpoch;
    clause_13_catches_keys_that_do_not_count_once: a_key_counts_once
        catches IgnoresKeys, PublishesRepetitions, HidesRepetitions, AnswersRepetitionsWithTheHead, HasKeysOfAllTopics,
        KeepsKeysForEver;
    clause_14_catches_what_is_not_heard_as_it_was_set: setting_publishes
        catches SetsSilently, SetsAsAMessage, LeavesOutTheChange;
    clause_15_and_16_catch_writers_that_overwrite_each_other_and_old_reads: one_writer_wins
        catches LetsEverybodyWin, KeepsTheFirst, TellsNobodyWhatThereIs;
    clause_17_catches_an_epoch_of_two_states: a_lost_state_is_another_epoch catches SetsInTheSameEpoch;
    an_outage_catches_what_is_missing_or_did_not_happen: an_outage_leaves_no_holes
        catches AppendsWhatItCalledDown, LosesAppends;
    the_close_must_be_the_end: closed_is_silent catches TalksAfterTheClose;
}
