//! What a manager makes of its bus: LocalBus with peers, and buses that fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    future::pending,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use rooms_core::{
    BroadcastError, Bus, JoinError, Kind, Limits, LocalBus, Reach, RoomManager,
    bus::{BusError, BusEvent, BusReceiver, Lost, Retention, Topic},
    testing::faults::{Faults, FaultyBus},
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use rig::{Client, Rooms, idle, key};
use talk::Talk;

fn rooms(bus: impl Bus) -> Rooms {
    RoomManager::build_for().kind("post", Kind::authenticated()).bus(bus).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn peers_of_a_local_bus_hear_each_other_in_one_order() {
    let bus = LocalBus::new();
    let nodes = [rooms(bus.peer()), rooms(bus.peer()), rooms(bus)];
    let mut members = Vec::new();
    for node in &nodes[..2] {
        members.push(Client::join(node, "a", "post:42").await);
    }
    members[0].inbox.all().await;
    let room = key("post:42");
    for n in 0..30 {
        nodes[n % 3].broadcast(&room, &n).await.unwrap();
    }
    let first = members[0].inbox.all().await;
    assert_eq!(first, (0..30).map(|n| json!(n)).collect::<Vec<_>>());
    assert_eq!(members[1].inbox.all().await, first);
    let except = members[0].connection.id();
    nodes[1].to(&room).except(except).json(&json!("x")).await.unwrap();
    assert!(members[0].inbox.is_silent().await, "left out on another node than the publisher's");
    assert_eq!(members[1].inbox.all().await, ["x"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_goes_away_is_not_published_to() {
    let bus = LocalBus::new();
    let gone = rooms(bus.peer());
    let stays = rooms(bus);
    drop(Client::join(&gone, "a", "post:42").await);
    drop(gone);
    let mut member = Client::join(&stays, "b", "post:42").await;
    stays.broadcast(&key("post:42"), &1).await.unwrap();
    assert_eq!(member.inbox.all().await, [1]);
}

/// A bus whose behaviour the test sets, in front of a real one.
#[derive(Debug, Default)]
struct Faulty {
    inner: LocalBus,
    receiver: OnceLock<Handed>,
    publish: Mutex<Option<fn() -> BusError>>,
    refuse_subscriptions: AtomicBool,
    hang_subscriptions: AtomicBool,
    panic_subscriptions: AtomicBool,
    hang: AtomicBool,
    /// Answers no `subscribe` until [`answer`](Self::answer).
    withhold: AtomicBool,
    withheld: Mutex<Vec<Topic>>,
}

struct Handed(Arc<dyn BusReceiver>);

impl std::fmt::Debug for Handed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handed")
    }
}

impl Faulty {
    fn say(&self, event: BusEvent) {
        self.receiver.get().unwrap().0.event(event);
    }

    fn answer(&self) {
        self.withhold.store(false, Ordering::Relaxed);
        self.inner.subscribe(&std::mem::take(&mut *self.withheld.lock().unwrap()));
    }

    fn say_message(&self, payload: impl Into<Bytes>) {
        self.say(BusEvent::message(Topic::Room(key("post:42")), payload.into()));
    }
}

#[async_trait]
impl Bus for Faulty {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.inner.attach(Arc::clone(&receiver));
        _ = self.receiver.set(Handed(receiver));
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        if self.hang.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
        let fault = *self.publish.lock().unwrap();
        match fault {
            Some(fault) => Err(fault()),
            None => self.inner.publish(topic, payload).await,
        }
    }

    fn subscribe(&self, topics: &[Topic]) {
        if self.hang_subscriptions.load(Ordering::Relaxed) {
            return;
        }
        if self.withhold.load(Ordering::Relaxed) {
            self.withheld.lock().unwrap().extend_from_slice(topics);
            return;
        }
        assert!(!self.panic_subscriptions.load(Ordering::Relaxed), "a bus that panics");
        match self.refuse_subscriptions.load(Ordering::Relaxed) {
            true => topics.iter().for_each(|topic| {
                self.say(BusEvent::refused(topic.clone(), BusError::Refused("no".into())));
            }),
            false => self.inner.subscribe(topics),
        }
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.inner.unsubscribe(topics);
    }

    async fn close(&self) {
        if self.hang.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
        self.inner.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_bus_is_down_local_members_are_served_and_the_receipt_says_so() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let mut member = Client::join(&rooms, "a", "post:42").await;
    let mut other = Client::join(&rooms, "b", "post:42").await;
    member.inbox.all().await;
    *bus.publish.lock().unwrap() = Some(|| BusError::Down);
    bus.say(BusEvent::Down);
    let room = key("post:42");
    assert_eq!(rooms.broadcast(&room, &1).await.unwrap().reach, Reach::LocalOnly);
    let receipt = rooms.to(&room).except(member.connection.id()).json(&2).await.unwrap();
    assert_eq!(receipt.reach, Reach::LocalOnly);
    assert!(rooms.stats().bus_down);
    assert_eq!(member.inbox.all().await, [1]);
    assert_eq!(other.inbox.all().await, [1, 2]);
    *bus.publish.lock().unwrap() = None;
    bus.say(BusEvent::up(Lost::Perhaps));
    assert!(!rooms.stats().bus_down);
    let resync = json!({"type": "resync", "room": "post:42", "reason": "bus_gap"});
    assert_eq!(member.inbox.all().await, std::slice::from_ref(&resync), "one, and only one");
    assert_eq!(other.inbox.all().await, [resync]);
    assert_eq!(rooms.broadcast(&room, &3).await.unwrap().reach, Reach::AllNodes);
    assert_eq!(member.inbox.all().await, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_member_is_told_that_what_it_published_stayed_on_this_node() {
    let bus = Arc::new(Faulty::default());
    let kind = Kind::authenticated().allow_publish();
    let rooms: Rooms = RoomManager::build_for().kind("channel", kind).bus(Arc::clone(&bus)).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    talk.ask(r#"{"type":"join","room":"channel:1"}"#).await;
    *bus.publish.lock().unwrap() = Some(|| BusError::Down);
    talk.say(r#"{"type":"publish","room":"channel:1","data":1,"ref":1}"#);
    let published = json!({"type": "published", "room": "channel:1", "reach": "local_only", "ref": 1});
    assert!(talk.inbox.all().await.contains(&published));
}

#[tokio::test(start_paused = true)]
async fn where_nothing_was_lost_nobody_is_told_anything() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let mut member = Client::join(&rooms, "a", "post:42").await;
    bus.say(BusEvent::Down);
    assert!(rooms.stats().bus_down);
    bus.say(BusEvent::up(Lost::Nothing));
    assert!(member.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_an_error_and_is_not_delivered_twice() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let mut member = Client::join(&rooms, "a", "post:42").await;
    for fault in [|| BusError::Unknown("timed out".into()), || BusError::Overloaded, || BusError::Refused("no".into())]
    {
        *bus.publish.lock().unwrap() = Some(fault);
        let error = rooms.broadcast(&key("post:42"), &1).await.unwrap_err();
        assert!(matches!(error, BroadcastError::Bus { .. }));
    }
    assert!(member.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn a_gap_of_one_room_is_told_in_that_room_alone() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let mut member = Client::join(&rooms, "a", "post:42").await;
    let mut elsewhere = Client::join(&rooms, "a", "post:7").await;
    bus.say(BusEvent::gap(Topic::Room(key("post:42"))));
    bus.say(BusEvent::gap(Topic::Room(key("post:nobody"))));
    assert_eq!(member.inbox.all().await, [json!({"type": "resync", "room": "post:42", "reason": "bus_gap"})]);
    assert!(elsewhere.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_is_counted_and_the_next_one_arrives() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let mut member = Client::join(&rooms, "a", "post:42").await;
    let bad: [Vec<u8>; 9] = [
        vec![],
        b"not JSON".to_vec(),
        b"\xff\xfe".to_vec(),
        b"{}{}".to_vec(),
        vec![b'['; 1_000_000],
        [vec![b'['; 65], vec![b']'; 65]].concat(),
        [b"\"".to_vec(), vec![b'x'; 64 * 1024], b"\"".to_vec()].concat(),
        b"\x01v1;x=;{}".to_vec(),
        b"\x01nonsense".to_vec(),
    ];
    let count = bad.len() as u64;
    for payload in bad {
        bus.say_message(payload);
    }
    bus.say_message(&b"{\"from\":\"another language\"}"[..]);
    // What is too long may have been meant for the members.
    let resync = json!({"type": "resync", "room": "post:42", "reason": "bus_gap"});
    assert_eq!(member.inbox.all().await, [resync, json!({"from": "another language"})]);
    assert_eq!(rooms.stats().bad_payloads, count);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_outruns_the_room_costs_messages_and_that_is_said_once() {
    let bus = Arc::new(Faulty::default());
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_log_messages = 4)
        .bus(Arc::clone(&bus))
        .build()
        .unwrap();
    let mut member = Client::join(&rooms, "a", "post:42").await;
    idle().await;
    for n in 0..20 {
        bus.say_message(n.to_string());
    }
    let resync = json!({"type": "resync", "room": "post:42", "reason": "bus_gap"});
    let expected: Vec<_> = (0..8).map(|n| json!(n)).chain([resync]).collect();
    assert_eq!(member.inbox.all().await, expected);
    bus.say_message("20");
    assert_eq!(member.inbox.all().await, [20]);
}

/// A round of a large room takes a while, and the bus does not wait for it.
#[tokio::test(start_paused = true)]
async fn who_was_told_of_a_loss_before_its_end_is_told_again() {
    let bus = Arc::new(Faulty::default());
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_log_messages = 1)
        .bus(Arc::clone(&bus))
        .build()
        .unwrap();
    let mut members = Vec::new();
    for n in 0..200 {
        members.push(Client::join(&rooms, &format!("u{n}"), "post:42").await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for member in &mut members {
        member.inbox.all().await;
    }
    let lose = |from: usize| (from..from + 4).for_each(|n| bus.say_message(n.to_string()));
    lose(0);
    let first = loop {
        tokio::task::yield_now().await;
        if let Some(Some(message)) = members[0].inbox.0.next().now_or_never() {
            break message;
        }
    };
    assert_eq!(first.as_text(), Some("0"));
    assert!(members[199].inbox.0.next().now_or_never().is_none(), "the round is not over");
    lose(4);
    let resync = json!({"type": "resync", "room": "post:42", "reason": "bus_gap"});
    assert_eq!(members[0].inbox.all().await, [json!(1), resync.clone(), resync.clone()]);
    assert_eq!(members[199].inbox.all().await, [json!(0), json!(1), resync.clone(), resync]);
    bus.say_message("8");
    assert_eq!(members[0].inbox.all().await, [8]);
}

/// It is told of the first loss with its welcome, which is before the second.
#[tokio::test(start_paused = true)]
async fn who_has_just_joined_is_told_of_a_loss_after_that() {
    let (bus, open) = (Arc::new(Faulty::default()), Arc::new(AtomicBool::new(true)));
    let door = Arc::clone(&open);
    let kind = Kind::authenticated().on_join(move |_| {
        let door = Arc::clone(&door);
        // It wakes nobody; the test polls.
        std::future::poll_fn(move |_| match door.load(Ordering::Relaxed) {
            true => std::task::Poll::Ready(Ok(json!({}))),
            false => std::task::Poll::Pending,
        })
    });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).bus(Arc::clone(&bus)).build().unwrap();
    let _member = Client::join(&rooms, "a", "post:42").await;
    let mut late = Client::connect(&rooms, "b");
    let gap = || bus.say(BusEvent::gap(Topic::Room(key("post:42"))));
    open.store(false, Ordering::Relaxed);
    {
        let room = key("post:42");
        let mut join = std::pin::pin!(late.connection.join(&room));
        assert!(join.as_mut().now_or_never().is_none());
        gap();
        open.store(true, Ordering::Relaxed);
        assert!(join.as_mut().now_or_never().is_some());
        gap();
    }
    let resync = json!({"type": "resync", "room": "post:42", "reason": "bus_gap"});
    let told = late.inbox.all().await.into_iter().filter(|event| *event == resync).count();
    assert_eq!(told, 2);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_fails_is_the_joiners_error_and_the_next_try_works() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let room = key("post:42");
    let mut client = Client::connect(&rooms, "a");
    for fault in [&bus.refuse_subscriptions, &bus.hang_subscriptions] {
        fault.store(true, Ordering::Relaxed);
        assert_eq!(client.connection.join(&room).await, Err(JoinError::Unavailable { room: room.clone() }));
        fault.store(false, Ordering::Relaxed);
        assert_eq!(client.connection.join(&room).await, Ok(1));
        rooms.broadcast(&room, &1).await.unwrap();
        client.connection.leave(&room);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(rooms.stats().rooms, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_panics_fails_one_join_and_not_the_next() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    bus.panic_subscriptions.store(true, Ordering::Relaxed);
    let mut client = Client::connect(&rooms, "a");
    let failed = client.connection.join(&key("post:42")).await;
    assert_eq!(failed, Err(JoinError::Unavailable { room: key("post:42") }));
    bus.panic_subscriptions.store(false, Ordering::Relaxed);
    assert_eq!(client.connection.join(&key("post:42")).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_join_waits_for_a_bus_that_hangs_no_longer_than_the_limit() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    bus.hang_subscriptions.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let mut joining = Vec::new();
    // Three calls of the bus, each of which takes its whole time.
    for n in 0..1_200 {
        let mut client = Client::connect(&rooms, &format!("u{n}"));
        let room = key(&format!("post:{n}"));
        joining.push(tokio::spawn(async move { client.connection.join(&room).await }));
    }
    for joining in joining {
        assert!(matches!(joining.await.unwrap(), Err(JoinError::Unavailable { .. })));
    }
    assert!(start.elapsed() <= rooms.limits().subscribe_timeout + Duration::from_millis(10), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_loss_in_all_rooms_keeps_neither_the_bus_nor_a_broadcast_waiting() {
    const ROOMS: usize = 4_000;
    let bus = Arc::new(Faulty::default());
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_connections_per_user = ROOMS)
        .bus(Arc::clone(&bus))
        .build()
        .unwrap();
    let mut members = Vec::new();
    for number in 0..ROOMS {
        members.push(Client::join(&rooms, "a", &format!("post:{number}")).await);
    }
    for member in &mut members {
        member.inbox.all().await;
    }
    let resync = |member: &mut Client| member.inbox.now().iter().filter(|event| event["type"] == "resync").count();
    bus.say(BusEvent::up(Lost::Perhaps));
    assert_eq!(members.iter_mut().map(resync).sum::<usize>(), 0, "not within the call of the bus");
    let mut told = 0;
    while told == 0 {
        tokio::task::yield_now().await;
        told = members.iter_mut().skip(1).map(resync).sum::<usize>();
    }
    assert!(told < ROOMS / 4, "{told} rooms in one turn");
    rooms.broadcast(&key("post:0"), &"beside it").await.unwrap();
    while !members[0].inbox.now().contains(&json!("beside it")) {
        tokio::task::yield_now().await;
    }
    told += members.iter_mut().skip(1).map(resync).sum::<usize>();
    assert!(told < ROOMS / 2, "the broadcast waited for {told} rooms");
    idle().await;
    told += members.iter_mut().skip(1).map(resync).sum::<usize>();
    assert_eq!(told, ROOMS - 1, "each is told once");
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_hangs_holds_up_no_publisher_and_no_shutdown_for_ever() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let member = Client::join(&rooms, "a", "post:42").await;
    bus.hang.store(true, Ordering::Relaxed);
    let error = rooms.broadcast(&key("post:42"), &1).await.unwrap_err();
    assert!(matches!(error, BroadcastError::Bus { source: BusError::Unknown(_), .. }), "{error}");
    drop(member);
    let start = Instant::now();
    rooms.shutdown(Duration::ZERO).await;
    assert!(start.elapsed() <= 2 * rooms.limits().close_timeout, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_kind_with_a_history_needs_a_bus_that_keeps_one_and_a_retention_within_its_bounds() {
    /// A bus without a history.
    #[derive(Debug)]
    struct Forgetful(LocalBus);

    #[async_trait]
    impl Bus for Forgetful {
        fn attach(&self, receiver: Arc<dyn BusReceiver>) {
            self.0.attach(receiver);
        }

        fn subscribe(&self, topics: &[Topic]) {
            self.0.subscribe(topics);
        }

        fn unsubscribe(&self, topics: &[Topic]) {
            self.0.unsubscribe(topics);
        }

        async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
            self.0.publish(topic, payload).await
        }

        async fn close(&self) {
            self.0.close().await;
        }
    }

    let builder = |retention| RoomManager::builder().kind("post", Kind::authenticated().history(retention));
    let error = builder(Retention::messages(10)).bus(Forgetful(LocalBus::new())).build().unwrap_err();
    assert_eq!(error.to_string(), "the kind `post` has a history, and the bus keeps none");
    let error = builder(Retention::messages(0)).build().unwrap_err();
    assert_eq!(error.to_string(), "the history of the kind `post` can't be kept");
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(why, "a history has 1 to 10000 messages, not 0");
    assert!(builder(Retention::messages(10)).build().is_ok());
    assert!(RoomManager::<rooms_core::ws::FrameSink>::builder().bus(Forgetful(LocalBus::new())).build().is_ok());
}

/// A node, and another one that replies to nothing.
async fn beside_a_frozen_node(bus: Arc<Faulty>, limits: impl Fn(&mut Limits)) -> (Rooms, Rooms) {
    let faults = Faults::new(1);
    let frozen = rooms(FaultyBus::new(bus.inner.peer(), faults.clone()));
    let build = RoomManager::build_for().kind("post", Kind::authenticated()).limits(limits).bus(bus);
    let node: Rooms = build.build().unwrap();
    sleep(Duration::from_secs(1)).await;
    faults.freeze();
    (node, frozen)
}

/// Begins a join that waits for the other node's reply, and gives it up: with it goes the room.
async fn give_up_a_join(node: &Rooms) {
    let mut client = Client::connect(node, "a");
    let room = key("post:42");
    assert!(timeout(Duration::from_millis(20), client.connection.join(&room)).await.is_err());
    drop(client);
    idle().await;
    assert_eq!(node.stats().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn a_query_that_outlives_its_room_opens_none_that_is_not_subscribed() {
    let bus = Arc::new(Faulty::default());
    let (node, _frozen) = beside_a_frozen_node(Arc::clone(&bus), |limits| limits.linger = Duration::ZERO).await;
    give_up_a_join(&node).await;
    bus.withhold.store(true, Ordering::Relaxed);
    let mut client = Client::connect(&node, "b");
    let joins = tokio::spawn(async move { client.connection.join(&key("post:42")).await.map(|_| client) });
    // Past the end of the first query, and before the join is given up.
    sleep(Limits::default().answer_timeout + Duration::from_secs(1)).await;
    assert!(!joins.is_finished(), "the bus has not answered for this room");
    bus.answer();
    let mut client = joins.await.unwrap().unwrap();
    node.broadcast(&key("post:42"), &1).await.unwrap();
    assert_eq!(client.inbox.all().await.last().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_waits_for_the_replies_to_its_own_query_and_not_to_one_of_the_room_before() {
    let bus = Arc::new(Faulty::default());
    let (node, _frozen) = beside_a_frozen_node(bus, |limits| limits.linger = Duration::ZERO).await;
    give_up_a_join(&node).await;
    let start = Instant::now();
    let _client = Client::join(&node, "b", "post:42").await;
    assert!(start.elapsed() >= Limits::default().answer_timeout, "{:?}", start.elapsed());
}
