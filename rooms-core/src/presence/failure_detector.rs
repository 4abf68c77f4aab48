//! The task that beats, and notices who does not.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout};

use super::Presence;
use crate::{
    lock::{Mutex, lock},
    nodes::lease,
};

/// Whether the others can be heard, and since when.
#[derive(Debug)]
pub(super) struct FailureDetector(Mutex<State>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Who was heard before that time is not blamed for silence before it.
    Listening(Option<Instant>),
    BusDown,
    Over,
}

impl Default for FailureDetector {
    fn default() -> Self {
        Self(Mutex::new(State::Listening(None)))
    }
}

impl FailureDetector {
    pub(super) fn pause(&self) {
        self.change(State::BusDown);
    }

    pub(super) fn resume(&self, now: Instant) {
        self.change(State::Listening(Some(now)));
    }

    /// Nobody is blamed for what was not heard while this process stood still; a bus that is down stays down.
    fn forgive(&self, now: Instant) {
        let mut state = lock(&self.0);
        if matches!(*state, State::Listening(_)) {
            *state = State::Listening(Some(now));
        }
    }

    pub(super) fn stop(&self) {
        self.change(State::Over);
    }

    /// Whether it did not stop.
    pub(super) fn is_on(&self) -> bool {
        !self.is_over()
    }

    pub(super) fn is_listening(&self) -> bool {
        matches!(*lock(&self.0), State::Listening(_))
    }

    fn is_over(&self) -> bool {
        *lock(&self.0) == State::Over
    }

    fn change(&self, to: State) {
        let mut state = lock(&self.0);
        if *state != State::Over {
            *state = to;
        }
    }

    /// Who was last heard before this is gone; `None` while nobody can be blamed.
    fn silent_since(&self, now: Instant, lease: Duration) -> Option<Instant> {
        match *lock(&self.0) {
            State::Listening(Some(since)) if now < since + lease => None,
            State::Listening(_) => now.checked_sub(lease),
            State::BusDown | State::Over => None,
        }
    }
}

/// Beats until the manager is gone.
pub(super) async fn run(presence: Weak<Presence>, failure_detector: Arc<FailureDetector>) {
    let Some((registry, heartbeat)) = presence.upgrade().map(|presence| {
        let registry = Arc::clone(&presence.registry);
        let heartbeat = registry.limits().heartbeat_interval;
        (Arc::downgrade(&registry), heartbeat)
    }) else {
        return;
    };
    let lease = lease(heartbeat);
    let mut begun = false;
    let mut next_beat = Instant::now();
    // However many nodes call, they are answered together.
    let mut next_answer = Instant::now();
    // However often somebody says good-bye in this node's name, the others learn all it has once a heartbeat at most.
    let mut next_renewal = Instant::now();
    let mut seen = Instant::now();
    loop {
        let Some(this) = presence.upgrade() else { return };
        let now = Instant::now();
        if now > seen + heartbeat * 2 {
            // It was this process that stood still: what the others said meanwhile is still to be read.
            failure_detector.forgive(now);
        }
        this.end_silent(failure_detector.silent_since(Instant::now(), lease)).await;
        // From here on, as this process may also stand still while it says something.
        seen = Instant::now();
        if !begun {
            begun = this.begin().await;
        }
        let may_renew = begun && this.is_disowned() && Instant::now() >= next_renewal && failure_detector.is_on();
        if may_renew && this.renew().await {
            next_renewal = Instant::now() + heartbeat;
            next_beat = Instant::now();
        }
        if begun {
            let now = Instant::now();
            if now >= next_beat || (now >= next_answer && this.called.load(Ordering::Relaxed)) {
                this.called.store(false, Ordering::Relaxed);
                // A tenth, so that a crowd of callers costs half of what the heartbeats of ten nodes do.
                (next_beat, next_answer) = (now + heartbeat, now + heartbeat / 10);
                // The next one says the same, and more.
                _ = timeout(heartbeat, this.beat()).await;
            }
            _ = timeout(heartbeat, this.introduce(heartbeat / 2)).await;
        } else {
            next_beat = Instant::now() + heartbeat;
        }
        this.ask();
        drop(this);
        // A quarter of a heartbeat is how exactly the end of a lease is noticed.
        let wake = next_beat.min(Instant::now() + heartbeat / 4);
        let Some(registry) = registry.upgrade() else { return };
        if failure_detector.is_over() {
            return;
        }
        tokio::select! {
            () = sleep_until(wake) => {}
            () = registry.news.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(6_500);

    #[tokio::test(start_paused = true)]
    async fn nobody_is_blamed_for_what_could_not_be_heard() {
        let failure_detector = FailureDetector::default();
        let start = Instant::now() + 2 * LEASE;
        assert_eq!(failure_detector.silent_since(start, LEASE), Some(start - LEASE));
        failure_detector.pause();
        assert_eq!(failure_detector.silent_since(start, LEASE), None, "the bus is down");
        failure_detector.resume(start);
        assert_eq!(failure_detector.silent_since(start + LEASE / 2, LEASE), None, "it was down a moment ago");
        assert_eq!(failure_detector.silent_since(start + LEASE, LEASE), Some(start));
        failure_detector.forgive(start + LEASE);
        assert_eq!(failure_detector.silent_since(start + LEASE, LEASE), None, "this process stood still");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_stood_still_while_its_bus_is_down_blames_nobody_either() {
        let failure_detector = FailureDetector::default();
        failure_detector.pause();
        failure_detector.forgive(Instant::now());
        assert!(!failure_detector.is_listening());
        assert_eq!(failure_detector.silent_since(Instant::now() + 2 * LEASE, LEASE), None);
        failure_detector.stop();
        failure_detector.resume(Instant::now());
        failure_detector.forgive(Instant::now());
        assert!(!failure_detector.is_listening(), "it said good-bye");
    }
}
