//! What one entry adds to the digest of many.

use crate::room_key::RoomKey;

/// An entry as one number. Digests are combined by exclusive or, so an entry goes in and out in any order.
pub(crate) type Digest = u64;

/// The digest of one entry: FNV-1a over the room's name, then the version, mixed as in SplitMix64. The same on every node
/// and in every release, which is all that is asked of it.
pub(crate) fn digest(room: &RoomKey, version: u64) -> Digest {
    let name = room
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut mixed = name ^ version.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbouring_rooms_and_versions_differ() {
        let rooms = (0..100).map(|id| RoomKey::new("post", id).unwrap());
        let all: HashSet<_> = rooms.flat_map(|room| (0..100).map(move |version| digest(&room, version))).collect();
        assert_eq!(all.len(), 10_000);
    }

    #[test]
    fn it_is_the_same_in_every_release() {
        // Reckoned apart from this code, in Python.
        assert_eq!(digest(&RoomKey::new("post", 42).unwrap(), 7), 7_593_569_255_941_626_304);
    }
}
