//! When rules are asked again about the rooms of a connection, in kinds that say so.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use crate::{room_key::RoomKey, timers::Moment};

/// After a rule that could not decide it is asked again in a tenth of the usual time, and in a minute at most: soon after its
/// database is back, and not so often that it keeps it down.
const SOONER: u32 = 10;
const SOON: Duration = Duration::from_secs(60);

/// At most one for each room that the connection is in.
#[derive(Default)]
pub(super) struct AskingAgain(Vec<Due>);

struct Due {
    room: RoomKey,
    at: Moment,
}

/// Why a rule is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It decided.
    Decision,
    /// It could not.
    NoDecision,
}

impl AskingAgain {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.0.iter().map(|due| due.at).min()
    }

    /// Asks about a room again, at a random time between half of what the kind says and all of it: so that connections that
    /// came together, as after a restart, are not asked about together.
    pub(super) fn plan(&mut self, room: &RoomKey, every: Duration, after: After, now: Moment) -> Moment {
        let within = match after {
            After::Decision => every,
            After::NoDecision => (every / SOONER).min(SOON),
        };
        let half = within / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        // Each state has keys of its own, so this is as random as the seed of a hash map.
        let at = now.after(half + Duration::from_micros(RandomState::new().hash_one(()) % spread));
        self.forget(room);
        self.0.push(Due { room: room.clone(), at });
        at
    }

    pub(super) fn forget(&mut self, room: &RoomKey) {
        self.0.retain(|due| due.room != *room);
    }

    /// The rooms that are due.
    pub(super) fn due(&self, now: Moment) -> Vec<RoomKey> {
        self.0.iter().filter(|due| due.at <= now).map(|due| due.room.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_due_after_half_of_its_time_and_before_the_end_of_it() {
        let (room, minutes, start) = (RoomKey::new("team", 1).unwrap(), Duration::from_secs(600), Moment::START);
        let mut asking = AskingAgain::default();
        let mut all = Vec::new();
        for _ in 0..1000 {
            let at = asking.plan(&room, minutes, After::Decision, start);
            assert_eq!((asking.0.len(), asking.next()), (1, Some(at)));
            all.push(at.since(start).as_secs());
        }
        assert!(all.iter().all(|after| (300..600).contains(after)));
        let early = all.iter().filter(|after| **after < 450).count();
        assert!((300..700).contains(&early), "{early} of 1000 in the first half of the spread");
        let soon = asking.plan(&room, minutes, After::NoDecision, start).since(start);
        assert!((30..60).contains(&soon.as_secs()), "{soon:?}");
        assert_eq!(asking.due(start), []);
        assert_eq!(asking.due(start.after(minutes)), std::slice::from_ref(&room));
        asking.forget(&room);
        assert!(asking.is_empty());
    }
}
