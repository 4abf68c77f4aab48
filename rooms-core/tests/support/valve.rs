//! A sink that takes as many messages as it is opened for.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures::Sink;
use rooms_core::Message;

#[derive(Default)]
struct State {
    free: usize,
    waker: Option<Waker>,
    taken: Vec<Message>,
}

/// The hand at the valve.
pub(crate) struct Valve(Arc<Mutex<State>>);

pub(crate) struct ValveSink(Arc<Mutex<State>>);

/// A sink that is shut, and its valve.
pub(crate) fn new() -> (Valve, ValveSink) {
    let state = Arc::default();
    (Valve(Arc::clone(&state)), ValveSink(state))
}

impl Valve {
    /// Lets so many messages more through.
    pub(crate) fn open(&self, more: usize) {
        let mut state = self.0.lock().unwrap();
        state.free += more;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Lets nothing more through.
    pub(crate) fn shut(&self) {
        self.0.lock().unwrap().free = 0;
    }

    pub(crate) fn taken(&self) -> Vec<Message> {
        self.0.lock().unwrap().taken.clone()
    }
}

impl Sink<Message> for ValveSink {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let mut state = self.0.lock().unwrap();
        if state.free > 0 {
            return Poll::Ready(Ok(()));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Infallible> {
        let mut state = self.0.lock().unwrap();
        state.free -= 1;
        state.taken.push(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}
