//! Which of several connections a channel takes.

/// The number of a link: a pair of connections to one server. A link that was closed leaves its number to no other.
pub(crate) type LinkId = u64;

/// The slots of a cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// The link of every channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Routes {
    /// There is one link, for all.
    One(LinkId),
    /// By the slot of the channel; empty until the cluster was asked.
    Slots(Vec<Option<LinkId>>),
}

impl Routes {
    pub(crate) fn link(&self, channel: &str) -> Option<LinkId> {
        match self {
            Self::One(link) => Some(*link),
            Self::Slots(slots) => slots.get(usize::from(slot(channel))).copied().flatten(),
        }
    }

    /// Whether every channel has a link.
    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Slots(slots) => slots.len() == usize::from(SLOTS) && slots.iter().all(Option::is_some),
        }
    }
}

/// The slot of a channel: of what is between its first braces, if there is something, and else of all of it. The Redis
/// Cluster specification has both, under "Key distribution model" and "Hash tags".
pub(crate) fn slot(channel: &str) -> u16 {
    let tag = channel.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(channel).as_bytes()) % SLOTS
}

/// CRC16 as XMODEM has it: polynomial 0x1021, beginning with 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!((slot("foo"), slot("ws:{foo}:1"), slot("{}foo"), slot("{foo")), (12182, 12182, 9500, 13308));
    }

    #[test]
    fn a_channel_whose_slot_nobody_serves_has_no_lane() {
        let mut slots = vec![Some(1); usize::from(SLOTS)];
        slots[usize::from(slot("foo"))] = None;
        let routes = Routes::Slots(slots);
        assert_eq!((routes.link("foo"), routes.link("bar"), routes.is_complete()), (None, Some(1), false));
        assert_eq!(Routes::Slots(Vec::new()).link("foo"), None);
        assert_eq!((Routes::One(7).link("foo"), Routes::One(7).is_complete()), (Some(7), true));
    }
}
