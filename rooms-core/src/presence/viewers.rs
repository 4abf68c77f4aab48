//! How many viewers there are, and when the members are told.
//!
//! The first change is told at once; what follows within the window is told together at the window's end. So ten thousand
//! joins in a second are a few events for each member, not ten thousand.

use crate::node::ConnectionId;

/// How many there are at one time. Who owns the parts says it with each call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// On this node.
    pub(super) here: usize,
    /// On all nodes.
    pub(super) all: usize,
    /// On this node, not counted, and told of the others.
    pub(super) observers: usize,
}

impl Counts {
    /// How many there are on this node to be told.
    const fn listeners(self) -> usize {
        self.here.saturating_add(self.observers)
    }
}

/// Which way the number went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Joined,
    Left,
}

/// Which number the members believe in.
#[derive(Debug, Default)]
pub(super) struct Viewers {
    /// The number that the members were told last.
    told: usize,
    /// Boxed, as it is there for a moment, and a node has many rooms.
    window: Option<Box<Window>>,
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

/// That the number changed; then a window is open, until [`Viewers::window_ended`] is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) change: Change,
    pub(super) count: usize,
    /// Somebody believes in another number: where not, there is other news to be told with it.
    pub(super) moved: bool,
    /// Who knows already.
    pub(super) except: Option<ConnectionId>,
}

impl Viewers {
    /// One more is here, and is told the number with itself.
    pub(super) fn joined(&mut self, counts: Counts, connection: ConnectionId) -> Option<Announcement> {
        if self.window.is_none() {
            return self.announce(counts, Change::Joined, counts.all != self.told, Some(connection));
        }
        self.believes(counts, connection);
        None
    }

    /// One is told the number that is now, and changes nothing about it: an observer, or one who is here again and was never
    /// told to have left.
    pub(super) fn returned(&mut self, counts: Counts, connection: ConnectionId) {
        self.believes(counts, connection);
    }

    fn believes(&mut self, Counts { all, .. }: Counts, connection: ConnectionId) {
        let Some(window) = &mut self.window else { return };
        window.least = window.least.min(all);
        window.most = window.most.max(all);
        window.joined = match window.joined {
            Joined::Nobody => Joined::One(connection, all),
            Joined::One(..) | Joined::Several => Joined::Several,
        };
    }

    /// The numbers may have changed; `news` where something else is to be told with them.
    pub(super) fn changed(&mut self, counts: Counts, news: bool) -> Option<Announcement> {
        let moved = counts.all != self.told;
        if self.window.is_some() || (!moved && !news) {
            return None;
        }
        self.announce(counts, self.change(counts), moved, None)
    }

    pub(super) fn window_ended(&mut self, counts: Counts, news: bool) -> Option<Announcement> {
        let window = self.window.take()?;
        let moved = window.least != counts.all || window.most != counts.all;
        if !moved && !news {
            return None;
        }
        let except = match window.joined {
            // It may have left since: then whoever is here alone is another.
            Joined::One(connection, told) if told == counts.all && counts.listeners() > 1 => Some(connection),
            _ => None,
        };
        self.announce(counts, self.change(counts), moved, except)
    }

    pub(super) const fn has_window(&self) -> bool {
        self.window.is_some()
    }

    const fn change(&self, counts: Counts) -> Change {
        if counts.all > self.told { Change::Joined } else { Change::Left }
    }

    fn announce(
        &mut self,
        counts: Counts,
        change: Change,
        moved: bool,
        except: Option<ConnectionId>,
    ) -> Option<Announcement> {
        self.told = counts.all;
        if counts.listeners() == 0 || (counts.listeners() == 1 && except.is_some()) {
            // There is nobody to tell, so nothing is to be spared either.
            return None;
        }
        self.window = Some(Box::new(Window { least: counts.all, most: counts.all, joined: Joined::Nobody }));
        Some(Announcement { change, count: counts.all, moved, except })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u64) -> ConnectionId {
        ConnectionId::for_test(n)
    }

    const fn counts(here: usize, elsewhere: usize) -> Counts {
        Counts { here, all: here + elsewhere, observers: 0 }
    }

    const fn announced(change: Change, count: usize, except: Option<ConnectionId>) -> Option<Announcement> {
        Some(Announcement { change, count, moved: true, except })
    }

    #[test]
    fn the_first_change_is_told_at_once_and_the_rest_together() {
        let mut viewers = Viewers::default();
        assert_eq!(viewers.joined(counts(1, 0), id(1)), None, "there is nobody to tell");
        assert_eq!(viewers.joined(counts(2, 0), id(2)), announced(Change::Joined, 2, Some(id(2))));
        for n in 3..=10 {
            assert_eq!(viewers.joined(counts(n, 0), id(n as u64)), None);
        }
        assert_eq!(viewers.window_ended(counts(10, 0), false), announced(Change::Joined, 10, None));
        assert_eq!(viewers.window_ended(counts(10, 0), false), None);
    }

    #[test]
    fn one_that_joined_and_left_again_within_a_window_still_corrects_who_was_told() {
        let mut viewers = Viewers::default();
        let _ = viewers.joined(counts(1, 0), id(1));
        let _ = viewers.joined(counts(2, 0), id(2)); // opens the window
        let _ = viewers.joined(counts(3, 0), id(3)); // is told 3
        let _ = viewers.changed(counts(2, 0), false);
        assert_eq!(viewers.window_ended(counts(2, 0), false), announced(Change::Left, 2, None));
    }

