//! Buses that do what no bus should: panic in the call, and take their time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/rig.rs"]
mod rig;

use std::{
    fmt,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use rooms_core::{
    Bus, JoinError, Kind, Limits, LocalBus, RoomManager,
    bus::{AsyncBus, AsyncClient, BusError, BusEvent, BusReceiver, Lost, Topic},
};
use tokio::{
    runtime::Handle,
    time::{Instant, advance, sleep},
};

use nodes::settle;
use rig::{Client, Rooms, key};

fn rooms(bus: impl Bus) -> Rooms {
    RoomManager::build_for().kind("post", Kind::authenticated()).bus(bus).build().unwrap()
}

/// A bus that is written by hand, and does in the call what others do when its answer is awaited.
#[derive(Debug, Default)]
struct Eager {
    inner: LocalBus,
    panics: Arc<AtomicBool>,
}

impl Eager {
    fn may_panic(&self, of_a_room: bool) {
        assert!(!(of_a_room && self.panics.load(Ordering::Relaxed)), "in the call");
    }
}

impl Bus for Eager {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.inner.attach(receiver);
    }

    fn publish<'a, 't, 'f>(&'a self, topic: &'t Topic, payload: Bytes) -> BoxFuture<'f, Result<(), BusError>>
    where
        'a: 'f,
        't: 'f,
    {
        self.may_panic(true);
        self.inner.publish(topic, payload)
    }

    fn subscribe(&self, topics: &[Topic]) {
        self.may_panic(topics.iter().any(|topic| matches!(topic, Topic::Room(_))));
        self.inner.subscribe(topics);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.may_panic(true);
        self.inner.unsubscribe(topics);
    }

    fn close<'a, 'f>(&'a self) -> BoxFuture<'f, ()>
    where
        'a: 'f,
    {
        self.inner.close()
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_panics_in_the_call_costs_what_it_was_called_for_and_no_more() {
    let panics = Arc::new(AtomicBool::new(false));
    let rooms = rooms(Eager { panics: Arc::clone(&panics), ..Eager::default() });
    settle().await;
    let left = Client::join(&rooms, "a", "post:1").await;
    panics.store(true, Ordering::Relaxed);
    drop(left);
    let mut client = Client::connect(&rooms, "a");
    assert!(matches!(client.connection.join(&key("post:2")).await, Err(JoinError::Unavailable { .. })));
    assert!(rooms.broadcast(&key("post:2"), &1).await.is_err());
    // It beats, and forgets the first room.
    sleep(Duration::from_secs(10)).await;
    panics.store(false, Ordering::Relaxed);
    client.connection.join(&key("post:3")).await.unwrap();
    rooms.broadcast(&key("post:3"), &1).await.unwrap();
    assert_eq!(client.inbox.all().await.last().unwrap(), 1);
}

/// A client that refuses the rooms of one kind, never answers for those of another, and takes its time for all.
#[derive(Debug, Default)]
struct Choosy(LocalBus);

#[async_trait]
impl AsyncClient for Choosy {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.0.attach(receiver);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        self.0.publish(topic, payload).await
    }

    async fn subscribe(&self, topic: &Topic) -> Result<(), BusError> {
        sleep(Duration::from_millis(5)).await;
        match topic {
            Topic::Room(room) if room.kind() == "secret" => return Err(BusError::Refused("not these".into())),
            Topic::Room(room) if room.kind() == "stuck" => pending().await,
            _ => {}
        }
        self.0.subscribe(std::slice::from_ref(topic));
        Ok(())
    }

    async fn unsubscribe(&self, topic: &Topic) -> Result<(), BusError> {
        self.0.unsubscribe(std::slice::from_ref(topic));
        Ok(())
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_that_the_bus_refuses_keeps_nobody_out_of_others() {
    let build = RoomManager::build_for().kind("post", Kind::authenticated()).kind("secret", Kind::authenticated());
    let rooms: Rooms = build.bus(AsyncBus::new(Choosy::default())).build().unwrap();
    settle().await;
    let joins = ["post:0", "post:1", "secret:1", "post:2", "secret:2"].map(|room| {
        let mut client = Client::connect(&rooms, "a");
        async move { client.connection.join(&key(room)).await.map(|_| client) }
    });
    let joined = join_all(joins).await;
    assert_eq!(joined.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_the_bus_never_answers_for_holds_up_none_of_thousands() {
    let build = RoomManager::build_for().kind("post", Kind::authenticated()).kind("stuck", Kind::authenticated());
    let rooms: Rooms = build
        .limits(|limits| limits.max_connections_per_user = 10_000)
        .bus(AsyncBus::new(Choosy::default()))
        .build()
        .unwrap();
    settle().await;
    let join = |room: String| {
        let mut client = Client::connect(&rooms, "a");
        async move { client.connection.join(&key(&room)).await.map(|_| client) }
    };
    let stuck = tokio::spawn(join("stuck:1".to_owned()));
    settle().await;
    let start = Instant::now();
    let joined = join_all((0..3_000).map(|number| join(format!("post:{number}")))).await;
    assert!(joined.iter().all(Result::is_ok));
    assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
    assert!(matches!(stuck.await.unwrap(), Err(JoinError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_refused_is_tried_at_once_for_who_asks_anew() {
    let build = RoomManager::build_for().kind("secret", Kind::authenticated());
    let rooms: Rooms = build.bus(AsyncBus::new(Choosy::default())).build().unwrap();
    settle().await;
    let mut client = Client::connect(&rooms, "a");
    // By now the pause between two tries is many seconds.
    assert!(client.connection.join(&key("secret:1")).await.is_err());
    sleep(Duration::from_secs(4)).await;
    let start = Instant::now();
    assert!(client.connection.join(&key("secret:1")).await.is_err());
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
}

/// Long enough for a room that nobody is in to be unsubscribed.
const PAST_THE_LINGER: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn topics_whose_calls_hang_leave_nothing_behind_when_nobody_wants_them() {
    let build = RoomManager::build_for().kind("post", Kind::authenticated()).kind("stuck", Kind::authenticated());
    let rooms: Rooms = build
        .limits(|limits| limits.max_connections_per_user = 1_000)
        .bus(AsyncBus::new(Choosy::default()))
        .build()
        .unwrap();
    settle().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let joined = join_all((1..1_000).map(|number| {
        let mut client = Client::connect(&rooms, "a");
        async move { client.connection.join(&key(&format!("stuck:{number}"))).await.is_ok() }
    }))
    .await;
    assert!(!joined.contains(&true));
    assert!(tasks() > before + 900, "the bus tries for as long as the rooms linger");
    sleep(PAST_THE_LINGER).await;
    assert_eq!(tasks(), before);
}

/// A client whose first call for a room's broadcasts never resolves: the first `subscribe` of kind `slow`, the first
/// `unsubscribe` of kind `sticky`.
#[derive(Debug, Default)]
struct HangsOnce {
    inner: LocalBus,
    has_hung: AtomicBool,
}

impl HangsOnce {
    async fn may_hang(&self, topic: &Topic, kind: &str) {
        if matches!(topic, Topic::Room(room) if room.kind() == kind) && !self.has_hung.swap(true, Ordering::Relaxed) {
            pending().await
        }
    }
}

#[async_trait]
impl AsyncClient for HangsOnce {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.inner.attach(receiver);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        self.inner.publish(topic, payload).await
    }

    async fn subscribe(&self, topic: &Topic) -> Result<(), BusError> {
        self.may_hang(topic, "slow").await;
        self.inner.subscribe(std::slice::from_ref(topic));
        Ok(())
    }

    async fn unsubscribe(&self, topic: &Topic) -> Result<(), BusError> {
        self.may_hang(topic, "sticky").await;
        self.inner.unsubscribe(std::slice::from_ref(topic));
        Ok(())
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

fn hanging_once(limits: impl FnOnce(&mut Limits)) -> Rooms {
    let build = RoomManager::build_for().kind("slow", Kind::authenticated()).kind("sticky", Kind::authenticated());
    build.limits(limits).bus(AsyncBus::new(HangsOnce::default())).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_keeps_the_next_join_out_no_longer() {
    // A join waits longer than the bus gives its client, and shorter.
    for wait in [5_000, 500] {
        let rooms = hanging_once(|limits| limits.subscribe_timeout = Duration::from_millis(wait));
        settle().await;
        let mut client = Client::connect(&rooms, "a");
        assert!(client.connection.join(&key("slow:1")).await.is_err());
        let deadline = Instant::now() + Duration::from_secs(3);
        while client.connection.join(&key("slow:1")).await.is_err() {
            assert!(Instant::now() < deadline, "with a wait of {wait} ms");
        }
        rooms.broadcast(&key("slow:1"), &1).await.unwrap();
        assert_eq!(client.inbox.all().await.last().unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsubscribe_that_hangs_keeps_nobody_out_of_the_room() {
    let rooms = hanging_once(|limits| limits.linger = Duration::from_secs(1));
    settle().await;
    drop(Client::join(&rooms, "a", "sticky:1").await);
    sleep(Duration::from_millis(1_100)).await;
    let start = Instant::now();
    let mut client = Client::join(&rooms, "a", "sticky:1").await;
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    rooms.broadcast(&key("sticky:1"), &1).await.unwrap();
    assert_eq!(client.inbox.all().await.last().unwrap(), 1);
}

/// A bus that takes some milliseconds for a publication.
#[derive(Debug)]
struct Slow {
    inner: LocalBus,
    under_way: Arc<AtomicUsize>,
}

#[async_trait]
impl Bus for Slow {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.inner.attach(receiver);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(5)).await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.inner.publish(topic, payload).await
    }

    fn subscribe(&self, topics: &[Topic]) {
        self.inner.subscribe(topics);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.inner.unsubscribe(topics);
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_while_it_said_something_or_slept_takes_nobody_for_gone() {
    for says in [true, false] {
        let (hub, under_way) = (LocalBus::new(), Arc::new(AtomicUsize::new(0)));
        let one = rooms(Slow { inner: hub.peer(), under_way: Arc::clone(&under_way) });
        let two = rooms(Slow { inner: hub.peer(), under_way: Arc::default() });
        settle().await;
        let mut a = Client::join(&one, "a", "post:1").await;
        sleep(Duration::from_millis(700)).await;
        let _b = Client::join(&two, "b", "post:1").await;
        sleep(Duration::from_secs(5)).await;
        a.inbox.all().await;
        while (under_way.load(Ordering::Relaxed) > 0) != says {
            sleep(Duration::from_millis(1)).await;
        }
        advance(Duration::from_secs(20)).await;
        settle().await;
        assert!(a.inbox.is_silent().await, "while it said something: {says}");
    }
}

/// A bus that speaks as soon as it has its receiver, and never says that the nodes' topics are subscribed before it is
/// asked for the third time.
#[derive(Debug, Default)]
struct Hasty {
    inner: LocalBus,
    asked: AtomicUsize,
}

#[async_trait]
impl Bus for Hasty {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        receiver.event(BusEvent::Down);
        self.inner.attach(receiver);
    }

    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        self.inner.publish(topic, payload).await
    }

    fn subscribe(&self, topics: &[Topic]) {
        if !topics.contains(&Topic::Nodes) || self.asked.fetch_add(1, Ordering::Relaxed) >= 2 {
            self.inner.subscribe(topics);
        }
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.inner.unsubscribe(topics);
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_bus_says_at_once_is_heard_and_an_answer_that_was_lost_is_asked_for_again() {
    let hub = LocalBus::new();
    let fleet = [(); 2].map(|()| rooms(Hasty { inner: hub.peer(), ..Hasty::default() }));
    assert!(fleet[0].stats().bus_down, "it said so while it was given its receiver");
    sleep(Duration::from_secs(5)).await;
    let _a = Client::join(&fleet[0], "a", "post:1").await;
    let _b = Client::join(&fleet[1], "b", "post:1").await;
    settle().await;
    for node in &fleet {
        assert_eq!(node.viewers(&key("post:1")).await.viewers, 2);
    }
}

/// Never confirms the topics of the nodes, and comes up again and again.
#[derive(Default)]
struct Silent {
    receiver: Arc<std::sync::OnceLock<Arc<dyn BusReceiver>>>,
    asked: Arc<AtomicUsize>,
}

impl fmt::Debug for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Silent")
    }
}

#[async_trait]
impl Bus for Silent {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        _ = self.receiver.set(receiver);
    }

    async fn publish(&self, _: &Topic, _: Bytes) -> Result<(), BusError> {
        Ok(())
    }

    fn subscribe(&self, _: &[Topic]) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    fn unsubscribe(&self, _: &[Topic]) {}

    async fn close(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_never_confirms_is_told_what_is_wanted_four_times_a_heartbeat_whatever_else_happens() {
    let bus = Silent::default();
    let (receiver, asked) = (Arc::clone(&bus.receiver), Arc::clone(&bus.asked));
    let _rooms = rooms(bus);
    for _ in 0..1_000 {
        receiver.get().unwrap().event(BusEvent::up(Lost::Perhaps));
        sleep(Duration::from_millis(10)).await;
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!((15..=21).contains(&asked), "{asked} times in ten seconds");
}
