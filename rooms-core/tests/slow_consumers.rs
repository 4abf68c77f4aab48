//! Members of a room with a history that read slowly, or not at all: they are given what they missed once they read, in
//! order and once, and are told only of what the log does not have any more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/valve.rs"]
mod valve;

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use rooms_core::{
    Bus, Close, JoinOptions, Kind, Limits, LocalBus, Overflow, RoomManager,
    bus::{BusEvent, History as _, Position, Retention, Topic},
    ws::{self, Incoming, WsError},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};

use flaky::Flaky;
use rig::{idle, key, who};
use valve::{Valve, ValveSink};

const POST: &str = "post:42";

/// Messages that may wait for a member here.
const OUTBOX: usize = 16;

type Rooms = RoomManager<ValveSink>;

fn over(bus: impl Bus, retention: Retention) -> Rooms {
    let limits = |limits: &mut Limits| {
        limits.max_outbox_messages = OUTBOX;
        limits.ping_interval = Duration::from_secs(100_000);
    };
    let post = Kind::authenticated().history(retention).overflow(Overflow::Resync);
    let chat = Kind::authenticated().overflow(Overflow::DropOldest);
    RoomManager::build_for().kind("post", post).kind("chat", chat).limits(limits).bus(bus).build().unwrap()
}

fn rooms() -> Rooms {
    over(LocalBus::new(), Retention::messages(1_000))
}

/// A client whose socket takes what its valve lets through.
struct Slow {
    valve: Valve,
    send: mpsc::UnboundedSender<Result<Incoming, WsError>>,
    _ended: JoinHandle<Close>,
    seen: usize,
}

impl Slow {
    /// For many rooms.
    async fn many(rooms: &Rooms, names: &[&str]) -> Self {
        let (valve, sink) = valve::new();
        let (send, stream) = mpsc::unbounded();
        let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
        let mut slow = Self { valve, send, _ended: ended, seen: 0 };
        for room in names {
            slow.say(&json!({"type": "join", "room": room}));
            slow.takes(1).await;
        }
        slow.settle(names.len()).await;
        slow
    }

    /// For `post:42`.
    async fn one(rooms: &Rooms) -> Self {
        let (valve, sink) = valve::new();
        let (send, stream) = mpsc::unbounded();
        let ended = tokio::spawn(rooms.serve_room_with(stream, sink, who("a"), key(POST), JoinOptions::new()));
        let mut slow = Self { valve, send, _ended: ended, seen: 0 };
        slow.settle(1).await;
        slow
    }

    /// Takes its welcomes, and the numbers of viewers that follow.
    async fn settle(&mut self, welcomes: usize) {
        self.valve.open(2 * welcomes);
        sleep(Duration::from_secs(1)).await;
        let all = self.valve.taken();
        assert!(all.len() >= welcomes && all[0].as_text().unwrap().contains("room_joined"), "{all:?}");
        self.seen = all.len();
        self.valve.shut();
    }

    fn say(&self, value: &Value) {
        self.send.unbounded_send(Ok(Incoming::Text(value.to_string()))).unwrap();
    }

    /// Reads so many messages more, and no further; gives what there was.
    async fn takes(&mut self, count: usize) -> Vec<Value> {
        self.valve.open(count);
        idle().await;
        self.valve.shut();
        let all = self.valve.taken();
        let new = all[self.seen..].iter().map(|message| serde_json::from_slice(message.payload()).unwrap()).collect();
        self.seen = all.len();
        new
    }
}

async fn publish(rooms: &Rooms, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        rooms.broadcast(&key(POST), &number).await.unwrap();
        idle().await;
    }
}

