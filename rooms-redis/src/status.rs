//! What the receiver is told: one lock through which every event goes, so that none comes from a connection that is
//! given up, and none after the end.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use rooms_core::bus::{BusEvent, BusReceiver, Lost, Topic};
use tokio::sync::{Notify, watch};

use crate::{fault::Fault, lock::lock};

/// Both connections' state, and what was said of it.
pub(crate) struct Status {
    state: Mutex<State>,
    /// For whoever waits for the first success or the first failure.
    progress: watch::Sender<Progress>,
    /// Something changed that only a probe can settle.
    pub(crate) probe_now: Notify,
}

#[derive(Clone, Default)]
pub(crate) struct Progress {
    pub(crate) up: bool,
    pub(crate) fault: Option<Arc<Fault>>,
}

struct State {
    receiver: Option<Arc<dyn BusReceiver>>,
    /// The number of the subscribing connection whose messages count.
    generation: u64,
    /// Every wanted subscription is confirmed.
    listening: bool,
    publishing: bool,
    up: bool,
    /// Whether something may have been lost since `Up` was said.
    lost: Lost,
    closed: bool,
    round_trip: Option<Duration>,
    last_fault: Option<String>,
}

impl Status {
    pub(crate) fn new() -> Self {
        let state = State {
            receiver: None,
            generation: 1,
            listening: false,
            publishing: false,
            up: false,
            lost: Lost::Nothing,
            closed: false,
            round_trip: None,
            last_fault: None,
        };
        Self { state: Mutex::new(state), progress: watch::Sender::default(), probe_now: Notify::new() }
    }

    /// Takes the receiver; `false` if there is one already.
    pub(crate) fn attach(&self, receiver: Arc<dyn BusReceiver>) -> bool {
        let mut state = lock(&self.state);
        if state.receiver.is_some() || state.closed {
            return false;
        }
        state.receiver = Some(receiver);
        if !state.up {
            state.say(BusEvent::Down);
        }
        true
    }

    /// Hands over a message, unless the connection it came from is given up.
    ///
    /// This runs in the task that reads from Redis. It holds up nobody: a receiver's call never blocks, by its contract,
    /// and nothing else is done under this lock than such calls.
    pub(crate) fn message(&self, generation: u64, topic: Topic, payload: Bytes) {
        let state = lock(&self.state);
        if state.generation == generation {
            state.say(BusEvent::Message { topic, payload });
        }
    }

    pub(crate) fn gap(&self, topic: Topic) {
        lock(&self.state).say(BusEvent::Gap { topic });
    }

    /// The subscribing connection has every wanted subscription confirmed.
    pub(crate) fn listening(&self, generation: u64) {
        let mut state = lock(&self.state);
        if state.generation == generation && !state.listening {
            state.listening = true;
            self.probe_now.notify_one();
        }
    }

    pub(crate) fn publishing(&self) {
        lock(&self.state).publishing = true;
        self.probe_now.notify_one();
    }

    /// A probe has made its way through both connections. Only now are they up: with it everything has arrived that was
    /// published before it, so where the subscribing connection was there all the time, nothing is lost.
    pub(crate) fn proven(&self, generation: u64, round_trip: Duration) {
        let mut state = lock(&self.state);
        if state.generation != generation {
            return;
        }
        state.round_trip = Some(round_trip);
        if state.up || !state.listening || !state.publishing || state.closed {
            return;
        }
        state.up = true;
        let lost = std::mem::replace(&mut state.lost, Lost::Nothing);
        tracing::info!(generation, ?round_trip, "the bus is up");
        state.say(BusEvent::Up { lost });
        self.progress.send_replace(Progress { up: true, fault: None });
    }

    /// The subscribing connection is given up: nothing more comes from it. Gives the number of the next one.
    pub(crate) fn subscriber_lost(&self, fault: Fault, lost: Lost) -> u64 {
        let mut state = lock(&self.state);
        state.generation += 1;
        state.listening = false;
        if lost == Lost::Perhaps {
            state.lost = lost;
        }
        self.fail("subscribing", &mut state, fault);
        state.generation
    }

    /// The publishing connection is given up.
    pub(crate) fn publisher_lost(&self, fault: Fault) {
        let mut state = lock(&self.state);
        state.publishing = false;
        self.fail("publishing", &mut state, fault);
    }

    /// Both connections are there, and yet nothing can be published.
    pub(crate) fn unproven(&self, fault: Fault) {
        self.fail("probing", &mut lock(&self.state), fault);
    }

