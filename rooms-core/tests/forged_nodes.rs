//! Node messages that are forged, or damaged: whatever is believed, it heals within ten seconds of the last of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/forger.rs"]
mod forger;
#[path = "support/rig.rs"]
mod rig;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use rooms_core::{Kind, LocalBus, RoomManager, RoomManagerBuilder, bus::Topic};
use serde_json::{Value, json};
use tokio::time::sleep;
use tracing::{Level, Metadata, Subscriber, field::Visit, span};

use forger::{Counted, Forger};
use rig::{Client, Rooms, Sink, idle, key};

/// How long after the last forgery every count is right.
const HEALED: Duration = Duration::from_secs(10);

fn with_kinds(builder: RoomManagerBuilder<Sink>) -> Rooms {
    let builder = builder.kind("post", Kind::authenticated()).kind("chat", Kind::authenticated().list_members());
    builder.limits(|limits| limits.max_connections_per_user = usize::MAX).build().unwrap()
}

/// Two nodes with a member each in `post:42`, and in `chat:1` where the users are named.
struct Two {
    nodes: [Rooms; 2],
    forger: Forger,
    hub: LocalBus,
    clients: Vec<Client>,
}

impl Two {
    async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(change: impl Fn(RoomManagerBuilder<Sink>) -> RoomManagerBuilder<Sink>) -> Self {
        let hub = LocalBus::new();
        let nodes = [0, 1].map(|_| with_kinds(change(RoomManager::build_for().bus(hub.peer()))));
        let forger = Forger::new(hub.peer());
        idle().await;
        let mut clients = Vec::new();
        for (node, user) in [(0, "a"), (1, "b")] {
            for room in ["post:42", "chat:1"] {
                clients.push(Client::join(&nodes[node], user, room).await);
            }
        }
        let two = Self { nodes, forger, hub, clients };
        sleep(Duration::from_secs(5)).await;
        two.is_right("before anything is forged").await;
        two
    }

    /// Whether both nodes know exactly who is there.
    async fn is_right(&self, why: &str) {
        for (number, node) in self.nodes.iter().enumerate() {
            for room in ["post:42", "chat:1"] {
                let count = node.viewers(&key(room)).await;
                assert_eq!((count.viewers, count.exact), (2, true), "{why}: {room} on node {number}");
            }
            let members = node.members(&key("chat:1")).await.unwrap();
            let mut users: Vec<_> = members.users.iter().map(|user| &*user.user).collect();
            users.sort_unstable();
            assert_eq!(users, ["a", "b"], "{why}: node {number}");
            assert_eq!(node.stats().nodes, 2, "{why}: node {number}");
        }
    }

    fn name(&self, node: usize) -> String {
        self.nodes[node].node().to_string()
    }
}

