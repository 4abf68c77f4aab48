//! The states of topics in memory.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    bus::{KeptState, NewState, Outcome, Position, Topic},
    shrink::shrink,
};

/// The states of some topics.
///
/// A state is forgotten when nobody is subscribed to its topic, and it was neither set nor read for as long as it is kept.
/// That is looked at whenever one of these states is used.
#[derive(Debug, Default)]
pub(super) struct States {
    states: HashMap<Topic, State>,
    /// When to look whether a state is to be forgotten; each is in it once.
    looks: BTreeMap<(Instant, u64), Topic>,
    next: u64,
}

#[derive(Debug)]
struct State {
    kept: KeptState,
    keep: Duration,
    forget_at: Instant,
}

/// States that are looked at with each use. 2: more than begin with one, so that none is left behind.
const LOOKS: usize = 2;

impl States {
    /// Sets a state, where that of the topic has the revision that the writer names.
    pub(super) fn set(&mut self, topic: &Topic, new: &NewState, subscribed: impl Fn(&Topic) -> bool) -> Outcome {
        let now = Instant::now();
        self.look(now, subscribed);
        let current = self.states.get(topic).map(|state| state.kept.revision);
        if current != new.after {
            return Outcome::Conflict(current);
        }
        let revision = match current {
            Some(current) => Position::new(current.epoch(), current.offset() + 1),
            None => Position::new(RandomState::new().hash_one(std::process::id()), 1),
        };
        let forget_at = now + new.keep;
        if current.is_none() {
            self.looks.insert((forget_at, self.next), topic.clone());
            self.next += 1;
        }
        let kept = KeptState::new(revision, new.state.clone());
        self.states.insert(topic.clone(), State { kept, keep: new.keep, forget_at });
        Outcome::Set(revision)
    }

    pub(super) fn read(
        &mut self,
        topic: &Topic,
        keep: Duration,
        subscribed: impl Fn(&Topic) -> bool,
    ) -> Option<KeptState> {
        let now = Instant::now();
        self.look(now, subscribed);
        let state = self.states.get_mut(topic)?;
        (state.keep, state.forget_at) = (keep, now + keep);
        Some(state.kept.clone())
    }

    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }

    /// Forgets what was not used for too long.
    fn look(&mut self, now: Instant, subscribed: impl Fn(&Topic) -> bool) {
        for _ in 0..LOOKS {
            let Some(due) = self.looks.first_entry().filter(|due| due.key().0 <= now) else { return };
            let ((_, number), topic) = due.remove_entry();
            let Some(state) = self.states.get_mut(&topic) else { continue };
            if state.forget_at <= now {
                if !subscribed(&topic) {
                    self.states.remove(&topic);
                    shrink(&mut self.states);
                    continue;
                }
                state.forget_at = now + state.keep;
            }
            self.looks.insert((state.forget_at, number), topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: usize) -> Topic {
        Topic::Room(crate::room_key::RoomKey::new("post", number).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_is_forgotten_when_nobody_used_it_for_as_long_as_it_is_kept() {
        let (mut states, keep) = (States::default(), Duration::from_secs(10));
        let new = |after| NewState::new(after, "1".into(), keep);
        for number in 0..1_000 {
            assert!(matches!(states.set(&topic(number), &new(None), |_| false), Outcome::Set(_)));
        }
        let first = states.read(&topic(0), keep, |_| false).unwrap();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(states.read(&topic(0), keep, |_| false), Some(first.clone()));
        tokio::time::advance(Duration::from_secs(2)).await;
        for _ in 0..600 {
            assert_eq!(states.read(&topic(0), keep, |of| *of == topic(1)), Some(first.clone()), "it is used");
        }
        assert_eq!((states.states.len(), states.looks.len()), (2, 2), "and somebody is subscribed to the second one");
        tokio::time::advance(Duration::from_secs(11)).await;
        let Outcome::Set(again) = states.set(&topic(0), &new(None), |_| false) else { panic!("it is not forgotten") };
        assert!(again.epoch() != first.revision.epoch() && again.offset() == 1, "{again} after {first:?}");
    }
}
