//! Rooms with a history: who comes back is given what it missed, in order and once, or is told that it can't be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::channel::mpsc;
use rooms_core::{
    BroadcastError, Bus, JoinOptions, Kind, LocalBus, Payload, RoomManager,
    bus::{BusError, BusEvent, Position, Retention, Topic},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use flaky::Flaky;
use rig::{Client, Inbox, Rooms, idle, key, who};
use talk::Talk;

const POST: &str = "post:42";

fn posts() -> Kind {
    Kind::authenticated().allow_publish().history(Retention::messages(100))
}

fn over(bus: impl Bus, post: Kind) -> Rooms {
    let silent = Kind::authenticated();
    let kinds = RoomManager::build_for().kind("post", post).kind("silent", silent);
    // These pages answer no ping.
    kinds.limits(|limits| limits.ping_interval = Duration::MAX).bus(bus).build().unwrap()
}

fn rooms() -> Rooms {
    over(LocalBus::new(), posts())
}

/// Publishes numbers; gives the position of the last.
async fn publish(rooms: &Rooms, numbers: std::ops::RangeInclusive<u64>) -> Position {
    let mut position = None;
    for number in numbers {
        position = rooms.broadcast(&key(POST), &number).await.unwrap().position;
    }
    position.unwrap()
}

fn join(more: &Value) -> String {
    let mut command = json!({"type": "join", "room": POST, "ref": 1});
    command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    command.to_string()
}

/// Joins on a connection that is for many rooms.
async fn joined(rooms: &Rooms, more: Value) -> (Talk, Value) {
    let mut talk = Talk::multi(rooms, "a");
    let welcome = talk.ask(join(&more)).await;
    assert_eq!((&welcome["type"], &welcome["ref"]), (&json!("room_joined"), &json!(1)), "{welcome}");
    (talk, welcome)
}

/// The numbers that came, which follow each other; their positions do too.
async fn numbers(inbox: &mut Inbox) -> Vec<u64> {
    let mut last = None;
    let mut numbers = Vec::new();
    for event in inbox.all().await {
        if event["type"] != "message" {
            assert!(event["type"] == "viewer_joined" || event["type"] == "viewer_left", "{event}");
            continue;
        }
        let position: Position = event["offset"].as_str().expect("an offset").parse().unwrap();
        if let Some(last) = last.replace(position) {
            assert_eq!(position, Position::new(last.epoch(), last.offset() + 1));
        }
        numbers.push(event["data"].as_u64().unwrap());
    }
    numbers
}

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

/// A connection that is for one room, as its URL says more.
fn single(rooms: &Rooms, options: JoinOptions) -> Talk {
    let (send, stream) = mpsc::unbounded();
    let (sink, receiver) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve_room_with(stream, sink, who("a"), key(POST), options));
    Talk { send, inbox: Inbox(receiver), ended }
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
        let resync = json!({"type": "resync", "room": POST, "reason": "epoch"});
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
    assert_eq!(talk.inbox.all().await, [json!({"type": "resync", "room": POST, "reason": "history_gap"})]);
    sleep(Duration::from_secs(3601)).await;
    let (mut talk, welcome) = joined(&rooms, json!({"since": second})).await;
    assert_eq!(welcome["recovered"], false, "it is too old");
    assert_eq!(talk.inbox.next().await["reason"], "history_gap");
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_is_longer_than_what_may_wait_in_a_room_is_made_good() {
    let kind = || Kind::authenticated().history(Retention::messages(10_000));
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), kind()));
    let rooms = over(bus.clone(), kind());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    bus.set(|faults| &faults.muted, true);
    publish(&elsewhere, 1..=5_000).await;
    bus.set(|faults| &faults.muted, false);
    publish(&elsewhere, 5_001..=5_002).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(numbers(&mut talk.inbox).await, (1..=5_002).collect::<Vec<_>>());
}

