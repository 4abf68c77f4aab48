//! Every order in which a publisher, the sink's opening and the connection's task can meet, tried by `loom`.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::Sink;
use loom::{future::block_on, thread};

use super::{Outbox, Progress, Transport, Waiting};
use crate::{
    close::Close,
    limits::Limits,
    lock::{Mutex, lock},
    message::Message,
};

/// A sink as a socket is: it takes one message more than there is space for, and has that one in hand until there is.
#[derive(Default)]
struct Door {
    space: usize,
    in_hand: Option<Message>,
    waker: Option<Waker>,
    taken: Vec<Message>,
}

#[derive(Clone, Default)]
struct DoorSink(Arc<Mutex<Door>>);

impl DoorSink {
    /// As a socket does when its peer has read.
    fn open(&self, more: usize) {
        let waker = {
            let mut door = lock(&self.0);
            door.space += more;
            door.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn taken(&self) -> Vec<Message> {
        lock(&self.0).taken.clone()
    }
}

impl Door {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if self.in_hand.is_some() && self.space == 0 {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(message) = self.in_hand.take() {
            self.space -= 1;
            self.taken.push(message);
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink<Message> for DoorSink {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        lock(&self.0).poll_flush(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), ()> {
        lock(&self.0).in_hand = Some(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        lock(&self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

fn outbox(space: usize) -> (DoorSink, Arc<Outbox>) {
    let sink = DoorSink::default();
    sink.open(space);
    let outbox = Arc::new(Outbox::new(Transport::boxed(sink.clone()), &Limits::default()));
    (sink, outbox)
}

/// The connection's task, until the close frame is out. A wake-up that is lost leaves it waiting, which loom reports.
fn drive_to_the_end(outbox: &Outbox) -> Progress {
    block_on(poll_fn(|cx| match outbox.drive(cx) {
        Progress::Open(_) | Progress::Closing(_) => Poll::Pending,
        end => Poll::Ready(end),
    }))
}

#[test]
fn what_is_delivered_comes_out_once_in_order_and_the_close_last() {
    for space in 0..=2 {
        loom::model(move || {
            let (sink, outbox) = outbox(space);
            let publisher = thread::spawn({
                let outbox = Arc::clone(&outbox);
                move || {
                    outbox.deliver(&[Message::text("1")]);
                    outbox.deliver(&[Message::text("2")]);
                    outbox.close(Close::RESTART, Waiting::Flush);
                }
            });
            let peer = thread::spawn({
                let sink = sink.clone();
                move || sink.open(3 - space)
            });
            assert_eq!(drive_to_the_end(&outbox), Progress::Closed(Close::RESTART));
            publisher.join().unwrap();
            peer.join().unwrap();
            assert_eq!(sink.taken(), [Message::text("1"), Message::text("2"), Message::close(&Close::RESTART)]);
        });
    }
}

#[test]
fn a_queued_welcome_stays_before_what_is_delivered() {
    loom::model(|| {
        let (sink, outbox) = outbox(0);
        outbox.queue(&"post:1".parse().unwrap(), &Message::text("welcome"), std::iter::empty());
        let publisher = thread::spawn({
            let outbox = Arc::clone(&outbox);
            move || {
                outbox.deliver(&[Message::text("1")]);
                outbox.close(Close::RESTART, Waiting::Flush);
            }
        });
        let peer = thread::spawn({
            let sink = sink.clone();
            move || {
                sink.open(1);
                sink.open(2);
            }
        });
        assert_eq!(drive_to_the_end(&outbox), Progress::Closed(Close::RESTART));
        publisher.join().unwrap();
        peer.join().unwrap();
        assert_eq!(sink.taken(), [Message::text("welcome"), Message::text("1"), Message::close(&Close::RESTART)]);
    });
}

#[test]
fn of_two_closes_one_counts_and_nothing_comes_after_it() {
    loom::model(|| {
        let (sink, outbox) = outbox(0);
        let first = thread::spawn({
            let outbox = Arc::clone(&outbox);
            move || {
                outbox.deliver(&[Message::text("1")]);
                outbox.close(Close::RESTART, Waiting::Flush);
                outbox.deliver(&[Message::text("late")]);
            }
        });
        let second = thread::spawn({
            let (outbox, sink) = (Arc::clone(&outbox), sink.clone());
            move || {
                sink.open(3);
                outbox.close(Close::INTERNAL, Waiting::Drop);
            }
        });
        let Progress::Closed(close) = drive_to_the_end(&outbox) else { panic!("not closed") };
        first.join().unwrap();
        second.join().unwrap();
        let taken = sink.taken();
        assert_eq!(taken.last(), Some(&Message::close(&close)));
        let before = &taken[..taken.len() - 1];
        assert!(before == [Message::text("1")] || (before.is_empty() && close == Close::INTERNAL), "{before:?}");
    });
}
