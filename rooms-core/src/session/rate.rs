//! How fast a connection is read.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{limits::Limits, timers::Moment};

/// A token bucket (the "generic cell rate algorithm"): the time at which the bucket would be full again.
///
/// A connection whose bucket is empty is not read until it may send one message more; what it sends meanwhile waits in
/// its socket, and TCP holds it back. It is not closed for that: where this process stood still for some seconds, all
/// that a well-behaved client sent meanwhile is there at once. Only a client that goes on for longer is closed.
#[derive(Debug)]
pub(super) struct Rate {
    full_at: Moment,
    /// Boxed, because few connections ever send more than they may.
    overload: Option<Box<Overload>>,
}

/// Of a connection that sends faster than it is read.
#[derive(Debug)]
struct Overload {
    open_at: Moment,
    open: Pin<Box<Sleep>>,
    /// Messages that were there already when they might be read, one after another. A number and no time, because time
    /// in which this process stood still is not the client's.
    messages: u32,
}

/// The client went on sending more than it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Rate {
    pub(super) const fn new() -> Self {
        Self { full_at: Moment::START, overload: None }
    }

    /// Whether the next message may be read; where not, the task is woken when it may.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>, now: Moment, limits: &Limits) -> Poll<()> {
        // It would take one more.
        let open_at = self.full_at.before(every(limits) * (limits.message_burst - 1));
        if open_at <= now {
            return Poll::Ready(());
        }
        let wake_at = Instant::now() + open_at.since(now);
        let overload = self
            .overload
            .get_or_insert_with(|| Box::new(Overload { open_at, open: Box::pin(sleep_until(wake_at)), messages: 0 }));
        if overload.open_at != open_at {
            overload.open_at = open_at;
            overload.open.as_mut().reset(wake_at);
        }
        overload.open.as_mut().poll(cx)
    }

    /// Whether it is a moment at which nothing is read.
    pub(super) fn is_paused(&self) -> bool {
        self.overload.as_ref().is_some_and(|overload| !overload.open.is_elapsed())
    }

    /// Counts a message that was read.
    pub(super) fn took(&mut self, now: Moment, limits: &Limits) -> Result<(), TooMany> {
        let every = every(limits);
        self.full_at = self.full_at.max(now).after(every);
        let Some(overload) = &mut self.overload else { return Ok(()) };
        overload.messages = overload.messages.saturating_add(1);
        if every.saturating_mul(overload.messages) > limits.overload_timeout { Err(TooMany) } else { Ok(()) }
    }

    /// Notes that there was nothing to read: the client keeps to its rate again.
    pub(super) fn found_nothing(&mut self) {
        self.overload = None;
    }
}

fn every(limits: &Limits) -> Duration {
    Duration::from_secs(1) / limits.messages_per_second
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::timers::Timers;

    /// Messages that are read at once, of as many as there may be.
    fn read(rate: &mut Rate, now: Moment, limits: &Limits) -> usize {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        std::iter::from_fn(|| rate.poll_open(&mut cx, now, limits).is_ready().then(|| rate.took(now, limits)))
            .take(400)
            .take_while(Result::is_ok)
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_the_rate() {
        let (mut rate, limits, clock) = (Rate::new(), Limits::default(), Timers::new());
        assert_eq!(read(&mut rate, clock.now(), &limits), 200);
        tokio::time::advance(Duration::from_millis(101)).await;
        assert_eq!(read(&mut rate, clock.now(), &limits), 5);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(read(&mut rate, clock.now(), &limits), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_is_what_waited_for_so_long_without_a_pause() {
        let (mut rate, limits, clock) = (Rate::new(), Limits::default(), Timers::new());
        let start = Instant::now();
        for round in 0..2 {
            // Half a minute at the rate, and the burst before it.
            for _ in 0..1_700 {
                poll_fn(|cx| rate.poll_open(cx, clock.now(), &limits)).await;
                assert_eq!(rate.took(clock.now(), &limits), Ok(()));
            }
            poll_fn(|cx| rate.poll_open(cx, clock.now(), &limits)).await;
            if round == 0 {
                rate.found_nothing();
                tokio::time::advance(Duration::from_secs(10)).await;
            }
        }
        assert_eq!(rate.took(clock.now(), &limits), Err(TooMany));
        assert_eq!(start.elapsed().as_secs(), 30 + 10 + 30);
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Rate>(), 16, "every connection has one");
    }
}
