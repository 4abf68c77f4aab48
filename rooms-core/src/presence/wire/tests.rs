//! The format of node messages.

use std::fmt;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    auth::Revoked,
    limits::{Limits, MOST_NODES},
    node::ConnectionId,
    presence::{
        entry::{Info, InfoFault, MAX_INFO, MAX_INFO_DEPTH, Name, User, Users},
        signature::NodeKeys,
    },
};

fn entry() -> Entry {
    let user = User {
        user: Name("5".into()),
        connections: 2,
        since: 7,
        info: Info::new(&json!({"name": "Ada", "tags": [1, 2]})).ok(),
    };
    let users = Users { since: Some(3), here: vec![user], gone: vec![Name("6".into())], unnamed: 1 };
    Entry { room: RoomKey::new("post", 42).unwrap(), version: 4, connections: 3, observed: false, users: Some(users) }
}

#[test]
fn what_is_encoded_is_decoded() {
    let node = NodeId::random();
    let packet = decode(&encode(node, NodeMessage::Entry(entry()))).unwrap();
    assert_eq!(packet.node, node);
    assert!(matches!(packet.message, NodeMessage::Entry(same) if same == entry()));
    let digests = BTreeMap::from([(NodeId::random(), u64::MAX)]);
    let packet =
        decode(&encode(node, NodeMessage::Heartbeat { number: 1, digests: digests.clone(), kinds: None, revoked: 0 }))
            .unwrap();
    assert!(
        matches!(packet.message, NodeMessage::Heartbeat { number: 1, digests: same, kinds: None, revoked: 0 } if same == digests)
    );
    for message in [NodeMessage::Hello {}, NodeMessage::Goodbye {}] {
        assert!(decode(&encode(node, message)).is_ok());
    }
}

#[test]
fn an_entry_is_short() {
    let entry = Entry { users: None, ..entry() };
    let node: NodeId = "0123456789abcdef".parse().unwrap();
    let bytes = encode(node, NodeMessage::Entry(entry));
    let text =
        r#"{"v":1,"node":"0123456789abcdef","message":{"entry":{"room":"post:42","version":4,"connections":3}}}"#;
    assert_eq!(bytes, text.as_bytes());
}