/// Nothing follows that would show it.
#[tokio::test(start_paused = true)]
async fn more_than_may_wait_while_the_history_is_read_is_read_as_well() {
    let kind = || Kind::authenticated().history(Retention::messages(10_000));
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), kind()));
    let rooms = over(bus.clone(), kind());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    bus.faults().permits.forget_permits(usize::MAX >> 3);
    bus.set(|faults| &faults.muted, true);
    publish(&elsewhere, 1..=1).await;
    bus.set(|faults| &faults.muted, false);
    publish(&elsewhere, 2..=2).await;
    idle().await;
    publish(&elsewhere, 3..=3_000).await;
    bus.faults().permits.add_permits(1_000);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(numbers(&mut talk.inbox).await, (1..=3_000).collect::<Vec<_>>());
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
async fn what_a_node_has_read_of_the_log_is_given_for_no_longer_than_the_log_keeps_it() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let before = publish(&elsewhere, 1..=1).await;
    publish(&elsewhere, 2..=3).await;
    sleep(Duration::from_secs(3000)).await;
    publish(&elsewhere, 4..=4).await;
    let (mut stays, _) = joined(&rooms, json!({"newest": 50})).await;
    assert_eq!(numbers(&mut stays.inbox).await, [1, 2, 3, 4]);
    sleep(Duration::from_secs(599)).await;
    let reads = bus.reads();
    let (mut talk, _) = joined(&rooms, json!({"newest": 50})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [1, 2, 3, 4], "the last second of the first three");
    sleep(Duration::from_secs(1)).await;
    let (mut talk, _) = joined(&rooms, json!({"newest": 50})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [4]);
    let (mut talk, welcome) = joined(&rooms, json!({"since": before})).await;
    assert_eq!((&welcome["recovered"], &talk.inbox.next().await["reason"]), (&json!(false), &json!("history_gap")));
    // Beside the look at the position, which may be due.
    assert!(bus.reads() <= reads + 1, "all of it out of the node's memory");
}

