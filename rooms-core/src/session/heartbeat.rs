//! All that a connection waits for: its next ping, the pong, the end of its token.

use std::time::SystemTime;

use crate::{
    auth::{Identity, WallClock, wait_until},
    close::Close,
    context::Shared,
    limits::Limits,
    timers::Moment,
};

/// What differs from moment to moment; the rest is in [`Terms`], which no connection keeps for itself.
pub(super) struct Heartbeat {
    ping_at: Moment,
    pong_by: Option<Moment>,
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
    pub(super) fn new(now: Moment, limits: &Limits) -> Self {
        Self { ping_at: now.after(limits.ping_interval), pong_by: None }
    }

    /// The client sent something, so it lives.
    pub(super) const fn heard(&mut self) {
        self.pong_by = None;
    }

    /// What it is time for, or when it will be time for something.
    pub(super) fn due(&mut self, now: Moment, terms: Terms<'_>, pong: PongTime) -> Result<Beat, Moment> {
        let left = terms.expires_at.map(|end| wait_until(end, terms.clock.now()));
        let expiry = match left {
            Some(None) => return Ok(Beat::Over(Close::TOKEN_EXPIRED)),
            Some(Some(wait)) => Some(now.after(wait)),
            None => None,
        };
        match self.pong_by {
            Some(by) if by <= now && pong == PongTime::Runs => return Ok(Beat::Over(Close::NO_PONG)),
            Some(by) if by <= now => self.pong_by = Some(now.after(terms.limits.pong_timeout)),
            _ => {}
        }
        if self.ping_at <= now {
            self.ping_at = now.after(terms.limits.ping_interval);
            self.pong_by.get_or_insert(now.after(terms.limits.pong_timeout));
            return Ok(Beat::Ping);
        }
        Err([self.pong_by, expiry].into_iter().flatten().fold(self.ping_at, Moment::min))
    }
}
