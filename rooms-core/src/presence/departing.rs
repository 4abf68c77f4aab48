//! Members that left and are still counted: a page that reloads is back before anybody is told.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{entry::Name, known_users::Named};

/// Departing members of one room. More who leave within the grace are gone at once: then it was no reload of pages that made them.
const MOST: usize = 1024;

/// All are kept for the same time, so they end in the order in which they left.
#[derive(Debug, Default)]
pub(super) struct Departing(VecDeque<DepartingMember>);

#[derive(Debug)]
struct DepartingMember {
    until: Instant,
    user: Name,
    named: Named,
}

impl Departing {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps one that left; `false` where it is gone at once.
    pub(super) fn keep(&mut self, user: &Name, named: Named, now: Instant, grace: Duration) -> bool {
        let kept = !grace.is_zero() && self.0.len() < MOST;
        if kept {
            self.0.push_back(DepartingMember { until: now + grace, user: user.clone(), named });
        }
        kept
    }

    /// Takes out a departing member of a user who is back.
    pub(super) fn back(&mut self, user: &Name) -> Option<Named> {
        let at = self.0.iter().position(|member| member.user == *user)?;
        let member = self.0.remove(at);
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
        member.map(|member| member.named)
    }

    /// Ends the time of all.
    pub(super) fn end(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|member| member.until = now);
    }

    /// Takes out one whose time is over.
    pub(super) fn over(&mut self, now: Instant) -> Option<(Name, Named)> {
        self.0.front().filter(|member| member.until <= now)?;
        self.0.pop_front().map(|member| (member.user, member.named))
    }
}