/// What was told: numbers as they are, and the reason of each `resync`.
fn brief(events: Vec<Value>) -> Vec<Value> {
    let brief = |event: Value| match event["type"].as_str() {
        Some("message") => Some(event["data"].clone()),
        Some("resync") => Some(event["reason"].clone()),
        Some(_) => None,
        None => Some(event),
    };
    events.into_iter().filter_map(brief).collect()
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<Value> {
    range.map(Value::from).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_member_could_not_take_is_given_to_it_once_it_reads_on_both_endpoints() {
    let bus = Flaky::new(LocalBus::new());
    let rooms = over(bus.clone(), Retention::messages(1_000));
    let (mut many, mut one) = (Slow::many(&rooms, &[POST]).await, Slow::one(&rooms).await);
    many.takes(1).await;
    let reads = bus.reads();
    publish(&rooms, 1..=200).await;
    let told = many.takes(1_000).await;
    let positions: Vec<_> = told.iter().filter_map(|event| event["offset"].as_str()).collect();
    assert_eq!(positions.len(), 200, "each with its position");
    assert_eq!(brief(told), numbers(1..=200));
    assert_eq!(one.takes(1_000).await, numbers(1..=200), "bare");
    many.valve.open(1_000);
    publish(&rooms, 201..=203).await;
    assert_eq!(brief(many.takes(0).await), numbers(201..=203), "and it goes on as for the others");
    assert_eq!(bus.reads(), reads, "out of the node's own copy");
}

#[tokio::test(start_paused = true)]
async fn one_that_reads_a_little_now_and_then_has_everything_in_the_end() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST]).await;
    let mut got = Vec::new();
    for round in 0..100_u64 {
        publish(&rooms, 5 * round + 1..=5 * round + 5).await;
        got.extend(slow.takes((round % 7) as usize).await);
    }
    got.extend(slow.takes(1_000).await);
    assert_eq!(brief(got), numbers(1..=500));
}

#[tokio::test(start_paused = true)]
async fn what_the_log_has_no_more_is_one_resync_and_then_everything_again() {
    let rooms = over(LocalBus::new(), Retention::messages(40));
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=100).await;
    slow.valve.open(1_000);
    idle().await;
    publish(&rooms, 101..=102).await;
    assert_eq!(brief(slow.takes(0).await), [json!(1), json!("history_gap"), json!(101), json!(102)]);
    // Again and again: it has all that is kept, or is told.
    let mut got = Vec::new();
    for round in 0..40_u64 {
        publish(&rooms, 30 * round + 103..=30 * round + 132).await;
        got.extend(slow.takes((round % 5 * 8) as usize).await);
    }
    got.extend(slow.takes(1_000).await);
    let (mut last, mut resyncs) = (102, 0);
    for told in brief(got) {
        match told.as_u64() {
            Some(number) => {
                assert!(number == last + 1 || last == 0 && number > 102, "{number} after {last}");
                last = number;
            }
            None => {
                assert_eq!(told, "history_gap");
                (last, resyncs) = (0, resyncs + 1);
            }
        }
    }
    assert!(resyncs > 0 && (last == 0 || last == 1_302), "{resyncs}, {last}");
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_everybody_is_told_of_ends_what_is_owed_to_a_slow_member() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), Retention::messages(40)));
    let rooms = over(bus.clone(), Retention::messages(40));
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&elsewhere, 1..=20).await;
    hub.forget_histories();
    publish(&elsewhere, 21..=30).await;
    slow.valve.open(1_000);
    publish(&elsewhere, 31..=32).await;
    let told = brief(slow.takes(0).await);
    let expected: Vec<Value> = [json!("epoch")].into_iter().chain(numbers(21..=32)).collect();
    assert_eq!((&told[0], &told[1..]), (&json!(1), &*expected));
}

