//! What a connection, and all connections of one user, may do in a second.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;
#[path = "support/visitor.rs"]
mod visitor;

use std::time::Duration;

use rooms_core::{Close, Kind, Limits, RoomManager, testing::fleet::Fleet, ws::Incoming};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, sleep},
};

use rig::{Rooms, Sink, key, who};
use talk::Talk;
use visitor::{Visitor, admit, builder, frame};

/// Messages of 16 KiB that each connection of a flood sends. 50 a second are allowed: 78 MB a second over a hundred.
const FLOOD: usize = 10;

fn limited(limits: impl FnOnce(&mut Limits)) -> Rooms {
    let post = Kind::authenticated().allow_publish().on_message(|_, _| async { Ok(()) });
    let hidden = Kind::new();
    // Nobody answers pings here.
    let builder = RoomManager::build_for().limits(|limits| limits.ping_interval = Duration::MAX);
    builder.kind("post", post).kind("hidden", hidden).limits(limits).build().unwrap()
}

fn command(kind: &str, room: &str, reference: u32) -> String {
    json!({"type": kind, "room": room, "ref": reference, "data": 1}).to_string()
}

/// A member of `post:1` at the endpoint of many rooms.
async fn member(rooms: &Rooms, user: &str) -> Talk {
    let mut talk = Talk::multi(rooms, user);
    assert_eq!(talk.ask(command("join", "post:1", 0)).await["type"], "room_joined");
    talk.inbox.all().await;
    talk
}

