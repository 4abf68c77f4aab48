//! The last state of a room: to the bus, and from it to the members on this node.

use bytes::Bytes;

use super::Shared;
use crate::{
    bus::{BusError, BusFault, KeptState, NewState, Outcome, Position, StatePatch, States, Topic},
    json, merge_patch,
    receipt::BroadcastError,
    room::Revision,
    room_key::RoomKey,
    runtime::RuntimeEnded,
};

/// In place of which state another one is set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum After {
    /// Of the one that there is when the call is made.
    Newest,
    /// Of the one with this revision; `None` where there is to be none.
    Revision(Option<Position>),
}

impl Shared {
    /// Sets the state of a room, and gives its revision.
    pub(crate) async fn broadcast_state(
        &self,
        room: &RoomKey,
        state: Bytes,
        after: After,
    ) -> Result<Position, BroadcastError> {
        let limit = self.limits.max_broadcast_bytes;
        if state.len() > limit {
            return Err(BroadcastError::TooBig { room: room.clone(), length: state.len(), limit });
        }
        if json::check_depth(&state).is_err() {
            return Err(BroadcastError::TooDeep { room: room.clone() });
        }
        let space = async {
            match self.registry.find(room) {
                Some(local) => Some(local.reserve(state.len()).await),
                None => None,
            }
        };
        // Held until it is through the bus, and so in the log.
        let space = self.runtime.wait(space).await;
        let _space = space.map_err(|RuntimeEnded| BroadcastError::RuntimeEnded { room: room.clone() })?;
        let current = self.state(room).await?;
        let revision = current.as_ref().map(|current| current.revision);
        if let After::Revision(after) = after
            && after != revision
        {
            return Err(BroadcastError::Conflict { room: room.clone(), current: revision });
        }
        let mut new = NewState::new(revision, state, self.states_of(room)?.1);
        if let Some(current) = current {
            if current.state == new.state {
                return Ok(current.revision);
            }
            let patch = merge_patch::diff(&current.state, &new.state);
            new.patch = patch.filter(|patch| patch.len() < new.state.len()).map(Bytes::from);
        }
        let (states, _) = self.states_of(room)?;
        match self.ask_bus(room, states.set_state(&Topic::Room(room.clone()), new)).await? {
            Outcome::Set(revision) => Ok(revision),
            Outcome::Conflict(current) => Err(BroadcastError::Conflict { room: room.clone(), current }),
        }
    }

    /// The state of a room, as the bus has it now.
    pub(crate) async fn state(&self, room: &RoomKey) -> Result<Option<KeptState>, BroadcastError> {
        let (states, keep) = self.states_of(room)?;
        self.ask_bus(room, states.state(&Topic::Room(room.clone()), keep)).await
    }

    /// Gives a state that was set to the members of a room on this node.
    pub(crate) fn deliver_state(&self, room: &RoomKey, state: &KeptState, patch: Option<&StatePatch>) {
        let Some(local) = self.registry.find(room).filter(|local| local.keeps_state()) else { return };
        match Revision::read(room, state, patch, self.limits.max_broadcast_bytes) {
            Ok(revision) => {
                let (kept, effects) = local.arrive_state(revision);
                self.registry.act(&local, effects);
                if !kept {
                    self.note_full(room);
                }
            }
            Err(fault) => {
                self.note_bad(room, state.state.len(), &fault);
                if fault.was_meant() {
                    self.registry.act(&local, local.left_out());
                }
            }
        }
    }

    fn states_of(&self, room: &RoomKey) -> Result<(&dyn States, std::time::Duration), BroadcastError> {
        let keep = self.kinds.get(room.kind()).and_then(|kind| kind.state);
        self.bus.states().zip(keep).ok_or_else(|| BroadcastError::NoState { room: room.clone() })
    }

    /// Waits for what the bus was asked for, of a room.
    async fn ask_bus<T>(
        &self,
        room: &RoomKey,
        call: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BroadcastError> {
        let source = match self.presence.bus().answer(call).await {
            Ok(answer) => return Ok(answer),
            Err(BusFault::Refused(error)) => error,
            Err(fault) => BusError::Unknown(Box::new(fault)),
        };
        Err(BroadcastError::Bus { room: room.clone(), source })
    }
}
