//! One that leaves and comes back while a flusher has something for it in hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc as blocking,
    },
    task::{Context, Poll},
    thread,
};

use futures::{Sink, StreamExt as _, channel::mpsc};
use rooms_core::{Kind, Message, RoomManager, ws::Incoming};
use serde_json::{Value, json};

use rig::{key, who};

const POST: &str = "post:42";

/// A sink that may hold its flusher up: it says when it was handed what is in `at`, and waits until it is let go.
struct Blocking {
    to: mpsc::UnboundedSender<Message>,
    at: Option<(&'static str, mpsc::UnboundedSender<()>, blocking::Receiver<()>)>,
}

impl Sink<Message> for Blocking {
    type Error = mpsc::SendError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        let this = self.get_mut();
        if let Some((_, handed, go_on)) =
            this.at.take_if(|(what, ..)| message.as_text().is_some_and(|text| text.contains(*what)))
        {
            handed.unbounded_send(()).unwrap();
            go_on.recv().unwrap();
        }
        this.to.unbounded_send(message).map_err(|error| error.into_send_error())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_is_given_what_a_flusher_has_in_hand_before_its_welcome() {
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    let kind = Kind::new().join_rule(move |_, _| {
        asks.fetch_add(1, Ordering::SeqCst);
        async { true }
    });
    let rooms: RoomManager<Blocking> = RoomManager::build_for().kind("post", kind).build().unwrap();
    let client = |at| {
        let (send, stream) = mpsc::unbounded();
        let (to, received) = mpsc::unbounded();
        tokio::spawn(rooms.serve(stream, Blocking { to, at }, who("a")));
        let say = move |kind: &str| {
            let text = json!({"type": kind, "room": POST}).to_string();
            send.unbounded_send(Ok(Incoming::Text(text))).unwrap();
        };
        let events = received.filter_map(|message| async move {
            Some(serde_json::from_str::<Value>(message.as_text()?).unwrap())
                .filter(|event| event["type"] != "viewer_joined")
        });
        (say, Box::pin(events))
    };
    let ((handed, mut is_handed), (let_go, go_on)) = (mpsc::unbounded(), blocking::channel());
    let (first_says, mut first) = client(Some(("in hand", handed, go_on)));
    first_says("join");
    assert_eq!(first.next().await.unwrap()["type"], "room_joined");
    let (says, mut comes_back) = client(None);
    says("join");
    assert_eq!(comes_back.next().await.unwrap()["type"], "room_joined");

    rooms.broadcast(&key(POST), &"in hand").await.unwrap();
    is_handed.next().await;
    says("leave");
    says("join");
    assert_eq!(comes_back.next().await.unwrap()["type"], "room_left");
    while asked.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    // It would be welcomed at once.
    (0..1_000).for_each(|_| thread::yield_now());
    let_go.send(()).unwrap();
    let next = [comes_back.next().await.unwrap(), comes_back.next().await.unwrap()];
    assert_eq!([&next[0]["data"], &next[1]["type"]], ["in hand", "room_joined"], "{next:?}");
}
