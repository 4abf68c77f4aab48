//! How many are in a room, and when its members are told.
//!
//! The first change is told at once; what follows within the window is told together at the window's end. So ten thousand
//! joins in a second are a few events for each member, not ten thousand.

use crate::{node::ConnectionId, protocol::Change};

#[derive(Debug, Default)]
pub(super) struct Viewers {
    local: usize,
    remote: usize,
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

/// What to tell because of a change; then a window is open, until [`Viewers::window_ended`] is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) event: Option<Event>,
}

const NOTHING: Announcement = Announcement { event: None };

impl Viewers {
    /// On all nodes.
    pub(super) const fn count(&self) -> usize {
        self.local.saturating_add(self.remote)
    }

    /// On this node.
    pub(super) const fn local(&self) -> usize {
        self.local
    }

    /// On the others.
    pub(super) const fn remote(&self) -> usize {
        self.remote
    }

    /// One more here, who is told the number that is now; `except` is who needs no event to know it.
    pub(super) fn joined(&mut self, except: Option<ConnectionId>) -> Announcement {
        self.local += 1;
        self.believed(except)
    }

    /// One is here again who was never told to have left; it is told the number that is now.
    pub(super) fn returned(&mut self, connection: ConnectionId) {
        if self.window.is_some() {
            let _ = self.believed(Some(connection));
        }
    }

    fn believed(&mut self, connection: Option<ConnectionId>) -> Announcement {
        let count = self.count();
        let Some(window) = &mut self.window else { return self.tell(Change::Joined, connection) };
        window.least = window.least.min(count);
        window.most = window.most.max(count);
        window.joined = match (window.joined, connection) {
            (Joined::Nobody, Some(connection)) => Joined::One(connection, count),
            _ => Joined::Several,
        };
        NOTHING
    }

    /// The numbers changed; `news` where something else is to be told with them.
    pub(super) fn moved(&mut self, local: usize, remote: usize, news: bool) -> Announcement {
        (self.local, self.remote) = (local, remote);
        let same = self.count() == self.told && !news;
        if self.window.is_some() || same { NOTHING } else { self.tell(self.change(), None) }
    }

    pub(super) fn window_ended(&mut self, news: bool) -> Announcement {
        let Some(window) = self.window.take() else { return NOTHING };
        let count = self.count();
        if window.least == count && window.most == count && !news {
            return NOTHING;
        }
        let except = match window.joined {
            // It may have left since: then whoever is here alone is another.
            Joined::One(connection, told) if told == count && self.local > 1 => Some(connection),
            _ => None,
        };
        self.tell(self.change(), except)
    }

    pub(super) const fn has_window(&self) -> bool {
        self.window.is_some()
    }

    const fn change(&self) -> Change {
        if self.count() > self.told { Change::Joined } else { Change::Left }
    }

    fn tell(&mut self, change: Change, except: Option<ConnectionId>) -> Announcement {
        let count = self.count();
        self.told = count;
        if self.local == 0 || (self.local == 1 && except.is_some()) {
            // There is nobody to tell, so nothing is to be spared either.
            return NOTHING;
        }
        self.window = Some(Window { least: count, most: count, joined: Joined::Nobody });
        Announcement { event: Some(Event { change, count, except }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u64) -> ConnectionId {
        ConnectionId::for_test(n)
    }

    fn left(viewers: &mut Viewers) -> Announcement {
        viewers.moved(viewers.local - 1, viewers.remote, false)
    }

    #[test]
    fn the_first_change_is_told_at_once_and_the_rest_together() {
        let mut viewers = Viewers::default();
        assert_eq!(viewers.joined(Some(id(1))), NOTHING, "there is nobody to tell");
        let second = viewers.joined(Some(id(2)));
        assert_eq!(second.event, Some(Event { change: Change::Joined, count: 2, except: Some(id(2)) }));
        for n in 3..=10 {
            assert_eq!(viewers.joined(Some(id(n))), NOTHING);
        }
        let rest = viewers.window_ended(false);
        assert_eq!(rest.event, Some(Event { change: Change::Joined, count: 10, except: None }));
        assert_eq!(viewers.window_ended(false), NOTHING);
    }

    #[test]
    fn one_that_joined_and_left_again_within_a_window_still_corrects_who_was_told() {
        let mut viewers = Viewers::default();
        let _ = viewers.joined(Some(id(1)));
        let _ = viewers.joined(Some(id(2))); // opens the window
        let _ = viewers.joined(Some(id(3))); // is told 3
        let _ = left(&mut viewers);
        assert_eq!(viewers.window_ended(false).event, Some(Event { change: Change::Left, count: 2, except: None }));
    }

    #[test]
    fn members_of_other_nodes_count_and_news_is_told_with_the_same_number() {
        let mut viewers = Viewers::default();
        assert_eq!(viewers.moved(0, 7, false), NOTHING, "nobody is here");
        assert_eq!(viewers.joined(Some(id(1))), NOTHING, "it is told 8 as it joins");
        let rest = Some(Event { change: Change::Left, count: 5, except: None });
        assert_eq!(viewers.moved(1, 4, false).event, rest);
        assert_eq!(viewers.moved(1, 4, true), NOTHING, "the window is open");
        assert_eq!(viewers.window_ended(true).event, rest);
        assert_eq!(viewers.window_ended(false), NOTHING);
    }

    #[test]
    fn the_only_one_here_is_told_although_who_joined_last_knew() {
        let mut viewers = Viewers::default();
        let _ = viewers.joined(Some(id(1)));
        assert!(viewers.moved(1, 1, false).event.is_some(), "it opens the window");
        let _ = viewers.joined(Some(id(2))); // is told 3
        let _ = viewers.moved(1, 2, false); // goes, and one comes elsewhere
        assert_eq!(viewers.window_ended(false).event, Some(Event { change: Change::Joined, count: 3, except: None }));
    }

    proptest! {
        /// Members by what each believes, against what `Viewers` says to tell them.
        #[test]
        fn everybody_ends_up_with_the_right_number(steps in prop::collection::vec((0..6u8, 0..4usize), 0..60)) {
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
            for (step, number) in steps {
                match step {
                    0 | 1 => {
                        next += 1;
                        beliefs.push((id(next), viewers.count() + 1));
                        let told = viewers.joined(Some(id(next)));
                        tell(&mut beliefs, told)?;
                    }
                    2 if !beliefs.is_empty() => {
                        beliefs.remove(next as usize % beliefs.len());
                        let told = left(&mut viewers);
                        tell(&mut beliefs, told)?;
                    }
                    3 => {
                        let told = viewers.moved(viewers.local, number, false);
                        tell(&mut beliefs, told)?;
                    }
                    4 if !beliefs.is_empty() => {
                        // It left, is still counted, and is back.
                        next += 1;
                        beliefs.remove(number % beliefs.len());
                        beliefs.push((id(next), viewers.count()));
                        viewers.returned(id(next));
                    }
                    _ => {
                        let told = viewers.window_ended(false);
                        tell(&mut beliefs, told)?;
                    }
                }
            }
            let told = viewers.window_ended(false);
            tell(&mut beliefs, told)?;
            prop_assert_eq!(viewers.local(), beliefs.len());
            prop_assert!(beliefs.iter().all(|(_, belief)| *belief == viewers.count()), "{:?}", beliefs);
        }
    }
}
