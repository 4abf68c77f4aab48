//! The revocations of a node, shared by all who let somebody in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use super::{
    Ending, RevokeError, Revoked, millis,
    set::{Merged, Revocations},
};
use crate::{
    auth::{Identity, WallClock},
    limits::LONGEST_REVOCATION,
    lock::{Mutex, lock},
    rate_limited_log::RateLimitedLog,
};

#[derive(Debug)]
pub(crate) struct RevocationList {
    set: Mutex<Revocations>,
    /// Looked at first, as most nodes have none most of the time.
    any: AtomicBool,
    /// `Limits::max_revocations`.
    most: usize,
    clock: Arc<dyn WallClock>,
    full: RateLimitedLog,
}

/// What another node told.
#[derive(Debug)]
pub(crate) struct Learned {
    /// What was not revoked here before.
    pub(crate) new: Vec<Revoked>,
    /// Whether it told anything that was not known.
    pub(crate) changed: bool,
}

impl RevocationList {
    pub(crate) fn new(most: usize, clock: Arc<dyn WallClock>) -> Self {
        Self { set: Mutex::default(), any: AtomicBool::new(false), most, clock, full: RateLimitedLog::default() }
    }

    /// The time of day, in milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        millis(self.clock.now())
    }

    /// Revokes something until a time; returns it as it is to be told to the other nodes.
    pub(crate) fn revoke(&self, revoked: Revoked, end: SystemTime) -> Result<Ending, RevokeError> {
        let now = self.clock.now();
        if end.duration_since(now).is_ok_and(|ahead| ahead > LONGEST_REVOCATION) {
            return Err(RevokeError::TooFar);
        }
        let end = millis(end);
        self.change(|set| set.add(revoked.clone(), end, self.most).then_some((revoked, end)))
            .ok_or(RevokeError::Full { limit: self.most })
    }

    /// Takes what another node tells. What ends too far ahead is left out.
    pub(crate) fn merge(&self, others: Vec<Ending>) -> Learned {
        let now = self.now();
        let farthest = now.saturating_add(LONGEST_REVOCATION.as_millis() as u64);
        let others = others.into_iter().filter(|(_, end)| *end <= farthest);
        let Merged { new, changed, dropped } = self.change(|set| set.merge(others, now, self.most));
        if dropped > 0
            && let Some(left_out) = self.full.line()
        {
            tracing::error!(
                dropped,
                limit = self.most,
                left_out,
                "the nodes together have more revocations than are allowed: those that end first are not in force any more"
            );
        }
        Learned { new, changed }
    }

    /// Whether an identity is revoked.
    pub(crate) fn cover(&self, identity: &Identity) -> bool {
        // With `SeqCst`: whoever revokes looks for connections afterwards, and whoever connects looks here afterwards, so one
        // of the two sees the other.
        self.any.load(Ordering::SeqCst) && self.change(|set| set.cover(identity))
    }

    /// What it has as one number, which is the same where another node has the same.
    pub(crate) fn digest(&self) -> u64 {
        if self.any.load(Ordering::SeqCst) { self.change(|set| set.digest()) } else { 0 }
    }

    pub(crate) fn all(&self) -> Vec<Ending> {
        self.change(|set| set.all().collect())
    }

    pub(crate) fn count(&self) -> usize {
        self.change(|set| set.len())
    }

    /// Without what is over.
    fn change<T>(&self, change: impl FnOnce(&mut Revocations) -> T) -> T {
        let mut set = lock(&self.set);
        set.expire(self.now());
        let result = change(&mut set);
        self.any.store(set.len() > 0, Ordering::SeqCst);
        result
    }
}
