//! Which reads of the log are wanted, and which one is under way.

use super::Replay;
use crate::bus::{Position, ReadFrom};

/// The read that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::room) enum Wants {
    /// One that is under way, or the next.
    Any { whole: bool },
    /// One that begins later.
    Later,
}

/// The next read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    pub(super) any: bool,
    pub(super) whole: bool,
}

/// The read that is under way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    /// It has begun, and not ended.
    pub(super) under_way: bool,
    /// Where this node stood when it began.
    pub(super) head: Option<Position>,
    pub(super) whole: bool,
    /// How many waited then.
    pub(super) waiting: usize,
    /// Something was missing then, or might have been.
    pub(super) doubted: bool,
}

impl Replay {
    /// Wants a read; `true` where somebody has to begin.
    pub(in crate::room) fn want(&mut self, whole: bool) -> bool {
        self.wanted = Wanted { any: true, whole: self.wanted.whole || whole };
        !std::mem::replace(&mut self.running, true)
    }

    /// Wants a read as something may be missing; `true` where somebody has to begin. Where the log can't be read then, that is
    /// a loss. Where somebody only looked, nobody has lost anything.
    pub(in crate::room) fn doubt(&mut self) -> bool {
        self.doubted = true;
        self.want(false)
    }

    /// Wants a read, unless the one that is under way will do; `true` where somebody has to begin. So those who come while the
    /// log is read wait for that read, however many they are.
    pub(in crate::room) fn want_what(&mut self, wants: Wants) -> bool {
        match wants {
            Wants::Any { whole } if self.asked.under_way && (self.asked.whole || !whole) => false,
            Wants::Any { whole } => self.want(whole),
            Wants::Later => self.want(false),
        }
    }

    /// Begins the next read; `None` where none is wanted, and whoever reads is done.
    pub(in crate::room) fn begin(&mut self) -> Option<ReadFrom> {
        let Wanted { any, whole } = std::mem::take(&mut self.wanted);
        self.running = any;
        let doubted = std::mem::take(&mut self.doubted);
        self.asked = Asked { under_way: any, head: self.head, whole, waiting: self.waiting.len(), doubted };
        let from = match self.head {
            _ if whole => ReadFrom::Newest(usize::MAX),
            Some(head) => ReadFrom::After(head),
            None => ReadFrom::Newest(0),
        };
        any.then_some(from)
    }
}
