//! The places that a connection has in rooms.

use std::sync::Arc;

use crate::{room::Room, room_key::RoomKey};

/// A member's place, which somebody has to leave.
pub(super) struct Place {
    pub(super) room: Arc<Room>,
    pub(super) slot: usize,
}

/// Most connections are in one room, and need no memory of its own for it.
#[derive(Default)]
pub(super) enum Places {
    #[default]
    None,
    One(Place),
    Many(Vec<Place>),
}

impl Places {
    pub(super) fn all(&self) -> &[Place] {
        match self {
            Self::None => &[],
            Self::One(place) => std::slice::from_ref(place),
            Self::Many(places) => places,
        }
    }

    pub(super) fn add(&mut self, place: Place) {
        match self {
            Self::None => *self = Self::One(place),
            Self::One(_) => {
                let mut places = std::mem::take(self).into_vec();
                places.push(place);
                *self = Self::Many(places);
            }
            Self::Many(places) => {
                places.reserve_exact(1);
                places.push(place);
            }
        }
    }

    pub(super) fn remove(&mut self, room: &RoomKey) -> Option<Place> {
        let at = self.all().iter().position(|place| place.room.key == *room)?;
        let mut places = std::mem::take(self).into_vec();
        let place = places.swap_remove(at);
        if !places.is_empty() {
            *self = Self::Many(places);
        }
        Some(place)
    }

    pub(super) fn into_vec(self) -> Vec<Place> {
        match self {
            Self::None => Vec::new(),
            Self::One(place) => vec![place],
            Self::Many(places) => places,
        }
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;

    #[test]
    fn they_are_small() {
        assert_eq!(size_of::<Places>(), 24, "every connection has them");
    }
}
