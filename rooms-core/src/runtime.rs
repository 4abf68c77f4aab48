//! The tokio runtime that a manager was built in, and whether it is still there.
//!
//! A manager spawns its tasks on demand: flushers, subscriptions, hooks. One that outlives its runtime, such as a `static`
//! that a second `#[tokio::test]` uses, would go on without any: tokio drops what is spawned on a runtime that has ended,
//! and says nothing. A broadcast would then succeed, and reach nobody.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::sleep,
};

/// It took longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLate;

/// Waits for a future for so long at most. Tokio's `timeout` for what most often is done at once: the timer is made only
/// where the future has to wait.
pub(crate) async fn in_time<F: Future>(time: Duration, future: F) -> Result<F::Output, TooLate> {
    let (mut future, mut timer) = (pin!(future), None);
    poll_fn(move |cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => timer.get_or_insert_with(|| Box::pin(sleep(time))).as_mut().poll(cx).map(|()| Err(TooLate)),
    })
    .await
}

/// A task stands guard on the runtime for as long as the manager lives. When the runtime ends it drops the task, and with
/// it the other end of a channel.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: Handle,
    guard: watch::Receiver<()>,
    /// Ends the task with the manager.
    _manager: oneshot::Sender<Infallible>,
    logged: AtomicBool,
}

/// The runtime has ended, and the manager has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuntimeEnded;

impl Runtime {
    pub(crate) fn guarded(handle: Handle) -> Self {
        let (on_guard, guard) = watch::channel(());
        let (manager, ended) = oneshot::channel();
        handle.spawn(async move {
            // An error, as nothing is ever sent.
            _ = ended.await;
            drop(on_guard);
        });
        Self { handle, guard, _manager: manager, logged: AtomicBool::new(false) }
    }

    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let ended = self.guard.has_changed().is_err();
        if ended && !self.logged.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the tokio runtime that the rooms were built in has ended: nothing is sent any more; build them in the \
                 runtime that serves them"
            );
        }
        ended
    }

    /// Waits for what the manager's tasks do, unless the runtime has ended or ends meanwhile.
    pub(crate) async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, RuntimeEnded> {
        if self.has_ended() {
            return Err(RuntimeEnded);
        }
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.ended() => Err(RuntimeEnded),
        }
    }

    async fn ended(&self) {
        let mut guard = self.guard.clone();
        while guard.changed().await.is_ok() {}
    }
}
