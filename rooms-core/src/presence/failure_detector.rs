//! Whether the other nodes can be heard, and so be blamed for silence.

use std::time::Duration;

use tokio::time::Instant;

/// How long a node may be silent: three heartbeats, and a quarter of one for the third to be late.
pub(super) fn lease(heartbeat: Duration) -> Duration {
    heartbeat * 13 / 4
}

/// ```text
///   Listening <--pause, resume--> BusDown
///       `------- stop --> Stopped <-- stop -------'
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureDetector {
    /// Nobody is blamed for silence before that time.
    Listening {
        since: Option<Instant>,
    },
    BusDown,
    /// This node says goodbye.
    Stopped,
}

impl Default for FailureDetector {
    fn default() -> Self {
        Self::Listening { since: None }
    }
}

impl FailureDetector {
    /// The bus is down: nobody can be heard, so nobody is gone.
    pub(super) fn pause(&mut self) {
        self.change(Self::BusDown);
    }

    /// The bus is back: everybody has the time of a new lease to be heard.
    pub(super) fn resume(&mut self, now: Instant) {
        self.change(Self::Listening { since: Some(now) });
    }

    /// Nobody is blamed for what was not heard while this process stood still; a bus that is down stays down.
    pub(super) fn forgive(&mut self, now: Instant) {
        if self.is_listening() {
            *self = Self::Listening { since: Some(now) };
        }
    }

    pub(super) fn stop(&mut self) {
        *self = Self::Stopped;
    }

    pub(super) const fn is_listening(self) -> bool {
        matches!(self, Self::Listening { .. })
    }

    pub(super) fn is_stopped(self) -> bool {
        self == Self::Stopped
    }

    fn change(&mut self, to: Self) {
        if !self.is_stopped() {
            *self = to;
        }
    }

    /// Who was last heard before this is gone; `None` while nobody can be blamed.
    pub(super) fn silent_since(self, now: Instant, lease: Duration) -> Option<Instant> {
        match self {
            Self::Listening { since: Some(since) } if now < since + lease => None,
            Self::Listening { .. } => now.checked_sub(lease),
            Self::BusDown | Self::Stopped => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(6_500);

    #[test]
    fn nobody_is_blamed_for_what_could_not_be_heard() {
        let mut detector = FailureDetector::default();
        let start = Instant::now() + 2 * LEASE;
        assert_eq!(detector.silent_since(start, LEASE), Some(start - LEASE));
        detector.pause();
        assert_eq!(detector.silent_since(start, LEASE), None, "the bus is down");
        detector.resume(start);
        assert_eq!(detector.silent_since(start + LEASE / 2, LEASE), None, "it was down a moment ago");
        assert_eq!(detector.silent_since(start + LEASE, LEASE), Some(start));
        detector.forgive(start + LEASE);
        assert_eq!(detector.silent_since(start + LEASE, LEASE), None, "this process stood still");
    }

    #[test]
    fn a_process_that_stood_still_while_its_bus_is_down_blames_nobody_either() {
        let (mut detector, now) = (FailureDetector::default(), Instant::now());
        detector.pause();
        detector.forgive(now);
        assert!(!detector.is_listening());
        assert_eq!(detector.silent_since(now + 2 * LEASE, LEASE), None);
        detector.stop();
        detector.resume(now);
        detector.forgive(now);
        assert!(!detector.is_listening(), "it said goodbye");
    }
}
