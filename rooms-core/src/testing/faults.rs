//! A bus with network faults, for one node.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    ops::Range,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    bus::{
        Appended, Bus, BusError, BusEvent, BusReceiver, Excerpt, History, IdempotencyKey, KeptState, NewState, Outcome,
        Position, ReadFrom, Retention, States, Topic,
    },
    lock::{Mutex, lock},
    reports::LinkReport,
};

/// What waits at most for a node that is frozen, or is on its way to one. 65,536: a test that makes more has gone astray.
const WAITING: usize = 65_536;

/// What happens to the messages of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkFaults {
    /// How many of a hundred are lost.
    pub lost: u32,
    /// How many of a hundred come twice.
    pub doubled: u32,
    /// How long they take. Where that is not the same for all, they overtake each other.
    pub delay: Range<Duration>,
}

impl NetworkFaults {
    /// Nothing happens to them.
    #[must_use]
    pub const fn calm() -> Self {
        Self { lost: 0, doubled: 0, delay: Duration::ZERO..Duration::ZERO }
    }
}

/// The faults of one node's bus: a handle to turn them on and off.
///
/// What is said of messages is true of those that this node is given; those that it publishes are met by the faults of
/// who is given them. A partition, a freeze and a kill work both ways.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Network>);

#[derive(Debug)]
struct Network {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    network_faults: NetworkFaults,
    random: u64,
    /// What is on its way to this node.
    underway: BinaryHeap<Reverse<Late>>,
    number: u64,
    /// What came to it, and what it said, while it was frozen.
    inbox: Vec<BusEvent>,
    outbox: Vec<(Topic, Bytes)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Up,
    Cut,
    Frozen,
    Dead,
}

#[derive(Debug)]
struct Late {
    at: Instant,
    number: u64,
    event: BusEvent,
}

impl Faults {
    /// No faults yet. The same seed makes the same choices.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            mode: Mode::Up,
            network_faults: NetworkFaults::calm(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            underway: BinaryHeap::new(),
            number: 0,
            inbox: Vec::new(),
            outbox: Vec::new(),
        };
        Self(Arc::new(Network { state: Mutex::new(state), news: Notify::new() }))
    }

    /// Sets what happens to messages from here on.
    pub fn network_faults(&self, network_faults: NetworkFaults) {
        lock(&self.0.state).network_faults = network_faults;
    }

    /// Cuts the node off, without a word of it to anybody: nothing gets in or out, and nothing is kept.
    pub fn cut(&self) {
        self.change(Mode::Cut);
    }

    /// Ends a cut, or a freeze: what came and went meanwhile of a frozen node comes and goes now.
    pub fn mend(&self) {
        self.change(Mode::Up);
        self.0.news.notify_one();
    }

    /// Stops the node, as far as the others can tell: what comes and goes is kept until [`mend`](Self::mend). Its timers
    /// go on, for it shares them with the test.
    pub fn freeze(&self) {
        self.change(Mode::Frozen);
    }

    /// Ends the node, without a good-bye and for good.
    pub fn kill(&self) {
        self.change(Mode::Dead);
    }

    fn change(&self, mode: Mode) {
        let mut state = lock(&self.0.state);
        if state.mode != Mode::Dead {
            state.mode = mode;
        }
    }
}

impl State {
    /// True for so many of a hundred.
    fn happens(&mut self, of_a_hundred: u32) -> bool {
        of_a_hundred > 0 && self.below(100) < u64::from(of_a_hundred)
    }

    /// Knuth's MMIX generator.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound.max(1)
    }

    fn delay(&mut self) -> Duration {
        let Range { start, end } = self.network_faults.delay.clone();
        let spread = u64::try_from(end.saturating_sub(start).as_micros()).unwrap_or(u64::MAX);
        start + Duration::from_micros(self.below(spread))
    }

    fn send(&mut self, event: BusEvent, after: Duration) {
        if self.underway.len() < WAITING {
            self.number += 1;
            self.underway.push(Reverse(Late { at: Instant::now() + after, number: self.number, event }));
        }
    }
}

/// A bus whose messages meet the [`Faults`] of its node.
///
/// It keeps the contract of a bus only while there are none.
#[derive(Debug)]
pub struct FaultyBus<B> {
    bus: Arc<B>,
    faults: Faults,
}

impl<B: Bus> FaultyBus<B> {
    /// Wraps a bus.
    pub fn new(bus: B, faults: Faults) -> Self {
        Self { bus: Arc::new(bus), faults }
    }
}

