//! How many are in a room, and when its members are told.
//!
//! The first change is told at once; what follows within the window is told together at the window's end. So ten thousand
//! joins in a second are a few events for each member, not ten thousand.

use crate::{node::ConnectionId, protocol::Change};

#[derive(Debug, Default)]
pub(super) struct Viewers {
    count: usize,
    /// The number that the members were told last.
    told: usize,
    window: Option<Window>,
}

/// What happened since the window opened.
#[derive(Debug)]
struct Window {
    /// The least and the greatest number that somebody believes in, from an event or from their own `room_joined`.
    least: usize,
    most: usize,
    /// The only one who joined meanwhile; it knows the number that it was told.
    joined: Joined,
}

#[derive(Debug, Clone, Copy)]
enum Joined {
    Nobody,
    One(ConnectionId, usize),
    Several,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) change: Change,
    pub(super) count: usize,
    /// Who knows already.
    pub(super) except: Option<ConnectionId>,
}

/// What to do about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) event: Option<Event>,
    /// A window opened (or opened again): call [`Viewers::window_ended`] when its time is over.
    pub(super) opened: bool,
}

const NOTHING: Announcement = Announcement { event: None, opened: false };

impl Viewers {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn joined(&mut self, connection: ConnectionId) -> Announcement {
        self.count += 1;
        let count = self.count;
        let Some(window) = &mut self.window else {
            return self.tell(Change::Joined, Some(connection));
        };
        window.least = window.least.min(count);
        window.most = window.most.max(count);
        window.joined = match window.joined {
            Joined::Nobody => Joined::One(connection, count),
            _ => Joined::Several,
        };
        NOTHING
    }

    pub(super) fn left(&mut self) -> Announcement {
        self.count = self.count.saturating_sub(1);
        match self.window {
            None => self.tell(Change::Left, None),
            Some(_) => NOTHING,
        }
    }

    pub(super) fn window_ended(&mut self) -> Announcement {
        let Some(window) = self.window.take() else { return NOTHING };
        if window.least == self.count && window.most == self.count {
            return NOTHING;
        }
        let change = if self.count > self.told { Change::Joined } else { Change::Left };
        let except = match window.joined {
            Joined::One(connection, told) if told == self.count => Some(connection),
            _ => None,
        };
        self.tell(change, except)
    }

    fn tell(&mut self, change: Change, except: Option<ConnectionId>) -> Announcement {
        let count = self.count;
        self.told = count;
        if count == 0 || (count == 1 && except.is_some()) {
            // There is nobody to tell, so nothing is to be spared either.
            return NOTHING;
        }
        self.window = Some(Window { least: count, most: count, joined: Joined::Nobody });
        Announcement { event: Some(Event { change, count, except }), opened: true }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u64) -> ConnectionId {
        ConnectionId::for_test(n)
    }

    #[test]
    fn the_first_change_is_told_at_once_and_the_rest_together() {
        let mut viewers = Viewers::default();
        assert_eq!(viewers.joined(id(1)), NOTHING, "there is nobody to tell");
        let second = viewers.joined(id(2));
        assert_eq!(second.event, Some(Event { change: Change::Joined, count: 2, except: Some(id(2)) }));
        assert!(second.opened);
        for n in 3..=10 {
            assert_eq!(viewers.joined(id(n)), NOTHING);
        }
        let rest = viewers.window_ended();
        assert_eq!(rest.event, Some(Event { change: Change::Joined, count: 10, except: None }));
        assert_eq!(viewers.window_ended(), NOTHING);
    }

    #[test]
    fn one_that_joined_and_left_again_within_a_window_still_corrects_who_was_told() {
        let mut viewers = Viewers::default();
        let _ = viewers.joined(id(1));
        let _ = viewers.joined(id(2)); // opens the window
        let _ = viewers.joined(id(3)); // is told 3
        let _ = viewers.left();
        assert_eq!(viewers.window_ended().event, Some(Event { change: Change::Left, count: 2, except: None }));
    }

    proptest! {
        /// Members by what each believes, against what `Viewers` says to tell them.
        #[test]
        fn everybody_ends_up_with_the_right_number(steps in prop::collection::vec(0..4u8, 0..60)) {
            let mut viewers = Viewers::default();
            let mut beliefs: Vec<(ConnectionId, usize)> = Vec::new();
            let mut next = 0;
            let tell = |beliefs: &mut Vec<(ConnectionId, usize)>, told: Announcement| {
                if let Some(event) = told.event {
                    for (member, belief) in beliefs.iter_mut().filter(|(m, _)| Some(*m) != event.except) {
                        prop_assert!(*belief != event.count || event.except.is_none(), "{member:?} told twice");
                        *belief = event.count;
                    }
                }
                Ok(())
            };
            for step in steps {
                match step {
                    0 | 1 => {
                        next += 1;
                        beliefs.push((id(next), viewers.count() + 1));
                        let told = viewers.joined(id(next));
                        tell(&mut beliefs, told)?;
                    }
                    2 if !beliefs.is_empty() => {
                        beliefs.remove(next as usize % beliefs.len());
                        let told = viewers.left();
                        tell(&mut beliefs, told)?;
                    }
                    _ => {
                        let told = viewers.window_ended();
                        tell(&mut beliefs, told)?;
                    }
                }
            }
            let told = viewers.window_ended();
            tell(&mut beliefs, told)?;
            prop_assert_eq!(viewers.count(), beliefs.len());
            prop_assert!(beliefs.iter().all(|(_, belief)| *belief == viewers.count()), "{:?}", beliefs);
        }
    }
}