    #[test]
    fn members_of_other_nodes_count_and_news_is_told_with_the_same_number() {
        let mut viewers = Viewers::default();
        assert_eq!(viewers.changed(counts(0, 7), false), None, "nobody is here");
        assert_eq!(viewers.joined(counts(1, 7), id(1)), None, "it is told 8 as it joins");
        assert_eq!(viewers.changed(counts(1, 4), false), announced(Change::Left, 5, None));
        assert_eq!(viewers.changed(counts(1, 4), true), None, "the window is open");
        let news = Announcement { change: Change::Left, count: 5, moved: false, except: None };
        assert_eq!(viewers.window_ended(counts(1, 4), true), Some(news), "who sees no names need not hear of it");
        assert_eq!(viewers.window_ended(counts(1, 4), false), None);
    }

    #[test]
    fn an_observer_is_told_where_nobody_else_is_here() {
        let mut viewers = Viewers::default();
        let watched = |here, elsewhere| Counts { observers: 1, ..counts(here, elsewhere) };
        viewers.returned(watched(0, 0), id(9));
        assert_eq!(viewers.changed(watched(0, 1), false), announced(Change::Joined, 1, None));
        assert_eq!(viewers.window_ended(watched(0, 1), false), None);
        assert_eq!(viewers.joined(watched(1, 1), id(1)), announced(Change::Joined, 2, Some(id(1))));
    }

    #[test]
    fn the_only_one_here_is_told_although_who_joined_last_knew() {
        let mut viewers = Viewers::default();
        let _ = viewers.joined(counts(1, 0), id(1));
        assert!(viewers.changed(counts(1, 1), false).is_some(), "it opens the window");
        let _ = viewers.joined(counts(2, 1), id(2)); // is told 3
        let _ = viewers.changed(counts(1, 2), false); // goes, and one comes elsewhere
        assert_eq!(viewers.window_ended(counts(1, 2), false), announced(Change::Joined, 3, None));
    }

    proptest! {
        /// Members by what each believes, against what `Viewers` says to tell them.
        #[test]
        fn everybody_ends_up_with_the_right_number(steps in prop::collection::vec((0..8u8, 0..4usize), 0..60)) {
            let mut viewers = Viewers::default();
            let mut beliefs: Vec<(ConnectionId, usize)> = Vec::new();
            // Those of the beliefs that are not counted.
            let mut observers: Vec<ConnectionId> = Vec::new();
            let (mut next, mut elsewhere) = (0, 0);
            let counts = |here: usize, elsewhere, observers: &[ConnectionId]| Counts {
                observers: observers.len(),
                ..counts(here - observers.len(), elsewhere)
            };
            let tell = |beliefs: &mut Vec<(ConnectionId, usize)>, told: Option<Announcement>| {
                if let Some(event) = told {
                    for (member, belief) in beliefs.iter_mut().filter(|(m, _)| Some(*m) != event.except) {
                        prop_assert!(*belief != event.count || event.except.is_none(), "{member:?} told twice");
                        prop_assert!(*belief == event.count || event.moved, "{member:?} may not hear of it");
                        *belief = event.count;
                    }
                }
                Ok(())
            };
            for (step, number) in steps {
                match step {
                    0 | 1 => {
                        next += 1;
                        let now = counts(beliefs.len() + 1, elsewhere, &observers);
                        beliefs.push((id(next), now.all));
                        tell(&mut beliefs, viewers.joined(now, id(next)))?;
                    }
                    2 if !beliefs.is_empty() => {
                        let (gone, _) = beliefs.remove(next as usize % beliefs.len());
                        observers.retain(|observer| *observer != gone);
                        let told = viewers.changed(counts(beliefs.len(), elsewhere, &observers), false);
                        tell(&mut beliefs, told)?;
                    }
                    3 => {
                        elsewhere = number;
                        let told = viewers.changed(counts(beliefs.len(), elsewhere, &observers), false);
                        tell(&mut beliefs, told)?;
                    }
                    4 if beliefs.iter().any(|(member, _)| !observers.contains(member)) => {
                        // It left, is still counted, and is back.
                        next += 1;
                        let now = counts(beliefs.len(), elsewhere, &observers);
                        let at = beliefs.iter().position(|(member, _)| !observers.contains(member)).unwrap();
                        beliefs.remove(at);
                        beliefs.push((id(next), now.all));
                        viewers.returned(now, id(next));
                    }
                    5 | 6 => {
                        next += 1;
                        observers.push(id(next));
                        let now = counts(beliefs.len() + 1, elsewhere, &observers);
                        beliefs.push((id(next), now.all));
                        viewers.returned(now, id(next));
                    }
                    _ => {
                        let told = viewers.window_ended(counts(beliefs.len(), elsewhere, &observers), false);
                        tell(&mut beliefs, told)?;
                    }
                }
            }
            let now = counts(beliefs.len(), elsewhere, &observers);
            let told = viewers.window_ended(now, false);
            tell(&mut beliefs, told)?;
            prop_assert!(beliefs.iter().all(|(_, belief)| *belief == now.all), "{:?}", beliefs);
        }
    }
}
