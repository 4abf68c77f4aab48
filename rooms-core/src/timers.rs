//! One timer for all connections: it wakes each one's task at the time that the task asked for.
//!
//! A timer of tokio's takes 112 bytes, and each connection would have one; a place here takes about 18. A connection that
//! goes takes its place out with [`Timers::remove`], so nothing is left of it. Waking is all that is done here: what it is time
//! for, the task finds out by itself.

mod places;

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep_until},
};

use self::places::{Place, Places};
use crate::{
    lock::{Mutex, lock},
    outbox::Recipient,
};

/// A time as nanoseconds since the manager was built, from 1 on: a half of an `Instant`, as each connection keeps some, and
/// an `Option` of it is as small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(NonZeroU64);

impl Moment {
    pub(crate) const START: Self = Self(NonZeroU64::MIN);

    /// After 584 years it stays the same.
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// So much earlier; the start where it would lie before that.
    pub(crate) fn before(self, time: Duration) -> Self {
        NonZeroU64::new(self.0.get().saturating_sub(nanos(time))).map_or(Self::START, Self)
    }

    /// From `earlier` to this one.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) struct Timers {
    start: Instant,
    state: Mutex<State>,
    /// Told when one is earlier than what the task sleeps for.
    earlier: Notify,
    ended: AtomicBool,
}

#[derive(Default)]
struct State {
    places: Places,
    /// What the task sleeps until; `None` where there is no task.
    asleep: Option<Moment>,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), state: Mutex::default(), earlier: Notify::new(), ended: AtomicBool::new(false) }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::START.after(self.start.elapsed())
    }

    /// Whether the runtime has ended, so that nobody is woken any more. Those who waited were woken for it.
    pub(crate) fn have_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Has the recipient's task woken at a time, and no more at `before`.
    pub(crate) fn set(self: &Arc<Self>, runtime: &Handle, recipient: &Arc<Recipient>, before: Moment, at: Moment) {
        let asleep = {
            let mut state = lock(&self.state);
            state.places.remove(before, recipient);
            if self.have_ended() {
                drop(state);
                return recipient.wake();
            }
            state.places.insert(Place { at, recipient: Arc::clone(recipient) });
            let asleep = state.asleep;
            if asleep.is_none_or(|until| at < until) {
                state.asleep = Some(at);
            }
            asleep
        };
        match asleep {
            None => drop(runtime.spawn(run(Running(Some(Arc::clone(self)))))),
            Some(until) if at < until => self.earlier.notify_one(),
            Some(_) => {}
        }
    }

    pub(crate) fn remove(&self, recipient: &Arc<Recipient>, at: Moment) {
        lock(&self.state).places.remove(at, recipient);
    }

    /// Takes out those whose time has come, and says until when to sleep; `None` where nobody is left.
    fn due(&self) -> (Vec<Place>, Option<Instant>) {
        let now = self.now();
        let mut state = lock(&self.state);
        let due = state.places.take_due(now);
        state.asleep = state.places.first();
        (due, state.asleep.map(|until| self.start + until.since(Moment::START)))
    }
}

/// Wakes whoever's time has come, until nobody is left.
async fn run(mut running: Running) {
    while let Some(timers) = &running.0 {
        let (due, next) = timers.due();
        for place in due {
            place.recipient.wake();
        }
        let Some(next) = next else {
            running.0 = None;
            return;
        };
        tokio::select! {
            () = sleep_until(next) => {}
            () = timers.earlier.notified() => {}
        }
    }
}

/// The task's part, until it is done. Dropped before that, its runtime goes down.
struct Running(Option<Arc<Timers>>);

impl Drop for Running {
    fn drop(&mut self) {
        let Some(timers) = &self.0 else { return };
        let places = {
            let mut state = lock(&timers.state);
            timers.ended.store(true, Ordering::Relaxed);
            std::mem::take(&mut state.places)
        };
        for place in places.into_all() {
            place.recipient.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::task::{ArcWake, waker};

    use super::*;
    use crate::{
        auth::Identity,
        limits::Limits,
        node::ConnectionId,
        outbox::{Outbox, Transport},
    };

    #[derive(Default)]
    pub(super) struct Wakes(AtomicUsize);

    impl ArcWake for Wakes {
        fn wake_by_ref(wakes: &Arc<Self>) {
            wakes.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A recipient, and how often its task was woken.
    pub(super) fn recipient(number: u64) -> (Arc<Recipient>, Arc<Wakes>) {
        let outbox = Outbox::new(Transport::boxed(futures::sink::drain()), &Limits::default());
        let identity = Identity::new("5").unwrap();
        let recipient = Arc::new(Recipient::new(ConnectionId::for_test(number), identity, outbox));
        let wakes = Arc::new(Wakes::default());
        recipient.drive(&mut std::task::Context::from_waker(&waker(Arc::clone(&wakes))));
        (recipient, wakes)
    }

    /// Lets the task do what there is to do now.
    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_woken_at_its_time_also_where_a_later_one_is_earlier() {
        let timers = Arc::new(Timers::new());
        let start = timers.now();
        let all: Vec<_> = [30, 10, 20].map(|after| (after, recipient(after))).into();
        for (after, (recipient, _)) in &all {
            timers.set(&Handle::current(), recipient, Moment::START, start.after(Duration::from_secs(*after)));
            settle().await;
        }
        for second in 1..=40 {
            tokio::time::advance(Duration::from_secs(1)).await;
            settle().await;
            for (after, (_, wakes)) in &all {
                assert_eq!(wakes.0.load(Ordering::Relaxed), usize::from(second >= *after), "{after} at {second}");
            }
        }
        assert!(lock(&timers.state).asleep.is_none(), "the task has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_one_that_was_moved_or_has_gone() {
        let timers = Arc::new(Timers::new());
        let (recipient, wakes) = recipient(1);
        let later = |seconds| timers.now().after(Duration::from_secs(seconds));
        let (first, second) = (later(10), later(20));
        timers.set(&Handle::current(), &recipient, Moment::START, first);
        timers.set(&Handle::current(), &recipient, first, second);
        assert_eq!(lock(&timers.state).places.len(), 1);
        timers.remove(&recipient, second);
        assert_eq!(Arc::strong_count(&recipient), 1);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn where_the_runtime_ends_all_are_woken_once_to_see_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let timers = Arc::new(Timers::new());
        let ((early, wakes), (late, late_wakes)) = (recipient(1), recipient(2));
        timers.set(runtime.handle(), &early, Moment::START, timers.now().after(Duration::from_secs(60)));
        let handle = runtime.handle().clone();
        drop(runtime);
        assert!(timers.have_ended());
        timers.set(&handle, &late, Moment::START, timers.now().after(Duration::from_secs(60)));
        assert_eq!([wakes, late_wakes].map(|wakes| wakes.0.load(Ordering::Relaxed)), [1, 1]);
        assert!(lock(&timers.state).places.first().is_none());
    }

    #[test]
    fn a_moment_is_small() {
        assert_eq!(size_of::<Option<Moment>>(), 8, "every connection has some");
    }
}