    fn fail(&self, connection: &str, state: &mut State, fault: Fault) {
        let line = format!("{connection}: {}", fault.line());
        // An outage says the same again and again: once is enough for the log.
        if state.last_fault.as_ref() != Some(&line) || state.up {
            tracing::warn!(connection, fault = fault.line(), "the bus is down");
        }
        state.last_fault = Some(line);
        if std::mem::replace(&mut state.up, false) {
            state.say(BusEvent::Down);
        }
        self.progress.send_replace(Progress { up: false, fault: Some(Arc::new(fault)) });
    }

    /// After this has returned, no event is said.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.up = false;
        state.receiver = None;
    }

    pub(crate) fn is_up(&self) -> bool {
        lock(&self.state).up
    }

    pub(crate) fn generation(&self) -> u64 {
        lock(&self.state).generation
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        lock(&self.state).round_trip
    }

    pub(crate) fn last_fault(&self) -> Option<String> {
        lock(&self.state).last_fault.clone()
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}

impl State {
    fn say(&self, event: BusEvent) {
        let Some(receiver) = &self.receiver else { return };
        // A panic in it must not take down the task that reads, and with it every other room.
        if catch_unwind(AssertUnwindSafe(|| receiver.event(event))).is_err() {
            tracing::error!("the receiver of the bus panicked, and an event is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Said(Mutex<Vec<String>>);

    impl BusReceiver for Said {
        fn event(&self, event: BusEvent) {
            let text = match event {
                BusEvent::Message { payload, .. } if payload.is_empty() => panic!("an empty message"),
                BusEvent::Message { payload, .. } => String::from_utf8_lossy(&payload).into_owned(),
                other => format!("{other:?}"),
            };
            lock(&self.0).push(text);
        }
    }

    fn attached() -> (Status, Arc<Said>) {
        let (status, said) = (Status::new(), Arc::new(Said::default()));
        assert!(status.attach(Arc::clone(&said) as Arc<dyn BusReceiver>));
        (status, said)
    }

    fn up(status: &Status, generation: u64) {
        status.listening(generation);
        status.publishing();
        status.proven(generation, Duration::ZERO);
    }

    #[test]
    fn what_an_old_connection_says_is_not_heard() {
        let (status, said) = attached();
        let old = status.generation();
        up(&status, old);
        status.message(old, Topic::Nodes, "1".into());
        let new = status.subscriber_lost(Fault::Closed, Lost::Perhaps);
        status.message(old, Topic::Nodes, "too late".into());
        up(&status, old);
        status.message(new, Topic::Nodes, "2".into());
        up(&status, new);
        let expected = ["Down", "Up { lost: Nothing }", "1", "Down", "2", "Up { lost: Perhaps }"];
        assert_eq!(*lock(&said.0), expected);
    }

    #[test]
    fn nothing_is_up_before_both_connections_are_and_a_probe_has_proved_it() {
        let (status, said) = attached();
        let generation = status.generation();
        status.proven(generation, Duration::ZERO);
        status.listening(generation);
        status.proven(generation, Duration::ZERO);
        status.publishing();
        assert!(!status.is_up());
        status.proven(generation, Duration::ZERO);
        assert!(status.is_up());
        status.publisher_lost(Fault::Closed);
        status.publishing();
        status.proven(generation, Duration::ZERO);
        assert_eq!(*lock(&said.0), ["Down", "Up { lost: Nothing }", "Down", "Up { lost: Nothing }"]);
    }

    #[test]
    fn a_loss_is_not_forgotten_by_a_second_one_that_costs_nothing() {
        let (status, said) = attached();
        up(&status, status.generation());
        status.subscriber_lost(Fault::Closed, Lost::Perhaps);
        let last = status.subscriber_lost(Fault::Deaf, Lost::Nothing);
        up(&status, last);
        assert_eq!(lock(&said.0).last().map(String::as_str), Some("Up { lost: Perhaps }"));
    }

    #[test]
    fn a_receiver_that_panics_spoils_one_event_and_after_the_close_none_is_said() {
        let (status, said) = attached();
        let generation = status.generation();
        status.message(generation, Topic::Nodes, Bytes::new());
        status.message(generation, Topic::Nodes, "1".into());
        status.close();
        status.message(generation, Topic::Nodes, "2".into());
        up(&status, generation);
        assert!(!status.attach(Arc::clone(&said) as Arc<dyn BusReceiver>));
        assert_eq!(*lock(&said.0), ["Down", "1"]);
    }
}
