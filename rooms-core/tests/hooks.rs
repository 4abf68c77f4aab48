//! The application's hooks, on a connection for one room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/log.rs"]
mod log;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use rooms_core::{Close, CloseCode, HookError, Kind, MessageKind, RoomManager, Sent, TraceContext, ws::Incoming};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

use rig::{Rooms, idle, key, who};
use talk::Talk;

fn rooms(kind: Kind) -> Rooms {
    RoomManager::build_for().kind("post", kind).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn messages_reach_the_hook_in_order_and_its_answers_the_sender_alone() {
    let kind = Kind::authenticated().on_message(|member, message| async move {
        let message = message.json()?;
        // The later ones would be faster.
        tokio::time::sleep(Duration::from_millis(10 - message["n"].as_u64().unwrap())).await;
        member.send(&json!({"type": "heard", "n": message["n"]}));
        Ok(())
    });
    let rooms = rooms(kind);
    let mut talk = Talk::joined(&rooms, "a").await;
    let mut other = Talk::joined(&rooms, "b").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    talk.inbox.all().await;
    for n in 0..10 {
        talk.say(json!({"type": "say", "n": n}).to_string());
    }
    for n in 0..10 {
        assert_eq!(talk.inbox.next().await, json!({"type": "heard", "n": n}));
    }
    assert!(other.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn hooks_and_rules_that_fail_for_many_clients_are_one_line_in_ten_seconds() {
    let hook = Kind::authenticated().on_join(|_| async { panic!("a hook that panics") });
    let late = Kind::authenticated().on_join(|_| pending());
    let rule = Kind::new().join_rule(|_, _| async { panic!("a rule that panics") as bool });
    let late_rule = Kind::new().join_rule(|_, _| pending::<bool>());
    let rooms: Rooms = RoomManager::build_for()
        .kind("hook", hook)
        .kind("late", late)
        .kind("rule", rule)
        .kind("late_rule", late_rule)
        .limits(|limits| {
            (limits.hook_timeout, limits.rule_timeout) = (Duration::from_millis(1), Duration::from_millis(1))
        })
        .build()
        .unwrap();
    let log = log::Log::start();
    for (kind, said) in [
        ("hook", "a hook panicked hook=\"on_join\""),
        ("late", "a hook took too long hook=\"on_join\""),
        ("rule", "a rule panicked, so nobody gets in kind=\"rule\""),
        ("late_rule", "a rule gave no answer, so nobody gets in kind=\"late_rule\""),
    ] {
        let fails = async || {
            let (sink, _received) = futures::channel::mpsc::unbounded();
            let mut connection = rooms.connect(who("a"), sink).unwrap();
            assert!(connection.join(&key(&format!("{kind}:1"))).await.is_err());
        };
        for _ in 0..20 {
            fails().await;
        }
        let line = log.line();
        assert!(line.contains(said) && line.contains("left_out=0"), "{line}");
        tokio::time::advance(Duration::from_secs(10)).await;
        fails().await;
        assert!(log.line().contains("left_out=19"));
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_whose_panics_end_nothing_are_one_line_in_ten_seconds_too() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traces = TraceContext::new(|| Some(parent.to_owned())).on_fan_out(|_, _| panic!("a hook that panics"));
    let kind = Kind::authenticated().member_info(|_, _| panic!("a hook that panics"));
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).trace_context(traces).build().unwrap();
    let room = key("post:42");
    // The fan-out has a span only where somebody wants it.
    let log = log::Log::of(LevelFilter::INFO);
    let joins = async || drop(Talk::joined(&rooms, "a").await);
    let broadcasts = async || {
        let mut talk = Talk::joined(&rooms, "b").await;
        for n in 0..20 {
            rooms.broadcast(&room, &n).await.unwrap();
            while talk.inbox.next().await != n {}
        }
    };
    for round in 0..2 {
        for _ in 0..20 {
            joins().await;
        }
        broadcasts().await;
        // Of 20 joins and the one for the broadcasts, and of 20 fan-outs and those of presence, if any.
        let lines = log.lines();
        for hook in ["member_info", "on_fan_out"] {
            let of_hook: Vec<_> = lines.iter().filter(|line| line.contains(&format!("hook=\"{hook}\""))).collect();
            assert_eq!(of_hook.len(), 1, "{lines:#?}");
            let left_out = if round == 0 {
                0
            } else if hook == "member_info" {
                20
            } else {
                19
            };
            assert!(of_hook[0].contains(&format!("left_out={left_out}")), "{lines:#?}");
        }
        tokio::time::advance(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_hangs_or_closes_ends_its_connection_and_no_other() {
    let kind = Kind::authenticated().on_message(|_, message| async move {
        match message.json()?["do"].as_str() {
            Some("panic") => panic!("a hook that panics"),
            Some("hang") => pending().await,
            _ => Err(Close::new(CloseCode::POLICY, "not here").into()),
        }
    });
    let rooms = rooms(kind);
    let mut other = Talk::joined(&rooms, "b").await;
    for (what, close) in
        [("panic", Close::INTERNAL), ("hang", Close::INTERNAL), ("close", Close::new(CloseCode::POLICY, "not here"))]
    {
        let mut talk = Talk::joined(&rooms, "a").await;
        talk.say(json!({"type": "x", "do": what}).to_string());
        assert_eq!(talk.inbox.close().await, close, "{what}");
    }
    other.inbox.all().await;
    assert_eq!(other.ask(r#"{"type":"ping"}"#).await, json!({"type": "pong"}));
    assert_eq!(rooms.local_viewers(&key("post:42")), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_refuses_says_why_and_the_connection_goes_on() {
    let kind = Kind::authenticated().on_message(|_, _| async { Err(HookError::refused("not here")) });
    let rooms = rooms(kind);
    let mut talk = Talk::joined(&rooms, "a").await;
    let refused = json!({"type": "error", "code": "refused", "message": "not here"});
    assert_eq!(talk.ask(r#"{"type":"x"}"#).await, refused);
    assert_eq!(talk.ask(r#"{"type":"ping"}"#).await, json!({"type": "pong"}));
}

#[tokio::test(start_paused = true)]
async fn a_join_hook_that_refuses_the_only_room_closes_with_its_words() {
    let rooms = rooms(Kind::authenticated().on_join(|_| async { Err(HookError::refused("not today")) }));
    let mut talk = Talk::open(&rooms, who("a"));
    assert_eq!(talk.inbox.close().await, Close::new(CloseCode::NOT_ALLOWED, "not today"));
    talk.ended.await.unwrap();
    assert_eq!((rooms.stats().connections, rooms.local_viewers(&key("post:42"))), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hook_whose_database_is_away_asks_to_come_back_later() {
    let kind = Kind::authenticated().on_message(|_, _| async { Err(HookError::unavailable()) });
    let rooms = rooms(kind);
    let mut talk = Talk::joined(&rooms, "a").await;
    let later = json!({"type": "error", "code": "unavailable", "message": "try again later"});
    assert_eq!(talk.ask(r#"{"type":"x"}"#).await, later);
    assert_eq!(talk.ask(r#"{"type":"ping"}"#).await, json!({"type": "pong"}));
}

#[tokio::test(start_paused = true)]
async fn a_join_hook_whose_database_is_away_closes_the_only_room_with_1013() {
    let rooms = rooms(Kind::authenticated().on_join(|_| async { Err(HookError::unavailable()) }));
    let mut talk = Talk::open(&rooms, who("a"));
    assert_eq!(talk.inbox.close().await, Close::UNAVAILABLE);
    talk.ended.await.unwrap();
    assert_eq!((rooms.stats().connections, rooms.local_viewers(&key("post:42"))), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_hook_holds_up_neither_broadcasts_nor_pings() {
    let kind = Kind::authenticated().on_message(|_, _| pending());
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", kind)
        .limits(|limits| limits.hook_timeout = Duration::from_secs(300))
        .build()
        .unwrap();
    let mut talk = Talk::joined(&rooms, "a").await;
    // The second one waits, and behind it nothing is read.
    talk.say(r#"{"type":"x"}"#);
    talk.say(r#"{"type":"x"}"#);
    idle().await;
    rooms.broadcast(&key("post:42"), &1).await.unwrap();
    assert_eq!(talk.inbox.next().await, 1);
    let start = Instant::now();
    let ping = futures::StreamExt::next(&mut talk.inbox.0).await.unwrap();
    assert_eq!(ping.kind(), MessageKind::Ping);
    // While nothing is read a pong can't be seen, so its absence proves nothing.
    assert_eq!(talk.inbox.close().await, Close::INTERNAL);
    assert!(start.elapsed().as_secs() >= 290);
}

#[tokio::test(start_paused = true)]
async fn hooks_see_who_and_where() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let note = move |what: &str, member: &rooms_core::Member| {
        let line = format!("{what} {} {}", member.identity().user(), member.room());
        log.lock().unwrap().push(line);
    };
    let (join, message, leave) = (note.clone(), note.clone(), note);
    let kind = Kind::authenticated()
        .on_join(move |member| {
            join("join", &member);
            async { Ok(Value::Null) }
        })
        .on_message(move |member, _| {
            message("message", &member);
            async { Ok(()) }
        })
        .on_leave(move |member| {
            leave("leave", &member);
            async {}
        });
    let rooms = rooms(kind);
    let talk = Talk::joined(&rooms, "a").await;
    talk.say(r#"{"type":"x"}"#);
    idle().await;
    drop(talk);
    idle().await;
    assert_eq!(*seen.lock().unwrap(), ["join a post:42", "message a post:42", "leave a post:42"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_hook_sends_before_it_closes_arrives() {
    let kind = Kind::authenticated().on_message(|member, _| async move {
        member.send(&json!({"type": "last"}));
        Err(Close::NOT_ALLOWED.into())
    });
    let rooms = rooms(kind);
    let mut talk = Talk::joined(&rooms, "a").await;
    assert_eq!(talk.ask(r#"{"type":"x"}"#).await["type"], "last");
    assert_eq!(talk.inbox.close().await, Close::NOT_ALLOWED);
}

#[tokio::test(start_paused = true)]
async fn a_kept_member_learns_that_its_connection_has_ended_and_keeps_nothing_of_it() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let kind = Kind::authenticated().on_join(move |member| {
        keep.lock().unwrap().push(member);
        async { Ok(Value::Null) }
    });
    let rooms = rooms(kind);
    // One that vanishes, one that says good-bye, one that is thrown out, and one whose task is cancelled.
    for end in ["vanishes", "closes", "is closed", "is cancelled"] {
        let mut talk = Talk::joined(&rooms, "a").await;
        let member = kept.lock().unwrap().pop().unwrap();
        assert!(!member.is_closed());
        assert_eq!(member.send(&1), Sent::Taken);
        assert_eq!(talk.inbox.next().await, 1);
        let (closed, late) = (tokio::spawn(member.closed()), member.closed());
        idle().await;
        assert!(!closed.is_finished());
        match end {
            "vanishes" => drop(talk.send),
            "closes" => talk.send.unbounded_send(Ok(Incoming::Close(None))).unwrap(),
            "is closed" => member.close(Close::NOT_ALLOWED),
            _ => talk.ended.abort(),
        }
        closed.await.unwrap();
        late.await;
        member.closed().await;
        assert!(member.is_closed());
        assert_eq!(member.send(&2), Sent::Closed, "{end}");
        // The other end of the sink: it ends only when the sink is dropped, and the member is kept still.
        let rest = async {
            while let Some(message) = futures::StreamExt::next(&mut talk.inbox.0).await {
                assert_eq!(message.kind(), MessageKind::Close);
            }
        };
        tokio::time::timeout(Duration::from_secs(60), rest).await.expect("the end of the sink");
    }
    assert_eq!(rooms.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_sent_is_said() {
    struct Odd;
    impl serde::Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("odd"))
        }
    }
    let kind = Kind::authenticated().on_message(|member, _| async move {
        assert_eq!(member.send(&Odd), Sent::NotEncoded);
        while member.send(&"x".repeat(100_000)) == Sent::Taken {
            // The sink of these tests takes everything, so it ends with this one.
            member.close(Close::NORMAL);
        }
        Ok(())
    });
    let rooms = rooms(kind);
    let mut talk = Talk::joined(&rooms, "a").await;
    talk.say(r#"{"type":"x"}"#);
    assert_eq!(talk.inbox.close().await, Close::NORMAL);
}