#[tokio::test(start_paused = true)]
async fn more_than_an_outbox_takes_is_a_resync_and_the_newest_are_as_many_as_it_takes() {
    let kind = Kind::authenticated().history(Retention::messages(10_000).bytes(Retention::MAX_BYTES));
    let rooms: Rooms =
        RoomManager::build_for().kind("post", kind).limits(|limits| limits.max_outbox_messages = 41).build().unwrap();
    let first = publish(&rooms, 1..=1).await;
    let many = publish(&rooms, 2..=20).await;
    publish(&rooms, 21..=50).await;
    let (mut talk, welcome) = joined(&rooms, json!({"since": many})).await;
    assert_eq!(welcome["recovered"], true);
    assert_eq!(numbers(&mut talk.inbox).await, (21..=50).collect::<Vec<_>>());
    let (mut talk, welcome) = joined(&rooms, json!({"since": first, "newest": 1_000_000})).await;
    assert_eq!(welcome["recovered"], false);
    assert_eq!(talk.inbox.next().await["reason"], "history_gap");
    assert_eq!(numbers(&mut talk.inbox).await, (21..=50).collect::<Vec<_>>(), "three quarters of an outbox");
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_is_given_the_newest() {
    let rooms = rooms();
    let (mut talk, _) = joined(&rooms, json!({"newest": 5})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [0; 0], "there are none");
    publish(&rooms, 1..=20).await;
    let (mut talk, welcome) = joined(&rooms, json!({"newest": 5})).await;
    publish(&rooms, 21..=21).await;
    assert_eq!(numbers(&mut talk.inbox).await, [16, 17, 18, 19, 20, 21]);
    let (mut talk, _) = joined(&rooms, json!({"since": welcome["position"]})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [16, 17, 18, 19, 20, 21], "its position is before what it is given");
    let (mut talk, welcome) = joined(&rooms, json!({"newest": 1_000_000})).await;
    assert!(welcome.get("recovered").is_none());
    assert_eq!(numbers(&mut talk.inbox).await, (1..=21).collect::<Vec<_>>());
    let (mut talk, _) = joined(&rooms, json!({"since": "nonsense", "newest": 2})).await;
    assert_eq!(talk.inbox.next().await["type"], "resync");
    assert_eq!(numbers(&mut talk.inbox).await, [20, 21], "the page begins afresh with these");
    let mut one = Client::connect(&rooms, "b");
    one.connection.join_with(&key(POST), JoinOptions::new().newest(2)).await.unwrap();
    one.inbox.next().await;
    assert_eq!(one.inbox.all().await, [20, 21], "bare, on a connection for one room that is told no positions");
}

#[tokio::test(start_paused = true)]
async fn what_is_published_while_the_hook_runs_follows_once_and_the_hook_knows_from_where() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&told);
    let kind = posts().on_join(move |member| {
        let noted = Arc::clone(&noted);
        async move {
            noted.lock().unwrap().push((member.position(), member.with().map(|with| with.as_str().to_owned())));
            sleep(Duration::from_secs(1)).await;
            Ok(json!({"position": "mine", "version": 7}))
        }
    });
    let rooms = over(LocalBus::new(), kind);
    let first = publish(&rooms, 1..=3).await;
    for (more, expected, with) in [
        (json!({"with": {"version": 6}}), vec![4, 5], Some(r#"{"version":6}"#)),
        (json!({"since": Position::new(first.epoch(), 1)}), vec![2, 3, 4, 5, 4, 5], None),
        (json!({"newest": 1}), vec![5, 4, 5], None),
    ] {
        let mut talk = Talk::multi(&rooms, "a");
        talk.say(join(&more));
        idle().await;
        publish(&rooms, 4..=5).await;
        let welcome = talk.inbox.next().await;
        assert_eq!(numbers(&mut talk.inbox).await, expected);
        let (position, said) = told.lock().unwrap().pop().unwrap();
        assert_eq!((&welcome["position"], &welcome["version"]), (&json!(position.unwrap()), &json!(7)), "{welcome}");
        assert_eq!(said.as_deref(), with);
    }
}

#[tokio::test(start_paused = true)]
async fn the_query_of_a_url_is_for_the_hook_too() {
    let told = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&told);
    let kind = Kind::authenticated().on_join(move |member| {
        *noted.lock().unwrap() = member.with().map(|with| with.as_str().to_owned());
        assert_eq!(member.position(), None, "there is no history");
        async { Ok(Value::Null) }
    });
    let rooms = over(LocalBus::new(), kind);
    let with = Payload::encode(&json!({"version": "6"})).unwrap();
    let mut talk = single(&rooms, JoinOptions::new().with(with));
    assert_eq!(talk.inbox.next().await, json!({"type": "room_joined", "room": POST, "viewers": 1}));
    assert_eq!(told.lock().unwrap().as_deref(), Some(r#"{"version":"6"}"#));
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
async fn a_broadcast_while_the_bus_is_down_is_an_error_where_there_is_a_history() {
    let bus = Flaky::new(LocalBus::new());
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    bus.go_down();
    let refused = rooms.broadcast(&key(POST), &1).await.unwrap_err();
    assert!(matches!(refused, BroadcastError::Bus { source: BusError::Down, .. }), "{refused:?}");
    assert!(rooms.broadcast(&key("silent:1"), &1).await.is_ok());
    bus.come_up();
    assert!(talk.inbox.is_silent().await, "nothing happened, and nothing was lost");
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_on_the_way_is_read_and_nobody_is_told() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let (mut many, _) = joined(&rooms, json!({})).await;
    let mut one = Client::join(&rooms, "b", POST).await;
    many.inbox.all().await;
    one.inbox.all().await;
    let reads = bus.reads();

    // The next one shows that some are missing.
    publish(&elsewhere, 1..=2).await;
    bus.set(|faults| &faults.muted, true);
    publish(&elsewhere, 3..=5).await;
    bus.set(|faults| &faults.muted, false);
    publish(&elsewhere, 6..=7).await;
    assert_eq!(numbers(&mut many.inbox).await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(one.inbox.all().await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(bus.reads(), reads + 1);

    // The bus says so, and nothing comes after.
    bus.set(|faults| &faults.muted, true);
    publish(&elsewhere, 8..=9).await;
    bus.set(|faults| &faults.muted, false);
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    assert_eq!(numbers(&mut many.inbox).await, [8, 9]);

    // An outage, with reads that fail at first.
    bus.go_down();
    publish(&elsewhere, 10..=12).await;
    bus.faults().failing.store(2, std::sync::atomic::Ordering::Relaxed);
    bus.come_up();
    publish(&elsewhere, 13..=13).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(numbers(&mut many.inbox).await, [10, 11, 12, 13]);
    assert_eq!(one.inbox.all().await, [8, 9, 10, 11, 12, 13]);
}

#[tokio::test(start_paused = true)]
async fn what_the_log_does_not_have_is_one_resync() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    let resync = |reason: &str| json!({"type": "resync", "room": POST, "reason": reason});
    let data = |events: Vec<Value>| -> Vec<Value> {
        events.into_iter().map(|event| if event["type"] == "message" { event["data"].clone() } else { event }).collect()
    };

    publish(&elsewhere, 1..=1).await;
    bus.set(|faults| &faults.muted, true);
    publish(&elsewhere, 2..=150).await;
    bus.set(|faults| &faults.muted, false);
    publish(&elsewhere, 151..=152).await;
    assert_eq!(data(talk.inbox.all().await), [json!(1), resync("history_gap"), json!(151), json!(152)]);

    hub.forget_histories();
    publish(&elsewhere, 1..=2).await;
    assert_eq!(data(talk.inbox.all().await), [resync("epoch"), json!(1), json!(2)]);

    bus.set(|faults| &faults.muted, true);
    publish(&elsewhere, 3..=3).await;
    bus.set(|faults| &faults.muted, false);
    bus.faults().failing.store(100, std::sync::atomic::Ordering::Relaxed);
    publish(&elsewhere, 4..=5).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(data(talk.inbox.all().await), [resync("bus_gap"), json!(4), json!(5)], "nobody can be asked");
    bus.faults().failing.store(0, std::sync::atomic::Ordering::Relaxed);
    publish(&elsewhere, 6..=6).await;
    assert_eq!(data(talk.inbox.all().await), [json!(6)], "and it goes on");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_and_nobody_misses_is_told_to_nobody() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    publish(&elsewhere, 1..=1).await;
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    publish(&elsewhere, 2..=2).await;
    assert_eq!(numbers(&mut talk.inbox).await, [2]);
    bus.faults().failing.store(usize::MAX, std::sync::atomic::Ordering::Relaxed);
    let reads = bus.reads();
    sleep(Duration::from_secs(120)).await;
    assert!(bus.reads() > reads + 6, "it was looked for what was lost without a word");
    let mut late = Talk::multi(&rooms, "b");
    assert_eq!(late.ask(join(&json!({"newest": 50}))).await["code"], "unavailable");
    sleep(Duration::from_secs(5)).await;
    assert!(talk.inbox.all().await.iter().all(|event| event["type"] != "resync"));
    publish(&elsewhere, 3..=3).await;
    assert_eq!(numbers(&mut talk.inbox).await, [3]);
    // What is seen to be missing is told, and once.
    bus.set(|faults| &faults.muted, true);
    publish(&elsewhere, 4..=4).await;
    bus.set(|faults| &faults.muted, false);
    publish(&elsewhere, 5..=5).await;
    sleep(Duration::from_secs(120)).await;
    let told = talk.inbox.all().await;
    let told: Vec<_> = told.iter().map(|event| event.get("reason").unwrap_or(&event["data"])).collect();
    assert_eq!(told, [&json!("bus_gap"), &json!(5)]);
    // A loss that the bus reports may be one.
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(talk.inbox.next().await["reason"], "bus_gap");
    assert!(talk.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn however_many_come_back_at_once_the_history_is_read_once() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let last = publish(&elsewhere, 1..=50).await;
    let back = |n: u64| {
        let (rooms, since) = (rooms.clone(), Position::new(last.epoch(), n % 50));
        async move {
            let (mut talk, welcome) = joined(&rooms, json!({"since": since})).await;
            assert_eq!(welcome["recovered"], true);
            assert_eq!(numbers(&mut talk.inbox).await, (n % 50 + 1..=50).collect::<Vec<_>>());
            talk
        }
    };
    let all = futures::future::join_all((0..80).map(back)).await;
    assert_eq!(bus.reads(), 1, "whatever their positions");
    drop(all);
    publish(&elsewhere, 51..=60).await;
    futures::future::join_all((40..50).map(|n| {
        let (rooms, since) = (rooms.clone(), Position::new(last.epoch(), n));
        async move {
            let (mut talk, _) = joined(&rooms, json!({"since": since})).await;
            assert_eq!(numbers(&mut talk.inbox).await, (n + 1..=60).collect::<Vec<_>>());
        }
    }))
    .await;
    assert_eq!(bus.reads(), 1, "it stayed subscribed, and has its own copy");
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_the_history_is_read_waits_for_that_read() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let last = publish(&elsewhere, 1..=50).await;
    bus.faults().permits.forget_permits(usize::MAX >> 3);
    let mut talks = Vec::new();
    for n in 0..10 {
        let talk = Talk::multi(&rooms, "a");
        talk.say(join(&json!({"since": Position::new(last.epoch(), n)})));
        talks.push((talk, n));
        idle().await;
    }
    bus.faults().permits.add_permits(100);
    for (mut talk, n) in talks {
        assert_eq!(talk.inbox.next().await["recovered"], true);
        assert_eq!(numbers(&mut talk.inbox).await, (n + 1..=50).collect::<Vec<_>>());
    }
    assert_eq!(bus.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_join_whose_history_can_not_be_read_fails_and_may_be_tried_again() {
    let bus = Flaky::new(LocalBus::new());
    let rooms = over(bus.clone(), posts());
    bus.faults().failing.store(1, std::sync::atomic::Ordering::Relaxed);
    let mut talk = Talk::multi(&rooms, "a");
    assert_eq!(talk.ask(join(&json!({}))).await["code"], "unavailable");
    assert_eq!(talk.ask(join(&json!({}))).await["type"], "room_joined");
    // One whose reads hang holds up nobody else, and not for ever.
    bus.faults().permits.forget_permits(usize::MAX >> 3);
    let mut hangs = Talk::multi(&rooms, "b");
    hangs.say(join(&json!({"since": "1.1"})).replace(POST, "post:43"));
    let silent = talk.ask(json!({"type": "join", "room": "silent:1"}).to_string()).await;
    assert_eq!(silent["type"], "room_joined");
    assert_eq!(hangs.inbox.next().await["code"], "unavailable");
}

#[tokio::test(start_paused = true)]
async fn a_position_that_this_node_has_not_heard_of_yet_is_waited_for() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let (mut first, _) = joined(&rooms, json!({})).await;
    bus.set(|faults| &faults.frozen, true);
    let last = publish(&elsewhere, 1..=3).await;
    let (mut talk, welcome) = joined(&rooms, json!({"since": last})).await;
    assert_eq!(welcome["recovered"], true, "it has just posted that, elsewhere");
    bus.thaw();
    publish(&elsewhere, 4..=4).await;
    assert_eq!(numbers(&mut talk.inbox).await, [4]);
    assert_eq!(numbers(&mut first.inbox).await, [1, 2, 3, 4], "what came early by the read does not come again");
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
    assert_eq!(rooms.stats().bad_payloads, 2);
    let (mut talk, _) = joined(&rooms, json!({"since": welcome["position"]})).await;
    let given: Vec<_> = talk.inbox.all().await.into_iter().map(|event| event["data"].clone()).collect();
    assert_eq!(given, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_made_up_position_disturbs_nobody() {
    let bus = Flaky::new(LocalBus::new());
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    let first = publish(&rooms, 1..=1).await;
    let made_up = [
        Position::new(first.epoch(), 1_000),
        Position::new(first.epoch(), u64::MAX),
        Position::new(first.epoch(), 0),
        Position::new(7, 2),
        first,
    ];
    for position in made_up {
        bus.say(BusEvent::message_at(Topic::Room(key(POST)), "\"made up\"".into(), position));
    }
    publish(&rooms, 2..=3).await;
    assert_eq!(numbers(&mut talk.inbox).await, [1, 2, 3]);
    assert!(bus.reads() < 10, "{} reads", bus.reads());
}

#[tokio::test(start_paused = true)]
async fn one_that_resumes_in_a_loop_is_given_so_much_and_then_nothing_for_a_while() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", posts())
        .kind("silent", Kind::authenticated())
        .limits(|limits| limits.max_replay_bytes = 10_000)
        .build()
        .unwrap();
    let first = publish(&rooms, 1..=1).await;
    let text = "x".repeat(1_000);
    rooms.broadcast(&key(POST), &text).await.unwrap();
    let leave = json!({"type": "leave", "room": POST}).to_string();
    let mut talk = Talk::multi(&rooms, "a");
    let mut other = Talk::multi(&rooms, "b");
    // Each of them draws something more than 1,000 bytes.
    let mut given = 0;
    for _ in 0..30 {
        let answer = talk.ask(join(&json!({"since": first}))).await;
        if answer["code"] == "unavailable" {
            break;
        }
        assert_eq!(answer["recovered"], true);
        given += talk.inbox.all().await.iter().filter(|event| event["data"] == text).count();
        talk.ask(&*leave).await;
        talk.inbox.all().await;
    }
    assert_eq!(given, 10, "and what the last one goes beyond the bound");
    assert_eq!(talk.ask(join(&json!({}))).await["code"], "unavailable", "also without a position");
    let silent = talk.ask(json!({"type": "join", "room": "silent:1"}).to_string()).await;
    assert_eq!(silent["type"], "room_joined", "where there is nothing to draw it may join");
    assert_eq!(other.ask(join(&json!({"since": first}))).await["recovered"], true, "others are not concerned");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(talk.ask(join(&json!({"since": first}))).await["recovered"], true);
}

#[tokio::test(start_paused = true)]
async fn a_rule_may_decide_by_what_the_join_says() {
    let kind = Kind::new().join_rule_with(|_, room, with| async move {
        with.and_then(|with| with.parse::<String>().ok()).is_some_and(|key| key == room.id())
    });
    let rooms = over(LocalBus::new(), kind);
    let mut talk = Talk::multi(&rooms, "a");
    for wrong in [json!({}), json!({"with": 42}), json!({"with": "43"})] {
        assert_eq!(talk.ask(join(&wrong)).await["code"], "not_allowed");
    }
    assert_eq!(talk.ask(join(&json!({"with": "42"}))).await["type"], "room_joined");
}

#[tokio::test(start_paused = true)]
async fn the_last_message_before_a_silence_is_found_missing_within_half_a_minute() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let mut one = Client::join(&rooms, "a", POST).await;
    for begin in [0, 3, 7, 11] {
        sleep(Duration::from_secs(begin)).await;
        bus.set(|faults| &faults.muted, true);
        publish(&elsewhere, 1..=2).await;
        bus.set(|faults| &faults.muted, false);
        assert!(one.inbox.is_silent().await);
        sleep(Duration::from_secs(30)).await;
        assert_eq!(one.inbox.all().await, [1, 2], "and nobody is told to fetch");
    }
    let reads = bus.reads();
    drop(one);
    sleep(Duration::from_secs(300)).await;
    assert!(bus.reads() <= reads + 1, "a room without members is not looked at");
}

#[tokio::test(start_paused = true)]
async fn the_last_message_before_a_silence_is_found_missing_where_the_log_could_not_be_read_before() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    publish(&elsewhere, 1..=1).await;
    bus.faults().failing.store(usize::MAX, std::sync::atomic::Ordering::Relaxed);
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(talk.inbox.all().await.last().unwrap()["reason"], "bus_gap");
    bus.faults().failing.store(0, std::sync::atomic::Ordering::Relaxed);
    bus.set(|faults| &faults.muted, true);
    publish(&elsewhere, 2..=3).await;
    bus.set(|faults| &faults.muted, false);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(numbers(&mut talk.inbox).await, [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_told_to_nobody_while_the_bus_is_down_and_made_good_when_it_is_back() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    bus.go_down();
    publish(&elsewhere, 1..=3).await;
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(numbers(&mut talk.inbox).await, [0; 0], "and no resync");
    bus.come_up();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(numbers(&mut talk.inbox).await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_last_messages_of_many_rooms_are_found_missing_in_one_round() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let names: Vec<String> = (0..500).map(|n| format!("post:{n}")).collect();
    let mut clients = Vec::new();
    for name in &names {
        clients.push(Client::join(&rooms, name, name).await);
    }
    bus.set(|faults| &faults.muted, true);
    for name in &names {
        elsewhere.broadcast(&key(name), name).await.unwrap();
    }
    bus.set(|faults| &faults.muted, false);
    sleep(Duration::from_secs(30)).await;
    for (name, client) in names.iter().zip(&mut clients) {
        assert_eq!(client.inbox.all().await, [name.as_str()]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_while_the_history_is_read_is_looked_at_again() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    bus.faults().permits.forget_permits(usize::MAX >> 3);
    let mut talk = Talk::multi(&rooms, "a");
    talk.say(join(&json!({})));
    idle().await;
    assert_eq!(bus.reads(), 1);
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    bus.faults().permits.add_permits(1_000);
    idle().await;
    assert_eq!(bus.reads(), 2, "what the first did not see was lost perhaps");
    assert_eq!(talk.inbox.next().await["type"], "room_joined");
    publish(&elsewhere, 1..=1).await;
    assert_eq!(numbers(&mut talk.inbox).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_jump_while_the_history_is_read_again_is_no_loss() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    publish(&elsewhere, 1..=1).await;
    bus.faults().failing.store(usize::MAX, std::sync::atomic::Ordering::Relaxed);
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(talk.inbox.all().await.last().unwrap()["reason"], "bus_gap", "it could not be read");
    bus.faults().failing.store(0, std::sync::atomic::Ordering::Relaxed);
    bus.faults().permits.forget_permits(usize::MAX >> 3);
    let mut late = Talk::multi(&rooms, "b");
    late.say(join(&json!({})));
    idle().await;
    bus.set(|faults| &faults.muted, true);
    publish(&elsewhere, 2..=3).await;
    bus.set(|faults| &faults.muted, false);
    publish(&elsewhere, 4..=4).await;
    idle().await;
    bus.faults().permits.add_permits(1_000);
    assert_eq!(numbers(&mut talk.inbox).await, [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn more_of_the_newest_than_a_log_may_have_is_not_looked_for() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let (_stays, _) = joined(&rooms, json!({})).await;
    publish(&elsewhere, 1..=150).await;
    idle().await;
    let reads = bus.reads();
    let (mut late, _) = joined(&rooms, json!({"newest": 1_000_000})).await;
    assert_eq!(numbers(&mut late.inbox).await, (51..=150).collect::<Vec<_>>());
    assert_eq!(bus.reads(), reads, "the node has all that the log keeps");
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

/// What follows a welcome is not too much because the welcome is long.
#[tokio::test(start_paused = true)]
async fn who_comes_back_is_given_what_it_missed_behind_a_long_snapshot() {
    let post = posts().keep_state(Duration::from_secs(60)).on_join(|_| async { Ok(json!("s".repeat(30_000))) });
    let limits = |limits: &mut rooms_core::Limits| limits.max_outbox_bytes = 64 * 1024;
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let first = publish(&rooms, 1..=1).await;
    for _ in 0..40 {
        rooms.broadcast(&key(POST), &"x".repeat(1_000)).await.unwrap();
    }
    rooms.broadcast_state(&key(POST), &"y".repeat(40_000)).await.unwrap();
    let (mut talk, welcome) = joined(&rooms, json!({"since": first})).await;
    assert_eq!(welcome["recovered"], true);
    let told = talk.inbox.all().await;
    assert_eq!(told.iter().filter(|event| event["type"] == "message").count(), 40);
    publish(&rooms, 2..=2).await;
    assert_eq!(numbers(&mut talk.inbox).await, [2]);
}
