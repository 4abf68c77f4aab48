//! What one node has in one room, as it tells the others.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::{Value, value::RawValue};

use crate::room_key::{RoomKey, check_id};

/// How many members, and who, a node has in a room.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) room: RoomKey,
    pub(crate) version: u64,
    pub(crate) connections: u32,
    /// Nobody is counted there, and somebody observes the room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) observed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) users: Option<Users>,
}

impl Entry {
    /// Whether somebody is there, counted or not.
    pub(crate) const fn is_there(&self) -> bool {
        self.connections > 0 || self.observed
    }

    /// The bytes that it takes on the wire, at most.
    pub(crate) fn size(&self) -> usize {
        /// Names of fields, numbers, quotes.
        const AROUND: usize = 96;

        let users = self.users.iter().flat_map(|users| &users.here);
        let gone = self.users.iter().flat_map(|users| &users.gone).map(|name| name.0.len() + AROUND);
        let info = |user: &User| user.info.as_ref().map_or(0, |info| info.0.len());
        let size = |user: &User| user.user.0.len() + info(user) + AROUND;
        self.room.as_str().len() + 2 * AROUND + users.map(size).chain(gone).sum::<usize>()
    }
}

/// The users of an entry, in rooms of a kind that names them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Info(Arc<str>);

impl Info {
    /// What this node says about a member: bounded here, so that every node can read each message with it.
    pub(crate) fn new(value: &Value) -> Result<Self, InfoFault> {
        if !is_within(value, MAX_INFO_DEPTH) {
            return Err(InfoFault::TooDeep);
        }
        Self::read(&value.to_string())
    }

    /// What another node says. How deep it may be is bounded with the whole message.
    fn read(json: &str) -> Result<Self, InfoFault> {
        if json.len() > MAX_INFO { Err(InfoFault::TooLong) } else { Ok(Self(json.into())) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a value has at most so many arrays and objects inside each other. Looks no deeper than that.
fn is_within(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) if depth == 0 => false,
        Value::Array(values) => values.iter().all(|value| is_within(value, depth - 1)),
        Value::Object(fields) => fields.values().all(|value| is_within(value, depth - 1)),
        _ => true,
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
        Self::read(raw.get()).map_err(D::Error::custom)
    }
}

/// The longest information about a member, in bytes of JSON.
pub(crate) const MAX_INFO: usize = 512;

/// The deepest information about a member. 16: past what a page shows of a user. What stands around it in a message is 8
/// deep, so it stays far below the 64 past which every node refuses the whole message: 62 nested arrays in one member's
/// information once kept the counts of a whole room wrong on all other nodes.
pub(crate) const MAX_INFO_DEPTH: usize = 16;

/// Why something is not told about a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InfoFault {
    #[error("it has more than {MAX_INFO} bytes of JSON")]
    TooLong,
    #[error("it is nested more than {MAX_INFO_DEPTH} deep")]
    TooDeep,
}
