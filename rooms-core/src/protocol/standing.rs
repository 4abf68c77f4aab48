//! The first event of a member.

use serde_json::{Map, Value};

use super::{Ref, event::Event};
use crate::{bus::Position, message::Message, presence::MemberList, room_key::RoomKey};

/// What one who joins is told of the room.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) viewers: usize,
    pub(crate) list: Option<MemberList>,
    /// It is in the room and not counted.
    pub(crate) observer: bool,
    /// It is given no messages for now.
    pub(crate) paused: bool,
    /// Everything that was published after it follows.
    pub(crate) position: Option<Position>,
    /// Whether it is given what it missed, where it asked for that.
    pub(crate) recovered: Option<bool>,
}

/// The first event of a member. The snapshot's fields stand beside ours; ours win.
pub(crate) fn room_joined(room: &RoomKey, standing: Standing, snapshot: Value, reference: Option<&Ref>) -> Message {
    let Standing { viewers, list, observer, paused, position, recovered } = standing;
    if let (Value::Null, None, false, false, None, None) = (&snapshot, &list, observer, paused, position, recovered) {
        return Event::PlainRoomJoined { room, viewers, reference }.message();
    }
    let mut snapshot = match snapshot {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        other => Map::from_iter([("snapshot".to_owned(), other)]),
    };
    let named: &[_] = if list.is_some() { &["users", "members"] } else { &[] };
    // Those of a history only where there is one: an application may have used these names before.
    let place: &[_] = if position.is_some() || recovered.is_some() { &["position", "recovered"] } else { &[] };
    let sort: &[_] = if observer { &["observer"] } else { &[] };
    let pause: &[_] = if paused { &["paused"] } else { &[] };
    for ours in ["type", "room", "viewers", "ref"].iter().chain(named).chain(place).chain(sort).chain(pause) {
        snapshot.remove(*ours);
    }
    Event::RoomJoined { room, viewers, position, recovered, observer, paused, list, snapshot, reference }.message()
}
