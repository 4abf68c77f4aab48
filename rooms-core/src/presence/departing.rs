//! Members that left and are still counted: a page that reloads is back before anybody is told.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{entry::Name, known_users::Named};

/// Departing members of one room. More who leave within the grace are gone at once: then it was no reload of pages that made them.
const MOST: usize = 1024;

#[derive(Debug)]
pub(super) struct Departing {
    grace: Duration,
    /// All are kept for the same time, so they end in the order in which they left. Boxed while there are any: a node has
    /// many rooms.
    #[expect(clippy::box_collection, reason = "a quarter of the size where nobody is departing")]
    members: Option<Box<VecDeque<DepartingMember>>>,
}

#[derive(Debug)]
struct DepartingMember {
    until: Instant,
    user: Name,
    named: Named,
}

impl Departing {
    pub(super) const fn new(grace: Duration) -> Self {
        Self { grace, members: None }
    }

    pub(super) fn len(&self) -> usize {
        self.members.as_ref().map_or(0, |members| members.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_none()
    }

    /// Keeps one that left; `false` where it is gone at once.
    pub(super) fn keep(&mut self, user: &Name, named: Named, now: Instant) -> bool {
        let kept = !self.grace.is_zero() && self.len() < MOST;
        if kept {
            let member = DepartingMember { until: now + self.grace, user: user.clone(), named };
            self.members.get_or_insert_default().push_back(member);
        }
        kept
    }

    /// Takes out a departing member of a user who is back.
    pub(super) fn back(&mut self, user: &Name) -> Option<Named> {
        let members = self.members.as_mut()?;
        let at = members.iter().position(|member| member.user == *user)?;
        let member = members.remove(at);
        self.members.take_if(|members| members.is_empty());
        member.map(|member| member.named)
    }

    /// Ends the time of all.
    pub(super) fn end(&mut self, now: Instant) {
        self.members.iter_mut().flat_map(|members| members.iter_mut()).for_each(|member| member.until = now);
    }

    /// Takes out one whose time is over.
    pub(super) fn over(&mut self, now: Instant) -> Option<(Name, Named)> {
        let members = self.members.as_mut()?;
        let member = members.front().is_some_and(|member| member.until <= now).then(|| members.pop_front())??;
        self.members.take_if(|members| members.is_empty());
        Some((member.user, member.named))
    }
}
