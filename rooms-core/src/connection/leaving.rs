//! How a connection gets out of its rooms.

use std::sync::Arc;

use futures::future::join_all;

use super::{
    Connection,
    places::{Place, Places},
};
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
        self.left([Entered::new(&self.shared, place).leaving(how)]);
        true
    }

    pub(crate) fn leave_all(&mut self) {
        let how = if self.recipient.is_removed() { Leave::Removed } else { Leave::Member };
        match std::mem::take(&mut self.rooms) {
            Places::None => {}
            Places::One(place) => self.left([Entered::new(&self.shared, place).leaving(how)]),
            Places::Many(places) => {
                let entered = places.into_iter().map(|place| Entered::new(&self.shared, place).leaving(how));
                self.left(entered.collect::<Vec<_>>());
            }
        }
    }

    /// Gives places up, and then runs the hooks about it in one task.
    fn left(&mut self, places: impl IntoIterator<Item = Entered>) {
        let within = self.shared.limits.hook_timeout;
        // The first of the rooms with a hook: several at once are left at the end, and then nobody comes after.
        let (mut first, mut hooks) = (None, Vec::new());
        for entered in places {
            let Some(Place { room, slot }) = &entered.place else { continue };
            let member = || self.member_of_sort(&room.key, room.rights(*slot).sort);
            if let Some(hook) = room.kind.left(member, within) {
                first.get_or_insert_with(|| room.key.clone());
                hooks.push(hook);
            }
            room.kind.metrics.viewers.add(-1);
            room.kind.metrics.leaves.add(1);
        }
        let Some(first) = first else { return };
        let running = self.seldom.get_or_insert_default().leaves.begin(first);
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
