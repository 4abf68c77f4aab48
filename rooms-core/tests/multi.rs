//! One connection in many rooms: commands, rights, what it is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/channels.rs"]
mod channels;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{future::pending, time::Duration};

use futures::StreamExt as _;
use rooms_core::{
    BroadcastError, Close, CloseCode, HookError, Kind, LocalBus, MessageKind, Reach, RoomManager, ws::Incoming,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use channels::{command, error, join, publish, rooms};
use rig::{Client, Rooms, idle, key};
use talk::Talk;

#[tokio::test(start_paused = true)]
async fn rooms_are_joined_and_left_and_everything_names_its_room() {
    let rooms = rooms();
    let mut talk = Talk::multi(&rooms, "a");
    assert!(talk.inbox.is_silent().await, "nothing is said before it is asked for");
    join(&mut talk, "channel:1").await;
    join(&mut talk, "post:2").await;
    let one = json!({"n": 1, "text": "é\u{1f600}"});
    rooms.broadcast(&key("channel:1"), &one).await.unwrap();
    assert_eq!(talk.inbox.next().await, json!({"type": "message", "room": "channel:1", "data": one}));
    rooms.broadcast(&key("post:2"), &2).await.unwrap();
    assert_eq!(talk.inbox.next().await, json!({"type": "message", "room": "post:2", "data": 2}));

    let other = Client::join(&rooms, "b", "post:2").await;
    assert_eq!(talk.inbox.next().await, json!({"type": "viewer_joined", "viewers": 2, "room": "post:2"}));
    drop(other);
    assert_eq!(talk.inbox.next().await, json!({"type": "viewer_left", "viewers": 1, "room": "post:2"}));

    let left = talk.ask(command("leave", "channel:1", 7)).await;
    assert_eq!(left, json!({"type": "room_left", "room": "channel:1", "ref": 7}));
    rooms.broadcast(&key("channel:1"), &3).await.unwrap();
    assert!(talk.inbox.is_silent().await);
    assert_eq!(rooms.local_viewers(&key("channel:1")), 0);
    drop(talk);
    idle().await;
    assert_eq!(rooms.local_viewers(&key("post:2")), 0);
}

#[tokio::test(start_paused = true)]
async fn members_of_both_forms_are_each_given_theirs_in_one_order() {
    let rooms = rooms();
    let (mut single, mut multi) = (Talk::joined(&rooms, "a").await, Talk::multi(&rooms, "b"));
    join(&mut multi, "post:42").await;
    single.inbox.all().await;
    let room = key("post:42");
    for n in 0..200 {
        rooms.broadcast(&room, &n).await.unwrap();
    }
    assert_eq!(single.inbox.all().await, (0..200).map(Value::from).collect::<Vec<_>>());
    let wrapped = |n| json!({"type": "message", "room": "post:42", "data": n});
    assert_eq!(multi.inbox.all().await, (0..200).map(wrapped).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_is_encoded_once_for_each_form() {
    let rooms = rooms();
    let (mut single, mut multi) = (Vec::new(), Vec::new());
    // More than are served at a time.
    for n in 0..100 {
        single.push(Talk::joined(&rooms, &format!("s{n}")).await);
        multi.push(Talk::multi(&rooms, &format!("m{n}")));
        multi[n].ask(command("join", "post:42", 1)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for talk in single.iter_mut().chain(&mut multi) {
        talk.inbox.all().await;
    }
    rooms.broadcast(&key("post:42"), &1).await.unwrap();
    for talks in [&mut single, &mut multi] {
        let mut given = Vec::new();
        for talk in talks {
            given.push(talk.inbox.0.next().await.unwrap());
        }
        let same = given.windows(2).all(|two| two[0].frame().as_ptr() == two[1].frame().as_ptr());
        assert!(same, "all are given the same bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_broadcast_while_a_room_is_joined_follows_in_the_same_form() {
    let kind = Kind::authenticated().on_join(|_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(json!({"title": "A post"}))
    });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    talk.say(command("join", "post:42", 1));
    idle().await;
    rooms.broadcast(&key("post:42"), &"meanwhile").await.unwrap();
    let welcome = json!({"type": "room_joined", "room": "post:42", "viewers": 1, "title": "A post", "ref": 1});
    assert_eq!(talk.inbox.next().await, welcome);
    assert_eq!(talk.inbox.next().await, json!({"type": "message", "room": "post:42", "data": "meanwhile"}));
}

#[tokio::test(start_paused = true)]
async fn joining_twice_is_joining_once() {
    let rooms = rooms();
    let mut talk = Talk::multi(&rooms, "a");
    join(&mut talk, "post:42").await;
    let again = talk.ask(command("join", "post:42", 2)).await;
    assert_eq!(again, json!({"type": "room_joined", "room": "post:42", "viewers": 1, "ref": 2}));
    rooms.broadcast(&key("post:42"), &1).await.unwrap();
    assert_eq!(talk.inbox.all().await.len(), 1);
    talk.ask(command("leave", "post:42", 3)).await;
    assert_eq!(rooms.local_viewers(&key("post:42")), 0);
}

#[tokio::test(start_paused = true)]
async fn who_joins_again_is_told_who_is_there_twice_in_five_seconds() {
    let rooms: Rooms = RoomManager::build_for().kind("chat", Kind::authenticated().list_members()).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    join(&mut talk, "chat:1").await;
    join(&mut talk, "chat:2").await;
    let listed = json!([{"user": "a"}]);
    for (wait, room, members) in [
        (0, "chat:1", &listed),
        (0, "chat:1", &Value::Null),
        (0, "chat:2", &listed),
        (4_999, "chat:1", &Value::Null),
        (1, "chat:1", &listed),
        (0, "chat:1", &listed),
        (0, "chat:1", &Value::Null),
    ] {
        sleep(Duration::from_millis(wait)).await;
        let again = talk.ask(command("join", room, 2)).await;
        assert_eq!((&again["viewers"], &again["users"], &again["members"]), (&json!(1), &json!(1), members), "{again}");
    }
    // Nor does leaving in between make it more.
    talk.ask(command("leave", "chat:1", 3)).await;
    let again = talk.ask(command("join", "chat:1", 4)).await;
    assert_eq!((&again["users"], &again["members"]), (&json!(1), &Value::Null), "{again}");
}

#[tokio::test(start_paused = true)]
async fn a_member_publishes_where_the_kind_lets_it() {
    let rooms = rooms();
    let (mut a, mut editor) = (Talk::multi(&rooms, "a"), Talk::multi(&rooms, "editor"));
    for room in ["silent:1", "post:2", "channel:3"] {
        join(&mut a, room).await;
    }
    for room in ["silent:1", "post:2", "channel:3"] {
        join(&mut editor, room).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    a.inbox.all().await;
    let fault = |room: &str| json!({"code": "not_allowed", "room": room, "ref": "p"});
    assert_eq!(error(&mut a, publish("silent:1", json!(1))).await, fault("silent:1"));
    assert_eq!(error(&mut editor, publish("silent:1", json!(1))).await, fault("silent:1"));
    assert_eq!(error(&mut a, publish("post:2", json!(1))).await, fault("post:2"));
    let message = json!({"type": "message", "room": "post:2", "data": {"type": "x"}});
    editor.say(publish("post:2", json!({"type": "x"})));
    let mut told = editor.inbox.all().await;
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, [message.clone(), json!({"type": "published", "room": "post:2", "ref": "p"})]);
    assert_eq!(a.inbox.all().await, [message]);
    a.say(json!({"type": "publish", "room": "channel:3", "data": "hi"}).to_string());
    let hi = json!({"type": "message", "room": "channel:3", "data": "hi"});
    assert_eq!(a.inbox.all().await, std::slice::from_ref(&hi), "without a ref there is nothing to answer");
    assert_eq!(editor.inbox.all().await, [hi]);
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_what_the_hook_makes_of_it() {
    let kind = Kind::authenticated().allow_publish().on_publish(|member, data| async move {
        let data = data.json()?;
        match data["text"].as_str() {
            Some(text) => Ok(json!({"from": member.identity().user(), "text": text})),
            None if data == 6 => Err(Close::new(CloseCode::POLICY, "no text").into()),
            None => Err(HookError::refused("no text")),
        }
    });
    let rooms: Rooms = RoomManager::build_for().kind("channel", kind).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    join(&mut talk, "channel:1").await;
    talk.say(r#"{"type":"publish","room":"channel:1","data":{"from":"b","text":"hi"}}"#);
    assert_eq!(talk.inbox.next().await["data"], json!({"from": "a", "text": "hi"}));
    let fault = json!({"code": "refused", "room": "channel:1", "ref": 7});
    let publish = r#"{"type":"publish","room":"channel:1","data":5,"ref":7}"#;
    assert_eq!(error(&mut talk, publish).await, fault);
    talk.say(r#"{"type":"publish","room":"channel:1","data":6}"#);
    assert_eq!(talk.inbox.close().await, Close::new(CloseCode::POLICY, "no text"));
}

#[tokio::test(start_paused = true)]
async fn what_the_hook_nests_too_deep_is_refused_and_not_lost() {
    let kind =
        Kind::authenticated().allow_publish().on_publish(|_, data| async move { Ok(json!({"of": [data.json()?]})) });
    let rooms: Rooms = RoomManager::build_for().kind("channel", kind).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    join(&mut talk, "channel:1").await;
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let publish = |depth| format!(r#"{{"type":"publish","room":"channel:1","data":{},"ref":1}}"#, nested(depth));
    let fault = json!({"code": "too_big", "room": "channel:1", "ref": 1});
    assert_eq!(error(&mut talk, publish(63)).await, fault);
    talk.say(publish(62));
    assert_eq!(talk.inbox.all().await.len(), 2, "the message, and that it is published");
    let deep: Value = serde_json::from_str(&nested(65)).unwrap();
    let refused = rooms.broadcast(&key("channel:1"), &deep).await;
    assert!(matches!(refused, Err(BroadcastError::TooDeep { .. })), "{refused:?}");
    assert_eq!(rooms.stats().bad_payloads, 0);
}

#[tokio::test(start_paused = true)]
async fn an_applications_own_message_goes_to_the_hook_of_its_room() {
    let kind = Kind::authenticated().on_message(|member, message| async move {
        member.send(&json!({"type": "heard", "n": message.json()?["n"]}));
        Ok(())
    });
    let rooms: Rooms =
        RoomManager::build_for().kind("post", kind).kind("silent", Kind::authenticated()).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    join(&mut talk, "post:42").await;
    join(&mut talk, "silent:1").await;
    let heard = talk.ask(r#"{"type":"say","room":"post:42","n":1}"#).await;
    assert_eq!(heard, json!({"type": "message", "room": "post:42", "data": {"type": "heard", "n": 1}}));
    let fault = json!({"code": "unknown_type", "room": "silent:1", "ref": "x"});
    assert_eq!(error(&mut talk, command("say", "silent:1", "x")).await, fault);
    let fault = json!({"code": "not_joined", "room": "post:7", "ref": "x"});
    assert_eq!(error(&mut talk, command("say", "post:7", "x")).await, fault);
}

#[tokio::test(start_paused = true)]
async fn a_hook_tells_the_room_with_its_member_or_without() {
    let kind = Kind::authenticated().on_message(|member, message| async move {
        let told = json!({"type": "drawn", "by": member.identity().user()});
        let receipt = match message.json()?["type"].as_str() {
            Some("draw") => member.broadcast(&told).await,
            _ => member.broadcast_to_others(&told).await,
        };
        assert_eq!(receipt.unwrap().reach, Reach::AllNodes);
        Ok(())
    });
    let bus = LocalBus::new();
    let node = |bus| RoomManager::build_for().kind("board", kind.clone()).bus(bus).build().unwrap();
    let (one, two): (Rooms, Rooms) = (node(bus.peer()), node(bus));
    let mut tabs = [Talk::multi(&one, "a"), Talk::multi(&one, "a"), Talk::multi(&two, "b")];
    for tab in &mut tabs {
        join(tab, "board:1").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for tab in &mut tabs {
        tab.inbox.all().await;
    }
    let drawn = json!({"type": "message", "room": "board:1", "data": {"type": "drawn", "by": "a"}});
    for (say, told) in [("draw", [1, 1, 1]), ("sketch", [0, 1, 1])] {
        tabs[0].say(json!({"type": say, "room": "board:1"}).to_string());
        for (tab, told) in tabs.iter_mut().zip(told) {
            assert_eq!(tab.inbox.all().await, vec![drawn.clone(); told], "{say}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn commands_are_carried_out_one_after_another() {
    let kind = Kind::new().join_rule(|_, room| async move {
        // The later ones would be faster.
        tokio::time::sleep(Duration::from_millis(100 - room.id().parse::<u64>().unwrap())).await;
        true
    });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    for n in 0..30 {
        talk.say(command("join", &format!("post:{n}"), n));
        talk.say(json!({"type": "ping", "ref": n}).to_string());
        talk.say(command("leave", &format!("post:{n}"), n));
    }
    for n in 0..30 {
        for kind in ["room_joined", "pong", "room_left"] {
            let answer = talk.inbox.next().await;
            assert_eq!((&answer["type"], &answer["ref"]), (&json!(kind), &json!(n)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_rule_holds_up_neither_others_nor_the_heartbeat_nor_what_is_broadcast() {
    let kind = Kind::new().join_rule(|_, room| async move { if room.id() == "slow" { pending().await } else { true } });
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", kind)
        .limits(|limits| limits.rule_timeout = Duration::from_secs(300))
        .build()
        .unwrap();
    let (mut slow, mut other) = (Talk::multi(&rooms, "a"), Talk::multi(&rooms, "b"));
    join(&mut slow, "post:1").await;
    slow.say(command("join", "post:slow", 1));
    idle().await;
    join(&mut other, "post:2").await;
    rooms.broadcast(&key("post:1"), &1).await.unwrap();
    assert_eq!(slow.inbox.next().await["data"], 1);
    let mut pings = 0;
    let answer = loop {
        let message = slow.inbox.0.next().await.unwrap();
        match message.kind() {
            MessageKind::Ping => {
                pings += 1;
                slow.send.unbounded_send(Ok(Incoming::Pong)).unwrap();
            }
            _ => break message,
        }
    };
    assert!(pings >= 10, "{pings} pings in 300 s");
    let answer: Value = serde_json::from_slice(answer.payload()).unwrap();
    assert_eq!((&answer["code"], &answer["ref"]), (&json!("unavailable"), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_user_is_reached_in_every_tab_on_every_node() {
    let bus = LocalBus::new();
    let node = |bus| -> Rooms {
        RoomManager::build_for()
            .kind("user", Kind::owner_only())
            .kind("post", Kind::authenticated())
            .bus(bus)
            .build()
            .unwrap()
    };
    let (one, two) = (node(bus.peer()), node(bus));
    let mut tabs = [Talk::multi(&one, "5"), Talk::multi(&one, "5"), Talk::multi(&two, "5")];
    let mut other = Talk::multi(&two, "6");
    for tab in &mut tabs {
        let first = tab.inbox.next().await;
        assert_eq!((&first["type"], &first["room"]), (&json!("room_joined"), &json!("user:5")));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for tab in tabs.iter_mut().chain([&mut other]) {
        tab.inbox.all().await;
    }
    one.send_to_user("5", &json!({"type": "notice"})).await.unwrap();
    for tab in &mut tabs {
        let notice = json!({"type": "message", "room": "user:5", "data": {"type": "notice"}});
        assert_eq!(tab.inbox.all().await, [notice]);
    }
    assert!(other.inbox.is_silent().await);
    assert_eq!(error(&mut other, command("join", "user:5", 1)).await["code"], "not_allowed");
    assert!(one.send_to_user("5 6", &1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_may_not_have_a_room_of_their_own_is_connected_without() {
    let kind = Kind::new().join_rule(|_, _| async { false });
    let rooms: Rooms = RoomManager::build_for().kind("user", kind).build().unwrap();
    let mut talk = Talk::multi(&rooms, "5");
    assert_eq!(talk.ask(r#"{"type":"ping"}"#).await, json!({"type": "pong"}));
}

#[tokio::test(start_paused = true)]
async fn a_join_hook_refuses_its_room_or_closes_the_connection() {
    let kind = Kind::authenticated().on_join(|member| async move {
        match member.room().id() {
            "42" => Err(Close::new(CloseCode::POLICY, "not today").into()),
            _ => Err(HookError::refused("not now")),
        }
    });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind.clone()).kind("user", kind).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    let refused = json!({"type": "error", "code": "refused", "message": "not now", "room": "user:a"});
    assert_eq!(talk.inbox.next().await, refused, "of the user's own room");
    let fault = json!({"code": "refused", "room": "post:7", "ref": 1});
    assert_eq!(error(&mut talk, command("join", "post:7", 1)).await, fault);
    assert_eq!((rooms.local_viewers(&key("user:a")), rooms.local_viewers(&key("post:7"))), (0, 0));
    talk.say(command("join", "post:42", 1));
    assert_eq!(talk.inbox.close().await, Close::new(CloseCode::POLICY, "not today"));
    talk.ended.await.unwrap();
    assert_eq!(rooms.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_fails_one_command_and_not_the_connection() {
    let kind = Kind::authenticated()
        .allow_publish()
        .on_join(|member| async move {
            if member.room().id() == "away" { Err(HookError::unavailable()) } else { Ok(Value::Null) }
        })
        .on_message(|_, _| async { Err(HookError::unavailable()) })
        .on_publish(|_, _| async { Err::<serde_json::Value, _>(HookError::unavailable()) });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind.clone()).kind("user", kind).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    assert_eq!(talk.inbox.next().await["room"], "user:a");
    join(&mut talk, "post:1").await;
    let fault = |room: &str, reference: Value| json!({"code": "unavailable", "room": room, "ref": reference});
    assert_eq!(error(&mut talk, command("join", "post:away", 7)).await, fault("post:away", json!(7)));
    assert_eq!(error(&mut talk, command("draw", "post:1", 9)).await, fault("post:1", json!(9)));
    assert_eq!(error(&mut talk, publish("post:1", 5)).await, fault("post:1", json!("p")));
    assert_eq!(rooms.local_viewers(&key("post:1")), 1, "its other room goes on");
    assert_eq!(rooms.local_viewers(&key("post:away")), 0);
    // Nobody would ask for the user's own room again, so its connection comes back.
    let mut away = Talk::multi(&rooms, "away");
    assert_eq!(away.inbox.close().await, Close::UNAVAILABLE);
}
