//! Putting somebody out, and in, on all nodes: kicks, disconnects, rechecks, rooms entered and left by the server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/log.rs"]
#[allow(dead_code, reason = "this file uses a part of it")]
mod log;
#[path = "support/rig.rs"]
mod rig;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::{FutureExt as _, channel::mpsc};
use rooms_core::{
    Close, CloseCode, ConnectionId, Identity, Kind, OrderError, Reach, Revocation, RoomManagerBuilder, WallClock,
    testing::{faults::NetworkFaults, fleet::Fleet},
    ws::{Incoming, WsError},
};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use rig::{Client, Inbox, Sink, idle, key, who};

/// A client of a node, at the endpoint for many rooms or for one.
struct Talk {
    send: mpsc::UnboundedSender<Result<Incoming, WsError>>,
    inbox: Inbox,
    ended: JoinHandle<Close>,
}

type Nodes = Fleet<Sink>;

impl Talk {
    fn multi(nodes: &Nodes, node: usize, identity: Identity) -> Self {
        let ((send, stream), (sink, receiver)) = (mpsc::unbounded(), mpsc::unbounded());
        let ended = tokio::spawn(nodes.node(node).serve(stream, sink, identity));
        Self { send, inbox: Inbox(receiver), ended }
    }

    fn single(nodes: &Nodes, node: usize, user: &str, room: &str) -> Self {
        let ((send, stream), (sink, receiver)) = (mpsc::unbounded(), mpsc::unbounded());
        let ended = tokio::spawn(nodes.node(node).serve_room(stream, sink, who(user), key(room)));
        Self { send, inbox: Inbox(receiver), ended }
    }

    fn say(&self, message: &Value) {
        self.send.unbounded_send(Ok(Incoming::Text(message.to_string()))).unwrap();
    }

    async fn join(&mut self, room: &str) {
        self.say(&json!({"type": "join", "room": room}));
        assert_eq!(self.next_of("room_joined").await["room"], room);
    }

    /// The next event of this type.
    async fn next_of(&mut self, what: &str) -> Value {
        loop {
            let event = self.inbox.next().await;
            if event["type"] == what {
                return event;
            }
        }
    }

    /// What has come besides who is there.
    async fn others(&mut self) -> Vec<Value> {
        let mut all = self.inbox.all().await;
        all.retain(|event| !event["type"].as_str().unwrap().starts_with("viewer_"));
        all
    }
}

/// What the application's rule reads, and what its hooks have seen.
#[derive(Clone, Default)]
struct App {
    barred: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl App {
    /// `board` is for whoever is not barred, and shows for ten seconds who left; the answer about a `slow` one takes a second.
    fn kinds(&self, node: RoomManagerBuilder<Sink>) -> RoomManagerBuilder<Sink> {
        let rule = |takes: Duration, barred: &Arc<AtomicBool>| {
            let barred = Arc::clone(barred);
            Kind::new().join_rule(move |who, _| {
                let allowed = who.user() != "b" || !barred.load(Ordering::Relaxed);
                async move {
                    sleep(takes).await;
                    allowed
                }
            })
        };
        let note = |what: &'static str| {
            let seen = Arc::clone(&self.seen);
            move |member: &rooms_core::Member| {
                seen.lock().unwrap().push(format!("{} {what} {}", member.identity().user(), member.room()));
            }
        };
        let (joined, left) = (note("joins"), note("leaves"));
        let board = rule(Duration::ZERO, &self.barred).list_members().leave_grace(Duration::from_secs(10));
        let board = board
            .on_join(move |member| {
                joined(&member);
                async { Ok(Value::Null) }
            })
            .on_leave(move |member| {
                left(&member);
                async {}
            });
        node.kind("board", board)
            .kind("slow", rule(Duration::from_secs(1), &self.barred))
            .kind("post", Kind::authenticated())
            .limits(|limits| limits.ping_interval = Duration::from_secs(1_000_000))
    }

    async fn nodes(&self, count: usize) -> Nodes {
        let nodes = Fleet::new(count, |_, node| self.kinds(node));
        settle().await;
        nodes
    }
}

async fn settle() {
    sleep(Duration::from_secs(3)).await;
}

