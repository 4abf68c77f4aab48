//! Hooks that run in tasks of their own, about what is over: a member that left, a room that is empty.
//!
//! They are counted, so that a shutdown can wait for them: what they clean up is often the application's own presence.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::watch};

/// How many are running.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    running: watch::Sender<usize>,
}

impl Hooks {
    pub(crate) fn spawn(self: &Arc<Self>, runtime: &Handle, hook: impl Future<Output = ()> + Send + 'static) {
        self.running.send_modify(|running| *running += 1);
        let running = Running(Arc::clone(self));
        runtime.spawn(async move {
            hook.await;
            drop(running);
        });
    }

    /// Resolves when none is running.
    pub(crate) async fn over(&self) {
        // The sender is here, so there is an end to wait for.
        _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }
}

struct Running(Arc<Hooks>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn they_are_over_when_all_have_run_or_were_dropped() {
        let hooks = Arc::new(Hooks::default());
        assert!(hooks.over().now_or_never().is_some());
        let (let_it, waits) = tokio::sync::oneshot::channel();
        hooks.spawn(&Handle::current(), async { _ = waits.await });
        hooks.spawn(&Handle::current(), async { panic!("a task that is dropped") });
        assert!(hooks.over().now_or_never().is_none());
        _ = let_it.send(());
        hooks.over().await;
    }
}
