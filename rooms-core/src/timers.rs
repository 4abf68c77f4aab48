//! One timer for all connections: it wakes each one's task at the time that the task asked for.
//!
//! A timer of tokio's for each connection would take 136 bytes; a place here takes about 35. A connection that is still there
//! takes its place out with [`Timers::remove`], so nothing is left of those that have gone.

use std::{
    cmp,
    collections::BTreeSet,
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
    places: BTreeSet<Place>,
    /// What the task sleeps until; `None` where there is no task.
    asleep: Option<Moment>,
}

/// A recipient has one place at most.
struct Place {
    at: Moment,
    recipient: Arc<Recipient>,
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
        let place = |at| Place { at, recipient: Arc::clone(recipient) };
        let asleep = {
            let mut state = lock(&self.state);
            state.places.remove(&place(before));
            if self.have_ended() {
                drop(state);
                return recipient.wake();
            }
            state.places.insert(place(at));
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
        lock(&self.state).places.remove(&Place { at, recipient: Arc::clone(recipient) });
    }

    /// Takes out those whose time has come, and says until when to sleep; `None` where nobody is left.
    fn due(&self) -> (Vec<Arc<Recipient>>, Option<Instant>) {
        let now = self.now();
        let mut state = lock(&self.state);
        let mut due = Vec::new();
        while state.places.first().is_some_and(|place| place.at <= now) {
            due.extend(state.places.pop_first().map(|place| place.recipient));
        }
        state.asleep = state.places.first().map(|place| place.at);
        (due, state.asleep.map(|until| self.start + until.since(Moment::START)))
    }
}

/// Wakes whoever's time has come, until nobody is left.
async fn run(mut running: Running) {
    while let Some(timers) = &running.0 {
        let (due, next) = timers.due();
        for recipient in due {
            recipient.wake();
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
        for place in places {
            place.recipient.wake();
        }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        (self.at, Arc::as_ptr(&self.recipient)).cmp(&(other.at, Arc::as_ptr(&other.recipient)))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == cmp::Ordering::Equal
    }
}

impl Eq for Place {}
