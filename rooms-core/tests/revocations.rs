//! Revocations: in force on all nodes, also after an outage of the bus, and on a node that starts later.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/forger.rs"]
mod forger;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::FutureExt as _;
use rooms_core::{
    Attempt, AuthError, Authenticator, Close, ConnectError, Identity, Kind, Limits, LocalBus, Reach, Revocation,
    RevokeError, RoomManager, RoomManagerBuilder, WallClock,
    bus::Topic,
    testing::{
        faults::{Faults, FaultyBus, NetworkFaults},
        fleet::Fleet,
    },
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use flaky::Flaky;
use forger::Forger;
use rig::{Client, Rooms, Sink, key, who};
use talk::Talk;

#[derive(Debug)]
struct Paused(Instant, SystemTime);

impl WallClock for Paused {
    fn now(&self) -> SystemTime {
        self.1 + self.0.elapsed()
    }
}

/// The token is the user, and the claims behind a space.
#[derive(Debug)]
struct Tokens;

#[async_trait::async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, attempt: &Attempt<'_>) -> Result<Identity, AuthError> {
        let (user, claims) = attempt.token().and_then(|token| token.split_once(' ')).ok_or(AuthError::Missing)?;
        Ok(who(user).with_claims(claims))
    }
}

fn kinds(node: RoomManagerBuilder<Sink>) -> RoomManagerBuilder<Sink> {
    let board = Kind::authenticated().list_members().leave_grace(Duration::from_secs(10));
    node.kind("post", Kind::authenticated()).kind("board", board).authenticator(Tokens).limits(|limits| {
        limits.ping_interval = Duration::from_secs(1_000_000);
        limits.max_connections_per_user = usize::MAX;
    })
}

/// Nodes whose bus can go down, and say so.
struct Nodes {
    hub: LocalBus,
    clock: Arc<Paused>,
    nodes: Vec<(Rooms, Flaky)>,
}

impl Nodes {
    async fn start(count: usize) -> Self {
        let clock = Arc::new(Paused(Instant::now(), SystemTime::now()));
        let mut nodes = Self { hub: LocalBus::new(), clock, nodes: Vec::new() };
        (0..count).for_each(|_| _ = nodes.add());
        settle().await;
        nodes
    }

    fn add(&mut self) -> Rooms {
        let bus = Flaky::new(self.hub.peer());
        let node =
            kinds(RoomManager::build_for().bus(bus.clone())).clock(Arc::clone(&self.clock) as Arc<dyn WallClock>);
        let rooms = node.build().unwrap();
        self.nodes.push((rooms.clone(), bus));
        rooms
    }

    fn rooms(&self, node: usize) -> &Rooms {
        &self.nodes[node].0
    }

