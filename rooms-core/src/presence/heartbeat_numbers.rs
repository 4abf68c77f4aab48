//! The numbers of one peer's heartbeats.

/// How far a number may be above the last one. 64: a node that answers callers beats ten times as often as otherwise, and
/// whoever missed more of its heartbeats than these has taken it for gone.
const STEP: u64 = 64;

/// Tells a new heartbeat from one that comes late, or twice.
///
/// A number is believed where it follows the last one. One that does not (far above, or below) is believed once another
/// follows it: so a forged or damaged heartbeat with the number 2^64-1 makes the next one be ignored, not all.
#[derive(Debug, Default)]
pub(super) struct HeartbeatNumbers {
    last: Option<u64>,
    /// One that did not follow.
    odd: Option<u64>,
}

impl HeartbeatNumbers {
    /// Takes a number; whether its heartbeat is to be believed.
    pub(super) fn take(&mut self, number: u64) -> bool {
        let believed =
            self.last.is_none_or(|last| follows(number, last)) || self.odd.is_some_and(|odd| follows(number, odd));
        if believed {
            *self = Self { last: Some(number), odd: None };
        } else {
            self.odd = Some(number);
        }
        believed
    }
}

const fn follows(number: u64, other: u64) -> bool {
    number > other && number - other <= STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    fn believed(numbers: &[u64]) -> Vec<bool> {
        let mut taken = HeartbeatNumbers::default();
        numbers.iter().map(|number| taken.take(*number)).collect()
    }

    #[test]
    fn a_heartbeat_that_comes_late_or_twice_is_not_believed() {
        assert_eq!(believed(&[70_000, 70_001, 70_001, 70_000, 70_003]), [true, true, false, false, true]);
    }

    #[test]
    fn a_number_that_is_no_ones_is_outlived_by_two_heartbeats() {
        for forged in [u64::MAX, 6 + STEP, 0] {
            assert_eq!(believed(&[4, 5, forged, 6, 7]), [true, true, false, true, true]);
        }
        assert_eq!(believed(&[4, 5, 5 + STEP, 6, 7]), [true, true, true, false, true]);
        assert_eq!(believed(&[u64::MAX, 5, 6, 7]), [true, false, true, true], "also where it was the first");
        assert_eq!(believed(&[u64::MAX - 1, u64::MAX, 5, 6]), [true, true, false, true]);
    }

    #[test]
    fn a_node_that_was_not_heard_for_long_is_believed_by_its_second_heartbeat() {
        assert_eq!(believed(&[5, 6 + STEP, 7 + STEP]), [true, false, true]);
    }
}
