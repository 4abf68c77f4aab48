//! What nodes say to each other, as JSON in one envelope with a version.
//!
//! What another version says, and what is no sense at all, is for the receiver to count and to drop: a fleet of mixed
//! releases goes on, each counting those that it understands.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::{Value, value::RawValue};

use super::{Digest, Kinds};
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

/// A message, with who it is from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    #[serde(rename = "v")]
    version: u32,
    pub(crate) node: NodeId,
    pub(crate) say: Say,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Say {
    /// A node begins: the others beat soon.
    Hello {},
    Beat {
        number: u64,
        /// For each other node, the digest of the sender's rows in the rooms that they share.
        /// None is zero.
        digests: BTreeMap<NodeId, Digest>,
        /// The sender's application, where it has rooms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kinds: Option<Kinds>,
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
        let gone = self.users.iter().flat_map(|users| &users.gone).map(|name| name.0.len() + AROUND);
        let info = |user: &User| user.info.as_ref().map_or(0, |info| info.0.len());
        let size = |user: &User| user.user.0.len() + info(user) + AROUND;
        self.room.as_str().len() + 2 * AROUND + users.map(size).chain(gone).sum::<usize>()
    }
}

/// The place for rows in one answer. What is not for them is for the names of 512 rooms that are left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    bytes: usize,
    taken: bool,
}

impl Default for Space {
    fn default() -> Self {
        Self { bytes: MAX_SAID - 512 * 256, taken: false }
    }
}

impl Space {
    /// So many bytes, for the first row too.
    pub(crate) const fn strictly(bytes: usize) -> Self {
        Self { bytes, taken: true }
    }

    /// Whether a row fits; then its place is taken. The first one always does: it has at most `Limits::max_named_users` users.
    pub(crate) fn takes(&mut self, row: &Row) -> bool {
        let fits = row.size() <= self.bytes || !self.taken;
        if fits {
            (self.bytes, self.taken) = (self.bytes.saturating_sub(row.size()), true);
        }
        fits
    }
}

/// The users of a row, in rooms of a kind that names them.
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

pub(super) fn encode(node: NodeId, say: Say) -> Vec<u8> {
    let said = Said { version: VERSION, node, say };
    // Strings, numbers and JSON that was checked: it always encodes.
    serde_json::to_vec(&said).unwrap_or_default()
}

