//! Who may join, who may see the members, and who may be in a room unseen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::channel::mpsc;
use rooms_core::{Decision, HookError, Identity, JoinError, JoinOptions, Kind, RoomManager, testing::fleet::Fleet};
use serde_json::{Value, json};

use nodes::{Nodes, agreed, settle};
use rig::{Client, Inbox, Rooms, idle, key, who};
use talk::Talk;

/// One who may see the members of all chats, and observe them.
fn moderator(user: &str) -> Identity {
    who(user).with_claims(r#"{"sees":"chat:*","observes":["chat:*"]}"#)
}

fn chats() -> Kind {
    Kind::new()
        .join_rule(|_, room| async move { room.id() != "closed" })
        .members_claim("sees")
        .observe_claim("observes")
        .allow_publish()
}

fn fleet(nodes: usize) -> Nodes {
    Fleet::new(nodes, |_, node| node.kind("chat", chats()))
}

async fn enter(rooms: &Rooms, identity: Identity, options: JoinOptions) -> (Client, Value) {
    let (sink, receiver) = mpsc::unbounded();
    let connection = rooms.connect(identity, sink).unwrap();
    let driven = tokio::spawn(connection.drive());
    let mut client = Client { connection, inbox: Inbox(receiver), driven };
    client.connection.join_with(&key("chat:1"), options).await.unwrap();
    let welcome = client.inbox.next().await;
    assert_eq!(welcome["type"], "room_joined", "{welcome}");
    (client, welcome)
}

async fn member(rooms: &Rooms, identity: Identity) -> (Client, Value) {
    enter(rooms, identity, JoinOptions::new()).await
}

async fn observer(rooms: &Rooms, user: &str) -> (Client, Value) {
    enter(rooms, moderator(user), JoinOptions::new().observe()).await
}

#[tokio::test(start_paused = true)]
async fn who_may_not_see_the_members_is_told_numbers_alone() {
    let fleet = fleet(2);
    idle().await;
    let (mut ada, welcome) = member(fleet.node(0), moderator("ada")).await;
    assert_eq!((&welcome["users"], &welcome["members"]), (&json!(1), &json!([{"user": "ada"}])));
    settle().await;
    for node in 0..2 {
        let (mut bob, welcome) = member(fleet.node(node), who("bob")).await;
        assert_eq!(welcome, json!({"type": "room_joined", "room": "chat:1", "viewers": 2}));
        settle().await;
        let (cy, _) = member(fleet.node(1 - node), who("cy")).await;
        settle().await;
        drop(cy);
        settle().await;
        let numbers = [json!({"type": "viewer_joined", "viewers": 3}), json!({"type": "viewer_left", "viewers": 2})];
        assert_eq!(bob.inbox.all().await, numbers, "on node {node}");
        drop(bob);
        settle().await;
        let named = |kind, viewers, user| json!({"type": kind, "viewers": viewers, "users": [{"user": user}]});
        let all = [
            named("viewer_joined", 2, "bob"),
            named("viewer_joined", 3, "cy"),
            named("viewer_left", 2, "cy"),
            named("viewer_left", 1, "bob"),
        ];
        assert_eq!(ada.inbox.all().await, all, "on node {node}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_users_change_and_their_number_does_not_nothing_is_told_to_who_may_not_see_them() {
    let fleet = fleet(1);
    let rooms = fleet.node(0);
    let (mut ada, _) = member(rooms, moderator("ada")).await;
    let (mut bob, _) = member(rooms, who("bob")).await;
    let (cy, _) = member(rooms, who("cy")).await;
    settle().await;
    ada.inbox.all().await;
    bob.inbox.all().await;
    // Opens a window, in which one goes and another comes.
    let (_dee, _) = member(rooms, who("dee")).await;
    drop(cy);
    let (mut eve, _) = member(rooms, who("eve")).await;
    settle().await;
    assert_eq!(bob.inbox.all().await, [json!({"type": "viewer_joined", "viewers": 4})]);
    assert!(eve.inbox.is_silent().await, "it was told the number as it joined");
    let told = ada.inbox.all().await;
    let users: Vec<_> = told.iter().map(|event| (&event["type"], &event["users"][0]["user"])).collect();
    assert_eq!(json!(users), json!([["viewer_joined", "dee"], ["viewer_joined", "eve"], ["viewer_left", "cy"]]));
}

#[tokio::test(start_paused = true)]
async fn joining_again_tells_no_more_than_joining() {
    let rooms: Rooms = RoomManager::build_for().kind("chat", chats()).build().unwrap();
    let (_ada, _) = member(&rooms, moderator("ada")).await;
    let mut bob = Talk::multi(&rooms, "bob");
    for _ in 0..3 {
        let welcome = bob.ask(r#"{"type":"join","room":"chat:1"}"#).await;
        assert_eq!(welcome, json!({"type": "room_joined", "room": "chat:1", "viewers": 2}));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_cannot_tell_who_sees_the_members_lets_nobody_in_for_now() {
    let up = Arc::new(AtomicBool::new(false));
    let database = Arc::clone(&up);
    let kind = Kind::authenticated().members_rule(move |_, _| {
        let decision = if database.load(Ordering::Relaxed) { Decision::Allow } else { Decision::Unavailable };
        async move { decision }
    });
    let rooms: Rooms = RoomManager::build_for().kind("chat", kind).build().unwrap();
    let mut client = Client::connect(&rooms, "ada");
    let refused = client.connection.join(&key("chat:1")).await;
    assert_eq!(refused, Err(JoinError::RuleUnavailable { room: key("chat:1") }));
    assert_eq!(rooms.stats().rooms, 0);
    up.store(true, Ordering::Relaxed);
    assert_eq!(client.connection.join(&key("chat:1")).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_given_everything_and_is_counted_and_named_nowhere() {
    let fleet = fleet(3);
    idle().await;
    let (mut ada, _) = member(fleet.node(0), moderator("ada")).await;
    settle().await;
    let mut observers = Vec::new();
    for node in 0..2 {
        let (observer, welcome) = observer(fleet.node(node), "mod").await;
        assert_eq!(
            welcome,
            json!({
                "type": "room_joined", "room": "chat:1", "viewers": 1, "observer": true,
                "users": 1, "members": [{"user": "ada"}],
            })
        );
        observers.push(observer);
    }
    settle().await;
    assert!(ada.inbox.is_silent().await, "nobody hears that they came");
    // The third node has nobody there, and asks.
    assert_eq!(agreed(&fleet, 0..3, &key("chat:1")).await, 1);
    for node in 0..3 {
        let members = fleet.node(node).members(&key("chat:1")).await.unwrap();
        assert_eq!(members.users.iter().map(|user| &*user.user).collect::<Vec<_>>(), ["ada"], "node {node}");
        assert_eq!(members.unnamed, 0);
    }
    let (bob, _) = member(fleet.node(2), who("bob")).await;
    settle().await;
    fleet.node(2).broadcast(&key("chat:1"), &json!("said")).await.unwrap();
    drop(bob);
    settle().await;
    drop(ada);
    settle().await;
    for (node, observer) in observers.iter_mut().enumerate() {
        let told = [
            json!({"type": "viewer_joined", "viewers": 2, "users": [{"user": "bob"}]}),
            json!("said"),
            json!({"type": "viewer_left", "viewers": 1, "users": [{"user": "bob"}]}),
            json!({"type": "viewer_left", "viewers": 0, "users": [{"user": "ada"}]}),
        ];
        assert_eq!(observer.inbox.all().await, told, "on node {node}");
    }
    let (mut cy, welcome) = member(fleet.node(1), who("cy")).await;
    assert_eq!(welcome["viewers"], 1);
    drop(observers);
    settle().await;
    assert!(cy.inbox.is_silent().await, "nobody hears that they went");
    assert_eq!(agreed(&fleet, 0..3, &key("chat:1")).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_may_not_see_the_members_is_told_numbers() {
    let kind = Kind::authenticated().list_members().members_rule(|_, _| async { false });
    let rooms: Rooms = RoomManager::build_for().kind("chat", kind.observe_rule(|_, _| async { true })).build().unwrap();
    let (mut watcher, welcome) = observer(&rooms, "mod").await;
    assert_eq!(welcome, json!({"type": "room_joined", "room": "chat:1", "viewers": 0, "observer": true}));
    let (ada, _) = member(&rooms, who("ada")).await;
    settle().await;
    drop(ada);
    settle().await;
    let numbers = [json!({"type": "viewer_joined", "viewers": 1}), json!({"type": "viewer_left", "viewers": 0})];
    assert_eq!(watcher.inbox.all().await, numbers);
}

#[tokio::test(start_paused = true)]
async fn hooks_know_an_observer_and_a_room_that_is_only_observed_is_empty() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let log = Arc::clone(&log);
        move |it: String| log.lock().unwrap().push(format!("{what} {it}"))
    };
    let (join, leave, publish, occupied) = (note("join"), note("leave"), note("publish"), note("room"));
    let kind = Kind::authenticated()
        .observe_rule(|who, _| async move { who.user() == "mod" })
        .allow_publish()
        .on_join(move |member| {
            join(member.is_observer().to_string());
            async { Ok(Value::Null) }
        })
        .on_leave(move |member| {
            leave(member.is_observer().to_string());
            async {}
        })
        .on_publish(move |member, data| {
            publish(member.is_observer().to_string());
            async { Ok::<_, HookError>(data) }
        })
        .on_occupancy(move |_, occupancy| {
            occupied(format!("{occupancy:?}"));
            async {}
        });
    let rooms: Rooms = RoomManager::build_for().kind("chat", kind).build().unwrap();
    let mut watcher = Talk::multi(&rooms, "mod");
    let joined = watcher.ask(r#"{"type":"join","room":"chat:1","observe":true}"#).await;
    assert_eq!((&joined["viewers"], &joined["observer"]), (&json!(0), &json!(true)));
    let again = watcher.ask(r#"{"type":"join","room":"chat:1"}"#).await;
    assert_eq!((&again["viewers"], &again["observer"]), (&json!(0), &json!(true)), "until it leaves");
    watcher.ask(r#"{"type":"publish","room":"chat:1","data":1,"ref":1}"#).await;
    watcher.inbox.all().await;
    assert_eq!(watcher.ask(r#"{"type":"leave","room":"chat:1"}"#).await["type"], "room_left");
    idle().await;
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()), ["join true", "publish true", "leave true"]);
    let joined = watcher.ask(r#"{"type":"join","room":"chat:1"}"#).await;
    assert_eq!((&joined["viewers"], &joined["observer"]), (&json!(1), &Value::Null));
    idle().await;
    assert_eq!(*log.lock().unwrap(), ["join false", "room OccupiedHere", "room OccupiedAnywhere"]);
}

#[tokio::test(start_paused = true)]
async fn an_observer_of_one_room_asks_in_its_url() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::new().observe_rule(|who, _| async move { who.user() == "mod" }))
        .build()
        .unwrap();
    let open = |user: &str, options: JoinOptions| {
        let (send, stream) = mpsc::unbounded();
        let (sink, receiver) = mpsc::unbounded();
        let served = rooms.serve_room_with(stream, sink, who(user), key("post:42"), options);
        Talk { send, inbox: Inbox(receiver), ended: tokio::spawn(served) }
    };
    let mut watcher = open("mod", JoinOptions::new().observe());
    assert_eq!(
        watcher.inbox.next().await,
        json!({"type": "room_joined", "room": "post:42", "viewers": 0, "observer": true})
    );
    // Nobody may join, and others may not observe.
    for (user, options) in [("mod", JoinOptions::new()), ("ada", JoinOptions::new().observe())] {
        assert_eq!(open(user, options).ended.await.unwrap().code().get(), 4403, "{user}");
    }
}

/// Rooms that are there, forbidden or not, and rooms that are not.
const FORBIDDEN: [&str; 6] = ["chat:closed", "chat:unknown", "team:blue", "team:red", "nothing:1", "user:6"];

fn guarded() -> Rooms {
    let is_known = |room: &str| ["closed", "open"].contains(&room);
    // As applications do it: the rule looks the room up.
    let chat = Kind::new().join_rule(move |who, room| async move { is_known(room.id()) && who.user() == "owner" });
    RoomManager::build_for()
        .kind("chat", chat.list_members().allow_publish().on_leave(|_| async {}).on_message(|_, _| async { Ok(()) }))
        .kind("team", Kind::new().join_claim("teams"))
        .kind("user", Kind::owner_only())
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_room_and_a_missing_one_are_answered_byte_for_byte_alike() {
    let rooms = guarded();
    let (_owner, _) = {
        let (sink, receiver) = mpsc::unbounded();
        let mut connection = rooms.connect(who("owner"), sink).unwrap();
        connection.join(&key("chat:closed")).await.unwrap();
        (connection, receiver)
    };
    let mut talk = Talk::multi(&rooms, "5");
    assert_eq!(talk.inbox.next().await["room"], "user:5");
    for (command, code) in [
        (r#"{"type":"join","room":"ROOM","ref":1}"#, "not_allowed"),
        (r#"{"type":"join","room":"ROOM","observe":true,"ref":1}"#, "not_allowed"),
        (r#"{"type":"join","room":"ROOM","since":"1.1","newest":5,"with":{},"ref":1}"#, "not_allowed"),
        (r#"{"type":"leave","room":"ROOM","ref":1}"#, "not_joined"),
        (r#"{"type":"publish","room":"ROOM","data":1,"ref":1}"#, "not_joined"),
        (r#"{"type":"dance","room":"ROOM","ref":1}"#, "not_joined"),
    ] {
        let mut answers = Vec::new();
        for room in FORBIDDEN {
            talk.say(command.replace("ROOM", room));
            idle().await;
            let frames: Vec<_> = std::iter::from_fn(|| talk.inbox.0.try_recv().ok()).collect();
            let texts: Vec<_> = frames.iter().map(|frame| frame.as_text().unwrap().replace(room, "ROOM")).collect();
            assert!(texts.len() == 1 && texts[0].contains(code), "{command} {room}: {texts:?}");
            answers.push(texts);
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{command}: {answers:?}");
    }
    // At the endpoint of one room, all that is sent is the close frame.
    let mut closes = Vec::new();
    for room in FORBIDDEN {
        let (_send, stream) = mpsc::unbounded();
        let (sink, mut receiver) = mpsc::unbounded();
        let close = rooms.serve_room(stream, sink, who("5"), key(room)).await;
        let frames: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|frame| (frame.kind(), frame.payload().to_vec()))
            .collect();
        assert_eq!((close.code().get(), frames.len()), (4403, 1), "{room}");
        closes.push(frames);
    }
    assert!(closes.windows(2).all(|pair| pair[0] == pair[1]), "{closes:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rooms.stats().rooms, 2, "none was made");
}
