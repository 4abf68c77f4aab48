//! How fast a connection is read.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{limits::Limits, timers::Moment};

/// The seconds of `bytes_per_second` and of `joins_per_second` that may come at once. 4: of the default, 1 MiB and 160 joins.
const AT_ONCE: Duration = Duration::from_secs(4);

/// What has to be in the bucket of bytes and joins before the next message is read. 20 ms: a client that empties it is read
/// some fifty times a second then, and not for each few bytes.
const LEAST: Duration = Duration::from_millis(20);

/// Two token buckets (the "generic cell rate algorithm"): the times at which they would be full again. One is for messages,
/// and one for their bytes and for joins, which both take time of it. So a connection keeps eight bytes for each, and what is
/// allowed of the one does not depend on what is allowed of the other.
///
/// A connection whose bucket is empty is not read until it may send one message more; what it sends meanwhile waits in
/// its socket, and TCP holds it back. It is not closed for that: where this process stood still for some seconds, all
/// that a well-behaved client sent meanwhile is there at once. Only a client that goes on for longer is closed.
#[derive(Debug)]
pub(super) struct Rate {
    /// For messages.
    full_at: Moment,
    /// For bytes and joins.
    bytes_full_at: Moment,
    /// Boxed, because few connections ever send more than they may.
    overload: Option<Box<Overload>>,
}

/// Of a connection that sent faster than it is read, until its bucket is full again.
#[derive(Debug)]
struct Overload {
    open_at: Moment,
    open: Pin<Box<Sleep>>,
    /// The time that those messages take which were there already when they might be read, one after another. Not the time
    /// that went by, because time in which this process stood still is not the client's.
    /// `None` where it keeps to its rate again.
    waited: Option<Duration>,
    told: bool,
}

/// The client went on sending more than it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Rate {
    pub(super) const fn new() -> Self {
        Self { full_at: Moment::START, bytes_full_at: Moment::START, overload: None }
    }

    /// Whether the next message may be read; where not, the task is woken when it may.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>, now: Moment, limits: &Limits) -> Poll<()> {
        // It would take one more.
        let for_one_more = self.full_at.before(a_message(limits) * (limits.message_burst - 1));
        let open_at = for_one_more.max(self.bytes_full_at.before(AT_ONCE - LEAST));
        if open_at <= now {
            return Poll::Ready(());
        }
        let wake_at = Instant::now() + open_at.since(now);
        let overload = self.overload.get_or_insert_with(|| {
            let open = Box::pin(sleep_until(wake_at));
            Box::new(Overload { open_at, open, waited: None, told: false })
        });
        overload.waited.get_or_insert_default();
        if overload.open_at != open_at {
            overload.open_at = open_at;
            overload.open.as_mut().reset(wake_at);
        }
        overload.open.as_mut().poll(cx)
    }

    /// Where the client was not told yet that it sends too much: for how long it is not read now.
    pub(super) fn untold(&mut self, now: Moment) -> Option<Duration> {
        let overload = self.overload.as_mut()?;
        (!std::mem::replace(&mut overload.told, true)).then(|| overload.open_at.since(now))
    }

    /// Whether it is a moment at which nothing is read.
    pub(super) fn is_paused(&self) -> bool {
        self.overload.as_ref().is_some_and(|overload| !overload.open.is_elapsed())
    }

    /// Counts a message that was so many bytes on the socket.
    pub(super) fn took_message(&mut self, now: Moment, bytes: u32, limits: &Limits) -> Result<(), TooMany> {
        let (message, bytes) = (a_message(limits), of_bytes(bytes, limits));
        self.full_at = self.full_at.max(now).after(message);
        self.bytes_full_at = self.bytes_full_at.max(now).after(bytes);
        self.waits(message.max(bytes), limits)
    }

    /// Counts what a join or a leave takes besides its message, which was so many bytes.
    pub(super) fn took_join(&mut self, now: Moment, bytes: u32, limits: &Limits) -> Result<(), TooMany> {
        let join = a_join(limits);
        self.bytes_full_at = self.bytes_full_at.max(now).after(join.saturating_sub(of_bytes(bytes, limits)));
        self.waits(join.saturating_sub(a_message(limits)), limits)
    }

    /// Counts a command that is refused because there are too many like it. Ten messages: who goes on at the rate of its
    /// connection alone is read more slowly then, and at last closed. And a join, which costs something where messages are
    /// not counted, too.
    pub(super) fn took_refused(&mut self, now: Moment, limits: &Limits) -> Result<(), TooMany> {
        let (messages, join) = (10 * a_message(limits), a_join(limits));
        self.full_at = self.full_at.max(now).after(messages);
        self.bytes_full_at = self.bytes_full_at.max(now).after(join);
        self.waits(messages.max(join), limits)
    }

    fn waits(&mut self, time: Duration, limits: &Limits) -> Result<(), TooMany> {
        let Some(waited) = self.overload.as_mut().and_then(|overload| overload.waited.as_mut()) else { return Ok(()) };
        *waited = waited.saturating_add(time);
        if *waited > limits.overload_timeout { Err(TooMany) } else { Ok(()) }
    }

    /// Notes that there was nothing to read: the client keeps to its rate again.
    pub(super) fn found_nothing(&mut self, now: Moment, limits: &Limits) {
        // Full again, but for what was just read.
        if self.full_at.before(a_message(limits)).max(self.bytes_full_at.before(LEAST)) <= now {
            self.overload = None;
        } else if let Some(overload) = &mut self.overload {
            overload.waited = None;
        }
    }
}

