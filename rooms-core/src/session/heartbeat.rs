//! One timer for all that a connection waits for: its next ping, the pong, the end of its token.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    auth::{Identity, WallClock, wait_until},
    close::Close,
    context::Shared,
    limits::Limits,
};

/// What differs from moment to moment; the rest is in [`Terms`], which no connection keeps for itself.
pub(super) struct Heartbeat {
    timer: Pin<Box<Sleep>>,
    ping_at: Instant,
    pong_by: Option<Instant>,
}

/// How often to ping, and until when the connection's token is good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) limits: &'a Limits,
    pub(super) expires_at: Option<SystemTime>,
    pub(super) clock: &'a dyn WallClock,
}

impl<'a> Terms<'a> {
    pub(super) fn of(shared: &'a Shared, identity: &Identity) -> Self {
        Terms { limits: &shared.limits, expires_at: identity.expires_at(), clock: &*shared.clock }
    }

    /// Whether the token has ended.
    pub(super) fn are_over(self) -> bool {
        self.expires_at.is_some_and(|end| wait_until(end, self.clock.now()).is_none())
    }
}

/// What it is time for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Ping,
    Over(Close),
}

/// Whether the time for a pong runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PongTime {
    Runs,
    /// The pong may be there, and can't be seen.
    Stands,
}

impl Heartbeat {
    pub(super) fn new(limits: &Limits) -> Self {
        let now = Instant::now();
        Self { timer: Box::pin(sleep_until(now)), ping_at: now + limits.ping_interval, pong_by: None }
    }

    /// The client sent something, so it lives.
    pub(super) fn heard(&mut self) {
        self.pong_by = None;
    }

    pub(super) fn poll_beat(&mut self, cx: &mut Context<'_>, terms: Terms<'_>, pong: PongTime) -> Poll<Beat> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            match self.due(Instant::now(), terms, pong) {
                // The timer stays expired, and is looked at again with the next poll.
                Ok(beat) => return Poll::Ready(beat),
                Err(next) => self.timer.as_mut().reset(next),
            }
        }
    }

    /// What it is time for, or when it will be time for something.
    fn due(&mut self, now: Instant, terms: Terms<'_>, pong: PongTime) -> Result<Beat, Instant> {
        let left = terms.expires_at.map(|end| wait_until(end, terms.clock.now()));
        let expiry = match left {
            Some(None) => return Ok(Beat::Over(Close::TOKEN_EXPIRED)),
            Some(Some(wait)) => Some(now + wait),
            None => None,
        };
        match self.pong_by {
            Some(by) if by <= now && pong == PongTime::Runs => return Ok(Beat::Over(Close::NO_PONG)),
            Some(by) if by <= now => self.pong_by = Some(now + terms.limits.pong_timeout),
            _ => {}
        }
        if self.ping_at <= now {
            self.ping_at = now + terms.limits.ping_interval;
            self.pong_by.get_or_insert(now + terms.limits.pong_timeout);
            return Ok(Beat::Ping);
        }
        Err([self.pong_by, expiry].into_iter().flatten().fold(self.ping_at, Instant::min))
    }
}
