//! What nodes say to each other, as JSON in one envelope with a version.
//!
//! What another version says, and what is no sense at all, is for the receiver to count and to drop: a fleet of mixed
//! releases goes on, each counting those that it understands.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::value::RawValue;

use super::Digest;
use crate::{
    json,
    node::NodeId,
    room_key::{RoomKey, check_id},
};

/// The version of what is said here.
const VERSION: u32 = 1;

/// The longest message between nodes, in bytes. 1 MiB: a thousand named users with all that may be said of each.
pub(crate) const MAX_SAID: usize = 1024 * 1024;

/// The longest information about a member, in bytes of JSON.
pub(crate) const MAX_INFO: usize = 512;

/// A message, with who it is from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    #[serde(rename = "v")]
    version: u32,
    pub(crate) node: NodeId,
    pub(crate) say: Say,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Say {
    /// A node begins: the others beat soon.
    Hello {},
    Beat {
        number: u64,
        /// For each other node, the digest of the sender's rows in the rooms that they share.
        digests: BTreeMap<NodeId, Digest>,
    },
    Bye {},
    /// A question for the rows of rooms.
    Ask {
        ask: u64,
        rooms: Vec<RoomKey>,
    },
    /// The rows of those rooms that the sender has members in. It has none in the others, as of `version`.
    Answer {
        ask: u64,
        version: u64,
        rows: Vec<Row>,
        /// Rooms that found no place in this message: ask for them again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left_out: Vec<RoomKey>,
    },
    /// A row that changed.
    Row(Row),
}

/// How many members, and who, a node has in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) room: RoomKey,
    pub(crate) version: u64,
    pub(crate) connections: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) users: Option<Users>,
}

impl Row {
    /// The bytes that it takes on the wire, at most.
    pub(crate) fn size(&self) -> usize {
        /// Names of fields, numbers, quotes.
        const AROUND: usize = 96;

        let users = self.users.iter().flat_map(|users| &users.here);
        let info = |user: &User| user.info.as_ref().map_or(0, |info| info.0.len());
        let size = |user: &User| user.user.0.len() + info(user) + AROUND;
        self.room.as_str().len() + 2 * AROUND + users.map(size).sum::<usize>()
    }
}

/// The users of a row, in rooms of a kind that names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Users {
    /// The version that this changes; without it, these are all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<u64>,
    /// Who is here, or has changed.
    pub(crate) here: Vec<User>,
    /// Who is not here any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) gone: Vec<Name>,
    /// Connections of users that are not named, because there are too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) unnamed: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One user in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) user: Name,
    pub(crate) connections: u32,
    /// When the first of the connections joined, in milliseconds since 1970.
    pub(crate) since: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) info: Option<Info>,
}

/// A user's id, checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) Arc<str>);

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <Cow<'_, str>>::deserialize(deserializer)?;
        check_id(&name).map_err(D::Error::custom)?;
        Ok(Self(name.as_ref().into()))
    }
}

/// What the application says about a member: JSON of at most [`MAX_INFO`] bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Info(Arc<str>);