    fn all(&self) -> impl Iterator<Item = &Rooms> {
        self.nodes.iter().map(|(rooms, _)| rooms)
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

async fn settle() {
    sleep(Duration::from_secs(5)).await;
}

fn multi(rooms: &Rooms, identity: Identity) -> Talk {
    let (send, stream) = futures::channel::mpsc::unbounded();
    let (sink, receiver) = futures::channel::mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve(stream, sink, identity));
    Talk { send, inbox: rig::Inbox(receiver), ended }
}

fn user(name: &str) -> Revocation {
    Revocation::User(name.into())
}

fn jti(jti: &str) -> Revocation {
    Revocation::Jti(jti.into())
}

async fn is_revoked(rooms: &Rooms, user: &str, claims: &str) -> bool {
    match rooms.authenticate(Some(&format!("{user} {claims}"))).await {
        Ok(_) => false,
        Err(AuthError::Revoked) => true,
        Err(other) => panic!("{other}"),
    }
}

async fn connects(rooms: &Rooms, identity: Identity) -> Result<(), ConnectError> {
    let (sink, _) = futures::channel::mpsc::unbounded();
    rooms.connect(identity, sink).map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_revoked_user_is_out_on_four_nodes_in_under_a_second_and_does_not_come_back() {
    let nodes = Nodes::start(4).await;
    let mut watcher = Client::join(nodes.rooms(0), "w", "board:7").await;
    let mut talks = Vec::new();
    for rooms in nodes.all() {
        let mut talk = multi(rooms, who("5"));
        assert_eq!(talk.ask(r#"{"type":"join","room":"board:7"}"#).await["type"], "room_joined");
        talks.push(talk);
    }
    let mut other = multi(nodes.rooms(2), who("55"));
    settle().await;
    watcher.inbox.now();
    let start = Instant::now();
    assert_eq!(nodes.rooms(3).revoke(user("5")).await.unwrap(), Reach::AllNodes);
    for talk in &mut talks {
        assert_eq!(talk.inbox.close().await, Close::REVOKED);
    }
    while watcher.inbox.next().await["users"][0]["user"] != "5" {}
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    for rooms in nodes.all() {
        assert!(is_revoked(rooms, "5", "{}").await);
        assert_eq!(connects(rooms, who("5")).await, Err(ConnectError::Revoked));
        assert_eq!(multi(rooms, who("5")).inbox.close().await, Close::REVOKED);
        assert!(!is_revoked(rooms, "55", "{}").await);
        assert_eq!(rooms.stats().revocations, 1);
    }
    assert!(other.inbox.is_silent().await && !other.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_the_bus_it_is_in_force_within_a_second_of_its_end() {
    let nodes = Nodes::start(4).await;
    let mut talks: Vec<_> = nodes.all().map(|rooms| multi(rooms, who("5"))).collect();
    settle().await;
    nodes.nodes.iter().for_each(|(_, bus)| bus.go_down());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(nodes.rooms(0).revoke(user("5")).await.unwrap(), Reach::LocalOnly);
    assert_eq!(talks[0].inbox.close().await, Close::REVOKED);
    sleep(Duration::from_secs(20)).await;
    assert!(!is_revoked(nodes.rooms(1), "5", "{}").await, "nobody could tell it");
    // The nodes do not notice the end all at the same time, and the one that knows is the first.
    let start = Instant::now();
    for (_, bus) in &nodes.nodes {
        bus.come_up();
        sleep(Duration::from_millis(100)).await;
    }
    for talk in &mut talks[1..] {
        assert_eq!(talk.inbox.close().await, Close::REVOKED);
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

/// Four nodes, each behind a bus that says when it is cut off, with a user on each: `0` on the first, and so on.
struct Apart {
    nodes: Vec<(Rooms, Flaky, Faults)>,
    talks: Vec<Talk>,
}

impl Apart {
    async fn start() -> Self {
        let (hub, clock) = (LocalBus::new(), Arc::new(Paused(Instant::now(), SystemTime::now())));
        let node = |number| {
            let (bus, faults) = (Flaky::new(hub.peer()), Faults::new(number));
            let builder = RoomManager::build_for().bus(FaultyBus::new(bus.clone(), faults.clone()));
            let clock = Arc::clone(&clock) as Arc<dyn WallClock>;
            (kinds(builder).clock(clock).build().unwrap(), bus, faults)
        };
        let nodes: Vec<_> = (0..4).map(node).collect();
        let talks = (0..4).map(|number| multi(&nodes[number].0, who(&number.to_string()))).collect();
        settle().await;
        Self { nodes, talks }
    }

    fn go_down(&self, node: usize) {
        self.nodes[node].1.go_down();
        self.nodes[node].2.cut();
    }

    fn come_up(&self, node: usize) {
        self.nodes[node].2.mend();
        self.nodes[node].1.come_up();
    }

    fn knows(&self, node: usize) -> usize {
        self.nodes[node].0.stats().nodes
    }

    /// The nodes revoke each the user on another one.
    async fn revoke(&self, by: usize, user_on: usize) {
        self.nodes[by].0.revoke(user(&user_on.to_string())).await.unwrap();
    }

    /// The user on a node is out within a second.
    async fn is_soon_out(&mut self, node: usize) {
        let start = Instant::now();
        assert_eq!(self.talks[node].inbox.close().await, Close::REVOKED);
        assert!(start.elapsed() < Duration::from_secs(1), "node {node}: {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_alone_was_cut_off_for_longer_than_a_lease_learns_and_tells_within_a_second_of_its_return() {
    // Whenever that is between two heartbeats.
    for phase in 0..16 {
        let mut apart = Apart::start().await;
        apart.go_down(3);
        apart.revoke(0, 3).await;
        apart.revoke(3, 1).await;
        sleep(Duration::from_secs(30) + Duration::from_millis(125 * phase)).await;
        assert_eq!((apart.knows(0), apart.knows(3)), (3, 4), "the others took it for gone");
        apart.come_up(3);
        apart.is_soon_out(3).await;
        apart.is_soon_out(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_nodes_come_back_one_after_another_and_leases_apart_each_learns_and_tells_within_a_second() {
    for phase in 0..16 {
        let mut apart = Apart::start().await;
        (0..4).for_each(|node| apart.go_down(node));
        apart.revoke(0, 1).await;
        apart.revoke(2, 3).await;
        apart.revoke(3, 0).await;
        for back in [0, 1, 2, 3] {
            sleep(Duration::from_secs(10) + Duration::from_millis(125 * phase)).await;
            apart.come_up(back);
            match back {
                0 | 2 => {}
                1 => apart.is_soon_out(1).await,
                _ => {
                    apart.is_soon_out(3).await;
                    apart.is_soon_out(0).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_two_nodes_revoked_while_the_bus_was_away_is_in_force_on_both() {
    let nodes = Nodes::start(3).await;
    nodes.nodes.iter().for_each(|(_, bus)| bus.go_down());
    for (node, name) in [(0, "a"), (1, "b"), (0, "c")] {
        assert_eq!(nodes.rooms(node).revoke(user(name)).await.unwrap(), Reach::LocalOnly);
    }
    nodes.nodes.iter().for_each(|(_, bus)| bus.come_up());
    sleep(Duration::from_secs(1)).await;
    for rooms in nodes.all() {
        assert_eq!(rooms.stats().revocations, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_later_has_it_within_a_second() {
    let mut nodes = Nodes::start(3).await;
    // More than one message, with long names.
    for number in 0..2_500 {
        nodes.rooms(number % 3).revoke(user(&format!("{number:0>200}"))).await.unwrap();
    }
    settle().await;
    let late = nodes.add();
    let start = Instant::now();
    while late.stats().revocations < 2_500 {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(start.elapsed() <= Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(is_revoked(&late, &format!("{:0>200}", 2_499), "{}").await);
    // Nobody goes on asking.
    let asked = Forger::new(nodes.hub.peer());
    asked.listen(Topic::Node(late.node()));
    sleep(Duration::from_secs(60)).await;
    let revocations = |(_, said): &(Topic, serde_json::Value)| said["message"].get("revocations").is_some();
    assert!(!asked.heard().iter().any(revocations));
}

#[tokio::test(start_paused = true)]
async fn whatever_the_bus_loses_all_nodes_have_the_same_in_the_end() {
    let mut fleet: Fleet<Sink> = Fleet::new(4, |_, node| kinds(node));
    settle().await;
    fleet.network_faults(&NetworkFaults { lost: 60, doubled: 20, delay: Duration::ZERO..Duration::from_millis(800) });
    for number in 0..40 {
        fleet.node(number % 4).revoke(user(&format!("u{number}"))).await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    fleet.faults(1).cut();
    fleet.node(1).revoke(user("cut")).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    fleet.faults(1).mend();
    fleet.network_faults(&NetworkFaults::calm());
    let late = fleet.add(|_, node| kinds(node));
    sleep(Duration::from_secs(5)).await;
    for node in (0..4).chain([late]) {
        assert_eq!(fleet.node(node).stats().revocations, 41, "node {node}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_whose_end_is_not_said_is_in_force_for_revocation_time() {
    let (nodes, time) = (Nodes::start(1).await, Limits::default().revocation_time);
    assert_eq!(time, Duration::from_secs(24 * 3600));
    nodes.rooms(0).revoke(user("5")).await.unwrap();
    tokio::time::advance(time - Duration::from_secs(1)).await;
    assert_eq!(nodes.rooms(0).stats().revocations, 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(nodes.rooms(0).stats().revocations, 0);
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_revoke_the_same_at_once_have_it_once_and_until_the_later_end() {
    let nodes = Nodes::start(2).await;
    let at = |seconds| nodes.now() + Duration::from_secs(seconds);
    let (one, other) =
        tokio::join!(nodes.rooms(0).revoke_until(user("5"), at(60)), nodes.rooms(1).revoke_until(user("5"), at(600)));
    assert!(one.is_ok() && other.is_ok());
    settle().await;
    for rooms in nodes.all() {
        assert_eq!(rooms.stats().revocations, 1);
    }
    sleep(Duration::from_secs(300)).await;
    assert!(is_revoked(nodes.rooms(0), "5", "{}").await && is_revoked(nodes.rooms(1), "5", "{}").await);
    sleep(Duration::from_secs(300)).await;
    assert!(!is_revoked(nodes.rooms(0), "5", "{}").await);
    assert_eq!(nodes.rooms(1).stats().revocations, 0, "it expires by itself");
}

#[tokio::test(start_paused = true)]
async fn one_token_and_all_that_were_issued_before_are_out_and_others_stay() {
    let nodes = Nodes::start(2).await;
    let with = |user: &str, claims: &str| multi(nodes.rooms(1), who(user).with_claims(claims));
    let mut token = with("5", r#"{"jti":"x","iat":1000}"#);
    let mut old = with("5", r#"{"jti":"y","iat":1000}"#);
    let mut older = with("6", r#"{"jti":"z","iat":1000}"#);
    let mut new = with("5", r#"{"iat":3000}"#);
    settle().await;
    nodes.rooms(0).revoke(jti("x")).await.unwrap();
    assert_eq!(token.inbox.close().await, Close::REVOKED);
    assert!(old.inbox.is_silent().await && !old.ended.is_finished());

    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(2000);
    nodes.rooms(0).revoke(Revocation::IssuedBefore { time, user: Some("5".into()) }).await.unwrap();
    assert_eq!(old.inbox.close().await, Close::REVOKED);
    assert!(older.inbox.is_silent().await && !older.ended.is_finished());
    assert!(is_revoked(nodes.rooms(1), "5", "{}").await, "nobody can tell when it was issued");
    assert!(!is_revoked(nodes.rooms(1), "5", r#"{"iat":2000}"#).await, "who signs in again gets in");

    nodes.rooms(0).revoke(Revocation::IssuedBefore { time, user: None }).await.unwrap();
    assert_eq!(older.inbox.close().await, Close::REVOKED);
    assert!(new.inbox.is_silent().await && !new.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_judged_by_the_token_that_it_has_now_and_a_revoked_one_refreshes_nothing() {
    let nodes = Nodes::start(2).await;
    let mut talk = multi(nodes.rooms(1), who("5").with_claims(r#"{"jti":"first"}"#));
    let refresh = |jti: &str| json!({"type": "refresh", "token": format!(r#"5 {{"jti":"{jti}"}}"#)}).to_string();
    assert_eq!(talk.ask(refresh("second")).await["type"], "refreshed");
    nodes.rooms(0).revoke(jti("first")).await.unwrap();
    settle().await;
    assert!(talk.inbox.is_silent().await, "it goes on by the second one");
    nodes.rooms(0).revoke(jti("third")).await.unwrap();
    settle().await;
    talk.say(refresh("third"));
    assert_eq!(talk.inbox.close().await, Close::REVOKED);

    let mut talk = multi(nodes.rooms(1), who("5").with_claims(r#"{"jti":"a"}"#));
    assert_eq!(talk.ask(refresh("b")).await["type"], "refreshed");
    nodes.rooms(0).revoke(jti("b")).await.unwrap();
    assert_eq!(talk.inbox.close().await, Close::REVOKED);
}

#[tokio::test(start_paused = true)]
async fn one_too_many_is_an_error_and_those_that_nodes_bring_together_are_bounded() {
    let few = |node: RoomManagerBuilder<Sink>| kinds(node).limits(|limits| limits.max_revocations = 3);
    let fleet: Fleet<Sink> = Fleet::new(2, |_, node| few(node));
    settle().await;
    fleet.faults(1).cut();
    let at = |seconds| fleet.now() + Duration::from_secs(seconds);
    for (node, seconds) in [(0, 100), (0, 300), (0, 500), (1, 200), (1, 400), (1, 600)] {
        fleet.node(node).revoke_until(user(&format!("u{seconds}")), at(seconds)).await.unwrap();
    }
    assert_eq!(fleet.node(0).revoke(user("more")).await, Err(RevokeError::Full { limit: 3 }));
    assert!(fleet.node(0).revoke_until(user("u100"), at(150)).await.is_ok(), "that is one already");
    fleet.faults(1).mend();
    sleep(Duration::from_secs(20)).await;
    for node in 0..2 {
        for (seconds, covered) in [(100, false), (200, false), (300, false), (400, true), (500, true), (600, true)] {
            let name = format!("u{seconds}");
            assert_eq!(is_revoked(fleet.node(node), &name, "{}").await, covered, "{name} on node {node}");
        }
    }
    sleep(Duration::from_secs(600)).await;
    assert!(fleet.node(0).revoke(user("more")).await.is_ok(), "they are over");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_revoked_is_refused_with_words() {
    let nodes = Nodes::start(1).await;
    let rooms = nodes.rooms(0);
    assert!(matches!(rooms.revoke(user("no user")).await, Err(RevokeError::User(_))));
    for bad in ["", "a\n", &"x".repeat(257)] {
        assert_eq!(rooms.revoke(jti(bad)).await, Err(RevokeError::Jti), "{bad}");
    }
    assert!(rooms.revoke(jti(&"x".repeat(256))).await.is_ok());
    let far = nodes.now() + Duration::from_secs(367 * 86_400);
    assert_eq!(rooms.revoke_until(user("5"), far).await, Err(RevokeError::TooFar));
    let past = nodes.now() - Duration::from_secs(1);
    assert!(rooms.revoke_until(user("5"), past).await.is_ok(), "it is over already");
    assert!(!is_revoked(rooms, "5", "{}").await);
    assert_eq!(Limits::default().max_revocations, 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_is_dropped_once_it_was_polled_is_in_force_and_goes_round() {
    let nodes = Nodes::start(2).await;
    nodes.nodes.iter().for_each(|(_, bus)| bus.go_down());
    assert!(nodes.rooms(0).revoke(user("5")).now_or_never().is_some());
    nodes.nodes.iter().for_each(|(_, bus)| bus.come_up());
    drop(nodes.rooms(0).revoke(user("6")));
    settle().await;
    assert!(is_revoked(nodes.rooms(1), "5", "{}").await);
    assert!(!is_revoked(nodes.rooms(1), "6", "{}").await, "one that was never polled did nothing");
}

#[tokio::test(start_paused = true)]
async fn forged_and_broken_ones_are_counted_and_change_nothing() {
    let hub = LocalBus::new();
    let rooms = kinds(RoomManager::build_for().bus(hub.peer())).build().unwrap();
    settle().await;
    let forger = Forger::new(hub.peer());
    let many: Vec<_> = (0..1_001).map(|number| json!([{"user": format!("{number}")}, u64::MAX])).collect();
    let bad = [
        json!({"revocations": {"entries": [[{"user": "no user"}, 1]]}}),
        json!({"revocations": {"entries": [[{"user": ""}, 1]]}}),
        json!({"revocations": {"entries": [[{"jti": ""}, 1]]}}),
        json!({"revocations": {"entries": [[{"jti": "x".repeat(257)}, 1]]}}),
        json!({"revocations": {"entries": [[{"before": ["a b", 1]}, 1]]}}),
        json!({"revocations": {"entries": [[{"before": [null, -1]}, 1]]}}),
        json!({"revocations": {"entries": [[{"user": "5"}, "soon"]]}}),
        json!({"revocations": {"entries": [[{"everything": null}, 1]]}}),
        json!({"revocations": {"entries": many}}),
        json!({"revocation_query": {}}),
        json!({"order": {"id": 1, "at": 0, "order": {"kick": {"room": "post", "user": "5", "reason": ""}}}}),
        json!({"order": {"id": 1, "at": 0, "order": {"disconnect": {"whom": {"user": "5"}, "code": 1, "reason": ""}}}}),
    ];
    for (at, said) in bad.iter().enumerate() {
        forger.say(&Topic::Nodes, "7", said.clone()).await;
        assert_eq!(rooms.stats().undecodable, at as u64 + 1, "{said:.100}");
    }
    let _member = Client::join(&rooms, "w", "post:1").await;
    let good = json!({"revocations": {"entries": [[{"user": "5"}, 4_000_000_000_000_u64]]}});
    forger.say(&Topic::Control(key("post:1")), "7", good.clone()).await;
    assert_eq!(rooms.stats().undecodable, bad.len() as u64 + 1, "on the topic of a room");
    // Ends that no token has: nothing that somebody made up stays for ever.
    forger.say(&Topic::Nodes, "7", json!({"revocations": {"entries": [[{"user": "5"}, u64::MAX]]}})).await;
    forger.say(&Topic::Nodes, "7", json!({"revocations": {"entries": [[{"user": "5"}, 1]]}})).await;
    assert_eq!(rooms.stats().revocations, 0);

    // With a key nothing of it is heard.
    let signed =
        kinds(RoomManager::build_for().bus(hub.peer())).node_key("a key of at least thirty-two bytes").build().unwrap();
    settle().await;
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64 + 1_000_000_000;
    forger.say(&Topic::Nodes, "7", json!({"revocations": {"entries": [[{"user": "5"}, end]]}})).await;
    assert_eq!((rooms.stats().revocations, signed.stats().revocations), (1, 0));
    assert!(signed.stats().unsigned > 0);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_old_or_beyond_its_bounds_is_not_carried_out() {
    let nodes = Nodes::start(1).await;
    let mut talk = multi(nodes.rooms(0), who("5"));
    let forger = Forger::new(nodes.hub.peer());
    let now = nodes.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    let order = |id: u64, at: u64| {
        let disconnect = json!({"disconnect": {"whom": {"user": "5"}, "code": 4403, "reason": ""}});
        json!({"order": {"id": id, "at": at, "order": disconnect}})
    };
    for at in [now - 61_000, now + 61_000, 0, u64::MAX] {
        forger.say(&Topic::Nodes, "7", order(at, at)).await;
    }
    assert!(talk.inbox.is_silent().await);
    forger.say(&Topic::Nodes, "7", order(1, now - 59_000)).await;
    assert_eq!(talk.inbox.close().await.code().get(), 4403);
}