fn row(room: &str, version: u64, connections: u32) -> Value {
    let users = if room.starts_with("chat") && connections > 0 {
        json!({"here": [{"user": "mallory", "connections": connections, "since": 0}]})
    } else {
        Value::Null
    };
    json!({"entry": {"room": room, "version": version, "connections": connections, "users": users}})
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_good_bye_was_forged_is_counted_again() {
    let two = Two::new().await;
    for round in 0..3 {
        // Under whatever id the first node has by now.
        two.forger.listen(Topic::Nodes);
        sleep(Duration::from_secs(3)).await;
        let second = two.name(1);
        let heard = two.forger.heard();
        let first = heard.iter().filter_map(|(_, said)| said["node"].as_str()).rfind(|node| *node != second).unwrap();
        two.forger.say(&Topic::Nodes, first, json!({"goodbye": {}})).await;
        sleep(HEALED).await;
        two.is_right(&format!("round {round}")).await;
        two.forger.heard();
    }
    let id = two.clients[0].connection.id();
    assert_eq!(id.node(), two.nodes[0].node(), "connections keep their ids");
}

#[tokio::test(start_paused = true)]
async fn a_good_bye_that_its_node_does_not_hear_counts_for_one_lease_at_most() {
    let two = Two::new().await;
    let (first, second) = (two.name(0), two.nodes[1].node());
    two.forger.say(&Topic::Node(second), &first, json!({"goodbye": {}})).await;
    two.is_right("it is not for all").await;
    assert_eq!(two.nodes[1].stats().undecodable, 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_good_byes_costs_one_new_id_a_heartbeat_and_is_over_with_the_flood() {
    let two = Two::new().await;
    two.forger.listen(Topic::Nodes);
    let mut hellos = 0;
    for _ in 0..100 {
        let heard = two.forger.heard();
        hellos += heard.iter().filter(|(_, said)| said["message"]["hello"].is_object()).count();
        for (_, said) in heard {
            two.forger.say(&Topic::Nodes, said["node"].as_str().unwrap(), json!({"goodbye": {}})).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!((4..=12).contains(&hellos), "{hellos} new ids of two nodes in ten seconds");
    sleep(HEALED).await;
    two.is_right("after the flood").await;
}

#[tokio::test(start_paused = true)]
async fn no_version_makes_a_false_count_stay() {
    let two = Two::new().await;
    let first = two.name(0);
    for version in [u64::MAX, u64::MAX - 1, 1_000, 20, 8, 7, 6, 5, 4, 3, 2, 1] {
        for room in ["post:42", "chat:1"] {
            for connections in [1_000, 0] {
                two.forger.say(&Topic::Control(key(room)), &first, row(room, version, connections)).await;
                sleep(HEALED).await;
                two.is_right(&format!("{connections} in {room}, version {version}")).await;
            }
        }
    }
}

/// The next version of a node can be told from the last one.
#[tokio::test(start_paused = true)]
async fn a_false_row_that_comes_just_before_the_true_one_of_the_same_version_does_not_stay() {
    let mut two = Two::new().await;
    let first = two.name(0);
    for room in ["post:42", "chat:1"] {
        two.forger.listen(Topic::Control(key(room)));
        let again = Client::join(&two.nodes[0], "a", room).await;
        sleep(Duration::from_secs(1)).await;
        let heard = two.forger.heard();
        let last = heard.iter().filter_map(|(_, said)| said["message"]["entry"]["version"].as_u64()).max().unwrap();
        for ahead in 1..=4 {
            two.forger.say(&Topic::Control(key(room)), &first, row(room, last + ahead, 7)).await;
        }
        drop(again);
        sleep(HEALED).await;
        two.is_right(room).await;
    }
    two.clients.clear();
    sleep(HEALED).await;
    assert_eq!(two.nodes[1].viewers(&key("post:42")).await.viewers, 0);
}

#[tokio::test(start_paused = true)]
async fn no_number_of_a_heartbeat_switches_repair_off() {
    for number in [u64::MAX, 1 << 40, 60, 0] {
        let two = Two::new().await;
        let first = two.name(0);
        two.forger.say(&Topic::Nodes, &first, json!({"heartbeat": {"number": number, "digests": {}}})).await;
        // Only a heartbeat tells that this row is false.
        two.forger.say(&Topic::Control(key("post:42")), &first, row("post:42", 1_000, 9)).await;
        assert_eq!(two.nodes[1].viewers(&key("post:42")).await.viewers, 10, "it is believed at first");
        sleep(HEALED).await;
        two.is_right(&format!("heartbeat {number}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn invented_nodes_have_no_members_and_keep_no_honest_one_from_being_counted() {
    let two = Two::new().await;
    for number in 0..1_100 {
        let node = format!("{number:x}");
        two.forger.say(&Topic::Nodes, &node, json!({"hello": {}})).await;
        for room in ["post:42", "chat:1"] {
            two.forger.say(&Topic::Control(key(room)), &node, row(room, 1, 5)).await;
        }
    }
    let third = with_kinds(RoomManager::build_for().bus(two.hub.peer()));
    idle().await;
    let _member = Client::join(&third, "c", "post:42").await;
    sleep(Duration::from_secs(3)).await;
    for node in two.nodes.iter().chain([&third]) {
        assert_eq!(node.viewers(&key("post:42")).await.viewers, 3);
    }
    assert!(two.nodes[0].stats().nodes <= 1_025);
    sleep(HEALED).await;
    for node in two.nodes.iter().chain([&third]) {
        let count = node.viewers(&key("post:42")).await;
        assert_eq!((count.viewers, count.exact, node.stats().nodes), (3, true, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn invented_nodes_that_answer_are_gone_with_their_members_when_they_are_silent() {
    let two = Two::new().await;
    two.forger.listen(Topic::Nodes);
    for number in 0..1_100 {
        let node = format!("{number:x}");
        two.forger.stand_in(&node);
        two.forger.say(&Topic::Nodes, &node, json!({"hello": {}})).await;
    }
    idle().await;
    two.forger.say(&Topic::Control(key("post:42")), "1", row("post:42", 2, 5)).await;
    let third = with_kinds(RoomManager::build_for().bus(two.hub.peer()));
    idle().await;
    let _member = Client::join(&third, "c", "post:42").await;
    sleep(HEALED).await;
    for node in two.nodes.iter().chain([&third]) {
        let count = node.viewers(&key("post:42")).await;
        assert_eq!((count.viewers, count.exact, node.stats().nodes), (3, true, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn little_is_sent_to_nodes_that_somebody_invented() {
    let (hub, sent) = (LocalBus::new(), Arc::new(AtomicUsize::new(0)));
    let rooms = with_kinds(RoomManager::build_for().bus(Counted(hub.peer(), Arc::clone(&sent))));
    let forger = Forger::new(hub.peer());
    idle().await;
    let joins = (0..4_100).map(|number| format!("post:{number}"));
    let _members = join_all(joins.map(|room| async { Client::join(&rooms, "a", &{ room }).await })).await;
    sleep(Duration::from_secs(2)).await;
    sent.store(0, Ordering::Relaxed);
    const SECONDS: usize = 10;
    for second in 0..SECONDS {
        for number in 0..1_020 {
            let node = format!("{number:x}");
            let beat = json!({"heartbeat": {"number": second + 1, "digests": {}}});
            forger.say(&Topic::Nodes, &node, beat).await;
            let asked: Vec<_> = (0..512).map(|room| format!("post:{room}")).collect();
            let some = if number % 2 == 0 { &asked[..] } else { &asked[..16] };
            if number < 128 {
                forger.say(&Topic::Nodes, &node, json!({"query": {"id": number, "rooms": some}})).await;
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
    let each_second = sent.load(Ordering::Relaxed) / SECONDS;
    assert!(each_second < 200_000, "{each_second} bytes a second");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_signed_with_the_key_of_the_fleet_is_dropped_and_counted() {
    const KEY: &str = "a key of this fleet, of 32 bytes or more";
    let two = Two::with(|builder| builder.node_key(KEY)).await;
    let stranger =
        with_kinds(RoomManager::build_for().bus(two.hub.peer()).node_key("a key of another fleet, of 32 bytes or so"));
    let first = two.name(0);
    for (topic, said) in [
        (Topic::Nodes, json!({"goodbye": {}})),
        (Topic::Nodes, json!({"heartbeat": {"number": u64::MAX, "digests": {}}})),
        (Topic::Control(key("post:42")), row("post:42", u64::MAX, 9)),
        (Topic::Control(key("post:42")), row("post:42", 1_000, 0)),
    ] {
        two.forger.say(&topic, &first, said).await;
        two.is_right("it is not signed").await;
    }
    let _member = Client::join(&stranger, "c", "post:42").await;
    sleep(HEALED).await;
    two.is_right("a stranger's is not counted").await;
    assert_eq!(stranger.stats().nodes, 1);
    for node in &two.nodes {
        let stats = node.stats();
        assert!(stats.unsigned > 4, "{stats:?}");
        assert_eq!(stats.undecodable, 0, "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_exchanged_without_anybody_being_counted_twice_or_not_at_all() {
    let [old, new] = ["the old key, of 32 bytes or some more", "the new key, of 32 bytes or some more"];
    let hub = LocalBus::new();
    let keys = [&[old, new][..], &[new, old], &[new]];
    let nodes = [0, 1].map(|at| {
        let builder = RoomManager::build_for().bus(hub.peer());
        with_kinds(keys[at].iter().fold(builder, |builder, key| builder.node_key(key)))
    });
    idle().await;
    let _members = join_all(nodes.iter().map(|node| Client::join(node, "a", "post:42"))).await;
    sleep(HEALED).await;
    for node in &nodes {
        assert_eq!(node.viewers(&key("post:42")).await.viewers, 2);
    }
}

/// With a key, all that a stranger can do is to repeat.
#[tokio::test(start_paused = true)]
async fn signed_messages_that_are_repeated_do_no_harm_that_lasts() {
    let two = Two::with(|builder| builder.node_key("a key of this fleet, of 32 bytes or more")).await;
    let rooms = ["post:42", "chat:1"].map(|room| Topic::Control(key(room)));
    for topic in rooms.into_iter().chain([Topic::Nodes, Topic::Node(two.nodes[0].node())]) {
        two.forger.listen(topic);
    }
    let third =
        with_kinds(RoomManager::build_for().bus(two.hub.peer()).node_key("a key of this fleet, of 32 bytes or more"));
    idle().await;
    let members = join_all(["post:42", "chat:1"].map(|room| Client::join(&third, "c", room))).await;
    sleep(Duration::from_secs(5)).await;
    third.shutdown(Duration::ZERO).await;
    drop((members, third));
    sleep(Duration::from_secs(20)).await;
    let heard = two.forger.heard();
    assert!(heard.iter().any(|(_, said)| said["message"]["goodbye"].is_object()), "a good-bye is among them");
    for (topic, said) in &heard {
        two.forger.repeat(topic, said).await;
        idle().await;
    }
    sleep(HEALED).await;
    two.is_right("after everything was said once more").await;
}

/// The warnings that were logged.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Words(String);
        impl Visit for Words {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut words = Words(String::new());
        event.record(&mut words);
        self.0.lock().unwrap().push(words.0);
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn another_application_on_the_bus_is_warned_of_once() {
    let warnings = Warnings::default();
    let _logged = tracing::subscriber::set_default(warnings.clone());
    let hub = LocalBus::new();
    let build = |kind: Option<&str>| -> Rooms {
        let builder = RoomManager::build_for().bus(hub.peer());
        let builder = kind.into_iter().fold(builder, |builder, kind| builder.kind(kind, Kind::authenticated()));
        builder.build().unwrap()
    };
    let _same = [build(Some("post")), build(Some("post")), build(None)];
    let forger = Forger::new(hub.peer());
    forger.stand_in("1");
    for number in 1..20 {
        // Of a release that says nothing of its kinds.
        forger.say(&Topic::Nodes, "1", json!({"heartbeat": {"number": number, "digests": {}}})).await;
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(*warnings.0.lock().unwrap(), [] as [&str; 0]);
    let _others = [build(Some("order")), build(Some("order"))];
    sleep(Duration::from_secs(600)).await;
    let warned = warnings.0.lock().unwrap();
    assert_eq!(warned.len(), 4, "each of the four that have rooms, once: {warned:?}");
    assert!(warned.iter().all(|words| words.contains("two applications share a bus")), "{warned:?}");
}
