//! A manager that outlives the runtime that it was built in says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::time::Duration;

use futures::{FutureExt as _, channel::mpsc};
use rooms_core::{
    BroadcastError, Bus, Close, ConnectError, JoinError, Kind, MembersError, RoomManager,
    bus::{BusError, BusReceiver, Topic},
};
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

use rig::{Client, Rooms, key, who};
use talk::Talk;

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn build() -> Rooms {
    let kind = Kind::authenticated().list_members();
    RoomManager::build_for().kind("post", kind).limits(|limits| limits.max_log_messages = 1).build().unwrap()
}

#[test]
fn a_manager_that_outlives_its_runtime_says_so_at_once() {
    for (make, how) in [
        (current_thread as fn() -> Runtime, Runtime::shutdown_background as fn(Runtime)),
        (current_thread, drop),
        (multi_thread, drop),
        (multi_thread, |runtime| runtime.shutdown_timeout(Duration::from_secs(30))),
    ] {
        let first = make();
        let (rooms, mut client) = first.block_on(async {
            let rooms = build();
            let client = Client::join(&rooms, "a", "post:42").await;
            rooms.broadcast(&key("post:42"), &1).await.unwrap();
            (rooms, client)
        });
        assert!(!rooms.stats().runtime_ended);
        how(first);

        current_thread().block_on(async {
            let (start, room) = (Instant::now(), key("post:42"));
            assert!(rooms.stats().runtime_ended);
            let sent = rooms.broadcast(&room, &2).await;
            assert!(matches!(&sent, Err(BroadcastError::RuntimeEnded { room: of }) if *of == room), "{sent:?}");
            let elsewhere = rooms.broadcast(&key("post:7"), &2).await;
            assert!(matches!(elsewhere, Err(BroadcastError::RuntimeEnded { .. })), "{elsewhere:?}");
            let to_user = rooms.send_to_user("a", &2).await;
            assert!(matches!(to_user, Err(BroadcastError::RuntimeEnded { .. })), "{to_user:?}");
            let joined = client.connection.join(&key("post:7")).await;
            assert_eq!(joined, Err(JoinError::RuntimeEnded { room: key("post:7") }));
            let connected = rooms.connect(who("b"), mpsc::unbounded().0).map(drop);
            assert_eq!(connected, Err(ConnectError::RuntimeEnded));
            assert_eq!(rooms.members(&room).await, Err(MembersError::RuntimeEnded { room: room.clone() }));
            assert!(!rooms.viewers(&room).await.exact);
            let mut served = Talk::open(&rooms, who("b"));
            assert_eq!(served.inbox.close().await, Close::UNAVAILABLE);
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
            drop(client);
            rooms.shutdown(Duration::from_secs(60)).await;
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        });
    }
}

#[test]
fn a_connection_that_is_served_elsewhere_is_closed_when_the_runtime_of_its_manager_ends() {
    let first = multi_thread();
    let rooms = first.block_on(async { build() });
    // In real time, as the threads of the other runtime end in that. Its next ping would be in 30 s.
    multi_thread().block_on(async {
        let mut served = Talk::joined(&rooms, "a").await;
        first.shutdown_background();
        assert_eq!(served.inbox.close().await, Close::UNAVAILABLE);
    });
}

#[test]
fn a_manager_is_good_in_another_runtime_while_its_own_is_there() {
    let (first, second) = (multi_thread(), multi_thread());
    let rooms = first.block_on(async { build() });
    second.block_on(async {
        let mut client = Client::join(&rooms, "a", "post:42").await;
        rooms.broadcast(&key("post:42"), &1).await.unwrap();
        while client.inbox.next().await != 1 {}
        assert!(!rooms.stats().runtime_ended);
    });
    drop(second);
    assert!(!rooms.stats().runtime_ended, "it is not that one's");
}

/// Takes what is published and never gives it back, and confirms no subscription.
#[derive(Debug)]
struct Muted;

#[async_trait::async_trait]
impl Bus for Muted {
    fn attach(&self, _: std::sync::Arc<dyn BusReceiver>) {}

    async fn publish(&self, _: &Topic, _: bytes::Bytes) -> Result<(), BusError> {
        Ok(())
    }

    fn subscribe(&self, _: &[Topic]) {}

    fn unsubscribe(&self, _: &[Topic]) {}

    async fn close(&self) {}
}

#[test]
fn a_join_that_is_under_way_when_the_runtime_ends_fails_then() {
    let first = multi_thread();
    let rooms: Rooms = first
        .block_on(async { RoomManager::build_for().bus(Muted).kind("post", Kind::authenticated()).build().unwrap() });
    // In real time, as the threads of the other runtime end in that; without a guard the join fails otherwise in 20 s.
    multi_thread().block_on(async {
        let mut connection = rooms.connect(who("a"), mpsc::unbounded().0).unwrap();
        let room = key("post:42");
        let mut join = Box::pin(connection.join(&room));
        assert!(join.as_mut().now_or_never().is_none());
        first.shutdown_background();
        assert_eq!(join.await, Err(JoinError::RuntimeEnded { room: key("post:42") }));
    });
}
