//! What a room shows of itself to whoever operates its node.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Room, Subscription};
use crate::{
    kind::Sort,
    lock::lock,
    outbox::Recipient,
    presence::Share,
    reports::{RoomReport, RoomSize, SubscriptionReport},
};

/// Members that are looked at under the room's lock in one go. 1,024: some microseconds.
const AT_ONCE: usize = 1024;

/// A member, as it stands in the room.
pub(crate) struct InRoom<'a> {
    pub(crate) recipient: &'a Arc<Recipient>,
    /// Messages of the log that it was not handed.
    pub(crate) lag: u64,
    pub(crate) joining: bool,
    pub(crate) behind: bool,
    pub(crate) observer: bool,
    pub(crate) server: bool,
    pub(crate) paused: bool,
}

impl Room {
    /// Notes that a message came for it, at this age of the node.
    pub(crate) fn heard(&self, uptime: Duration) {
        let second = u32::try_from(uptime.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        self.heard.store(second, Ordering::Relaxed);
    }

    /// How long ago the last message came, in seconds; `None` where none did.
    fn quiet(&self, uptime: Duration) -> Option<u64> {
        let second = u64::from(self.heard.load(Ordering::Relaxed)).checked_sub(1)?;
        Some(uptime.as_secs().saturating_sub(second))
    }

    /// Connections in it on this node, joining ones included.
    pub(crate) fn memberships(&self) -> usize {
        let state = lock(&self.state);
        state.members.len() - state.free.len()
    }

    pub(crate) fn size(&self, uptime: Duration) -> RoomSize {
        let state = lock(&self.state);
        RoomSize {
            room: self.key.clone(),
            memberships: state.members.len() - state.free.len(),
            viewers: state.share.viewers(),
            log_bytes: state.log.span().bytes,
            quiet_s: self.quiet(uptime),
        }
    }

    /// Fills in all but the members.
    pub(crate) fn describe(&self, uptime: Duration, report: &mut RoomReport) {
        let state = lock(&self.state);
        report.here = true;
        report.subscription = match state.subscription {
            Subscription::No => SubscriptionReport::None,
            Subscription::Wanted | Subscription::Asked { .. } => SubscriptionReport::Asked,
            Subscription::Confirmed { .. } => SubscriptionReport::Confirmed,
            Subscription::Live => SubscriptionReport::Live,
        };
        report.memberships = state.members.len() - state.free.len();
        report.viewers = Share::viewers(&state.share);
        report.log_head = state.log.head();
        (report.log_messages, report.log_bytes) = (state.log.span().messages, state.log.span().bytes);
        report.quiet_s = self.quiet(uptime);
        let position = state.replay.as_ref().and_then(|replay| replay.head());
        report.position = position.map(|position| position.to_string().into());
    }

    /// Looks at some members, from a slot on; returns the slot from which to go on, until all were looked at. `look` runs under
    /// the room's lock.
    pub(crate) fn look_at_members(&self, from: usize, mut look: impl FnMut(InRoom<'_>)) -> Option<usize> {
        let state = lock(&self.state);
        let head = state.log.head();
        let behind = state.replay.as_ref().map(|replay| &replay.behind);
        for (slot, member) in state.members.iter().enumerate().skip(from).take(AT_ONCE) {
            let Some(member) = member else { continue };
            look(InRoom {
                recipient: &member.recipient,
                // One that is behind or paused is past the head, and one that joins has what it was not handed in its own keeping.
                lag: if member.held().is_some() { 0 } else { head.saturating_sub(member.cursor) },
                joining: member.held().is_some(),
                behind: behind.is_some_and(|behind| behind.contains_key(&slot)),
                observer: !member.rights().sort.is_counted(),
                server: member.rights().sort == Sort::Server,
                paused: member.paused().is_some(),
            });
        }
        let next = from + AT_ONCE;
        (next < state.members.len()).then_some(next)
    }
}