/// How many answers of each kind there were: an event's type, or the code of an error.
fn count(events: &[Value], what: &str) -> usize {
    events.iter().filter(|event| event["code"] == what || event["type"] == what).count()
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_on_the_socket_so_empty_fragments_and_pings_count() {
    // A bucket of four seconds.
    let rooms = builder().limits(|limits| limits.bytes_per_second = 6_000).build().unwrap();
    let start = Instant::now();
    let mut empty = Visitor::joined(&rooms, "192.0.2.1", "a").await;
    for _ in 0..8 {
        empty.send(0x01, b"").await;
        for _ in 0..998 {
            empty.send(0x00, b"").await;
        }
        empty.send(0x80, b"").await;
    }
    let mut codes = Vec::new();
    while codes.len() < 9 {
        codes.push(empty.payload().await["code"].clone());
    }
    assert_eq!(codes.iter().filter(|code| **code == "rate_limited").count(), 1, "{codes:?}");
    assert_eq!(start.elapsed().as_secs(), 3, "48,000 bytes are eight seconds, of which the bucket has four");

    let mut pings = Visitor::joined(&rooms, "192.0.2.1", "b").await;
    for _ in 0..190 {
        pings.send(0x89, &[b'x'; 125]).await;
    }
    assert_eq!(pings.payload().await["code"], "rate_limited", "24,890 bytes, and fewer messages than may come at once");
}

#[tokio::test(start_paused = true)]
async fn joins_and_leaves_come_at_a_rate_of_their_own() {
    let rooms = limited(|_| {});
    let mut talk = member(&rooms, "a").await;
    sleep(Duration::from_secs(5)).await;
    let start = Instant::now();
    for n in 0..200 {
        talk.say(command(if n % 2 == 0 { "join" } else { "leave" }, "post:2", n));
    }
    let first = talk.inbox.all().await;
    assert_eq!(count(&first, "room_joined") + count(&first, "room_left"), 160);
    assert_eq!(count(&first, "rate_limited"), 1);
    let mut answers = 160;
    while answers < 200 {
        answers += usize::from(talk.inbox.next().await["ref"].is_u64());
    }
    assert!((990..=1000).contains(&start.elapsed().as_millis()), "40 a second: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_user_publishes_at_a_rate_with_all_connections_together() {
    let rooms = limited(|limits| {
        (limits.publishes_per_second_per_user, limits.publish_burst_per_user) = (2, 4);
    });
    let (mut one, mut two) = (member(&rooms, "a").await, member(&rooms, "a").await);
    let mut neighbour = member(&rooms, "b").await;
    for n in 0..3 {
        one.say(command("publish", "post:1", n));
    }
    assert_eq!(count(&one.inbox.all().await, "published"), 3);
    two.inbox.all().await;
    // What is for a hook counts, too.
    two.say(command("dance", "post:1", 1));
    two.say(command("publish", "post:1", 2));
    let mut refused = two.inbox.next().await;
    let wait = refused.as_object_mut().unwrap().remove("retry_after_ms").and_then(|wait| wait.as_u64()).unwrap();
    assert!((490..=500).contains(&wait), "{wait}");
    let told = json!({"type": "error", "code": "rate_limited", "message": "you publish too much",
        "room": "post:1", "ref": 2});
    assert_eq!(refused, told);
    sleep(Duration::from_millis(500)).await;
    two.say(command("publish", "post:1", 3));
    assert_eq!(count(&two.inbox.all().await, "published"), 1);

    // Who goes on is closed at last, and nobody else notices.
    neighbour.inbox.all().await;
    let (mut said, start) = (0, Instant::now());
    while !two.ended.is_finished() && start.elapsed() < Duration::from_secs(120) {
        _ = two.send.unbounded_send(Ok(Incoming::Text(command("publish", "post:1", 4))));
        if said % 50 == 0 {
            neighbour.say(command("publish", "post:1", said));
        }
        said += 1;
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(two.inbox.close().await, Close::TOO_MANY_MESSAGES);
    let heard = neighbour.inbox.all().await;
    assert_eq!(count(&heard, "published"), said.div_ceil(50) as usize, "and it is refused nothing");
    assert!(!one.ended.is_finished() && !neighbour.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn what_bytes_and_joins_come_at_once_does_not_depend_on_how_many_messages_may() {
    for (rate, burst) in [(u32::MAX, u32::MAX), (u32::MAX, 200), (5_000, 200)] {
        let rooms = limited(|limits| {
            (limits.messages_per_second, limits.message_burst) = (rate, burst);
            (limits.publishes_per_second_per_user, limits.publish_burst_per_user) = (rate, burst);
        });
        let mut talk = member(&rooms, "a").await;
        for n in 0..60 {
            // Nearly 1 MiB in all.
            let data = "x".repeat(16 * 1024);
            talk.say(json!({"type": "publish", "room": "post:1", "ref": n, "data": data}).to_string());
        }
        let heard = talk.inbox.all().await;
        assert_eq!((count(&heard, "published"), count(&heard, "rate_limited")), (60, 0), "{rate}");
        sleep(Duration::from_secs(5)).await;
        for n in 0..200 {
            talk.say(command(if n % 2 == 0 { "join" } else { "leave" }, "post:2", n));
        }
        let heard = talk.inbox.all().await;
        assert_eq!(count(&heard, "room_joined") + count(&heard, "room_left"), 160, "{rate}");
        assert_eq!(count(&heard, "rate_limited"), 1, "{rate}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_that_is_switched_off_refuses_nothing() {
    let rooms = limited(|limits| {
        (limits.messages_per_second, limits.publishes_per_second_per_user) = (u32::MAX, u32::MAX);
    });
    let mut talk = member(&rooms, "a").await;
    for n in 0..3_000 {
        talk.say(command("publish", "post:1", n));
    }
    let heard = talk.inbox.all().await;
    assert_eq!((count(&heard, "published"), count(&heard, "rate_limited")), (3_000, 0));
    // Bytes are counted all the same.
    for n in 0..600 {
        let data = "x".repeat(16 * 1024);
        talk.say(json!({"type": "publish", "room": "post:1", "ref": n, "data": data}).to_string());
    }
    let heard = talk.inbox.all().await;
    assert!(count(&heard, "published") < 70, "1 MiB at once");
    assert_eq!(count(&heard, "rate_limited"), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_and_goes_on_is_closed_where_messages_are_not_counted_too() {
    let (publish, refresh) = (command("publish", "post:1", 1), json!({"type": "refresh", "token": "x"}).to_string());
    for said in [publish, refresh] {
        let rooms = limited(|limits| {
            limits.messages_per_second = u32::MAX;
            (limits.publishes_per_second_per_user, limits.publish_burst_per_user) = (2, 4);
        });
        let (mut talk, start) = (member(&rooms, "a").await, Instant::now());
        while !talk.ended.is_finished() && start.elapsed() < Duration::from_secs(120) {
            _ = talk.send.unbounded_send(Ok(Incoming::Text(said.clone())));
            sleep(Duration::from_millis(10)).await;
        }
        assert!(talk.ended.is_finished(), "{said}");
        let heard = std::iter::from_fn(|| talk.inbox.0.try_recv().ok()).collect::<Vec<_>>();
        assert_eq!(rig::parse_close(heard.last().unwrap()), Close::TOO_MANY_MESSAGES);
        // 160 at once, and 40 a second for half a minute.
        assert!(heard.len() < 1_600, "{} answers to {said}", heard.len());
    }
}

#[tokio::test(start_paused = true)]
async fn one_user_makes_new_rooms_at_a_rate_and_learns_nothing_by_it() {
    let rooms = limited(|limits| (limits.new_rooms_per_second_per_user, limits.new_room_burst_per_user) = (1, 3));
    let _other = member(&rooms, "b").await;
    let (mut one, mut two) = (Talk::multi(&rooms, "a"), Talk::multi(&rooms, "a"));
    assert_eq!(two.ask(command("join", "post:3", 1)).await["type"], "room_joined");
    for room in ["post:2", "post:4", "post:1"] {
        assert_eq!(one.ask(command("join", room, 1)).await["type"], "room_joined", "{room}");
    }
    let told = json!({"type": "error", "code": "rate_limited", "message": "you join too many new rooms",
        "retry_after_ms": 1000, "room": "post:5", "ref": 2});
    assert_eq!(two.ask(command("join", "post:5", 2)).await, told);
    // Whether somebody is in a room that one may not join is told to nobody.
    for room in ["hidden:1", "none:1"] {
        assert_eq!(two.ask(command("join", room, 3)).await["code"], "not_allowed");
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(two.ask(command("join", "post:5", 4)).await["type"], "room_joined");

    // A connection that is for one room is told by its close.
    let mut single = Talk::open(&rooms, who("a"));
    assert_eq!(single.inbox.close().await, Close::TOO_MANY_MESSAGES);
    // The application may make as many as it likes.
    let mut inside = rig::Client::connect(&rooms, "a");
    for n in 10..20 {
        assert!(inside.connection.join(&key(&format!("post:{n}"))).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_makes_thousands_of_rooms_a_second_has_some_hundred_and_a_member_loses_nothing() {
    let rooms = limited(|_| {});
    let mut neighbour = member(&rooms, "b").await;
    let mut flood: Vec<_> = (0..100).map(|_| Talk::multi(&rooms, "a")).collect();
    let (mut most, mut joined) = (0, vec![Vec::<String>::new(); 100]);
    for second in 0..10 {
        for (connection, talk) in flood.iter().enumerate() {
            for room in joined[connection].drain(..) {
                talk.say(command("leave", &room, 1_000));
            }
            for n in 0..36 {
                talk.say(command("join", &format!("post:{second}-{connection}-{n}"), n));
            }
        }
        rooms.broadcast(&key("post:1"), &json!({"second": second})).await.unwrap();
        assert_eq!(neighbour.inbox.next().await["data"]["second"], second);
        sleep(Duration::from_secs(1)).await;
        let mut tried = 0;
        for (talk, joined) in flood.iter_mut().zip(&mut joined) {
            for event in talk.inbox.now() {
                tried += usize::from(event["ref"].as_u64().is_some_and(|n| n < 1_000));
                if event["type"] == "room_joined" {
                    joined.push(event["room"].as_str().unwrap().to_owned());
                }
            }
        }
        assert_eq!(tried, 3_600, "each is read and answered, in second {second}");
        most = most.max(rooms.stats().rooms);
    }
    // Those that came at once, and those of the seconds for which a room lingers.
    assert!(most <= 1 + 512 + 7 * 20, "{most} rooms");
    drop(flood);
    sleep(Duration::from_secs(30)).await;
    assert_eq!((rooms.stats().rooms, rooms.stats().connections), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_allowed_messages_over_a_hundred_connections_costs_a_member_nothing() {
    let rooms = builder().build().unwrap();
    let mut neighbour = Visitor::joined(&rooms, "192.0.2.1", "neighbour").await;
    let text = json!({"type": "publish", "room": "post:42", "data": "x".repeat(16 * 1024 - 60)}).to_string();
    for n in 0..100 {
        let admission = admit(&rooms, &format!("198.51.100.{}", n % 4), "/?token=flood", &[]).await.unwrap();
        let (mut reads, mut says) = tokio::io::split(Visitor::of_many(admission).0);
        let text = text.clone();
        tokio::spawn(async move { tokio::io::copy(&mut reads, &mut tokio::io::sink()).await });
        tokio::spawn(async move {
            says.write_all(&frame(0x81, command("join", "post:42", 0).as_bytes())).await.unwrap();
            for _ in 0..FLOOD {
                _ = says.write_all(&frame(0x81, text.as_bytes())).await;
            }
            std::future::pending::<()>().await;
        });
    }
    let ours = tokio::spawn({
        let rooms = rooms.clone();
        async move {
            for n in 0..20 {
                sleep(Duration::from_millis(100)).await;
                rooms.broadcast(&key("post:42"), &json!({"n": n})).await.unwrap();
            }
        }
    });
    let (mut heard, mut flooded) = (0, 0);
    while heard < 20 {
        match neighbour.payload().await {
            Value::String(_) => flooded += 1,
            event => {
                assert_eq!(event, json!({"n": heard}));
                heard += 1;
            }
        }
    }
    ours.await.unwrap();
    assert!((64..=100).contains(&flooded), "1 MiB at once, and 256 KiB a second: {flooded}");
    assert!(rooms.stats().limited > 0);
}

#[tokio::test(start_paused = true)]
async fn a_users_connections_are_counted_over_nodes() {
    let fleet: Fleet<Sink> = Fleet::new(2, |_, node| {
        node.kind("user", Kind::owner_only()).limits(|limits| limits.max_connections_per_user_over_nodes = 3)
    });
    let mut taken = Vec::new();
    for node in [0, 1, 1] {
        let mut talk = Talk::multi(fleet.node(node), "a");
        assert_eq!(talk.inbox.next().await["type"], "room_joined");
        taken.push(talk);
        // Past the window in which a node tells the others.
        sleep(Duration::from_secs(1)).await;
    }
    for node in [0, 1] {
        let mut late = Talk::multi(fleet.node(node), "a");
        assert_eq!(late.inbox.close().await, Close::TOO_MANY_CONNECTIONS);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(Talk::multi(fleet.node(0), "b").inbox.next().await["type"], "room_joined");
    assert!(taken.iter().all(|talk| !talk.ended.is_finished()));
    // A node that crashes gives its places back when it is found gone.
    fleet.faults(1).kill();
    sleep(Duration::from_secs(8)).await;
    let mut back = Talk::multi(fleet.node(0), "a");
    assert_eq!(back.inbox.next().await["type"], "room_joined");
    assert!(!back.inbox.all().await.iter().any(|event| event["code"].is_u64()) && !back.ended.is_finished());
}
