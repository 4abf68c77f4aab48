//! States that were lost on the way, or can't be read, or are made up: members have the last one in the end, or are told.

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

use proptest::prelude::*;
use rooms_core::{
    BroadcastError, LocalBus,
    bus::{BusError, BusEvent, KeptState, Position, StatePatch, Topic},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use flaky::Flaky;
use posts::{POST, Page, join, joined, long, over, posts, set};
use rig::{idle, key};
use talk::Talk;

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
    assert_eq!(talk.inbox.all().await, std::slice::from_ref(&gap));
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
