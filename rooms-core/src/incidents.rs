//! The newest incidents of a node.

use std::{array, collections::VecDeque, fmt, sync::Arc, time::SystemTime};

use crate::{
    auth::WallClock,
    close::Close,
    lock::{Mutex, lock},
    node::ConnectionId,
    reports::{Incident, IncidentKind, TurnedAway},
    room_key::RoomKey,
};

/// Incidents of each kind that are kept. 256: those of minutes while all is well, and in a storm more than anybody reads; with
/// the longest names some 200 kB for each kind.
const KEPT: usize = 256;

/// The longest reason, in bytes: the words of a room that can't be joined, whose name has at most 233.
const LONGEST: usize = 300;

/// What counts as lately where incidents are counted, in milliseconds. An hour: whoever asks why nothing is heard asks within it.
const LATELY: u64 = 3_600_000;

/// The reasons that are told of those who were turned away: one or two are most of them.
const REASONS: usize = 5;

/// A ring for each kind, so that a storm of one does not push out the others. Each has a lock of its own, taken when something
/// goes wrong, and never when a message is delivered.
pub(crate) struct Incidents {
    rings: [Mutex<VecDeque<Incident>>; IncidentKind::COUNT],
    clock: Arc<dyn WallClock>,
}

impl Incidents {
    pub(crate) fn new(clock: Arc<dyn WallClock>) -> Self {
        Self { rings: array::from_fn(|_| Mutex::default()), clock }
    }

    /// The time of day, in milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        let since_1970 = self.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes what happened just now.
    pub(crate) fn note(&self, incident: Incident) {
        let mut incident = Incident { at: self.now(), ..incident };
        if incident.reason.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|at| incident.reason.is_char_boundary(*at)).unwrap_or(0);
            incident.reason = incident.reason.get(..end).unwrap_or_default().into();
        }
        let Some(ring) = self.rings.get(incident.kind as usize) else { return };
        // Dropped when the lock is free.
        let _oldest = {
            let mut ring = lock(ring);
            let oldest = if ring.len() == KEPT { ring.pop_front() } else { None };
            ring.push_back(incident);
            oldest
        };
    }

    /// The newest that are wanted, at most so many, the newest first.
    pub(crate) fn newest(&self, most: usize, wanted: impl Fn(&Incident) -> bool) -> Vec<Incident> {
        let mut newest: Vec<Incident> = Vec::new();
        for ring in &self.rings {
            newest.extend(lock(ring).iter().rev().filter(|incident| wanted(incident)).take(most).cloned());
        }
        newest.sort_by_key(|incident| std::cmp::Reverse(incident.at));
        newest.truncate(most);
        newest
    }

    /// What was refused lately to clients that nobody knows.
    pub(crate) fn turned_away(&self) -> TurnedAway {
        let since = self.now().saturating_sub(LATELY);
        let mut away = TurnedAway::default();
        for (kind, count) in
            [(IncidentKind::UpgradeRefused, &mut away.upgrades), (IncidentKind::BadToken, &mut away.tokens)]
        {
            let Some(ring) = self.rings.get(kind as usize) else { continue };
            for incident in lock(ring).iter().filter(|incident| incident.at >= since) {
                *count += 1;
                // One after the other: there are some twenty reasons.
                match away.reasons.iter_mut().find(|(reason, _)| *reason == incident.reason) {
                    Some((_, times)) => *times += 1,
                    None => away.reasons.push((incident.reason.clone(), 1)),
                }
            }
        }
        away.reasons.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        away.reasons.truncate(REASONS);
        away
    }
}

impl fmt::Debug for Incidents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incidents").finish_non_exhaustive()
    }
}

impl Incident {
    pub(crate) fn new(kind: IncidentKind, reason: impl Into<Box<str>>) -> Self {
        Self { at: 0, kind, user: None, connection: None, room: None, code: None, reason: reason.into() }
    }

    pub(crate) fn of_user(self, user: &str) -> Self {
        Self { user: Some(user.into()), ..self }
    }

    pub(crate) fn of_connection(self, connection: ConnectionId) -> Self {
        Self { connection: Some(connection), ..self }
    }

    pub(crate) fn in_room(self, room: &RoomKey) -> Self {
        Self { room: Some(room.clone()), ..self }
    }

    pub(crate) fn with_code(self, close: &Close) -> Self {
        Self { code: Some(close.code().get()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use super::*;

    /// A clock that goes on by a millisecond each time.
    #[derive(Debug, Default)]
    struct Ticking(AtomicU64);

    impl WallClock for Ticking {
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
        }
    }

    fn note(incidents: &Incidents, kind: IncidentKind, user: &str) {
        incidents.note(Incident::new(kind, "é".repeat(200)).of_user(user));
    }

    #[test]
    fn a_storm_of_one_kind_pushes_out_only_its_own() {
        let incidents = Incidents::new(Arc::new(Ticking::default()));
        note(&incidents, IncidentKind::Denied, "first");
        (1..10_000).for_each(|_| note(&incidents, IncidentKind::Left, "other"));
        let all = incidents.newest(usize::MAX, |_| true);
        assert_eq!((all.len(), all.first().unwrap().at, all.last().unwrap().at), (KEPT + 1, 9_999, 0));
        assert!(all.iter().all(|incident| incident.reason.len() == LONGEST), "cut between two characters");
        let newest = incidents.newest(3, |_| true);
        assert_eq!(newest.iter().map(|incident| incident.at).collect::<Vec<_>>(), [9_999, 9_998, 9_997]);
        let first = incidents.newest(10, |incident| incident.user.as_deref() == Some("first"));
        assert_eq!(first.iter().map(|incident| incident.kind).collect::<Vec<_>>(), [IncidentKind::Denied]);
    }

    #[test]
    fn who_was_turned_away_lately_is_counted_and_no_more_reasons_are_kept_than_are_told() {
        let clock = Arc::new(Ticking::default());
        let incidents = Incidents::new(Arc::clone(&clock) as Arc<dyn WallClock>);
        incidents.note(Incident::new(IncidentKind::BadToken, "an hour ago"));
        clock.0.store(LATELY + 2, Ordering::Relaxed);
        assert_eq!(incidents.turned_away(), TurnedAway::default());
        (0..3).for_each(|_| incidents.note(Incident::new(IncidentKind::BadToken, "expired")));
        note(&incidents, IncidentKind::Refused, "somebody who is known");
        for n in 0..10 + KEPT {
            let reason = if n < KEPT { "origin".to_owned() } else { n.to_string() };
            incidents.note(Incident::new(IncidentKind::UpgradeRefused, reason));
        }
        let away = incidents.turned_away();
        assert_eq!((away.upgrades, away.tokens, away.reasons.len()), (KEPT, 3, REASONS));
        assert_eq!(away.reasons[..2], [("origin".into(), KEPT - 10), ("expired".into(), 3)]);
    }
}
