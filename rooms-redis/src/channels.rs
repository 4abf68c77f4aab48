//! Which channel a topic has.

use std::sync::Arc;

use rooms_core::bus::Topic;

use crate::routes::LinkId;

/// The name of a channel in Redis.
pub(crate) type Channel = Arc<str>;

/// How channels are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// What the channel of a room begins with; foreign publishers know it.
    pub(crate) rooms: String,
    /// What all other channels begin with.
    pub(crate) nodes: String,
}

impl Default for Names {
    fn default() -> Self {
        Self { rooms: "ws:".to_owned(), nodes: "rooms-".to_owned() }
    }
}

impl Names {
    pub(crate) fn channel(&self, topic: &Topic) -> Option<Channel> {
        let Self { rooms, nodes } = self;
        let channel = match topic {
            Topic::Room(room) => format!("{rooms}{room}"),
            // A dead master of a cluster holds up the joins of its rooms, and of no others.
            Topic::Control(room) => in_slot_of(&format!("{nodes}ctl:"), &format!("{rooms}{room}")),
            Topic::Nodes => format!("{nodes}nodes"),
            Topic::Node(node) => format!("{nodes}node:{node}"),
            _ => return None,
        };
        Some(channel.into())
    }

    /// A channel on which one bus hears itself. In a cluster the number makes for the right slot.
    pub(crate) fn probe(&self, id: &str, link: LinkId, number: u32) -> Channel {
        format!("{}probe:{id}:{link}:{number}", self.nodes).into()
    }

    /// The prefix, if there is one, that `CLIENT LIST`, ACLs and logs can't show as it is.
    pub(crate) fn unfit(&self) -> Option<&str> {
        [&*self.rooms, &*self.nodes].into_iter().find(|prefix| !is_plain(prefix))
    }

    /// Whether no room can have the channel of anything else, whatever its key: a kind may be named `rooms-ctl`.
    pub(crate) fn are_apart(&self) -> bool {
        !self.rooms.starts_with(&self.nodes) && !self.nodes.starts_with(&self.rooms)
    }
}

/// A name that is in the slot of a channel: where that has no hash tag of its own, it is the hash tag.
pub(crate) fn in_slot_of(prefix: &str, channel: &str) -> String {
    let tagged = channel.split_once('{').is_some_and(|(_, rest)| rest.find('}').is_some_and(|end| end > 0));
    let [open, close] = if tagged { ["", ""] } else { ["{", "}"] };
    format!("{prefix}{open}{channel}{close}")
}

/// Whether a name is of visible ASCII characters. Redis takes no others in the name of a client; in a channel they would
/// break the lines of whoever looks at it.
pub(crate) fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::slot;

    #[test]
    fn a_room_is_on_the_channel_that_foreign_publishers_know() {
        let names = Names::default();
        let room = "post:42".parse::<rooms_core::RoomKey>().unwrap();
        assert_eq!(names.channel(&Topic::Room(room.clone())).as_deref(), Some("ws:post:42"));
        assert_eq!(names.channel(&Topic::Control(room)).as_deref(), Some("rooms-ctl:{ws:post:42}"));
        assert_eq!(names.channel(&Topic::Nodes).as_deref(), Some("rooms-nodes"));
        assert_eq!(&*names.probe("17", 2, 4), "rooms-probe:17:2:4");
    }

    #[test]
    fn both_channels_of_a_room_are_in_one_slot_so_that_a_dead_master_holds_up_its_own_rooms_alone() {
        for rooms in ["ws:", "{shop}ws:", "shop{:ws:"] {
            let names = Names { rooms: rooms.to_owned(), ..Names::default() };
            for number in 0..100 {
                let room = format!("post:{number}").parse::<rooms_core::RoomKey>().unwrap();
                let slot = |topic| slot(&names.channel(&topic).unwrap());
                assert_eq!(slot(Topic::Control(room.clone())), slot(Topic::Room(room)), "{rooms} {number}");
            }
        }
    }

    #[test]
    fn prefixes_that_let_a_room_speak_for_a_node_are_told_apart() {
        let apart = |rooms: &str, nodes: &str| Names { rooms: rooms.to_owned(), nodes: nodes.to_owned() }.are_apart();
        assert!(apart("ws:", "rooms-") && apart("blog:ws:", "blog:rooms-"));
        assert!(!apart("", "rooms-") && !apart("rooms-", "rooms-") && !apart("ws:", "ws:ctl:") && !apart("ws:", ""));
    }
}