/// It may fall behind before what can't be given and after it, and in one round with it.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_given_is_told_to_a_slow_member_where_it_lies_in_what_it_is_owed() {
    let hub = LocalBus::new();
    let elsewhere = hub.peer();
    let rooms = over(hub, Retention::messages(1_000));
    let append = async |payload: String| {
        let position = elsewhere.append(&Topic::Room(key(POST)), payload.into(), Retention::messages(1_000)).await;
        position.unwrap().offset()
    };
    for pause_after in [0, 1, 20, 21, 22, 30] {
        let (mut slow, mut other) = (Slow::many(&rooms, &[POST]).await, Slow::many(&rooms, &[POST]).await);
        other.valve.open(1_000);
        let (mut first, mut spoilt) = (0, 0);
        for n in 1..=30 {
            let payload = if n == 21 { "[".repeat(100) } else { n.to_string() };
            let offset = append(payload).await;
            first = if n == 1 { offset } else { first };
            spoilt = if n == 21 { offset } else { spoilt };
            if n == pause_after {
                idle().await;
            }
        }
        idle().await;
        let all = [numbers(1..=20), vec![json!("bus_gap")], numbers(22..=30)].concat();
        assert_eq!(brief(other.takes(1_000).await), all);
        let told = slow.takes(1_000).await;
        let mut next = first;
        for event in &told {
            if event["type"] == "resync" {
                next = 0;
            } else if let Some(offset) = event["offset"].as_str() {
                let offset = offset.parse::<Position>().unwrap().offset();
                assert!(next == 0 || offset == next, "{offset} without a word, paused after {pause_after}: {told:?}");
                next = offset + 1;
            }
        }
        assert!(next == 0 || next > spoilt, "it was told: {told:?}");
        slow.valve.open(1_000);
        publish(&rooms, 31..=32).await;
        assert_eq!(brief(slow.takes(0).await), numbers(31..=32), "and it goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_the_log_reaches_a_slow_member_or_it_is_told() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=100).await;
    let second = Slow::one(&rooms).await;
    sleep(Duration::from_secs(1)).await;
    drop(second);
    let told = slow.takes(1_000).await;
    assert!(told.iter().any(|event| event["viewers"] == 2), "{told:?}");
    assert_eq!(brief(told), numbers(1..=100));
    // A stranger that only publishes.
    let foreign = LocalBus::new();
    let rooms = over(foreign.peer(), Retention::messages(1_000));
    let mut slow = Slow::many(&rooms, &[POST]).await;
    for number in 0..50 {
        foreign.publish(&Topic::Room(key(POST)), Bytes::from(format!("\"bare {number}\""))).await.unwrap();
        idle().await;
    }
    let told = brief(slow.takes(1_000).await);
    assert_eq!((told.first(), told.last()), (Some(&json!("slow_consumer")), Some(&json!("bare 49"))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_member_goes_and_comes_as_any_other() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST, "post:43"]).await;
    publish(&rooms, 1..=100).await;
    slow.say(&json!({"type": "leave", "room": POST}));
    slow.say(&json!({"type": "join", "room": POST}));
    idle().await;
    publish(&rooms, 101..=102).await;
    let told = slow.takes(1_000).await;
    let joined = told.iter().position(|event| event["type"] == "room_joined").expect("a welcome");
    assert_eq!(brief(told[joined..].to_vec()), numbers(101..=102), "nothing from before it came back");
    publish(&rooms, 103..=104).await;
    assert_eq!(brief(slow.takes(9).await), numbers(103..=104));
}

/// What waits since before it left is not what it is owed.
#[tokio::test(start_paused = true)]
async fn one_that_leaves_and_comes_back_on_its_connection_while_messages_wait_is_given_none_twice() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST]).await;
    let first = rooms.broadcast(&key(POST), &1).await.unwrap().position.unwrap();
    assert_eq!(brief(slow.takes(1).await), [1]);
    publish(&rooms, 2..=6).await;
    slow.say(&json!({"type": "leave", "room": POST}));
    slow.say(&json!({"type": "join", "room": POST, "since": first}));
    idle().await;
    publish(&rooms, 7..=40).await;
    let told = slow.takes(1_000).await;
    let back = told.iter().position(|event| event["type"] == "room_joined").unwrap();
    assert_eq!((&told[back]["position"], &told[back]["recovered"]), (&json!(first), &json!(true)));
    assert_eq!(brief(told[back..].to_vec()), numbers(2..=40));
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_given_more_than_may_wait_for_it_as_it_reads() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=1).await;
    let first = slow.takes(1).await[0]["offset"].clone();
    publish(&rooms, 2..=300).await;
    drop(slow);
    let (valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
    let mut back = Slow { valve, send, _ended: ended, seen: 0 };
    back.say(&json!({"type": "join", "room": POST, "since": first}));
    let mut told = back.takes(3).await;
    publish(&rooms, 301..=400).await;
    told.extend(back.takes(100).await);
    publish(&rooms, 401..=402).await;
    told.extend(back.takes(1_000).await);
    assert_eq!((&told[0]["recovered"], &told[0]["position"]), (&json!(true), &first));
    assert_eq!(brief(told), numbers(2..=402));
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_hook_runs_may_be_more_than_may_wait() {
    let post =
        Kind::authenticated().history(Retention::messages(1_000)).overflow(Overflow::Resync).on_join(|_| async {
            sleep(Duration::from_secs(1)).await;
            Ok(json!({"snapshot": true}))
        });
    let limits = |limits: &mut Limits| limits.max_outbox_messages = OUTBOX;
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let (valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
    let mut slow = Slow { valve, send, _ended: ended, seen: 0 };
    slow.say(&json!({"type": "join", "room": POST}));
    idle().await;
    publish(&rooms, 1..=100).await;
    sleep(Duration::from_secs(1)).await;
    publish(&rooms, 101..=102).await;
    let told = slow.takes(1_000).await;
    assert_eq!(told[0]["snapshot"], true);
    assert_eq!(brief(told), numbers(1..=102));
}

#[tokio::test(start_paused = true)]
async fn other_rooms_of_a_slow_member_do_not_keep_it_from_being_healed() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST, "chat:1"]).await;
    let mut got = Vec::new();
    for number in 1..=200 {
        publish(&rooms, number..=number).await;
        for _ in 0..3 {
            rooms.broadcast(&key("chat:1"), &json!("chat")).await.unwrap();
        }
        idle().await;
        got.extend(slow.takes(2).await);
    }
    let healed = got.iter().filter(|event| event["room"] == POST && event["type"] == "message").count();
    assert!(healed > 20, "a room that is louder does not take it all: {healed}");
    got.extend(slow.takes(1_000).await);
    let ours: Vec<Value> = got.into_iter().filter(|event| event["room"] == POST).collect();
    assert_eq!(brief(ours), numbers(1..=200));
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_just_now_is_tried_until_it_can_or_all_are_told() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), Retention::messages(1_000)));
    let rooms = over(bus.clone(), Retention::messages(1_000));
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&elsewhere, 1..=40).await;
    bus.go_down();
    publish(&elsewhere, 41..=60).await;
    slow.valve.open(1_000);
    idle().await;
    assert_eq!(brief(slow.takes(0).await), numbers(1..=40).as_slice(), "what is here does not wait for the bus");
    bus.come_up();
    bus.faults().failing.store(2, std::sync::atomic::Ordering::Relaxed);
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    slow.valve.open(1_000);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(brief(slow.takes(0).await), numbers(41..=60));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_not_given_to_who_was_slow() {
    let rooms = over(LocalBus::new(), Retention::messages(1_000).age(Duration::from_secs(10)));
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=100).await;
    sleep(Duration::from_secs(10)).await;
    let told = brief(slow.takes(1_000).await);
    assert_eq!(told.last(), Some(&json!("history_gap")), "{told:?}");
    assert!(told.len() <= OUTBOX + 4, "what waited for its socket, and nothing of the log: {told:?}");
    publish(&rooms, 101..=102).await;
    assert_eq!(brief(slow.takes(1_000).await), numbers(101..=102));
}

