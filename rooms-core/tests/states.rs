//! Rooms with a state: members have the last one, as patches or whole, and of two writers one is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/posts.rs"]
mod posts;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::time::Duration;

use futures::channel::mpsc;
use rooms_core::{
    BroadcastError, JoinOptions, LocalBus, RoomManager,
    bus::{Position, Retention},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use flaky::Flaky;
use posts::{POST, Page, join, joined, long, over, posts, rooms, set};
use rig::{Inbox, Rooms, idle, key, who};
use talk::Talk;

#[tokio::test(start_paused = true)]
async fn members_are_told_what_has_changed_and_who_comes_late_all_of_it() {
    let rooms = rooms();
    let mut first = joined(&rooms, "a").await;
    first.inbox.all().await;
    let one = set(&rooms, &json!({"text": long(), "likes": 1, "old": 1})).await;
    let all = json!({"text": long(), "likes": 1, "old": 1});
    let whole = json!({"type": "room_state", "room": POST, "revision": one, "state": all});
    assert_eq!(first.inbox.all().await, [whole]);

    let two = set(&rooms, &json!({"text": long(), "likes": 2})).await;
    assert_eq!((two.epoch(), two.offset()), (one.epoch(), one.offset() + 1));
    let patch = json!({"likes": 2, "old": null});
    let patch = json!({"type": "room_state", "room": POST, "revision": two, "since": one, "patch": patch});
    assert_eq!(first.inbox.all().await, [patch]);

    let mut late = joined(&rooms, "b").await;
    let all = json!({"text": long(), "likes": 2});
    assert_eq!(late.inbox.all().await, [json!({"type": "room_state", "room": POST, "revision": two, "state": all})]);
    first.inbox.all().await;
    set(&rooms, &json!({"text": long(), "likes": 3})).await;
    let events = [first.inbox.all().await, late.inbox.all().await];
    assert_eq!(events[0], events[1]);
    assert_eq!((events[0].len(), &events[0][0]["patch"]), (1, &json!({"likes": 3})));

    assert_eq!(set(&rooms, &json!({"text": long(), "likes": 3})).await.offset(), 3, "it is the same");
    assert!(first.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn what_a_patch_can_not_say_or_says_in_more_words_is_sent_whole() {
    let rooms = rooms();
    let mut talk = joined(&rooms, "a").await;
    let mut page = Page::default();
    let states = [
        json!({"text": long(), "a": 1}),
        json!({"text": long(), "a": null}),
        json!({"text": long(), "a": null, "b": {"c": null}}),
        json!({"text": long(), "a": [null, {"b": null}], "b": {}}),
        json!({"x": 1}),
        json!({"y": 1}),
        json!([1, 2]),
        json!({"text": long()}),
        json!(null),
        json!("text"),
    ];
    for state in &states {
        let revision = set(&rooms, state).await;
        page.look(&mut talk.inbox).await;
        assert_eq!((&page.state, &page.revision, page.lost), (state, &json!(revision), false));
    }
    assert_eq!(page.came, [9, 1], "only the array is a patch");
}

#[tokio::test(start_paused = true)]
async fn of_two_writers_at_once_one_is_told_that_it_was_too_late() {
    let hub = LocalBus::new();
    let nodes = [over(hub.peer(), posts()), over(hub.peer(), posts())];
    let room = key(POST);
    // Each asks for the state, and then sets one: both ask before either sets.
    let flaky = Flaky::new(hub.peer());
    let slow = over(flaky.clone(), posts());
    flaky.faults().permits.forget_permits(usize::MAX >> 3);
    let late = slow.broadcast_state(&room, &json!(1));
    let early = async {
        idle().await;
        let revision = set(&nodes[0], &json!(2)).await;
        flaky.faults().permits.add_permits(1);
        revision
    };
    let (late, revision) = tokio::join!(late, early);
    match late {
        Err(BroadcastError::Conflict { room: of, current }) => {
            assert_eq!((of, current), (room.clone(), Some(revision)))
        }
        other => panic!("{other:?}"),
    }
    let state = nodes[1].state::<Value>(&room).await.unwrap().unwrap();
    assert_eq!((state.revision, state.value), (revision, json!(2)));

    let after = |revision, value| nodes[1].broadcast_state_after(&room, revision, &json!(value));
    for wrong in [None, Some(Position::new(1, 1)), Some(Position::new(revision.epoch(), revision.offset() + 1))] {
        let conflict = after(wrong, 3).await.unwrap_err();
        assert!(
            matches!(conflict, BroadcastError::Conflict { current, .. } if current == Some(revision)),
            "{conflict}"
        );
    }
    let next = after(Some(revision), 3).await.unwrap();
    assert_eq!(next.offset(), revision.offset() + 1);
    assert_eq!(nodes[0].state::<u64>(&room).await.unwrap().unwrap().value, 3);
    assert!(matches!(nodes[0].state::<String>(&room).await, Err(BroadcastError::Decode { .. })));
    assert_eq!(nodes[0].state::<u64>(&key("post:43")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn one_who_joins_during_a_write_has_the_state_once_and_no_patch_of_another() {
    let hub = LocalBus::new();
    let elsewhere = over(hub.peer(), posts());
    let kind = posts().on_join(|_| async {
        sleep(Duration::from_secs(1)).await;
        Ok(Value::Null)
    });
    let rooms = over(hub.peer(), kind);
    set(&elsewhere, &json!({"text": long(), "n": 0})).await;
    let mut talk = Talk::multi(&rooms, "a");
    talk.say(join());
    for n in 1..=20 {
        set(&elsewhere, &json!({"text": long(), "n": n})).await;
        sleep(Duration::from_millis(100)).await;
    }
    let events: Vec<Value> =
        talk.inbox.all().await.into_iter().filter(|event| event["type"] != "viewer_joined").collect();
    assert_eq!((&events[0]["type"], &events[1]["type"]), (&json!("room_joined"), &json!("room_state")));
    let first = events[1]["state"]["n"].as_u64().unwrap();
    assert!(first >= 9, "what was set before it joined is not told: {first}");
    let patches: Vec<u64> = events[2..].iter().map(|event| event["patch"]["n"].as_u64().unwrap()).collect();
    assert_eq!(patches, (first + 1..=20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_state_comes_in_the_same_form_where_payloads_are_bare_and_before_the_history() {
    let kind = posts().history(Retention::messages(10));
    let rooms = over(LocalBus::new(), kind);
    let revision = set(&rooms, &json!({"n": 1})).await;
    rooms.broadcast(&key(POST), &json!({"type": "new"})).await.unwrap();
    let single = |options| {
        let (send, stream) = mpsc::unbounded();
        let (sink, receiver) = mpsc::unbounded();
        let ended = tokio::spawn(rooms.serve_room_with(stream, sink, who("a"), key(POST), options));
        Talk { send, inbox: Inbox(receiver), ended }
    };
    let state = json!({"type": "room_state", "room": POST, "revision": revision, "state": {"n": 1}});
    let mut bare = single(JoinOptions::new());
    assert_eq!(&bare.inbox.all().await[1..], std::slice::from_ref(&state));
    let mut newest = single(JoinOptions::new().newest(5));
    let events = newest.inbox.all().await;
    assert_eq!((&events[1], &events[2]["data"]), (&state, &json!({"type": "new"})));
}

#[tokio::test(start_paused = true)]
async fn however_many_join_at_once_the_state_is_read_once() {
    let hub = LocalBus::new();
    set(&over(hub.peer(), posts()), &json!({"n": 1})).await;
    let bus = Flaky::new(hub.peer());
    let rooms = over(bus.clone(), posts());
    // The others come while the first one waits for what is read.
    bus.faults().permits.forget_permits(usize::MAX >> 3);
    let first = tokio::spawn({
        let rooms = rooms.clone();
        async move { joined(&rooms, "a").await }
    });
    idle().await;
    let others = futures::future::join_all((1..80).map(|_| joined(&rooms, "a")));
    let read = async {
        idle().await;
        bus.faults().permits.add_permits(usize::MAX >> 4);
    };
    let ((), others) = tokio::join!(read, others);
    assert!(first.await.is_ok() && others.len() == 79);
    assert_eq!(bus.reads(), 1);
    let mut late = joined(&rooms, "b").await;
    assert_eq!(late.inbox.next().await["state"], json!({"n": 1}));
    assert_eq!(bus.reads(), 1, "it has a copy");
}

#[tokio::test(start_paused = true)]
async fn a_join_of_a_room_that_it_is_in_is_answered_with_the_state_in_bounds() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", posts())
        .limits(|limits| limits.max_replay_bytes = 3_000)
        .build()
        .unwrap();
    set(&rooms, &json!({"text": long()})).await;
    let mut talk = joined(&rooms, "a").await;
    let mut states = 0;
    for _ in 0..10 {
        talk.say(join());
        states += talk.inbox.all().await.iter().filter(|event| event["type"] == "room_state").count();
    }
    assert_eq!(states, 3, "the first one that goes beyond the bound is the last");
    talk.say(json!({"type": "leave", "room": POST}).to_string());
    talk.inbox.all().await;
    assert_eq!(talk.ask(join()).await["code"], "unavailable");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(talk.ask(join()).await["type"], "room_joined");
    assert_eq!(talk.inbox.next().await["type"], "room_state");
}
