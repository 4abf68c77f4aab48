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
            Topic::Control(room) => format!("{nodes}ctl:{room}"),
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

/// Whether a name is of visible ASCII characters. Redis takes no others in the name of a client; in a channel they would
/// break the lines of whoever looks at it.
pub(crate) fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_on_the_channel_that_foreign_publishers_know() {
        let names = Names::default();
        let room = "post:42".parse::<rooms_core::RoomKey>().unwrap();
        assert_eq!(names.channel(&Topic::Room(room.clone())).as_deref(), Some("ws:post:42"));
        assert_eq!(names.channel(&Topic::Control(room)).as_deref(), Some("rooms-ctl:post:42"));
        assert_eq!(names.channel(&Topic::Nodes).as_deref(), Some("rooms-nodes"));
        assert_eq!(&*names.probe("17", 2, 4), "rooms-probe:17:2:4");
    }

    #[test]
    fn prefixes_that_let_a_room_speak_for_a_node_are_told_apart() {
        let apart = |rooms: &str, nodes: &str| Names { rooms: rooms.to_owned(), nodes: nodes.to_owned() }.are_apart();
        assert!(apart("ws:", "rooms-") && apart("blog:ws:", "blog:rooms-"));
        assert!(!apart("", "rooms-") && !apart("rooms-", "rooms-") && !apart("ws:", "ws:ctl:") && !apart("ws:", ""));
    }
}