#[tokio::test(start_paused = true)]
async fn one_that_left_while_it_was_behind_takes_nothing_from_who_has_its_place_now() {
    let rooms = rooms();
    let mut left = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=100).await;
    left.say(&json!({"type": "leave", "room": POST}));
    idle().await;
    // In its place, and behind as well.
    let mut stays = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 101..=200).await;
    let told = brief(left.takes(1_000).await);
    assert!(told.iter().all(|told| told.as_u64().is_none_or(|number| number <= 100)), "{told:?}");
    assert_eq!(brief(stays.takes(1_000).await), numbers(101..=200));
    // It comes back while the other one is behind.
    publish(&rooms, 201..=300).await;
    left.say(&json!({"type": "join", "room": POST}));
    idle().await;
    publish(&rooms, 301..=302).await;
    assert_eq!(brief(left.takes(1_000).await), numbers(301..=302));
    assert_eq!(brief(stays.takes(1_000).await), numbers(201..=302));
}

#[tokio::test(start_paused = true)]
async fn one_that_asked_for_the_newest_and_does_not_read_has_these_and_then_everything() {
    let rooms = rooms();
    publish(&rooms, 1..=50).await;
    let (valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
    let mut slow = Slow { valve, send, _ended: ended, seen: 0 };
    slow.say(&json!({"type": "join", "room": POST, "newest": 5}));
    idle().await;
    publish(&rooms, 51..=150).await;
    let mut told = slow.takes(3).await;
    publish(&rooms, 151..=160).await;
    told.extend(slow.takes(1_000).await);
    assert_eq!(told[0]["type"], "room_joined");
    assert_eq!(brief(told), numbers(46..=160));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_never_reads_keeps_no_task_waiting() {
    let rooms = over(LocalBus::new(), Retention::messages(5));
    let _slow = Slow::many(&rooms, &[POST]).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    publish(&rooms, 1..=2_000).await;
    assert!(tasks() <= before);
}

/// A client that does not read for a while, over a real socket: what its kernel and ours take is not all.
#[tokio::test]
async fn a_socket_that_stops_being_read_has_everything_once_it_is_read_again() {
    const COUNT: u64 = 3_000;
    let limits = |limits: &mut Limits| (limits.max_outbox_messages, limits.send_buffer_bytes) = (64, Some(16 * 1024));
    let post = Kind::authenticated().history(Retention::messages(10_000).bytes(4 << 20)).overflow(Overflow::Resync);
    let rooms: RoomManager = RoomManager::builder().kind("post", post).limits(limits).build().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (stream, sink) = ws::tcp(accepted.unwrap().0, &[], rooms.limits()).unwrap();
    let served = tokio::spawn(rooms.serve_room(stream, sink, who("a"), key(POST)));
    let mut client = reader(client.unwrap());
    assert!(client.next().await.unwrap().contains("room_joined"));
    let padding = "x".repeat(1_000);
    for number in 1..=COUNT {
        rooms.broadcast(&key(POST), &json!({"n": number, "padding": padding})).await.unwrap();
        tokio::task::yield_now().await;
    }
    for number in 1..=COUNT {
        let text = timeout(Duration::from_secs(30), client.next()).await.expect("in time").expect("before the end");
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["n"], number, "{text:.60}");
    }
    served.abort();
}

/// The texts that a server sends: frames without a mask, none of them in parts.
fn reader(client: TcpStream) -> impl futures::Stream<Item = String> + Unpin {
    use tokio::io::AsyncReadExt as _;
    let (mut sender, receiver) = mpsc::channel(0);
    tokio::spawn(async move {
        let mut client = client;
        loop {
            let Ok(_first) = client.read_u8().await else { return };
            let length = match client.read_u8().await.unwrap() {
                126 => usize::from(client.read_u16().await.unwrap()),
                length => usize::from(length),
            };
            let mut text = vec![0; length];
            client.read_exact(&mut text).await.unwrap();
            if sender.send(String::from_utf8(text).unwrap()).await.is_err() {
                return;
            }
        }
    });
    receiver
}

#[tokio::test(start_paused = true)]
async fn a_slow_member_is_not_told_names_that_it_may_not_see() {
    let post = Kind::new()
        .join_rule(|_, _| async move { true })
        .members_claim("sees")
        .history(Retention::messages(1_000))
        .overflow(Overflow::Resync);
    let limits = |limits: &mut Limits| limits.max_outbox_messages = OUTBOX;
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=100).await;
    let (_valve, sink) = valve::new();
    let mut second = rooms.connect(who("b"), sink).unwrap();
    second.join(&key(POST)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let told = slow.takes(1_000).await;
    let of_viewers: Vec<_> = told.iter().filter(|event| event.get("viewers").is_some()).collect();
    assert_eq!(of_viewers, [&json!({"type": "viewer_joined", "room": POST, "viewers": 2})]);
    assert_eq!(brief(told), numbers(1..=100));
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_can_be_asked_for_is_told_alone() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), Retention::messages(40)));
    let rooms = over(bus.clone(), Retention::messages(40));
    let (mut slow, mut other) = (Slow::many(&rooms, &[POST]).await, Slow::many(&rooms, &[POST]).await);
    other.valve.open(1_000);
    publish(&elsewhere, 1..=200).await;
    let reads = bus.reads();
    bus.faults().failing.store(usize::MAX, std::sync::atomic::Ordering::Relaxed);
    // What waited for it, and then it is to be healed.
    slow.valve.open(1_000);
    sleep(Duration::from_secs(15)).await;
    let told = brief(slow.takes(0).await);
    assert_eq!((told.first(), told.last()), (Some(&json!(1)), Some(&json!("bus_gap"))), "{told:?}");
    assert!(bus.reads() > reads, "the bus was asked");
    assert_eq!(brief(other.takes(0).await), numbers(1..=200));
    slow.valve.open(1_000);
    other.valve.open(1_000);
    publish(&elsewhere, 201..=202).await;
    assert_eq!(brief(slow.takes(0).await), numbers(201..=202), "and it goes on");
    assert_eq!(brief(other.takes(0).await), numbers(201..=202));
}

