//! Whatever `on_join` began has its `on_leave`, wherever the join is cut.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    future::pending,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use rooms_core::{Close, HookError, Kind, RoomManager};
use serde_json::{Value, json};
use tokio::task::yield_now;

use rig::{Client, Rooms, idle, key};
use talk::Talk;

/// What the hooks were called for, in order.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<&'static str>>>);

impl Calls {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    fn joins(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|what| **what == "join").count()
    }

    /// Whether each join has its leave, before the next one.
    fn are_balanced(&self) -> bool {
        self.0.lock().unwrap().chunks(2).all(|pair| pair == ["join", "leave"])
    }
}

/// Says that an `on_join` is there, until it is dropped.
struct AtWork(Arc<Mutex<bool>>);

impl Drop for AtWork {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = false;
    }
}

/// Rooms whose rule and hooks wait some turns; the id of a room says how its `on_join` ends.
fn rooms(calls: &Calls) -> Rooms {
    let (joining, leaving) = (calls.clone(), calls.clone());
    let at_work = Arc::new(Mutex::new(false));
    let is_at_work = Arc::clone(&at_work);
    let kind = Kind::new()
        .join_rule(|_, _| async {
            yield_now().await;
            true
        })
        .on_join(move |member| {
            joining.note("join");
            *at_work.lock().unwrap() = true;
            let end = AtWork(Arc::clone(&at_work));
            async move {
                let _end = end;
                for _ in 0..3 {
                    yield_now().await;
                }
                match member.room().id() {
                    "refuses" => Err(HookError::refused("no")),
                    "panics" => panic!("a hook that panics"),
                    "hangs" => pending().await,
                    _ => Ok(Value::Null),
                }
            }
        })
        .on_leave(move |_| {
            assert!(!*is_at_work.lock().unwrap(), "the hook before it is still there");
            let leaving = leaving.clone();
            async move {
                yield_now().await;
                leaving.note("leave");
            }
        });
    RoomManager::build_for()
        .kind("post", kind)
        .limits(|limits| limits.hook_timeout = Duration::from_secs(1))
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_dropped_anywhere_is_cleared_up() {
    for id in ["joins", "refuses", "panics", "hangs"] {
        let (mut turns, mut cut_inside) = (0, 0);
        loop {
            let calls = Calls::default();
            let rooms = rooms(&calls);
            let mut client = Client::connect(&rooms, "a");
            let room = key(&format!("post:{id}"));
            let mut join = Box::pin(client.connection.join(&room));
            let mut ended = false;
            for _ in 0..turns {
                ended = join.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                if ended {
                    break;
                }
                // The bus, the time of a hook, and whatever else it waits for.
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            drop(join);
            cut_inside += usize::from(!ended && calls.joins() == 1);
            // And once more, right behind it.
            let again = client.connection.join(&key(&format!("post:{id}"))).await.is_ok();
            assert_eq!(again, id == "joins", "{id}");
            drop(client);
            idle().await;
            assert!(calls.are_balanced(), "{id}, cut after {turns}: {:?}", calls.0.lock().unwrap());
            assert!(calls.joins() >= 1);
            assert_eq!(rooms.local_viewers(&room), 0);
            if ended {
                break;
            }
            turns += 1;
        }
        assert!(cut_inside >= 3, "{id}: it was cut inside its hook {cut_inside} times only");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_while_it_joins_is_cleared_up() {
    for id in ["joins", "refuses", "panics", "hangs"] {
        for turns in 0..20 {
            for says in ["nothing", "close"] {
                let calls = Calls::default();
                let rooms = rooms(&calls);
                let talk = Talk::multi(&rooms, "a");
                talk.say(json!({"type": "join", "room": format!("post:{id}")}).to_string());
                for _ in 0..turns {
                    yield_now().await;
                }
                if says == "nothing" {
                    talk.ended.abort();
                } else {
                    talk.send.unbounded_send(Ok(rooms_core::ws::Incoming::Close(None))).unwrap();
                }
                tokio::time::sleep(Duration::from_secs(5)).await;
                drop(talk);
                idle().await;
                assert!(calls.are_balanced(), "{id}, gone after {turns}: {:?}", calls.0.lock().unwrap());
                assert_eq!((rooms.local_viewers(&key(&format!("post:{id}"))), rooms.stats().connections), (0, 0));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_that_its_hook_refuses_or_fails_is_cleared_up_before_the_next() {
    let calls = Calls::default();
    let rooms = rooms(&calls);
    let mut talk = Talk::multi(&rooms, "a");
    for times in 1..=3 {
        let refused = talk.ask(r#"{"type":"join","room":"post:refuses"}"#).await;
        assert_eq!((&refused["code"], calls.joins()), (&json!("refused"), times));
    }
    talk.say(r#"{"type":"join","room":"post:panics"}"#);
    assert_eq!(talk.inbox.close().await, Close::INTERNAL);
    idle().await;
    assert!(calls.are_balanced(), "{:?}", calls.0.lock().unwrap());
    assert_eq!(calls.joins(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_what_a_cut_join_leaves_behind() {
    let calls = Calls::default();
    let slow = calls.clone();
    let (joining, done) = (calls.clone(), Arc::new(Mutex::new(false)));
    let was_done = Arc::clone(&done);
    let kind = Kind::authenticated()
        .on_join(move |_| {
            joining.note("join");
            pending()
        })
        .on_leave(move |_| {
            let (slow, done) = (slow.clone(), Arc::clone(&done));
            async move {
                tokio::time::sleep(Duration::from_secs(3)).await;
                slow.note("leave");
                *done.lock().unwrap() = true;
            }
        });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let talk = Talk::multi(&rooms, "a");
    talk.say(r#"{"type":"join","room":"post:1"}"#);
    idle().await;
    rooms.shutdown(Duration::from_secs(5)).await;
    assert!(*was_done.lock().unwrap());
    assert!(calls.are_balanced());
    drop(talk);
}
