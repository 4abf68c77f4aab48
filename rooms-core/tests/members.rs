//! Who is in a room, over several nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/view.rs"]
mod view;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use rooms_core::{Identity, Kind, Members, MembersError, RoomKey, testing::fleet::Fleet};
use serde_json::{Value, json};
use tokio::time::sleep;

use nodes::{Nodes, agreed, nodes, settle, told, with_kinds};
use rig::{Client, idle, key};
use view::{View, users};

fn names(members: &Members) -> Vec<(&str, usize)> {
    members.users.iter().map(|present| (&*present.user, present.connections)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_user_with_many_tabs_on_many_nodes_joins_once_and_leaves_once() {
    let fleet = nodes(3);
    idle().await;
    let mut ada = Client::join(fleet.node(0), "ada", "chat:1").await;
    settle().await;
    assert_eq!(ada.inbox.all().await, [] as [Value; 0], "its own `room_joined` has its name");
    let mut tabs = Vec::new();
    for tab in 0..5 {
        tabs.push(Client::join(fleet.node(tab % 3), "bob", "chat:1").await);
        settle().await;
    }
    let events = ada.inbox.all().await;
    assert_eq!(events.iter().filter(|event| !users(event).is_empty()).count(), 1, "{events:?}");
    assert_eq!(events[0], json!({"type": "viewer_joined", "viewers": 2, "users": [{"user": "bob"}]}));
    assert_eq!(tabs[0].inbox.all().await.iter().flat_map(users).count(), 0, "bob is named to others only");
    for node in 0..3 {
        let members = fleet.node(node).members(&key("chat:1")).await.unwrap();
        assert_eq!((names(&members), members.exact), (vec![("ada", 1), ("bob", 5)], true), "node {node}");
    }
    while tabs.pop().is_some() {
        settle().await;
    }
    let events = ada.inbox.all().await;
    let left: Vec<_> = events.iter().filter(|event| !users(event).is_empty()).collect();
    assert_eq!(left, [&json!({"type": "viewer_left", "viewers": 1, "users": [{"user": "bob"}]})], "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_member_of_a_node_is_told_of_who_is_elsewhere_and_of_nobody_twice() {
    let fleet = nodes(2);
    idle().await;
    let _ada = Client::join(fleet.node(0), "ada", "chat:1").await;
    for _ in 0..2 {
        let mut bob = Client::connect(fleet.node(1), "bob");
        bob.connection.join(&key("chat:1")).await.unwrap();
        let mut view = View::default();
        settle().await;
        let events = bob.inbox.all().await;
        assert_eq!(events[0]["members"], json!([{"user": "bob"}, {"user": "ada"}]), "whoever joins is the first");
        assert_eq!((&events[0]["viewers"], &events[0]["users"]), (&json!(2), &json!(2)));
        events.iter().for_each(|event| view.take(event));
        assert_eq!(view.users.iter().collect::<Vec<_>>(), ["ada", "bob"]);
        assert_eq!(view.events, 1, "room_joined");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_without_members_lists_them_and_a_kind_that_keeps_none_says_so() {
    let fleet = nodes(2);
    settle().await;
    let _ada = Client::join(fleet.node(0), "ada", "chat:1").await;
    let members = fleet.node(1).members(&key("chat:1")).await.unwrap();
    assert_eq!((names(&members), members.exact), (vec![("ada", 1)], true));
    let room = key("post:1");
    assert_eq!(fleet.node(0).members(&room).await, Err(MembersError::NotKept { room }));
}

#[tokio::test(start_paused = true)]
async fn what_the_application_says_of_a_member_is_told_up_to_512_bytes() {
    let kind = Kind::authenticated().member_info(|who, room| match who.user() {
        "ada" => json!({"name": "Ada", "in": room.id()}),
        "exact" => json!("x".repeat(510)),
        "long" => json!("x".repeat(511)),
        "panics" => panic!("this says nothing"),
        _ => Value::Null,
    });
    let fleet: Nodes = Fleet::new(2, |_, node| node.kind("chat", kind.clone()));
    idle().await;
    let mut first = Client::join(fleet.node(0), "first", "chat:1").await;
    settle().await;
    first.inbox.all().await;
    let mut others = Vec::new();
    for user in ["ada", "exact", "long", "panics"] {
        others.push(Client::join(fleet.node(1), user, "chat:1").await);
        settle().await;
    }
    let events = first.inbox.all().await;
    let infos: Vec<_> = events.iter().map(|event| event["users"][0]["info"].clone()).collect();
    assert_eq!(infos, [json!({"name": "Ada", "in": "1"}), json!("x".repeat(510)), Value::Null, Value::Null]);
    let mut last = Client::connect(fleet.node(0), "last");
    last.connection.join(&key("chat:1")).await.unwrap();
    let joined = last.inbox.next().await;
    assert_eq!(joined["users"], 6);
    let ada = json!({"user": "ada", "info": {"name": "Ada", "in": "1"}});
    assert!(joined["members"].as_array().unwrap().contains(&ada), "{joined}");
    let members = fleet.node(1).members(&key("chat:1")).await.unwrap();
    assert_eq!(
        members.users.iter().find(|user| &*user.user == "ada").unwrap().info,
        Some(json!({"name": "Ada", "in": "1"}))
    );
    let listed = serde_json::to_value(&members.users).unwrap();
    assert!(listed[0]["since"].as_u64().unwrap() > 1_500_000_000_000, "{listed}");
}

#[tokio::test(start_paused = true)]
async fn however_deep_the_info_of_a_member_is_it_is_counted_on_every_node() {
    let deep = |depth: usize| (0..depth).fold(json!("x"), |inner, _| json!([inner]));
    let kind = Kind::authenticated().member_info(move |who, _| match who.user().parse() {
        Ok(depth) => deep(depth),
        Err(_) => Value::Null,
    });
    let fleet: Nodes = Fleet::new(2, |_, node| node.kind("chat", kind.clone()));
    settle().await;
    let _ada = Client::join(fleet.node(1), "ada", "chat:1").await;
    let _deep = join_all(["16", "17", "62"].map(|depth| Client::join(fleet.node(0), depth, "chat:1"))).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(agreed(&fleet, 0..2, &key("chat:1")).await, 4);
    let members = fleet.node(1).members(&key("chat:1")).await.unwrap();
    let told: Vec<_> = members.users.iter().filter(|user| user.info.is_some()).map(|user| &*user.user).collect();
    assert_eq!(told, ["16"], "what is nested deeper is left out");
    assert_eq!(fleet.node(1).stats().undecodable, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reload_within_the_grace_is_nothing_to_tell() {
    let fleet: Nodes = Fleet::new(2, |_, node| {
        let grace = Duration::from_secs(3);
        node.kind("chat", Kind::authenticated().list_members().leave_grace(grace))
            .kind("post", Kind::authenticated().leave_grace(grace))
    });
    idle().await;
    for room in ["chat:1", "post:1"] {
        let mut ada = Client::join(fleet.node(0), "ada", room).await;
        let mut bob = Client::join(fleet.node(0), "bob", room).await;
        settle().await;
        ada.inbox.all().await;
        for _ in 0..3 {
            drop(bob);
            sleep(Duration::from_secs(2)).await;
            bob = Client::connect(fleet.node(0), "bob");
            assert_eq!(bob.connection.join(&key(room)).await.unwrap(), 2);
        }
        settle().await;
        assert_eq!(ada.inbox.all().await, [] as [Value; 0], "{room}: nobody left");
        drop(bob);
        settle().await;
        assert!(ada.inbox.is_silent().await);
        assert_eq!(fleet.node(1).viewers(&key(room)).await.viewers, 2, "{room}: still counted");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(told(&mut ada).await, [1], "{room}");
        assert_eq!(fleet.node(1).viewers(&key(room)).await.viewers, 1);
        drop(ada);
        sleep(Duration::from_secs(20)).await;
        assert_eq!(fleet.node(0).stats().rooms, 0, "{room}: nothing is left behind");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_on_another_node_has_not_left() {
    let fleet: Nodes = Fleet::new(2, |_, node| {
        node.kind("chat", Kind::authenticated().list_members().leave_grace(Duration::from_secs(3)))
    });
    idle().await;
    let mut ada = Client::join(fleet.node(0), "ada", "chat:1").await;
    let bob = Client::join(fleet.node(0), "bob", "chat:1").await;
    let _carol = Client::join(fleet.node(1), "carol", "chat:1").await;
    settle().await;
    ada.inbox.all().await;
    drop(bob);
    sleep(Duration::from_millis(500)).await;
    let _bob = Client::join(fleet.node(1), "bob", "chat:1").await;
    sleep(Duration::from_secs(10)).await;
    let events = ada.inbox.all().await;
    assert!(events.iter().all(|event| users(event).is_empty()), "{events:?}");
    assert!(events.iter().all(|event| event["viewers"] == 3), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn two_tabs_that_come_back_together_on_another_node_are_two() {
    let fleet: Nodes = Fleet::new(2, |_, node| {
        node.kind("chat", Kind::authenticated().list_members().leave_grace(Duration::from_secs(30)))
    });
    let room = key("chat:1");
    idle().await;
    let join = |node: usize, user: &'static str| Client::join(fleet.node(node), user, "chat:1");
    let _stays = join(0, "a").await;
    drop([join(0, "b").await, join(0, "b").await]);
    settle().await;
    assert_eq!(agreed(&fleet, 0..2, &room).await, 3, "both are kept");
    // Opens the window, so that both tabs are in one row.
    let _other = join(1, "c").await;
    let _tabs = [join(1, "b").await, join(1, "b").await];
    sleep(Duration::from_secs(10)).await;
    assert_eq!(agreed(&fleet, 0..2, &room).await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_tab_that_is_elsewhere_all_the_time_does_not_end_the_grace_of_one_that_reloads() {
    let fleet: Nodes = Fleet::new(2, |_, node| {
        node.kind("chat", Kind::authenticated().list_members().leave_grace(Duration::from_secs(10)))
    });
    idle().await;
    let _stays = Client::join(fleet.node(1), "b", "chat:1").await;
    let reloads = Client::join(fleet.node(0), "b", "chat:1").await;
    let mut a = Client::join(fleet.node(0), "a", "chat:1").await;
    settle().await;
    a.inbox.all().await;
    drop(reloads);
    // Node 1 has news of somebody else, which is lost, so it is asked for all that it has.
    fleet.faults(0).cut();
    let _other = Client::join(fleet.node(1), "c", "chat:1").await;
    sleep(Duration::from_secs(1)).await;
    fleet.faults(0).mend();
    sleep(Duration::from_secs(7)).await;
    let _back = Client::join(fleet.node(0), "b", "chat:1").await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(told(&mut a).await, [4], "c has come, and b has never left");
}

#[tokio::test(start_paused = true)]
async fn a_user_who_joins_and_leaves_within_a_window_was_never_there() {
    let fleet = nodes(2);
    idle().await;
    let mut ada = Client::join(fleet.node(0), "ada", "chat:1").await;
    let _bob = Client::join(fleet.node(1), "bob", "chat:1").await;
    drop(Client::join(fleet.node(1), "carol", "chat:1").await);
    settle().await;
    let events = ada.inbox.all().await;
    let named: Vec<_> = events.iter().flat_map(users).collect();
    assert_eq!(named, ["bob"], "{events:?}");
    assert_eq!(events.last().unwrap()["viewers"], 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_user_racing_in_and_out_on_two_nodes_joins_and_leaves_in_turn_for_everybody() {
    let fleet = nodes(3);
    idle().await;
    let mut watchers = join_all((0..3).map(|node| Client::join(fleet.node(node), "w", "chat:1"))).await;
    settle().await;
    let mut views: Vec<View> = Vec::new();
    for watcher in &mut watchers {
        let mut view = View::default();
        view.users.extend(["w".to_owned()]);
        for event in watcher.inbox.all().await {
            // Each has the others' coming, of a user that it knows.
            if users(&event) != ["w"] {
                view.take(&event);
            }
        }
        views.push(view);
    }
    let mut bobs: [Option<Client>; 2] = [None, None];
    for step in 0..200_u64 {
        let tab = (step * 7 / 3 % 2) as usize;
        bobs[tab] = match bobs[tab].take() {
            Some(_) => None,
            None => Some(Client::join(fleet.node(tab), "bob", "chat:1").await),
        };
        sleep(Duration::from_millis(step * 37 % 200)).await;
    }
    let _stays = Client::join(fleet.node(1), "bob", "chat:1").await;
    settle().await;
    for (watcher, view) in watchers.iter_mut().zip(&mut views) {
        watcher.inbox.all().await.iter().for_each(|event| view.take(event));
        assert!(view.events > 2, "something was told");
        assert_eq!(view.users.iter().collect::<Vec<_>>(), ["bob", "w"]);
    }
}

#[tokio::test(start_paused = true)]
async fn users_past_the_limit_are_counted_and_not_named() {
    let fleet: Nodes = Fleet::new(2, |_, node| {
        node.kind("chat", Kind::authenticated().list_members()).limits(|limits| limits.max_named_users = 3)
    });
    idle().await;
    let mut members = Vec::new();
    for number in 0..5 {
        members.push(Client::join(fleet.node(0), &format!("u{number}"), "chat:1").await);
    }
    settle().await;
    for node in 0..2 {
        let listed = fleet.node(node).members(&key("chat:1")).await.unwrap();
        assert_eq!((listed.users.len(), listed.unnamed), (3, 2));
    }
    drop(members);
    settle().await;
    let listed = fleet.node(0).members(&key("chat:1")).await.unwrap();
    assert_eq!((listed.users.len(), listed.unnamed), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_named_a_few_hundred_at_a_time_and_a_newcomer_is_told_of_a_hundred() {
    let fleet = nodes(2);
    idle().await;
    let mut ada = Client::join(fleet.node(0), "ada", "chat:1").await;
    settle().await;
    ada.inbox.all().await;
    let joins = (0..900).map(|n| {
        let fleet = &fleet;
        async move { Client::join(fleet.node(n % 2), &format!("u{n}"), "chat:1").await }
    });
    let crowd = join_all(joins).await;
    settle().await;
    settle().await;
    let events = ada.inbox.all().await;
    assert!(events.iter().all(|event| users(event).len() <= 256));
    let named: BTreeSet<_> = events.iter().flat_map(users).collect();
    assert_eq!(named.len(), 900, "all of them, once");
    assert_eq!(events.iter().map(|event| users(event).len()).sum::<usize>(), 900);
    assert_eq!(events.last().unwrap()["viewers"], 901);
    let mut late = Client::connect(fleet.node(1), "late");
    late.connection.join(&key("chat:1")).await.unwrap();
    let joined = late.inbox.next().await;
    assert_eq!((joined["users"].as_u64(), joined["members"].as_array().unwrap().len()), (Some(902), 100));
    drop(crowd);
    settle().await;
    settle().await;
    let left: usize = ada.inbox.all().await.iter().filter(|e| e["type"] == "viewer_left").map(|e| users(e).len()).sum();
    assert_eq!(left, 900);
}

#[tokio::test(start_paused = true)]
async fn a_reload_within_the_grace_says_anew_who_it_is() {
    let said = Arc::new(AtomicUsize::new(0));
    let fleet: Nodes = Fleet::new(2, |_, node| {
        let said = Arc::clone(&said);
        let info = move |_: &Identity, _: &RoomKey| json!(said.fetch_add(1, Ordering::Relaxed));
        node.kind("chat", Kind::authenticated().member_info(info).leave_grace(Duration::from_secs(3)))
    });
    settle().await;
    for expected in 0..3 {
        let ada = Client::join(fleet.node(0), "ada", "chat:1").await;
        settle().await;
        for node in 0..2 {
            let members = fleet.node(node).members(&key("chat:1")).await.unwrap();
            assert_eq!((members.users.len(), &members.users[0].info), (1, &Some(json!(expected))), "node {node}");
        }
        drop(ada);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_joins_is_listed_in_its_own_welcome_and_told_of_the_others_alone() {
    let fleet = nodes(2);
    settle().await;
    let mut clients = Vec::new();
    for (number, user) in ["ada", "bob", "cyd", "ada"].into_iter().enumerate() {
        let mut client = Client::connect(fleet.node(number % 2), user);
        client.connection.join(&key("chat:1")).await.unwrap();
        let joined = client.inbox.next().await;
        let members: Vec<_> = joined["members"].as_array().unwrap().iter().map(|it| &it["user"]).collect();
        let there = (number + 1).min(3);
        assert_eq!((members.len(), members[0]), (there, &json!(user)), "{joined}");
        assert_eq!((&joined["viewers"], &joined["users"]), (&json!(number + 1), &json!(there)), "{joined}");
        clients.push(client);
        settle().await;
    }
    let mut named = Vec::new();
    for client in &mut clients {
        let events = client.inbox.all().await;
        named.push(events.iter().flat_map(users).map(str::to_owned).collect::<Vec<_>>());
    }
    assert_eq!(named, [vec!["bob", "cyd"], vec!["cyd"], vec![], vec![]]);
}

#[tokio::test(start_paused = true)]
async fn two_who_come_within_a_window_are_told_of_each_other() {
    let fleet = nodes(1);
    let _ada = Client::join(fleet.node(0), "ada", "chat:1").await;
    let _zed = Client::join(fleet.node(0), "zed", "chat:1").await;
    // The window is open: these two are told together.
    let mut views = Vec::new();
    for user in ["bob", "cyd"] {
        let mut client = Client::connect(fleet.node(0), user);
        client.connection.join(&key("chat:1")).await.unwrap();
        views.push((client, View::default()));
    }
    settle().await;
    for (client, view) in &mut views {
        client.inbox.all().await.iter().for_each(|event| view.take(event));
        assert_eq!(view.users.iter().collect::<Vec<_>>(), ["ada", "bob", "cyd", "zed"]);
    }
}

/// As a node alone publishes no rows, what changed has to be kept for when it is not.
#[tokio::test(start_paused = true)]
async fn whoever_comes_and_goes_while_a_node_is_alone_is_known_to_the_next_node() {
    let mut fleet: Nodes = Fleet::new(1, |_, node| with_kinds(node).limits(|limits| limits.max_named_users = 8));
    let _stays = Client::join(fleet.node(0), "ada", "chat:1").await;
    for number in 0..50 {
        drop(Client::join(fleet.node(0), &format!("u{number}"), "chat:1").await);
    }
    let new = fleet.add(|_, node| with_kinds(node).limits(|limits| limits.max_named_users = 8));
    settle().await;
    let _bob = Client::join(fleet.node(new), "bob", "chat:1").await;
    for number in 0..20 {
        drop(Client::join(fleet.node(0), &format!("v{number}"), "chat:1").await);
    }
    settle().await;
    for node in 0..2 {
        let members = fleet.node(node).members(&key("chat:1")).await.unwrap();
        let mut listed: Vec<_> = members.users.iter().map(|user| &*user.user).collect();
        listed.sort_unstable();
        assert_eq!((listed, members.exact), (vec!["ada", "bob"], true), "node {node}");
    }
}