fn claims(user: &str, claims: &Value) -> Identity {
    who(user).with_claims(claims.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_kick_puts_a_user_out_of_that_room_on_all_nodes_at_once_and_out_of_no_other() {
    let app = App::default();
    let nodes = app.nodes(4).await;
    let mut watcher = Talk::multi(&nodes, 3, who("w"));
    watcher.join("board:7").await;
    let mut kicked = Vec::new();
    for node in 0..3 {
        let mut talk = Talk::multi(&nodes, node, who("b"));
        talk.join("board:7").await;
        talk.join("post:1").await;
        kicked.push(talk);
    }
    let mut single = Talk::single(&nodes, 1, "b", "board:7");
    single.next_of("room_joined").await;
    let mut elsewhere = Talk::single(&nodes, 1, "b", "post:1");
    elsewhere.next_of("room_joined").await;
    settle().await;
    watcher.inbox.now();

    let start = Instant::now();
    assert_eq!(nodes.node(3).kick(&key("board:7"), "b", "spam").await.unwrap(), Reach::AllNodes);
    for talk in &mut kicked {
        let left = talk.next_of("room_left").await;
        assert_eq!(left, json!({"type": "room_left", "room": "board:7", "reason": "kicked", "message": "spam"}));
    }
    assert_eq!(single.inbox.close().await, Close::new(CloseCode::NOT_ALLOWED, "spam"));
    // Named once the last of the connections is out.
    let gone = loop {
        let left = watcher.next_of("viewer_left").await;
        if left["users"].is_array() {
            break left;
        }
    };
    let named = (&gone["viewers"], &gone["users"][0]["user"]);
    assert_eq!(named, (&json!(1), &json!("b")), "without the grace of ten seconds");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    settle().await;
    assert_eq!(nodes.node(0).viewers(&key("post:1")).await.viewers, 4, "that room only");
    let seen = app.seen.lock().unwrap().clone();
    assert_eq!(seen.iter().filter(|line| **line == "b leaves board:7").count(), 4);

    // They may come back where the rule lets them.
    kicked[0].join("board:7").await;
    assert!(elsewhere.others().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_kick_ends_a_join_that_is_under_way() {
    let app = App::default();
    let nodes = app.nodes(2).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    talk.say(&json!({"type": "join", "room": "slow:1", "ref": 5}));
    sleep(Duration::from_millis(500)).await;
    nodes.node(1).kick(&key("slow:1"), "b", "").await.unwrap();
    let refused = talk.inbox.next().await;
    assert_eq!(
        (&refused["code"], &refused["room"], &refused["ref"]),
        (&json!("not_allowed"), &json!("slow:1"), &json!(5))
    );
    sleep(Duration::from_secs(5)).await;
    assert!(talk.inbox.is_silent().await);
    assert_eq!(nodes.node(0).local_viewers(&key("slow:1")), 0);
    let mut single = Talk::single(&nodes, 0, "b", "slow:1");
    sleep(Duration::from_millis(500)).await;
    nodes.node(1).kick(&key("slow:1"), "b", "").await.unwrap();
    assert_eq!(single.inbox.close().await, Close::NOT_ALLOWED);
}

#[tokio::test(start_paused = true)]
async fn who_has_left_and_is_still_shown_is_shown_no_more_after_a_kick() {
    let app = App::default();
    let nodes = app.nodes(2).await;
    let mut watcher = Talk::multi(&nodes, 1, who("w"));
    watcher.join("board:7").await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    talk.join("board:7").await;
    settle().await;
    drop(talk);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(nodes.node(1).viewers(&key("board:7")).await.viewers, 2, "within its grace");
    nodes.node(1).kick(&key("board:7"), "b", "").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(nodes.node(1).viewers(&key("board:7")).await.viewers, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_application_drives_is_closed_by_a_kick_from_a_room_that_it_is_in() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let mut here = Client::join(nodes.node(0), "b", "board:7").await;
    let there = Client::join(nodes.node(0), "b", "post:1").await;
    nodes.node(0).kick(&key("board:7"), "b", "spam").await.unwrap();
    assert_eq!(here.inbox.close().await, Close::new(CloseCode::NOT_ALLOWED, "spam"));
    idle().await;
    assert!(!there.driven.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_user_is_disconnected_on_all_nodes_after_what_was_said_before() {
    let app = App::default();
    let nodes = app.nodes(3).await;
    let mut talks: Vec<_> = (0..3).map(|node| Talk::multi(&nodes, node, who("b"))).collect();
    let mut other = Talk::multi(&nodes, 1, who("bb"));
    for talk in talks.iter_mut().chain([&mut other]) {
        talk.join("board:7").await;
    }
    settle().await;
    let close = Close::new(CloseCode::new(4000).unwrap(), "bye");
    assert_eq!(nodes.node(2).disconnect_user("b", close.clone()).await.unwrap(), Reach::AllNodes);
    for talk in &mut talks {
        assert_eq!(talk.inbox.close().await, close);
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(nodes.node(0).viewers(&key("board:7")).await.viewers, 1, "without the grace");
    assert!(!other.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn the_connections_of_one_session_are_found_by_a_claim() {
    let app = App::default();
    let nodes = app.nodes(2).await;
    let session = |node, user, sid: Value| Talk::multi(&nodes, node, claims(user, &json!({"sid": sid})));
    let mut ended = [session(0, "a", json!("x")), session(1, "a", json!("x")), session(1, "b", json!("x"))];
    let stay = [session(0, "a", json!("y")), session(1, "a", json!(["x"])), Talk::multi(&nodes, 1, who("a"))];
    settle().await;
    nodes.node(0).disconnect_where("sid", "x", Close::NOT_ALLOWED).await.unwrap();
    for talk in &mut ended {
        assert_eq!(talk.inbox.close().await, Close::NOT_ALLOWED);
    }
    settle().await;
    assert!(stay.iter().all(|talk| !talk.ended.is_finished()));
}

/// Calls of `disconnect_where` that wait, as none of the node's tasks has run since.
fn fill(nodes: &Nodes, node: usize) {
    for sid in 0..1_024 {
        let call = nodes.node(node).disconnect_where("sid", sid, Close::NOT_ALLOWED);
        assert_eq!(call.now_or_never().unwrap().unwrap(), Reach::AllNodes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_does_not_wait_for_the_searches_that_wait() {
    for revocation in [
        Revocation::Jti("x".into()),
        Revocation::IssuedBefore { time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000), user: None },
    ] {
        let nodes = App::default().nodes(1).await;
        let of = |user, all: Value| Talk::multi(&nodes, 0, claims(user, &all));
        let mut revoked = of("a", json!({"jti": "x", "iat": 1}));
        let mut second = of("b", json!({"sid": 1, "iat": 2_000}));
        settle().await;
        fill(&nodes, 0);
        assert_eq!(nodes.node(0).revoke(revocation).now_or_never().unwrap().unwrap(), Reach::AllNodes);
        assert_eq!(revoked.inbox.close().await, Close::REVOKED);
        assert!(second.inbox.0.try_recv().is_err(), "the first of those searches has not ended");
        assert_eq!(second.inbox.close().await, Close::NOT_ALLOWED);
    }
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_where_that_finds_no_place_is_an_error_and_a_line_on_another_node() {
    let nodes = App::default().nodes(2).await;
    let mut talk = Talk::multi(&nodes, 1, claims("a", &json!({"sid": "x"})));
    settle().await;
    let log = log::Log::start();
    // The other node does not hear of these.
    nodes.faults(0).cut();
    fill(&nodes, 1);
    nodes.faults(0).mend();
    let call = |node: usize| nodes.node(node).disconnect_where("sid", "x", Close::NORMAL);
    let error = call(1).now_or_never().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "1024 calls of `disconnect_where` wait on this node, and no more may");
    // What waits already is no further one.
    let again = nodes.node(1).disconnect_where("sid", 7, Close::NOT_ALLOWED);
    assert_eq!(again.now_or_never().unwrap().unwrap(), Reach::AllNodes);
    assert_eq!(log.lines(), [] as [String; 0]);
    for _ in 0..3 {
        assert_eq!(call(0).now_or_never().unwrap().unwrap(), Reach::AllNodes);
    }
    assert!(log.line().contains("`disconnect_where` did nothing on this node: too many wait limit=1024"));

    settle().await;
    assert!(!talk.ended.is_finished(), "nothing was done");
    call(0).await.unwrap();
    assert_eq!(talk.inbox.close().await, Close::NORMAL);
}

/// The id of a connection, from a room in which it is told.
async fn id_of(talk: &mut Talk) -> ConnectionId {
    talk.say(&json!({"type": "join", "room": "me:1"}));
    talk.next_of("room_joined").await["me"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_connection_is_sent_to_and_ended_from_any_node() {
    let app = App::default();
    let nodes: Nodes = Fleet::new(3, |_, node| {
        let me = Kind::authenticated().on_join(|member| async move { Ok(json!({"me": member.connection()})) });
        app.kinds(node).kind("me", me)
    });
    settle().await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    let mut other = Talk::multi(&nodes, 0, who("b"));
    let id = id_of(&mut talk).await;
    for from in 0..3 {
        assert_eq!(nodes.node(from).send_to(id, &json!({"n": from})).await.unwrap(), Reach::AllNodes);
        assert_eq!(talk.inbox.next().await, json!({"type": "message", "data": {"n": from}}));
    }
    let ((_send, stream), (sink, receiver)) = (mpsc::unbounded(), mpsc::unbounded());
    _ = tokio::spawn(nodes.node(1).serve_room(stream, sink, who("c"), key("me:1")));
    let mut single = Inbox(receiver);
    let single_id: ConnectionId = single.next().await["me"].as_str().unwrap().parse().unwrap();
    nodes.node(2).send_to(single_id, &json!({"type": "bare"})).await.unwrap();
    assert_eq!(single.next().await["type"], "bare");

    nodes.node(2).disconnect(id, Close::NORMAL).await.unwrap();
    assert_eq!(talk.inbox.close().await, Close::NORMAL);
    talk.ended.await.unwrap();
    idle().await;
    let gone = nodes.node(0).send_to(id, &1).await;
    assert!(matches!(gone, Err(OrderError::NoConnection { connection }) if connection == id), "this node knows");
    assert!(matches!(nodes.node(0).disconnect(id, Close::NORMAL).await, Err(OrderError::NoConnection { .. })));
    assert_eq!(nodes.node(1).send_to(id, &1).await.unwrap(), Reach::AllNodes, "another one can't know");
    assert!(other.others().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_recheck_puts_out_on_all_nodes_whom_the_rule_does_not_allow_any_more() {
    let app = App::default();
    let nodes = app.nodes(3).await;
    let (mut stays, mut goes) = (Vec::new(), Vec::new());
    for node in 0..3 {
        for (user, talks) in [("a", &mut stays), ("b", &mut goes)] {
            let mut talk = Talk::multi(&nodes, node, who(user));
            talk.join("board:7").await;
            talk.join("slow:7").await;
            talks.push(talk);
        }
    }
    let mut single = Talk::single(&nodes, 2, "b", "board:7");
    single.next_of("room_joined").await;
    settle().await;
    nodes.node(0).recheck(&key("board:7")).await.unwrap();
    settle().await;
    assert_eq!(nodes.node(0).viewers(&key("board:7")).await.viewers, 7, "all are allowed");

    app.barred.store(true, Ordering::Relaxed);
    nodes.node(0).recheck(&key("board:7")).await.unwrap();
    for talk in &mut goes {
        let left = talk.next_of("room_left").await;
        assert_eq!(left, json!({"type": "room_left", "room": "board:7", "reason": "not_allowed"}));
    }
    assert_eq!(single.inbox.close().await, Close::NOT_ALLOWED);
    settle().await;
    assert_eq!(nodes.node(0).viewers(&key("board:7")).await.viewers, 3);
    assert_eq!(nodes.node(0).viewers(&key("slow:7")).await.viewers, 6, "that room only");

    nodes.node(1).recheck_user("b").await.unwrap();
    for talk in &mut goes {
        assert_eq!(talk.next_of("room_left").await["room"], "slow:7");
    }
    for talk in &mut stays {
        assert!(talk.others().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_that_was_allowed_a_moment_ago_is_asked_about_again() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    talk.say(&json!({"type": "join", "room": "slow:1"}));
    sleep(Duration::from_millis(500)).await;
    app.barred.store(true, Ordering::Relaxed);
    nodes.node(0).recheck_user("b").await.unwrap();
    assert_eq!(talk.next_of("room_left").await["reason"], "not_allowed");
    assert_eq!(nodes.node(0).local_viewers(&key("slow:1")), 0);
}

#[tokio::test(start_paused = true)]
async fn a_recheck_behind_one_that_runs_asks_once_more() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    talk.join("slow:1").await;
    nodes.node(0).recheck_user("b").await.unwrap();
    sleep(Duration::from_millis(500)).await;
    app.barred.store(true, Ordering::Relaxed);
    nodes.node(0).recheck_user("b").await.unwrap();
    let start = Instant::now();
    assert_eq!(talk.next_of("room_left").await["room"], "slow:1");
    assert_eq!(start.elapsed().as_millis(), 1_500);
}

#[tokio::test(start_paused = true)]
async fn the_server_has_a_user_enter_and_leave_a_room_on_all_nodes() {
    let app = App::default();
    let nodes = app.nodes(2).await;
    let mut talks = [Talk::multi(&nodes, 0, who("b")), Talk::multi(&nodes, 1, who("b"))];
    let mut single = Talk::single(&nodes, 1, "b", "post:1");
    single.next_of("room_joined").await;
    settle().await;
    nodes.node(0).enter("b", &key("board:7")).await.unwrap();
    for talk in &mut talks {
        let joined = talk.next_of("room_joined").await;
        assert_eq!((&joined["room"], joined.get("ref")), (&json!("board:7"), None));
    }
    nodes.node(0).enter("b", &key("board:7")).await.unwrap();
    settle().await;
    assert!(talks[0].others().await.is_empty(), "it is in it already");
    nodes.node(1).leave("b", &key("board:7")).await.unwrap();
    for talk in &mut talks {
        assert_eq!(talk.next_of("room_left").await, json!({"type": "room_left", "room": "board:7", "reason": "left"}));
    }
    assert!(single.others().await.is_empty() && !single.ended.is_finished());

    app.barred.store(true, Ordering::Relaxed);
    nodes.node(0).enter("b", &key("board:7")).await.unwrap();
    settle().await;
    assert!(talks[0].others().await.is_empty(), "the rule says no, and nobody is told");
}

#[tokio::test(start_paused = true)]
async fn of_orders_about_one_room_the_last_one_counts() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    // So that the entering waits behind a command.
    talk.say(&json!({"type": "join", "room": "slow:1"}));
    idle().await;
    nodes.node(0).enter("b", &key("board:7")).await.unwrap();
    nodes.node(0).kick(&key("board:7"), "b", "").await.unwrap();
    talk.next_of("room_joined").await;
    settle().await;
    assert!(talk.others().await.is_empty());
    assert_eq!(nodes.node(0).local_viewers(&key("board:7")), 0);
}

#[tokio::test(start_paused = true)]
async fn more_orders_than_may_wait_close_a_connection_that_comes_back() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    for room in 0..256 {
        let room = key(&format!("post:{room}"));
        nodes.node(0).enter("b", &room).now_or_never().unwrap().unwrap();
    }
    idle().await;
    assert!(!talk.ended.is_finished());
    settle().await;
    assert_eq!(nodes.node(0).stats().rooms, 128, "as many as it may be in");
    for room in 0..257 {
        let room = key(&format!("post:{room}"));
        nodes.node(0).leave("b", &room).now_or_never().unwrap().unwrap();
    }
    assert_eq!(talk.inbox.close().await, Close::UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_kick_at_once_put_out_once() {
    let app = App::default();
    let nodes = app.nodes(3).await;
    let mut talk = Talk::multi(&nodes, 2, who("b"));
    talk.join("board:7").await;
    settle().await;
    talk.inbox.now();
    let room = key("board:7");
    let (one, other) = tokio::join!(nodes.node(0).kick(&room, "b", "x"), nodes.node(1).kick(&room, "b", "x"));
    assert!(one.is_ok() && other.is_ok());
    settle().await;
    assert_eq!(talk.others().await.len(), 1);
    assert_eq!(app.seen.lock().unwrap().iter().filter(|line| line.contains("leaves")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_comes_twice_is_carried_out_once() {
    let app = App::default();
    let nodes: Nodes = Fleet::new(2, |_, node| {
        let me = Kind::authenticated().on_join(|member| async move { Ok(json!({"me": member.connection()})) });
        app.kinds(node).kind("me", me)
    });
    settle().await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    let id = id_of(&mut talk).await;
    nodes.network_faults(&NetworkFaults { doubled: 100, ..NetworkFaults::calm() });
    for n in 0..10 {
        nodes.node(1).send_to(id, &n).await.unwrap();
    }
    settle().await;
    let told: Vec<_> = talk.others().await.into_iter().map(|event| event["data"].clone()).collect();
    assert_eq!(told, (0..10).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_kick_that_is_dropped_once_it_was_polled_is_carried_out_here() {
    let app = App::default();
    let nodes = app.nodes(2).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    talk.join("board:7").await;
    let room = key("board:7");
    drop(nodes.node(0).kick(&room, "b", "").now_or_never());
    assert_eq!(talk.next_of("room_left").await["reason"], "kicked");
    drop(nodes.node(0).kick(&room, "b", ""));
    talk.join("board:7").await;
    settle().await;
    assert!(talk.others().await.is_empty(), "one that was never polled did nothing");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_ordered_is_refused_with_words() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let rooms = nodes.node(0);
    let long = "x".repeat(124);
    let of = |result: Result<Reach, OrderError>| result.unwrap_err().to_string();
    assert_eq!(of(rooms.kick(&key("board:7"), "no user", "").await), "no user has this id");
    assert_eq!(
        of(rooms.kick(&key("board:7"), "b", &long).await),
        "the reason has 124 bytes, and at most 123 are allowed, 64 levels deep"
    );
    assert!(rooms.kick(&key("board:7"), "b", &long[1..]).await.is_ok());
    assert!(matches!(rooms.disconnect_user("", Close::NORMAL).await, Err(OrderError::User(_))));
    let name = "x".repeat(257);
    assert!(matches!(rooms.disconnect_where(&name, 1, Close::NORMAL).await, Err(OrderError::TooBig { .. })));
    let value = "x".repeat(1_023);
    assert!(matches!(rooms.disconnect_where("sid", value, Close::NORMAL).await, Err(OrderError::TooBig { .. })));
    let deep = (0..65).fold(json!(1), |inner, _| json!([inner]));
    assert!(matches!(rooms.disconnect_where("sid", deep, Close::NORMAL).await, Err(OrderError::TooBig { .. })));
    let gone: ConnectionId = format!("{}-1", rooms.node()).parse().unwrap();
    let long = "x".repeat(64 * 1024);
    assert!(matches!(rooms.send_to(gone, &long).await, Err(OrderError::TooBig { what: "the payload", .. })));
    let unencodable = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(matches!(rooms.send_to(gone, &unencodable).await, Err(OrderError::Encode(_))));
    assert!(matches!(rooms.send_to(gone, &1).await, Err(OrderError::NoConnection { .. })));
}

/// So far ahead of the fleet's.
#[derive(Debug)]
struct Ahead(Duration);

impl WallClock for Ahead {
    fn now(&self) -> SystemTime {
        SystemTime::now() + self.0
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_a_wrong_clock_makes_too_old_is_counted_and_logged() {
    let log = log::Log::start();
    let nodes: Nodes = Fleet::new(3, |number, node| {
        let node = node.kind("post", Kind::authenticated());
        // Only the last one's is wrong.
        if number == 2 { node.clock(Arc::new(Ahead(Duration::from_secs(90)))) } else { node }
    });
    let mut talks = Vec::new();
    for number in 0..3 {
        talks.push(Talk::multi(&nodes, number, who("5")));
        talks[number].join("post:1").await;
    }
    sleep(Duration::from_secs(5)).await;
    for _ in 0..3 {
        assert_eq!(nodes.node(0).kick(&key("post:1"), "5", "out").await.unwrap(), Reach::AllNodes);
        idle().await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!([0, 1, 2].map(|node| nodes.node(node).stats().too_old), [0, 0, 3]);
    assert_eq!(nodes.node(2).inspect().await.too_old, 3);
    assert!(talks[2].others().await.is_empty(), "it stays");
    for talk in &mut talks[..2] {
        talk.next_of("room_left").await;
    }
    let lines = log.lines();
    let warned = lines.iter().filter(|line| line.contains("is not carried out here"));
    assert_eq!(warned.count(), 1, "{lines:#?}");
}
