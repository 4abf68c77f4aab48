use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::{
    Sink,
    task::{ArcWake, waker},
};

use super::*;

/// A sink with a door: it takes messages while `open`.
#[derive(Default)]
struct Door {
    open: bool,
    waker: Option<Waker>,
    taken: Vec<Message>,
    panics: bool,
}

#[derive(Clone, Default)]
struct DoorSink(Arc<Mutex<Door>>);

impl DoorSink {
    fn open(&self) {
        let mut door = lock(&self.0);
        door.open = true;
        if let Some(waker) = door.waker.take() {
            waker.wake();
        }
    }

    fn texts(&self) -> Vec<String> {
        lock(&self.0).taken.iter().map(|m| String::from_utf8_lossy(m.payload()).into_owned()).collect()
    }
}

impl Sink<Message> for DoorSink {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        let mut door = lock(&self.0);
        assert!(!door.panics, "a sink that panics");
        if door.open {
            return Poll::Ready(Ok(()));
        }
        door.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), ()> {
        lock(&self.0).taken.push(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl ArcWake for Wakes {
    fn wake_by_ref(wakes: &Arc<Self>) {
        wakes.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn outbox(sink: &DoorSink, change: impl FnOnce(&mut Limits)) -> Outbox {
    let mut limits = Limits::default();
    change(&mut limits);
    Outbox::new(Transport::boxed(sink.clone()), &limits)
}

fn drive(outbox: &Outbox) -> Progress {
    outbox.drive(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn what_the_sink_takes_is_gone_at_once() {
    let sink = DoorSink::default();
    sink.open();
    let outbox = outbox(&sink, |_| {});
    outbox.deliver(&[Message::text("a"), Message::text("b")]);
    assert_eq!(sink.texts(), ["a", "b"]);
}

#[test]
fn what_it_does_not_take_waits_in_order_and_wakes_the_task() {
    let sink = DoorSink::default();
    let outbox = outbox(&sink, |_| {});
    let wakes = Arc::new(Wakes::default());
    let waker = waker(Arc::clone(&wakes));
    assert_eq!(outbox.drive(&mut Context::from_waker(&waker)), Progress::Open(Backlog::default()));
    outbox.deliver(&[Message::text("a")]);
    outbox.deliver(&[Message::text("b")]);
    outbox.queue(&"post:1".parse().unwrap(), &Message::text("c"), std::iter::empty());
    assert!(sink.texts().is_empty());
    let before = wakes.0.load(Ordering::Relaxed);
    sink.open();
    assert_eq!(wakes.0.load(Ordering::Relaxed), before + 1);
    assert_eq!(drive(&outbox), Progress::Open(Backlog::default()));
    assert_eq!(sink.texts(), ["a", "b", "c"]);
    outbox.deliver(&[Message::text("d")]);
    assert_eq!(sink.texts(), ["a", "b", "c", "d"]);
}

#[test]
fn a_full_outbox_closes_its_connection_with_1013() {
    for (messages, bytes) in [(3, usize::MAX), (usize::MAX, 12)] {
        let sink = DoorSink::default();
        let outbox = outbox(&sink, |limits| (limits.max_outbox_messages, limits.max_outbox_bytes) = (messages, bytes));
        for _ in 0..3 {
            outbox.deliver(&[Message::text("ab")]);
        }
        assert!(matches!(drive(&outbox), Progress::Open(_)), "at the limit");
        outbox.deliver(&[Message::text("ab")]);
        assert_eq!(drive(&outbox), Progress::Closing(Close::SLOW_CONSUMER), "over the limit");
        sink.open();
        assert_eq!(drive(&outbox), Progress::Closed(Close::SLOW_CONSUMER));
        assert_eq!(lock(&sink.0).taken, [Message::close(&Close::SLOW_CONSUMER)]);
    }
}

#[test]
fn a_close_flushes_or_drops_what_waits() {
    for (waiting, expected) in [(Waiting::Flush, 2), (Waiting::Drop, 1)] {
        let sink = DoorSink::default();
        let outbox = outbox(&sink, |_| {});
        outbox.deliver(&[Message::text("a")]);
        outbox.close(Close::RESTART, waiting);
        outbox.close(Close::INTERNAL, Waiting::Drop);
        outbox.deliver(&[Message::text("late")]);
        sink.open();
        assert_eq!(drive(&outbox), Progress::Closed(Close::RESTART), "the first close counts");
        let taken = sink.texts();
        assert_eq!(taken.len(), expected);
        assert!(!taken.contains(&"late".to_owned()));
    }
}

#[test]
fn a_sink_that_panics_is_a_broken_sink() {
    let sink = DoorSink::default();
    lock(&sink.0).panics = true;
    let outbox = outbox(&sink, |_| {});
    outbox.deliver(&[Message::text("a")]);
    assert_eq!(drive(&outbox), Progress::Broken);
}
