//! Rooms through the public API: joining, leaving, broadcasting.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;

use std::{
    error::Error as _,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rooms_core::{
    BuildError, Close, CloseCode, ConnectError, Decision, HookError, JoinError, Kind, Occupancy, RoomManager,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use rig::{Client, Rooms, idle, key};

fn posts() -> Rooms {
    RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_reaches_everybody_in_the_room_and_nobody_else() {
    let rooms = posts();
    let mut a = Client::join(&rooms, "a", "post:42").await;
    let mut b = Client::join(&rooms, "b", "post:42").await;
    let mut elsewhere = Client::join(&rooms, "c", "post:7").await;
    assert_eq!(a.inbox.all().await, [json!({"type": "viewer_joined", "viewers": 2})]);
    let comment = json!({"type": "new_comment", "comment": {"id": 1}});
    rooms.broadcast(&key("post:42"), &comment).await.unwrap();
    assert_eq!(a.inbox.all().await, std::slice::from_ref(&comment));
    assert_eq!(b.inbox.all().await, [comment]);
    assert!(elsewhere.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn one_member_can_be_left_out() {
    let rooms = posts();
    let mut a = Client::join(&rooms, "a", "post:42").await;
    let mut b = Client::join(&rooms, "b", "post:42").await;
    a.inbox.all().await;
    let room = key("post:42");
    for n in 0..5 {
        rooms.to(&room).except(a.connection.id()).json(&json!(n)).await.unwrap();
        rooms.broadcast(&room, &json!("all")).await.unwrap();
    }
    assert_eq!(a.inbox.all().await, vec![json!("all"); 5]);
    assert_eq!(b.inbox.all().await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_member_gets_what_came_after_its_join_once_and_in_order() {
    let rooms = posts();
    let room = key("post:42");
    let mut first = Client::join(&rooms, "a", "post:42").await;
    for n in 0..100 {
        rooms.broadcast(&room, &n).await.unwrap();
    }
    let mut second = Client::join(&rooms, "b", "post:42").await;
    for n in 100..200 {
        rooms.broadcast(&room, &n).await.unwrap();
    }
    let numbers = |all: Vec<Value>| all.iter().filter_map(Value::as_i64).collect::<Vec<_>>();
    assert_eq!(numbers(first.inbox.all().await), (0..200).collect::<Vec<_>>());
    assert_eq!(numbers(second.inbox.all().await), (100..200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_connection_leaves_its_rooms_and_the_others_are_told() {
    let rooms = posts();
    let mut a = Client::join(&rooms, "a", "post:42").await;
    let mut b = Client::join(&rooms, "b", "post:42").await;
    b.connection.join(&key("post:7")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    a.inbox.all().await;
    drop(b);
    assert_eq!(a.inbox.all().await, [json!({"type": "viewer_left", "viewers": 1})]);
    assert_eq!((rooms.local_viewers(&key("post:42")), rooms.local_viewers(&key("post:7"))), (1, 0));
    assert_eq!(rooms.stats().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_lingers_and_is_then_forgotten() {
    let rooms = posts();
    drop(Client::join(&rooms, "a", "post:42").await);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(rooms.stats().rooms, 1);
    let again = Client::join(&rooms, "a", "post:42").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(rooms.stats().rooms, 1, "somebody is in it again");
    drop(again);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(rooms.stats().rooms, 1, "it lingers from its last leave");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rooms.stats().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_rule_nobody_joins() {
    let rooms: Rooms =
        RoomManager::build_for().kind("open", Kind::authenticated()).kind("shut", Kind::new()).build().unwrap();
    let mut client = Client::connect(&rooms, "a");
    for room in ["shut:1", "unknown:1"] {
        let refused = client.connection.join(&key(room)).await.unwrap_err();
        assert_eq!(refused, JoinError::NotAllowed { room: key(room) });
        assert_eq!(refused.close(), Close::NOT_ALLOWED, "a forbidden room and an unknown one look the same");
    }
    assert_eq!(rooms.stats().rooms, 0, "no room was made");
}

#[tokio::test(start_paused = true)]
async fn a_rule_looks_at_the_user_and_the_room() {
    let even = Kind::new().join_rule(|who, room| async move { room.id().ends_with(who.user()) });
    let rooms: Rooms = RoomManager::build_for().kind("post", even).kind("user", Kind::owner_only()).build().unwrap();
    let mut client = Client::connect(&rooms, "2");
    assert!(client.connection.join(&key("post:42")).await.is_ok());
    assert!(client.connection.join(&key("post:43")).await.is_err());
    assert!(client.connection.join(&key("user:2")).await.is_ok());
    assert!(client.connection.join(&key("user:22")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_panics_or_hangs_lets_nobody_in() {
    let panics_at_once = Kind::new().join_rule(|_, room| {
        assert!(room.id() == "fine", "a rule that panics");
        async { true }
    });
    let panics_later = Kind::new().join_rule(|_, room| async move {
        assert!(room.id() == "fine", "a rule that panics later");
        true
    });
    let hangs = Kind::new().join_rule(|_, _| pending::<bool>());
    let rooms: Rooms = RoomManager::build_for()
        .kind("now", panics_at_once)
        .kind("later", panics_later)
        .kind("hangs", hangs)
        .build()
        .unwrap();
    let mut client = Client::connect(&rooms, "a");
    for room in ["now:1", "later:1", "hangs:1"] {
        let refused = client.connection.join(&key(room)).await.unwrap_err();
        assert_eq!(refused, JoinError::RuleUnavailable { room: key(room) });
        assert_eq!(refused.close(), Close::UNAVAILABLE, "a page comes back later");
    }
    assert!(client.connection.join(&key("now:fine")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_rule_allows_denies_or_can_not_tell() {
    let rule = Kind::new().join_rule(|_, room| async move {
        match room.id() {
            "open" => Decision::Allow,
            "shut" => Decision::Deny,
            _ => Decision::Unavailable,
        }
    });
    let rooms: Rooms = RoomManager::build_for().kind("post", rule).build().unwrap();
    let mut client = Client::connect(&rooms, "a");
    assert!(client.connection.join(&key("post:open")).await.is_ok());
    let denied = client.connection.join(&key("post:shut")).await.unwrap_err();
    assert_eq!(denied, JoinError::NotAllowed { room: key("post:shut") });
    let unavailable = client.connection.join(&key("post:1")).await.unwrap_err();
    assert_eq!(unavailable, JoinError::RuleUnavailable { room: key("post:1") });
    assert_eq!(unavailable.close(), Close::UNAVAILABLE, "a page comes back later");
    assert_eq!((Decision::from(true), Decision::from(false)), (Decision::Allow, Decision::Deny));
}

#[tokio::test(start_paused = true)]
async fn what_is_broadcast_while_a_member_joins_comes_after_room_joined() {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&entered), Arc::clone(&go));
    let kind = Kind::authenticated().on_join(move |member| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            if member.identity().user() == "slow" {
                tell.notify_one();
                wait.notified().await;
            }
            Ok(json!({"snapshot": "as of now"}))
        }
    });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let room = key("post:42");
    let mut first = Client::join(&rooms, "fast", "post:42").await;
    let mut slow = Client::connect(&rooms, "slow");
    let join = async move {
        slow.connection.join(&key("post:42")).await.unwrap();
        slow
    };
    let joining = tokio::spawn(join);
    entered.notified().await;
    rooms.broadcast(&room, &1).await.unwrap();
    assert_eq!(first.inbox.next().await, 1);
    assert_eq!(rooms.local_viewers(&room), 1, "who is joining is not a viewer yet");
    rooms.broadcast(&room, &2).await.unwrap();
    go.notify_one();
    let mut slow = joining.await.unwrap();
    rooms.broadcast(&room, &3).await.unwrap();
    let all = slow.inbox.all().await;
    assert_eq!(all[0], json!({"type": "room_joined", "room": "post:42", "viewers": 2, "snapshot": "as of now"}));
    assert_eq!(all[1..], [json!(1), json!(2), json!(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_dropped_leaves_nothing_wherever_it_was() {
    let kind =
        || Kind::new().join_rule(|_, room| async move { if room.id() == "rule" { pending().await } else { true } });
    let hook = kind().on_join(|_| pending());
    let rooms: Rooms = RoomManager::build_for().kind("a", kind()).kind("b", hook).build().unwrap();
    let mut client = Client::connect(&rooms, "a");
    for room in ["a:rule", "b:hook"] {
        let room = key(room);
        assert!(tokio::time::timeout(Duration::from_secs(1), client.connection.join(&room)).await.is_err());
        assert_eq!(rooms.local_viewers(&room), 0);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(rooms.stats().rooms, 0);
    assert_eq!(client.connection.rooms().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_join_hook_may_close_and_its_panic_is_an_internal_error() {
    let kind = Kind::authenticated().on_join(|member| async move {
        match member.room().id() {
            "full" => Err(Close::new(CloseCode::TRY_AGAIN, "full").into()),
            "panic" => panic!("a hook that panics"),
            "hang" => pending().await,
            _ => Ok(Value::Null),
        }
    });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let mut client = Client::connect(&rooms, "a");
    let mut close = async |room: &str| client.connection.join(&key(room)).await.unwrap_err().close();
    assert_eq!(close("post:full").await, Close::new(CloseCode::TRY_AGAIN, "full"));
    assert_eq!(close("post:panic").await, Close::INTERNAL);
    assert_eq!(close("post:hang").await, Close::INTERNAL);
    assert!(client.connection.join(&key("post:1")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_join_that_a_hook_refuses_has_the_words_in_its_source_alone() {
    let kind = Kind::authenticated().on_join(|_| async { Err(HookError::refused("this post was deleted")) });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let refused = Client::connect(&rooms, "a").connection.join(&key("post:42")).await.unwrap_err();
    assert_eq!(refused.to_string(), "post:42: the `on_join` hook refused the join");
    assert_eq!(refused.source().unwrap().to_string(), "this post was deleted");
    assert_eq!(refused.close(), Close::new(CloseCode::NOT_ALLOWED, "this post was deleted"));
}

#[tokio::test(start_paused = true)]
async fn leaving_runs_the_hooks_once() {
    let (left, empty) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count_left, count_empty) = (Arc::clone(&left), Arc::clone(&empty));
    let kind = Kind::authenticated()
        .on_leave(move |member| {
            assert_eq!(member.room().as_str(), "post:42");
            count_left.fetch_add(1, Ordering::Relaxed);
            async { panic!("a panic here hurts nobody") }
        })
        .on_occupancy(move |_, occupancy| {
            count_empty.fetch_add(usize::from(occupancy == Occupancy::EmptyHere), Ordering::Relaxed);
            async {}
        });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let mut a = Client::join(&rooms, "a", "post:42").await;
    let b = Client::join(&rooms, "b", "post:42").await;
    assert!(a.connection.leave(&key("post:42")));
    assert!(!a.connection.leave(&key("post:42")));
    idle().await;
    assert_eq!((left.load(Ordering::Relaxed), empty.load(Ordering::Relaxed)), (1, 0));
    drop((a, b));
    idle().await;
    assert_eq!((left.load(Ordering::Relaxed), empty.load(Ordering::Relaxed)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_joins_in_a_moment_are_a_few_events() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_connections_per_user = 20_000)
        .build()
        .unwrap();
    let mut first = Client::join(&rooms, "a", "post:42").await;
    let mut others = Vec::new();
    for _ in 0..10_000 {
        others.push(Client::join(&rooms, "b", "post:42").await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = first.inbox.all().await;
    assert!(events.len() <= 8, "{} events", events.len());
    assert_eq!(*events.last().unwrap(), json!({"type": "viewer_joined", "viewers": 10_001}));
    drop(others);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*first.inbox.all().await.last().unwrap(), json!({"type": "viewer_left", "viewers": 1}));
}

#[tokio::test(start_paused = true)]
async fn joining_twice_is_joining_once() {
    let rooms = posts();
    let mut client = Client::join(&rooms, "a", "post:42").await;
    assert_eq!(client.connection.join(&key("post:42")).await, Ok(1));
    rooms.broadcast(&key("post:42"), &1).await.unwrap();
    assert_eq!(client.inbox.all().await, [1]);
    drop(client);
    assert_eq!(rooms.local_viewers(&key("post:42")), 0);
}

#[test]
fn a_manager_is_built_inside_a_runtime() {
    let built = RoomManager::<rig::Sink>::build_for().build();
    assert!(matches!(built, Err(BuildError::NoRuntime)));
}

#[tokio::test(start_paused = true)]
async fn churn_leaves_nothing_behind() {
    let rooms = posts();
    let mut driven = Vec::new();
    for round in 0..200_u32 {
        let mut clients = Vec::new();
        for n in 0..10 {
            let mut client = Client::connect(&rooms, &format!("u{n}"));
            for room in 0..3 {
                client.connection.join(&key(&format!("post:{}", (round + n * room) % 50))).await.unwrap();
            }
            rooms.broadcast(&key("post:1"), &round).await.unwrap();
            clients.push(client);
        }
        driven.extend(clients.into_iter().map(|client| client.driven));
    }
    for driven in driven {
        assert_eq!(driven.await.unwrap(), None, "a connection's task ends with the connection");
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let stats = rooms.stats();
    assert_eq!((stats.connections, stats.rooms), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_refuses_the_new_and_closes_the_old() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_connections_per_user = 1000)
        .build()
        .unwrap();
    let mut clients = Vec::new();
    for _ in 0..300 {
        clients.push(Client::join(&rooms, "a", "post:42").await);
    }
    rooms.broadcast(&key("post:42"), &"last words").await.unwrap();
    let started = tokio::time::Instant::now();
    let handle = rooms.clone();
    let shutdown = tokio::spawn(async move { handle.shutdown(Duration::from_secs(1)).await });
    idle().await;
    let refused = rooms.connect(rig::who("b"), futures::channel::mpsc::unbounded().0).map(drop);
    assert_eq!(refused, Err(ConnectError::Draining));
    let mut words = 0;
    let mut closes = Vec::new();
    for mut client in clients {
        loop {
            let Ok(Some(message)) =
                tokio::time::timeout(Duration::from_secs(5), futures::StreamExt::next(&mut client.inbox.0)).await
            else {
                panic!("no close")
            };
            if message.kind() == rooms_core::MessageKind::Close {
                assert_eq!(rig::parse_close(&message), Close::RESTART);
                closes.push(started.elapsed());
                break;
            }
            words += usize::from(message.payload() == b"\"last words\"");
        }
    }
    shutdown.await.unwrap();
    assert_eq!(words, 300, "what waited went out first");
    assert!(started.elapsed() <= Duration::from_millis(1100), "{:?}", started.elapsed());
    assert!(*closes.last().unwrap() >= Duration::from_millis(700), "spread over the time: {:?}", closes.last());
    assert_eq!(rooms.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_ended_and_is_kept_holds_up_no_shutdown_and_takes_no_place() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_connections_per_user = 2)
        .build()
        .unwrap();
    let mut closed = Client::join(&rooms, "a", "post:42").await;
    let broken = Client::join(&rooms, "a", "post:42").await;
    closed.connection.close(Close::NORMAL);
    assert_eq!(closed.driven.await.unwrap(), Some(Close::NORMAL));
    assert_eq!(closed.connection.drive().await, Some(Close::NORMAL), "and says so again");
    assert_eq!(closed.inbox.close().await, Close::NORMAL);
    assert!(futures::StreamExt::next(&mut closed.inbox.0).await.is_none(), "its sink is dropped");
    drop(broken.inbox);
    rooms.broadcast(&key("post:42"), &1).await.unwrap();
    assert_eq!(broken.driven.await.unwrap(), None);
    assert_eq!(rooms.stats().connections, 0);

    let others = [Client::connect(&rooms, "a"), Client::connect(&rooms, "a")];
    assert_eq!(rooms.stats().connections, 2);
    drop((closed.connection, broken.connection));
    assert_eq!(rooms.stats().connections, 2, "each is counted out once");
    let kept: Vec<_> = others.into_iter().map(|client| client.connection).collect();
    let started = tokio::time::Instant::now();
    rooms.shutdown(Duration::from_secs(60)).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!((rooms.stats().connections, kept.len()), (0, 2));
}