#[test]
fn a_field_that_a_later_release_adds_is_no_fault_and_one_that_an_older_has_not_is_absent() {
    for (beat, kinds) in [("", None), (r#","kinds":7,"more":[1]"#, Some(7))] {
        let text =
            format!(r#"{{"v":1,"node":"1","message":{{"heartbeat":{{"number":1,"digests":{{}}{beat}}}}},"mac":""}}"#);
        let message = NodeMessage::Heartbeat { number: 1, digests: BTreeMap::new(), kinds, revoked: 0 };
        assert_eq!(decode(text.as_bytes()).unwrap().message, message);
    }
    assert_eq!(decode(br#"{"v":1,"node":"1","message":{"hello":{"more":1}}}"#).unwrap().message, NodeMessage::Hello {});
}

#[test]
fn the_size_of_an_entry_is_never_more_than_its_estimate() {
    let mut entry = entry();
    let users = entry.users.as_mut().unwrap();
    users.gone.clear();
    let longest = User {
        user: Name("u".repeat(200).into()),
        connections: u32::MAX,
        since: u64::MAX,
        info: Info::new(&json!("\"".repeat(MAX_INFO / 2 - 1))).ok(),
    };
    assert_eq!(longest.info.as_ref().unwrap().as_str().len(), MAX_INFO);
    users.here.extend(vec![longest; 1000]);
    let size = encode(NodeId::random(), NodeMessage::Entry(entry.clone())).len();
    assert!(size <= entry.size() && entry.size() <= MAX_PACKET, "{size} {}", entry.size());
}

#[test]
fn what_is_told_of_a_member_is_bounded_where_it_is_made() {
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

/// The users of an entry: `Limits::max_named_users` of them, who are here or gone.
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

fn any_entry() -> impl Strategy<Value = Entry> {
    (room(), number(), short_number(), any::<bool>(), prop::option::of(users()))
        .prop_map(|(room, version, connections, observed, users)| Entry { room, version, connections, observed, users })
}

/// A revocation with the longest name, in the longest way to write it.
fn ending() -> impl Strategy<Value = Ending> {
    let jti =
        prop_oneof![Just("\"".repeat(256)), Just("\u{10ffff}".repeat(64))].prop_map(|jti| Revoked::Jti(jti.into()));
    let before = (id(), number()).prop_map(|(user, time)| Revoked::Before(Some(user.into()), time));
    (prop_oneof![jti, before], number())
}

/// Whatever a node may send.
fn message() -> impl Strategy<Value = NodeMessage> {
    let digests = (up_to(MOST_NODES, number()), number(), prop::option::of(short_number()));
    let digests = digests.prop_map(|(digests, number, kinds)| {
        let node = |at: usize| NodeId::for_test(u64::MAX - at as u64);
        let digests = digests.into_iter().enumerate().map(|(at, it)| (node(at), it)).collect();
        NodeMessage::Heartbeat { number, digests, kinds, revoked: number }
    });
    let entries = (prop::collection::vec(any_entry(), 1..4), 0..=ROOMS).prop_map(|(few, many)| {
        // As a reply is made: what finds no place in it is left out.
        let mut space = Space::default();
        few.iter().cycle().take(many).take_while(|entry| space.takes(entry)).cloned().collect()
    });
    let reply = (number(), number(), entries, up_to(ROOMS, room()))
        .prop_map(|(id, version, entries, left_out)| NodeMessage::Reply { id, version, entries, left_out });
    let revocations = (up_to(REVOCATIONS, ending()), prop::option::of(short_number()))
        .prop_map(|(entries, parts_left)| NodeMessage::Revocations { entries, parts_left });
    let payload = prop_oneof![Just("\"".repeat(MAX_PAYLOAD - 1)), Just(String::new())];
    let order = (number(), number(), payload).prop_map(|(id, at, quotes)| {
        let payload = quotes.into();
        NodeMessage::Order { id, at, order: NodeOrder::Send { to: ConnectionId::for_test(u64::MAX), payload } }
    });
    prop_oneof![
        revocations,
        order,
        number().prop_map(|digest| NodeMessage::RevocationQuery { digest }),
        Just(NodeMessage::Hello {}),
        Just(NodeMessage::Goodbye {}),
        digests,
        (number(), up_to(ROOMS, room())).prop_map(|(id, rooms)| NodeMessage::Query { id, rooms }),
        reply,
        any_entry().prop_map(NodeMessage::Entry),
    ]
}

proptest! {
    // Each is up to a megabyte.
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_node_may_send_every_node_can_decode(message in message()) {
        let node = NodeId::for_test(u64::MAX);
        let text = serde_json::to_string(&message).unwrap();
        let mut keys = NodeKeys::default();
        keys.add(&[1; 32]).unwrap();
        let bytes = keys.sign(encode(node, message));
        prop_assert!(bytes.len() <= MAX_PACKET, "{} bytes", bytes.len());
        let packet = decode(&bytes).map_err(|fault| TestCaseError::fail(format!("{fault}: {text:.2000}")))?;
        prop_assert_eq!(packet.node, node);
        prop_assert_eq!(serde_json::to_string(&packet.message).unwrap(), text);
    }
}

#[test]
fn another_version_is_told_from_nonsense() {
    let other = r#"{"v":2,"node":"1","message":{"sing":true}}"#;
    assert_eq!(decode(other.as_bytes()).unwrap_err(), WireError::OtherVersion);
    let long_info = format!(
        r#"{{"v":1,"node":"1","message":{{"entry":{{"room":"post:1","version":1,"connections":1,"users":{{"here":[{{"user":"5","connections":1,"since":0,"info":"{}"}}]}}}}}}}}"#,
        "x".repeat(MAX_INFO)
    );
    let deep = format!(r#"{{"v":1,"node":"1","message":{}"#, "[".repeat(100_000));
    for nonsense in [
        "",
        "{}",
        "\u{1}v1;x",
        "[1]",
        r#"{"v":1}"#,
        r#"{"v":"2"}"#,
        r#"{"v":1,"node":"x","message":{"goodbye":{}}}"#,
        r#"{"v":1,"node":"1","message":{"entry":{"room":"*","version":1,"connections":1}}}"#,
        r#"{"v":1,"node":"1","message":{"entry":{"room":"post:1","version":-1,"connections":1}}}"#,
        r#"{"v":1,"node":"1","message":{"entry":{"room":"post:1","version":1,"connections":4294967296}}}"#,
        r#"{"v":1,"node":"1","message":{"entry":{"room":"post:1","version":1,"connections":1,"users":{"here":[{"user":"a b","connections":1,"since":0}]}}}}"#,
        r#"{"v":1,"node":"1","message":{"sing":true}}"#,
        &long_info,
        &deep,
    ] {
        assert_eq!(decode(nonsense.as_bytes()).unwrap_err(), WireError::Malformed, "{nonsense:.80}");
    }
    assert_eq!(decode(b"\xff").unwrap_err(), WireError::Malformed);
    assert_eq!(decode(&vec![b' '; MAX_PACKET + 1]).unwrap_err(), WireError::TooLong);
}
