//! Rooms with a history: who comes back is given what it missed, in order and once, or is told that it can't be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/history.rs"]
mod history;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::time::Duration;

use rooms_core::{
    BroadcastError, Bus as _, JoinOptions, LocalBus,
    bus::{Position, Retention, Topic},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use history::{POST, join, joined, numbers, over, posts, publish, rooms, single};
use rig::key;
use talk::Talk;

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_given_what_it_missed_and_then_everything() {
    let rooms = rooms();
    let (mut talk, welcome) = joined(&rooms, json!({})).await;
    assert!(welcome["position"].is_string() && welcome.get("recovered").is_none(), "{welcome}");
    publish(&rooms, 1..=3).await;
    let mut last = talk.inbox.next().await;
    assert_eq!(last["data"], 1);
    last = talk.inbox.next().await;
    drop(talk);
    publish(&rooms, 4..=6).await;
    let (mut talk, welcome) = joined(&rooms, json!({"since": last["offset"]})).await;
    assert_eq!((&welcome["recovered"], &welcome["position"]), (&json!(true), &last["offset"]), "{welcome}");
    publish(&rooms, 7..=8).await;
    assert_eq!(numbers(&mut talk.inbox).await, [3, 4, 5, 6, 7, 8]);
    drop(talk);
    let (mut talk, _) = joined(&rooms, json!({"since": welcome["position"]})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [3, 4, 5, 6, 7, 8], "from where it was welcomed, as well");
}

#[tokio::test(start_paused = true)]
async fn a_position_is_the_same_to_who_publishes_and_to_who_is_given_it() {
    let rooms = rooms();
    let (mut talk, welcome) = joined(&rooms, json!({})).await;
    let receipt = rooms.broadcast(&key(POST), &json!({"n": 1})).await.unwrap();
    let position = receipt.position.unwrap();
    let start: Position = welcome["position"].as_str().unwrap().parse().unwrap();
    assert_eq!((position.epoch(), position.offset()), (start.epoch(), start.offset() + 1));
    let message = talk.inbox.next().await;
    assert_eq!(message, json!({"type": "message", "room": POST, "offset": position, "data": {"n": 1}}));
    talk.say(json!({"type": "publish", "room": POST, "data": 2, "ref": 2}).to_string());
    let mut answers = [talk.inbox.next().await, talk.inbox.next().await];
    answers.sort_by_key(|answer| answer["type"] == "published");
    let [message, published] = answers;
    assert_eq!(published, json!({"type": "published", "room": POST, "position": message["offset"], "ref": 2}));
    let silent = rooms.broadcast(&key("silent:1"), &1).await.unwrap();
    assert_eq!(silent.position, None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_for_one_room_is_told_positions_where_it_asks_and_payloads_are_bare_where_not() {
    let rooms = rooms();
    let mut bare = single(&rooms, JoinOptions::new());
    assert!(bare.inbox.next().await["position"].is_string());
    let mut first = single(&rooms, JoinOptions::new().since(""));
    let welcome = first.inbox.next().await;
    assert!(welcome["position"].is_string() && welcome.get("recovered").is_none(), "{welcome}");
    bare.inbox.all().await;
    let position = publish(&rooms, 1..=1).await;
    publish(&rooms, 2..=3).await;
    assert_eq!(bare.inbox.all().await, [1, 2, 3]);
    assert_eq!(numbers(&mut first.inbox).await, [1, 2, 3]);
    let mut again = single(&rooms, JoinOptions::new().since(position.to_string()));
    let welcome = again.inbox.next().await;
    assert_eq!((&welcome["recovered"], &welcome["position"]), (&json!(true), &json!(position)), "{welcome}");
    assert_eq!(numbers(&mut again.inbox).await, [2, 3]);
    again.say(r#"{"type":"dance"}"#);
    let error = again.inbox.next().await;
    assert_eq!((&error["code"], error.get("room")), (&json!("unknown_type"), None), "it speaks as on one room");
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_none_of_this_log_is_answered_with_one_resync() {
    let rooms = rooms();
    let last = publish(&rooms, 1..=5).await;
    let elsewhere = rooms.broadcast(&key("post:43"), &1).await.unwrap().position.unwrap();
    let future = Position::new(last.epoch(), 6);
    let long = "1".repeat(10_000);
    for since in [
        "x",
        ".",
        "1",
        "-1.-1",
        "2a.-7",
        "0.0",
        " ",
        "1e3.1",
        &long,
        &format!("{last} "),
        &elsewhere.to_string(),
        &future.to_string(),
        &Position::new(last.epoch(), u64::MAX).to_string(),
    ] {
        let (mut talk, welcome) = joined(&rooms, json!({"since": since})).await;
        assert_eq!((&welcome["recovered"], &welcome["position"]), (&json!(false), &json!(last)), "{since:.40}");
        let resync = json!({"type": "resync", "room": POST, "reason": "epoch", "position": last});
        assert_eq!(talk.inbox.all().await, [resync], "{since:.40}");
        let mut talk = single(&rooms, JoinOptions::new().since(since));
        assert_eq!(talk.inbox.next().await["recovered"], false, "{since:.40}");
        assert_eq!(talk.inbox.next().await["reason"], "epoch", "{since:.40}");
    }
    for broken in [json!({}), json!(7), json!([last]), json!(true)] {
        let mut talk = Talk::multi(&rooms, "a");
        let error = talk.ask(join(&json!({"since": broken}))).await;
        assert_eq!((&error["code"], &error["room"], &error["ref"]), (&json!("bad_message"), &json!(POST), &json!(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_kept_any_more_is_one_resync_and_never_a_part() {
    let rooms = rooms();
    let first = publish(&rooms, 1..=1).await;
    let second = publish(&rooms, 2..=2).await;
    publish(&rooms, 3..=102).await;
    let (mut talk, welcome) = joined(&rooms, json!({"since": second})).await;
    assert_eq!(welcome["recovered"], true);
    assert_eq!(numbers(&mut talk.inbox).await, (3..=102).collect::<Vec<_>>(), "all that is kept");
    let (mut talk, welcome) = joined(&rooms, json!({"since": first})).await;
    assert_eq!(welcome["recovered"], false);
    let resync = json!({"type": "resync", "room": POST, "reason": "history_gap", "position": welcome["position"]});
    assert_eq!(talk.inbox.all().await, [resync]);
    sleep(Duration::from_secs(3601)).await;
    let (mut talk, welcome) = joined(&rooms, json!({"since": second})).await;
    assert_eq!(welcome["recovered"], false, "it is too old");
    assert_eq!(talk.inbox.next().await["reason"], "history_gap");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_not_given_to_who_comes_while_others_stay() {
    let rooms = rooms();
    let (_stays, welcome) = joined(&rooms, json!({})).await;
    publish(&rooms, 1..=10).await;
    sleep(Duration::from_secs(1800)).await;
    publish(&rooms, 11..=12).await;
    sleep(Duration::from_secs(1800)).await;
    let (mut talk, _) = joined(&rooms, json!({"newest": 50})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [11, 12]);
    let (mut talk, welcome) = joined(&rooms, json!({"since": welcome["position"]})).await;
    assert_eq!(
        (&welcome["recovered"], talk.inbox.next().await["reason"].as_str()),
        (&json!(false), Some("history_gap"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_room_without_a_history_says_that_it_can_not_tell() {
    let rooms = rooms();
    let mut talk = Talk::multi(&rooms, "a");
    talk.say(json!({"type": "join", "room": "silent:1", "since": "1.1", "newest": 5}).to_string());
    let welcome = json!({"type": "room_joined", "room": "silent:1", "viewers": 1, "recovered": false});
    let resync = json!({"type": "resync", "room": "silent:1", "reason": "history_gap"});
    assert_eq!(talk.inbox.all().await, [welcome, resync]);
    rooms.broadcast(&key("silent:1"), &1).await.unwrap();
    assert_eq!(talk.inbox.next().await, json!({"type": "message", "room": "silent:1", "data": 1}));
}

#[tokio::test(start_paused = true)]
async fn what_is_published_and_not_appended_is_given_at_once_and_not_kept() {
    let hub = LocalBus::new();
    let foreign = hub.peer();
    let rooms = over(hub, posts());
    let (mut talk, welcome) = joined(&rooms, json!({})).await;
    foreign.publish(&Topic::Room(key(POST)), "\"bare\"".into()).await.unwrap();
    assert_eq!(talk.inbox.next().await, json!({"type": "message", "room": POST, "data": "bare"}));
    publish(&rooms, 1..=1).await;
    let (mut talk, _) = joined(&rooms, json!({"since": welcome["position"]})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_keeps_its_place_and_who_should_have_had_it_is_told() {
    use rooms_core::bus::History as _;
    let hub = LocalBus::new();
    let foreign = hub.peer();
    let rooms = over(hub, posts());
    let (mut talk, welcome) = joined(&rooms, json!({})).await;
    for payload in ["nonsense", "1", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "2"] {
        foreign.append(&Topic::Room(key(POST)), payload.into(), Retention::messages(100)).await.unwrap();
    }
    let events = talk.inbox.all().await;
    let brief: Vec<_> = events.iter().map(|event| [&event["data"], &event["reason"]]).collect();
    assert_eq!(brief, [[&json!(1), &Value::Null], [&Value::Null, &json!("bus_gap")], [&json!(2), &Value::Null]]);
    assert_eq!(events[1]["position"], json!(before(&events[2]["offset"])), "all that comes after it follows");
    assert_eq!(rooms.stats().bad_payloads, 2);
    // One who was away is told of the same, and is not where nothing of it is among what it missed.
    let (mut talk, resumed) = joined(&rooms, json!({"since": welcome["position"]})).await;
    let told = talk.inbox.all().await;
    let resync = json!({"type": "resync", "room": POST, "reason": "history_gap", "position": events[2]["offset"]});
    assert_eq!((&resumed["recovered"], told), (&json!(false), vec![resync]));
    for (since, then) in [(&events[2]["offset"], vec![]), (&json!(before(&events[2]["offset"])), vec![2])] {
        let (mut talk, resumed) = joined(&rooms, json!({"since": since})).await;
        assert_eq!((&resumed["recovered"], numbers(&mut talk.inbox).await), (&json!(true), then));
    }
    let (mut talk, late) = joined(&rooms, json!({"newest": 3})).await;
    let newest = (&late["position"], numbers(&mut talk.inbox).await);
    assert_eq!(newest, (&json!(before(&events[2]["offset"])), vec![2]), "from further back it would miss one");
}

fn before(position: &Value) -> Position {
    let position: Position = position.as_str().unwrap().parse().unwrap();
    Position::new(position.epoch(), position.offset() - 1)
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_with_a_key_is_one_message_on_all_nodes_and_its_receipt_says_so() {
    let hub = LocalBus::new();
    let (rooms, elsewhere) = (over(hub.peer(), posts()), over(hub.peer(), posts()));
    let (mut talk, _) = joined(&rooms, json!({})).await;
    let post = key(POST);
    let first = rooms.to(&post).idempotency_key("k").json(&1).await.unwrap();
    let again = elsewhere.to(&post).idempotency_key("k").json(&1).await.unwrap();
    assert_eq!((first.repeated, again.repeated, again.position), (false, true, first.position));
    assert!(!rooms.to(&post).idempotency_key("l").json(&2).await.unwrap().repeated);
    assert!(!rooms.broadcast(&post, &3).await.unwrap().repeated);
    assert_eq!(numbers(&mut talk.inbox).await, [1, 2, 3]);
    for bad in ["", &"x".repeat(129)] {
        let refused = rooms.to(&post).idempotency_key(bad).json(&4).await.unwrap_err();
        let BroadcastError::IdempotencyKey { room, source } = refused else { panic!("{refused:?}") };
        assert_eq!((room.as_str(), source.to_string().contains("1 to 128 bytes")), (POST, true));
    }
    let refused = rooms.to(&key("silent:1")).idempotency_key("k").json(&4).await.unwrap_err();
    assert_eq!(refused.to_string(), "silent:1: an idempotency key needs a kind with a history");
    assert!(talk.inbox.is_silent().await);
}
