//! All that a connection waits for: its next ping, the pong, the end of its token.

use std::time::{Duration, SystemTime};

use crate::{
    auth::{LONGEST_WAIT, WallClock, wait_until},
    close::Close,
    connection::{Connection, Notice},
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
    pub(super) notice: Notice,
    /// When rules are to be asked again.
    pub(super) ask_at: Option<Moment>,
    pub(super) clock: &'a dyn WallClock,
}

impl<'a> Terms<'a> {
    pub(super) fn of(shared: &'a Shared, connection: &Connection) -> Self {
        let expires_at = connection.identity().expires_at();
        let (notice, ask_at) = (connection.notice(), connection.next_ask());
        Terms { limits: &shared.limits, expires_at, notice, ask_at, clock: &*shared.clock }
    }
}

/// What it is time for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Ping,
    /// The token ends that soon, which the client is to be told.
    Expiring(Duration),
    /// The rules of some rooms are to be asked again.
    AskAgain,
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
        let mut expiry = None;
        if let Some(end) = terms.expires_at {
            let clock = terms.clock.now();
            let Some(mut wait) = wait_until(end, clock) else { return Ok(Beat::Over(Close::TOKEN_EXPIRED)) };
            if let Notice::Before(notice) = terms.notice {
                let left = end.duration_since(clock).unwrap_or_default();
                if left <= notice {
                    return Ok(Beat::Expiring(left));
                }
                wait = (left - notice).min(LONGEST_WAIT);
            }
            expiry = Some(now.after(wait));
        }
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
        if terms.ask_at.is_some_and(|at| at <= now) {
            return Ok(Beat::AskAgain);
        }
        Err([self.pong_by, expiry, terms.ask_at].into_iter().flatten().fold(self.ping_at, Moment::min))
    }
}