#[tokio::test(start_paused = true)]
async fn however_many_the_log_has_overtaken_it_is_read_once_for_them() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), Retention::messages(40)));
    let rooms = over(bus.clone(), Retention::messages(40));
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(Slow::many(&rooms, &[POST]).await);
    }
    publish(&elsewhere, 1..=200).await;
    let reads = bus.reads();
    slow.iter().for_each(|slow| slow.valve.open(1_000));
    idle().await;
    for slow in &mut slow {
        let told = brief(slow.takes(0).await);
        assert_eq!(told.last(), Some(&json!("history_gap")), "{told:?}");
    }
    assert_eq!(bus.reads() - reads, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_is_given_as_it_reads_counts_where_it_resumes_in_a_loop() {
    let limits = |limits: &mut Limits| (limits.max_outbox_messages, limits.max_replay_bytes) = (OUTBOX, 20_000);
    let post = Kind::authenticated().history(Retention::messages(1_000)).overflow(Overflow::Resync);
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let first = rooms.broadcast(&key(POST), &1).await.unwrap().position.unwrap();
    for _ in 0..100 {
        rooms.broadcast(&key(POST), &"x".repeat(500)).await.unwrap();
    }
    let (valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
    let mut talk = Slow { valve, send, _ended: ended, seen: 0 };
    talk.say(&json!({"type": "join", "room": POST, "since": first}));
    let told = talk.takes(1_000).await;
    assert_eq!((&told[0]["recovered"], brief(told.clone()).len()), (&json!(true), 100));
    talk.say(&json!({"type": "leave", "room": POST}));
    talk.say(&json!({"type": "join", "room": POST, "since": first}));
    let told = talk.takes(1_000).await;
    assert_eq!(told.last().unwrap()["code"], "unavailable", "{told:?}");
    sleep(Duration::from_secs(10)).await;
    talk.say(&json!({"type": "join", "room": POST, "since": first}));
    assert_eq!(talk.takes(1_000).await[0]["recovered"], true);
}

#[tokio::test(start_paused = true)]
async fn a_slow_observer_has_everything_and_comes_back_as_any_other() {
    let post = Kind::new()
        .join_rule(|_, _| async move { true })
        .observe_claim("observes")
        .history(Retention::messages(1_000))
        .overflow(Overflow::Resync);
    let limits = |limits: &mut Limits| limits.max_outbox_messages = OUTBOX;
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let open = || {
        let (valve, sink) = valve::new();
        let (send, stream) = mpsc::unbounded();
        let observer = who("a").with_claims(r#"{"observes":["post:*"]}"#);
        let ended = tokio::spawn(rooms.serve(stream, sink, observer));
        Slow { valve, send, _ended: ended, seen: 0 }
    };
    let mut slow = open();
    slow.say(&json!({"type": "join", "room": POST, "observe": true}));
    let welcome = slow.takes(1).await.remove(0);
    assert_eq!(welcome["observer"], true, "{welcome}");
    publish(&rooms, 1..=100).await;
    assert_eq!(brief(slow.takes(1_000).await), numbers(1..=100));
    drop(slow);
    let mut back = open();
    back.say(&json!({"type": "join", "room": POST, "observe": true, "since": welcome["position"]}));
    let told = back.takes(1_000).await;
    assert_eq!(
        (&told[0]["observer"], &told[0]["recovered"], &told[0]["viewers"]),
        (&json!(true), &json!(true), &json!(0))
    );
    assert_eq!(brief(told), numbers(1..=100));
}

#[tokio::test(start_paused = true)]
async fn a_slow_member_of_a_room_with_a_state_has_it_whole_again() {
    let post = Kind::authenticated()
        .history(Retention::messages(1_000))
        .keep_state(Duration::from_secs(60))
        .overflow(Overflow::Resync);
    let limits = |limits: &mut Limits| limits.max_outbox_messages = OUTBOX;
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let long = "x".repeat(200);
    let state = |n: u64| json!({"n": n, "long": long});
    rooms.broadcast_state(&key(POST), &state(0)).await.unwrap();
    for states in [5, 100] {
        let mut slow = Slow::many(&rooms, &[POST]).await;
        let mut page = slow.valve.taken().iter().find_map(|message| {
            let event: Value = serde_json::from_slice(message.payload()).unwrap();
            (event["type"] == "room_state").then(|| (event["revision"].clone(), event["state"].clone()))
        });
        publish(&rooms, 1..=100).await;
        for n in 1..=states {
            rooms.broadcast_state(&key(POST), &state(n)).await.unwrap();
            idle().await;
        }
        let mut told = slow.takes(1_000).await;
        let lost = told.iter().any(|event| event["type"] == "resync");
        assert_eq!(lost, states == 100, "so many are more than may wait");
        if lost {
            // As the protocol says: it asks for all of it.
            slow.say(&json!({"type": "join", "room": POST}));
            told.extend(slow.takes(1_000).await);
        }
        for event in told.iter().filter(|event| event["type"] == "room_state") {
            match (&event["state"], &page) {
                (Value::Null, Some((revision, before))) if *revision == event["since"] => {
                    let mut after = before.clone();
                    after.as_object_mut().unwrap().extend(event["patch"].as_object().unwrap().clone());
                    page = Some((event["revision"].clone(), after));
                }
                (Value::Null, _) => {}
                (state, _) => page = Some((event["revision"].clone(), state.clone())),
            }
        }
        assert_eq!(page.unwrap().1, state(states), "after {states} states");
        // The first of them may have gone with what was dropped, which was told.
        let came: Vec<_> = brief(told).into_iter().filter(Value::is_number).collect();
        assert!(came == numbers(1..=100) || lost && came == numbers(2..=100), "{came:?}");
    }
}
