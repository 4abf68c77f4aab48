//! The copy of the end of the log, and what one who joins is given of it.

use std::collections::VecDeque;

use super::Replay;
use crate::{
    bus::{Missing, Position, history::offset_in},
    room::logged::Logged,
};

/// What one who joins needs to know.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Need {
    /// What came after this.
    pub(crate) since: Option<Position>,
    /// So many of the newest.
    pub(crate) newest: usize,
}

/// Whether what somebody needs is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::room) enum Has {
    /// It is, or the log does not have it.
    All,
    /// The log is to be read.
    Not { whole: bool },
    /// As far as is known the position is none of this log: a read that began later may know better.
    Unsure,
}

impl Replay {
    /// Whether what one who joins needs is here, or is nowhere.
    pub(in crate::room) fn has(&self, need: Need) -> Has {
        let Some(head) = self.head() else { return Has::Not { whole: need.since.is_some() || need.newest > 0 } };
        if need.newest.min(self.retention.max_messages()) > self.kept.len() && !self.whole {
            return Has::Not { whole: true };
        }
        match need.since {
            None => Has::All,
            Some(since) => match offset_in(head, &self.earlier, since) {
                Some(offset) if offset.saturating_add(1) >= self.first() || self.whole => Has::All,
                Some(_) => Has::Not { whole: true },
                // Its publisher may have been told before this node was; or it is of an epoch of which nobody has asked.
                None => Has::Unsure,
            },
        }
    }

    /// The messages after a position, up to another one; what can't be given to members is missing as what was trimmed is.
    pub(in crate::room) fn since(
        &self,
        since: Position,
        up_to: Position,
    ) -> Result<impl Iterator<Item = &Logged>, Missing> {
        let offset = self.offset_of(since).ok_or(Missing::Epoch)?;
        let up_to = self.offset_of(up_to).ok_or(Missing::Epoch)?;
        let skip = offset.saturating_add(1).checked_sub(self.first()).ok_or(Missing::Trimmed)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.kept.len());
        let messages = self.kept.range(skip..).take_while(move |logged| logged.position.offset() <= up_to);
        if self.left_out > offset && messages.clone().any(|logged| logged.left_out) {
            return Err(Missing::Trimmed);
        }
        Ok(messages)
    }

    /// The newest messages up to a position, the newest first; none where it is none of this log any more.
    pub(in crate::room) fn newest(&self, up_to: Position) -> impl Iterator<Item = &Logged> {
        let up_to = self.offset_of(up_to).unwrap_or_default();
        self.kept.iter().rev().skip_while(move |logged| logged.position.offset() > up_to)
    }

    fn offset_of(&self, position: Position) -> Option<u64> {
        offset_in(self.head?, &self.earlier, position)
    }

    /// The offset of the first message of the copy.
    pub(super) fn first(&self) -> u64 {
        self.head.map_or(0, |head| (head.offset().saturating_add(1)).saturating_sub(self.kept.len() as u64))
    }

    pub(super) fn keep(&mut self, logged: Logged) {
        (self.head, self.adrift) = (Some(logged.position), false);
        self.bytes += logged.size;
        if logged.left_out {
            self.left_out = logged.position.offset();
        }
        self.kept.push_back(logged.slim());
        self.trim();
    }

    pub(super) fn replace(&mut self, messages: impl Iterator<Item = Logged>) {
        self.clear();
        self.whole = self.asked.whole;
        self.kept = messages.map(Logged::slim).collect();
        self.bytes = self.kept.iter().map(|logged| logged.size).sum();
        self.left_out = self.kept.iter().rfind(|logged| logged.left_out).map_or(0, |logged| logged.position.offset());
    }

    pub(super) fn clear(&mut self) {
        (self.kept, self.bytes, self.left_out, self.whole) = (VecDeque::new(), 0, 0, false);
    }

    /// Forgets what the log does not keep any more.
    pub(in crate::room) fn trim(&mut self) {
        let (most, bytes, age) = (self.retention.max_messages(), self.retention.max_bytes(), self.retention.max_age());
        while let Some(logged) = self.kept.front()
            && (self.kept.len() > most || self.bytes > bytes || logged.at.elapsed() >= age)
        {
            self.bytes -= logged.size;
            self.kept.pop_front();
        }
    }
}
