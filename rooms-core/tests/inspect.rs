//! What whoever operates the nodes sees: reports, what happened lately, and why a user hears nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/hand.rs"]
mod hand;
#[path = "support/rig.rs"]
mod rig;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, channel::mpsc, future::pending, sink::unfold};
use http::{HeaderMap, HeaderValue, Method};
use rooms_core::{
    Attempt, AuthError, Close, ConnectionId, Endpoint, Identity, Kind, LocalBus, Message, Overflow, RoomManager,
    RoomManagerBuilder,
    adapter::Refusal,
    bus::{BusEvent, Lost},
    reports::{Explanation, IncidentKind, LinkReport, SubscriptionReport, Weight},
    testing::fleet::Fleet,
    ws::Incoming,
};
use serde_json::json;
use tokio::time::sleep;

use hand::Hand;
use rig::{Client, Rooms, Sink, idle, key, who};

fn rooms(change: impl FnOnce(RoomManagerBuilder<Sink>) -> RoomManagerBuilder<Sink>) -> Rooms {
    change(RoomManager::build_for().kind("post", Kind::authenticated())).build().unwrap()
}

fn fleet(nodes: usize, change: impl Fn(RoomManagerBuilder<Sink>) -> RoomManagerBuilder<Sink>) -> Fleet<Sink> {
    Fleet::new(nodes, |_, node| change(node.kind("post", Kind::authenticated()).kind("shut", Kind::new())))
}

/// The sentences of this weight, each with the number of the node that knows it.
fn sentences(of: &Explanation, weight: Weight) -> Vec<&str> {
    of.findings.iter().filter(|finding| finding.weight == weight).map(|finding| &*finding.text).collect()
}

fn has(of: &Explanation, weight: Weight, part: &str) {
    let all = sentences(of, weight);
    assert!(all.iter().any(|text| text.contains(part)), "no {weight:?} says {part:?}: {:#?}", of.findings);
}

