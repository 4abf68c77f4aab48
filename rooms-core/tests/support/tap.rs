//! A sink into a channel that takes messages while its tap is open.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures::{Sink, channel::mpsc};
use rooms_core::Message;

#[derive(Default)]
struct State {
    shut: bool,
    /// Messages that it takes though it is shut.
    free: usize,
    /// Of each sink that waits: the one of a connection that has ended may do so beside that of the next.
    wakers: Vec<Waker>,
}

/// The hand at the tap; open at first.
#[derive(Clone, Default)]
pub(crate) struct Tap(Arc<Mutex<State>>);

pub(crate) struct TapSink {
    tap: Tap,
    to: mpsc::UnboundedSender<Message>,
}

impl Tap {
    pub(crate) fn sink(&self, to: mpsc::UnboundedSender<Message>) -> TapSink {
        TapSink { tap: self.clone(), to }
    }

    /// Shuts it, but for so many messages.
    pub(crate) fn shut(&self, but: usize) {
        self.set(true, but);
    }

    pub(crate) fn open(&self) {
        self.set(false, 0);
    }

    fn set(&self, shut: bool, free: usize) {
        let mut state = self.0.lock().unwrap();
        (state.shut, state.free) = (shut, free);
        state.wakers.drain(..).for_each(Waker::wake);
    }
}

impl Sink<Message> for TapSink {
    type Error = mpsc::SendError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let mut state = self.tap.0.lock().unwrap();
        if state.shut && state.free == 0 {
            if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.wakers.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        let mut state = self.tap.0.lock().unwrap();
        state.free = state.free.saturating_sub(1);
        self.to.unbounded_send(message).map_err(mpsc::TrySendError::into_send_error)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}
