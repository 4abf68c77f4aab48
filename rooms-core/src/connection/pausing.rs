//! A connection that goes on being in a room while it is given no messages of it.

use std::sync::Arc;

use serde_json::Value;
use tokio::time::timeout;

use super::{Connection, JoinError, joining::ready, places::Place};
use crate::{
    context::Shared,
    join_options::JoinOptions,
    outbox::Recipient,
    presence::{Listing, Share, entry::Name},
    protocol::{self, Ref, Standing},
    room::{Again, Room},
    room_key::RoomKey,
    runtime::RuntimeEnded,
};

impl Connection {
    /// Whether a join is that of a room in which it is paused, and goes on now.
    pub(crate) fn goes_on(&self, key: &RoomKey, options: &JoinOptions) -> bool {
        !options.paused && self.place(key).is_some_and(|place| place.room.is_paused(place.slot))
    }

    /// What a join comes to of a room that it is in, where it does not go on there.
    pub(crate) fn stands(&mut self, key: &RoomKey, options: &JoinOptions) -> Option<Standing> {
        self.is_asked_for(key, options);
        if options.paused {
            self.pause(key);
        }
        self.standing(key)
    }

    /// Is given no messages of a room from here on, if it is in it. What a flusher has in hand may follow.
    fn pause(&self, key: &RoomKey) {
        if let Some(place) = self.place(key) {
            place.room.pause(place.slot);
        }
    }

    /// A join of a room that it is in.
    pub(super) async fn join_again(&mut self, key: &RoomKey, options: JoinOptions) -> Result<usize, JoinError> {
        if options.paused {
            self.pause(key);
        } else if self.goes_on(key, &options) {
            let replayed = self.begin_resume(key, options, None).await?;
            self.resumed(replayed);
            // Somebody else may be the one who drives it.
            self.recipient.wake();
        }
        Ok(self.place(key).map(|place| place.room.share(Share::viewers)).unwrap_or_default())
    }

    /// Is given everything again, first of all what it missed while it was paused. Gives the bytes of it that the room's history
    /// and state have. The welcome repeats `reference`.
    pub(crate) fn begin_resume(
        &mut self,
        key: &RoomKey,
        options: JoinOptions,
        reference: Option<Arc<Ref>>,
    ) -> impl Future<Output = Result<usize, JoinError>> + Send + use<> {
        let (shared, recipient) = (Arc::clone(&self.shared), Arc::clone(&self.recipient));
        let place = self.place(key).map(|place| (Arc::clone(&place.room), place.slot));
        let sees_members = place.as_ref().is_some_and(|(room, slot)| room.rights(*slot).sees_members);
        let listing = if sees_members { self.listing(key) } else { Listing::Nothing };
        let (who, may_replay) = (Name(self.identity().user().into()), self.may_replay());
        async move {
            let Some((room, slot)) = place else { return Ok(0) };
            let replays = room.has_history() || room.keeps_state();
            if !may_replay && replays {
                return Err(JoinError::Unavailable { room: room.key.clone() });
            }
            if replays {
                ready(&shared, &room, &room.as_resumed(slot, &options)).await?;
            }
            let resume = Resume { place: Place { room, slot }, recipient, options, who, listing, reference };
            resume.carry_out(&shared).await
        }
    }

    /// Notes what it was given.
    pub(crate) fn resumed(&mut self, replayed: usize) {
        if replayed > 0 {
            self.replayed().add(replayed, tokio::time::Instant::now());
        }
    }
}

/// All that is needed to go on.
struct Resume {
    place: Place,
    recipient: Arc<Recipient>,
    options: JoinOptions,
    who: Name,
    listing: Listing,
    reference: Option<Arc<Ref>>,
}

impl Resume {
    async fn carry_out(self, shared: &Shared) -> Result<usize, JoinError> {
        let room = || self.place.room.key.clone();
        match shared.runtime.wait(timeout(shared.limits.subscribe_timeout, self.when_free())).await {
            Ok(Ok(replayed)) => Ok(replayed),
            Ok(Err(_)) => Err(JoinError::Unavailable { room: room() }),
            Err(RuntimeEnded) => Err(JoinError::RuntimeEnded { room: room() }),
        }
    }

    /// Goes on once no flusher has anything for it in hand: as a rule at once, or else at the end of a round.
    async fn when_free(&self) -> usize {
        let Place { room, slot } = &self.place;
        loop {
            let mut round_over = std::pin::pin!(room.round_over());
            round_over.as_mut().enable();
            match self.try_now(room, *slot) {
                Again::Resumed { replayed } => return replayed,
                Again::NotPaused => return 0,
                Again::InHand => round_over.await,
            }
        }
    }

    fn try_now(&self, room: &Arc<Room>, slot: usize) -> Again {
        let welcome = |standing| protocol::room_joined(&room.key, standing, Value::Null, self.reference.as_deref());
        room.resume_paused(slot, &self.recipient, &self.options, (&self.who, self.listing), welcome)
    }
}
