//! Whether another node is one of the same application.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::allowance::Allowance;

/// The names of an application's kinds, as one number: enough to notice that two processes on one bus are not of one
/// application, and no secret.
pub(crate) type Kinds = u32;

/// Other applications that were warned of. 16: more on one bus are no accident.
const REMEMBERED: usize = 16;

/// At most one warning a minute, whatever comes.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The kinds of an application by their names; `None` where it has none, as a process that only publishes.
pub(crate) fn kinds<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Kinds> {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    // FNV-1a, over each name and a colon, which no name has: the same on every node and in every release.
    let bytes = names.iter().flat_map(|name| name.bytes().chain(*b":"));
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (!names.is_empty()).then_some(hash)
}

/// Which other applications were warned of.
#[derive(Debug)]
pub(super) struct Strangers {
    known: VecDeque<Kinds>,
    warnings: Allowance,
}

impl Default for Strangers {
    fn default() -> Self {
        Self { known: VecDeque::new(), warnings: Allowance::new(1, WARN_EVERY) }
    }
}

impl Strangers {
    /// Takes the kinds that a node says it has; whether to warn of it.
    pub(super) fn meet(&mut self, ours: Option<Kinds>, theirs: Option<Kinds>, now: Instant) -> bool {
        let (Some(ours), Some(theirs)) = (ours, theirs) else { return false };
        if ours == theirs || self.known.contains(&theirs) || !self.warnings.take(1, now) {
            return false;
        }
        if self.known.len() >= REMEMBERED {
            self.known.pop_front();
        }
        self.known.push_back(theirs);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_names_in_any_order() {
        assert_eq!(kinds(["post", "chat"]), kinds(["chat", "post"]));
        assert_ne!(kinds(["post", "chat"]), kinds(["postchat"]));
        assert_ne!(kinds(["post"]), kinds(["chat"]));
        assert_eq!(kinds([]), None);
    }

    #[test]
    fn each_other_application_is_warned_of_once_and_no_more_than_one_a_minute() {
        let start = Instant::now();
        let mut strangers = Strangers::default();
        assert!(!strangers.meet(Some(1), Some(1), start), "it is the same");
        assert!(!strangers.meet(Some(1), None, start), "it says nothing, or has no rooms");
        assert!(!strangers.meet(None, Some(2), start), "this one has no rooms");
        assert!(strangers.meet(Some(1), Some(2), start));
        assert!(!strangers.meet(Some(1), Some(2), start + WARN_EVERY), "once");
        assert!(strangers.meet(Some(1), Some(3), start + WARN_EVERY));
        assert!(!strangers.meet(Some(1), Some(4), start + WARN_EVERY));
    }
}
