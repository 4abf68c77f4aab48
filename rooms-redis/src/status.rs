//! What the receiver is told: one lock through which every event goes, so that none comes from a connection that is
//! given up, and none after the end.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use rooms_core::{
    bus::{BusError, BusEvent, BusReceiver, KeptState, Lost, Position, StatePatch, Topic},
    reports::LinkReport,
};
use tokio::sync::watch;

use crate::{fault::Fault, lock::lock, log_gate::LogGate, routes::LinkId};

/// The state of every connection, and what was said of it.
pub(crate) struct Status {
    state: Mutex<State>,
    /// For whoever waits for the first success or the first failure.
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Default)]
pub(crate) struct Progress {
    pub(crate) up: bool,
    pub(crate) fault: Option<Arc<Fault>>,
}

struct State {
    receiver: Option<Arc<dyn BusReceiver>>,
    links: HashMap<LinkId, LinkState>,
    /// Every channel has a link.
    complete: bool,
    /// The number of the newest subscribing connection.
    generation: u64,
    up: bool,
    /// Whether something may have been lost since `Up` was said.
    lost: Lost,
    closed: bool,
    round_trip: Option<Duration>,
    last_fault: Option<String>,
    panics: LogGate,
}

#[derive(Default)]
struct LinkState {
    /// The number of the subscribing connection whose messages count.
    generation: u64,
    /// Every wanted subscription is confirmed.
    listening: bool,
    publishing: bool,
    /// A message has made its way through both connections since both are there.
    proven: bool,
    round_trip: Option<Duration>,
    losses: u64,
    last_fault: Option<String>,
}

impl Status {
    pub(crate) fn new() -> Self {
        let state = State {
            receiver: None,
            links: HashMap::new(),
            complete: false,
            generation: 0,
            up: false,
            lost: Lost::Nothing,
            closed: false,
            round_trip: None,
            last_fault: None,
            panics: LogGate::default(),
        };
        Self { state: Mutex::new(state), progress: watch::Sender::default() }
    }

    /// Takes the receiver; `false` if there is one already.
    pub(crate) fn attach(&self, receiver: Arc<dyn BusReceiver>) -> bool {
        let mut state = lock(&self.state);
        if state.receiver.is_some() || state.closed {
            return false;
        }
        state.receiver = Some(receiver);
        if !state.up {
            state.hand_over(BusEvent::Down);
        }
        true
    }

    /// A link begins; without its connections the bus is not up. Gives the number of its first subscribing connection.
    pub(crate) fn open_link(&self, link: LinkId) -> u64 {
        let mut state = lock(&self.state);
        state.generation += 1;
        let generation = state.generation;
        state.links.insert(link, LinkState { generation, ..LinkState::default() });
        self.look(&mut state);
        generation
    }

    /// A link is given up for good: nothing more comes from it, and nobody waits for it.
    pub(crate) fn close_link(&self, link: LinkId) {
        let mut state = lock(&self.state);
        state.links.remove(&link);
        self.look(&mut state);
    }

    /// Whether there is a link for every channel.
    pub(crate) fn set_complete(&self, complete: bool) {
        let mut state = lock(&self.state);
        state.complete = complete;
        self.look(&mut state);
    }

    /// Hands over a message, unless the connection it came from is given up.
    ///
    /// This runs in the task that reads from Redis. It holds up nobody: a receiver's call never blocks, by its contract,
    /// and nothing else is done under this lock than such calls.
    pub(crate) fn message(&self, from: (LinkId, u64), topic: Topic, payload: Bytes) {
        self.received(from, BusEvent::message(topic, payload));
    }

    /// [`message`](Self::message), of a topic with a history.
    pub(crate) fn message_at(&self, from: (LinkId, u64), topic: Topic, payload: Bytes, position: Position) {
        self.received(from, BusEvent::message_at(topic, payload, position));
    }

    pub(crate) fn state(&self, from: (LinkId, u64), topic: Topic, state: KeptState, patch: Option<StatePatch>) {
        self.received(from, BusEvent::state(topic, state, patch));
    }

    fn received(&self, (link, generation): (LinkId, u64), event: BusEvent) {
        let state = lock(&self.state);
        if state.links.get(&link).is_some_and(|link| link.generation == generation) {
            state.hand_over(event);
        }
    }

    /// Everything that is published to these from now on arrives.
    pub(crate) fn subscribed(&self, topics: Vec<Topic>) {
        if !topics.is_empty() {
            lock(&self.state).hand_over(BusEvent::subscribed(topics));
        }
    }

    /// Redis refuses to subscribe a topic.
    pub(crate) fn refused(&self, topic: Topic, error: BusError) {
        lock(&self.state).hand_over(BusEvent::refused(topic, error));
    }

