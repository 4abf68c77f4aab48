//! The revocations that are in force, as a value: no lock, no clock, no channel; time is an argument.
//!
//! Nodes tell each other what they have, in any order, more than once, and from several sides. So sets merge: of each
//! revocation the latest end counts, and where there are more than may be kept, those that end last are. Both are the same in
//! whatever order and however often the sets come, so nodes that have heard the same have the same, and the same digest.

use std::{collections::BTreeMap, ops::Bound};

use serde_json::{Number, Value};
use sha2::{Digest as _, Sha256};

use super::{Ending, Revoked};
use crate::auth::Identity;

#[derive(Debug, Clone, Default)]
pub(super) struct Revocations {
    ends: BTreeMap<Revoked, u64>,
    /// Of all that are in it, combined by exclusive or.
    digest: u64,
    /// None ends before this.
    soonest: u64,
}

/// What another set brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// What was not revoked before.
    pub(super) new: Vec<Revoked>,
    /// An end that is later than was known, or something new.
    pub(super) changed: bool,
    /// So many found no place.
    pub(super) dropped: usize,
}

impl Revocations {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// 0 for none.
    pub(super) const fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Ending> + '_ {
        self.ends.iter().map(|(revoked, end)| (revoked.clone(), *end))
    }

    /// Adds one; `false` where there are as many as are allowed.
    pub(super) fn add(&mut self, revoked: Revoked, end: u64, most: usize) -> bool {
        let fits = self.ends.contains_key(&revoked) || self.ends.len() < most;
        if fits {
            self.put(revoked, end);
        }
        fits
    }

    /// Takes what another node has, but for what is over.
    pub(super) fn merge(&mut self, others: impl IntoIterator<Item = Ending>, now: u64, most: usize) -> Merged {
        let mut merged = Merged::default();
        for (revoked, end) in others.into_iter().filter(|(_, end)| *end > now) {
            let before = self.put(revoked.clone(), end);
            merged.changed |= before.is_none_or(|before| before < end);
            if before.is_none() {
                merged.new.push(revoked);
            }
        }
        merged.dropped = self.ends.len().saturating_sub(most);
        if merged.dropped > 0 {
            let mut soonest: Vec<Ending> = self.all().collect();
            soonest.sort_unstable_by(|(a, a_end), (b, b_end)| (a_end, a).cmp(&(b_end, b)));
            for (revoked, _) in soonest.into_iter().take(merged.dropped) {
                self.remove(&revoked);
            }
            merged.new.retain(|revoked| self.ends.contains_key(revoked));
        }
        merged
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: u64) {
        if now < self.soonest || self.ends.is_empty() {
            return;
        }
        let over: Vec<_> = self.all().filter(|(_, end)| *end <= now).collect();
        for (revoked, _) in over {
            self.remove(&revoked);
        }
        self.soonest = self.ends.values().copied().min().unwrap_or_default();
    }

    /// Whether an identity is revoked.
    pub(super) fn cover(&self, identity: &Identity) -> bool {
        let user = identity.user();
        if self.ends.contains_key(&Revoked::User(user.into())) {
            return true;
        }
        // The claims are read only where something depends on them.
        let issued_before = |user: Option<Box<str>>| {
            let earliest = self.first_from(Bound::Included(Revoked::Before(user.clone(), 0)));
            if !earliest.is_some_and(|first| is_before(first, user.as_deref())) {
                return false;
            }
            let Some(issued) = issued_at(identity) else { return true };
            let later = self.first_from(Bound::Excluded(Revoked::Before(user.clone(), issued)));
            later.is_some_and(|later| is_before(later, user.as_deref()))
        };
        issued_before(None) || issued_before(Some(user.into())) || self.covers_token(identity)
    }

    fn covers_token(&self, identity: &Identity) -> bool {
        let first = self.first_from(Bound::Included(Revoked::Jti(Box::default())));
        if !matches!(first, Some(Revoked::Jti(_))) {
            return false;
        }
        let jti = match identity.claim::<Value>("jti") {
            Ok(Some(Value::String(jti))) => jti,
            Ok(Some(Value::Number(jti))) => jti.to_string(),
            _ => return false,
        };
        self.ends.contains_key(&Revoked::Jti(jti.into()))
    }

    fn first_from(&self, from: Bound<Revoked>) -> Option<&Revoked> {
        self.ends.range((from, Bound::Unbounded)).next().map(|(revoked, _)| revoked)
    }

    /// Puts one in, or its end later; returns its end before.
    fn put(&mut self, revoked: Revoked, end: u64) -> Option<u64> {
        let before = self.ends.get(&revoked).copied();
        if before.is_some_and(|before| before >= end) {
            return before;
        }
        self.digest ^= before.map_or(0, |before| digest(&revoked, before)) ^ digest(&revoked, end);
        self.soonest = if self.ends.is_empty() { end } else { self.soonest.min(end) };
        self.ends.insert(revoked, end);
        before
    }

    fn remove(&mut self, revoked: &Revoked) {
        if let Some(end) = self.ends.remove(revoked) {
            self.digest ^= digest(revoked, end);
        }
    }
}

/// Whether it is about what was issued before some time, of this user or of all.
fn is_before(revoked: &Revoked, user: Option<&str>) -> bool {
    matches!(revoked, Revoked::Before(of, _) if of.as_deref() == user)
}

/// `iat`, in milliseconds. What is no time is none.
fn issued_at(identity: &Identity) -> Option<u64> {
    let seconds = identity.claim::<Number>("iat").ok()??;
    let whole = seconds.as_u64().map(|seconds| seconds.saturating_mul(1000));
    whole.or_else(|| seconds.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| (seconds * 1000.0) as u64))
}

/// One revocation as a number, the same on every node: the first bytes of a SHA-256, so that nobody can make up two that
/// cancel each other.
fn digest(revoked: &Revoked, end: u64) -> u64 {
    // A tuple of strings and numbers always encodes.
    let text = serde_json::to_vec(&(revoked, end)).unwrap_or_default();
    Sha256::digest(text).iter().take(8).fold(0, |digest, byte| (digest << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests;