impl Info {
    /// `None` where it is too long.
    pub(crate) fn new(json: &str) -> Option<Self> {
        (json.len() <= MAX_INFO).then(|| Self(json.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Info").field(&self.0.len()).finish()
    }
}

impl Serialize for Info {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Info {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Self::new(raw.get()).ok_or_else(|| D::Error::custom("too much is said about a member"))
    }
}

/// Why a message between nodes is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireFault {
    #[error("too long")]
    TooLong,
    #[error("not what nodes say")]
    NotUnderstood,
    #[error("another version")]
    OtherVersion,
}

pub(crate) fn encode(node: NodeId, say: Say) -> Bytes {
    let said = Said { version: VERSION, node, say };
    // Strings, numbers and JSON that was checked: it always encodes.
    serde_json::to_vec(&said).unwrap_or_default().into()
}

pub(crate) fn decode(payload: &[u8]) -> Result<Said, WireFault> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }

    if payload.len() > MAX_SAID {
        return Err(WireFault::TooLong);
    }
    let text = std::str::from_utf8(payload).map_err(|_| WireFault::NotUnderstood)?;
    json::check_depth(text.as_bytes()).map_err(|_| WireFault::NotUnderstood)?;
    match serde_json::from_str::<Said>(text) {
        Ok(said) if said.version == VERSION => Ok(said),
        _ => match serde_json::from_str::<Version>(text) {
            Ok(Version { v: VERSION }) | Err(_) => Err(WireFault::NotUnderstood),
            Ok(_) => Err(WireFault::OtherVersion),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let user = User {
            user: Name("5".into()),
            connections: 2,
            since: 7,
            info: Info::new(r#"{"name":"Ada","tags":[1,2]}"#),
        };
        let users = Users { since: Some(3), here: vec![user], gone: vec![Name("6".into())], unnamed: 1 };
        Row { room: RoomKey::new("post", 42).unwrap(), version: 4, connections: 3, users: Some(users) }
    }

    #[test]
    fn what_is_said_is_understood() {
        let node = NodeId::random();
        let said = decode(&encode(node, Say::Row(row()))).unwrap();
        assert_eq!(said.node, node);
        assert!(matches!(said.say, Say::Row(same) if same == row()));
        let digests = BTreeMap::from([(NodeId::random(), u64::MAX)]);
        let said = decode(&encode(node, Say::Beat { number: 1, digests: digests.clone() })).unwrap();
        assert!(matches!(said.say, Say::Beat { number: 1, digests: same } if same == digests));
        for say in [Say::Hello {}, Say::Bye {}] {
            assert!(decode(&encode(node, say)).is_ok());
        }
    }

    #[test]
    fn a_row_is_short() {
        let row = Row { users: None, ..row() };
        let node: NodeId = "0123456789abcdef".parse().unwrap();
        let bytes = encode(node, Say::Row(row));
        let text = r#"{"v":1,"node":"0123456789abcdef","say":{"row":{"room":"post:42","version":4,"connections":3}}}"#;
        assert_eq!(bytes, text.as_bytes());
    }

    #[test]
    fn the_size_of_a_row_is_never_more_than_its_estimate() {
        let mut row = row();
        let users = row.users.as_mut().unwrap();
        users.gone.clear();
        let longest = User {
            user: Name("u".repeat(200).into()),
            connections: u32::MAX,
            since: u64::MAX,
            info: Info::new(&format!("\"{}\"", "\\\"".repeat(MAX_INFO / 2 - 1))),
        };
        assert_eq!(longest.info.as_ref().unwrap().as_str().len(), MAX_INFO);
        users.here.extend(vec![longest; 1000]);
        let size = encode(NodeId::random(), Say::Row(row.clone())).len();
        assert!(size <= row.size() && row.size() <= MAX_SAID, "{size} {}", row.size());
    }

    #[test]
    fn another_version_is_told_from_nonsense() {
        let other = r#"{"v":2,"node":"1","say":{"sing":true}}"#;
        assert_eq!(decode(other.as_bytes()).unwrap_err(), WireFault::OtherVersion);
        let long_info = format!(
            r#"{{"v":1,"node":"1","say":{{"row":{{"room":"post:1","version":1,"connections":1,"users":{{"here":[{{"user":"5","connections":1,"since":0,"info":"{}"}}]}}}}}}}}"#,
            "x".repeat(MAX_INFO)
        );
        let deep = format!(r#"{{"v":1,"node":"1","say":{}"#, "[".repeat(100_000));
        for nonsense in [
            "",
            "{}",
            "\u{1}v1;x",
            "[1]",
            r#"{"v":1}"#,
            r#"{"v":"2"}"#,
            r#"{"v":1,"node":"x","say":{"bye":{}}}"#,
            r#"{"v":1,"node":"1","say":{"row":{"room":"*","version":1,"connections":1}}}"#,
            r#"{"v":1,"node":"1","say":{"row":{"room":"post:1","version":-1,"connections":1}}}"#,
            r#"{"v":1,"node":"1","say":{"row":{"room":"post:1","version":1,"connections":4294967296}}}"#,
            r#"{"v":1,"node":"1","say":{"row":{"room":"post:1","version":1,"connections":1,"users":{"here":[{"user":"a b","connections":1,"since":0}]}}}}"#,
            r#"{"v":1,"node":"1","say":{"sing":true}}"#,
            &long_info,
            &deep,
        ] {
            assert_eq!(decode(nonsense.as_bytes()).unwrap_err(), WireFault::NotUnderstood, "{nonsense:.80}");
        }
        assert_eq!(decode(b"\xff").unwrap_err(), WireFault::NotUnderstood);
        assert_eq!(decode(&vec![b' '; MAX_SAID + 1]).unwrap_err(), WireFault::TooLong);
    }
}