    pub(crate) fn gap(&self, topic: Topic) {
        lock(&self.state).hand_over(BusEvent::gap(topic));
    }

    /// The subscribing connection has every wanted subscription confirmed; `true` if it had not before.
    pub(crate) fn listening(&self, (link, generation): (LinkId, u64)) -> bool {
        let mut state = lock(&self.state);
        match state.links.get_mut(&link) {
            Some(link) if link.generation == generation => !std::mem::replace(&mut link.listening, true),
            _ => false,
        }
    }

    pub(crate) fn publishing(&self, link: LinkId) {
        if let Some(link) = lock(&self.state).links.get_mut(&link) {
            link.publishing = true;
        }
    }

    /// A probe has made its way through both connections. Only now are they up: with it everything has arrived that was
    /// published before it, so where the subscribing connection was there all the time, nothing is lost.
    pub(crate) fn proven(&self, (link, generation): (LinkId, u64), round_trip: Duration) {
        let mut state = lock(&self.state);
        let Some(link) = state.links.get_mut(&link).filter(|link| link.generation == generation) else { return };
        link.proven = link.listening && link.publishing;
        link.round_trip = Some(round_trip);
        state.round_trip = Some(round_trip);
        self.look(&mut state);
    }

    /// Whether a probe is to prove something.
    pub(crate) fn is_proven(&self, link: LinkId) -> bool {
        lock(&self.state).links.get(&link).is_some_and(|link| link.proven)
    }

    /// The subscribing connection is given up: nothing more comes from it. Gives the number of the next one.
    pub(crate) fn subscriber_lost(&self, link: LinkId, fault: Fault, lost: Lost) -> u64 {
        let mut state = lock(&self.state);
        state.generation += 1;
        let generation = state.generation;
        // A link that was closed meanwhile stays closed.
        if let Some(link) = state.links.get_mut(&link) {
            (link.generation, link.listening, link.proven) = (generation, false, false);
            link.losses += 1;
        }
        if lost == Lost::Perhaps {
            state.lost = lost;
        }
        self.fail("subscribing", &mut state, Some(link), fault);
        generation
    }

    /// The publishing connection is given up.
    pub(crate) fn publisher_lost(&self, link: LinkId, fault: Fault) {
        let mut state = lock(&self.state);
        if let Some(link) = state.links.get_mut(&link) {
            (link.publishing, link.proven) = (false, false);
            link.losses += 1;
        }
        self.fail("publishing", &mut state, Some(link), fault);
    }

    /// Both connections are there, and yet nothing can be published.
    pub(crate) fn unproven(&self, link: LinkId, fault: Fault) {
        let mut state = lock(&self.state);
        if let Some(link) = state.links.get_mut(&link) {
            link.proven = false;
        }
        self.fail("probing", &mut state, Some(link), fault);
    }

    /// Nobody can tell how the cluster is. What is connected stays as it is.
    pub(crate) fn unmapped(&self, fault: Fault) {
        self.fail("asking the cluster", &mut lock(&self.state), None, fault);
    }

    fn fail(&self, connection: &str, state: &mut State, link: Option<LinkId>, fault: Fault) {
        let line = format!("{connection}: {}", fault.line());
        if let Some(link) = link.and_then(|link| state.links.get_mut(&link)) {
            link.last_fault = Some(line.clone());
        }
        // An outage says the same again and again: once is enough for the log.
        if state.last_fault.as_ref() != Some(&line) || state.up {
            tracing::warn!(connection, fault = fault.line(), "the bus is down");
        }
        state.last_fault = Some(line);
        self.look(state);
        self.progress.send_replace(Progress { up: state.up, fault: Some(Arc::new(fault)) });
    }