#[tokio::test(start_paused = true)]
async fn a_report_has_the_largest_rooms_and_what_there_is_of_each_kind() {
    let rooms = rooms(|builder| builder.kind("shut", Kind::new()).kind("user", Kind::owner_only()));
    let mut clients = Vec::new();
    for (room, members) in (0..60).map(|room| (room, if room == 7 { 3 } else { 1 })) {
        for member in 0..members {
            clients.push(Client::join(&rooms, &format!("u{room}-{member}"), &format!("post:{room}")).await);
        }
    }
    sleep(Duration::from_secs(40)).await;
    rooms.broadcast(&key("post:7"), &json!({"type": "note"})).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let report = rooms.inspect().await;
    assert_eq!((report.connections, report.rooms, report.memberships), (62, 60, 62));
    assert_eq!((report.largest.len(), &report.largest[0].room, report.largest[0].memberships), (50, &key("post:7"), 3));
    assert_eq!((report.largest[0].quiet_s, report.largest[1].quiet_s), (Some(3), None));
    let kinds: Vec<_> = report.kinds.iter().map(|kind| (&*kind.kind, kind.rooms, kind.memberships)).collect();
    assert_eq!(kinds, [("post", 60, 62), ("shut", 0, 0), ("user", 0, 0)]);
    assert_eq!(serde_json::to_value(&*report).unwrap()["kinds"][1]["rule"], "nobody");
    assert!(report.slowest.is_empty() && !report.bus_down && report.peers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_of_the_server_itself_is_shown_as_one() {
    let rooms = rooms(|builder| builder);
    let _ada = Client::join(&rooms, "ada", "post:1").await;
    let _subscription = rooms.subscribe(&key("post:1")).await.unwrap();
    let found = rooms.inspect_room(&key("post:1")).await;
    let room = &found.nodes[0];
    let mut members: Vec<_> = room.members.iter().map(|one| (one.server, one.observer, &*one.user == "ada")).collect();
    members.sort_unstable();
    assert_eq!(members, [(false, false, true), (true, true, false)]);
    assert_eq!((room.memberships, room.viewers, rooms.stats().connections), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slow_client_and_what_was_dropped_is_shown() {
    let builder = RoomManager::build_for().kind("post", Kind::authenticated().overflow(Overflow::Resync));
    let rooms = builder.limits(|limits| limits.max_outbox_messages = 32).build().unwrap();
    // Takes the first message, and nothing more.
    let stuck = Box::pin(unfold(0, |taken, _: Message| async move {
        if taken > 0 {
            pending::<()>().await;
        }
        Ok::<_, ()>(taken + 1)
    }));
    let mut connection = rooms.connect(who("slow"), stuck).unwrap();
    connection.join(&key("post:1")).await.unwrap();
    let driven = tokio::spawn(connection.drive());
    idle().await;
    for n in 0..200 {
        rooms.broadcast(&key("post:1"), &json!({"n": n})).await.unwrap();
        idle().await;
    }
    let report = rooms.inspect().await;
    assert_eq!(report.slowest.len(), 1);
    let slow = &report.slowest[0];
    assert_eq!((&*slow.user, slow.connection), ("slow", connection.id()));
    assert!((1..=32).contains(&slow.load.messages) && slow.load.resyncs > 0, "{slow:?}");
    let room = rooms.inspect_room(&key("post:1")).await;
    assert_eq!(room.nodes[0].members[0].load, slow.load);
    let why = rooms.explain("slow", Some(&key("post:1"))).await.unwrap();
    has(&why, Weight::Notice, "wait for it, as its client takes less than comes");
    has(&why, Weight::Notice, "it was told to fetch again");
    drop(connection);
    driven.abort();
}

#[tokio::test(start_paused = true)]
async fn a_user_and_a_room_are_found_on_all_nodes() {
    let fleet = fleet(3, |node| node);
    let here = Client::join(fleet.node(0), "ann", "post:1").await;
    let there = Client::join(fleet.node(2), "ann", "post:2").await;
    sleep(Duration::from_secs(5)).await;
    let found = fleet.node(0).inspect_user("ann").await.unwrap();
    assert_eq!((found.nodes.len(), found.silent.len()), (3, 0));
    assert_eq!(found.nodes[0].node, fleet.node(0).node(), "this one first");
    let mut rooms: Vec<(ConnectionId, String)> = found
        .nodes
        .iter()
        .flat_map(|node| &node.connections)
        .map(|connection| (connection.connection, connection.rooms[0].room.to_string()))
        .collect();
    rooms.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(rooms, [(here.connection.id(), "post:1".into()), (there.connection.id(), "post:2".into())]);

    let found = fleet.node(1).inspect_room(&key("post:2")).await;
    let with: Vec<_> = found.nodes.iter().filter(|node| node.here).collect();
    assert_eq!((with.len(), with[0].node), (1, fleet.node(2).node()));
    assert_eq!((&*with[0].members[0].user, with[0].subscription), ("ann", SubscriptionReport::Live));

    let nodes = fleet.node(1).inspect_nodes().await.nodes;
    assert_eq!(nodes.iter().map(|node| node.connections).sum::<usize>(), 2);
    assert_eq!(fleet.node(1).inspect().await.peers.iter().filter(|peer| peer.proven).count(), 2);
    assert!(fleet.node(0).inspect_user("no user").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_answer_is_named() {
    let fleet = fleet(2, |node| node);
    sleep(Duration::from_secs(5)).await;
    fleet.faults(1).kill();
    let found = fleet.node(0).inspect_user("ann").await.unwrap();
    assert_eq!((found.nodes.len(), found.silent), (1, vec![fleet.node(1).node()]));
    let why = fleet.node(0).explain("ann", None).await.unwrap();
    assert_eq!(why.silent, [fleet.node(1).node()]);
    has(&why, Weight::Notice, "This node gave no answer");
    // Its lease ends, and it is no node any more.
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fleet.node(0).inspect_user("ann").await.unwrap().silent, []);
}

#[tokio::test(start_paused = true)]
async fn nodes_with_keys_answer_each_other_and_no_stranger() {
    let hub = LocalBus::new();
    let node = |key: Option<&str>| {
        let builder = RoomManager::build_for().bus(hub.peer()).kind("post", Kind::authenticated());
        key.into_iter().fold(builder, RoomManagerBuilder::node_key).build().unwrap()
    };
    let fleet_key = Some("thirty-two random bytes, at least");
    let nodes: [Rooms; 3] = [node(fleet_key), node(fleet_key), node(None)];
    sleep(Duration::from_secs(5)).await;
    let _ann = Client::join(&nodes[1], "ann", "post:1").await;
    let found = nodes[0].inspect_user("ann").await.unwrap();
    assert_eq!((found.nodes.len(), found.nodes[1].connections.len(), found.silent.len()), (2, 1, 0));
    let found = nodes[2].inspect_user("ann").await.unwrap();
    assert!(found.nodes.iter().all(|node| node.connections.is_empty()), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn why_a_user_hears_nothing_is_told_from_the_token_to_now() {
    let fleet = fleet(2, |node| node.limits(|limits| limits.max_connections_per_user = 1));
    sleep(Duration::from_secs(5)).await;
    let rooms = fleet.node(0);
    let why = async |room: &str| rooms.explain("ann", Some(&key(room))).await.unwrap();

    let nobody = why("post:1").await;
    has(&nobody, Weight::Problem, "no connection on any of the 2 nodes that answered");
    has(&nobody, Weight::Notice, "Nobody is in `post:1` on any node that answered");
    has(&nobody, Weight::Fine, "All 2 nodes answered, and their buses are up.");
    has(&why("shut:1").await, Weight::Problem, "The kind `shut` has no rule");
    has(&why("none:1").await, Weight::Problem, "This application has no kind `none`");

    // On the other node, and refused there a second time.
    let mut ann = Client::join(fleet.node(1), "ann", "post:1").await;
    assert!(fleet.node(1).connect(who("ann"), mpsc::unbounded().0).is_err());
    assert!(ann.connection.join(&key("shut:1")).await.is_err());
    let joined = why("post:1").await;
    assert_eq!(sentences(&joined, Weight::Problem), [""; 0], "{joined:#?}");
    has(&joined, Weight::Fine, "It is in `post:1`, and was handed all that came.");
    has(&joined, Weight::Notice, "No message came for `post:1`");
    has(&joined, Weight::Notice, "It was not let in with the code 4430: the user has 1 connections");
    let denied = why("shut:1").await;
    has(&denied, Weight::Problem, "A join of the room `shut:1` failed with the code 4403");
    has(&denied, Weight::Problem, "None of its connections is in the room `shut:1`.");

    rooms.broadcast(&key("post:1"), &json!({"type": "note"})).await.unwrap();
    sleep(Duration::from_secs(7)).await;
    has(&why("post:1").await, Weight::Fine, "The last message of `post:1` came 7 s ago");

    rooms.kick(&key("post:1"), "ann", "spam").await.unwrap();
    let closed = ann.inbox.close().await;
    assert_eq!(closed.code().get(), 4403);
    drop(ann);
    idle().await;
    let gone = why("post:1").await;
    has(&gone, Weight::Notice, "A connection was closed by this node with the code 4403");
    has(&gone, Weight::Notice, "It was put out of the room `post:1`: spam.");
    has(&gone, Weight::Problem, "no connection");
    let order: Vec<_> = gone.findings.iter().map(|finding| finding.text.as_str()).collect();
    let at = |part: &str| order.iter().position(|text| text.contains(part)).unwrap();
    assert!(
        at("nodes answered") < at("not let in")
            && at("not let in") < at("closed by")
            && at("closed by") < at("put out")
    );
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_down_is_a_problem() {
    let bus = Hand::new(LocalBus::new());
    let rooms = rooms(|builder| builder.bus(bus.clone()));
    let _ann = Client::join(&rooms, "ann", "post:1").await;
    bus.say(BusEvent::Down);
    let why = rooms.explain("ann", Some(&key("post:1"))).await.unwrap();
    has(&why, Weight::Problem, "The bus of this node is down");
    bus.say(BusEvent::up(Lost::Perhaps));
    sleep(Duration::from_secs(1)).await;
    let why = rooms.explain("ann", Some(&key("post:1"))).await.unwrap();
    has(&why, Weight::Notice, "Members of the room were told to fetch again: bus_gap");
    assert_eq!(sentences(&why, Weight::Problem), [""; 0], "it is over");
    let report = rooms.inspect().await;
    let of_bus = report.incidents.iter().filter(|incident| incident.kind == IncidentKind::Bus);
    assert_eq!((report.bus_down, of_bus.count()), (false, 2), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn the_links_of_the_bus_are_listed_and_one_that_panics_over_them_spoils_nothing() {
    let bus = Hand::new(LocalBus::new());
    let rooms = rooms(|builder| builder.bus(bus.clone()));
    let panicked = rooms.inspect().await;
    assert_eq!((panicked.links.len(), panicked.links_left_out), (0, 0));
    let links: Vec<_> = (0..130).map(|n| LinkReport::new(n.to_string(), n != 1)).collect();
    bus.links.set(links.clone()).unwrap();
    sleep(Duration::from_secs(1)).await;
    let report = rooms.inspect().await;
    assert_eq!((&report.links[..], report.links_left_out), (&links[..128], 2));
    // Through what wraps a bus, too.
    let inner = Hand::new(LocalBus::new());
    inner.links.set(links).unwrap();
    let wrapped: Rooms = RoomManager::build_for().bus(Arc::new(inner)).build().unwrap();
    assert_eq!(wrapped.inspect().await.links.len(), 128);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_noted_for_its_user_where_that_is_known() {
    #[derive(Debug)]
    struct Doors;
    #[async_trait::async_trait]
    impl rooms_core::Authenticator for Doors {
        async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
            attempt.note_user(if attempt.token() == Some("old") { "ann" } else { "no <user>" });
            Err(AuthError::Expired)
        }
    }
    let rooms = rooms(|builder| builder.authenticator(Doors));
    assert!(rooms.authenticate(Some("old")).await.is_err() && rooms.authenticate(Some("forged")).await.is_err());
    let kinds: Vec<_> = rooms.inspect().await.incidents.iter().map(|one| (one.kind, one.user.clone())).collect();
    assert!(
        kinds.contains(&(IncidentKind::Refused, Some("ann".into()))) && kinds.contains(&(IncidentKind::BadToken, None))
    );
    assert_eq!(kinds.len(), 2);
    has(
        &rooms.explain("ann", None).await.unwrap(),
        Weight::Notice,
        "It was not let in with the code 1008: the token is expired",
    );
}

#[tokio::test(start_paused = true)]
async fn upgrades_and_tokens_of_nobody_known_are_noted_and_told_of_whoever_is_not_connected() {
    let endpoint = Endpoint::new().query_token("token");
    let rooms: RoomManager = RoomManager::builder().endpoint(endpoint).build().unwrap();
    let admit = async |uri: &str, more: &[(&str, &[u8])]| {
        let headers: HeaderMap = [
            ("connection", &b"upgrade"[..]),
            ("upgrade", b"websocket"),
            ("sec-websocket-version", b"13"),
            ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            ("host", b"rooms.example"),
        ]
        .iter()
        .chain(more)
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_bytes(value).unwrap()))
        .collect();
        rooms.admit(rooms.endpoint(), &Method::GET, &uri.parse().unwrap(), &headers, None).await
    };
    for _ in 0..2 {
        assert!(admit("/", &[("origin", b"https://<evil>.example")]).await.is_err());
    }
    assert!(admit("/?token=secret", &[("authorization", b"Bearer other")]).await.is_err());
    assert!(admit("/", &[("authorization", b"Bearer \xff")]).await.unwrap().identity().is_err());
    let incidents = &rooms.inspect().await.incidents;
    let mut noted: Vec<_> = incidents.iter().map(|one| (one.kind as usize, one.user.clone(), &*one.reason)).collect();
    noted.sort_unstable();
    let (token, upgrade) = (IncidentKind::BadToken as usize, IncidentKind::UpgradeRefused as usize);
    let (origin, many) = (Refusal::Origin.to_string(), Refusal::ManyTokens.to_string());
    let encoding = AuthError::Encoding.to_string();
    assert_eq!(
        noted,
        [(token, None, &*encoding), (upgrade, None, &*many), (upgrade, None, &*origin), (upgrade, None, &*origin)]
    );
    let why = rooms.explain("ann", None).await.unwrap();
    has(
        &why,
        Weight::Notice,
        "this node refused 3 upgrades and 1 token of nobody known, and one of them may have been",
    );
    has(&why, Weight::Notice, &format!("{origin} (2)"));
    assert!(!serde_json::to_string(&why).unwrap().contains("evil"), "nothing of what the client said");
    let (_open, (sink, _received)) = (mpsc::unbounded::<()>(), mpsc::unbounded());
    let _ann = rooms.with_sink().connect(who("ann"), sink).unwrap();
    let there = rooms.explain("ann", None).await.unwrap();
    assert!(!there.findings.iter().any(|one| one.text.contains("nobody known")), "{there:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_good_bye_left_and_one_that_is_cut_off_was_closed() {
    let rooms = rooms(|builder| builder);
    let serve = |user: &str| {
        let ((send, stream), (sink, received)) = (mpsc::unbounded(), mpsc::unbounded());
        (send, received, tokio::spawn(rooms.serve(stream, sink, who(user))))
    };
    let (left, _keep, ended) = serve("left");
    left.unbounded_send(Ok(Incoming::Close(None))).unwrap();
    drop(left);
    ended.await.unwrap();
    let (_open, mut received, ended) = serve("closed");
    idle().await;
    rooms.disconnect_user("closed", Close::REVOKED).await.unwrap();
    while received.next().await.is_some() {}
    ended.await.unwrap();
    let incidents = &rooms.inspect().await.incidents;
    let of =
        |user: &str| incidents.iter().find(|one| one.user.as_deref() == Some(user)).map(|one| (one.kind, one.code));
    assert_eq!(of("left"), Some((IncidentKind::Left, Some(1000))));
    assert_eq!(of("closed"), Some((IncidentKind::Closed, Some(4410))));
}