/// The time that bytes take by themselves.
pub(super) fn of_bytes(bytes: u32, limits: &Limits) -> Duration {
    Duration::from_nanos(u64::from(bytes) * 1_000_000_000 / u64::from(limits.bytes_per_second))
}

/// Nothing where `joins_per_second` is switched off.
fn a_join(limits: &Limits) -> Duration {
    Duration::from_secs(1) / limits.joins_per_second
}

/// Nothing where `messages_per_second` is switched off.
fn a_message(limits: &Limits) -> Duration {
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
        std::iter::from_fn(|| {
            let open = rate.poll_open(&mut cx, now, limits).is_ready();
            open.then(|| rate.took_message(now, 0, limits))
        })
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
                assert_eq!(rate.took_message(clock.now(), 0, &limits), Ok(()));
            }
            poll_fn(|cx| rate.poll_open(cx, clock.now(), &limits)).await;
            if round == 0 {
                rate.found_nothing(clock.now(), &limits);
                tokio::time::advance(Duration::from_secs(10)).await;
            }
        }
        assert_eq!(rate.took_message(clock.now(), 0, &limits), Err(TooMany));
        assert_eq!(start.elapsed().as_secs(), 30 + 10 + 30);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_take_time_too_and_the_client_is_told_once() {
        let (mut rate, limits, clock) = (Rate::new(), Limits::default(), Timers::new());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // 1 MiB in sixteen messages.
        for _ in 0..16 {
            assert!(rate.poll_open(&mut cx, clock.now(), &limits).is_ready());
            assert_eq!(rate.untold(clock.now()), None);
            assert_eq!(rate.took_message(clock.now(), 64 * 1024, &limits), Ok(()));
        }
        assert!(rate.poll_open(&mut cx, clock.now(), &limits).is_pending());
        assert_eq!(rate.untold(clock.now()), Some(Duration::from_millis(20)));
        assert_eq!(rate.untold(clock.now()), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        rate.found_nothing(clock.now(), &limits);
        assert_eq!(rate.untold(clock.now()), None, "its bucket is not full yet");
        tokio::time::advance(Duration::from_secs(3)).await;
        rate.found_nothing(clock.now(), &limits);
        assert!(rate.overload.is_none(), "nothing is left of it");
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Rate>(), 24, "every connection has one");
    }
}