    /// Says what has changed for the bus as a whole.
    fn look(&self, state: &mut State) {
        let up = state.complete && !state.closed && !state.links.is_empty() && state.links.values().all(|l| l.proven);
        if std::mem::replace(&mut state.up, up) == up {
            return;
        }
        if !up {
            state.hand_over(BusEvent::Down);
            return;
        }
        let lost = std::mem::replace(&mut state.lost, Lost::Nothing);
        tracing::info!(generation = state.generation, round_trip = ?state.round_trip, "the bus is up");
        state.hand_over(BusEvent::up(lost));
        self.progress.send_replace(Progress { up: true, fault: None });
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

    /// How a link is, as far as its connections tell; `None` where it is given up.
    pub(crate) fn link_report(&self, link: LinkId, name: &str) -> Option<LinkReport> {
        let state = lock(&self.state);
        let link = state.links.get(&link)?;
        let mut report = LinkReport::new(name, link.proven && !state.closed);
        report.round_trip_us = link.round_trip.and_then(|time| u64::try_from(time.as_micros()).ok());
        report.losses = link.losses;
        report.last_fault = link.last_fault.as_deref().map(Into::into);
        Some(report)
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
    fn hand_over(&self, event: BusEvent) {
        let Some(receiver) = &self.receiver else { return };
        // A panic in it must not take down the task that reads, and with it every other room.
        let outcome = catch_unwind(AssertUnwindSafe(|| receiver.event(event)));
        if outcome.is_err()
            && let Some(left_out) = self.panics.pass()
        {
            tracing::error!(left_out, "the receiver of the bus panicked, and an event is lost");
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

    /// With links 0 to `links`; gives the number of the last link's connection.
    fn attached(links: u64) -> (Status, Arc<Said>, u64) {
        let (status, said) = (Status::new(), Arc::new(Said::default()));
        assert!(status.attach(Arc::clone(&said) as Arc<dyn BusReceiver>));
        status.set_complete(true);
        let last = (0..links).map(|link| status.open_link(link)).last();
        (status, said, last.unwrap())
    }

    fn up(status: &Status, link: LinkId, generation: u64) {
        status.listening((link, generation));
        status.publishing(link);
        status.proven((link, generation), Duration::ZERO);
    }

    #[test]
    fn what_an_old_connection_says_is_not_heard() {
        let (status, said, old) = attached(1);
        up(&status, 0, old);
        status.message((0, old), Topic::Nodes, "1".into());
        let new = status.subscriber_lost(0, Fault::Closed, Lost::Perhaps);
        status.message((0, old), Topic::Nodes, "too late".into());
        up(&status, 0, old);
        status.message((0, new), Topic::Nodes, "2".into());
        up(&status, 0, new);
        let expected = ["Down", "Up { lost: Nothing }", "1", "Down", "2", "Up { lost: Perhaps }"];
        assert_eq!(*lock(&said.0), expected);
    }

    #[test]
    fn nothing_is_up_before_both_connections_are_and_a_probe_has_proved_it() {
        let (status, said, generation) = attached(1);
        status.proven((0, generation), Duration::ZERO);
        status.listening((0, generation));
        status.proven((0, generation), Duration::ZERO);
        status.publishing(0);
        assert!(!status.is_up());
        status.proven((0, generation), Duration::ZERO);
        assert!(status.is_up());
        status.publisher_lost(0, Fault::Closed);
        status.publishing(0);
        status.proven((0, generation), Duration::ZERO);
        assert_eq!(*lock(&said.0), ["Down", "Up { lost: Nothing }", "Down", "Up { lost: Nothing }"]);
    }

    #[test]
    fn a_loss_is_not_forgotten_by_a_second_one_that_costs_nothing() {
        let (status, said, first) = attached(1);
        up(&status, 0, first);
        status.subscriber_lost(0, Fault::Closed, Lost::Perhaps);
        let last = status.subscriber_lost(0, Fault::ProbeLost, Lost::Nothing);
        up(&status, 0, last);
        assert_eq!(lock(&said.0).last().map(String::as_str), Some("Up { lost: Perhaps }"));
    }

    #[test]
    fn a_receiver_that_panics_spoils_one_event_and_after_the_close_none_is_said() {
        let (status, said, generation) = attached(1);
        status.message((0, generation), Topic::Nodes, Bytes::new());
        status.message((0, generation), Topic::Nodes, "1".into());
        status.close();
        status.message((0, generation), Topic::Nodes, "2".into());
        up(&status, 0, generation);
        assert!(!status.attach(Arc::clone(&said) as Arc<dyn BusReceiver>));
        assert_eq!(*lock(&said.0), ["Down", "1"]);
    }

    #[test]
    fn with_several_link_the_bus_is_up_while_all_of_them_are() {
        let (status, said, second) = attached(2);
        up(&status, 1, second);
        assert!(!status.is_up());
        up(&status, 0, second - 1);
        assert!(status.is_up());
        status.subscriber_lost(1, Fault::Closed, Lost::Nothing);
        status.close_link(1);
        assert!(status.is_up(), "nobody waits for a link that was given up");
        status.message((1, second), Topic::Nodes, "too late".into());
        status.set_complete(false);
        let third = status.open_link(2);
        status.set_complete(true);
        assert!(!status.is_up());
        up(&status, 2, third);
        assert_eq!(
            *lock(&said.0),
            ["Down", "Up { lost: Nothing }", "Down", "Up { lost: Nothing }", "Down", "Up { lost: Nothing }"]
        );
    }
}