#[async_trait]
impl<B: Bus> Bus for FaultyBus<B> {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        let network = Arc::clone(&self.faults.0);
        tokio::spawn(carry(Arc::downgrade(&network), Arc::clone(&receiver), Arc::downgrade(&self.bus)));
        self.bus.attach(Arc::new(Filter { network, receiver }));
    }

    fn subscribe(&self, topics: &[Topic]) {
        self.bus.subscribe(topics);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.bus.unsubscribe(topics);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        {
            let mut state = lock(&self.faults.0.state);
            match state.mode {
                Mode::Up => {}
                Mode::Frozen if state.outbox.len() < WAITING => {
                    state.outbox.push((topic.clone(), payload));
                    return Ok(());
                }
                Mode::Cut | Mode::Frozen | Mode::Dead => return Ok(()),
            }
        }
        self.bus.publish(topic, payload).await
    }

    fn history(&self) -> Option<&dyn History> {
        self.bus.history().map(|_| self as &dyn History)
    }

    fn states(&self) -> Option<&dyn States> {
        self.bus.states().map(|_| self as &dyn States)
    }

    fn links(&self) -> Vec<LinkReport> {
        self.bus.links()
    }

    async fn close(&self) {
        self.bus.close().await;
    }
}

/// The history is behind the backplane: a node that is cut off, or frozen, can't reach it, and gets no answer.
#[async_trait]
impl<B: Bus> History for FaultyBus<B> {
    async fn append(&self, topic: &Topic, payload: Bytes, retention: Retention) -> Result<Position, BusError> {
        self.history_beyond()?.append(topic, payload, retention).await
    }

    async fn append_once(
        &self,
        topic: &Topic,
        payload: Bytes,
        retention: Retention,
        key: &IdempotencyKey,
    ) -> Result<Appended, BusError> {
        self.history_beyond()?.append_once(topic, payload, retention, key).await
    }

    async fn read(&self, topic: &Topic, from: ReadFrom, retention: Retention) -> Result<Excerpt, BusError> {
        self.history_beyond()?.read(topic, from, retention).await
    }
}

/// The states as well.
#[async_trait]
impl<B: Bus> States for FaultyBus<B> {
    async fn set_state(&self, topic: &Topic, new: NewState) -> Result<Outcome, BusError> {
        self.states_beyond()?.set_state(topic, new).await
    }

    async fn state(&self, topic: &Topic, keep: Duration) -> Result<Option<KeptState>, BusError> {
        self.states_beyond()?.state(topic, keep).await
    }
}

impl<B: Bus> FaultyBus<B> {
    fn states_beyond(&self) -> Result<&dyn States, BusError> {
        let up = lock(&self.faults.0.state).mode == Mode::Up;
        self.bus.states().filter(|_| up).ok_or_else(|| BusError::Unknown("the node is cut off".into()))
    }

    fn history_beyond(&self) -> Result<&dyn History, BusError> {
        let up = lock(&self.faults.0.state).mode == Mode::Up;
        self.bus.history().filter(|_| up).ok_or_else(|| BusError::Unknown("the node is cut off".into()))
    }
}

struct Filter {
    network: Arc<Network>,
    receiver: Arc<dyn BusReceiver>,
}

impl BusReceiver for Filter {
    fn event(&self, event: BusEvent) {
        // What the node's own subscriptions come to is no message that could be lost.
        if !matches!(event, BusEvent::Subscribed { .. } | BusEvent::Refused { .. }) {
            let mut state = lock(&self.network.state);
            match state.mode {
                Mode::Up => {}
                Mode::Frozen if state.inbox.len() < WAITING => {
                    state.inbox.push(event);
                    return;
                }
                Mode::Cut | Mode::Frozen | Mode::Dead => return,
            }
            if state.network_faults != NetworkFaults::calm() {
                let (lost, doubled) = (state.network_faults.lost, state.network_faults.doubled);
                if state.happens(lost) {
                    return;
                }
                let times = 1 + usize::from(state.happens(doubled));
                for _ in 0..times {
                    let after = state.delay();
                    state.send(event.clone(), after);
                }
                self.network.news.notify_one();
                return;
            }
        }
        self.receiver.event(event);
    }
}

/// Brings what is late, and what waited for a thaw.
async fn carry<B: Bus>(network: Weak<Network>, receiver: Arc<dyn BusReceiver>, bus: Weak<B>) {
    loop {
        let (due, said, next) = {
            let Some(network) = network.upgrade() else { return };
            let mut state = lock(&network.state);
            let up = state.mode == Mode::Up;
            let mut due = if up { std::mem::take(&mut state.inbox) } else { Vec::new() };
            let said = if up { std::mem::take(&mut state.outbox) } else { Vec::new() };
            while state.underway.peek().is_some_and(|Reverse(late)| late.at <= Instant::now()) {
                let late = state.underway.pop().map(|Reverse(late)| late.event);
                match state.mode {
                    Mode::Up => due.extend(late),
                    Mode::Frozen => state.inbox.extend(late),
                    Mode::Cut | Mode::Dead => {}
                }
            }
            (due, said, state.underway.peek().map(|Reverse(late)| late.at))
        };
        for event in due {
            receiver.event(event);
        }
        for (topic, payload) in said {
            let Some(bus) = bus.upgrade() else { return };
            _ = bus.publish(&topic, payload).await;
        }
        // Looked at from time to time, so that this ends with its bus.
        let wake = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
        let Some(network) = network.upgrade() else { return };
        if bus.strong_count() == 0 {
            return;
        }
        tokio::select! {
            () = sleep_until(wake) => {}
            () = network.news.notified() => {}
        }
    }
}

impl Ord for Late {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Late {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Late {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Late {}
