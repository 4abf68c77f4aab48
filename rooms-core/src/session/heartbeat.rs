//! One timer for all that a connection waits for: its next ping, the pong, the end of its token.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    auth::{WallClock, wait_until},
    close::Close,
    limits::Limits,
};

/// What differs from moment to moment; the rest is in [`Terms`], which no connection keeps for itself.
pub(super) struct Heartbeat {
    timer: Pin<Box<Sleep>>,
    ping_at: Instant,
    pong_by: Option<Instant>,
    /// When the wall clock is looked at again.
    look_at: Option<Instant>,
}

/// How often to ping, and until when the connection's token is good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) limits: &'a Limits,
    pub(super) expires_at: Option<SystemTime>,
    pub(super) clock: &'a dyn WallClock,
}

/// What it is time for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Ping,
    Over(Close),
}

impl Heartbeat {
    pub(super) fn new(terms: Terms<'_>) -> Self {
        let now = Instant::now();
        Self {
            timer: Box::pin(sleep_until(now)),
            ping_at: now + terms.limits.ping_every,
            pong_by: None,
            look_at: terms.expires_at.map(|_| now),
        }
    }

    /// The client sent something, so it lives.
    pub(super) fn heard(&mut self) {
        self.pong_by = None;
    }

    /// `reading` is whether the connection reads now: while it does not, a pong can't be seen and its time does not run.
    pub(super) fn poll_beat(&mut self, cx: &mut Context<'_>, terms: Terms<'_>, reading: bool) -> Poll<Beat> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if let Some(beat) = self.due(now, terms, reading) {
                // The timer stays expired, and is looked at again with the next poll.
                return Poll::Ready(beat);
            }
            let next = [self.pong_by, self.look_at].into_iter().flatten().fold(self.ping_at, Instant::min);
            self.timer.as_mut().reset(next);
        }
    }

    fn due(&mut self, now: Instant, terms: Terms<'_>, reading: bool) -> Option<Beat> {
        if let (Some(end), true) = (terms.expires_at, self.look_at.is_some_and(|at| at <= now)) {
            match wait_until(end, terms.clock.now()) {
                Some(wait) => self.look_at = Some(now + wait),
                None => return Some(Beat::Over(Close::TOKEN_EXPIRED)),
            }
        }
        match self.pong_by {
            Some(by) if by <= now && reading => return Some(Beat::Over(Close::NO_PONG)),
            Some(by) if by <= now => self.pong_by = Some(now + terms.limits.pong_within),
            _ => {}
        }
        if self.ping_at <= now {
            self.ping_at = now + terms.limits.ping_every;
            self.pong_by.get_or_insert(now + terms.limits.pong_within);
            return Some(Beat::Ping);
        }
        None
    }
}
