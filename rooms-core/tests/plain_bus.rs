//! A bus that keeps neither histories nor states: what needs them is refused, with words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/posts.rs"]
mod posts;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::mpsc;
use rooms_core::{
    BroadcastError, BuildError, Bus, Kind, LocalBus, RoomManager,
    bus::{BusError, BusReceiver, Retention, Topic},
};

use posts::{POST, posts, rooms};
use rig::key;

/// A bus that keeps nothing.
#[derive(Debug)]
struct Plain(LocalBus);

#[async_trait::async_trait]
impl Bus for Plain {
    fn attach(&self, receiver: Arc<dyn BusReceiver>) {
        self.0.attach(receiver);
    }

    fn subscribe(&self, topics: &[Topic]) {
        self.0.subscribe(topics);
    }

    fn unsubscribe(&self, topics: &[Topic]) {
        self.0.unsubscribe(topics);
    }

    async fn publish(&self, topic: &Topic, payload: bytes::Bytes) -> Result<(), BusError> {
        self.0.publish(topic, payload).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_without_a_state_and_a_bus_without_states_say_so() {
    let rooms = rooms();
    let refused = rooms.broadcast_state(&key("silent:1"), &1).await.unwrap_err();
    assert!(matches!(refused, BroadcastError::NoState { .. }), "{refused:?}");
    let too_big = rooms.broadcast_state(&key(POST), &"x".repeat(70_000)).await.unwrap_err();
    assert!(matches!(too_big, BroadcastError::TooBig { limit: 65_536, .. }), "{too_big:?}");
    for keep in [Duration::ZERO, Duration::MAX] {
        let built =
            RoomManager::<mpsc::UnboundedSender<_>>::build_for().kind("post", Kind::new().keep_state(keep)).build();
        assert!(matches!(built, Err(BuildError::KeepState { .. })), "{keep:?}");
    }
    let bus = Plain(LocalBus::new());
    let built = RoomManager::<mpsc::UnboundedSender<_>>::build_for().kind("post", posts()).bus(bus).build();
    assert_eq!(built.unwrap_err().to_string(), "the kind `post` keeps a state, and the bus keeps none");
}

#[tokio::test]
async fn a_kind_with_a_history_over_a_bus_without_is_not_built() {
    let kinds = RoomManager::<mpsc::UnboundedSender<_>>::build_for().kind("silent", Kind::public());
    let kinds = kinds.kind("post", Kind::public().history(Retention::messages(100)));
    let error = kinds.bus(Plain(LocalBus::new())).build().unwrap_err();
    assert!(matches!(&error, BuildError::NoHistory { kind } if kind == "post"), "{error:?}");
    assert_eq!(error.to_string(), "the kind `post` has a history, and the bus keeps none");
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