pub(super) fn decode(payload: &[u8]) -> Result<Said, WireFault> {
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
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        limits::{Limits, MOST_NODES},
        nodes::signature::NodeKeys,
        registry::asks::ROOMS,
    };

    fn row() -> Row {
        let user = User {
            user: Name("5".into()),
            connections: 2,
            since: 7,
            info: Info::new(&json!({"name": "Ada", "tags": [1, 2]})).ok(),
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
        let said = decode(&encode(node, Say::Beat { number: 1, digests: digests.clone(), kinds: None })).unwrap();
        assert!(matches!(said.say, Say::Beat { number: 1, digests: same, kinds: None } if same == digests));
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
    fn a_field_that_a_later_release_adds_is_no_fault_and_one_that_an_older_has_not_is_absent() {
        for (beat, kinds) in [("", None), (r#","kinds":7,"more":[1]"#, Some(7))] {
            let text = format!(r#"{{"v":1,"node":"1","say":{{"beat":{{"number":1,"digests":{{}}{beat}}}}},"mac":""}}"#);
            let say = Say::Beat { number: 1, digests: BTreeMap::new(), kinds };
            assert_eq!(decode(text.as_bytes()).unwrap().say, say);
        }
        assert_eq!(decode(br#"{"v":1,"node":"1","say":{"hello":{"more":1}}}"#).unwrap().say, Say::Hello {});
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
            info: Info::new(&json!("\"".repeat(MAX_INFO / 2 - 1))).ok(),
        };
        assert_eq!(longest.info.as_ref().unwrap().as_str().len(), MAX_INFO);
        users.here.extend(vec![longest; 1000]);
        let size = encode(NodeId::random(), Say::Row(row.clone())).len();
        assert!(size <= row.size() && row.size() <= MAX_SAID, "{size} {}", row.size());
    }

    #[test]
    fn what_is_said_of_a_member_is_bounded_where_it_is_made() {
        let deep = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(Info::new(&deep(MAX_INFO_DEPTH)).is_ok());
        assert_eq!(Info::new(&deep(MAX_INFO_DEPTH + 1)), Err(InfoFault::TooDeep));
        assert_eq!(Info::new(&json!({"a": [deep(MAX_INFO_DEPTH)]})), Err(InfoFault::TooDeep));
        assert!(Info::new(&json!("x".repeat(MAX_INFO - 2))).is_ok());
        assert_eq!(Info::new(&json!("x".repeat(MAX_INFO - 1))), Err(InfoFault::TooLong));
    }

    /// Numbers, mostly at their bounds.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(u64::MAX), any::<u64>()]
    }

    fn short_number() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0), Just(u32::MAX), any::<u32>()]
    }

    fn id() -> impl Strategy<Value = String> {
        prop_oneof![Just("~".repeat(200)), Just("0".to_owned()), "[A-Za-z0-9_.~@|+=/:-]{1,200}"]
    }

    fn room() -> impl Strategy<Value = RoomKey> {
        let kind = prop_oneof![Just("k".repeat(32)), "[a-z][a-z0-9_-]{0,31}"];
        (kind, id()).prop_map(|(kind, id)| RoomKey::new(&kind, id).unwrap())
    }

    /// Whatever an application may say of a member, and what is left of it.
    fn info() -> impl Strategy<Value = Option<Info>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(20, 40, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        });
        let deepest = (0..MAX_INFO_DEPTH).fold(json!(""), |inner, _| json!({"[": inner}));
        let longest = prop_oneof![Just("\"".repeat(255)), Just("\u{1}".repeat(85)), Just("\u{10ffff}".repeat(127))];
        prop_oneof![value, longest.prop_map(Value::from), Just(deepest)].prop_map(|value| Info::new(&value).ok())
    }

    fn user() -> impl Strategy<Value = User> {
        (id(), short_number(), number(), info()).prop_map(|(user, connections, since, info)| User {
            user: Name(user.into()),
            connections,
            since,
            info,
        })
    }

    /// As many as there may be, mostly: few that differ, again and again.
    fn up_to<T: Clone + fmt::Debug>(most: usize, one: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
        let many = prop_oneof![Just(0), Just(most), 0..=most];
        (prop::collection::vec(one, 1..4), many).prop_map(|(few, many)| few.into_iter().cycle().take(many).collect())
    }

    /// The users of a row: `Limits::max_named_users` of them, who are here or gone.
    fn users() -> impl Strategy<Value = Users> {
        let named = Limits::default().max_named_users;
        let gone = up_to(named, id().prop_map(|name| Name(name.into())));
        (prop::option::of(number()), up_to(named, user()), gone, short_number()).prop_map(
            move |(since, here, mut gone, unnamed)| {
                gone.truncate(named - here.len());
                Users { since, here, gone, unnamed }
            },
        )
    }

    fn any_row() -> impl Strategy<Value = Row> {
        (room(), number(), short_number(), prop::option::of(users()))
            .prop_map(|(room, version, connections, users)| Row { room, version, connections, users })
    }

    /// Whatever a node may say.
    fn say() -> impl Strategy<Value = Say> {
        let digests = (up_to(MOST_NODES, number()), number(), prop::option::of(short_number()));
        let digests = digests.prop_map(|(digests, number, kinds)| {
            let node = |at: usize| NodeId::for_test(u64::MAX - at as u64);
            let digests = digests.into_iter().enumerate().map(|(at, it)| (node(at), it)).collect();
            Say::Beat { number, digests, kinds }
        });
        let rows = (prop::collection::vec(any_row(), 1..4), 0..=ROOMS).prop_map(|(few, many)| {
            // As an answer is made: what finds no place in it is left out.
            let mut space = Space::default();
            few.iter().cycle().take(many).take_while(|row| space.takes(row)).cloned().collect()
        });
        let answer = (number(), number(), rows, up_to(ROOMS, room()))
            .prop_map(|(ask, version, rows, left_out)| Say::Answer { ask, version, rows, left_out });
        prop_oneof![
            Just(Say::Hello {}),
            Just(Say::Bye {}),
            digests,
            (number(), up_to(ROOMS, room())).prop_map(|(ask, rooms)| Say::Ask { ask, rooms }),
            answer,
            any_row().prop_map(Say::Row),
        ]
    }

    proptest! {
        // Each is up to a megabyte.
        #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 64, ..ProptestConfig::default() })]

        #[test]
        fn whatever_a_node_may_say_every_node_can_read(say in say()) {
            let node = NodeId::for_test(u64::MAX);
            let text = serde_json::to_string(&say).unwrap();
            let mut keys = NodeKeys::default();
            keys.add(&[1; 32]).unwrap();
            let bytes = keys.sign(encode(node, say));
            prop_assert!(bytes.len() <= MAX_SAID, "{} bytes", bytes.len());
            let said = decode(&bytes).map_err(|fault| TestCaseError::fail(format!("{fault}: {text:.2000}")))?;
            prop_assert_eq!(said.node, node);
            prop_assert_eq!(serde_json::to_string(&said.say).unwrap(), text);
        }
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
