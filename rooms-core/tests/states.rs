//! Rooms with a state: members have the last one, as patches or whole, and of two writers one is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{sync::Arc, time::Duration};

use futures::channel::mpsc;
use proptest::prelude::*;
use rooms_core::{
    BroadcastError, BuildError, Bus, JoinOptions, Kind, LocalBus, RoomManager,
    bus::{BusError, BusEvent, BusReceiver, KeptState, Position, Retention, StatePatch, Topic},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use flaky::Flaky;
use rig::{Inbox, Rooms, idle, key, who};
use talk::Talk;

const POST: &str = "post:42";
const DAY: Duration = Duration::from_secs(86_400);

fn over(bus: impl Bus, post: Kind) -> Rooms {
    let kinds = RoomManager::build_for().kind("post", post).kind("silent", Kind::authenticated());
    // These pages answer no ping.
    kinds.limits(|limits| limits.ping_interval = Duration::MAX).bus(bus).build().unwrap()
}

fn posts() -> Kind {
    Kind::authenticated().keep_state(DAY)
}

fn rooms() -> Rooms {
    over(LocalBus::new(), posts())
}

fn join() -> String {
    json!({"type": "join", "room": POST, "ref": 1}).to_string()
}

async fn joined(rooms: &Rooms, user: &str) -> Talk {
    let mut talk = Talk::multi(rooms, user);
    let welcome = talk.ask(join()).await;
    assert_eq!(welcome["type"], "room_joined", "{welcome}");
    talk
}

async fn set(rooms: &Rooms, value: &Value) -> Position {
    rooms.broadcast_state(&key(POST), value).await.unwrap()
}

fn long() -> String {
    "x".repeat(1_000)
}

/// A bus that keeps nothing.
#[derive(Debug)]
struct Plain(LocalBus);

#[async_trait::async_trait]
impl Bus for Plain {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.0.attach(receiver);
    }

    fn subscribe(&self, topics: &[Topic]) {
        self.0.subscribe(topics);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.0.unsubscribe(topics);
    }

    async fn publish(&self, topic: &Topic, payload: bytes::Bytes) -> Result<(), BusError> {
        self.0.publish(topic, payload).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// What a page makes of the events: the state, and whether it has to ask for it anew.
#[derive(Debug, Default)]
struct Page {
    revision: Value,
    state: Value,
    /// The events that had all of the state, and those that had a patch.
    came: [usize; 2],
    lost: bool,
}

impl Page {
    async fn look(&mut self, inbox: &mut Inbox) {
        for event in inbox.all().await {
            if event["type"] == "resync" {
                self.lost = true;
            }
            if event["type"] != "room_state" {
                continue;
            }
            assert_eq!(event["room"], POST);
            if event.get("state").is_some() {
                self.came[0] += 1;
                (self.state, self.lost) = (event["state"].clone(), false);
            } else {
                self.came[1] += 1;
                self.lost |= event["since"] != self.revision;
                json_patch::merge(&mut self.state, &event["patch"]);
            }
            self.revision = event["revision"].clone();
        }
    }
}

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
async fn what_is_lost_on_the_way_is_made_good() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let mut talk = joined(&rooms, "a").await;
    let mut page = Page::default();
    let value = |n: u64| json!({"text": long(), "n": n});
    set(&elsewhere, &value(0)).await;
    page.look(&mut talk.inbox).await;

    // The next one has all that is missing.
    bus.set(|faults| &faults.muted, true);
    set(&elsewhere, &value(1)).await;
    bus.set(|faults| &faults.muted, false);
    set(&elsewhere, &value(2)).await;
    page.look(&mut talk.inbox).await;
    assert_eq!((&page.state, page.came, page.lost), (&value(2), [2, 0], false));

    // The bus says so, and nothing comes after.
    bus.set(|faults| &faults.muted, true);
    set(&elsewhere, &value(3)).await;
    bus.set(|faults| &faults.muted, false);
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    page.look(&mut talk.inbox).await;
    assert_eq!((&page.state, page.came), (&value(3), [3, 0]));

    // An outage, with reads that fail at first.
    bus.go_down();
    let down = rooms.broadcast_state(&key(POST), &json!(1)).await.unwrap_err();
    assert!(matches!(down, BroadcastError::Bus { source: BusError::Down, .. }), "{down:?}");
    set(&elsewhere, &value(4)).await;
    bus.faults().failing.store(2, std::sync::atomic::Ordering::Relaxed);
    bus.come_up();
    sleep(Duration::from_secs(5)).await;
    page.look(&mut talk.inbox).await;
    assert_eq!(page.state, value(4));

    // Nobody says anything.
    bus.set(|faults| &faults.muted, true);
    set(&elsewhere, &value(5)).await;
    bus.set(|faults| &faults.muted, false);
    sleep(Duration::from_secs(30)).await;
    page.look(&mut talk.inbox).await;
    assert_eq!(page.state, value(5));
    set(&elsewhere, &value(6)).await;
    page.look(&mut talk.inbox).await;
    assert_eq!((&page.state, page.came), (&value(6), [5, 1]), "and it goes on with patches");
}

#[tokio::test(start_paused = true)]
async fn a_state_that_was_lost_is_said_and_the_next_one_is_another_epoch() {
    let hub = LocalBus::new();
    let rooms = over(hub.peer(), posts());
    let mut talk = joined(&rooms, "a").await;
    let first = set(&rooms, &json!({"n": 1})).await;
    talk.inbox.all().await;
    hub.forget_histories();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(talk.inbox.all().await, [json!({"type": "resync", "room": POST, "reason": "epoch"})]);
    let second = set(&rooms, &json!({"n": 1})).await;
    assert_ne!(second.epoch(), first.epoch());
    assert_eq!(talk.inbox.next().await["state"], json!({"n": 1}));

    // Where it is set anew before anybody looks, it is read, as it may be the older one of the two.
    hub.forget_histories();
    set(&rooms, &json!({"n": 2})).await;
    assert_eq!(talk.inbox.next().await["state"], json!({"n": 2}));
    assert!(talk.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn a_join_whose_state_can_not_be_read_fails_and_may_be_tried_again() {
    let bus = Flaky::new(LocalBus::new());
    let rooms = over(bus.clone(), posts());
    bus.faults().failing.store(1, std::sync::atomic::Ordering::Relaxed);
    let mut talk = Talk::multi(&rooms, "a");
    assert_eq!(talk.ask(join()).await["code"], "unavailable");
    assert_eq!(talk.ask(join()).await["type"], "room_joined");
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

#[tokio::test(start_paused = true)]
async fn bad_states_from_the_bus_are_dropped_and_made_up_ones_disturb_nobody() {
    let hub = LocalBus::new();
    let bus = Flaky::new(hub.peer());
    let rooms = over(bus.clone(), posts());
    let mut talk = joined(&rooms, "a").await;
    let revision = set(&rooms, &json!({"text": long(), "n": 1})).await;
    talk.inbox.all().await;
    let say = |at: Position, state: String, patch: Option<StatePatch>| {
        bus.say(BusEvent::state(Topic::Room(key(POST)), KeptState::new(at, state.into()), patch));
    };
    let next = Position::new(revision.epoch(), revision.offset() + 1);
    say(next, "no JSON".into(), None);
    say(Position::new(7, 1), "1".into(), None);
    say(revision, "1".into(), None);
    idle().await;
    assert!(talk.inbox.is_silent().await);
    assert_eq!(rooms.stats().bad_payloads, 1);
    say(next, "[".repeat(65) + &"]".repeat(65), None);
    say(next, format!("\"{}\"", "x".repeat(70_000)), None);
    assert_eq!(talk.inbox.all().await, [json!({"type": "resync", "room": POST, "reason": "bus_gap"})]);
    // A patch that is none is left out.
    say(next, r#"{"n":2}"#.into(), Some(StatePatch::new(revision, "no JSON".into())));
    assert_eq!(talk.inbox.next().await["state"], json!({"n": 2}));
    // The next one of another epoch, as after a server has taken over, is told as such; any other one is read first.
    let (other, reads) = (Position::new(7, 9), bus.reads());
    say(other, r#"{"n":3}"#.into(), Some(StatePatch::new(next, r#"{"n":3}"#.into())));
    assert_eq!(talk.inbox.next().await["patch"], json!({"n": 3}));
    assert_eq!(bus.reads(), reads);
    say(Position::new(8, 9), r#"{"n":4}"#.into(), None);
    assert_eq!(talk.inbox.next().await["state"]["n"], 1, "what the bus has");
    assert_eq!(bus.reads(), reads + 1);
    let silent = Topic::Room(key("silent:1"));
    bus.say(BusEvent::state(silent, KeptState::new(next, "1".into()), None));
}

#[tokio::test(start_paused = true)]
async fn a_kind_without_a_state_and_a_bus_without_states_say_so() {
    let rooms = rooms();
    let refused = rooms.broadcast_state(&key("silent:1"), &1).await.unwrap_err();
    assert!(matches!(refused, BroadcastError::NoState { .. }), "{refused:?}");
    let too_big = rooms.broadcast_state(&key(POST), &"x".repeat(70_000)).await.unwrap_err();
    assert!(matches!(too_big, BroadcastError::TooBig { limit: 65_536, .. }), "{too_big:?}");
    for keep in [Duration::ZERO, Duration::MAX] {
        let built =
            RoomManager::<mpsc::UnboundedSender<_>>::build_for().kind("post", Kind::new().keep_state(keep)).build();
        assert!(matches!(built, Err(BuildError::KeepState { .. })), "{keep:?}");
    }
    let bus = Plain(LocalBus::new());
    let built = RoomManager::<mpsc::UnboundedSender<_>>::build_for().kind("post", posts()).bus(bus).build();
    assert_eq!(built.unwrap_err().to_string(), "the kind `post` keeps a state, and the bus keeps none");
}

#[tokio::test]
async fn a_kind_with_a_history_over_a_bus_without_is_not_built() {
    let kinds = RoomManager::<mpsc::UnboundedSender<_>>::build_for().kind("silent", Kind::public());
    let kinds = kinds.kind("post", Kind::public().history(Retention::messages(100)));
    let error = kinds.bus(Plain(LocalBus::new())).build().unwrap_err();
    assert!(matches!(&error, BuildError::NoHistory { kind } if kind == "post"), "{error:?}");
    assert_eq!(error.to_string(), "the kind `post` has a history, and the bus keeps none");
}

#[tokio::test(start_paused = true)]
async fn a_state_that_can_not_be_looked_at_and_that_nobody_misses_is_told_to_nobody() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let mut talk = joined(&rooms, "a").await;
    set(&elsewhere, &json!(1)).await;
    assert_eq!(talk.inbox.next().await["state"], 1);
    bus.faults().failing.store(usize::MAX, std::sync::atomic::Ordering::Relaxed);
    let reads = bus.reads();
    sleep(Duration::from_secs(120)).await;
    assert!(bus.reads() > reads + 6, "it was looked for what was lost without a word");
    assert!(talk.inbox.is_silent().await);
    set(&elsewhere, &json!(2)).await;
    assert_eq!(talk.inbox.next().await["state"], 2);
    // A loss that the bus reports is one of messages, and later, once, one of a state, which nobody can be asked for.
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    let gap = json!({"type": "resync", "room": POST, "reason": "bus_gap"});
    assert_eq!(talk.inbox.all().await, [gap.clone()]);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(talk.inbox.all().await, [gap]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: proptest::test_runner::Config::default().cases / 16 + 1, ..ProptestConfig::default() })]

    /// Whatever is lost on the way, and whatever is written where: a page has the last state once the bus is well.
    #[test]
    fn whatever_is_lost_a_page_has_the_last_state_in_the_end(steps in prop::collection::vec((0_u8..8, 0_u8..3, 0_u64..4), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let hub = LocalBus::new();
            let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
            let rooms = over(bus.clone(), posts());
            let mut pages: Vec<(Talk, Page)> = Vec::new();
            let mut state = json!({"text": long()});
            for (step, name, value) in steps {
                match step {
                    0..=3 => {
                        state[["a", "b", "c"][usize::from(name)]] = if value == 0 { Value::Null } else { json!({"n": value}) };
                        set(&elsewhere, &state).await;
                    }
                    4 => pages.push((joined(&rooms, "a").await, Page::default())),
                    5 => bus.set(|faults| &faults.muted, name > 0),
                    6 => hub.forget_histories(),
                    _ => bus.say(BusEvent::gap(Topic::Room(key(POST)))),
                }
                for (talk, page) in &mut pages {
                    page.look(&mut talk.inbox).await;
                    prop_assert!(page.revision.is_null() || page.lost || page.state.is_object());
                }
            }
            bus.set(|faults| &faults.muted, false);
            state["last"] = json!(1);
            set(&elsewhere, &state).await;
            sleep(Duration::from_secs(60)).await;
            for (talk, page) in &mut pages {
                page.look(&mut talk.inbox).await;
                if page.lost {
                    talk.say(join());
                    page.look(&mut talk.inbox).await;
                }
                prop_assert_eq!(&page.state, &state);
                prop_assert!(!page.lost);
            }
            Ok(())
        })?;
    }
}
