//! One timer for all that a connection waits for: its next ping, the pong, the end of its token.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    auth::{WallClock, wait_until},
    close::Close,
    limits::Limits,
};

pub(super) struct Heartbeat {
    timer: Pin<Box<Sleep>>,
    ping_every: Duration,
    pong_within: Duration,
    ping_at: Instant,
    pong_by: Option<Instant>,
    expires_at: Option<SystemTime>,
    /// When the wall clock is looked at again.
    look_at: Option<Instant>,
    clock: Arc<dyn WallClock>,
}

/// What it is time for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Ping,
    Over(Close),
}

impl Heartbeat {
    pub(super) fn new(limits: &Limits, expires_at: Option<SystemTime>, clock: Arc<dyn WallClock>) -> Self {
        let now = Instant::now();
        Self {
            timer: Box::pin(sleep_until(now)),
            ping_every: limits.ping_every,
            pong_within: limits.pong_within,
            ping_at: now + limits.ping_every,
            pong_by: None,
            expires_at,
            look_at: expires_at.map(|_| now),
            clock,
        }
    }

    /// The client sent something, so it lives.
    pub(super) fn heard(mut self: Pin<&mut Self>) {
        self.pong_by = None;
    }

    /// `reading` is whether the connection reads now: while it does not, a pong can't be seen and its time does not run.
    pub(super) fn poll_beat(mut self: Pin<&mut Self>, cx: &mut Context<'_>, reading: bool) -> Poll<Beat> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if let Some(beat) = self.due(now, reading) {
                // The timer stays expired, and is looked at again with the next poll.
                return Poll::Ready(beat);
            }
            let next = [self.pong_by, self.look_at].into_iter().flatten().fold(self.ping_at, Instant::min);
            self.timer.as_mut().reset(next);
        }
    }

    fn due(&mut self, now: Instant, reading: bool) -> Option<Beat> {
        if let (Some(end), true) = (self.expires_at, self.look_at.is_some_and(|at| at <= now)) {
            match wait_until(end, self.clock.now()) {
                Some(wait) => self.look_at = Some(now + wait),
                None => return Some(Beat::Over(Close::TOKEN_EXPIRED)),
            }
        }
        match self.pong_by {
            Some(by) if by <= now && reading => return Some(Beat::Over(Close::NO_PONG)),
            Some(by) if by <= now => self.pong_by = Some(now + self.pong_within),
            _ => {}
        }
        if self.ping_at <= now {
            self.ping_at = now + self.ping_every;
            self.pong_by.get_or_insert(now + self.pong_within);
            return Some(Beat::Ping);
        }
        None
    }
}
