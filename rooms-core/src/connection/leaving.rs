//! How a connection gets out of its rooms.

use std::sync::Arc;

use futures::future::join_all;

use super::{Connection, places::Place};
use crate::{context::Shared, room_key::RoomKey};

impl Connection {
    /// Leaves a room; `false` where it was not in it.
    ///
    /// What was published before may still arrive after it: it was on its way on another thread.
    pub fn leave(&mut self, key: &RoomKey) -> bool {
        self.leave_in(key, Leave::Member)
    }

    /// [`leave`](Self::leave), of one who is put out: not shown for the `leave_grace` of the kind.
    pub(crate) fn leave_in(&mut self, key: &RoomKey, how: Leave) -> bool {
        let Some(place) = self.rooms.remove(key) else { return false };
        if self.rare().is_some() {
            self.rare_mut().beside.forget(key);
        }
        self.is_not_unasked(key);
        self.left(vec![Entered::new(&self.shared, place).leaving(how)]);
        true
    }

    pub(crate) fn leave_all(&mut self) {
        let all = std::mem::take(&mut self.rooms).into_vec();
        let how = if self.recipient.is_removed() { Leave::Removed } else { Leave::Member };
        let all: Vec<_> = all.into_iter().map(|place| Entered::new(&self.shared, place).leaving(how)).collect();
        self.left(all);
    }

    /// Gives places up, and then runs the hooks about it in one task.
    fn left(&mut self, places: Vec<Entered>) {
        let within = self.shared.limits.hook_timeout;
        let hook = |Place { room, slot }: &Place| {
            room.kind.left(|| self.member_of_sort(&room.key, room.rights(*slot).sort), within)
        };
        let left = || places.iter().filter_map(|entered| entered.place.as_ref());
        let hooks: Vec<_> = left().filter_map(hook).collect();
        let first = left().next().map(|place| place.room.key.clone());
        for Place { room, .. } in left() {
            room.kind.metrics.viewers.add(-1);
            room.kind.metrics.leaves.add(1);
        }
        drop(places);
        if hooks.is_empty() {
            return;
        }
        // Several at once are left at the end, and then nobody comes after.
        let running = first.map(|room| self.seldom.get_or_insert_default().leaves.begin(room));
        self.shared.registry.hooks.spawn(self.shared.runtime.handle(), async move {
            join_all(hooks).await;
            drop(running);
        });
    }
}

/// How a member leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// As it likes: it may be back in a moment.
    Member,
    /// It is put out: nobody waits for it to come back.
    Removed,
}

/// A place in a room, joined or joining. Dropping it leaves, unless somebody else keeps the place.
pub(super) struct Entered {
    shared: Arc<Shared>,
    pub(super) place: Option<Place>,
    how: Leave,
}

impl Entered {
    pub(super) fn new(shared: &Arc<Shared>, place: Place) -> Self {
        Self { shared: Arc::clone(shared), place: Some(place), how: Leave::Member }
    }

    fn leaving(mut self, how: Leave) -> Self {
        self.how = how;
        self
    }

    /// The place, for a connection that leaves it by itself.
    pub(super) fn kept(mut self) -> Option<Place> {
        self.place.take()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(Place { room, slot }) = self.place.take() {
            let effects = match self.how {
                Leave::Member => room.leave(slot),
                Leave::Removed => room.remove(slot),
            };
            self.shared.registry.act(&room, effects);
        }
    }
}
